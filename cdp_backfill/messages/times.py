"""Reads times of every kind as milliseconds since 1970 UTC, and writes them as RFC 3339 text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.messages.iso import read_iso
from cdp_backfill.model.arrow_types import is_number, is_text, largest_exact

if TYPE_CHECKING:
    import numpy.typing as npt

    from cdp_backfill.model.arrays import Mask, Millis


# RFC 3339 has the years 0000 to 9999; Python and pandas begin with year 1.
_FIRST: Final = -62_135_596_800_000
_LAST: Final = 253_402_300_799_999

_DAY: Final = 26 * 3_600_000  # with two more hours, since zones go up to +14

PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Number of each unit in a second."""

_ISO: Final = (
    r"^\d{4}-\d{2}-\d{2}"
    r"([Tt ]\d{2}(:\d{2}(:\d{2}([.,]\d{1,18})?)?)?)?"
    r" ?([Zz]|UTC|GMT|[+-]\d{2}(:?\d{2})?)?$"
)
_HAS_ZONE: Final = r"(:\d{2}([.,]\d+)?|[Tt ]\d{2}) ?([Zz]|UTC|GMT|[+-]\d{2}(:?\d{2})?)$"
_DAY_TEXT: Final = r"^\d{4}-\d{2}-\d{2}$"
# What Arrow reads, except for days that a month does not have.
_PLAIN: Final = (
    r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    r"([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)?)?)?$"
)
_ZONED: Final = pa.timestamp("us", "UTC")
_NAIVE: Final = pa.timestamp("us")
_NUMBER: Final = r"^[+-]?\d{1,19}(\.\d+)?([eE][+-]?\d{1,2})?$"


_WHOLE: Final = r"^([0-8]?\d{18}|\d{1,17})$"  # always fits into 64 bits
_SIGNED: Final = r"^[+-]?([0-8]?\d{18}|\d{1,17})$"
_LAST_BIT: Final = 3e-4  # milliseconds; the error of a float of seconds since 1970

_DIGITS: Final = r"^(\d{9,19}(\.\d+)?|\d\.\d+[eE]\+?\d{1,2})$"
"""Text that is a number of seconds since 1970, or of a smaller unit."""

FAR: Final = 4_102_444_800_000
"""The year 2100: up to it, the size of a number gives its unit."""


@dataclass(frozen=True, slots=True)
class Times:
    """The times of one column.

    Attributes:
        millis: Milliseconds since 1970-01-01 UTC; 0 where there is no usable time.
        missing: True where the cell is empty.
        bad: True where the cell is not a time, or lies outside the years 1 to 9999.
        unclear: True where a number fits two units, or none.
        nonexistent: True where the time zone skipped that local time.
        naive: True where the time carries no zone.
        ambiguous: True where the time zone had that local time twice.
        units: For each unit, True where the size of a number gave this unit.
        days: True where the cell is a date without a time of day.
    """

    millis: Millis
    missing: Mask
    bad: Mask
    unclear: Mask
    nonexistent: Mask
    naive: Mask
    ambiguous: Mask
    units: dict[str, Mask]
    days: Mask


@dataclass(frozen=True, slots=True)
class _EpochTexts:
    """Numbers among texts: their positions, and the times that they mean."""

    rows: npt.NDArray[np.int64]
    millis: Millis
    unclear: Mask
    units: dict[str, Mask]


def read_times(
    array: Any,
    *,
    unit: str | None,
    timezone: str | None,
    earliest: int = _FIRST,
    latest: int = FAR,
) -> Times:
    """Read a column of times.

    Args:
        array: Arrow array of a time, text or number type, dictionaries decoded.
        unit: Unit of numbers, and of text that holds numbers; None derives it from their size.
        timezone: IANA name of the zone of times that carry none; None for UTC.
        earliest: Earliest time that the size of a number may mean; milliseconds since 1970 UTC.
        latest: Latest such time; milliseconds since 1970 UTC.
    """
    if pa.types.is_null(array.type):
        array = array.cast(pa.string())
    kind, size = array.type, len(array)
    missing, none = _nulls(array), np.zeros(size, dtype=bool)
    naive, unclear, days = none, none, _days(array)
    units: dict[str, Mask] = {}
    if pa.types.is_timestamp(kind):
        raw, bad = _integers(array)
        millis, overflow = _to_millis(raw, kind.unit)
        naive = np.full(size, kind.tz is None)
        bad = bad | overflow
    elif pa.types.is_date(kind):
        raw, bad = _integers(array.cast(pa.date32()))
        millis, naive = raw * 86_400_000, np.ones(size, dtype=bool)
    elif is_number(kind):
        if unit is None:
            millis, bad, not_numbers, units = _unit_by_size(array, earliest, latest)
            unclear = bad
        else:
            millis, bad, not_numbers = _from_numbers(array, unit)
        missing = missing | not_numbers
        if pa.types.is_floating(kind) and kind.bit_width < pa.float64().bit_width:
            floats = array.cast(pa.float32()).to_numpy(zero_copy_only=False)
            lost = np.abs(floats) >= largest_exact(kind)  # such a time is minutes off
            bad, unclear = bad | lost, unclear & ~lost
    elif unit is not None:
        millis, bad = _from_digits(array, unit)
    else:
        millis, naive, bad = _from_text(array)
        odd = bad & ~missing
        if odd.any():
            numbers = _from_epoch_texts(array.filter(pa.array(odd)), earliest, latest)
            places = np.flatnonzero(odd)[numbers.rows]
            millis[places], naive[places] = numbers.millis, False
            bad[places] = False
            unclear = none.copy()
            unclear[places] = bad[places] = numbers.unclear
            for name, mask in numbers.units.items():
                units[name] = none.copy()
                units[name][places] = mask
    bad = (bad | (millis < _FIRST) | (millis > _LAST)) & ~missing
    unclear = unclear & ~missing
    millis = np.where(bad | missing, 0, millis)
    naive, days = naive & ~bad & ~missing, days & ~bad & ~missing
    if timezone not in (None, "UTC"):
        # Within a day of the first or last year, the zone could lead outside the years.
        edge = naive & ((millis < _FIRST + _DAY) | (millis > _LAST - _DAY))
        bad, naive = bad | edge, naive & ~edge
        millis = np.where(edge, 0, millis)
    millis, nonexistent, ambiguous = _apply_timezone(millis, naive, timezone)
    return Times(
        millis, missing, bad & ~unclear, unclear, nonexistent, naive, ambiguous, units, days
    )


def format_times(millis: Millis) -> Any:
    """RFC 3339 text in UTC with milliseconds, such as ``2024-01-15T10:30:00.000Z``.

    Args:
        millis: Milliseconds since 1970-01-01 UTC, within the years 0000 to 9999.
    """
    # Arrow's cast is 20 times faster than strftime; it writes a space where the T belongs.
    text = pc.cast(pa.array(millis).cast(pa.timestamp("ms")), pa.string())
    size = len(text)
    if not size:
        return text
    short = len("2024-01-15 10:30:00.000")
    letters = np.empty((size, short + 1), dtype=np.uint8)
    letters[:, :-1] = np.frombuffer(text.buffers()[2], np.uint8)[: size * short].reshape(
        size, short
    )
    letters[:, 10], letters[:, -1] = ord("T"), ord("Z")
    ends = np.arange(0, letters.size + 1, short + 1, dtype=np.int32)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(letters.reshape(-1))]
    return pa.Array.from_buffers(pa.string(), size, buffers)


def out_of_range(array: Any) -> Mask:
    """True where a date, time of day or timestamp is in no calendar."""
    kind, types = array.type, pa.types
    if types.is_timestamp(kind):
        millis, overflow = _to_millis(_integers(array)[0], kind.unit)
        return overflow | (millis < _FIRST) | (millis > _LAST)
    if types.is_date32(kind):
        days = _integers(array)[0]
        return np.asarray((days < _FIRST // 86_400_000) | (days > _LAST // 86_400_000))
    width = pa.int32() if types.is_time32(kind) else pa.int64()
    raw = array.cast(width).cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return np.asarray((raw < 0) | (raw >= 86_400 * PER_SECOND[kind.unit]))


def localise(array: Any, timezone: str | None) -> tuple[Any, Mask]:
    """A timestamp column in UTC, to be a property; and True where a time does not exist.

    Args:
        array: Arrow timestamp array, with or without a zone.
        timezone: IANA name of the zone of times that carry none; None for UTC.
    """
    unit, zone = array.type.unit, array.type.tz
    none = np.zeros(len(array), dtype=bool)
    if zone is None and timezone not in (None, "UTC"):
        raw, null = _integers(array)
        millis, overflow = _to_millis(raw, unit)
        edge = overflow | (millis < _FIRST + _DAY) | (millis > _LAST - _DAY)
        raw = np.where(edge, 0, raw)
        index = pd.DatetimeIndex(raw.view(f"M8[{unit}]"))
        local = index.tz_localize(timezone, ambiguous=np.ones(len(index), bool), nonexistent="NaT")
        none = (np.asarray(local.isna()) | edge) & ~null
        raw = np.asarray(local.tz_convert(None)).astype(f"M8[{unit}]").view("i8")
        array = pa.array(raw, pa.int64(), mask=null | none).cast(pa.timestamp(unit))
    return array.cast(pa.int64()).cast(pa.timestamp(unit, "UTC")), none


def _nulls(array: Any) -> Mask:
    return np.asarray(array.is_null().to_numpy(zero_copy_only=False))


def _as_mask(array: Any) -> Mask:
    return np.asarray(array.fill_null(False).to_numpy(zero_copy_only=False))


def _integers(array: Any) -> tuple[Millis, Mask]:
    """The integers under a time type, 0 for null; and where it is null."""
    width = pa.int32() if pa.types.is_date32(array.type) else pa.int64()
    raw = array.cast(width).cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return raw, _nulls(array)


def _to_millis(raw: Millis, unit: str) -> tuple[Millis, Mask]:
    """From a unit to milliseconds, rounded down; and True where the result does not fit."""
    if unit == "s":
        overflow = (raw > _LAST // 1000) | (raw < _FIRST // 1000)
        return np.where(overflow, 0, raw) * 1000, overflow
    return np.floor_divide(raw, PER_SECOND[unit] // 1000), np.zeros(len(raw), dtype=bool)


def _from_numbers(array: Any, unit: str) -> tuple[Millis, Mask, Mask]:
    """Milliseconds; True where they are bad; and True where the number is NaN."""
    none = np.zeros(len(array), dtype=bool)
    if pa.types.is_integer(array.type):
        if pa.types.is_uint64(array.type):
            array = pc.if_else(pc.less(array, pa.scalar(2**63, pa.uint64())), array, None)
        bad = _nulls(array) if pa.types.is_uint64(array.type) else none
        millis, overflow = _to_millis(array.cast(pa.int64()).fill_null(0).to_numpy(), unit)
        return millis, bad | overflow, none
    if pa.types.is_float16(array.type):
        array = array.cast(pa.float32())
    floats = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    scaled = floats * (1000 / PER_SECOND[unit])
    bad = ~np.isfinite(scaled) | (np.abs(scaled) > 2.0**62) | (np.abs(floats) > 2.0**62)
    good = np.where(bad, 0.0, floats)
    # A whole number is converted as an integer; a fraction may lack its last bit.
    whole, overflow = _to_millis(good.astype(np.int64), unit)
    fraction = np.floor(np.where(bad, 0.0, scaled) + _LAST_BIT).astype(np.int64)
    millis = np.where(np.floor(good) == good, whole, fraction)
    return millis, bad | (overflow & (np.floor(good) == good)), np.isnan(floats)


def _unit_by_size(
    array: Any, earliest: int, latest: int
) -> tuple[Millis, Mask, Mask, dict[str, Mask]]:
    """Milliseconds of numbers whose size gives their unit: the one that leads into the range.

    Returns:
        The milliseconds; True where no unit or more than one leads there; True where the number
        is NaN; and for each unit, True where the size gave it.
    """
    size = len(array)
    millis, hits = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int8)
    missing = _nulls(array)
    units = {}
    for unit in PER_SECOND:
        candidate, bad, not_numbers = _from_numbers(array, unit)
        missing = missing | not_numbers
        good = ~bad & ~missing & (candidate >= earliest) & (candidate <= latest)
        if good.any():
            millis = np.where(good, candidate, millis)
            hits += good
            units[unit] = good
    clear = hits == 1
    return millis, ~clear & ~missing, missing, {u: mask & clear for u, mask in units.items()}


def _from_epoch_texts(text: Any, earliest: int, latest: int) -> _EpochTexts:
    """The numbers among texts, without a unit."""
    digits = _as_mask(pc.match_substring_regex(text, _DIGITS))
    text = text.filter(pa.array(digits))
    numbers = pc.cast(text, pa.float64())
    whole = pc.match_substring_regex(text, _WHOLE)
    exact = pc.cast(pc.if_else(whole, text, None), pa.int64())
    millis, odd, _, units = _unit_by_size(numbers, earliest, latest)
    exactly, _, _, _ = _unit_by_size(exact, earliest, latest)
    return _EpochTexts(
        np.flatnonzero(digits), np.where(_as_mask(whole), exactly, millis), odd, units
    )


def _from_digits(array: Any, unit: str) -> tuple[Millis, Mask]:
    """Milliseconds of text that holds numbers of a unit; and True where they are bad."""
    good = pc.match_substring_regex(array, _NUMBER)
    digits = pc.match_substring_regex(array, _SIGNED)
    integers = pc.if_else(digits, pc.replace_substring_regex(array, r"^\+", ""), None)
    whole, overflow, _ = _from_numbers(pc.cast(integers, pa.int64()), unit)
    numbers = pc.cast(pc.if_else(good, array, None), pa.float64())
    fraction, bad, _ = _from_numbers(numbers, unit)
    is_whole = _as_mask(digits)
    bad = np.where(is_whole, overflow, bad) | ~_as_mask(good)
    return np.where(is_whole, whole, fraction), bad


def _from_text(array: Any) -> tuple[Millis, Mask, Mask]:
    """Milliseconds; True where the text carries no zone; and True where it is bad."""
    millis, naive, done = read_iso(array)
    rest = ~done & ~_nulls(array)
    bad = np.zeros(len(array), dtype=bool)
    if rest.any():
        millis[rest], naive[rest], bad[rest] = _from_other_text(array.filter(pa.array(rest)))
    return millis, naive, bad


def _days(array: Any) -> Mask:
    """True where a time has no time of day."""
    if not is_text(array.type):
        return np.full(len(array), pa.types.is_date(array.type))
    days = _as_mask(pc.equal(pc.binary_length(array), len("2024-01-15"))).copy()
    if days.any():
        days[days] = _as_mask(pc.match_substring_regex(array.filter(pa.array(days)), _DAY_TEXT))
    return days


def _from_other_text(array: Any) -> tuple[Millis, Mask, Mask]:
    """The same for text of an unusual form, or text that is not a time; without nulls."""
    size = len(array)
    no = np.zeros(size, dtype=bool)
    zoned = _as_mask(pc.match_substring_regex(array, _HAS_ZONE))
    plain = _as_mask(pc.match_substring_regex(array, _PLAIN))
    moments = np.zeros(size, dtype=np.int64)
    try:  # the forms that Arrow reads
        for kind, chosen in ((_ZONED, plain & zoned), (_NAIVE, plain & ~zoned)):
            moments += _integers(pc.cast(pc.if_else(pa.array(chosen), array, None), kind))[0]
    except pa.ArrowInvalid:  # such as 30 February
        plain, moments = no, np.zeros(size, dtype=np.int64)
    odd = ~plain
    bad = no.copy()
    if odd.any():
        moments[odd], bad[odd] = _from_odd_text(array.filter(pa.array(odd)))
    return np.floor_divide(moments, 1000), ~zoned, bad


def _from_odd_text(text: Any) -> tuple[Millis, Mask]:
    """Microseconds of ISO text that Arrow does not read; and True where it is bad."""
    iso = pc.match_substring_regex(text, _ISO)
    if not pc.any(iso).as_py():  # the code below takes a millisecond even for one text
        return np.zeros(len(text), dtype=np.int64), np.ones(len(text), dtype=bool)
    text = pc.if_else(iso, text, None)
    text = pc.replace_substring_regex(text, r" ?(UTC|GMT|[Zz])$", "Z")
    text = pc.replace_substring_regex(text, r"[Tt ](\d{2})", r"T\1")
    text = pc.replace_substring_regex(text, r",(\d)", r".\1")
    # Digits finer than a microsecond cannot change a millisecond, since it is rounded down.
    text = pc.replace_substring_regex(text, r"(\.\d{6})\d+", r"\1")
    series = pd.Series(text.to_numpy(zero_copy_only=False), dtype=object)
    parsed = pd.to_datetime(series, format="ISO8601", utc=True, errors="coerce")
    bad = parsed.isna().to_numpy()
    moments = parsed.dt.tz_localize(None).to_numpy().astype("M8[us]").view("i8")
    return np.where(bad, 0, moments), bad


def _apply_timezone(millis: Millis, naive: Mask, timezone: str | None) -> tuple[Millis, Mask, Mask]:
    nonexistent, ambiguous = np.zeros(len(millis), dtype=bool), np.zeros(len(millis), dtype=bool)
    if timezone in (None, "UTC") or not naive.any():
        return millis, nonexistent, ambiguous
    index = pd.DatetimeIndex(millis[naive].view("M8[ms]"))
    # Of a local time that occurred twice, the first is meant.
    first, second = (
        index.tz_localize(timezone, ambiguous=np.full(len(index), summer), nonexistent="NaT")
        for summer in (True, False)
    )
    nonexistent[naive] = np.asarray(first.isna())
    both = np.asarray(first.isna()) | np.asarray(second.isna())
    ambiguous[naive] = np.asarray(first != second) & ~both
    moments = np.asarray(first.tz_convert(None)).astype("M8[ms]").view("i8")
    result = millis.copy()
    result[naive] = moments
    return np.where(nonexistent, 0, result), nonexistent, ambiguous

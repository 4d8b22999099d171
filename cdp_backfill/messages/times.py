"""Times of every kind, to milliseconds since 1970 in UTC and to RFC 3339 text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.messages.iso import read_iso

if TYPE_CHECKING:
    import numpy.typing as npt

    Mask = npt.NDArray[np.bool_]
    Millis = npt.NDArray[np.int64]

# RFC 3339 has years 0000 to 9999; Python and pandas begin at 1.
_FIRST: Final = -62_135_596_800_000
_LAST: Final = 253_402_300_799_999

_DAY: Final = 26 * 3_600_000  # and two hours, since zones go up to 14

PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""How many of a unit make a second."""

_ISO: Final = (
    r"^\d{4}-\d{2}-\d{2}"
    r"([Tt ]\d{2}(:\d{2}(:\d{2}([.,]\d{1,18})?)?)?)?"
    r" ?([Zz]|UTC|GMT|[+-]\d{2}(:?\d{2})?)?$"
)
_HAS_ZONE: Final = r"(:\d{2}([.,]\d+)?|[Tt ]\d{2}) ?([Zz]|UTC|GMT|[+-]\d{2}(:?\d{2})?)$"
# What Arrow reads, but for days that a month does not have.
_PLAIN: Final = (
    r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    r"([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)?)?)?$"
)
_ZONED: Final = pa.timestamp("us", "UTC")
_NAIVE: Final = pa.timestamp("us")
_NUMBER: Final = r"^[+-]?\d{1,19}(\.\d+)?$"


_WHOLE: Final = r"^([0-8]?\d{18}|\d{1,17})$"  # fits into 64 bits for certain
_SIGNED: Final = r"^[+-]?([0-8]?\d{18}|\d{1,17})$"
_LAST_BIT: Final = 3e-4  # milliseconds; what a float of seconds since 1970 is off by

_DIGITS: Final = r"^\d{9,19}(\.\d+)?$"
"""Text that is a number of seconds since 1970 or of something smaller."""

FAR: Final = 4_102_444_800_000
"""The year 2100: numbers are told apart by their size up to it."""


@dataclass(frozen=True, slots=True)
class Times:
    """The times of one column.

    Attributes:
        millis: Milliseconds since 1970-01-01 UTC; 0 where there is no good time.
        missing: True where the cell is empty.
        bad: True where the cell is no time, or one outside the years 1 to 9999.
        unclear: True where a number could be of two units, or of none.
        nonexistent: True where the clock of the stated zone skipped that time of day.
        naive: True where the time carried no zone.
        twice: True where the clock of the stated zone showed that time of day twice.
        units: True where a number was found to be of a unit by its size, by unit.
    """

    millis: Millis
    missing: Mask
    bad: Mask
    unclear: Mask
    nonexistent: Mask
    naive: Mask
    twice: Mask
    units: dict[str, Mask]


@dataclass(frozen=True, slots=True)
class _Unnamed:
    """Numbers that were found among texts: at which positions, and what they mean."""

    rows: npt.NDArray[np.int64]
    millis: Millis
    unclear: Mask
    units: dict[str, Mask]


def is_time_like(kind: Any) -> bool:
    """Whether a column of this Arrow type can hold points in time."""
    types = pa.types
    return bool(
        types.is_timestamp(kind)
        or types.is_date(kind)
        or types.is_null(kind)
        or is_text(kind)
        or is_number(kind)
    )


def is_text(kind: Any) -> bool:
    """Whether it is a text type."""
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_number(kind: Any) -> bool:
    """Whether it is a number type."""
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


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
        unit: Unit of numbers, and of text that holds numbers; None tells by their size.
        timezone: IANA name of the zone of times that carry none; None for UTC.
        earliest: Milliseconds since 1970 UTC from which on numbers may be told by their size.
        latest: The same, up to which.
    """
    if pa.types.is_null(array.type):
        array = array.cast(pa.string())
    kind, size = array.type, len(array)
    missing, none = _nulls(array), np.zeros(size, dtype=bool)
    naive, unclear = none, none
    units: dict[str, Mask] = {}
    if pa.types.is_timestamp(kind):
        raw, bad = _integers(array)
        millis, overflow = _scaled(raw, kind.unit)
        naive = np.full(size, kind.tz is None)
        bad = bad | overflow
    elif pa.types.is_date(kind):
        raw, bad = _integers(array.cast(pa.date32()))
        millis, naive = raw * 86_400_000, np.ones(size, dtype=bool)
    elif is_number(kind):
        if unit is None:
            millis, bad, not_numbers, units = _by_size(array, earliest, latest)
            unclear = bad
        else:
            millis, bad, not_numbers = _from_numbers(array, unit)
        missing = missing | not_numbers
    elif unit is not None:
        millis, bad = _from_digits(array, unit)
    else:
        millis, naive, bad = _from_text(array)
        odd = bad & ~missing
        if odd.any():
            found = _from_unnamed(array.filter(pa.array(odd)), earliest, latest)
            places = np.flatnonzero(odd)[found.rows]
            millis[places], naive[places] = found.millis, False
            bad[places] = False
            unclear = none.copy()
            unclear[places] = bad[places] = found.unclear
            for name, mask in found.units.items():
                units[name] = none.copy()
                units[name][places] = mask
    bad = (bad | (millis < _FIRST) | (millis > _LAST)) & ~missing
    unclear = unclear & ~missing
    millis = np.where(bad | missing, 0, millis)
    naive = naive & ~bad & ~missing
    if timezone not in (None, "UTC"):
        # Within a day of the first or last year, the zone could lead beyond it.
        edge = naive & ((millis < _FIRST + _DAY) | (millis > _LAST - _DAY))
        bad, naive = bad | edge, naive & ~edge
        millis = np.where(edge, 0, millis)
    millis, nonexistent, twice = _localised(millis, naive, timezone)
    return Times(millis, missing, bad & ~unclear, unclear, nonexistent, naive, twice, units)


def format_times(millis: Millis) -> Any:
    """RFC 3339 text in UTC with milliseconds, such as ``2024-01-15T10:30:00.000Z``.

    Args:
        millis: Milliseconds since 1970-01-01 UTC, within the years 0000 to 9999.
    """
    # Arrow's cast is 20 times faster than strftime; it leaves a space where the T belongs.
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
    """True where a date, time of day or timestamp is none that a calendar has."""
    kind, types = array.type, pa.types
    if types.is_timestamp(kind):
        millis, overflow = _scaled(_integers(array)[0], kind.unit)
        return overflow | (millis < _FIRST) | (millis > _LAST)
    if types.is_date32(kind):
        days = _integers(array)[0]
        return np.asarray((days < _FIRST // 86_400_000) | (days > _LAST // 86_400_000))
    width = pa.int32() if types.is_time32(kind) else pa.int64()
    raw = array.cast(width).cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return np.asarray((raw < 0) | (raw >= 86_400 * PER_SECOND[kind.unit]))


def localise(array: Any, timezone: str | None) -> tuple[Any, Mask]:
    """A timestamp column in UTC, for use as a property; True where a time does not exist.

    Args:
        array: Arrow timestamp array, with or without a zone.
        timezone: IANA name of the zone of times that carry none; None for UTC.
    """
    unit, zone = array.type.unit, array.type.tz
    none = np.zeros(len(array), dtype=bool)
    if zone is None and timezone not in (None, "UTC"):
        raw, null = _integers(array)
        millis, overflow = _scaled(raw, unit)
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


def _true(array: Any) -> Mask:
    return np.asarray(array.fill_null(False).to_numpy(zero_copy_only=False))


def _integers(array: Any) -> tuple[Millis, Mask]:
    """The integers under a time type, 0 for null; and where it is null."""
    width = pa.int32() if pa.types.is_date32(array.type) else pa.int64()
    raw = array.cast(width).cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return raw, _nulls(array)


def _scaled(raw: Millis, unit: str) -> tuple[Millis, Mask]:
    """From a unit to milliseconds, rounding down; and where the result has no room."""
    if unit == "s":
        overflow = (raw > _LAST // 1000) | (raw < _FIRST // 1000)
        return np.where(overflow, 0, raw) * 1000, overflow
    return np.floor_divide(raw, PER_SECOND[unit] // 1000), np.zeros(len(raw), dtype=bool)


def _from_numbers(array: Any, unit: str) -> tuple[Millis, Mask, Mask]:
    """Milliseconds; where they are bad; and where the number is not a number."""
    none = np.zeros(len(array), dtype=bool)
    if pa.types.is_integer(array.type):
        if pa.types.is_uint64(array.type):
            array = pc.if_else(pc.less(array, pa.scalar(2**63, pa.uint64())), array, None)
        bad = _nulls(array) if pa.types.is_uint64(array.type) else none
        millis, overflow = _scaled(array.cast(pa.int64()).fill_null(0).to_numpy(), unit)
        return millis, bad | overflow, none
    if pa.types.is_float16(array.type):
        array = array.cast(pa.float32())
    floats = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    scaled = floats * (1000 / PER_SECOND[unit])
    bad = ~np.isfinite(scaled) | (np.abs(scaled) > 2.0**62) | (np.abs(floats) > 2.0**62)
    good = np.where(bad, 0.0, floats)
    # A whole number is rounded down as the integer that it is; a fraction may lack its last bit.
    whole, overflow = _scaled(good.astype(np.int64), unit)
    fraction = np.floor(np.where(bad, 0.0, scaled) + _LAST_BIT).astype(np.int64)
    millis = np.where(np.floor(good) == good, whole, fraction)
    return millis, bad | (overflow & (np.floor(good) == good)), np.isnan(floats)


def _by_size(array: Any, earliest: int, latest: int) -> tuple[Millis, Mask, Mask, dict[str, Mask]]:
    """Milliseconds of numbers whose unit their size tells: the one that leads into the range.

    Returns:
        The milliseconds; where no unit or more than one leads there; where it is not a number;
        and where it was found to be of a unit.
    """
    size = len(array)
    millis, hits = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int8)
    missing = _nulls(array)
    units = {}
    for unit in PER_SECOND:
        found, bad, not_numbers = _from_numbers(array, unit)
        missing = missing | not_numbers
        good = ~bad & ~missing & (found >= earliest) & (found <= latest)
        if good.any():
            millis = np.where(good, found, millis)
            hits += good
            units[unit] = good
    clear = hits == 1
    return millis, ~clear & ~missing, missing, {u: mask & clear for u, mask in units.items()}


def _from_unnamed(text: Any, earliest: int, latest: int) -> _Unnamed:
    """The numbers among texts, which do not say their unit."""
    digits = _true(pc.match_substring_regex(text, _DIGITS))
    text = text.filter(pa.array(digits))
    numbers = pc.cast(text, pa.float64())
    whole = pc.match_substring_regex(text, _WHOLE)
    exact = pc.cast(pc.if_else(whole, text, None), pa.int64())
    millis, odd, _, units = _by_size(numbers, earliest, latest)
    exactly, _, _, _ = _by_size(exact, earliest, latest)
    return _Unnamed(np.flatnonzero(digits), np.where(_true(whole), exactly, millis), odd, units)


def _from_digits(array: Any, unit: str) -> tuple[Millis, Mask]:
    """Milliseconds of text that holds numbers of a unit; and where they are bad."""
    good = pc.match_substring_regex(array, _NUMBER)
    digits = pc.match_substring_regex(array, _SIGNED)
    integers = pc.if_else(digits, pc.replace_substring_regex(array, r"^\+", ""), None)
    whole, overflow, _ = _from_numbers(pc.cast(integers, pa.int64()), unit)
    numbers = pc.cast(pc.if_else(good, array, None), pa.float64())
    fraction, bad, _ = _from_numbers(numbers, unit)
    is_whole = _true(digits)
    bad = np.where(is_whole, overflow, bad) | ~_true(good)
    return np.where(is_whole, whole, fraction), bad


def _from_text(array: Any) -> tuple[Millis, Mask, Mask]:
    """Milliseconds; without a zone; bad."""
    millis, naive, done = read_iso(array)
    rest = ~done & ~_nulls(array)
    bad = np.zeros(len(array), dtype=bool)
    if rest.any():
        millis[rest], naive[rest], bad[rest] = _from_other_text(array.filter(pa.array(rest)))
    return millis, naive, bad


def _from_other_text(array: Any) -> tuple[Millis, Mask, Mask]:
    """The same for text that is not of a usual form, or no time at all; without nulls."""
    size = len(array)
    no = np.zeros(size, dtype=bool)
    zoned = _true(pc.match_substring_regex(array, _HAS_ZONE))
    plain = _true(pc.match_substring_regex(array, _PLAIN))
    moments = np.zeros(size, dtype=np.int64)
    try:  # what Arrow can read
        for kind, chosen in ((_ZONED, plain & zoned), (_NAIVE, plain & ~zoned)):
            moments += _integers(pc.cast(pc.if_else(pa.array(chosen), array, None), kind))[0]
    except pa.ArrowInvalid:  # a 30th of February, say
        plain, moments = no, np.zeros(size, dtype=np.int64)
    odd = ~plain
    bad = no.copy()
    if odd.any():
        moments[odd], bad[odd] = _from_odd_text(array.filter(pa.array(odd)))
    return np.floor_divide(moments, 1000), ~zoned, bad


def _from_odd_text(text: Any) -> tuple[Millis, Mask]:
    """Microseconds of ISO text that Arrow does not read; and where it is bad."""
    iso = pc.match_substring_regex(text, _ISO)
    if not pc.any(iso).as_py():  # the rest takes a millisecond, however few they are
        return np.zeros(len(text), dtype=np.int64), np.ones(len(text), dtype=bool)
    text = pc.if_else(iso, text, None)
    text = pc.replace_substring_regex(text, r" ?(UTC|GMT|[Zz])$", "Z")
    text = pc.replace_substring_regex(text, r"[Tt ](\d{2})", r"T\1")
    text = pc.replace_substring_regex(text, r",(\d)", r".\1")
    # What is finer than a microsecond cannot change a millisecond when rounding down.
    text = pc.replace_substring_regex(text, r"(\.\d{6})\d+", r"\1")
    series = pd.Series(text.to_numpy(zero_copy_only=False), dtype=object)
    parsed = pd.to_datetime(series, format="ISO8601", utc=True, errors="coerce")
    bad = parsed.isna().to_numpy()
    moments = parsed.dt.tz_localize(None).to_numpy().astype("M8[us]").view("i8")
    return np.where(bad, 0, moments), bad


def _localised(millis: Millis, naive: Mask, timezone: str | None) -> tuple[Millis, Mask, Mask]:
    nonexistent, twice = np.zeros(len(millis), dtype=bool), np.zeros(len(millis), dtype=bool)
    if timezone in (None, "UTC") or not naive.any():
        return millis, nonexistent, twice
    index = pd.DatetimeIndex(millis[naive].view("M8[ms]"))
    # A time that the clock showed twice is taken as the first of the two.
    first, second = (
        index.tz_localize(timezone, ambiguous=np.full(len(index), summer), nonexistent="NaT")
        for summer in (True, False)
    )
    nonexistent[naive] = np.asarray(first.isna())
    both = np.asarray(first.isna()) | np.asarray(second.isna())
    twice[naive] = np.asarray(first != second) & ~both
    moments = np.asarray(first.tz_convert(None)).astype("M8[ms]").view("i8")
    result = millis.copy()
    result[naive] = moments
    return np.where(nonexistent, 0, result), nonexistent, twice

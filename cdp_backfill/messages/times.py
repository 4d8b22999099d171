"""Reads times of every kind as milliseconds since 1970 UTC, and writes them as RFC 3339 text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.messages.dates import read_dates, read_day_numbers
from cdp_backfill.messages.edges import holds
from cdp_backfill.messages.epochs import (
    FAR,
    FIRST,
    LAST,
    PER_SECOND,
    as_mask,
    fits_a_unit,
    from_digits,
    from_epoch_texts,
    from_numbers,
    integers_of,
    nulls_of,
    to_millis,
    unit_by_size,
)
from cdp_backfill.messages.iso import read_iso
from cdp_backfill.messages.local_times import Zone, to_utc
from cdp_backfill.model.arrow_types import is_number, largest_exact

if TYPE_CHECKING:
    from cdp_backfill.model.arrays import Mask, Millis, Rows
    from cdp_backfill.model.mapping import DateOrder

_ISO: Final = (
    r"^\d{4}-\d{2}-\d{2}"
    r"([Tt ]\d{2}(:\d{2}(:\d{2}([.,]\d{1,18})?)?)?)?"
    r" ?([Zz]|UTC|GMT|[+-]\d{2}(:?\d{2})?)?$"
)
_HAS_ZONE: Final = r"(:\d{2}([.,]\d+)?|[Tt ]\d{2}) ?([Zz]|UTC|GMT|[+-]\d{2}(:?\d{2})?)$"
_NET: Final = r"^/Date\((-?\d{1,14})(?:[+-]\d{4})?\)/$"
"""Milliseconds since 1970 as JSON of .NET writes them; an offset behind them changes nothing."""

_ISO_DATE: Final = r"^\d{4}-\d{2}-\d{2}"
_DAY_TEXT: Final = r"^\d{4}-\d{2}-\d{2}$"
# What Arrow reads, except for days that a month does not have.
_PLAIN: Final = (
    r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    r"([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)?)?)?$"
)
_ZONED: Final = pa.timestamp("us", "UTC")
_NAIVE: Final = pa.timestamp("us")


@dataclass(frozen=True, slots=True)
class Times:
    """The times of one column.

    Attributes:
        millis: Milliseconds since 1970-01-01 UTC; 0 where there is no usable time.
        missing: True where the cell is empty.
        bad: True where the cell is not a time, or lies outside the years 1 to 9999.
        unclear: True where a number fits two units, or none, and where ``unordered`` is.
        unordered: True where the order of day, month and year in a date is not known.
        nonexistent: True where the time zone skipped that local time.
        naive: True where the time carries no zone.
        ambiguous: True where the time zone had that local time twice.
        numbers: True where a number, such as 20230915, was read as a date.
        units: For each unit, True where the size of a number gave this unit.
        days: True where the cell is a date without a time of day.
    """

    millis: Millis
    missing: Mask
    bad: Mask
    unclear: Mask
    unordered: Mask
    nonexistent: Mask
    naive: Mask
    ambiguous: Mask
    numbers: Mask
    units: dict[str, Mask]
    days: Mask


@dataclass(slots=True)
class _Found:
    """What was read so far; :class:`Times` describes the fields."""

    millis: Millis
    bad: Mask
    naive: Mask
    unclear: Mask
    unordered: Mask
    numbers: Mask
    days: Mask
    units: dict[str, Mask]

    @classmethod
    def nothing(cls, size: int) -> _Found:
        def none() -> Mask:
            return np.zeros(size, dtype=bool)

        millis = np.zeros(size, dtype=np.int64)
        return cls(millis, none(), none(), none(), none(), none(), none(), {})


def read_times(
    array: Any,
    *,
    unit: str | None,
    timezone: str | None,
    earliest: int = FIRST,
    latest: int = FAR,
    order: DateOrder | None = None,
    zone: Zone | None = None,
) -> Times:
    """Read a column of times.

    Args:
        array: Arrow array of a time, text or number type, dictionaries decoded.
        unit: Unit of numbers, and of text that holds numbers; None derives it from their size.
        timezone: IANA name of the zone of times that carry none; None for UTC.
        earliest: Earliest time that the size of a number may mean; milliseconds since 1970 UTC.
        latest: Latest such time; milliseconds since 1970 UTC.
        order: The order of dates that are numbers only, such as 15.09.2023; None leaves these
            unread.
        zone: The zone of times that carry none, with the rules for local times that did not exist
            or existed twice; None for ``timezone``, where such times are unusable.
    """
    if pa.types.is_null(array.type):
        array = array.cast(pa.string())
    kind = array.type
    missing = nulls_of(array)
    found = _Found.nothing(len(array))
    if pa.types.is_timestamp(kind):
        raw, null = integers_of(array)
        found.millis, overflow = to_millis(raw, kind.unit)
        found.naive[:] = kind.tz is None
        found.bad = null | overflow
    elif pa.types.is_date(kind):
        raw, found.bad = integers_of(array.cast(pa.date32()))
        found.millis = raw * 86_400_000
        found.naive[:] = found.days[:] = True
    elif is_number(kind):
        missing = missing | _read_numbers(array, found, unit, earliest, latest)
    elif unit is not None:
        found.millis, found.bad = from_digits(array, unit)
    else:
        _read_text(array, found, order, earliest, latest)
    bad = (found.bad | (found.millis < FIRST) | (found.millis > LAST)) & ~missing
    usable = ~bad & ~missing
    naive = found.naive & usable
    millis = np.where(usable, found.millis, 0)
    nonexistent = ambiguous = np.zeros(len(array), dtype=bool)
    zone = zone or Zone(timezone)
    if naive.any() and not zone.is_utc:
        moved = to_utc(millis[naive], "ms", zone)
        millis[naive] = moved.moments
        nonexistent, ambiguous, outside = (
            _spread(naive, mask) for mask in (moved.skipped, moved.twice, moved.outside)
        )
        bad, naive = bad | outside, naive & ~outside
    unclear = found.unclear & ~missing
    return Times(
        millis,
        missing,
        bad & ~unclear,
        unclear,
        found.unordered & ~missing,
        nonexistent,
        naive,
        ambiguous,
        found.numbers & usable,
        found.units,
        found.days & usable,
    )


def _spread(where: Mask, part: Mask) -> Mask:
    """A mask over the rows of which the other mask selects some."""
    whole = np.zeros(len(where), dtype=bool)
    whole[where] = part
    return whole


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
        millis, overflow = to_millis(integers_of(array)[0], kind.unit)
        return overflow | (millis < FIRST) | (millis > LAST)
    if types.is_date32(kind):
        days = integers_of(array)[0]
        return np.asarray((days < FIRST // 86_400_000) | (days > LAST // 86_400_000))
    width = pa.int32() if types.is_time32(kind) else pa.int64()
    raw = array.cast(width).cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return np.asarray((raw < 0) | (raw >= 86_400 * PER_SECOND[kind.unit]))


def _read_numbers(array: Any, found: _Found, unit: str | None, earliest: int, latest: int) -> Mask:
    """Read numbers since 1970, and numbers such as 20230915; returns where there is no number."""
    kind = array.type
    lost = np.zeros(len(array), dtype=bool)
    if pa.types.is_floating(kind) and kind.bit_width < pa.float64().bit_width:
        floats = array.cast(pa.float32()).to_numpy(zero_copy_only=False)
        lost = np.abs(floats) >= largest_exact(kind)  # such a time is minutes off
    if unit is not None:
        found.millis, found.bad, not_numbers = from_numbers(array, unit)
        found.bad = found.bad | lost
        return not_numbers
    found.millis, odd, not_numbers, found.units = unit_by_size(array, earliest, latest)
    found.bad, found.unclear = odd | lost, odd & ~lost
    _read_day_numbers(array, found, not_numbers | nulls_of(array), earliest, latest)
    return not_numbers


_DAY_NUMBERS: Final = tuple((10 ** (n - 1), 10**n) for n in (8, 12, 14, 17))
"""Least number and next greater one of each number of digits that a date can have."""


def _read_day_numbers(array: Any, found: _Found, missing: Mask, earliest: int, latest: int) -> None:
    """Read numbers such as 20230915 as dates; one that may be a time since 1970 too is unclear."""
    floats = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    maybe = np.zeros(len(array), dtype=bool)
    with np.errstate(invalid="ignore"):
        for least, over in _DAY_NUMBERS:
            maybe |= (floats >= least) & (floats < over) & (np.floor(floats) == floats)
    places = np.flatnonzero(maybe & ~missing)
    if not len(places):
        return
    exact = array.take(pa.array(places)).cast(pa.int64(), safe=False)
    dates = read_day_numbers(exact.to_numpy(zero_copy_only=False))
    is_time = fits_a_unit(exact, earliest, latest)
    both, new = places[dates.read & is_time], dates.read & ~is_time & found.unclear[places]
    found.bad[both] = found.unclear[both] = True
    for mask in found.units.values():
        mask[both] = False
    rows = places[new]
    found.millis[rows], found.days[rows] = dates.millis[new], dates.days[new]
    found.bad[rows] = found.unclear[rows] = False
    found.naive[rows] = found.numbers[rows] = True


def _read_text(
    array: Any, found: _Found, order: DateOrder | None, earliest: int, latest: int
) -> None:
    """Read text: in the usual forms of ISO 8601, in its other forms, as any date, as a number."""
    found.millis, found.naive, done = read_iso(array)
    found.days = _days(array)
    rows = np.flatnonzero(~done & ~nulls_of(array))
    if not len(rows):
        return
    text = array.take(pa.array(rows))
    found.bad[rows] = True
    found.naive[rows] = False
    is_iso = as_mask(pc.match_substring_regex(text, _ISO_DATE))
    if is_iso.any():
        places = rows[is_iso]
        found.millis[places], found.naive[places], found.bad[places] = _from_other_text(
            text.filter(pa.array(is_iso))
        )
        odd = found.bad[rows]
        rows, text = rows[odd], text.filter(pa.array(odd))
    if not len(rows):
        return
    dates = read_dates(text, order)
    found.millis[rows] = dates.millis
    found.naive[rows], found.days[rows] = dates.naive, dates.days
    found.bad[rows] = ~dates.read
    found.unordered[rows] = found.unclear[rows] = dates.unordered
    if dates.compact.any():
        digits = text.filter(pa.array(dates.compact)).cast(pa.int64())
        both = rows[dates.compact][fits_a_unit(digits, earliest, latest)]
        found.bad[both] = found.unclear[both] = True
    left = ~dates.read & ~dates.unordered
    if left.any():
        _read_epoch_texts(text.filter(pa.array(left)), rows[left], found, earliest, latest)


def _read_epoch_texts(text: Any, rows: Rows, found: _Found, earliest: int, latest: int) -> None:
    """Read the numbers among texts."""
    if holds(text, ord(")")):
        wrapped = as_mask(pc.match_substring_regex(text, _NET))
        if wrapped.any():
            places = rows[wrapped]
            plain = pc.replace_substring_regex(text.filter(pa.array(wrapped)), _NET, r"\1")
            found.millis[places] = plain.cast(pa.int64()).to_numpy()
            found.bad[places] = False
            rows, text = rows[~wrapped], text.filter(pa.array(~wrapped))
    numbers = from_epoch_texts(text, earliest, latest)
    rows = rows[numbers.rows]
    found.millis[rows] = numbers.millis
    found.bad[rows] = found.unclear[rows] = numbers.unclear
    for name, mask in numbers.units.items():
        found.units[name] = _spread_rows(rows[mask], len(found.bad))


def _spread_rows(rows: Rows, size: int) -> Mask:
    whole = np.zeros(size, dtype=bool)
    whole[rows] = True
    return whole


def _days(array: Any) -> Mask:
    """True where a text is a date in the usual form of ISO 8601, without a time of day."""
    days = as_mask(pc.equal(pc.binary_length(array), len("2024-01-15"))).copy()
    if days.any():
        days[days] = as_mask(pc.match_substring_regex(array.filter(pa.array(days)), _DAY_TEXT))
    return days


def _from_other_text(array: Any) -> tuple[Millis, Mask, Mask]:
    """The same for text of an unusual form, or text that is not a time; without nulls."""
    size = len(array)
    no = np.zeros(size, dtype=bool)
    zoned = as_mask(pc.match_substring_regex(array, _HAS_ZONE))
    plain = as_mask(pc.match_substring_regex(array, _PLAIN))
    moments = np.zeros(size, dtype=np.int64)
    try:  # the forms that Arrow reads
        for kind, chosen in ((_ZONED, plain & zoned), (_NAIVE, plain & ~zoned)):
            moments += integers_of(pc.cast(pc.if_else(pa.array(chosen), array, None), kind))[0]
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

"""Reads dates of other forms than ISO 8601, a whole column at a time.

Texts of one length and shape have their parts in the same places, so that each shape is understood
once, however many cells have it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.messages.date_layouts import LONGEST, ORDERS, SHORTEST, is_plausible, layout_of
from cdp_backfill.messages.date_words import role_of
from cdp_backfill.messages.edges import holds, text_bytes
from cdp_backfill.messages.iso import days_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp_backfill.messages.date_layouts import Layout
    from cdp_backfill.model.arrays import Bytes, Ints, Mask, Millis
    from cdp_backfill.model.mapping import DateOrder

_DIGIT, _WORD = ord("0"), ord("a")
_CENTURY: Final = 69
"""Years of two digits below it are those of 2000 to 2068; others those of 1969 to 1999."""


def _shape_table() -> Bytes:
    table = np.arange(256, dtype=np.uint8)
    table[128:] = _WORD
    for first, last, sign in (("0", "9", _DIGIT), ("a", "z", _WORD), ("A", "Z", _WORD)):
        table[ord(first) : ord(last) + 1] = sign
    return table


_SHAPES: Final = _shape_table()


@dataclass(slots=True)
class Dates:
    """The dates of one column of text.

    Attributes:
        millis: Milliseconds since 1970-01-01, in UTC where the text carries a zone; 0 where no date
            was read.
        read: True where the cell is a date that was read.
        unordered: True where the cell is a date that needs to know the order of its numbers.
        naive: True where it was read and carries no zone.
        days: True where it was read and has no time of day.
        compact: True where it was read and has digits only, so that it may be a number as well.
    """

    millis: Millis
    read: Mask
    unordered: Mask
    naive: Mask
    days: Mask
    compact: Mask

    @classmethod
    def none(cls, size: int) -> Dates:
        """No date at all, in so many cells."""
        return cls(np.zeros(size, np.int64), *(np.zeros(size, dtype=bool) for _ in range(5)))


def read_dates(text: Any, order: DateOrder | None) -> Dates:
    """Read dates in any form but the usual ones of ISO 8601.

    Each cell is read by itself, whatever its neighbours are.

    Args:
        text: Arrow array of text, without white space around it.
        order: The order of dates that are numbers only and do not begin with a year of four digits;
            None leaves these unread.
    """
    dates = Dates.none(len(text))
    data, starts, lengths = text_bytes(_without_rare_signs(text))
    for length in np.unique(lengths).tolist():
        if not SHORTEST <= length <= LONGEST:
            continue
        rows = np.flatnonzero(lengths == length)
        # A row for each place, a column for each text.
        _read_length(dates, rows, data[starts[rows] + np.arange(length)[:, None]], order)
    return dates


def read_day_numbers(numbers: Ints) -> Dates:
    """Read whole numbers such as 20230915 and 20230915022024 as dates."""
    text = pa.array(numbers).cast(pa.string())
    dates = read_dates(text, None)
    dates.read &= dates.compact
    return dates


def _without_rare_signs(text: Any) -> Any:
    """The texts with plain spaces, and without dots in a.m. and what explains their offset."""
    data, starts, lengths = text_bytes(text)
    if not lengths.any():
        return text
    letters = data[starts[0] : starts[-1] + lengths[-1]]
    if (letters >= 128).any():  # noqa: PLR2004  # beyond ASCII
        for sign in ("\u00a0", "\u202f", "\u2009"):
            text = pc.replace_substring(text, sign, " ")
        for sign in ("\u200e", "\u200f"):
            text = pc.replace_substring(text, sign, "")
    if (((letters[:-1] | 32) == ord("m")) & (letters[1:] == ord("."))).any():
        text = pc.replace_substring_regex(text, r"\b([AaPp])\. ?([Mm])\.", r"\1\2")
    if holds(text, ord(")")):
        text = pc.replace_substring_regex(text, r"([+-]\d\d:?\d\d) ?\([^()]*\)$", r"\1")
    if holds(text, ord("]")):  # the name of a zone behind an offset, as Java writes it
        text = pc.replace_substring_regex(
            text, r"([+-]\d\d:?\d\d|Z)\[[A-Za-z][A-Za-z0-9_+/-]*\]$", r"\1"
        )
    return text


def _read_length(dates: Dates, rows: Ints, letters: Bytes, order: DateOrder | None) -> None:
    """Read the texts of one length: group them by their shapes, then by what their words are.

    Args:
        dates: Gets the result.
        rows: Where the texts stand.
        letters: Their bytes, a column for each text.
        order: See :func:`read_dates`.
    """
    shapes = _SHAPES[letters]
    for first, members in _groups(_codes(shapes)):
        shape = shapes[:, first].tobytes().decode("latin-1")
        if is_plausible(shape):
            _read_shape(dates, rows[members], _chosen(letters, members), shape, order)


def _codes(letters: Bytes) -> Ints:
    """A number for each text of one length; equal texts have the same."""
    codes: Ints | None = None
    for start in range(0, len(letters), 8):
        packed = np.zeros(letters.shape[1], dtype=np.uint64)
        for row in letters[start : start + 8]:
            packed = (packed << np.uint64(8)) | row
        found, unique = pd.factorize(packed)
        codes = found if codes is None else pd.factorize(codes * len(unique) + found)[0]
    return np.zeros(letters.shape[1], dtype=np.int64) if codes is None else codes


def _groups(codes: Ints) -> Iterator[tuple[int, Ints]]:
    """The texts with the same number: the first of them, and all."""
    largest = int(codes.max(initial=-1))
    if largest == 0:
        yield 0, np.arange(len(codes))
        return
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=largest + 1)).tolist()
    for start, end in zip([0, *ends], ends, strict=False):
        yield int(order[start]), order[start:end]


def _chosen(letters: Bytes, members: Ints) -> Bytes:
    return letters if len(members) == letters.shape[1] else letters[:, members]


def _read_shape(
    dates: Dates, rows: Ints, letters: Bytes, shape: str, order: DateOrder | None
) -> None:
    """Read the texts of one shape, whose words may play several roles."""
    places = [match.span() for match in re.finditer("a+", shape)]
    values: dict[int, Ints] = {}
    roles = np.zeros((len(places), len(rows)), dtype=np.uint8)
    for number, (start, stop) in enumerate(places):
        part = letters[start:stop]
        codes = _codes(part)
        first = np.zeros(int(codes.max(initial=-1)) + 1, dtype=np.int64)
        first[codes[::-1]] = np.arange(len(codes))[::-1]
        found = [role_of(part[:, each].tobytes().decode("utf-8", "replace")) for each in first]
        roles[number] = np.array([ord(role) for role, _ in found], dtype=np.uint8)[codes]
        values[start] = np.array([value for _, value in found], dtype=np.int64)[codes]
    for first_text, members in _groups(_codes(roles) if places else np.zeros(len(rows), np.int64)):
        text = list(shape)
        for (start, stop), role in zip(places, roles[:, first_text].tolist(), strict=True):
            text[start:stop] = chr(role) * (stop - start)
        layout = layout_of("".join(text))
        if layout is not None:
            chosen = {start: value[members] for start, value in values.items()}
            _read_layout(
                dates, rows[members], _chosen(letters, members), layout, chosen, order=order
            )


def _read_layout(
    dates: Dates,
    rows: Ints,
    letters: Bytes,
    layout: Layout,
    words: dict[int, Ints],
    *,
    order: DateOrder | None,
) -> None:
    """Read the texts of one layout."""
    places = layout.places
    cells = {
        name: _number(letters, *place) for name, place in places.items() if name not in "MPZNf"
    }
    cells |= {name: words[places[name][0]] for name in "MPZN" if name in places}
    time, good = _time_of_day(cells, letters, layout)
    if "one" in cells:
        days, good_days = _days_in_order(cells, places, order)
    elif "m" not in cells and "M" not in cells:
        days, good_days = _counted_days(cells)
    else:
        year = _full_year(cells["y"], places["y"])
        days, good_days = days_of(year, cells["M" if "M" in cells else "m"], cells["d"])
    good &= good_days
    rows = rows[good]
    if "one" in cells and order is None:
        dates.unordered[rows] = True
        return
    dates.millis[rows] = (days * 86_400_000 + time)[good]
    dates.read[rows] = True
    dates.naive[rows] = not (layout.sign or "Z" in cells)
    dates.days[rows] = layout.day_only
    dates.compact[rows] = layout.compact


def _days_in_order(
    cells: dict[str, Ints], places: dict[str, tuple[int, int]], order: DateOrder | None
) -> tuple[Ints, Mask]:
    """Days since 1970 of numbers in an order, or in any order; and where these are a date."""
    size = len(cells["one"])
    days, good = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=bool)
    for each in ORDERS if order is None else (order,):
        names = dict(zip(each, ("one", "two", "three"), strict=True))
        if each == "YMD" and _width(places["three"]) > 2:  # noqa: PLR2004  # the year is the last
            continue
        year = _full_year(cells[names["Y"]], places[names["Y"]])
        days, fits = days_of(year, cells[names["M"]], cells[names["D"]])
        good |= fits
    return days, good


def _counted_days(cells: dict[str, Ints]) -> tuple[Ints, Mask]:
    """Days since 1970 of days counted in a year or a week; and where there is such a day.

    The first week of a year is that of 4 January. Weeks begin on Monday.
    """
    year, one = cells["y"], np.ones_like(cells["y"])
    first, good = days_of(year, one, one)
    next_first, _ = days_of(year + 1, one, one)
    if "yday" in cells:
        days = first + cells["yday"] - 1
        return days, good & (days >= first) & (days < next_first)
    monday = first + 3 - (first + 6) % 7  # 1 January 1970 was a Thursday
    thursday = monday + 7 * (cells["week"] - 1) + 3
    good &= (thursday >= first) & (thursday < next_first)
    good &= (cells["wday"] >= 1) & (cells["wday"] <= 7)  # noqa: PLR2004
    return thursday + cells["wday"] - 4, good


def _full_year(year: Ints, place: tuple[int, int]) -> Ints:
    """The year; one of fewer than four digits is of this century or of the end of the last."""
    if _width(place) > 2:  # noqa: PLR2004
        return year
    return year + np.where(year < _CENTURY, 2000, 1900)


def _width(place: tuple[int, int]) -> int:
    return place[1] - place[0]


def _time_of_day(cells: dict[str, Ints], letters: Bytes, layout: Layout) -> tuple[Millis, Mask]:
    """Milliseconds since midnight, of UTC where there is an offset; and where these are a time."""
    zero = np.zeros(letters.shape[1], dtype=np.int64)
    hour, minute, second = (cells.get(name, zero) for name in "hns")
    good = (hour <= 23) & (minute <= 59) & (second <= 59)  # noqa: PLR2004
    if "P" in cells:
        good &= (hour >= 1) & (hour <= 12)  # noqa: PLR2004
        hour = hour % 12 + 12 * cells["P"]
    milli = zero
    if "f" in layout.places:  # finer digits cannot change a millisecond
        start, stop = layout.places["f"]
        stop = min(stop, start + 3)
        milli = _number(letters, start, stop) * 10 ** (3 - (stop - start))
    offset = cells.get("Z", zero)
    if layout.sign:
        good &= offset == 0  # such as UTC+2, but not CET+2
        ahead = cells["zh"] * 60 + cells.get("zn", zero)
        good &= (ahead < 24 * 60) & (cells.get("zn", zero) <= 59)  # noqa: PLR2004
        offset = layout.sign * ahead
        if "N" in cells:  # such as -0700 PDT; another name contradicts it
            good &= cells["N"] == offset
    seconds = (hour * 60 + minute - offset) * 60 + second
    return seconds * 1_000 + milli, good


def _number(letters: Bytes, start: int, stop: int) -> Ints:
    value = np.zeros(letters.shape[1], dtype=np.int64)
    for place in range(start, stop):
        value = value * 10 + (letters[place] - np.uint8(_DIGIT))
    return value

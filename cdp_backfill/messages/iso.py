"""Reads ISO 8601 text of the usual lengths, a whole column at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cdp_backfill.messages.edges import text_bytes

if TYPE_CHECKING:
    import numpy.typing as npt

    from cdp_backfill.model.arrays import Ints, Mask


# Length of the text: digits of its fraction of a second, and whether it ends in Z.
_FORMS: Final = {
    len("2024-01-15T10:30:00"): (0, False),
    len("2024-01-15T10:30:00Z"): (0, True),
    len("2024-01-15T10:30:00.000"): (3, False),
    len("2024-01-15T10:30:00.000Z"): (3, True),
    len("2024-01-15T10:30:00.000000"): (6, False),
    len("2024-01-15T10:30:00.000000Z"): (6, True),
}
_MARKS: Final = ((4, b"-"), (7, b"-"), (13, b":"), (16, b":"))
_DAYS: Final = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def read_iso(array: Any) -> tuple[Ints, Mask, Mask]:
    """Read times in one of the usual forms; the caller reads all others.

    Args:
        array: Arrow array of text.

    Returns:
        Milliseconds since 1970, in UTC where the text ends in Z; True where it carries no zone;
        and True where it was read.
    """
    size = len(array)
    millis, naive = np.zeros(size, dtype=np.int64), np.ones(size, dtype=bool)
    done = np.zeros(size, dtype=bool)
    data, starts, lengths = text_bytes(array)
    for length, (fraction, zoned) in _FORMS.items():
        rows = np.flatnonzero(lengths == length)
        if not len(rows):
            continue
        letters = data[starts[rows] + np.arange(length)[:, None]]  # a row for each place
        values, good = _read(letters, fraction, zoned=zoned)
        rows = rows[good]
        millis[rows], naive[rows], done[rows] = values[good], not zoned, True
    return millis, naive, done


def _read(letters: npt.NDArray[np.uint8], fraction: int, *, zoned: bool) -> tuple[Ints, Mask]:
    good = (letters[10] == ord("T")) | (letters[10] == ord(" "))
    marks = [*_MARKS, *([(19, b".")] if fraction else []), *([(-1, b"Z")] if zoned else [])]
    for place, mark in marks:
        good &= letters[place] == ord(mark)

    def number(start: int, stop: int) -> Ints:
        nonlocal good
        value = np.zeros(letters.shape[1], dtype=np.int64)
        for place in range(start, stop):
            digit = letters[place] - np.uint8(ord("0"))  # smaller bytes wrap around
            good = good & (digit <= 9)  # noqa: PLR2004
            value = value * 10 + digit
        return value

    year, month, day = number(0, 4), number(5, 7), number(8, 10)
    hour, minute, second = number(11, 13), number(14, 16), number(17, 19)
    milli = number(20, 23) if fraction else np.int64(0)
    if fraction > 3:  # noqa: PLR2004  # finer digits cannot change a millisecond
        number(23, 20 + fraction)
    days, is_day = days_of(year, month, day)
    good &= is_day & (hour <= 23) & (minute <= 59) & (second <= 59)  # noqa: PLR2004
    seconds = ((days * 24 + hour) * 60 + minute) * 60 + second
    return seconds * 1_000 + milli, good


def days_of(year: Ints, month: Ints, day: Ints) -> tuple[Ints, Mask]:
    """Days since 1970 of dates in the calendar; and True where there is such a day.

    Args:
        year: Years; those before year 1 are no years.
        month: Months, 1 to 12.
        day: Days, from 1.
    """
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    last = _DAYS[np.where(month <= 12, month, 0)] + (leap & (month == 2))  # noqa: PLR2004
    good = (year >= 1) & (day >= 1) & (day <= last)
    # In years that begin in March, the leap day comes last; 719,468 days lie before 1970.
    from_march = year - (month <= 2)  # noqa: PLR2004
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days = 365 * from_march + from_march // 4 - from_march // 100 + from_march // 400 + of_year
    return days - 719_468, good

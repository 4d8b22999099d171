"""Finds times that are certainly old, quickly: nearly all times of a backfill are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.messages.edges import text_bytes
from cdp_backfill.messages.epochs import PER_SECOND
from cdp_backfill.messages.times import read_times
from cdp_backfill.model.arrow_types import is_number, is_text

if TYPE_CHECKING:
    from datetime import date

    from cdp_backfill.model.arrays import Mask


_MARGIN: Final = 2 * 86_400_000  # milliseconds, more than any zone differs from UTC
_DATE: Final = "2024-01-15"
_DIGITS: Final = [place for place, letter in enumerate(_DATE) if letter != "-"]
_DASHES: Final = [place for place, letter in enumerate(_DATE) if letter == "-"]


def old_texts(array: Any, recent: int) -> Mask:
    """True for each text whose date is so early that no time zone makes it recent.

    Args:
        array: Arrow array of text.
        recent: Milliseconds since 1970 UTC.
    """
    data, starts, lengths = text_bytes(array)
    result = np.zeros(len(array), dtype=bool)
    rows = np.flatnonzero(lengths >= len(_DATE))
    if not len(rows):
        return result
    starts = starts[rows]
    good = np.ones(len(rows), dtype=bool)
    for place in _DASHES:
        good &= data[starts + place] == ord("-")
    number = np.zeros(len(rows), dtype=np.int64)
    for place in _DIGITS:
        digit = data[starts + place] - np.uint8(ord("0"))  # smaller bytes wrap around
        good &= digit <= 9  # noqa: PLR2004
        number = number * 10 + digit
    result[rows] = good & (number < int(_day(recent).replace("-", "")))
    return result


def may_be_recent(array: Any, *, unit: str | None, recent: int, latest: int) -> bool:
    """Whether a recent time can lie between the least and the greatest cell; True in case of doubt.

    Args:
        array: Arrow array of any type that is no dictionary.
        unit: Unit of numbers, or None if their size gives it.
        recent: Times from here on are recent; milliseconds since 1970 UTC.
        latest: Times up to here are not in the future; milliseconds since 1970 UTC.
    """
    kind = array.type
    is_time = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
    if not (is_time or is_text(kind) or is_number(kind)) or pa.types.is_float16(kind):
        return True
    least, greatest = pc.min_max(array).values()
    if not least.is_valid:
        return False
    if is_time:
        bounds = pa.concat_arrays([pa.array([bound]) for bound in (least, greatest)])
        times = read_times(bounds, unit=None, timezone=None)
        return bool(times.bad.any() or times.millis[1] >= recent - _MARGIN)
    if is_text(kind):
        # Between two texts that begin with a year, in the order of bytes, is no other date: neither
        # 20.11.2026 nor 2026/11/20. Compared as bytes, because a cell can be other than UTF-8.
        low, high = (bound.as_buffer().to_pybytes() for bound in (least, greatest))
        is_year = low[:2] == b"20" and low[2:4].isdigit()
        return unit is not None or not (is_year and high < _day(recent).encode())
    least, greatest = least.as_py(), greatest.as_py()
    units = PER_SECOND if unit is None else [unit]
    spans = [(recent * PER_SECOND[u] / 1_000, latest * PER_SECOND[u] / 1_000) for u in units]
    if unit is None:  # numbers such as 20230915 and 20230915022024 are dates
        first, last = (int(_day(each).replace("-", "")) for each in (recent, latest + 3 * _MARGIN))
        spans += [(first * 10**more, last * 10**more) for more in (0, 4, 6, 9)]
    return any(start <= greatest and least <= stop for start, stop in spans)


def day_is_old(day: date, recent: int) -> bool:
    """Whether no time of a day is recent, in whatever zone.

    Args:
        day: The day.
        recent: Times from here on are recent; milliseconds since 1970 UTC.
    """
    return day.isoformat() < _day(recent)


def _day(recent: int) -> str:
    return datetime.fromtimestamp((recent - _MARGIN) / 1_000, UTC).strftime("%Y-%m-%d")

"""Tells quickly that times are old: of a whole table, nearly all of them are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from cdp_backfill.messages.edges import text_bytes
from cdp_backfill.messages.times import PER_SECOND, is_number, is_text, read_times

if TYPE_CHECKING:
    import numpy.typing as npt

    Mask = npt.NDArray[np.bool_]

_MARGIN: Final = 2 * 86_400_000  # milliseconds; more than any zone is off by
_DATE: Final = "2024-01-15"
_DIGITS: Final = [place for place, letter in enumerate(_DATE) if letter != "-"]
_DASHES: Final = [place for place, letter in enumerate(_DATE) if letter == "-"]


def old_texts(array: Any, recent: int) -> Mask:
    """True for each text that begins with a date too early for any zone to make it recent.

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
        digit = data[starts + place] - np.uint8(ord("0"))  # what lies below wraps around
        good &= digit <= 9  # noqa: PLR2004
        number = number * 10 + digit
    result[rows] = good & (number < int(_day(recent).replace("-", "")))
    return result


def may_be_recent(
    kind: Any, least: Any, greatest: Any, *, unit: str | None, recent: int, latest: int
) -> bool:
    """Whether a recent time can be among the cells between two values; True where in doubt.

    Args:
        kind: Arrow type of the cells.
        least: The smallest of them.
        greatest: The greatest.
        unit: Unit of numbers, or None where their size tells it.
        recent: Milliseconds since 1970 UTC from which on times are recent.
        latest: The same, up to which.
    """
    if is_text(kind):
        # Texts that can be recent begin with a date, or are digits, or white space is trimmed.
        first, last = f"{recent // 1_000}", f"{latest // 1_000}:"
        dated = not (least >= "1" and greatest < _day(recent))
        return unit is not None or dated or (first <= greatest and least <= last)
    if is_number(kind):
        units = PER_SECOND if unit is None else [unit]
        spans = [(recent * PER_SECOND[u] / 1_000, latest * PER_SECOND[u] / 1_000) for u in units]
        return any(start <= greatest and least <= stop for start, stop in spans)
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        return True
    times = read_times(pa.array([least, greatest], kind), unit=None, timezone=None)
    return bool(times.bad.any() or times.millis[1] >= recent - _MARGIN)


def _day(recent: int) -> str:
    return datetime.fromtimestamp((recent - _MARGIN) / 1_000, UTC).strftime("%Y-%m-%d")

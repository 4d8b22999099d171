"""The newest day in each column of times, seen while a file is read for its types.

It spares a reading of the file where all times are old.
"""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow.compute as pc

from cdp_backfill.messages.edges import text_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

_TIME: Final = (
    r"^\d{4}-\d\d-\d\d"
    r"([T ]\d\d:\d\d(:\d\d([.,]\d+)?)?( ?(Z|UTC|[+-]\d\d(:?\d\d)?))?)?$"
)
_IS_TIME: Final = re.compile(_TIME)
_DIGITS: Final = b"0123456789"


class NewestDays:
    """Takes note of the newest day of each column in which all cells are ISO times.

    >>> import pyarrow as pa
    >>> days = NewestDays()
    >>> days.add("at", pa.array(["2023-05-01T10:00:00Z", None, "2022-01-01"]))
    >>> days.of("at")
    datetime.date(2023, 5, 1)
    """

    def __init__(self) -> None:
        self._newest: dict[str, str | None] = {}  # None: no column of such times

    def watched(self, names: Iterable[str]) -> list[str]:
        """Those of the columns that may be columns of times."""
        return [name for name in names if self._newest.get(name, "") is not None]

    def add(self, name: str, cells: Any) -> None:
        """Take note of some cells.

        Args:
            name: The column.
            cells: Array of text.
        """
        newest = self._newest.get(name, "")
        if newest is None or cells.null_count == len(cells):
            return
        self._newest[name] = None
        first = cells[int(pc.index(cells.is_valid(), True).as_py())].as_py()
        if _IS_TIME.match(first) and (
            _all_look_like(first.encode(), cells)
            or pc.all(pc.match_substring_regex(cells, _TIME)).as_py()
        ):
            self._newest[name] = max(newest, pc.max(cells).as_py())

    def forget(self, name: str) -> None:
        """The column has cells that are no text."""
        self._newest[name] = None

    def of(self, name: str) -> date | None:
        """The newest day of a column, as written, in whatever zone; None if it is not certain."""
        newest = self._newest.get(name)
        try:
            return date.fromisoformat(newest[:10]) if newest else None
        except ValueError:  # no day of the calendar
            return None


def _all_look_like(first: bytes, cells: Any) -> bool:
    """Whether all cells have digits where this one has some, and its letters elsewhere.

    It is many times as fast as a pattern. False also where it cannot be told quickly.
    """
    data, starts, lengths = text_bytes(cells)
    letters = data[starts[0] : starts[-1] + lengths[-1]]
    filled = len(cells) - cells.null_count
    if np.count_nonzero(lengths == len(first)) != filled or len(letters) != filled * len(first):
        return False
    table = letters.reshape(-1, len(first))
    looks = np.frombuffer(first, np.uint8)
    is_digit = (looks >= _DIGITS[0]) & (looks <= _DIGITS[-1])
    same = (table[:, ~is_digit] == looks[~is_digit]).all()
    # Smaller bytes wrap around.
    return bool(same and (table[:, is_digit] - np.uint8(_DIGITS[0]) < len(_DIGITS)).all())

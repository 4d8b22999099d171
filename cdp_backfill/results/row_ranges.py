"""Which rows of a table were read, in any order."""

from __future__ import annotations


class RowRanges:
    """Ranges of rows.

    >>> ranges = RowRanges()
    >>> ranges.add(0, 10)
    >>> ranges.add(30, 40)
    >>> ranges.rows, ranges.gaps(50)
    (20, [(10, 30), (40, 50)])
    """

    def __init__(self) -> None:
        self._starts: dict[int, int] = {}  # start of a range by its stop

    def add(self, start: int, stop: int) -> None:
        """Add the rows from ``start`` up to, but not including, ``stop``."""
        self._starts[stop] = self._starts.pop(start, start)

    @property
    def rows(self) -> int:
        """Number of rows in the ranges."""
        return sum(stop - start for stop, start in self._starts.items())

    def gaps(self, end: int) -> list[tuple[int, int]]:
        """Ranges of the rows before ``end`` that are in no range."""
        gaps, position = [], 0
        for start, stop in sorted((start, stop) for stop, start in self._starts.items()):
            if position < min(start, end):
                gaps.append((position, min(start, end)))
            position = stop
        return gaps + ([(position, end)] if position < end else [])

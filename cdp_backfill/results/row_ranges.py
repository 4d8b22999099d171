"""Which rows of a table were read, in whatever order."""

from __future__ import annotations


class RowRanges:
    """Rows that were read, as spans.

    >>> covered = RowRanges()
    >>> covered.add(0, 10)
    >>> covered.add(30, 40)
    >>> covered.rows, covered.gaps(50)
    (20, [(10, 30), (40, 50)])
    """

    def __init__(self) -> None:
        self._spans: dict[int, int] = {}  # from where, by where they end

    def add(self, start: int, stop: int) -> None:
        """Note rows that were read."""
        self._spans[stop] = self._spans.pop(start, start)

    @property
    def rows(self) -> int:
        """How many were read."""
        return sum(stop - start for stop, start in self._spans.items())

    def gaps(self, end: int) -> list[tuple[int, int]]:
        """What was not read of so many rows, from where to where."""
        found, position = [], 0
        for start, stop in sorted((start, stop) for stop, start in self._spans.items()):
            if position < min(start, end):
                found.append((position, min(start, end)))
            position = stop
        return found + ([(position, end)] if position < end else [])

"""Counts rows by event, time and outcome, in little memory however many there are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from cdp_backfill.model.outcomes import OUTCOMES

if TYPE_CHECKING:
    import numpy.typing as npt

    from cdp_backfill.messages import MessageBatch

    Ints = npt.NDArray[np.int64]

DAY: Final = 86_400_000
"""Milliseconds."""

MOST_CELLS: Final = 2_048
"""Cells of one width; when there are more, those that follow are four times as wide."""

MOST_EVENTS: Final = 50
"""Events that are told apart; a table may hold any names."""

OTHER_EVENTS: Final = "other events"

_MISSING: Final = (
    "missing_event",
    "missing_time",
    "bad_time",
    "unclear_time",
    "nonexistent_time",
    "too_early",
    "in_future",
)

NOWHERE: Final = -1
"""The cell of a row without an event or a usable time."""

_TABLE: Final = 65_536  # entries of the table that replaces a search


@dataclass(slots=True)
class EventCounts:
    """Rows by event and time.

    Attributes:
        cells: By event and first day, counted since 1970 UTC: rows by outcome.
        width: Days of the widest cell.
    """

    cells: dict[tuple[str, int], Ints] = field(default_factory=dict)
    width: int = 1

    def __add__(self, other: EventCounts) -> EventCounts:
        cells = dict(self.cells)
        for key, counts in other.cells.items():
            cells[key] = cells[key] + counts if key in cells else counts
        return EventCounts(cells, max(self.width, other.width))

    def of_width(self, days: int, first: int = 0) -> dict[tuple[str, int], Ints]:
        """The same in cells of so many days, or of the widest where that is more.

        Args:
            days: The width.
            first: Day on which a cell begins.
        """
        days = max(days, self.width)
        found: dict[tuple[str, int], Ints] = {}
        for (event, day), counts in self.cells.items():
            key = (event, (day - first) // days * days + first)
            found[key] = found[key] + counts if key in found else counts
        return found


class EventHistogram:
    """Gives each row a cell when it is read, and counts it there when its outcome is known.

    A cell is an event and a day; where there are many, some days. Between the two a row costs a
    number of four bytes.
    """

    def __init__(self) -> None:
        self.width = 1
        self.places: list[tuple[str, int]] = []
        """Event and first day of each cell."""
        self._ids: dict[tuple[str, int], int] = {}
        self._events: dict[str, str] = {}
        self._counts = np.zeros((64, len(OUTCOMES)), dtype=np.int64)

    def cells(self, batch: MessageBatch, rows: int) -> npt.NDArray[np.int32]:
        """The cell of each row of a chunk.

        Args:
            batch: The messages of the chunk.
            rows: Number of its rows.
        """
        result = np.full(rows, NOWHERE, dtype=np.int32)
        names = batch.fields["event"].dictionary_encode()
        known = names.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        good = known >= 0
        if batch.problems.mask().any():
            for code in _MISSING:
                good &= ~batch.problems.mask_of(code)
        whole = bool(good.all())
        codes = known if whole else known[good]
        if not len(codes):
            return result
        span = batch.millis if whole else batch.millis[good]
        days = span // (DAY * self.width)
        first = int(days.min())
        wide = int(days.max()) - first + 1
        keys = codes * wide + (days - first)
        events = [self._event(name) for name in names.dictionary.to_pylist()]
        if len(events) * wide <= _TABLE:
            found = np.flatnonzero(np.bincount(keys))
            table = np.zeros(len(events) * wide, dtype=np.int32)
            table[found] = self._numbers(found, events, wide, first)
            cells = table[keys]
        else:
            found, back = np.unique(keys, return_inverse=True)
            cells = np.array(self._numbers(found, events, wide, first), dtype=np.int32)[back]
        result[batch.rows if whole else batch.rows[good]] = cells
        return result

    def _numbers(self, keys: Ints, events: list[str], wide: int, first: int) -> list[int]:
        width, numbers = self.width, []
        for key in keys.tolist():
            event, day = divmod(key, wide)
            place = (events[event], (day + first) * width)
            number = self._ids.get(place)
            if number is None:
                number = len(self.places)
                self._ids[place] = number
                self.places.append(place)
            numbers.append(number)
        if len(self._ids) > MOST_CELLS:
            self.width, self._ids = width * 4, {}
        while len(self.places) > len(self._counts):
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        return numbers

    def _event(self, name: str) -> str:
        if name not in self._events:
            if len(self._events) >= MOST_EVENTS:
                return OTHER_EVENTS
            self._events[name] = name
        return self._events[name]

    def count(self, cells: npt.NDArray[np.int32], outcome: int) -> None:
        """Count rows whose outcome, given by its code, is known now."""
        counts = np.bincount(cells + 1)[1:]  # without those that are nowhere
        self._counts[: len(counts), outcome] += counts

    def counted(self) -> EventCounts:
        """What was counted."""
        result = EventCounts(width=self.width)
        for place, counts in zip(self.places, self._counts, strict=False):
            if counts.any():
                before = result.cells.get(place)
                result.cells[place] = counts.copy() if before is None else before + counts
        return result

    def named(self, cells: Any) -> tuple[Any, Any]:
        """Event and first day of cells, as Arrow arrays; null for those that are nowhere."""
        at = np.asarray(cells)
        index = pa.array(at, mask=at == NOWHERE)
        events = pa.array([event for event, _ in self.places], pa.string()).take(index)
        return events, pa.array([day for _, day in self.places], pa.int64()).take(index)

"""Counts rows by event, time and outcome, with bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from cdp_backfill.model.outcomes import OUTCOMES

if TYPE_CHECKING:
    import numpy.typing as npt

    from cdp_backfill.messages import MessageBatch
    from cdp_backfill.model.arrays import Ints


DAY: Final = 86_400_000
"""Milliseconds of a day."""

MAX_BINS: Final = 2_048
"""Bins of one width. When there are more, the bins of later rows are four times as wide."""

MAX_EVENTS: Final = 50
"""Events that have bins of their own; all further events share bins."""

OTHER_EVENTS: Final = "other events"

_NO_EVENT_OR_TIME: Final = (
    "missing_event",
    "missing_time",
    "bad_time",
    "unclear_time",
    "nonexistent_time",
    "ambiguous_time",
    "too_early",
    "in_future",
)

NO_BIN: Final = -1
"""Stands for the bin of a row without an event or without a usable time."""

_MAX_LOOKUP: Final = 65_536  # entries of a lookup table; beyond, a search replaces it


@dataclass(slots=True)
class EventCounts:
    """Rows by event, time and outcome.

    Attributes:
        bins: Rows by outcome code, for each event and first day of a bin. Days count from
            1970-01-01 UTC.
        width: Days of the widest bin.
    """

    bins: dict[tuple[str, int], Ints] = field(default_factory=dict)
    width: int = 1

    def __add__(self, other: EventCounts) -> EventCounts:
        bins = dict(self.bins)
        for key, counts in other.bins.items():
            bins[key] = bins[key] + counts if key in bins else counts
        return EventCounts(bins, max(self.width, other.width))

    def with_width(self, days: int, first: int = 0) -> dict[tuple[str, int], Ints]:
        """The counts in bins of one width.

        Args:
            days: Width of a bin; at least that of the widest bin is used.
            first: Day on which a bin begins.
        """
        days = max(days, self.width)
        bins: dict[tuple[str, int], Ints] = {}
        for (event, day), counts in self.bins.items():
            key = (event, (day - first) // days * days + first)
            bins[key] = bins[key] + counts if key in bins else counts
        return bins


class EventHistogram:
    """Assigns each row to a bin when it is read, and counts it there when it has an outcome.

    A bin is an event and a day, or several days where there are many bins. Between the two steps
    a row takes four bytes: the number of its bin.
    """

    def __init__(self) -> None:
        self.width = 1
        """Days of a new bin."""
        self.keys: list[tuple[str, int]] = []
        """Event and first day of each bin."""
        self._numbers: dict[tuple[str, int], int] = {}  # of the bins of the current width
        self._events: dict[str, str] = {}
        self._counts = np.zeros((64, len(OUTCOMES)), dtype=np.int64)

    def bins(self, messages: MessageBatch, rows: int) -> npt.NDArray[np.int32]:
        """The number of each row's bin, or ``NO_BIN``.

        Args:
            messages: The messages of a chunk.
            rows: Number of rows of the chunk.
        """
        result = np.full(rows, NO_BIN, dtype=np.int32)
        if messages.event_names is None:
            return result
        names = messages.event_names.dictionary_encode()
        codes = names.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        usable = codes >= 0
        if messages.problems.mask().any():
            for code in _NO_EVENT_OR_TIME:
                usable &= ~messages.problems.mask_of(code)
        all_usable = bool(usable.all())
        codes = codes if all_usable else codes[usable]
        if not len(codes):
            return result
        millis = messages.millis if all_usable else messages.millis[usable]
        periods = millis // (DAY * self.width)
        first = int(periods.min())
        count = int(periods.max()) - first + 1
        keys = codes * count + (periods - first)
        events = [self._event(name) for name in names.dictionary.to_pylist()]
        if len(events) * count <= _MAX_LOOKUP:
            unique = np.flatnonzero(np.bincount(keys))
            lookup = np.zeros(len(events) * count, dtype=np.int32)
            lookup[unique] = self._bin_numbers(unique, events, count, first)
            bins = lookup[keys]
        else:
            unique, inverse = np.unique(keys, return_inverse=True)
            bins = np.array(self._bin_numbers(unique, events, count, first), np.int32)[inverse]
        result[messages.rows if all_usable else messages.rows[usable]] = bins
        return result

    def _bin_numbers(self, keys: Ints, events: list[str], count: int, first: int) -> list[int]:
        """The numbers of bins, which are made where they do not exist.

        Args:
            keys: Position of the event times ``count``, plus the period since ``first``.
            events: Names of the events.
            count: Number of periods.
            first: The first period.
        """
        width, numbers = self.width, []
        for combined in keys.tolist():
            event, period = divmod(combined, count)
            key = (events[event], (period + first) * width)
            number = self._numbers.get(key)
            if number is None:
                number = len(self.keys)
                self._numbers[key] = number
                self.keys.append(key)
            numbers.append(number)
        if len(self._numbers) > MAX_BINS:
            self.width, self._numbers = width * 4, {}
        while len(self.keys) > len(self._counts):
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        return numbers

    def _event(self, name: str) -> str:
        if name not in self._events:
            if len(self._events) >= MAX_EVENTS:
                return OTHER_EVENTS
            self._events[name] = name
        return self._events[name]

    def count(self, bins: npt.NDArray[np.int32], outcome: int) -> None:
        """Count rows with an outcome.

        Args:
            bins: The number of each row's bin.
            outcome: Code of their outcome.
        """
        counts = np.bincount(bins + 1)[1:]  # without the rows that have no bin
        self._counts[: len(counts), outcome] += counts

    def counts(self) -> EventCounts:
        """The rows counted so far."""
        result = EventCounts(width=self.width)
        for key, counts in zip(self.keys, self._counts, strict=False):
            if counts.any():
                # Bins of another width can have the same event and first day.
                before = result.bins.get(key)
                result.bins[key] = counts.copy() if before is None else before + counts
        return result

    def events_and_days(self, bins: Any) -> tuple[Any, Any]:
        """Event and first day of bins, as Arrow arrays; null for ``NO_BIN``."""
        numbers = np.asarray(bins)
        index = pa.array(numbers, mask=numbers == NO_BIN)
        events = pa.array([event for event, _ in self.keys], pa.string()).take(index)
        return events, pa.array([day for _, day in self.keys], pa.int64()).take(index)

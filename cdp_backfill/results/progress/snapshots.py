"""What is known about a run while it goes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from cdp_backfill.results.run_stats import WithStats

_TIMELINE: Final = 1_000


class State(StrEnum):
    """Where a run stands; the last three are ends.

    >>> State.DONE.ended, State.STOPPING.ended
    (True, False)
    """

    RUNNING = "running"
    STOPPING = "stopping"
    """Nothing new is sent, and what is under way may finish."""
    DONE = "done"
    INTERRUPTED = "interrupted"
    """Somebody stopped it."""
    STOPPED = "stopped"
    """An error did."""

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return self not in (State.RUNNING, State.STOPPING)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why some rows did not arrive.

    Attributes:
        code: Its short name.
        words: In words, without any value of a row.
        rows: How many they are so far.
    """

    code: str
    words: str
    rows: int


@dataclass(frozen=True, slots=True)
class Snapshot(WithStats):
    """How a run is doing.

    Attributes:
        rows: Rows that have an outcome.
        total: Rows in all, or None where nobody knows.
        not_delivered: Rows among them that did not arrive, skipped ones aside.
        in_flight: Requests in flight.
        level: Requests that may be in flight.
        counts: Rows by outcome, unsent ones included.
        reasons: The most frequent reasons for which rows did not arrive, most rows first.
        state: Where the run stands.
        stats: All figures of the run so far.
    """

    rows: int
    total: int | None
    not_delivered: int
    in_flight: int
    level: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    reasons: tuple[Reason, ...] = ()
    state: State = State.RUNNING

    @property
    def share(self) -> float | None:
        """Share of the rows that have an outcome, 0.0 to 1.0, or None where nobody knows."""
        if self.total:
            return min(1.0, self.rows / self.total)
        return 1.0 if self.state is State.DONE else None


class Timeline:
    """Keeps a few snapshots of a run, however long it takes: at most 1,000, evenly spread."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []
        self._interval = 0.1
        self._due = 0.0

    def add(self, snapshot: Snapshot) -> None:
        """Keep it if it is time for one, or if it is the last."""
        if snapshot.state.ended or snapshot.seconds >= self._due:
            self.snapshots.append(snapshot)
            if len(self.snapshots) >= _TIMELINE:
                self.snapshots = self.snapshots[::2]
                self._interval *= 2
            self._due = snapshot.seconds + self._interval

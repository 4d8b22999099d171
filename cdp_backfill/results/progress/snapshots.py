"""Snapshots of a run while it goes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from cdp_backfill.results.run_stats import WithStats

if TYPE_CHECKING:
    from cdp_backfill.model.mapping import Call

_MAX_SNAPSHOTS: Final = 1_000


class State(StrEnum):
    """The state of a run; in the last three, the run is over.

    >>> State.DONE.ended, State.STOPPING.ended
    (True, False)
    """

    RUNNING = "running"
    STOPPING = "stopping"
    """Nothing more is sent; requests in flight may finish."""
    DONE = "done"
    INTERRUPTED = "interrupted"
    """The run was interrupted."""
    STOPPED = "stopped"
    """An error stopped the run."""

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return self not in (State.RUNNING, State.STOPPING)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why some rows were not delivered.

    Attributes:
        code: Short name of the reason.
        words: The reason in words, without any cell of a row.
        rows: Number of rows so far.
    """

    code: str
    words: str
    rows: int


@dataclass(frozen=True, slots=True)
class Snapshot(WithStats):
    """The progress of a run at one moment.

    Attributes:
        rows: Rows that have an outcome.
        total: Number of rows to send, or None while it is unknown.
        not_delivered: Rows among them that failed: neither delivered nor left out on request, as
            held and skipped rows are.
        in_flight: Requests in flight.
        level: Requests that may be in flight.
        counts: Rows by outcome, unsent ones included.
        reasons: The most frequent reasons why rows were not delivered, most rows first.
        state: State of the run.
        call: What the rows become: ``"track"`` for events, ``"identify"`` for identities.
        seconds_away: Seconds for which the server has been away, or 0.0 if it is there.
        stats: All figures of the run so far.
        tasks: With a table of an engine, while it sends: how many tasks have ended, of how many.
            Rows are counted at the end then. None otherwise.
    """

    rows: int
    total: int | None
    not_delivered: int
    in_flight: int
    level: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    reasons: tuple[Reason, ...] = ()
    state: State = State.RUNNING
    call: Call = "track"
    seconds_away: float = 0.0
    tasks: tuple[int, int] | None = None

    @property
    def share(self) -> float | None:
        """Share of the rows that have an outcome, 0.0 to 1.0, or None while it is unknown.

        With a table of an engine, the share of the tasks that have ended.
        """
        if self.tasks is not None:
            ended, tasks = self.tasks
            return ended / max(1, tasks)
        if self.total:
            return min(1.0, self.rows / self.total)
        return 1.0 if self.state is State.DONE else None


class Timeline:
    """Keeps up to 1,000 snapshots of a run, evenly spread, however long the run takes."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []
        self._interval = 0.1
        self._due = 0.0

    def add(self, snapshot: Snapshot) -> None:
        """Keep a snapshot if one is due, or if it is the last."""
        if snapshot.state.ended or snapshot.seconds >= self._due:
            self.snapshots.append(snapshot)
            if len(self.snapshots) >= _MAX_SNAPSHOTS:
                self.snapshots = self.snapshots[::2]
                self._interval *= 2
            self._due = snapshot.seconds + self._interval

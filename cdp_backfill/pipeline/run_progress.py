"""Makes snapshots of a run: shows them, and keeps some of them for the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdp_backfill.model.outcomes import Outcome
from cdp_backfill.results.progress import Progress, Reason, Snapshot, State, Timeline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cdp_backfill.model.mapping import Call
    from cdp_backfill.results.reasons import FailureReason
    from cdp_backfill.results.run_stats import RunStats

AS_WANTED: Final = (Outcome.DELIVERED, Outcome.HELD, Outcome.SKIPPED)
"""Outcomes that are no failures: the row arrived, or was left out on request."""

_MAX_REASONS: Final = 3  # in a snapshot; the report has all
_MAX_REASON_LENGTH: Final = 120


class RunProgress:
    """Shows snapshots of a run, and keeps a timeline of them.

    Args:
        progress: Shows the snapshots.
        call: What the rows of the run become.
    """

    def __init__(self, progress: Progress, call: Call) -> None:
        self._progress = progress
        self._call: Call = call
        self._timeline = Timeline()

    @property
    def timeline(self) -> tuple[Snapshot, ...]:
        """The snapshots that were kept: up to 1,000, evenly spread."""
        return tuple(self._timeline.snapshots)

    def show(
        self,
        state: State,
        *,
        total: int | None,
        counts: dict[str, int],
        stats: RunStats,
        reasons: Iterable[FailureReason],
        in_flight: int,
        concurrency: int,
        seconds_away: float,
    ) -> None:
        """Show a snapshot.

        Args:
            state: State of the run.
            total: Number of rows to send, or None while it is unknown.
            counts: Rows by outcome so far.
            stats: Figures of the run so far.
            reasons: Why rows were not delivered so far, most rows first.
            in_flight: Requests in flight.
            concurrency: Requests that may be in flight.
            seconds_away: Seconds for which the server has been away, or 0.0.
        """
        as_wanted = sum(counts[outcome] for outcome in AS_WANTED)
        rows = sum(counts.values()) - counts[Outcome.UNSENT]
        snapshot = Snapshot(
            rows=rows,
            total=total,
            not_delivered=rows - as_wanted,
            in_flight=in_flight,
            level=concurrency,
            counts=counts,
            reasons=_frequent_reasons(reasons),
            state=state,
            call=self._call,
            seconds_away=seconds_away,
            stats=stats,
        )
        self._timeline.add(snapshot)
        self._progress.update(snapshot)

    def close(self) -> None:
        """Show no more."""
        self._progress.close()


def _frequent_reasons(reasons: Iterable[FailureReason]) -> tuple[Reason, ...]:
    """The most frequent reasons of failures."""
    rows: dict[tuple[str, str], int] = {}
    for item in reasons:
        if item.outcome not in (*AS_WANTED, Outcome.UNSENT):
            key = item.code, _shortened(item.reason)
            rows[key] = rows.get(key, 0) + item.rows
    ordered = sorted(rows.items(), key=lambda entry: -entry[1])
    return tuple(Reason(code, words, n) for (code, words), n in ordered[:_MAX_REASONS])


def _shortened(reason: str) -> str:
    """A reason without the server's message, which may repeat cells and would stay in logs."""
    if reason.startswith("the server answered "):
        reason = reason.partition(":")[0]
    if len(reason) <= _MAX_REASON_LENGTH:
        return reason
    return f"{reason[: _MAX_REASON_LENGTH - 1].rstrip()}…"

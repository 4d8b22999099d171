"""Shows how far an engine is: the tasks that have ended, and at last what became of the rows."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from cdp_backfill.pipeline.run_progress import RunProgress
from cdp_backfill.results.progress import ProgressChoice, Snapshot, State, make_progress
from cdp_backfill.results.run_stats import RunStats

if TYPE_CHECKING:
    from cdp_backfill.model.mapping import Call
    from cdp_backfill.results.reports import Report


class TasksProgress:
    """The display of one run of an engine.

    Args:
        choice: See :func:`cdp_backfill.send`.
        call: What the rows become.
    """

    def __init__(self, choice: ProgressChoice, call: Call) -> None:
        self._display = make_progress(choice)
        self._call: Call = call
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def tasks_ended(self, ended: int, tasks: int) -> None:
        """Show how many tasks have ended."""
        snapshot = Snapshot(
            rows=0,
            total=None,
            not_delivered=0,
            in_flight=0,
            call=self._call,
            stats=RunStats(seconds=time.monotonic() - self._began),
            tasks=(ended, tasks),
        )
        with self._lock:
            self._display.update(snapshot)

    def end(self, report: Report, state: State) -> None:
        """Show what became of the rows.

        Args:
            report: The report.
            state: How the run ended.
        """
        with self._lock:
            RunProgress(self._display, self._call).show(
                state,
                total=report.rows,
                counts=report.counts,
                stats=report.stats,
                reasons=(),
                in_flight=0,
                concurrency=0,
                seconds_away=0.0,
            )

    def close(self) -> None:
        """Close the display."""
        with self._lock:
            self._display.close()

"""The seam between engines and this package: sends one part of a table."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cdp_backfill.engines.attempt_journal import SharedRun
from cdp_backfill.engines.part_journal import PartJournal
from cdp_backfill.engines.part_source import PartSource
from cdp_backfill.engines.store import one_clear_error
from cdp_backfill.errors import AccountingError, BackfillError, StoppedError
from cdp_backfill.model.outcomes import OUTCOMES, Outcome
from cdp_backfill.pipeline.runner import Run
from cdp_backfill.results.part_summary import INTERRUPTED, PartSummary, earlier_attempts
from cdp_backfill.results.run_stats import RunStats
from cdp_backfill.results.tracker import OutcomeTracker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    import pyarrow as pa

    from cdp_backfill.engines.attempt_journal import AttemptJournal
    from cdp_backfill.engines.part_journal import SharedJournal
    from cdp_backfill.engines.partition_job import PartitionJob
    from cdp_backfill.pipeline.run_journal import RunJournal
    from cdp_backfill.results.progress import Snapshot
    from cdp_backfill.results.reports import Report

_STOPPED: Final = ("stopped", "the run stopped before this row's turn")


def send_partition(
    source: Iterable[Any],
    job: PartitionJob,
    *,
    part: str,
    attempt: str = "0",
    journal: SharedJournal | SharedRun | None = None,
) -> Generator[pa.Table, None, PartSummary]:
    """Send a part of a table from a worker of any engine.

    Whatever happens once it has sent something, it raises no error, so that the engine does not run
    the part again: the summary has the error. It reads the part to its end in any case, and what it
    does not send counts as ``unsent``. It does not close the iterator of the engine.

    Args:
        source: Record batches or tables of pyarrow, all of one schema.
        job: How to send them.
        part: Name of the part, different from those of all other parts. Parts are ordered by it.
        attempt: ``"0"`` for the first attempt to run this part, ``"1"`` for the second and so on.
            Any other text if the engine does not count them. After earlier attempts, each row may
            have been sent before; without a journal, all are counted in ``maybe_twice``.
        journal: A journal that all parts share, or None: the ``shared`` of the journal that
            :meth:`PartitionJob.journal` gave. This waits then until no other attempt of the part is
            alive. Or an object of your own with the methods ``skip(digests)``, which returns a mask
            of messages that are delivered, and ``add(digests)``.

    Yields:
        The failures as Arrow tables of one schema: the columns of the part, and ``cdp_...``.

    Returns:
        What became of the rows. :func:`cdp_backfill.report` makes one report of all summaries.

    Raises:
        BadInputError: The engine broke off before anything was sent, so it can try again.

    >>> import pyarrow as pa
    >>> from cdp_backfill import Mapping, PartitionJob, lit, sandbox
    >>> mapping = Mapping(user_id="uid", timestamp="ts", event=lit("Application Opened"))
    >>> table = pa.table({"uid": ["ada", None], "ts": ["2023-05-01T10:00:00Z"] * 2})
    >>> def whole_part(destination):
    ...     job = PartitionJob(mapping=mapping, destination=destination)
    ...     summary = yield from send_partition(table.to_batches(), job, part="0")
    ...     print(summary.counts["delivered"], summary.counts["invalid"])
    >>> with sandbox() as box:
    ...     failures = [each["cdp_code"].to_pylist() for each in whole_part(box.destination)]
    1 1
    >>> failures
    [['missing_user']]
    """
    rows = PartSource(f"part {part}", source)
    if rows.is_empty:
        counts = dict.fromkeys(map(str, OUTCOMES), 0)
        return PartSummary(part=part, attempt=attempt, counts=counts, stats=RunStats())
    with ExitStack() as held:  # whatever happens, other attempts of the part can go on
        error: BackfillError | None = None
        run: Run | None = None
        report: Report | None = None
        own: AttemptJournal | None = None
        try:
            if isinstance(journal, SharedRun):
                own = held.enter_context(_attempt(journal, part))
                run = _run(rows, job, own, lambda: own is not None and own.is_stopped)
            else:
                run = _run(rows, job, _part_journal(journal, earlier_attempts(attempt)))
            report = run.report()
        except BackfillError as raised:
            error, report = raised, getattr(raised, "report", None)
        except Exception as raised:  # noqa: BLE001  # the other parts' account must not be lost
            error = StoppedError(
                f"The run of a part could not begin because of an unexpected error "
                f"({type(raised).__name__})."
            )
        if rows.error is not None and not (report and report.requests):
            raise rows.error
        tracker = OutcomeTracker(rows) if run is None else run.tracker
        _read_on(rows, tracker)
        if error is None and sum(tracker.counts.values()) != rows.rows_taken:
            error = AccountingError("The outcomes of a part do not add up to its rows.")
        for table in tracker.failure_tables():
            if table.num_rows:
                yield table
        summary = PartSummary(
            part=part,
            attempt=attempt,
            counts=tracker.counts,
            stats=RunStats() if report is None else report.stats,
            fixes={} if report is None else report.fixes,
            naive=0 if run is None else run.naive,
            event_keys=() if run is None else tuple(sorted(run.event_keys)),
            reasons=tuple(tracker.reasons()),
            skipped=tuple(tracker.skipped()),
            events=tracker.event_counts(),
            run=tracker.lineage.run,
            interrupted=report is not None and report.interrupted,
            error=None if error is None else (type(error).__name__, _text(error)),
        )
        if own is not None:
            with suppress(OSError):  # this summary comes back with the part all the same
                own.finish(summary.to_bytes())
        return summary


def _attempt(journal: SharedRun, part: str) -> AttemptJournal:
    """Begin an attempt with a shared journal.

    Raises:
        JournalError: It cannot be read or written.
        StoppedError: The run was stopped before.
    """
    with one_clear_error(journal.store.location):
        if journal.should_stop():
            raise StoppedError(INTERRUPTED)
        return journal.attempt(part)


def _part_journal(journal: SharedJournal | None, earlier: int) -> PartJournal | None:
    return PartJournal(journal, earlier) if journal is not None or earlier else None


def _run(
    rows: PartSource,
    job: PartitionJob,
    journal: RunJournal | None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Run:
    prepared = job.on(rows).prepare()
    run = Run(
        prepared,
        job.share.with_key(),
        _UntilStopped(job.stop_file, is_stopped),
        journal=journal,
        excluded=job.exclude,
    )
    # Rows have an outcome only after the run has taken all rows before their chunk.
    rows.needless = lambda: sum(run.tracker.counts.values())
    return run


def _read_on(rows: PartSource, tracker: OutcomeTracker) -> None:
    """Read the rest of the part: its rows are unsent."""
    code, reason = _STOPPED
    for chunk in rows.rest(sum(tracker.counts.values())):
        outcomes = tracker.open(chunk)
        positions = np.arange(chunk.batch.num_rows)
        tracker.settle(outcomes, positions, Outcome.UNSENT, code=code, reason=reason)


def _text(error: BackfillError) -> str:
    return error.message if isinstance(error, StoppedError) else str(error)


class _UntilStopped:
    """Interrupts a run when a file exists, or something else says so; shows nothing.

    Args:
        path: The file, or None.
        is_stopped: What else to ask.
    """

    def __init__(self, path: str | Path | None, is_stopped: Callable[[], bool]) -> None:
        self._path = None if path is None else Path(path)
        self._is_stopped, self._has_stopped = is_stopped, False

    def update(self, snapshot: Snapshot) -> None:
        """Look whether to stop.

        Raises:
            KeyboardInterrupt: Yes; raised once, because a second one would cancel requests.
        """
        del snapshot
        if self._has_stopped:
            return
        if self._is_stopped() or (self._path is not None and self._path.exists()):
            self._has_stopped = True
            raise KeyboardInterrupt

    def close(self) -> None:
        """Nothing is open."""

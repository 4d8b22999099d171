"""Runs a send: reads, checks, encodes and sends a table, and records the outcome of every row."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from concurrent.futures import wait
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from cdp_backfill.delivery import RequestResult, Sender
from cdp_backfill.errors import (
    AccountingError,
    BackfillError,
    BadInputError,
    RecentRowsError,
    StoppedError,
)
from cdp_backfill.messages.packing import FIRST_MESSAGES, Packer, Request
from cdp_backfill.model import api_facts
from cdp_backfill.model.outcomes import Outcome
from cdp_backfill.pipeline.journal_file import why
from cdp_backfill.pipeline.leaving_out import described_text, left_out_notes
from cdp_backfill.pipeline.notes import join_reasons
from cdp_backfill.pipeline.recorder import Recorder, run_in_thread
from cdp_backfill.pipeline.request_log import RequestLog
from cdp_backfill.pipeline.run_journal import WRITE_ERRORS
from cdp_backfill.pipeline.run_notes import canary_note, run_notes
from cdp_backfill.pipeline.run_progress import RunProgress
from cdp_backfill.results.chunk_outcomes import DELIVERED_BEFORE
from cdp_backfill.results.outcome_files import OutcomeFiles
from cdp_backfill.results.progress import Progress, State
from cdp_backfill.results.reports import Report
from cdp_backfill.results.tracker import OutcomeTracker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from cdp_backfill.model.destination import Destination
    from cdp_backfill.model.outcomes import Fix
    from cdp_backfill.pipeline.excluded_ids import ExcludedIds
    from cdp_backfill.pipeline.preparation import PreparedChunk
    from cdp_backfill.pipeline.prepared_source import PreparedSource
    from cdp_backfill.pipeline.run_journal import RunJournal
    from cdp_backfill.results.chunk_outcomes import ChunkOutcomes
    from cdp_backfill.results.reports import SendAgain
    from cdp_backfill.results.run_stats import RunStats
    from cdp_backfill.sources import Chunk


_TICK: Final = 0.2  # seconds between two snapshots while nothing else happens


@dataclass(frozen=True, slots=True, eq=False)
class _EncodedRows:
    """The rows of a chunk that encoded messages belong to, one row for each message."""

    chunk_outcomes: ChunkOutcomes
    rows: npt.NDArray[np.int64]


@dataclass(slots=True)
class _Totals:
    """What the runner counts itself.

    Attributes:
        packed_requests: Requests filled with messages, without the small first one.
        packed_bytes: Their bytes, before compression.
        delivered_before: Rows that the journal knows as delivered by an earlier run.
        naive: Times without a time zone.
        duplicates: Rows skipped because an earlier row has the same message id.
        fixes: Cells that were changed on the way.
        event_keys: Keys of the mapping's ``events`` that occurred.
    """

    packed_requests: int = 0
    packed_bytes: int = 0
    delivered_before: int = 0
    naive: int = 0
    duplicates: int = 0
    fixes: dict[Fix, int] = field(default_factory=dict)
    event_keys: set[str] = field(default_factory=set)


class Run:
    """One run: sends a prepared source.

    Args:
        prepared_source: The table, the mapping and the options.
        destination: Where to send to, with a key.
        progress: Shows snapshots of the run.
        journal: Knows the rows that are delivered, or None to do without.
        canary: Number of rows after which to stop, or None.
        processes: Number of processes that read, check and encode.
        planned_seconds: Least and most seconds that a plan expects, for the report.
        send_again: Sends failures with the same options; for :meth:`Report.retry`.
        outcomes: Folder for the outcome of every row, or None.
        excluded: The ids of which no row is sent, or None.
    """

    def __init__(
        self,
        prepared_source: PreparedSource,
        destination: Destination,
        progress: Progress,
        *,
        journal: RunJournal | None = None,
        canary: int | None = None,
        processes: int = 1,
        planned_seconds: tuple[float, float] | None = None,
        send_again: SendAgain | None = None,
        outcomes: Path | None = None,
        excluded: ExcludedIds | None = None,
    ) -> None:
        self._excluded = excluded
        self._prepared_source = prepared_source
        self._journal = journal
        self._request_log = None if journal is None else RequestLog(journal)
        self._canary = canary
        self._processes = processes
        self._planned_seconds = planned_seconds
        self._send_again = send_again
        self._destination = destination
        self._progress = RunProgress(progress, prepared_source.mapping.call)
        self._started = time.monotonic()
        self._interrupts = 0
        self._finished = False
        self._stop_error: StoppedError | None = None
        self._unexpected: StoppedError | None = None
        self._bug: AccountingError | None = None
        self._result: Report | None = None
        self._steps_done: list[str] = []
        self._tracker = OutcomeTracker(prepared_source.source)
        self._files: OutcomeFiles | None = None
        if outcomes is not None:
            about = {
                "call": prepared_source.mapping.call,
                "url": destination.url,
                "journal": None if journal is None else str(journal.path),
            }
            self._files = OutcomeFiles(outcomes, self._tracker.lineage.run, about)
            self._tracker.files = self._files
        self._packer = Packer(max_messages=destination.max_messages, first_messages=FIRST_MESSAGES)
        self._totals = _Totals()
        self._sender = Sender(
            destination,
            self._record_result,
            on_send=self._record_sending,
            on_split=self._record_split,
            accepted_before=bool(journal and journal.delivered_before),
        )
        # Only threads that an interrupt does not reach may change the tracker.
        self._recorder = Recorder()

    @property
    def result(self) -> Report | None:
        """The report, once the run is over; an interrupt can keep it from being returned."""
        return self._result

    @property
    def tracker(self) -> OutcomeTracker:
        """The outcomes of the rows."""
        return self._tracker

    @property
    def naive(self) -> int:
        """Times without a time zone so far."""
        return self._totals.naive

    @property
    def event_keys(self) -> set[str]:
        """Keys of the mapping's ``events`` that occurred so far."""
        return self._totals.event_keys

    def report(self) -> Report:
        """Run, and report the outcome of every row.

        Raises:
            StoppedError: The run stopped early; the error has the report.
        """
        return self._report(self._send_all)

    def report_unsent(self, *, interrupted: bool) -> Report:
        """Report every row as unsent, because what should come before was not finished.

        Args:
            interrupted: An interrupt is the reason.
        """
        self._interrupts = int(interrupted)
        run_in_thread(self._sender.stop)
        return self._report(lambda: None)

    def _report(self, send: Callable[[], None]) -> Report:
        """Go through all steps to the end: an interrupt can come anywhere."""
        while True:
            with contextlib.suppress(KeyboardInterrupt):  # even while another one is handled
                return self._go_through(send)

    def _go_through(self, send: Callable[[], None]) -> Report:
        done = self._steps_done
        while True:
            try:
                if not done:  # reading is not begun again
                    done.append("read")
                    self._read(send)
                for step in (
                    self._wait_for_finish,
                    self._show_end,
                    self._keep_report,
                    self._release,
                ):
                    if step.__name__ not in done:
                        step()
                        done.append(step.__name__)
                return self._outcome()
            except KeyboardInterrupt:
                self._interrupts += 1

    def _outcome(self) -> Report:
        """Return the report, or raise the error that the run ends with."""
        assert self._result is not None  # noqa: S101  # a step made it
        if self._final_error is not None:
            raise self._final_error
        return self._result

    def _read(self, send: Callable[[], None]) -> None:
        """Read and send; keep the error that ends it."""
        try:
            send()
        except KeyboardInterrupt:
            raise
        except BadInputError as error:  # such as a file that is damaged in the middle
            self._stop_error = StoppedError(f"Reading stopped: {error}")
            self._stop_error.__cause__ = error
        except RecentRowsError as error:
            self._stop_error = error
        except BaseException as error:  # noqa: BLE001  # panics in Arrow are no Exceptions
            self._stop_error = _unexpected(error)

    @property
    def _final_error(self) -> BackfillError | None:
        """The error that the run ends with; it has the report."""
        if self._bug is not None:
            return self._bug
        error = self._sender.error
        if error is None or isinstance(error, StoppedError):
            return error or self._stop_error
        if self._unexpected is None:
            self._unexpected = _unexpected(error)
        return self._unexpected

    def _keep_report(self) -> None:
        if self._result is None:
            self._result = self._make_report()
        error = self._final_error
        if isinstance(error, StoppedError | AccountingError):
            error.report = self._result

    def _release(self) -> None:
        self._recorder.shutdown()
        if self._journal is not None:
            self._journal.release()

    # --- Reading and sending, on the calling thread ---

    def _send_all(self) -> None:
        source, binding = self._prepared_source.source, self._prepared_source.binding
        # A source that does not keep its rows is read in full: the failures need all columns.
        columns = (
            list(dict.fromkeys((*binding.columns, *self._tracker.lineage.columns)))
            if source.keeps_rows
            else source.schema.names
        )
        prepared_chunks = self._prepared_source.chunks(
            columns,
            is_delivered=self._journal.is_delivered if self._journal is not None else None,
            doubts=self._journal.doubts if self._journal is not None else None,
            rows=self._canary,
            processes=self._processes,
        )
        with closing(prepared_chunks):
            for chunk, prepared in prepared_chunks:
                self._pack(chunk, prepared)
                if self._sender.stopped:
                    break
                self._show()
        for request in self._packer.flush():
            self._offer(request)
        while not self._sender.wait():
            self._show()

    def _pack(self, chunk: Chunk, prepared: PreparedChunk) -> None:
        """Record a chunk, and send the requests that its messages fill."""
        parts = self._recorder.submit(self._record_chunk, chunk, prepared).result()
        if self._prepared_source.recent == "raise" and prepared.recent.any():
            raise RecentRowsError(
                "The run stopped at the first rows that are younger than "
                f"{api_facts.RECENT_HOURS} hours, because they can trigger campaigns and messages "
                "to people. recent='hold' leaves them out, recent='send' sends them."
            )
        for (encoded, _), encoded_rows in zip(prepared.encoded, parts, strict=True):
            for request in self._packer.feed(encoded, encoded_rows):
                self._offer(request)

    def _offer(self, request: Request) -> None:
        if not request.is_first:
            self._totals.packed_requests += 1
            self._totals.packed_bytes += request.size
        while not self._sender.offer(request) and not self._sender.stopped:
            self._show()

    # --- Recording, on threads that an interrupt does not reach ---

    def _record_chunk(self, chunk: Chunk, prepared: PreparedChunk) -> list[_EncodedRows]:
        """Begin to track a chunk, and record the rows that will not be sent."""
        tracker, totals, messages = self._tracker, self._totals, prepared.messages
        self._check_files()
        outcomes = tracker.open(chunk)
        tracker.set_events(outcomes, messages)
        if self._files is not None:
            for rows, ids in prepared.known_ids:
                tracker.set_message_ids(outcomes, rows, ids)
        totals.naive += messages.naive
        totals.event_keys |= messages.event_keys
        for fix, cells in messages.problems.fixes.items():
            totals.fixes[fix] = totals.fixes.get(fix, 0) + cells
        totals.duplicates += len(prepared.duplicates)
        for why_not, rows in prepared.all_skipped.items():
            tracker.settle(
                outcomes, rows, Outcome.SKIPPED, code=why_not.code, reason=why_not.reason
            )
        tracker.add_dropped(outcomes, prepared.dropped)
        if prepared.taken is not None:
            tracker.set_taken(outcomes, *prepared.taken)
        tracker.settle(
            outcomes, prepared.delivered_before, Outcome.DELIVERED, code=DELIVERED_BEFORE
        )
        totals.delivered_before += len(prepared.delivered_before)
        for rows, problems in messages.problems.groups():
            tracker.settle(
                outcomes,
                messages.rows[rows],
                Outcome.INVALID,
                code=problems[0].code,
                reason=join_reasons(problems),
                problems=problems,
            )
        tracker.settle(
            outcomes,
            messages.rows[prepared.held],
            Outcome.HELD,
            code="recent",
            reason=f"younger than {api_facts.RECENT_HOURS} hours",
        )
        tracker.settle(
            outcomes,
            prepared.outside,
            Outcome.UNSENT,
            code="canary",
            reason="no row of the canary has this anonymous id",
        )
        parts = []
        for encoded, rows in prepared.encoded:
            tracker.set_message_ids(outcomes, rows, encoded.ids)
            parts.append(_EncodedRows(outcomes, rows))
        return parts

    def _record_sending(self, request: Request, unanswered: int) -> bool:
        """Record in the journal that a request is about to leave; called by the sender's workers.

        If this process crashes, the next run knows that the rows may arrive twice.

        Returns:
            Whether it is recorded; otherwise, it must not be sent.
        """
        log = self._request_log
        return log is None or self._try_to_record(lambda: log.sending(request, unanswered))

    def _record_split(self, request: Request, unanswered: int) -> None:
        """Record in the journal that parts replace a request; called by the sender's workers."""
        if (log := self._request_log) is not None:
            self._try_to_record(lambda: log.split(request, unanswered))

    def _try_to_record(self, action: Callable[[], None]) -> bool:
        """Write to the journal; stop the run if that fails."""
        try:
            action()
        except WRITE_ERRORS as error:
            if self._journal is not None:
                self._sender.stop(_journal_error(self._journal, error))
            return False
        return True

    def _record_result(self, result: RequestResult) -> None:
        """Record the result of a request; called by the sender's workers, one at a time."""
        if (log := self._request_log) is not None:
            self._try_to_record(lambda: log.settled(result))
        self._settle(result)

    def _settle(self, result: RequestResult, *, only_pending: bool = False) -> None:
        for outcomes, rows in _rows_of(result.request):
            self._tracker.settle(
                outcomes,
                rows,
                result.outcome,
                code=result.code,
                reason=result.reason,
                status=result.status,
                attempts=result.attempts,
                taken=result.doubts + (result.outcome is Outcome.DELIVERED),
                only_pending=only_pending or result.code == "error",
            )

    # --- The end of the run ---

    def _wait_for_finish(self) -> None:
        """Wait for the end. One interrupt stops further attempts, a second one stops waiting.

        Every step runs on another thread. An interrupt can break off the call that starts a step,
        so it is started again; to start a step twice does no harm.
        """
        if self._stop_error is not None or self._interrupts:
            run_in_thread(self._sender.stop)
        if self._interrupts > 1:
            run_in_thread(self._sender.cancel)
        finish = self._recorder.submit(self._finish)
        while not finish.done():
            wait([finish], timeout=_TICK)
            self._show()
        try:
            finish.result()
        except AccountingError as error:
            self._bug = error
        except Exception as error:  # noqa: BLE001  # the report comes all the same
            self._stop_error = self._stop_error or _unexpected(error)

    def _finish(self) -> None:
        """Wait for the requests in flight, and close the tracker and the journal; once."""
        if self._finished:
            return
        self._finished = True
        self._sender.finish()
        for result in self._sender.unrecorded:
            if result.doubts or result.outcome is Outcome.DELIVERED:
                for outcomes, rows in _rows_of(result.request):
                    outcomes.set_sent(rows)
        for result in self._sender.unrecorded:
            try:
                self._settle(result, only_pending=True)
            except Exception as error:  # noqa: BLE001  # close() records what is left
                self._stop_error = self._stop_error or _unexpected(error)
        self._tracker.close(*self._unsent_reason)
        if self._files is not None:
            state = "stopped" if self._sender.stopped or self._final_error else "done"
            self._files.close("interrupted" if self._interrupts else state, self._tracker.counts)
            self._check_files()
        if self._journal is not None:
            codes: dict[str, int] = {}
            for item in (*self._tracker.reasons(), *self._tracker.skipped()):
                name = f"{item.outcome} {item.code}"
                codes[name] = codes.get(name, 0) + item.rows
            try:
                self._journal.close(self._tracker.counts, codes)
            except WRITE_ERRORS as error:
                self._sender.stop(_journal_error(self._journal, error))

    def _check_files(self) -> None:
        """Stop the run if outcomes could not be written."""
        if self._files is not None and (error := self._files.error) is not None:
            self._sender.stop(
                StoppedError(
                    f"The run stopped because outcomes cannot be written to {self._files.folder} "
                    f"({error.strerror or error}). Make room, and go on with the same journal: the "
                    "next run writes the outcome of every row again."
                )
            )

    @property
    def _unsent_reason(self) -> tuple[str, str]:
        if self._canary is not None and not self._sender.stopped:
            return "canary", f"a canary of the first {self._canary:,} rows was sent"
        return "stopped", "the run stopped before this row's turn"

    # --- Snapshots and the report ---

    def _show(self, state: State = State.RUNNING) -> None:
        if state is State.RUNNING and (self._interrupts or self._sender.stopped):
            state = State.STOPPING
        counts = self._tracker.counts
        total = self._prepared_source.source.rows  # of a stream, unknown until it ends
        if total is not None and self._canary is not None:
            total = min(total, self._canary)
        self._progress.show(
            state,
            total=total,
            counts=counts,
            stats=self._stats(),
            reasons=self._tracker.reasons(),
            in_flight=self._sender.in_flight,
            concurrency=self._sender.concurrency,
            seconds_away=self._sender.seconds_away,
        )

    def _show_end(self) -> None:
        """Show the last snapshot."""
        stopped = self._final_error is not None or self._sender.stopped
        state = State.STOPPED if stopped else State.DONE
        try:
            self._show(State.INTERRUPTED if self._interrupts else state)
            self._progress.close()
        except KeyboardInterrupt:  # once is enough for a display
            self._interrupts += 1

    def _stats(self) -> RunStats:
        """The figures of the run so far."""
        totals = self._totals
        recorded = self._journal.maybe_twice if self._journal else 0
        return replace(
            self._sender.stats,
            packed_requests=totals.packed_requests,
            packed_bytes=totals.packed_bytes,
            seconds=time.monotonic() - self._started,
            delivered_before=totals.delivered_before,
            maybe_twice=self._tracker.maybe_twice(recorded),
        )

    def _make_report(self) -> Report:
        counts = self._tracker.counts
        return Report(
            counts=counts,
            stats=self._stats(),
            planned_seconds=self._planned_seconds,
            canary=self._canary,
            interrupted=self._interrupts > 0,
            timeline=self._progress.timeline,
            journal=self._journal.path if self._journal else None,
            fixes=self._totals.fixes,
            notes=self._notes(),
            url=self._destination.url,
            _mapping=self._prepared_source.mapping,
            _left_out=described_text(self._prepared_source.where, self._excluded),
            _failure_log=self._tracker,
            _send_again=self._send_again,
            _outcome_files=() if self._files is None else (self._files,),
        )

    def _notes(self) -> tuple[str, ...]:
        notes = run_notes(
            self._prepared_source.source,
            self._prepared_source.proposal,
            unread=self._tracker.unread,
            naive=self._totals.naive,
            event_keys=self._totals.event_keys,
            duplicates=self._totals.duplicates,
            left_out=left_out_notes(
                self._tracker.skipped(),
                sum(self._tracker.counts.values()),
                self._prepared_source.where,
                self._excluded,
            ),
        )
        if self._canary is None:
            return notes
        journal = self._journal.path if self._journal else None
        return (*notes, canary_note(self._canary, journal))


def _rows_of(request: Request) -> Iterator[tuple[ChunkOutcomes, npt.NDArray[np.int64]]]:
    """The rows of a request, by the chunk that tracks them."""
    for piece in request.pieces:
        yield piece.owner.chunk_outcomes, piece.owner.rows[piece.start : piece.stop]


def _unexpected(error: BaseException) -> StoppedError:
    stopped = StoppedError(
        f"The run stopped at an unexpected error ({type(error).__name__}). The report has the "
        "outcome of every row."
    )
    stopped.__cause__ = error
    return stopped


def _journal_error(journal: RunJournal, error: sqlite3.Error | OSError) -> StoppedError:
    cause = why(error) if isinstance(error, sqlite3.Error) else error.strerror or error
    place = "" if journal.path is None else f" {journal.path}"
    return StoppedError(
        f"The run stopped because the journal{place} cannot be written any more ({cause}). "
        "The next run would send again what was delivered after the last entry of the journal."
    )

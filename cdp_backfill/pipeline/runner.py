"""One run: from the chunks of a table to an account of every row."""

from __future__ import annotations

import sqlite3
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from cdp_backfill.delivery import Result, Sender
from cdp_backfill.errors import BadInputError, RecentRowsError, StoppedError
from cdp_backfill.messages.packing import Packer, Request
from cdp_backfill.model import api_facts
from cdp_backfill.model.outcomes import Outcome
from cdp_backfill.pipeline.prepared_source import (
    DUPLICATE,
    SKIPPED,
    PreparedSource,
    in_words,
    notes,
)
from cdp_backfill.results.progress import Progress, Reason, Snapshot, State, Timeline
from cdp_backfill.results.reports import Report
from cdp_backfill.results.tracker import OutcomeTracker

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from cdp_backfill.model.destination import Destination
    from cdp_backfill.model.outcomes import Fix
    from cdp_backfill.pipeline.journal import Journal
    from cdp_backfill.pipeline.preparation import Prepared
    from cdp_backfill.results.chunk_outcomes import ChunkOutcomes
    from cdp_backfill.results.run_stats import RunStats
    from cdp_backfill.sources import Chunk


_TICK: Final = 0.2
_REASONS: Final = 3  # shown while it runs; the report has all
_REASON_WORDS: Final = 120


@dataclass(frozen=True, slots=True, eq=False)
class _EncodedRows:
    """The rows of a chunk that some encoded messages belong to, one each."""

    chunk_outcomes: ChunkOutcomes
    rows: npt.NDArray[np.int64]


@dataclass(slots=True)
class _Totals:
    """Counts of a run that only the runner knows."""

    maybe_twice: int = 0
    packed_requests: int = 0
    packed_bytes: int = 0
    naive: int = 0
    delivered_before: int = 0
    longest: int = 0
    in_doubt: int = 0
    duplicates: int = 0
    fixes: dict[Fix, int] = field(default_factory=dict)
    event_keys: set[str] = field(default_factory=set)


class Run:
    """One run down the prepared_source.

    Args:
        prepared_source: The table, the mapping and the options.
        destination: Where to, with a key.
        progress: Shows how it is doing.
        journal: What is known to be delivered, or None to do without.
        canary: Rows after which to stop, or None.
        processes: How many read, check and encode.
        send_again: Sends a frame in the same way; for :meth:`Report.retry`.
    """

    def __init__(
        self,
        prepared_source: PreparedSource,
        destination: Destination,
        progress: Progress,
        *,
        journal: Journal | None = None,
        canary: int | None = None,
        processes: int = 1,
        send_again: Callable[[pd.DataFrame], Report] | None = None,
    ) -> None:
        self._prepared_source = prepared_source
        self._journal = journal
        self._canary = canary
        self._processes = processes
        self._send_again = send_again
        self._destination = destination
        self._progress = progress
        self._started = time.monotonic()
        self._interrupts = 0
        self._ended = False
        self._timeline = Timeline()
        self._tracker = OutcomeTracker(prepared_source.source)
        self._packer = Packer(max_messages=destination.max_messages)
        self._totals = _Totals()
        self._sender = Sender(
            destination,
            self._settle,
            on_departure=self._departing,
            taken_before=bool(journal and journal.known),
        )
        # Only threads that an interrupt cannot reach write to the tracker: what one of them
        # begins to write down is written down.
        self._scribe = ThreadPoolExecutor(1, thread_name_prefix="cdp-backfill-scribe")

    def report(self) -> Report:
        """Run, and say what became of it."""
        try:
            return self._report()
        finally:
            self._scribe.shutdown()
            if self._journal is not None:
                self._journal.abandon()

    def _report(self) -> Report:
        trouble: StoppedError | None = None
        try:
            self._carry()
        except KeyboardInterrupt:
            self._interrupts = 1
        except BadInputError as error:  # a file that cannot be read to its end, say
            trouble = StoppedError(f"Reading stopped: {error}")
            trouble.__cause__ = error
        except RecentRowsError as error:
            trouble = error
        except BaseException as error:  # noqa: BLE001  # Arrow's panics are no Exceptions
            trouble = StoppedError(
                f"The run was stopped by an unexpected error ({type(error).__name__}). What went "
                "before is in the report."
            )
            trouble.__cause__ = error
        self._patiently(stop=trouble is not None)
        ended = self._sender.error or trouble
        self._show_end(State.STOPPED if ended is not None else State.DONE)
        report = self._written()
        if isinstance(ended, StoppedError):
            ended.report = report
        if ended is not None:
            raise ended
        return report

    def _end(self) -> None:
        """Wait for what is under way, and close the accounts; once."""
        if not self._ended:
            self._ended = True
            self._sender.finish()
            self._close()

    def _patiently(self, *, stop: bool) -> None:
        """Wait for the end: an interrupt stops further attempts, a second one all waiting.

        Everything is done on other threads, and begun again here after each interrupt until it
        is begun: none of it minds being begun twice.
        """
        ending: Future[None] | None = None
        stopped, cancelled = False, False
        while True:
            try:
                if (stop or self._interrupts) and not stopped:
                    self._aside(self._sender.stop)
                    stopped = True
                if self._interrupts > 1 and not cancelled:
                    self._aside(self._sender.cancel)
                    cancelled = True
                ending = ending or self._scribe.submit(self._end)
                while not ending.done():
                    wait([ending], timeout=_TICK)
                    self._show()
                return ending.result()
            except KeyboardInterrupt:
                self._interrupts += 1

    @staticmethod
    def _aside(action: Callable[[], None]) -> None:
        """Do it on another thread, where an interrupt cannot come in between."""
        thread = threading.Thread(target=action, name="cdp-backfill-aside", daemon=True)
        thread.start()
        thread.join()

    def _close(self) -> None:
        """Settle what is left; note in the journal how it ended."""
        self._tracker.close(*self._unsent)
        if self._journal is not None:
            codes: dict[str, int] = {}
            for found in self._tracker.reasons():
                name = f"{found.outcome} {found.code}"
                codes[name] = codes.get(name, 0) + found.rows
            try:
                self._journal.close(self._tracker.counts, codes)
            except sqlite3.Error as error:
                self._sender.stop(_unwritable(self._journal, error))

    def _carry(self) -> None:
        columns = (
            [
                *dict.fromkeys(
                    (*self._prepared_source.binding.columns, *self._tracker.lineage.columns)
                )
            ]
            if self._prepared_source.source.keeps_rows
            else self._prepared_source.source.schema.names  # a row that fails is given back whole
        )
        knows = self._journal.knows if self._journal is not None else None
        found = self._prepared_source.prepared(
            columns, knows=knows, rows=self._canary, processes=self._processes
        )
        with closing(found):
            for chunk, prepared in found:
                self._pack(chunk, prepared)
                if self._sender.stopped:
                    break
                self._show()
        for request in self._packer.flush():
            self._hand_over(request)
        self._wait()

    def _pack(self, chunk: Chunk, prepared: Prepared) -> None:
        """Begin to account for a chunk, and hand over the requests that it fills."""
        owners = self._scribe.submit(self._open, chunk, prepared).result()
        if self._prepared_source.recent == "raise" and prepared.recent.any():
            raise RecentRowsError(
                "The run was stopped at the first rows that are younger than "
                f"{api_facts.RECENT_HOURS} hours: they can trigger campaigns and messages to "
                "people. recent='hold' leaves them out, recent='send' sends them."
            )
        for (encoded, _), owner in zip(prepared.encoded, owners, strict=True):
            for request in self._packer.feed(encoded, owner):
                self._hand_over(request)

    def _hand_over(self, request: Request) -> None:
        self._totals.packed_requests += 1
        self._totals.packed_bytes += request.size
        self._totals.longest = max(self._totals.longest, len(request))
        while not self._sender.offer(request) and not self._sender.stopped:
            self._show()

    def _wait(self) -> None:
        while not self._sender.done():
            self._show()

    def _open(self, chunk: Chunk, prepared: Prepared) -> list[_EncodedRows]:
        """Begin to account for a chunk, with the rows that will not be sent."""
        tracker, batch = self._tracker, prepared.messages
        outcomes = tracker.open(chunk)
        tracker.set_events(outcomes, batch)
        self._totals.naive += batch.naive
        self._totals.event_keys |= batch.event_keys
        for fix, cells in batch.problems.fixes.items():
            self._totals.fixes[fix] = self._totals.fixes.get(fix, 0) + cells
        self._totals.duplicates += len(prepared.duplicates)
        tracker.settle(outcomes, prepared.skipped, Outcome.SKIPPED, code="skipped", reason=SKIPPED)
        tracker.settle(
            outcomes, prepared.duplicates, Outcome.SKIPPED, code="duplicate", reason=DUPLICATE
        )
        tracker.add_dropped(outcomes, prepared.dropped)
        tracker.settle(outcomes, prepared.known, Outcome.DELIVERED)
        self._totals.delivered_before += len(prepared.known)
        for rows, problems in batch.problems.groups():
            tracker.settle(
                outcomes,
                batch.rows[rows],
                Outcome.INVALID,
                code=problems[0].code,
                reason=in_words(problems),
                problems=problems,
            )
        tracker.settle(
            outcomes,
            batch.rows[prepared.held],
            Outcome.HELD,
            code="recent",
            reason=f"younger than {api_facts.RECENT_HOURS} hours",
        )
        owners = []
        for encoded, rows in prepared.encoded:
            tracker.set_message_ids(outcomes, rows, encoded.ids)
            owners.append(_EncodedRows(outcomes, rows))
        return owners

    def _departing(self, on_wire: int) -> None:
        """Note how many rows a crash could leave in doubt; called by the workers."""
        in_doubt = on_wire * self._totals.longest
        if self._journal is not None and in_doubt > self._totals.in_doubt:
            self._totals.in_doubt = in_doubt
            try:
                self._journal.doubt(in_doubt)
            except sqlite3.Error as error:
                self._sender.stop(_unwritable(self._journal, error))

    def _settle(self, result: Result) -> None:
        """Write down a result; called by the workers, one at a time."""
        if result.outcome is Outcome.DELIVERED and self._journal is not None:
            pieces = result.request.pieces
            try:
                self._journal.add([p.encoded.digests[p.start : p.stop] for p in pieces])
            except sqlite3.Error as error:
                self._sender.stop(_unwritable(self._journal, error))
        if result.doubtful:
            self._totals.maybe_twice += len(result.request)
        for piece in result.request.pieces:
            self._tracker.settle(
                piece.owner.chunk_outcomes,
                piece.owner.rows[piece.start : piece.stop],
                result.outcome,
                code=result.code,
                reason=result.reason,
                status=result.status,
                attempts=result.attempts,
            )

    def _show(self, state: State = State.RUNNING) -> None:
        counts = self._tracker.counts
        settled = sum(counts[outcome] for outcome in Outcome if outcome.settled)
        rows = sum(counts.values()) - counts[Outcome.UNSENT]
        total = self._prepared_source.source.rows
        if state is State.RUNNING and (self._interrupts or self._sender.stopped):
            state = State.STOPPING
        snapshot = Snapshot(
            rows=rows,
            total=min(total, self._canary) if total is not None and self._canary else total,
            not_delivered=rows - settled,
            in_flight=self._sender.in_flight,
            level=self._sender.concurrency,
            counts=counts,
            reasons=self._reasons() if rows > settled else (),
            state=state,
            stats=self._stats(counts),
        )
        self._timeline.add(snapshot)
        self._progress.update(snapshot)

    def _show_end(self, state: State) -> None:
        """Show how it ended; an interrupt cannot take the report away any more."""
        try:
            self._show(State.INTERRUPTED if self._interrupts else state)
            self._progress.close()
        except KeyboardInterrupt:
            self._interrupts += 1

    def _reasons(self) -> tuple[Reason, ...]:
        """The most frequent reasons so far."""
        found: dict[tuple[str, str], int] = {}
        for item in self._tracker.reasons():
            if item.outcome != Outcome.UNSENT:
                key = item.code, _briefly(item.reason)
                found[key] = found.get(key, 0) + item.rows
        most = sorted(found.items(), key=lambda item: -item[1])
        return tuple(Reason(code, words, rows) for (code, words), rows in most[:_REASONS])

    def _stats(self, counts: dict[str, int]) -> RunStats:
        """The figures of the run so far.

        Args:
            counts: Rows by outcome so far.
        """
        totals = self._totals
        maybe_twice = totals.maybe_twice + (self._journal.lost_sight_of if self._journal else 0)
        return replace(
            self._sender.stats,
            packed_requests=totals.packed_requests,
            packed_bytes=totals.packed_bytes,
            seconds=time.monotonic() - self._started,
            delivered_before=totals.delivered_before,
            maybe_twice=min(counts[Outcome.DELIVERED], maybe_twice),
        )

    def _written(self) -> Report:
        counts = self._tracker.counts
        return Report(
            counts=counts,
            stats=self._stats(counts),
            canary=self._canary,
            interrupted=self._interrupts > 0,
            timeline=tuple(self._timeline.snapshots),
            journal=self._journal.path if self._journal else None,
            fixes=self._totals.fixes,
            notes=(*self._notes(), *self._canary_notes()),
            url=self._destination.url,
            _mapping=self._prepared_source.mapping,
            _failure_log=self._tracker,
            _send_again=self._send_again,
        )

    def _notes(self) -> tuple[str, ...]:
        totals, mapping = self._totals, self._prepared_source.mapping
        source = self._prepared_source.source
        # Of rows that were not read, nobody knows what is in them.
        all_read = source.rows is not None and not self._tracker.unread
        keys = totals.event_keys if all_read else set(mapping.events)
        found = (*source.notes, *notes(self._prepared_source.proposal, totals.naive, keys))
        if source.rows is None:
            found = (
                *found,
                f"{source.title} was not read to its end: rows beyond are not counted.",
            )
        elif self._tracker.unread and not source.ordered:
            unread = (
                f"{self._tracker.unread:,} rows were not read, and are no part of the failures: a "
                "query can give its rows in another order each time. Send all of it again; with "
                "a journal, what has arrived is not sent twice."
            )
            found = (*found, unread)
        if totals.duplicates:
            left_out = (
                f"{totals.duplicates:,} rows were skipped: {DUPLICATE}. Where that row did not "
                "arrive, neither did they: after a repair, send the whole table again."
            )
            found = (*found, left_out)
        return found

    @property
    def _unsent(self) -> tuple[str, str]:
        if self._canary is not None and not self._sender.stopped:
            return "canary", f"a canary of the first {self._canary:,} rows was sent"
        return "stopped", "the run stopped before this row's turn"

    def _canary_notes(self) -> tuple[str, ...]:
        if self._canary is None:
            return ()
        path = self._journal.path if self._journal else None
        note = (
            f"This was a canary of the first {self._canary:,} rows. Look for a few of them in "
            "Customer.io: on the person's page, and in the incoming data of the source under "
            "Data & Integrations. Check names, times and properties, and that nobody was "
            "messaged. Events older than 30 days count for segments but do not show in activity "
            "logs. Then go on: send again without canary and with "
            f"journal={str(path)!r}, or resume({str(path)!r}). "
            "What has arrived is not sent twice."
        )
        return (note,)


def _briefly(reason: str) -> str:
    """A reason without what a server said: it may repeat what it was sent, and logs are kept."""
    if reason.startswith("the server answered "):
        reason = reason.partition(":")[0]
    return reason if len(reason) <= _REASON_WORDS else f"{reason[: _REASON_WORDS - 1].rstrip()}…"


def _unwritable(journal: Journal, error: sqlite3.Error) -> StoppedError:
    return StoppedError(
        f"The journal {journal.path} cannot be written any more ({error}), so the run was stopped. "
        "What was delivered after its last entry would be sent again by the next run."
    )

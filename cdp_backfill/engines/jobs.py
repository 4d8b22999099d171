"""A job whose table lies with an engine: plans and sends it there, in parts."""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cdp_backfill.engines.engine import INTERRUPT
from cdp_backfill.engines.folder_journal import FolderJournal
from cdp_backfill.engines.folder_report import parts_without, report_of_folder
from cdp_backfill.engines.partition_job import PartitionJob
from cdp_backfill.engines.reports import as_summary, notes_of
from cdp_backfill.engines.tasks_progress import TasksProgress
from cdp_backfill.engines.work import GuardPart, PlanPart, SendPart, unpacked
from cdp_backfill.errors import ApiKeyError, BadInputError, JournalError, StoppedError
from cdp_backfill.messages.packing import Packer
from cdp_backfill.model.api_facts import API_KEY_VARIABLE
from cdp_backfill.model.destination import choose_destination
from cdp_backfill.pipeline.job import Job, require_answers
from cdp_backfill.pipeline.leaving_out import described_text, with_last_run
from cdp_backfill.pipeline.plan_statistics import PlanStatistics
from cdp_backfill.pipeline.planner import plan_from, plan_with_questions
from cdp_backfill.pipeline.recency_guard import RecentRows
from cdp_backfill.results.lineage import ORIGIN_COLUMNS
from cdp_backfill.results.part_reports import PartsRun, error_of_parts, report_of_parts
from cdp_backfill.results.progress import State, check_progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp_backfill.engines.engine import Engine, MappedParts
    from cdp_backfill.model.destination import Destination
    from cdp_backfill.pipeline.plans import Plan
    from cdp_backfill.pipeline.prepared_source import PreparedSource
    from cdp_backfill.results.reports import Report

_INSTEAD: Final = {
    "canary": "Send the first rows as a table of their own, for example with df.limit(1000).",
    "outcomes": "{failures} has each row that did not arrive.",
    "identify": "Send a pandas DataFrame with identify=, such as that of df.toPandas().",
    "journal": "Name a folder that all workers can write: a path, or a URI such as "
    "'s3://bucket/folder'.",
    "processes": "The engine runs the parts: divide the table, for example with df.repartition(8).",
}
"""Options that do not work with an engine, and what to do instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineJob(Job):
    """A job whose table lies with an engine.

    Attributes:
        engine: The engine, with the table.
    """

    engine: Engine

    @property
    def can_be_loaded(self) -> bool:
        """A file of a plan would be sent from this machine, and not where the table lies."""
        return False

    def plan(self) -> Plan:
        """Count what a run would do with the rows of each part, and add that up.

        Raises:
            BadInputError: The mapping does not fit the table, or an option does not work here.
        """
        destination = choose_destination(self.options.destination)
        self._refuse_options()
        if not self.proposal.complete:
            return plan_with_questions(self, destination)
        prepared = self.prepare()
        started = time.monotonic()
        parts = self._for_parts(prepared, destination)
        if prepared.recent == "raise":  # a plan counts such rows, but not as held
            parts = replace(parts, recent="send")
        mapped = self.engine.map_parts(PlanPart(parts), prepared.source.schema.names)
        packer = Packer(max_messages=destination.max_messages)
        total = PlanStatistics(packer, prepared.binding.schema.names, prepared.limits)
        for each in sorted(map(unpacked, mapped.summaries), key=lambda found: found.part):
            if each.found is not None:
                total.merge(each.found)
        total.finish()
        return plan_from(
            replace(self, proposal=prepared.proposal),
            prepared,
            total,
            seconds=time.monotonic() - started,
        )

    def send(self) -> Report:
        """Send each part from a worker.

        Raises:
            BackfillError: See :func:`cdp_backfill.send`. Nothing was sent unless the error has a
                report.
        """
        require_answers(self.proposal)
        check_progress(self.options.progress)
        self._refuse_options()
        prepared = self.prepare()
        self._check_address()
        destination = choose_destination(self.options.destination)
        if destination.api_key is not None and destination.key_from is None:
            raise ApiKeyError(
                f"A key in this process does not travel to the workers of {self.engine.name}. Set "
                f"${API_KEY_VARIABLE} on the workers and pass a Destination without api_key=, or "
                "pass Destination(key_from=...) with the path of a file that each worker can "
                "read, or a function that returns the key."
            )
        self.engine.check(destination)
        journal, notes = self._journal(prepared, destination)
        parts = self._guarded(prepared, self._for_parts(prepared, destination))
        with ExitStack() as begun:
            if journal is not None:
                journal.begin({"slots": parts.slots})
                begun.callback(journal.release)
            progress = TasksProgress(self.options.progress, prepared.mapping.call)
            begun.callback(progress.close)
            return self._send_parts(prepared, parts, journal, notes, progress)

    def _send_parts(
        self,
        prepared: PreparedSource,
        parts: PartitionJob,
        journal: FolderJournal | None,
        notes: tuple[str, ...],
        progress: TasksProgress,
    ) -> Report:
        started = time.monotonic()
        with _stop_file(journal, wanted=self.engine.shares_files) as (path, stopped):
            parts = replace(parts, stop_file=path)
            names = prepared.source.schema.names
            shared = None if journal is None else journal.shared
            try:
                mapped = self.engine.map_parts(
                    SendPart(parts, shared),
                    names,
                    with_failures=True,
                    on_tasks=progress.tasks_ended,
                )
            except StoppedError as failed:
                if journal is not None:
                    failed.report = report_of_folder(journal.store.location)
                raise
            interrupted = stopped() or INTERRUPT in mapped.lost
        report, error = self._report(
            prepared,
            parts,
            mapped,
            seconds=time.monotonic() - started,
            interrupted=interrupted,
            journal=journal,
            notes=notes,
        )
        if journal is not None and not mapped.lost:
            with suppress(JournalError):  # the report is worth more than its copy
                journal.end(report.counts)
        ended = State.INTERRUPTED if report.interrupted else State.DONE
        progress.end(report, State.STOPPED if error is not None else ended)
        if error is not None:
            raise error
        return report

    def _journal(
        self, prepared: PreparedSource, destination: Destination
    ) -> tuple[FolderJournal | None, tuple[str, ...]]:
        """The shared journal of the call, which has yet to begin, and notes on what differs.

        Raises:
            JournalError: It cannot be read, belongs to another backfill, or its last run left out
                rows that this call does not.
        """
        place, columns = self.options.journal, prepared.source.schema.names
        if place is None or isinstance(place, bool):
            return None, ()
        journal = FolderJournal(
            place,
            mapping=prepared.mapping,
            url=destination.url,
            columns=columns,
            options=self.options.remembered(),
            keeps_table=set(ORIGIN_COLUMNS) <= set(columns),
        )
        where, excluded = self.options.where, self.options.exclude
        return journal, with_last_run(journal.path, journal.last_options, where, excluded)

    def _for_parts(self, prepared: PreparedSource, destination: Destination) -> PartitionJob:
        return PartitionJob(
            mapping=prepared.mapping,
            destination=destination,
            recent="send" if prepared.recent == "send" else "hold",
            context_scope=prepared.context_scope,
            where=prepared.where,
            exclude=self.options.exclude,
            now=prepared.now,
        )

    def _guarded(self, prepared: PreparedSource, parts: PartitionJob) -> PartitionJob:
        """Let the workers look before anything is sent: for recent rows, and for the key.

        Returns:
            The job with the number of parts that run at a time.

        Raises:
            RecentRowsError: There are recent rows.
            ApiKeyError: A worker has no key.
        """
        slots = self.engine.slots
        is_raising = self.options.recent == "raise"
        if not is_raising and (slots is not None or parts.destination.rate_limit is None):
            return replace(parts, slots=slots or 1)
        work = GuardPart(parts, is_raising)
        mapped = self.engine.map_parts(work, list(prepared.binding.columns))
        found = list(map(unpacked, mapped.summaries))
        problem = next((each.key_error for each in found if each.key_error), None)
        if problem is not None:
            raise ApiKeyError(
                f"Nothing was sent. A worker of {self.engine.name} reports: {problem}"
            )
        recent = RecentRows()
        for each in found:
            recent.merge(each.found)
        recent.refuse()
        number = max(1, len(found))
        return replace(parts, slots=number if slots is None else min(slots, number))

    def _report(
        self,
        prepared: PreparedSource,
        parts: PartitionJob,
        mapped: MappedParts,
        *,
        seconds: float,
        interrupted: bool,
        journal: FolderJournal | None,
        notes: tuple[str, ...],
    ) -> tuple[Report, StoppedError | None]:
        summaries = [as_summary(each) for each in mapped.summaries]
        if mapped.lost and journal is not None:
            with suppress(JournalError, OSError):  # the other parts' account is worth more
                came = [each.part for each in summaries]
                summaries += parts_without(journal.store, journal.run, came)
        run = PartsRun(
            schema=prepared.source.schema,
            url=parts.destination.url,
            mapping=prepared.mapping,
            slots=parts.slots,
            seconds=seconds,
            uncounted=mapped.uncounted and journal is None,
            load=mapped.load,
            frame=mapped.frame,
            frame_name=(
                self.engine.failures_name
                if mapped.load is not None
                else f"the table itself, because {self.engine.name} lost them"
            ),
            left_out=described_text(prepared.where, self.options.exclude),
            journal=None if journal is None else journal.path,
            has_journal=journal is not None,
            interrupted=interrupted,
            send_again=(
                _send_whole_table
                if journal is not None
                else lambda frame, first: self._retry(prepared.proposal, frame, first, None)
            ),
        )
        report = report_of_parts(
            summaries, run, notes=(*notes, *notes_of(summaries, parts, prepared.proposal))
        )
        error = error_of_parts(summaries, report)
        if mapped.lost and error is None:
            error = StoppedError(self._lost_parts(mapped.lost, has_journal=journal is not None))
            error.report = report
            error.leave_out_rows()
        return report, error

    def _lost_parts(self, kinds: list[str], *, has_journal: bool) -> str:
        """Why parts have no summary, and what to do."""
        cause = (
            f"You interrupted the run, and {self.engine.name} cancelled its parts."
            if INTERRUPT in kinds
            else f"{self.engine.name} gave up parts of the table ({', '.join(sorted(set(kinds)))})."
        )
        what = (
            "Of these parts, the report counts only what the journal recorded. Send the table "
            "again with the same journal."
            if has_journal
            else "The report does not count the rows of these parts, and some of them may have "
            "arrived. To send the table again sends every row again, with the same message id."
        )
        return f"{cause} {what}"

    def _refuse_options(self) -> None:
        options = self.options
        used = {
            "canary": options.canary is not None,
            "outcomes": options.outcomes is not None,
            "identify": self.identify is not None,
            "journal": options.journal is True,
            "processes": options.processes != 1,
        }
        for name, is_used in used.items():
            if is_used:
                instead = _INSTEAD[name].format(failures=self.engine.failures_name)
                text = "journal=True" if name == "journal" else f"{name}="
                raise BadInputError(
                    f"{text} does not work with a table of {self.engine.name}. {instead}"
                )


def _send_whole_table(*_: object) -> Report:
    """Refuse to send failures without their journal.

    Raises:
        BadInputError: Always.
    """
    raise BadInputError(
        "Send the whole table again with the same journal, on its engine: only the rows that are "
        "not known to be delivered go."
    )


@contextmanager
def _stop_file(journal: FolderJournal | None, *, wanted: bool) -> Iterator[tuple[Path | None, Any]]:
    """A file that an interrupt creates, so that the parts stop and are reported.

    Engines react to an interrupt by killing what they run, and all accounts are lost. For the time
    of the run, the first interrupt therefore only creates the file; a second one does what it did
    before.

    Args:
        journal: The shared journal, in which workers everywhere look too, or None.
        wanted: Whether the workers see the files of this machine.

    Yields:
        The path, or None; and a function that returns whether there was an interrupt.
    """
    is_heard = wanted or journal is not None
    if not is_heard or threading.current_thread() is not threading.main_thread():
        yield None, lambda: False
        return
    with tempfile.TemporaryDirectory(prefix="cdp-backfill-") as folder:
        path = Path(folder) / "stop"
        before = signal.getsignal(signal.SIGINT)

        def stop(*_: object) -> None:
            path.touch()
            signal.signal(signal.SIGINT, before)
            if journal is not None:
                with suppress(OSError, JournalError):
                    journal.stop()

        signal.signal(signal.SIGINT, stop)
        try:
            yield path if wanted else None, path.exists
        finally:
            signal.signal(signal.SIGINT, before)

"""A job: a table, its mapping and how to send it. A plan holds one; send() runs one."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import xxhash

from cdp_backfill.errors import BadInputError, DestinationError, MappingError, SourceError
from cdp_backfill.inference.proposal import Proposal
from cdp_backfill.inference.propose import version_columns
from cdp_backfill.messages import text_columns
from cdp_backfill.model.destination import choose_destination, resolve
from cdp_backfill.model.outcomes import FAILURE_COLUMNS
from cdp_backfill.pipeline.fixed_mapping import with_fixed_mapping
from cdp_backfill.pipeline.identities import ambiguous_ids, identify_column, open_identities
from cdp_backfill.pipeline.identity_pairs import anonymous_ids
from cdp_backfill.pipeline.journal import Journal, identities_path
from cdp_backfill.pipeline.journal_file import journal_path
from cdp_backfill.pipeline.leaving_out import described, with_journal
from cdp_backfill.pipeline.prepared_source import PreparedSource
from cdp_backfill.pipeline.recency_guard import refuse_recent
from cdp_backfill.pipeline.runner import Run
from cdp_backfill.pipeline.runs_in_turn import send_in_turn
from cdp_backfill.results.lineage import ORIGIN_COLUMNS
from cdp_backfill.results.outcome_files import outcome_folder
from cdp_backfill.results.progress import ProgressChoice, check_progress, make_progress
from cdp_backfill.sources import Source, Unreadable, open_source
from cdp_backfill.sources.fingerprint import current_fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import pandas as pd

    from cdp_backfill.messages.encoding import ContextScope
    from cdp_backfill.model.destination import Destination
    from cdp_backfill.model.distinct import DigestSet
    from cdp_backfill.model.mapping import Mapping
    from cdp_backfill.pipeline.excluded_ids import ExcludedIds
    from cdp_backfill.pipeline.fixed_mapping import Given
    from cdp_backfill.pipeline.preparation import Recent
    from cdp_backfill.results.reports import Report


REMEMBERED: Final = ("recent", "context_scope", "where", "exclude")
"""Options that a journal remembers: they decide which rows go, or how a message is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOptions:
    """How to send a table; :func:`cdp_backfill.send` describes each option."""

    destination: Destination | None = None
    progress: ProgressChoice = True
    journal: str | Path | bool | None = None
    canary: int | None = None
    where: str | None = None
    exclude: ExcludedIds | None = None
    recent: Recent = "raise"
    context_scope: ContextScope = "message"
    unreadable: Unreadable = "raise"
    processes: int = 1
    now: datetime | None = None
    outcomes: str | Path | None = None

    def remembered(self) -> dict[str, Any]:
        """The options that a journal remembers, as plain values for JSON."""
        values = {name: getattr(self, name) for name in REMEMBERED}
        return values | described(self.where, self.exclude)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A table, its mapping and how to send it.

    Attributes:
        source: The open table.
        proposal: The mapping, with the questions that are still open.
        options: How to send it.
        fingerprint: The fingerprint that the table must still have, or None to send any.
        identify: The identities to send first, as the caller passed them, or None.
        identities: The job that sends them; None before :meth:`with_identities`, or if there are
            none.
        planned_seconds: Least and most seconds that its plan expects, or None without a plan.
        given: What the call said about the mapping, if the rest was proposed; None if it passed a
            mapping. A journal then has the last word on what it left open.
        resumes: It goes on with what the journal says about table and options.
    """

    source: Source
    proposal: Proposal
    options: SendOptions
    fingerprint: tuple[Any, ...] | None = None
    identify: Any = None
    identities: Job | None = None
    planned_seconds: tuple[float, float] | None = None
    given: Given | None = None
    resumes: bool = False

    @property
    def can_be_loaded(self) -> bool:
        """Whether a file of its plan can be sent later."""
        return True

    @property
    def url(self) -> str:
        """The address that it would be sent to."""
        return choose_destination(self.options.destination).url

    def with_identities(self) -> Job:
        """The same job with that of the identities, for which the table may be read.

        Raises:
            BadInputError: The identities cannot be read, or their columns are unclear.
        """
        if self.identities is not None or self.identify is None:
            return self
        source, mapping = open_identities(
            self.identify,
            self.source,
            self.proposal.mapping,
            unreadable=self.options.unreadable,
            where=self.options.where,
            # The expression sees the columns in the types that it sees in the events.
            types=None if self.options.where is None else self.prepare().mapping.types,
        )
        # The rows of the table are chosen; its identities are a table of their own.
        options = replace(self.options, canary=None, processes=1, where=None)
        identities = Job(source=source, proposal=Proposal(mapping), options=options)
        return replace(self, identities=identities)

    def prepare(self, *, only: DigestSet | None = None) -> PreparedSource:
        """Bind the mapping to the table, whose column types are settled first.

        Args:
            only: See :class:`PreparedSource`.

        Raises:
            BadInputError: The mapping does not fit the table, or an option is wrong.
        """
        source, mapping = self.source, self.proposal.mapping
        versions = version_columns(source.schema.names)
        source = source.settled(text_columns(mapping, source.schema, versions), mapping.types)
        proposal = self.proposal
        if source.found_types is not None:
            # Other files under this mapping are read in the same way, and give the same ids.
            mapping = replace(mapping, types=dict(source.found_types))
            proposal = replace(proposal, mapping=mapping)
        is_track = mapping.call == "track"
        return PreparedSource(
            source,
            proposal,
            recent=self.options.recent,
            context_scope=self.options.context_scope,
            now=self.options.now,
            where=self.options.where,
            excluded=None if self.options.exclude is None else self.options.exclude.digests,
            ambiguous_ids=None if is_track else ambiguous_ids(source, mapping, self.options.where),
            only=only,
        )

    def send(self) -> Report:
        """Send the table.

        Raises:
            BackfillError: See :func:`cdp_backfill.send`.
        """
        path = self._journal_path(choose_destination(self.options.destination))
        if path is None or self.resumes:
            return self._send(path)
        notes = with_journal(path, self.options.where, self.options.exclude)
        proposal = self.proposal
        if self.given is not None:
            proposal = with_fixed_mapping(proposal, self.given, path)
        proposal = replace(proposal, notes=(*proposal.notes, *notes))
        return replace(self, proposal=proposal)._send(path)  # noqa: SLF001  # of this class

    def _send(self, path: Path | None) -> Report:
        """Send the table with this journal, or None."""
        require_answers(self.proposal)
        check_progress(self.options.progress)
        prepared = self.prepare()
        self._check_canary()
        self._check_processes()
        self._check_address()
        destination = resolve(self.options.destination)
        self.check_unchanged(prepared.source)
        job = self.with_identities()
        if self.options.recent == "raise" and self.source.replayable:
            refuse_recent(prepared)
        identities = job.identities
        journals: list[Journal] = []
        with ExitStack() as opened:
            if identities is None:
                begin = job.ready(prepared, destination, path, opened, journals)
                _begin_all(journals)
                return begin().report()
            first = identities.prepare(only=self._canary_ids(prepared))
            identities.check_unchanged(first.source)
            job = replace(job, identities=replace(identities, proposal=first.proposal))
            begin = job.ready(prepared, destination, path, opened, journals)
            first_path = path and identities_path(path)
            begin_first = identities.ready(
                first, destination, first_path, opened, journals, is_first=True
            )
            _begin_all(journals)
            return send_in_turn(begin_first, begin)

    def ready(
        self,
        prepared: PreparedSource,
        destination: Destination,
        path: Path | None,
        opened: ExitStack,
        journals: list[Journal],
        *,
        is_first: bool = False,
    ) -> Callable[[], Run]:
        """Open the journal, and return what makes the run.

        Args:
            prepared: The table and its mapping.
            destination: Where to send to, with a key.
            path: The journal, or None for none.
            opened: Releases the journal at the end, if no run has done so.
            journals: Gets the journal, which has yet to begin.
            is_first: Another run follows.
        """
        options, journal = self.options, None
        outcomes = None if options.outcomes is None else outcome_folder(options.outcomes)
        if path is not None:
            journal = Journal(
                path,
                mapping=_of_read_columns(prepared),
                url=destination.url,
                paths=self.source.paths,
                identify=self._described_identities(),
                options=options.remembered(),
                columns=self.source.schema.names,
                preset=None if self.given is None else self.given.preset,
                # Failures of an earlier run are a part of its table.
                keeps_table=self.resumes or set(ORIGIN_COLUMNS) <= set(self.source.schema.names),
                unreadable=options.unreadable,
            )
            opened.callback(journal.release)
            journals.append(journal)
        return lambda: Run(
            prepared,
            destination,
            make_progress(options.progress, keep_open=is_first),
            journal=journal,
            canary=options.canary,
            processes=options.processes,
            planned_seconds=self.planned_seconds if options.canary is None else None,
            send_again=lambda frame, first: self._retry(prepared.proposal, frame, first, path),
            outcomes=outcomes,
            excluded=options.exclude,
        )

    def _canary_ids(self, prepared: PreparedSource) -> DigestSet | None:
        """The anonymous ids of a canary's rows, or None without a canary."""
        canary, source = self.options.canary, prepared.source
        if canary is None:
            return None
        if not (source.replayable and source.ordered):
            raise BadInputError(
                f"canary= and identify= together read the first rows of {source.name} twice, and "
                "it may give others the second time. Write it to a table or a file first."
            )
        return anonymous_ids(source, prepared.binding, canary)

    def _described_identities(self) -> dict[str, Any] | None:
        """The identities, as the journal keeps them for a later run."""
        if self.identify is None:
            return None
        column = identify_column(self.identify, self.source, self.proposal.mapping)
        if column is not None:
            return {"column": column}
        return {"paths": self.identities.source.paths if self.identities else None}

    def _retry(
        self,
        proposal: Proposal,
        frame: pd.DataFrame,
        first: pd.DataFrame | None,
        journal: Path | None,
    ) -> Report:
        """Send failures of this job in the same way, with the same journal.

        Args:
            proposal: The mapping, with the types that the columns of the table have.
            frame: The failures.
            first: Failures of the identities to send before, or None.
            journal: The journal, or None.
        """
        options = replace(self.options, journal=journal or False, canary=None, processes=1)
        identities = None
        if self.identities is not None and first is not None:
            identities = replace(self.identities, source=open_source(first), fingerprint=None)
        return Job(
            source=open_source(frame),
            proposal=proposal,
            options=options,
            identities=identities,
            resumes=True,
        ).send()

    def _check_canary(self) -> None:
        canary = self.options.canary
        if canary is not None and not _is_count(canary):
            raise BadInputError("canary must be a whole number of rows, 1 or more.")

    def _check_processes(self) -> None:
        processes = self.options.processes
        if not _is_count(processes):
            raise BadInputError("processes must be a whole number, 1 or more.")
        if processes == 1:
            return
        if self.source.paths is None:
            raise BadInputError(
                "processes= works with files only, since each process reads them for itself. "
                "Leave it out, or write the table to a parquet file first."
            )
        if self.options.canary is not None or self.proposal.mapping.duplicates == "skip":
            raise BadInputError(
                "With processes=, row order is not kept, so canary= and duplicates='skip' cannot "
                "be combined with it. Leave one of them out."
            )

    def _check_address(self) -> None:
        """Refuse to send rows of a rehearsal to an account because nobody named a destination."""
        earlier, now = self.source.earlier_url, choose_destination(self.options.destination).url
        if self.options.destination is None and earlier not in (None, now):
            raise DestinationError(
                f"These rows were sent to {earlier} before and would now go to {now}. Name the "
                "destination, as in .cdp.send(destination=...)."
            )

    def check_unchanged(self, source: Source) -> None:
        """Refuse a table that has changed since its plan was made.

        Args:
            source: The table with its final column types.

        Raises:
            SourceError: It has changed.
        """
        if self.fingerprint is not None and current_fingerprint(source) != self.fingerprint:
            advice = (
                ""
                if source.ordered
                else " If the query gives other rows each time, write its result to a table first."
            )
            raise SourceError(
                f"{source.title} has changed since the plan was made. Nothing was sent. Make the "
                f"plan again.{advice}"
            )

    def _journal_path(self, destination: Destination) -> Path | None:
        """Where the journal is, or None for no journal."""
        journal, source = self.options.journal, self.source
        if isinstance(journal, str | Path):
            return journal_path(journal)
        if journal is None:
            is_remote_file = source.paths is not None and not destination.is_local
            journal = self.options.canary is not None or is_remote_file
        if not journal:
            return None
        if source.paths is not None:
            # Files of one name in two folders are two backfills.
            name, parts = Path(source.name).stem, source.paths
        else:  # its cells may be repaired in between, and its failures belong to it
            name = "table"
            parts = [each for each in source.schema.names if each not in FAILURE_COLUMNS]
        mark = xxhash.xxh3_64_hexdigest("\n".join(parts).encode("utf-8", "replace"))[:6]
        words = f"{name}-{mark}-{urlsplit(destination.url).netloc}"
        return Path(f"{re.sub(r'[^A-Za-z0-9._-]+', '-', words).strip('-')}.cdp-journal")


def with_remembered(
    options: SendOptions, remembered: dict[str, Any], passed: dict[str, Any]
) -> tuple[SendOptions, tuple[str, ...]]:
    """Options as a journal remembers them, and notes on those that a call replaces.

    Args:
        options: The options.
        remembered: What the journal remembers.
        passed: What the call passes; None for what the journal remembers.
    """
    chosen: dict[str, Any] = {n: remembered[n] for n in passed if n in remembered}
    notes = []
    for name, value in passed.items():
        if value is None:
            continue
        before = chosen.get(name, getattr(options, name))
        if value != before:
            notes.append(
                f"{name}={value!r} was passed for this run. The journal remembers "
                f"{name}={before!r}, and goes on remembering it."
            )
        chosen[name] = value
    return replace(options, **chosen), tuple(notes)


def _begin_all(journals: list[Journal]) -> None:
    """Begin, once nothing else can refuse the run any more: all of them, or none."""
    try:
        for journal in journals:
            journal.begin()
    except BaseException:
        for journal in journals:
            journal.undo_begin()
        raise


def require_answers(proposal: Proposal) -> None:
    """Stop where a question that every message depends on is open.

    Raises:
        MappingError: A question is open; the text says what to pass.
    """
    open_questions = [str(question) for question in proposal.questions if question.needed]
    if open_questions:
        raise MappingError(" ".join(open_questions))


def _of_read_columns(prepared: PreparedSource) -> Mapping:
    """The mapping of a run without the types of columns that change no message."""
    mapping = prepared.mapping
    if mapping.types is None:
        return mapping
    read = set(prepared.binding.columns)
    types = {name: kind for name, kind in mapping.types.items() if name in read}
    return replace(mapping, types=types)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1

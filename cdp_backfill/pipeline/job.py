"""A job: a table, its mapping and how to send it. A plan holds one; send() runs one."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import xxhash

from cdp_backfill.errors import BadInputError, DestinationError, MappingError, SourceError
from cdp_backfill.inference.propose import version_columns
from cdp_backfill.messages import text_columns
from cdp_backfill.model.destination import choose_destination, resolve
from cdp_backfill.pipeline.journal import Journal
from cdp_backfill.pipeline.prepared_source import PreparedSource
from cdp_backfill.pipeline.recency_guard import refuse_recent
from cdp_backfill.pipeline.runner import Run
from cdp_backfill.results.progress import Progress, make_progress
from cdp_backfill.sources import Source, open_source
from cdp_backfill.sources.fingerprint import current_fingerprint

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

    from cdp_backfill.inference.proposal import Proposal
    from cdp_backfill.messages.encoding import ContextScope
    from cdp_backfill.model.destination import Destination
    from cdp_backfill.pipeline.preparation import Recent
    from cdp_backfill.results.reports import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOptions:
    """How to send a table; :func:`cdp_backfill.send` describes each option."""

    destination: Destination | None = None
    progress: bool | Progress = True
    journal: str | Path | bool | None = None
    canary: int | None = None
    recent: Recent = "raise"
    context_scope: ContextScope = "message"
    processes: int = 1
    now: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A table, its mapping and how to send it.

    Attributes:
        source: The open table.
        proposal: The mapping, with the questions that are still open.
        options: How to send it.
        fingerprint: The fingerprint that the table must still have, or None to send any.
    """

    source: Source
    proposal: Proposal
    options: SendOptions
    fingerprint: tuple[Any, ...] | None = None

    def prepare(self) -> PreparedSource:
        """Bind the mapping to the table, whose column types are settled first.

        Raises:
            BadInputError: The mapping does not fit the table, or an option is wrong.
        """
        source = self.source
        text = text_columns(self.proposal.mapping, source.schema)
        return PreparedSource(
            source.settled(text | version_columns(source.schema.names)),
            self.proposal,
            recent=self.options.recent,
            context_scope=self.options.context_scope,
            now=self.options.now,
        )

    def send(self) -> Report:
        """Send the table.

        Raises:
            BackfillError: See :func:`cdp_backfill.send`.
        """
        require_answers(self.proposal)
        source, options = self.source, self.options
        prepared = self.prepare()
        self._check_canary()
        self._check_processes()
        self._check_address()
        destination = resolve(options.destination)
        path = self._journal_path(destination)
        if self.fingerprint is not None:
            self._check_unchanged(prepared.source)
        if options.recent == "raise" and source.replayable:
            refuse_recent(prepared)
        types = prepared.source.found_types
        journal = path and Journal(
            path,
            mapping=self.proposal.mapping,
            url=destination.url,
            paths=source.paths,
            types={name: types[name] for name in prepared.binding.columns if name in types},
        )
        return Run(
            prepared,
            destination,
            make_progress(options.progress),
            journal=journal or None,
            canary=options.canary,
            processes=options.processes,
            send_again=lambda frame: self._retry(frame, path),
        ).report()

    def _retry(self, frame: pd.DataFrame, journal: Path | None) -> Report:
        """Send failures of this job in the same way, with the same journal."""
        options = replace(self.options, journal=journal or False, canary=None, processes=1)
        return Job(source=open_source(frame), proposal=self.proposal, options=options).send()

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
                "destination, as in .cdp.send(destination=...), or set it with configure()."
            )

    def _check_unchanged(self, source: Source) -> None:
        if current_fingerprint(source) != self.fingerprint:
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
            return Path(journal)
        if journal is None:
            is_remote_file = source.paths is not None and not destination.is_local
            journal = self.options.canary is not None or is_remote_file
        if not journal:
            return None
        name, folder = "table", ""
        if source.paths is not None:
            # Files of one name in two folders are two backfills.
            folder = "-" + xxhash.xxh3_64_hexdigest("\n".join(source.paths).encode())[:6]
            name = Path(source.name).stem
        words = f"{name}{folder}-{urlsplit(destination.url).netloc}"
        return Path(f"{re.sub(r'[^A-Za-z0-9._-]+', '-', words).strip('-')}.cdp-journal")


def require_answers(proposal: Proposal) -> None:
    """Stop where a question that every message depends on is open.

    Raises:
        MappingError: A question is open; the text says what to pass.
    """
    open_questions = [str(question) for question in proposal.questions if question.needed]
    if open_questions:
        raise MappingError(" ".join(open_questions))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1

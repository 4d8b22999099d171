"""What a worker of an engine needs to know to send its part of a table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cdp_backfill.engines.folder_journal import FolderJournal
from cdp_backfill.errors import BadInputError, MappingError, StoppedError
from cdp_backfill.inference.proposal import Proposal
from cdp_backfill.model.destination import Destination
from cdp_backfill.model.mapping import Mapping
from cdp_backfill.pipeline.excluded_ids import ExcludedIds, read_excluded
from cdp_backfill.pipeline.job import Job, SendOptions
from cdp_backfill.pipeline.leaving_out import described, with_last_run
from cdp_backfill.results.part_summary import INTERRUPTED

if TYPE_CHECKING:
    from cdp_backfill.messages.encoding import ContextScope
    from cdp_backfill.sources import Source


@dataclass(frozen=True, kw_only=True)
class PartitionJob:
    """How to send each part of a table. It can be pickled and holds no key.

    A worker finds the key where ``destination.key_from`` names, or else in
    ``$CUSTOMERIO_CDP_API_KEY``.

    Args:
        mapping: The whole mapping: who, what and when.
        destination: Where to send; its rate limit is that of all parts together.
        slots: Number of parts that run at a time. Each of them gets this share of the rate limit.
        recent: ``"hold"`` leaves out rows that can trigger campaigns, ``"send"`` sends them.
            No part sees the rows of the others, so there is no ``"raise"`` here.
        context_scope: See :func:`cdp_backfill.send`.
        where: See there.
        exclude: See there.
        now: The time that ages are counted from, the same for all parts; None for now.
        stop_file: A file that stops each part as soon as it exists, or None. Each worker must see
            it under the same path.

    Raises:
        BadInputError: An argument is wrong.

    >>> import pickle
    >>> from cdp_backfill import lit
    >>> mapping = Mapping(user_id="uid", timestamp="ts", event=lit("Application Opened"))
    >>> job = PartitionJob(mapping=mapping, destination=Destination(api_key="none"), slots=4)
    >>> pickle.loads(pickle.dumps(job)).share.rate_limit
    125.0
    """

    mapping: Mapping
    destination: Destination = field(default_factory=Destination)
    slots: int = 1
    recent: Literal["hold", "send"] = "hold"
    context_scope: ContextScope = "message"
    where: str | None = None
    exclude: Any = None
    now: datetime | None = None
    stop_file: str | Path | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.mapping, Mapping):
            kind = type(self.mapping).__name__
            raise MappingError(f"mapping must be a Mapping, such as plan.mapping, not {kind}.")
        if self.mapping.duplicates == "skip":
            raise BadInputError(
                "duplicates='skip' compares all rows, and a part sees only its own. Remove "
                "duplicates before, for example with df.dropDuplicates([...])."
            )
        if not isinstance(self.destination, Destination):
            kind = type(self.destination).__name__
            raise BadInputError(f"destination must be a Destination, not {kind}.")
        if not isinstance(self.slots, int) or isinstance(self.slots, bool) or self.slots < 1:
            raise BadInputError("slots must be a whole number of parts that run at a time.")
        if self.recent not in ("hold", "send"):
            raise BadInputError(
                f"recent must be 'hold' or 'send' for a part, not {self.recent!r}: a part cannot "
                "know of the recent rows of others."
            )
        if self.exclude is not None and not isinstance(self.exclude, ExcludedIds):
            object.__setattr__(self, "exclude", read_excluded(self.exclude, self.mapping))
        if self.now is None:
            object.__setattr__(self, "now", datetime.now(UTC))

    @property
    def share(self) -> Destination:
        """The destination with the share of one slot in rate limit and requests in flight."""
        rate, workers = self.destination.rate_limit, self.destination.workers
        return replace(
            self.destination,
            rate_limit=None if rate is None else rate / self.slots,
            workers=None if workers is None else max(1, workers // self.slots),
        )

    def journal(self, folder: str | Path) -> FolderJournal:
        """A journal in a folder for all parts, so that no part goes twice in silence.

        Use it in a ``with`` statement on the driver, and pass its ``shared`` to each
        :func:`send_partition`. A later run with the same folder sends only the rows that are not
        known to be delivered, whatever their order, parts or engine; a run beside it is refused.

        Args:
            folder: A path that all workers see, or a URI such as ``s3://bucket/folder``. Workers
                find credentials in their own environment.

        Raises:
            JournalError: The folder holds something else, or belongs to another backfill; or its
                last run left out rows that this job does not.
        """
        options = described(self.where, self.exclude)
        journal = FolderJournal(
            folder, mapping=self.mapping, url=self.destination.url, options=options
        )
        with_last_run(journal.path, journal.last_options, self.where, self.exclude)
        return journal

    def on(self, source: Source) -> Job:
        """The job of a part, as of a table of its own.

        Raises:
            StoppedError: The run was stopped before.
        """
        if self.stop_file is not None and Path(self.stop_file).exists():
            raise StoppedError(INTERRUPTED)
        options = SendOptions(
            destination=self.destination,
            where=self.where,
            exclude=self.exclude,
            recent=self.recent,
            context_scope=self.context_scope,
            now=self.now,
        )
        return Job(source=source, proposal=Proposal(self.mapping), options=options)

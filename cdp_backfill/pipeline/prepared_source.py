"""A table, a mapping that fits it and the options of a run; what plan and run share."""

from __future__ import annotations

from contextlib import closing, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from cdp_backfill.errors import BadInputError, RecentRowsError
from cdp_backfill.messages import (
    Binding,
    TooWideError,
    any_recent,
    bind,
    build,
    may_be_recent,
    unlimited,
)
from cdp_backfill.messages.text import is_bytes, json_type
from cdp_backfill.messages.times import is_text
from cdp_backfill.messages.values import is_list
from cdp_backfill.model import api_facts
from cdp_backfill.model.distinct import DigestSet, DistinctCounter
from cdp_backfill.pipeline.preparation import Limits, Prepared, Recent, prepare, sift
from cdp_backfill.pipeline.workers import Task, prepared_in_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from cdp_backfill.inference.proposal import Proposal
    from cdp_backfill.messages.encoding import ContextScope, Digests
    from cdp_backfill.model.outcomes import Problem
    from cdp_backfill.pipeline.preparation import Mask
    from cdp_backfill.sources import Chunk, Source

SKIPPED: Final = "the mapping leaves this event out"
DUPLICATE: Final = "a row before has the same message id"


def type_in_words(kind: Any) -> str:
    """An Arrow type for people: text is text, however it is stored."""
    types = pa.types
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return type_in_words(kind.value_type)
    if json_type(kind):
        return "JSON"
    words = (
        (is_text, "text"),
        (types.is_boolean, "boolean"),
        (types.is_integer, "integer"),
        (types.is_floating, "float"),
        (types.is_decimal, "decimal"),
        (types.is_timestamp, f"time, {getattr(kind, 'tz', None) or 'no zone'}"),
        (types.is_date, "date"),
        (types.is_struct, "object"),
        (types.is_map, "map"),
        (is_list, "list"),
        (is_bytes, "bytes"),
        (types.is_null, "empty"),
    )
    return next((word for fits, word in words if fits(kind)), str(kind))


def in_words(problems: tuple[Problem, ...]) -> str:
    """All reasons of a row."""
    return "; ".join(problem.reason for problem in problems)


def notes(proposal: Proposal, naive: int, event_keys: set[str]) -> tuple[str, ...]:
    """What a plan and a report must say aloud.

    Args:
        proposal: The mapping.
        naive: Number of times that carried no zone.
        event_keys: Keys of the mapping's ``events`` that occurred.
    """
    mapping, found = proposal.mapping, []
    if naive:
        zone = f"{mapping.timezone}, as timezone says" if mapping.timezone else "UTC"
        hint = "" if mapping.timezone else " If that is wrong, set timezone='...'."
        found.append(f"{naive:,} times carry no zone and are read as {zone}.{hint}")
    unused = [repr(key) for key in mapping.events if key not in event_keys]
    if unused and isinstance(mapping.event, str) and not proposal.preset:
        verb = "is" if len(unused) == 1 else "are"
        found.append(
            f"Of the keys of events, {', '.join(unused)} {verb} in no row of column "
            f"{mapping.event!r}. If that is not meant, look for a typing error."
        )
    return tuple(found)


class PreparedSource:
    """A table, a mapping that fits it, and the options of a run."""

    def __init__(
        self,
        source: Source,
        proposal: Proposal,
        *,
        recent: Recent,
        context_scope: ContextScope,
        now: datetime | None,
    ) -> None:
        if recent not in ("raise", "hold", "send"):
            raise BadInputError(f"recent must be 'raise', 'hold' or 'send', not {recent!r}.")
        if context_scope not in ("message", "batch"):
            raise BadInputError(
                f"context_scope must be 'message' or 'batch', not {context_scope!r}."
            )
        moment = now or datetime.now(UTC)
        if moment.tzinfo is None:
            raise BadInputError("now must carry a time zone, such as datetime.now(UTC).")
        self.source = source
        self.proposal = proposal
        self.mapping = mapping = proposal.mapping
        self.recent: Recent = recent
        self.context_scope: ContextScope = context_scope
        self.now = moment
        self.binding: Binding = bind(mapping, source.schema)
        self.limits = Limits(
            recent=_millis(moment - timedelta(hours=api_facts.RECENT_HOURS)),
            latest=_millis(moment + timedelta(hours=api_facts.FUTURE_HOURS)),
        )

    def prepared(
        self,
        columns: Sequence[str],
        *,
        knows: Callable[[Digests], Mask] | None = None,
        rows: int | None = None,
        processes: int = 1,
    ) -> Generator[tuple[Chunk, Prepared]]:
        """Read the table, and check and encode it; in order, if by one process.

        Args:
            columns: Columns to read.
            knows: Tells which messages were delivered before, or None.
            rows: Stop after so many, or None for all; only with one process.
            processes: How many to do it in.
        """
        seen = DigestSet().before if self.mapping.duplicates == "skip" else None
        with_digests = knows is not None
        parts = self.source.parts(processes) if processes > 1 else []
        if len(parts) > 1:
            found = prepared_in_processes(
                [self._task(part, columns, with_digests=with_digests) for part in parts]
            )
        else:
            found = self.prepared_here(columns, rows=rows, with_digests=with_digests)
        with closing(found):
            for chunk, prepared in found:
                yield chunk, sift(prepared, knows=knows, seen=seen)

    def prepared_here(
        self, columns: Sequence[str], *, rows: int | None = None, with_digests: bool = False
    ) -> Generator[tuple[Chunk, Prepared]]:
        """The same in this process, with all that was delivered or came before."""
        with closing(self.source.chunks(columns)) as chunks:
            for whole in chunks:
                chunk = whole
                if rows is not None and chunk.start + chunk.batch.num_rows > rows:
                    chunk = replace(chunk, batch=chunk.batch.slice(0, rows - chunk.start))
                yield from self._parts(chunk, with_digests=with_digests)
                if rows is not None and chunk.start + chunk.batch.num_rows >= rows:
                    return

    def _task(self, part: Source, columns: Sequence[str], *, with_digests: bool) -> Task:
        return Task(
            source=part,
            proposal=self.proposal,
            recent=self.recent,
            context_scope=self.context_scope,
            now=self.now,
            columns=list(columns),
            with_digests=with_digests,
        )

    def _parts(self, chunk: Chunk, *, with_digests: bool) -> Iterator[tuple[Chunk, Prepared]]:
        alone = chunk.batch.num_rows == 1
        try:
            with unlimited() if alone else nullcontext():
                prepared = prepare(
                    self.binding,
                    chunk,
                    limits=self.limits,
                    hold=self.recent == "hold",
                    context_scope=self.context_scope,
                    with_digests=with_digests,
                )
        except TooWideError:
            half = chunk.batch.num_rows // 2
            first, second = chunk.batch.slice(0, half), chunk.batch.slice(half)
            yield from self._parts(replace(chunk, batch=first), with_digests=with_digests)
            start, origin_start = chunk.start + half, chunk.origin_start + half
            rest = replace(chunk, batch=second, start=start, origin_start=origin_start)
            yield from self._parts(rest, with_digests=with_digests)
        else:
            yield chunk, prepared

    def refuse_recent(self) -> None:
        """Read who, what and when of the whole table.

        Raises:
            RecentRowsError: Rows are recent.
        """
        if not self._may_be_recent():
            return
        people, rows = DistinctCounter(), 0
        for chunk in self.source.chunks(self.binding.guard_columns):
            batch = build(self.binding, chunk.batch, latest=self.limits.latest, who_what_when=True)
            young = (batch.millis >= self.limits.recent) & ~batch.problems.mask()
            if young.any():
                rows += int(np.count_nonzero(young))
                people.add(batch.people(young))
        if rows:
            raise RecentRowsError(
                f"Nothing was sent: {rows:,} rows, of {people} people, are younger than "
                f"{api_facts.RECENT_HOURS} hours and can trigger campaigns and messages to them. "
                "recent='hold' leaves these rows out, recent='send' sends them."
            )

    def _may_be_recent(self) -> bool:
        """Whether any time at all is recent; the times alone tell, and are quickly read."""
        column = self.mapping.timestamp
        if not isinstance(column, str) or column in self.mapping.derive:
            return True
        limits = self.limits
        with closing(self.source.chunks_within(column, self._may_hold_recent)) as chunks:
            return any(
                any_recent(self.binding, chunk.batch, recent=limits.recent, latest=limits.latest)
                for chunk in chunks
            )

    def _may_hold_recent(self, kind: Any, least: Any, greatest: Any) -> bool:
        return may_be_recent(
            kind,
            least,
            greatest,
            unit=self.mapping.timestamp_unit,
            recent=self.limits.recent,
            latest=self.limits.latest,
        )


def _millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)

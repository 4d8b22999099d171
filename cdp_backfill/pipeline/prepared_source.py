"""A table with a mapping that fits it and the options of a run; plans and runs share it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cdp_backfill.errors import BadInputError
from cdp_backfill.messages import MAX_CELLS, Binding, TooWideError, bind, choose_rows
from cdp_backfill.model import api_facts
from cdp_backfill.model.distinct import DigestSet
from cdp_backfill.pipeline.in_order import results_in_order
from cdp_backfill.pipeline.preparation import (
    PreparedChunk,
    Recent,
    TimeLimits,
    exclude_known,
    prepare,
)
from cdp_backfill.pipeline.workers import Task, prepare_in_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from cdp_backfill.inference.proposal import Proposal
    from cdp_backfill.messages.encoding import ContextScope
    from cdp_backfill.model.arrays import Digests, Mask
    from cdp_backfill.sources import Chunk, Source


_THREADS: Final = 1
"""Threads that prepare chunks. More would wait for each other: half of the work, such as the JSON
and its hashes, holds the lock of the interpreter. SQL expressions have one connection, too."""


class PreparedSource:
    """A table, a mapping that fits it, and the options of a run.

    Args:
        source: The table.
        proposal: The mapping.
        recent: See :func:`cdp_backfill.send`, as for the next two.
        context_scope: See there.
        now: See there.
        where: SQL expression that chooses rows, or None for all.
        excluded: Ids of which no row may be sent, or None.
        ambiguous_ids: See :class:`cdp_backfill.messages.Binding`.
        only: See :func:`cdp_backfill.pipeline.preparation.prepare`.

    Raises:
        BadInputError: The mapping does not fit the table, or an option is wrong.
    """

    def __init__(
        self,
        source: Source,
        proposal: Proposal,
        *,
        recent: Recent,
        context_scope: ContextScope,
        now: datetime | None,
        where: str | None = None,
        excluded: DigestSet | None = None,
        ambiguous_ids: DigestSet | None = None,
        only: DigestSet | None = None,
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
        self.mapping = proposal.mapping
        self.recent: Recent = recent
        self.context_scope: ContextScope = context_scope
        self.now = moment
        self.where = where
        self.binding: Binding = replace(
            choose_rows(bind(proposal.mapping, source.schema), where, source.schema),
            ambiguous_ids=ambiguous_ids,
            excluded=excluded,
        )
        self.only = only
        self.limits = TimeLimits(
            recent=_millis(moment - timedelta(hours=api_facts.RECENT_HOURS)),
            latest=_millis(moment + timedelta(hours=api_facts.FUTURE_HOURS)),
            anonymous=_millis(moment - timedelta(days=api_facts.ANONYMOUS_DAYS)),
        )

    def chunks(
        self,
        columns: Sequence[str],
        *,
        is_delivered: Callable[[Digests], Mask] | None = None,
        doubts: Callable[[Digests], npt.NDArray[np.uint8]] | None = None,
        rows: int | None = None,
        processes: int = 1,
    ) -> Generator[tuple[Chunk, PreparedChunk]]:
        """Read, check and encode the table; in row order if one process does it.

        Args:
            columns: Columns to read.
            is_delivered: Returns which messages an earlier run delivered, or None.
            doubts: Returns how often an earlier run sent each message without an answer, or None.
            rows: Stop after this many rows, or None for all; only with one process.
            processes: Number of processes that read, check and encode.
        """
        is_repeated = DigestSet().before if self.mapping.duplicates == "skip" else None
        with_digests = is_delivered is not None
        parts = self.source.parts(processes) if processes > 1 else []
        if len(parts) > 1:
            chunks = prepare_in_processes(
                [self._task(part, columns, with_digests=with_digests) for part in parts]
            )
        else:
            chunks = self.all_chunks(columns, rows=rows, with_digests=with_digests)
        with closing(chunks):
            for chunk, prepared in chunks:
                known = exclude_known(
                    prepared, is_delivered=is_delivered, is_repeated=is_repeated, doubts=doubts
                )
                yield chunk, known

    def all_chunks(
        self, columns: Sequence[str], *, rows: int | None = None, with_digests: bool = False
    ) -> Generator[tuple[Chunk, PreparedChunk]]:
        """Read, check and encode in this process, with delivered and repeated rows included."""

        def prepare_whole(chunk: Chunk) -> PreparedChunk:
            return self._prepare(chunk, with_digests=with_digests)

        with (
            closing(self.source.chunks(columns)) as chunks,
            closing(
                results_in_order(prepare_whole, _first(chunks, rows), threads=_THREADS)
            ) as results,
        ):
            for chunk, result in results:
                if isinstance(result.exception(), TooWideError):
                    yield from self._halves(chunk, with_digests=with_digests)
                else:
                    yield chunk, result.result()

    def _task(self, part: Source, columns: Sequence[str], *, with_digests: bool) -> Task:
        return Task(
            source=part,
            proposal=self.proposal,
            recent=self.recent,
            context_scope=self.context_scope,
            now=self.now,
            where=self.where,
            excluded=self.binding.excluded,
            ambiguous_ids=self.binding.ambiguous_ids,
            columns=list(columns),
            with_digests=with_digests,
        )

    def prepare_chunk(
        self, chunk: Chunk, *, with_digests: bool
    ) -> Iterator[tuple[Chunk, PreparedChunk]]:
        """Prepare a chunk; one whose JSON has too many names is halved until it has not."""
        try:
            prepared = self._prepare(chunk, with_digests=with_digests)
        except TooWideError:
            yield from self._halves(chunk, with_digests=with_digests)
        else:
            yield chunk, prepared

    def _prepare(self, chunk: Chunk, *, with_digests: bool) -> PreparedChunk:
        return prepare(
            self.binding,
            chunk,
            limits=self.limits,
            hold=self.recent == "hold",
            only=self.only,
            context_scope=self.context_scope,
            with_digests=with_digests,
            max_cells=MAX_CELLS if chunk.batch.num_rows > 1 else None,
        )

    def _halves(self, chunk: Chunk, *, with_digests: bool) -> Iterator[tuple[Chunk, PreparedChunk]]:
        half = chunk.batch.num_rows // 2
        first, second = chunk.batch.slice(0, half), chunk.batch.slice(half)
        yield from self.prepare_chunk(replace(chunk, batch=first), with_digests=with_digests)
        start, origin_start = chunk.start + half, chunk.origin_start + half
        rest = replace(chunk, batch=second, start=start, origin_start=origin_start)
        yield from self.prepare_chunk(rest, with_digests=with_digests)


def _first(chunks: Iterator[Chunk], rows: int | None) -> Iterator[Chunk]:
    """The chunks up to a number of rows, or all."""
    for chunk in chunks:
        if rows is None or chunk.start + chunk.batch.num_rows < rows:
            yield chunk
            continue
        yield replace(chunk, batch=chunk.batch.slice(0, rows - chunk.start))
        return


def _millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)

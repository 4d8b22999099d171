"""The account of a run: what became of each row, and the rows that did not arrive.

Pages are filled in by the threads that learn the outcomes, under one lock, so that an interrupt
of the calling thread cannot come between an outcome and its being written down.
"""

from __future__ import annotations

import secrets
import threading
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from cdp_backfill.errors import AccountingError, BadInputError
from cdp_backfill.model.outcomes import FAILURE_COLUMNS, Outcome
from cdp_backfill.results.chunk_outcomes import CELL, POSITION, ChunkOutcomes
from cdp_backfill.results.histogram import EventCounts, EventHistogram
from cdp_backfill.results.lineage import ORIGIN_COLUMNS, Lineage
from cdp_backfill.results.reasons import Reason, Reasons
from cdp_backfill.results.row_ranges import RowRanges
from cdp_backfill.results.spill import FailureStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from cdp_backfill.model.outcomes import Problem
    from cdp_backfill.results.reasons import Place
    from cdp_backfill.sources import Chunk, Source

    Mask = npt.NDArray[np.bool_]
    Rows = npt.NDArray[np.int64]
    Keep = Callable[[Any], Mask] | None

_HIDDEN: Final = (POSITION, CELL)
SPILL_BYTES: Final = 16 * 2**20
"""Failed rows that are kept in memory before they go to a temporary file, in bytes."""

CROWDED_BYTES: Final = 64 * 2**20
"""Memory that the rows of all pages take before pages are put away in part."""


class OutcomeTracker:
    """The account of a run.

    Args:
        source: Where the rows come from.
    """

    def __init__(self, source: Source) -> None:
        self.lock = threading.RLock()
        self.unread = 0
        """Rows that the run never came to, once it is closed."""
        self._row_ranges = RowRanges()
        self._why_unsent = ("", "")
        self._source = source
        self.lineage = Lineage(secrets.token_hex(6), source.schema)
        """Where the rows were first, if they are failures of an earlier run."""
        self.over_time = EventHistogram()
        self._counts = dict.fromkeys(Outcome, 0)
        self._reasons = Reasons()
        self._pages: dict[int, ChunkOutcomes] = {}
        self._held_bytes = 0
        self._store = FailureStore(SPILL_BYTES)
        self.dropped_rows = FailureStore(SPILL_BYTES)
        """What was left out of messages that were too large; for pages."""

    def page(self, chunk: Chunk) -> ChunkOutcomes:
        """Begin to account for the rows of a chunk."""
        page = ChunkOutcomes(self, chunk)
        if chunk.batch.num_rows:
            self._pages[id(page)] = page
            self._row_ranges.add(chunk.start, chunk.start + chunk.batch.num_rows)
            self._held_bytes += page.held_bytes
        return page

    def count(
        self,
        outcome: Outcome,
        rows: int,
        *,
        code: str,
        reason: str,
        problems: tuple[Problem, ...] = (),
        place: Callable[[], Place] = lambda: (None, None),
    ) -> None:
        """Add rows to an outcome; for pages."""
        self._counts[outcome] += rows
        if not outcome.settled:
            self._reasons.count(str(outcome), code, reason, rows, problems=problems, place=place)

    def reasons(self) -> list[Reason]:
        """Why rows did not arrive, most rows first."""
        with self.lock:
            return list(self._reasons)

    @property
    def keeps_batches(self) -> bool:
        """Whether the rows of failures are kept here; for pages."""
        return not self._source.keeps_rows

    @property
    def crowded(self) -> bool:
        """Whether pages should be put away in part; for pages."""
        return self._held_bytes > CROWDED_BYTES

    def keep(self, position: int, failures: Any) -> None:
        """Keep rows that failed; for pages."""
        self._store.append(position, failures)

    def shrunk(self, page: ChunkOutcomes, held_bytes: int) -> None:
        """Note that a page takes less memory now; for pages."""
        self._held_bytes += held_bytes - page.held_bytes
        page.held_bytes = held_bytes

    def turn(self, page: ChunkOutcomes) -> None:
        """Put away a page whose rows all have an outcome; for pages."""
        self.shrunk(page, 0)
        del self._pages[id(page)]

    @property
    def counts(self) -> dict[str, int]:
        """Rows by the name of their outcome so far; every outcome is there."""
        with self.lock:
            return {str(outcome): rows for outcome, rows in self._counts.items()}

    def close(self, code: str, reason: str) -> None:
        """Settle what is left as unsent, and check that it all adds up.

        Args:
            code: Short name of why it is unsent.
            reason: In words.

        Raises:
            AccountingError: It does not.
        """
        for page in list(self._pages.values()):
            page.settle_rest(code, reason)
        self._why_unsent = (code, reason)
        self.unread = self._to_read
        if self.lineage.columns and self._source.replayable and self._source.ordered:
            self._open_rest()
        if left := self._to_read:
            first = self._gaps[0][0] if self._source.keeps_rows else None
            self.count(Outcome.UNSENT, left, code=code, reason=reason, place=lambda: (None, first))
        total = sum(self._counts.values())
        expected = self._source.rows if self._source.rows is not None else self._row_ranges.rows
        if total != expected:
            raise AccountingError(
                f"The outcomes of {total:,} rows were counted and the source has {expected:,}. "
                "It may have changed while it was read; if not, please report this."
            )

    def cells(self, column: str) -> tuple[Any, Any] | None:
        """What a column is called in the failures, and its Arrow type; None if there is none."""
        if column not in self._source.schema.names:
            return None
        return self._source.label(column), self._source.schema.field(column).type

    @property
    def runs(self) -> frozenset[str]:
        """This run."""
        return frozenset([self.lineage.run])

    @property
    def of(self) -> frozenset[str]:
        """The earlier runs whose rows it sent again."""
        return self.lineage.runs

    @property
    def _to_read(self) -> int:
        """Rows that have no page."""
        return sum(stop - start for start, stop in self._gaps)

    @property
    def _gaps(self) -> list[tuple[int, int]]:
        return self._row_ranges.gaps(self._source.rows or 0)

    def _open_rest(self) -> None:
        """Give the rows that the run never came to a page, if they come from an earlier run.

        Which of them were there before must be known, for the sum of both reports.
        """
        names = self.lineage.columns if self._source.keeps_rows else self._source.schema.names
        try:
            for chunk in self._chunks_to_read(names):
                self.page(chunk).settle_rest(*self._why_unsent)
        except BadInputError:  # a file is gone: what it held is counted all the same
            return

    def failures(self, keep: Keep = None) -> pd.DataFrame:
        """The rows that did not arrive, as they were given, with the columns ``cdp_...``.

        The whole of them at once: the frame can be as large as the input.

        Args:
            keep: Chooses among them by their places; None for all.
        """
        tables = list(self._tables(keep))
        if not tables:
            return self._frame(self._nothing())
        table = pa.concat_tables(tables, promote_options="permissive")
        # A page that was put away in parts gave the rows that waited last.
        order = np.argsort(table.column(POSITION).to_numpy(), kind="stable")
        return self._frame(table.take(pa.array(order)))

    def dropped(self) -> pd.DataFrame:
        """Which column was left out of which row, since its message was too large."""
        tables = list(self.dropped_rows.tables())
        names = ("cdp_source", "cdp_row", "cdp_dropped")
        frame = pa.concat_tables(tables).to_pandas() if tables else pd.DataFrame(columns=names)
        return frame[[*names]].sort_values("cdp_row", kind="stable", ignore_index=True)

    def parts(self, keep: Keep = None) -> Iterator[Any]:
        """The same a part at a time, as tables for parquet; at least one, if without rows.

        Args:
            keep: See :meth:`failures`.
        """
        found = False
        for table in self._tables(keep):
            found = True
            yield self._saved(table)
        if not found:
            yield self._saved(self._nothing())

    def places(self) -> Iterator[Any]:
        """Of the same rows only where they were first, why they did not arrive, event and day."""
        for table in self._tables():
            events, days = self.over_time.named(table.column(CELL))
            chosen = table.select([*ORIGIN_COLUMNS, "cdp_outcome", "cdp_code", "cdp_reason"])
            yield chosen.append_column("event", events).append_column("day", days)

    def counted(self) -> EventCounts:
        """Rows by event, time and outcome."""
        with self.lock:
            return self.over_time.counted()

    def met(self, table: Any) -> Mask:
        """Which rows of such a table were sent again in this run."""
        return self.lineage.met(table)

    def again(self) -> Iterator[Any]:
        """Where all rows that were sent again were first."""
        return self.lineage.again()

    def _saved(self, table: Any) -> Any:
        """Failures as a table that parquet takes, of the same types for each part."""
        if not self._source.keeps_rows:
            return table.drop_columns([*_HIDDEN])
        frame = self._source.typed(self._frame(table))
        return pa.Table.from_pandas(frame, preserve_index=True)

    def _tables(self, keep: Keep = None) -> Iterator[Any]:
        for table in self._all_tables():
            chosen = table if keep is None else table.filter(pa.array(keep(table)))
            if chosen.num_rows:
                yield chosen

    def _all_tables(self) -> Iterator[Any]:
        yield from self._store.tables()
        if self._to_read and self._source.replayable and self._source.ordered:
            yield from self._unread()

    def _frame(self, table: Any) -> pd.DataFrame:
        positions = table.column(POSITION).to_numpy()
        extra: pd.DataFrame = table.drop_columns([*_HIDDEN]).to_pandas(types_mapper=_dtype)
        if not self._source.keeps_rows:
            return extra
        frame = self._source.original(positions)
        # A frame of failures sent again carries such columns already: they are replaced.
        frame = frame.drop(columns=[name for name in FAILURE_COLUMNS if name in frame.columns])
        extra.index = frame.index
        return pd.concat([frame, extra], axis="columns")

    def _unread(self) -> Iterator[Any]:
        columns = self._source.schema.names[: 1 if self._source.keeps_rows else None]
        for chunk in self._chunks_to_read(columns):
            tracker = OutcomeTracker(self._source)
            tracker.lineage = Lineage(self.lineage.run, pa.schema([]))
            tracker.page(chunk).settle_rest(*self._why_unsent)
            yield from tracker._store.tables()

    def _chunks_to_read(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """The rows that have no page."""
        for start, stop in self._gaps:
            with closing(self._source.chunks(columns, start=start)) as chunks:
                for chunk in chunks:
                    if chunk.start >= stop:
                        break
                    yield replace(chunk, batch=chunk.batch.slice(0, stop - chunk.start))

    def _nothing(self) -> Any:
        columns = {name: pa.array([], kind) for name, kind in _TYPES.items()}
        if not self._source.keeps_rows:
            given = self._source.schema.empty_table()
            columns = dict(zip(given.column_names, given.columns, strict=True)) | columns
        return pa.table(columns | {name: pa.array([], pa.int64()) for name in _HIDDEN})


_TYPES: Final = dict(
    zip(
        FAILURE_COLUMNS,
        (
            pa.string(),
            pa.string(),
            pa.string(),
            pa.int16(),
            pa.int32(),
            pa.string(),
            pa.string(),
            pa.int64(),
            pa.string(),
        ),
        strict=True,
    )
)

# Integers and booleans with empty cells would become floats and objects otherwise.
_NULLABLE: Final = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(),
    pa.uint16(): pd.UInt16Dtype(),
    pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}


def _dtype(kind: Any) -> Any:
    """The pandas dtype that keeps a column what it is when its rows are sent again."""
    if pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType):
        return pd.ArrowDtype(kind)
    return _NULLABLE.get(kind)

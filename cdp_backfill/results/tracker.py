"""Tracks the outcome of every row of a run, and keeps the rows that were not delivered."""

from __future__ import annotations

import contextlib
import secrets
import threading
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from cdp_backfill.errors import AccountingError, BadInputError
from cdp_backfill.model.arrow_types import is_json, is_text
from cdp_backfill.model.outcomes import FAILURE_COLUMNS, UNMAPPED, Outcome
from cdp_backfill.results.chunk_outcomes import EVENT_BIN, POSITION, TAKEN, ChunkOutcomes
from cdp_backfill.results.histogram import EventCounts, EventHistogram
from cdp_backfill.results.joined_tables import common_schema, with_schema
from cdp_backfill.results.lineage import ORIGIN_COLUMNS, Lineage, earlier_doubts
from cdp_backfill.results.readable import for_pandas, plain
from cdp_backfill.results.reasons import FailureReason, FailureReasons
from cdp_backfill.results.row_ranges import RowRanges
from cdp_backfill.results.spill import TableStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from cdp_backfill.messages import MessageBatch
    from cdp_backfill.messages.ids import Ids
    from cdp_backfill.model.arrays import Mask, Rows
    from cdp_backfill.model.outcomes import Problem
    from cdp_backfill.results.failure_log import Filter
    from cdp_backfill.results.outcome_files import OutcomeFiles
    from cdp_backfill.results.reasons import Location
    from cdp_backfill.sources import Chunk, Source

_INTERNAL: Final = (POSITION, EVENT_BIN, TAKEN)

_EARLIER_RUN: Final = "; an earlier run got no answer, so the server may have accepted the row"

_NOT_RECORDED: Final = (
    "an unexpected error kept the answer from being recorded; the server may have accepted the row"
)

SPILL_BYTES: Final = 16 * 2**20
"""Failed rows that stay in memory before they move to a temporary file, in bytes."""

CROWDED_BYTES: Final = 64 * 2**20
"""Memory that pending chunks may take before sparse ones are shrunk, in bytes."""

_SPARSE: Final = 8  # a chunk is sparse when at most one in so many of its rows is pending


class OutcomeTracker:
    """Tracks the outcome of every row of a run.

    Thread-safe. Only threads that an interrupt cannot reach should call the methods that change
    it, so that each outcome is recorded as a whole.

    Args:
        source: The table of the run.
    """

    def __init__(self, source: Source) -> None:
        self.files: OutcomeFiles | None = None
        """Files for the outcome of every row, or None."""
        self.unread = 0
        """Rows that the run did not read; set by :meth:`close`."""
        self.lineage = Lineage(secrets.token_hex(6), source.schema)
        """The origins of rows that are failures of an earlier run."""
        self._lock = threading.RLock()
        self._source = source
        self._row_ranges = RowRanges()
        self._unsent_reason = ("", "")
        self._histogram = EventHistogram()
        self._counts = dict.fromkeys(Outcome, 0)
        self._maybe_twice = 0
        self._compared = 0  # rows about which a journal was asked
        self._recorded_twice = 0  # those among them that it knows as maybe accepted twice
        self._reasons = FailureReasons()
        self._skipped = FailureReasons()  # rows that are skipped on purpose
        self._pending: dict[int, ChunkOutcomes] = {}  # by id()
        self._pending_bytes = 0
        self._failures = TableStore(SPILL_BYTES)
        self._dropped = TableStore(SPILL_BYTES)

    # --- While the run goes on ---

    def open(self, chunk: Chunk) -> ChunkOutcomes:
        """Begin to track the rows of a chunk."""
        origins = self.lineage.origins(chunk)
        chunk_outcomes = ChunkOutcomes(chunk, self.lineage.run, origins)
        if len(chunk_outcomes):
            with self._lock:
                self._pending[id(chunk_outcomes)] = chunk_outcomes
                self._row_ranges.add(chunk.start, chunk.start + chunk.batch.num_rows)
                self._pending_bytes += chunk_outcomes.memory_bytes
                if origins is not None:
                    doubts = earlier_doubts(chunk.batch)
                    doubts[np.asarray(origins.column("cdp_run").to_numpy()) == self.lineage.run] = 0
                    self._add_taken(chunk_outcomes, np.arange(len(chunk_outcomes)), doubts)
        return chunk_outcomes

    def set_taken(
        self, chunk_outcomes: ChunkOutcomes, rows: Rows, times: npt.NDArray[np.uint8]
    ) -> None:
        """Set how often the server may have accepted rows in earlier runs, as a journal has it.

        Args:
            chunk_outcomes: The chunk of the rows.
            rows: Rows of the chunk that have no outcome yet.
            times: 0, 1, or 2 for more.
        """
        with self._lock:
            self._compared += len(rows)
            self._recorded_twice += int(np.count_nonzero(times >= 2))  # noqa: PLR2004
            known = chunk_outcomes.taken(rows)
            self._add_taken(chunk_outcomes, rows, np.maximum(known, times) - known)

    def _add_taken(
        self, chunk_outcomes: ChunkOutcomes, rows: Rows, times: npt.NDArray[np.uint8] | int
    ) -> None:
        before = chunk_outcomes.taken(rows)
        chunk_outcomes.add_taken(rows, times)
        twice = (before < 2) & (chunk_outcomes.taken(rows) >= 2)  # noqa: PLR2004
        self._maybe_twice += int(np.count_nonzero(twice))

    def set_events(self, chunk_outcomes: ChunkOutcomes, messages: MessageBatch) -> None:
        """Set event and time of the rows of a chunk, none of which has an outcome yet."""
        with self._lock:
            event_bins = self._histogram.bins(messages, len(chunk_outcomes))
            chunk_outcomes.set_event_bins(event_bins)

    def set_message_ids(self, chunk_outcomes: ChunkOutcomes, rows: Rows, ids: Ids) -> None:
        """Set the message ids of rows of a chunk that have no outcome yet."""
        with self._lock:
            chunk_outcomes.set_message_ids(rows, ids)

    def add_dropped(self, chunk_outcomes: ChunkOutcomes, dropped: dict[str, Rows]) -> None:
        """Record which columns were left out of which rows, none of which has an outcome yet."""
        with self._lock:
            for column, rows in dropped.items():
                if len(rows):
                    names = pa.repeat(pa.scalar(column), len(rows))
                    table = chunk_outcomes.origins(rows).append_column("cdp_dropped", names)
                    self._dropped.append(chunk_outcomes.start, table)

    def settle(
        self,
        chunk_outcomes: ChunkOutcomes,
        rows: Rows,
        outcome: Outcome,
        *,
        code: str = "",
        reason: str = "",
        status: int = 0,
        attempts: int = 0,
        problems: tuple[Problem, ...] = (),
        taken: int = 0,
        only_pending: bool = False,
    ) -> None:
        """Record the outcome of rows; once for each row.

        A row that the server may have accepted in an earlier run is ``unknown`` where another would
        be ``failed`` or ``refused``.

        Args:
            chunk_outcomes: The chunk of the rows.
            rows: Their positions in the chunk.
            outcome: Their outcome.
            code: Short name of the reason.
            reason: The reason in words.
            status: HTTP status, or 0 for none.
            attempts: How often they were sent.
            problems: What is wrong with them, if they are invalid.
            taken: How often the server may have accepted each of them in this run.
            only_pending: Leave out those that have an outcome already.

        Raises:
            AccountingError: A row has an outcome already.
        """
        if not len(rows):
            return
        with self._lock:
            if only_pending:
                rows = rows[np.isin(rows, chunk_outcomes.pending_rows())]
            parts = [(rows, outcome, reason)]
            if outcome in (Outcome.FAILED, Outcome.REFUSED):
                doubtful = chunk_outcomes.taken(rows) > 0
                parts = [
                    (rows[~doubtful], outcome, reason),
                    (rows[doubtful], Outcome.UNKNOWN, reason + _EARLIER_RUN),
                ]
            for part, its_outcome, its_reason in parts:
                self._settle(
                    chunk_outcomes,
                    part,
                    its_outcome,
                    code=code,
                    reason=its_reason,
                    status=status,
                    attempts=attempts,
                    problems=problems,
                    taken=taken,
                )

    def _settle(
        self,
        chunk_outcomes: ChunkOutcomes,
        rows: Rows,
        outcome: Outcome,
        *,
        code: str,
        reason: str,
        status: int,
        attempts: int,
        problems: tuple[Problem, ...],
        taken: int,
    ) -> None:
        if len(rows):
            if taken:
                self._add_taken(chunk_outcomes, rows, min(taken, 2))
            chunk_outcomes.set_outcome(
                rows, outcome, code=code, reason=reason, status=status, attempts=attempts
            )
            self._histogram.count(chunk_outcomes.event_bins(rows), outcome.code)
            self._counts[outcome] += len(rows)
            if not outcome.settled or code == UNMAPPED:
                example: Location = (None, None)
                if self._reasons.is_new(outcome, code, reason):
                    (origin,) = chunk_outcomes.origins(rows[:1]).to_pylist()
                    example = (origin["cdp_source"], origin["cdp_row"])
                self._reasons.count(
                    str(outcome), code, reason, len(rows), problems=problems, example=example
                )
            elif outcome is Outcome.SKIPPED:
                self._skipped.count(str(outcome), code, reason, len(rows))
            self._put_away(chunk_outcomes)

    def _put_away(self, chunk_outcomes: ChunkOutcomes) -> None:
        """Move failures to the store once no row of the chunk is pending, or memory is short."""
        done = not chunk_outcomes.pending
        sparse = chunk_outcomes.pending * _SPARSE <= len(chunk_outcomes)
        if not done and not (sparse and self._pending_bytes > CROWDED_BYTES):
            return
        if self.files is not None:
            self.files.append(chunk_outcomes.outcomes())
        if chunk_outcomes.has_failures:
            self._failures.append(
                chunk_outcomes.start,
                chunk_outcomes.failures(with_cells=not self._source.keeps_rows),
            )
        self._pending_bytes -= chunk_outcomes.memory_bytes
        if done:
            del self._pending[id(chunk_outcomes)]
        else:
            chunk_outcomes.shrink()
            self._pending_bytes += chunk_outcomes.memory_bytes

    def close(self, code: str, reason: str) -> None:
        """Record every row without an outcome as unsent, and check that the counts add up.

        Those that the server may have accepted are unknown.

        Args:
            code: Short name of the reason why these rows are unsent.
            reason: The reason in words.

        Raises:
            AccountingError: The counts do not add up to the rows of the source.
        """
        self._unsent_reason = (code, reason)
        for _ in range(2):  # once more for what failed, for lack of memory for example
            for chunk_outcomes in list(self._pending.values()):
                with suppress(Exception):  # the check below notices whatever is missing
                    self._settle_unsent(chunk_outcomes)
        self.unread = self._unread_rows()
        if self.lineage.columns and self._can_read_again:
            self._settle_unread_failures()
        if unread := self._unread_rows():
            first = self._unread_ranges()[0][0] if self._source.keeps_rows else None
            with self._lock:
                self._counts[Outcome.UNSENT] += unread
                self._reasons.count(
                    str(Outcome.UNSENT), code, reason, unread, example=(None, first)
                )
        self._file_unread()
        total = sum(self._counts.values())
        expected = self._source.rows if self._source.rows is not None else self._row_ranges.rows
        if total != expected:
            raise AccountingError(
                f"{total:,} rows have an outcome, but the table has {expected:,} rows. Unless the "
                "table changed during the run, this is a bug in cdp-backfill: please report it."
            )

    def _file_unread(self) -> None:
        """Write the outcome of the rows that the run did not read, where their origin is known."""
        if self.files is None or not self._unread_rows() or not self._can_read_again:
            return
        with contextlib.suppress(BadInputError):  # a file is gone; the report counts its rows
            for chunk_outcomes in self._unread_outcomes():
                self.files.append(chunk_outcomes.outcomes())

    def _settle_unsent(self, chunk_outcomes: ChunkOutcomes) -> None:
        code, reason = self._unsent_reason
        sent = chunk_outcomes.pending_sent_rows()
        self.settle(
            chunk_outcomes, sent, Outcome.UNKNOWN, code="error", reason=_NOT_RECORDED, taken=1
        )
        rows = chunk_outcomes.pending_rows()
        self.settle(chunk_outcomes, rows, Outcome.UNSENT, code=code, reason=reason)

    def _settle_unread_failures(self) -> None:
        """Record the rows that the run did not read, if they are failures of an earlier run.

        The sum of the two reports needs the origins of these rows.
        """
        names = self.lineage.columns if self._source.keeps_rows else self._source.schema.names
        try:
            for chunk in self._unread_chunks(names):
                self._settle_unsent(self.open(chunk))
        except BadInputError:  # a file is gone; close() counts its rows without their origins
            return

    # --- Rows that the run did not read ---

    @property
    def _can_read_again(self) -> bool:
        return self._source.replayable and self._source.ordered

    def _unread_ranges(self) -> list[tuple[int, int]]:
        return self._row_ranges.gaps(self._source.rows or 0)

    def _unread_rows(self) -> int:
        return sum(stop - start for start, stop in self._unread_ranges())

    def _unread_chunks(self, columns: Sequence[str]) -> Iterator[Chunk]:
        for start, stop in self._unread_ranges():
            with closing(self._source.chunks(columns, start=start)) as chunks:
                for chunk in chunks:
                    if chunk.start >= stop:
                        break
                    yield replace(chunk, batch=chunk.batch.slice(0, stop - chunk.start))

    def _unread_failures(self) -> Iterator[Any]:
        """Tables of the rows that the run did not read, as unsent."""
        for chunk_outcomes in self._unread_outcomes():
            yield chunk_outcomes.failures(with_cells=not self._source.keeps_rows)

    def _unread_outcomes(self) -> Iterator[ChunkOutcomes]:
        """The rows that the run did not read, as unsent."""
        columns = self._source.schema.names[: 1 if self._source.keeps_rows else None]
        code, reason = self._unsent_reason
        for chunk in self._unread_chunks(columns):
            chunk_outcomes = ChunkOutcomes(chunk, self.lineage.run)
            chunk_outcomes.set_outcome(
                np.arange(len(chunk_outcomes)),
                Outcome.UNSENT,
                code=code,
                reason=reason,
                status=0,
                attempts=0,
            )
            yield chunk_outcomes

    # --- Results: see FailureLog ---

    @property
    def counts(self) -> dict[str, int]:
        """Rows by outcome so far; every outcome is a key."""
        with self._lock:
            return {str(outcome): rows for outcome, rows in self._counts.items()}

    def maybe_twice(self, recorded: int = 0) -> int:
        """Rows that the server may have accepted more than once, in this run or before.

        Args:
            recorded: Such rows of earlier runs, as a journal has them. Those that this run did not
                look at may be among the rows of the table.
        """
        with self._lock:
            unseen = sum(self._counts.values()) - self._compared
            more = min(recorded - self._recorded_twice, unseen)
            return self._maybe_twice + max(0, more)

    def reasons(self) -> list[FailureReason]:
        """Why rows were not delivered, most rows first."""
        with self._lock:
            return list(self._reasons)

    def skipped(self) -> list[FailureReason]:
        """Why rows were skipped on purpose, most rows first."""
        with self._lock:
            return list(self._skipped)

    def event_counts(self) -> EventCounts:
        """Rows by event, time and outcome."""
        with self._lock:
            return self._histogram.counts()

    @property
    def runs(self) -> frozenset[str]:
        """This run."""
        return frozenset([self.lineage.run])

    @property
    def resent_runs(self) -> frozenset[str]:
        """The earlier runs whose failures this run sent again."""
        return self.lineage.runs

    def is_resent(self, table: Any) -> Mask:
        """Which rows of a table with the origin columns this run sent again."""
        return self.lineage.is_resent(table)

    def resent_origins(self) -> Iterator[Any]:
        """The origins of all rows that this run sent again, as tables."""
        return self.lineage.resent_origins()

    def label_and_type(self, column: str) -> tuple[Any, Any] | None:
        """Label of a column in the failures, and its Arrow type; None if it does not exist."""
        if column not in self._source.schema.names:
            return None
        return self._source.label(column), self._source.schema.field(column).type

    def failures(self, keep: Filter | None = None) -> pd.DataFrame:
        """The failures: the columns of the source, and ``cdp_...``.

        All rows at once: the frame can be as large as the input.

        Args:
            keep: Chooses rows by the origin columns of a table; None keeps all.
        """
        tables = list(self._tables(keep))
        if not tables:
            return self._frame(self._empty_table())
        schema = common_schema(lambda: tables)
        table = pa.concat_tables(with_schema(table, schema) for table in tables)
        # A chunk that was shrunk stores the rows last that were pending longest.
        order = np.argsort(table.column(POSITION).to_numpy(), kind="stable")
        return self._frame(table.take(pa.array(order)))

    def failure_tables(self, keep: Filter | None = None) -> Iterator[Any]:
        """The failures a part at a time, as Arrow tables of one schema; at least one table."""
        empty = True
        schema = common_schema(lambda: self._tables(keep))
        for table in self._tables(keep):
            empty = False
            yield self._typed(with_schema(table, schema))
        if empty:
            yield self._typed(self._empty_table())

    def failure_origins(self) -> Iterator[Any]:
        """Origin, outcome, code, reason, event and day of the failures, as Arrow tables."""
        for table in self._tables():
            events, days = self._histogram.events_and_days(table.column(EVENT_BIN))
            columns = table.select([*ORIGIN_COLUMNS, "cdp_outcome", "cdp_code", "cdp_reason"])
            columns = columns.append_column("event", events).append_column("day", days)
            yield columns.append_column("taken", table.column(TAKEN))

    def dropped(self) -> pd.DataFrame:
        """Which columns were left out of which rows because their messages were too large."""
        tables = list(self._dropped.tables())
        names = ("cdp_source", "cdp_row", "cdp_dropped")
        frame = pa.concat_tables(tables).to_pandas() if tables else pd.DataFrame(columns=names)
        return frame[[*names]].sort_values("cdp_row", kind="stable", ignore_index=True)

    def _tables(self, keep: Filter | None = None) -> Iterator[Any]:
        for table in self._all_tables():
            kept = table if keep is None else table.filter(pa.array(keep(table)))
            if kept.num_rows:
                yield kept

    def _all_tables(self) -> Iterator[Any]:
        yield from self._failures.tables()
        if self._unread_rows() and self._can_read_again:
            yield from self._unread_failures()

    def _frame(self, table: Any) -> pd.DataFrame:
        positions = table.column(POSITION).to_numpy()
        frame = as_frame(table.drop_columns([*_INTERNAL]))
        if not self._source.keeps_rows:
            return frame
        original = self._source.original(positions)
        # Failures that are sent again have such columns already; the new ones replace them.
        names = [name for name in FAILURE_COLUMNS if name in original.columns]
        original = original.drop(columns=names)
        frame.index = original.index
        return pd.concat([original, frame], axis="columns")

    def _typed(self, table: Any) -> Any:
        """Failures as a table for parquet, with the same types in each part."""
        if not self._source.keeps_rows:
            return table.drop_columns([*_INTERNAL])
        frame = self._source.typed(self._frame(table))
        typed = pa.Table.from_pandas(frame, preserve_index=True)
        for field in self._source.schema:
            at = typed.schema.get_field_index(field.name)
            if is_json(field.type) and at >= 0 and is_text(typed.schema.field(at).type):
                column = typed.column(at).cast(pa.string()).combine_chunks()
                json = pa.ExtensionArray.from_storage(pa.json_(), column)
                typed = typed.set_column(at, field.name, json)
        return typed

    def _empty_table(self) -> Any:
        columns = {name: pa.array([], kind) for name, kind in _TYPES.items()}
        if not self._source.keeps_rows:
            empty = failure_schema(self._source.schema).empty_table()
            columns = {name: empty.column(name).combine_chunks() for name in empty.column_names}
        return pa.table(columns | {name: pa.array([], pa.int64()) for name in _INTERNAL})


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


def failure_schema(schema: Any) -> Any:
    """The schema of failures with all cells: that of their table, and the columns of failures."""
    cells = schema.empty_table()
    columns = [plain(column.combine_chunks()) for column in cells.columns]
    kinds = {name: array.type for name, array in zip(schema.names, columns, strict=True)}
    return pa.schema(list((kinds | _TYPES).items()))


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


def as_frame(table: Any) -> pd.DataFrame:
    """Failures as a frame whose rows can be sent again: empty cells change no type."""
    table = for_pandas(table)
    try:
        frame: pd.DataFrame = table.to_pandas(types_mapper=_dtype)
    except (pa.ArrowException, ValueError, OverflowError):  # Python has no such time
        frame = table.to_pandas(types_mapper=_dtype_of_any_time)
    return frame


def _dtype_of_any_time(kind: Any) -> Any:
    return pd.ArrowDtype(kind) if pa.types.is_temporal(kind) else _dtype(kind)


def _dtype(kind: Any) -> Any:
    """The pandas dtype that keeps a column's type when its rows are sent again."""
    if pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType):
        return pd.ArrowDtype(kind)
    return _NULLABLE.get(kind)

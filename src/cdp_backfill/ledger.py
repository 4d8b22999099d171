"""The account of a run: what became of each row, and the rows that did not arrive.

Pages are filled in by the threads that learn the outcomes, under one lock, so that an interrupt
of the calling thread cannot come between an outcome and its being written down.
"""

from __future__ import annotations

import secrets
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from cdp_backfill.errors import AccountingError, BadInputError
from cdp_backfill.events_over_time import NOWHERE, Counted, EventsOverTime
from cdp_backfill.origins import ORIGIN_COLUMNS, Origins
from cdp_backfill.outcomes import FAILURE_COLUMNS, OUTCOMES, Outcome
from cdp_backfill.reasons import Reason, Reasons
from cdp_backfill.spill import FailureStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from cdp_backfill.messages import MessageBatch
    from cdp_backfill.outcomes import Problem
    from cdp_backfill.reasons import Place
    from cdp_backfill.sources import Chunk, Source

    Mask = npt.NDArray[np.bool_]
    Rows = npt.NDArray[np.int64]
    Keep = Callable[[Any], Mask] | None

_PENDING: Final = 255
_NO_ID: Final = -1
_POSITION: Final = "cdp position in the source"  # to get the rows back by; never shown
_CELL: Final = "cdp cell of event and time"
_HIDDEN: Final = (_POSITION, _CELL)
SPILL_BYTES: Final = 16 * 2**20
"""Failed rows that are kept in memory before they go to a temporary file, in bytes."""

_SPARSE: Final = 8  # a page is put away in part once so few of its rows wait

_SETTLED: Final = np.array([outcome.code for outcome in OUTCOMES if outcome.settled])


class Page:
    """The rows of one chunk, as long as they have no outcome.

    Args:
        ledger: The account that it belongs to.
        chunk: The rows.
    """

    def __init__(self, ledger: Ledger, chunk: Chunk) -> None:
        size = chunk.batch.num_rows
        self.start = chunk.start
        self._chunk = replace(chunk, batch=None)
        self._earlier = ledger.origins.earlier(chunk)
        self._ledger = ledger
        self._batch = chunk.batch
        self._rows = np.arange(size)  # positions in the chunk of the rows that are still here
        self._whole = True
        self._pending = size
        self._outcome = np.full(size, _PENDING, dtype=np.uint8)
        self._reason = np.zeros(size, dtype=np.int32)
        self._reasons: dict[tuple[str, str], int] = {}
        self._status = np.zeros(size, dtype=np.int16)
        self._attempts = np.zeros(size, dtype=np.int32)
        self._id_of = np.full(size, _NO_ID, dtype=np.int64)
        self._cell = np.full(size, NOWHERE, dtype=np.int32)
        self._ids: list[Any] = []

    @property
    def held_bytes(self) -> int:
        """Memory that the rows take."""
        arrays = sum(array.nbytes for array in self._arrays().values())
        earlier = 0 if self._earlier is None else self._earlier.nbytes
        return int(self._batch.nbytes) + int(earlier) + arrays

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        names = ("_rows", "_outcome", "_reason", "_status", "_attempts", "_id_of", "_cell")
        return {name: getattr(self, name) for name in names}

    def _at(self, rows: Rows) -> Rows:
        """Where rows of the chunk are here."""
        if self._whole:
            return rows
        at = np.minimum(np.searchsorted(self._rows, rows), len(self._rows) - 1)
        if (self._rows[at] != rows).any():
            raise AccountingError("A row got a second outcome. Please report this.")
        return at

    def place_in_time(self, batch: MessageBatch) -> None:
        """Note event and time of the rows, none of which has an outcome yet."""
        with self._ledger.lock:
            self._cell = self._ledger.over_time.cells(batch, len(self._rows))

    def name(self, rows: Rows, ids: Any) -> None:
        """Note the message ids of rows that have no outcome yet."""
        with self._ledger.lock:
            offset = sum(len(part) for part in self._ids)
            self._id_of[self._at(rows)] = np.arange(offset, offset + len(rows))
            self._ids.append(ids)

    def settle(
        self,
        rows: Rows,
        outcome: Outcome,
        *,
        code: str = "",
        reason: str = "",
        status: int = 0,
        attempts: int = 0,
        problems: tuple[Problem, ...] = (),
    ) -> None:
        """Write down what became of rows; once for each.

        Args:
            rows: Positions in the chunk.
            outcome: What became of them.
            code: Short name of the reason.
            reason: In words.
            status: HTTP status, or 0 for none.
            attempts: Times they were sent.

        Raises:
            AccountingError: A row is settled already.
        """
        if not len(rows):
            return
        with self._ledger.lock:
            at = self._at(rows)
            if not (self._outcome[at] == _PENDING).all():
                raise AccountingError("A row got a second outcome. Please report this.")
            self._outcome[at] = outcome.code
            self._reason[at] = self._reasons.setdefault((code, reason), len(self._reasons))
            self._status[at] = status
            self._attempts[at] = attempts
            self._pending -= len(rows)
            self._ledger.over_time.count(self._cell[at], outcome.code)
            self._ledger.count(
                outcome,
                len(rows),
                code=code,
                reason=reason,
                problems=problems,
                place=lambda: self._place(at[0]),
            )
            if self._pending * _SPARSE <= len(self._rows):
                self._put_away()

    def note_dropped(self, dropped: dict[str, Rows]) -> None:
        """Note which columns are left out of which rows of the chunk."""
        for column, rows in dropped.items():
            if len(rows):
                named = pa.repeat(pa.scalar(column), len(rows))
                table = self._places(rows).append_column("cdp_dropped", named)
                with self._ledger.lock:
                    self._ledger.dropped_rows.append(self.start, table)

    def settle_rest(self, code: str, reason: str) -> None:
        """Write down as unsent what has no outcome yet."""
        rows = self._rows[self._outcome == _PENDING]
        self.settle(rows, Outcome.UNSENT, code=code, reason=reason)

    def _places(self, at: Rows) -> Any:
        """Where these of the rows that are here were first."""
        if self._earlier is not None:
            return self._earlier.take(pa.array(at))
        return self._ledger.origins.own(self._chunk, self._rows[at])

    def _place(self, at: int) -> tuple[str | None, int]:
        (place,) = self._places(np.array([at])).to_pylist()
        return place["cdp_source"], place["cdp_row"]

    def _put_away(self) -> None:
        """Hand over the rows that failed, and keep only those that wait for an outcome.

        A row can wait long, for others that share its context or for a later attempt: it must
        not keep its whole chunk in memory.
        """
        self._ledger.keep(self.start, self._failures())
        if not self._pending:
            self._ledger.turn(self)
            return
        self._whole = False
        waiting = self._outcome == _PENDING
        self._batch = self._batch.filter(pa.array(waiting))
        if self._earlier is not None:
            self._earlier = self._earlier.filter(pa.array(waiting))
        for name, array in self._arrays().items():
            setattr(self, name, array[waiting])
        named = self._id_of != _NO_ID
        ids = pa.chunked_array(self._ids, pa.string()).take(pa.array(self._id_of[named]))
        self._ids = [ids.combine_chunks()]
        self._id_of[named] = np.arange(int(named.sum()))

    def _failures(self) -> Any | None:
        """The rows that did not arrive, as an Arrow table, or None where there are none."""
        settled = np.isin(self._outcome, _SETTLED)
        bad = np.flatnonzero(~settled & (self._outcome != _PENDING))
        if not len(bad):
            return None
        chosen = pa.array(bad)
        reason = pa.array(self._reason[bad])
        known = list(self._reasons)
        status = self._status[bad]
        ids = pa.chunked_array(self._ids, pa.string()).combine_chunks()
        where = self._id_of[bad]
        columns: dict[str, Any] = {}
        if self._ledger.keeps_batches:
            rows = self._batch.take(chosen)
            # Each chunk has categories of its own; a file of many chunks takes but one set.
            plain = [
                column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
                for column in rows.columns
            ]
            columns.update(zip(rows.schema.names, plain, strict=True))
        columns |= {
            "cdp_outcome": pa.array([str(outcome) for outcome in OUTCOMES]).take(
                pa.array(self._outcome[bad])
            ),
            "cdp_code": pa.array([code for code, _ in known], pa.string()).take(reason),
            "cdp_reason": pa.array([text for _, text in known], pa.string()).take(reason),
            "cdp_status": pa.array(status, mask=status == 0),
            "cdp_attempts": pa.array(self._attempts[bad]),
            "cdp_message_id": ids.take(pa.array(where, mask=where == _NO_ID)),
        }
        places = self._places(bad)
        for name in FAILURE_COLUMNS[-len(ORIGIN_COLUMNS) :]:
            columns[name] = places.column(name)
        columns[_POSITION] = pa.array(self.start + self._rows[bad])
        columns[_CELL] = pa.array(self._cell[bad])
        return pa.table(columns)


class Ledger:
    """The account of a run.

    Args:
        source: Where the rows come from.
    """

    def __init__(self, source: Source) -> None:
        self.lock = threading.RLock()
        self.unread = 0
        """Rows that the run never came to, once it is closed."""
        self._opened = 0
        self._why_unsent = ("", "")
        self._source = source
        self.origins = Origins(secrets.token_hex(6), source.schema)
        """Where the rows were first, if they are failures of an earlier run."""
        self.over_time = EventsOverTime()
        self._counts = dict.fromkeys(Outcome, 0)
        self._reasons = Reasons()
        self._pages: dict[int, Page] = {}
        self._store = FailureStore(SPILL_BYTES)
        self.dropped_rows = FailureStore(SPILL_BYTES)
        """What was left out of messages that were too large; for pages."""

    def page(self, chunk: Chunk) -> Page:
        """Begin to account for the rows of a chunk."""
        page = Page(self, chunk)
        if chunk.batch.num_rows:
            self._pages[id(page)] = page
            self._opened = chunk.start + chunk.batch.num_rows
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

    def keep(self, position: int, failures: Any | None) -> None:
        """Keep rows that failed; for pages."""
        if failures is not None:
            self._store.append(position, failures)

    def turn(self, page: Page) -> None:
        """Put away a page whose rows all have an outcome; for pages."""
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
        if self.origins.columns and self._source.replayable:
            self._open_rest()
        if left := self._to_read:
            first = self._opened if self._source.keeps_rows else None
            self.count(Outcome.UNSENT, left, code=code, reason=reason, place=lambda: (None, first))
        total = sum(self._counts.values())
        expected = self._source.rows if self._source.rows is not None else self._opened
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
        return frozenset([self.origins.run])

    @property
    def of(self) -> frozenset[str]:
        """The earlier runs whose rows it sent again."""
        return self.origins.runs

    @property
    def _to_read(self) -> int:
        """Rows that have no page."""
        return max(0, (self._source.rows or 0) - self._opened)

    def _open_rest(self) -> None:
        """Give the rows that the run never came to a page, if they come from an earlier run.

        Which of them were there before must be known, for the sum of both reports.
        """
        names = self.origins.columns if self._source.keeps_rows else self._source.schema.names
        try:
            for chunk in self._source.chunks(names, start=self._opened):
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
        order = np.argsort(table.column(_POSITION).to_numpy(), kind="stable")
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
            events, days = self.over_time.named(table.column(_CELL))
            chosen = table.select([*ORIGIN_COLUMNS, "cdp_outcome", "cdp_code", "cdp_reason"])
            yield chosen.append_column("event", events).append_column("day", days)

    def counted(self) -> Counted:
        """Rows by event, time and outcome."""
        with self.lock:
            return self.over_time.counted()

    def met(self, table: Any) -> Mask:
        """Which rows of such a table were sent again in this run."""
        return self.origins.met(table)

    def again(self) -> Iterator[Any]:
        """Where all rows that were sent again were first."""
        return self.origins.again()

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
        if self._to_read and self._source.replayable:
            yield from self._unread()

    def _frame(self, table: Any) -> pd.DataFrame:
        positions = table.column(_POSITION).to_numpy()
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
        for chunk in self._source.chunks(columns, start=self._opened):
            ledger = Ledger(self._source)
            ledger.origins = Origins(self.origins.run, pa.schema([]))
            ledger.page(chunk).settle_rest(*self._why_unsent)
            yield from ledger._store.tables()

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

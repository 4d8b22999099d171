"""The rows of one chunk, as long as they have no outcome."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from cdp_backfill.errors import AccountingError
from cdp_backfill.messages.encoding import NO_DIGESTS, Ids
from cdp_backfill.model.outcomes import FAILURE_COLUMNS, OUTCOMES, Outcome
from cdp_backfill.results.histogram import NOWHERE
from cdp_backfill.results.lineage import ORIGIN_COLUMNS

if TYPE_CHECKING:
    import numpy.typing as npt

    from cdp_backfill.messages import MessageBatch
    from cdp_backfill.model.outcomes import Problem
    from cdp_backfill.results.tracker import OutcomeTracker
    from cdp_backfill.sources import Chunk

    Rows = npt.NDArray[np.int64]

_PENDING: Final = 255
_NO_ID: Final = -1

POSITION: Final = "cdp position in the source"
"""Column of a failure to get the row back by; never shown."""

CELL: Final = "cdp cell of event and time"
"""Column of a failure that says where it was counted; never shown."""

_SPARSE: Final = 8  # a page can be put away in part once so few of its rows wait

_SETTLED: Final = np.array([outcome.code for outcome in OUTCOMES if outcome.settled])


class ChunkOutcomes:
    """The rows of one chunk, as long as they have no outcome.

    Args:
        tracker: The account that it belongs to.
        chunk: The rows.
    """

    def __init__(self, tracker: OutcomeTracker, chunk: Chunk) -> None:
        size = chunk.batch.num_rows
        self.start = chunk.start
        self._chunk = replace(chunk, batch=None)
        self._earlier = tracker.lineage.earlier(chunk)
        self._tracker = tracker
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
        self._ids: list[Ids] = []
        self._failed = False
        self.held_bytes = self._measured()
        """Memory that the rows take."""

    def _measured(self) -> int:
        earlier = 0 if self._earlier is None else self._earlier.nbytes
        return int(self._batch.nbytes) + int(earlier)

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
        with self._tracker.lock:
            self._cell = self._tracker.over_time.cells(batch, len(self._rows))

    def name(self, rows: Rows, ids: Ids) -> None:
        """Note the message ids of rows that have no outcome yet."""
        with self._tracker.lock:
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
        with self._tracker.lock:
            at = self._at(rows)
            if not (self._outcome[at] == _PENDING).all():
                raise AccountingError("A row got a second outcome. Please report this.")
            self._outcome[at] = outcome.code
            self._reason[at] = self._reasons.setdefault((code, reason), len(self._reasons))
            self._status[at] = status
            self._attempts[at] = attempts
            self._failed |= not outcome.settled
            self._pending -= len(rows)
            self._tracker.over_time.count(self._cell[at], outcome.code)
            self._tracker.count(
                outcome,
                len(rows),
                code=code,
                reason=reason,
                problems=problems,
                place=lambda: self._place(at[0]),
            )
            sparse = self._pending * _SPARSE <= len(self._rows)
            if not self._pending or (sparse and self._tracker.crowded):
                self._put_away()

    def note_dropped(self, dropped: dict[str, Rows]) -> None:
        """Note which columns are left out of which rows of the chunk."""
        for column, rows in dropped.items():
            if len(rows):
                named = pa.repeat(pa.scalar(column), len(rows))
                table = self._places(rows).append_column("cdp_dropped", named)
                with self._tracker.lock:
                    self._tracker.dropped_rows.append(self.start, table)

    def settle_rest(self, code: str, reason: str) -> None:
        """Write down as unsent what has no outcome yet."""
        rows = self._rows[self._outcome == _PENDING]
        self.settle(rows, Outcome.UNSENT, code=code, reason=reason)

    def _places(self, at: Rows) -> Any:
        """Where these of the rows that are here were first."""
        if self._earlier is not None:
            return self._earlier.take(pa.array(at))
        return self._tracker.lineage.own(self._chunk, self._rows[at])

    def _place(self, at: int) -> tuple[str | None, int]:
        (place,) = self._places(np.array([at])).to_pylist()
        return place["cdp_source"], place["cdp_row"]

    def _put_away(self) -> None:
        """Hand over the rows that failed, and keep only those that wait for an outcome.

        A row can wait long, for others that share its context or for a later attempt: it must
        not keep its whole chunk in memory.
        """
        if self._failed:
            self._tracker.keep(self.start, self._failures())
        if not self._pending:
            self._tracker.turn(self)
            return
        self._whole = self._failed = False
        waiting = self._outcome == _PENDING
        self._batch = self._batch.filter(pa.array(waiting))
        if self._earlier is not None:
            self._earlier = self._earlier.filter(pa.array(waiting))
        for name, array in self._arrays().items():
            setattr(self, name, array[waiting])
        named = self._id_of != _NO_ID
        self._ids = [Ids(NO_DIGESTS, self._all_ids().take(pa.array(self._id_of[named])))]
        self._id_of[named] = np.arange(int(named.sum()))
        self._tracker.shrunk(self, self._measured())

    def _all_ids(self) -> Any:
        arrays = [ids.array() for ids in self._ids]
        return pa.chunked_array(arrays, pa.string()).combine_chunks()

    def _failures(self) -> Any:
        """The rows that did not arrive, as an Arrow table."""
        settled = np.isin(self._outcome, _SETTLED)
        bad = np.flatnonzero(~settled & (self._outcome != _PENDING))
        chosen = pa.array(bad)
        reason = pa.array(self._reason[bad])
        known = list(self._reasons)
        status = self._status[bad]
        where = self._id_of[bad]
        ids = pa.nulls(len(bad), pa.string())
        if (where != _NO_ID).any():
            ids = self._all_ids().take(pa.array(where, mask=where == _NO_ID))
        columns: dict[str, Any] = {}
        if self._tracker.keeps_batches:
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
            "cdp_message_id": ids,
        }
        places = self._places(bad)
        for name in FAILURE_COLUMNS[-len(ORIGIN_COLUMNS) :]:
            columns[name] = places.column(name)
        columns[POSITION] = pa.array(self.start + self._rows[bad])
        columns[CELL] = pa.array(self._cell[bad])
        return pa.table(columns)

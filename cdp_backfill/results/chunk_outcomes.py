"""The outcomes of the rows of one chunk, until every row has one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from cdp_backfill.errors import AccountingError
from cdp_backfill.messages.ids import Ids
from cdp_backfill.model.outcomes import FAILURE_COLUMNS, OUTCOMES, UNMAPPED, Outcome
from cdp_backfill.results.histogram import NO_BIN
from cdp_backfill.results.lineage import ORIGIN_COLUMNS, own_origins
from cdp_backfill.results.readable import plain

if TYPE_CHECKING:
    import numpy.typing as npt

    from cdp_backfill.model.arrays import Rows
    from cdp_backfill.sources import Chunk


DELIVERED_BEFORE: Final = "delivered_before"
"""Code of rows that an earlier run delivered."""

_PENDING: Final = 255
_NO_ID: Final = -1

POSITION: Final = "cdp position in the source"
"""Internal column of a failure: the number of its row in the whole source."""

TAKEN: Final = "cdp times that the server may have accepted"
"""Internal column of a failure: how often the server may have accepted its row; 2 for more."""

EVENT_BIN: Final = "cdp bin of event and time"
"""Internal column of a failure: the bin of the event histogram that counts its row."""

_SETTLED: Final = np.array([outcome.code for outcome in OUTCOMES if outcome.settled])


class ChunkOutcomes:
    """The outcomes of the rows of one chunk, as arrays.

    Rows are given by their positions in the chunk. Not thread-safe: the
    :class:`~cdp_backfill.results.tracker.OutcomeTracker` that owns it holds the lock.

    Args:
        chunk: The rows.
        run: Name of this run.
        origins: An Arrow table with run, file and row number of each row, where some rows are
            failures of an earlier run; None where each row originates in this chunk.
    """

    def __init__(self, chunk: Chunk, run: str, origins: Any | None = None) -> None:
        size = chunk.batch.num_rows
        self.start = chunk.start
        """Number of the chunk's first row in the whole source."""
        self.pending = size
        """Number of rows without an outcome."""
        self.has_failures = False
        """Whether :meth:`failures` has rows."""
        self._chunk = replace(chunk, batch=None)
        self._run = run
        self._origins = origins
        self._batch = chunk.batch
        self._rows = np.arange(size)  # the rows that are still held, in ascending order
        self._complete = True  # whether these are all rows of the chunk
        self._outcome = np.full(size, _PENDING, dtype=np.uint8)
        self._reason = np.zeros(size, dtype=np.int32)
        self._reasons: dict[tuple[str, str], int] = {}
        self._status = np.zeros(size, dtype=np.int16)
        self._attempts = np.zeros(size, dtype=np.int32)
        self._id_index = np.full(size, _NO_ID, dtype=np.int64)
        self._event_bin = np.full(size, NO_BIN, dtype=np.int32)
        self._taken = np.zeros(size, dtype=np.uint8)
        self._sent: set[int] = set()
        self._ids: list[Ids] = []
        self.memory_bytes = self._measure()
        """Memory that the rows take, in bytes."""

    def __len__(self) -> int:
        return len(self._rows)

    def _measure(self) -> int:
        origins = 0 if self._origins is None else self._origins.nbytes
        return int(self._batch.nbytes) + int(origins)

    def _index(self, rows: Rows) -> Rows:
        """Where rows of the chunk stand in the arrays."""
        if self._complete:
            return rows
        index = np.minimum(np.searchsorted(self._rows, rows), len(self._rows) - 1)
        if (self._rows[index] != rows).any():
            raise _second_outcome()
        return index

    def set_event_bins(self, event_bins: npt.NDArray[np.int32]) -> None:
        """Set the bin of the event histogram of every row of the chunk."""
        self._event_bin = event_bins

    def event_bins(self, rows: Rows) -> npt.NDArray[np.int32]:
        """The bins of the event histogram that count these rows."""
        return self._event_bin[self._index(rows)]

    def set_message_ids(self, rows: Rows, ids: Ids) -> None:
        """Set the message ids of rows without an outcome."""
        offset = sum(len(part) for part in self._ids)
        self._id_index[self._index(rows)] = np.arange(offset, offset + len(rows))
        self._ids.append(ids)

    def taken(self, rows: Rows) -> npt.NDArray[np.uint8]:
        """How often the server may have accepted each of these rows: 0, 1, or 2 for more."""
        return self._taken[self._index(rows)]

    def add_taken(self, rows: Rows, times: npt.NDArray[np.uint8] | int) -> None:
        """Add to how often the server may have accepted each of these rows."""
        index = self._index(rows)
        self._taken[index] = np.minimum(2, self._taken[index] + times)

    def set_sent(self, rows: Rows) -> None:
        """Mark rows that the server may have accepted although no result of them was recorded."""
        self._sent.update(rows.tolist())

    def set_outcome(
        self, rows: Rows, outcome: Outcome, *, code: str, reason: str, status: int, attempts: int
    ) -> None:
        """Set the outcome of rows that have none.

        Args:
            rows: Positions in the chunk.
            outcome: Their outcome.
            code: Short name of the reason.
            reason: The reason in words.
            status: HTTP status, or 0 for none.
            attempts: How often they were sent.

        Raises:
            AccountingError: A row has an outcome already.
        """
        index = self._index(rows)
        if not (self._outcome[index] == _PENDING).all():
            raise _second_outcome()
        self._outcome[index] = outcome.code
        self._reason[index] = self._reasons.setdefault((code, reason), len(self._reasons))
        self._status[index] = status
        # A row that the server may have accepted was sent, be it by an earlier run.
        self._attempts[index] = np.maximum(attempts, self._taken[index])
        self.pending -= len(rows)
        self.has_failures |= not outcome.settled or code == UNMAPPED

    def pending_rows(self) -> Rows:
        """Positions of the rows without an outcome."""
        pending: Rows = self._rows[self._outcome == _PENDING]
        return pending

    def pending_sent_rows(self) -> Rows:
        """Those of them that the server may have accepted in this run."""
        pending = self.pending_rows()
        sent: Rows = pending[np.isin(pending, list(self._sent))]
        return sent

    def origins(self, rows: Rows) -> Any:
        """An Arrow table with run, file and row number of these rows."""
        return self._origins_at(self._index(rows))

    def _origins_at(self, index: Rows) -> Any:
        if self._origins is not None:
            return self._origins.take(pa.array(index))
        return own_origins(self._run, self._chunk, self._rows[index])

    def shrink(self) -> None:
        """Keep only the rows without an outcome.

        A row can wait long: for others with the same context, or for a further attempt. It must
        not keep its whole chunk in memory.
        """
        pending = self._outcome == _PENDING
        self._complete = self.has_failures = False
        self._batch = self._batch.filter(pa.array(pending))
        if self._origins is not None:
            self._origins = self._origins.filter(pa.array(pending))
        self._rows = self._rows[pending]
        self._outcome = self._outcome[pending]
        self._reason = self._reason[pending]
        self._status = self._status[pending]
        self._attempts = self._attempts[pending]
        self._id_index = self._id_index[pending]
        self._event_bin = self._event_bin[pending]
        self._taken = self._taken[pending]
        with_id = self._id_index != _NO_ID
        self._ids = [Ids.of_column(self._id_array().take(pa.array(self._id_index[with_id])))]
        self._id_index[with_id] = np.arange(int(with_id.sum()))
        self.memory_bytes = self._measure()

    def _id_array(self) -> Any:
        arrays = [ids.array() for ids in self._ids]
        return pa.chunked_array(arrays, pa.string()).combine_chunks()

    def failures(self, *, with_cells: bool) -> Any:
        """The rows that were not delivered nor skipped on purpose, as an Arrow table.

        Args:
            with_cells: Whether to include the columns of the chunk.
        """
        unmapped = [at for at, (code, _) in enumerate(self._reasons) if code == UNMAPPED]
        settled = np.isin(self._outcome, _SETTLED) & ~np.isin(self._reason, unmapped)
        index = np.flatnonzero(~settled & (self._outcome != _PENDING))
        columns = self._cells(index) if with_cells else {}
        reason, status = pa.array(self._reason[index]), self._status[index]
        codes, texts = ([pair[part] for pair in self._reasons] for part in (0, 1))
        columns |= {
            "cdp_outcome": self._outcomes_at(index),
            "cdp_code": pa.array(codes, pa.string()).take(reason),
            "cdp_reason": pa.array(texts, pa.string()).take(reason),
            "cdp_status": pa.array(status, mask=status == 0),
            "cdp_attempts": pa.array(self._attempts[index]),
            "cdp_message_id": self._ids_at(index),
        }
        origins = self._origins_at(index)
        for name in FAILURE_COLUMNS[-len(ORIGIN_COLUMNS) :]:
            columns[name] = origins.column(name)
        columns[POSITION] = pa.array(self.start + self._rows[index])
        columns[EVENT_BIN] = pa.array(self._event_bin[index])
        columns[TAKEN] = pa.array(self._taken[index])
        return pa.table(columns)

    def outcomes(self) -> Any:
        """All rows that are held and have an outcome, as an Arrow table for the outcome files."""
        index = np.flatnonzero(self._outcome != _PENDING)
        codes = [code for code, _ in self._reasons]
        before = np.array([code == DELIVERED_BEFORE for code in codes], dtype=bool)
        shown = [code if code not in ("", DELIVERED_BEFORE) else None for code in codes]
        origins = self._origins_at(index)
        return pa.table(
            {
                "origin_run": origins.column("cdp_run"),
                "source": origins.column("cdp_source"),
                "row": origins.column("cdp_row"),
                "outcome": self._outcomes_at(index),
                "code": pa.array(shown, pa.string()).take(pa.array(self._reason[index])),
                "message_id": self._ids_at(index),
                "delivered_before": pa.array(before[self._reason[index]]),
            }
        )

    def _outcomes_at(self, index: Rows) -> Any:
        return pa.array([str(outcome) for outcome in OUTCOMES]).take(pa.array(self._outcome[index]))

    def _ids_at(self, index: Rows) -> Any:
        """The message ids, null where a row has none."""
        id_index = self._id_index[index]
        if not (id_index != _NO_ID).any():
            return pa.nulls(len(index), pa.string())
        return self._id_array().take(pa.array(id_index, mask=id_index == _NO_ID))

    def _cells(self, index: Rows) -> dict[str, Any]:
        rows = self._batch.take(pa.array(index))
        # Each chunk has its own categories, and a file with many chunks allows only one set.
        return dict(zip(rows.schema.names, map(plain, rows.columns), strict=True))


def _second_outcome() -> AccountingError:
    return AccountingError(
        "A row got a second outcome. This is a bug in cdp-backfill: please report it."
    )

"""The origins of rows: failures that are sent again lead back to the table they came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.model.distinct import DIGEST_BYTES, DigestSet
from cdp_backfill.model.outcomes import Outcome
from cdp_backfill.results.readable import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from cdp_backfill.model.arrays import Mask
    from cdp_backfill.sources import Chunk


ORIGIN_COLUMNS: Final = ("cdp_run", "cdp_source", "cdp_row")
"""Columns of a failure with the origin of its row: the run, the file and the row number."""

DOUBT_COLUMNS: Final = ("cdp_outcome", "cdp_attempts")
"""Columns of a failure that tell whether the server may have accepted its row already."""

_NOT_TAKEN: Final = (Outcome.FAILED, Outcome.REFUSED)

_TYPES: Final = (pa.string(), pa.string(), pa.int64())
_ROW_BITS: Final = 40


class Lineage:
    """Finds the origin of each row of a table, and remembers which rows this run sends again.

    A frame of failures carries the origin of each row. A row that is sent again keeps its origin;
    a row that was added, or that occurs a second time, originates in this run.

    Args:
        run: Name of this run.
        schema: Arrow schema of the table.
    """

    def __init__(self, run: str, schema: Any) -> None:
        self.run = run
        """Name of this run."""
        self.columns: tuple[str, ...] = ()
        """The columns of the table that lead back to an earlier run; none without an origin."""
        if set(ORIGIN_COLUMNS) <= set(schema.names):
            self.columns = (*ORIGIN_COLUMNS, *(n for n in DOUBT_COLUMNS if n in schema.names))
        self._seen = DigestSet()
        self._tables: dict[tuple[str, str | None], int] = {}  # numbers of pairs of run and file

    @property
    def runs(self) -> frozenset[str]:
        """The earlier runs whose rows this run sends again."""
        return frozenset(run for run, _ in self._tables)

    def origins(self, chunk: Chunk) -> Any | None:
        """An Arrow table with the origin of each row; None if no row comes from an earlier run.

        Args:
            chunk: A chunk of the table. Its rows count as sent again from now on.
        """
        if not self.columns:
            return None
        recorded = _recorded_origins(chunk.batch)
        if recorded is None:
            return None
        own = own_origins(self.run, chunk, np.arange(chunk.batch.num_rows))
        keys, resent = self._keys(recorded, add=True)
        resent[resent] = ~self._seen.before(keys[resent])
        mask = pa.array(resent)
        columns = (
            pc.if_else(mask, earlier.combine_chunks(), here.combine_chunks())
            for earlier, here in zip(recorded.columns, own.columns, strict=True)
        )
        return pa.table(dict(zip(ORIGIN_COLUMNS, columns, strict=True)))

    def is_resent(self, table: Any) -> Mask:
        """Which rows of a table with the origin columns this run sent again."""
        keys, resent = self._keys(table, add=False)
        resent[resent] = self._seen.has(keys[resent])
        return resent

    def resent_origins(self) -> Iterator[Any]:
        """The origins of all rows that this run sent again, as Arrow tables."""
        tables = list(self._tables)
        for keys in self._seen.firsts():
            number, row = keys >> np.uint64(_ROW_BITS), keys & np.uint64(2**_ROW_BITS - 1)
            unique, inverse = np.unique(number, return_inverse=True)
            pairs, index = [tables[n] for n in unique], pa.array(inverse)
            runs, sources = (
                pa.array([pair[part] for pair in pairs], pa.string()).take(index) for part in (0, 1)
            )
            columns = (runs, sources, pa.array(row.astype(np.int64)))
            yield pa.table(dict(zip(ORIGIN_COLUMNS, columns, strict=True)))

    def _keys(self, table: Any, *, add: bool) -> tuple[npt.NDArray[np.uint8], Mask]:
        """A key for each row, made of its origin, and a mask of the rows with a valid origin.

        Args:
            table: A table with the origin columns.
            add: Whether to number runs and files that have no number; otherwise, their rows have
                no valid origin.
        """
        runs, sources, rows = (
            table.column(name).combine_chunks().cast(kind)
            for name, kind in zip(ORIGIN_COLUMNS, _TYPES, strict=True)
        )
        runs, sources = runs.dictionary_encode(), sources.dictionary_encode("encode")
        number = rows.fill_null(-1).to_numpy(zero_copy_only=False)
        run = runs.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        source = sources.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        valid = (run >= 0) & (number >= 0) & (number < 2**_ROW_BITS)
        run_names, source_names = runs.dictionary.to_pylist(), sources.dictionary.to_pylist()
        pair = run * len(source_names) + source
        table_number = np.full(len(pair), -1, dtype=np.int64)
        for code in np.unique(pair[valid]):
            key = (run_names[code // len(source_names)], source_names[code % len(source_names)])
            if add:
                self._tables.setdefault(key, len(self._tables))
            table_number[pair == code] = self._tables.get(key, -1)
        valid &= table_number >= 0
        keys = np.zeros((len(pair), DIGEST_BYTES), dtype=np.uint8)
        combined = ((table_number << _ROW_BITS) | number).astype(">u8")
        keys[:, :8] = combined.view(np.uint8).reshape(-1, 8)
        return keys, valid


def earlier_doubts(batch: Any) -> npt.NDArray[np.uint8]:
    """How often the server may have accepted each failure of an earlier run: 0, 1, or 2 for more.

    Args:
        batch: Rows with the origin columns. If they lack the other columns that tell, it may have
            accepted them more than once.
    """
    most = np.full(batch.num_rows, 2, dtype=np.uint8)
    if not set(DOUBT_COLUMNS) <= set(batch.schema.names):
        return most
    outcomes, attempts = (plain(batch.column(name)) for name in DOUBT_COLUMNS)
    try:
        settled = pc.is_in(outcomes.cast(pa.string()), value_set=pa.array(map(str, _NOT_TAKEN)))
        times = attempts.cast(pa.float64()).fill_null(2.0).to_numpy(zero_copy_only=False)
    except pa.ArrowException:
        return most
    doubts = np.where(np.isnan(times), 2.0, np.clip(times, 0.0, 2.0)).astype(np.uint8)
    doubts[settled.to_numpy(zero_copy_only=False)] = 0
    return doubts


def own_origins(run: str, chunk: Chunk, rows: npt.NDArray[np.int64]) -> Any:
    """An Arrow table with the origin of rows that originate in this run.

    Args:
        run: Name of this run.
        chunk: The chunk of the rows.
        rows: Their positions in the chunk.
    """
    source = pa.repeat(pa.scalar(chunk.origin, pa.string()), len(rows))
    columns = (pa.repeat(run, len(rows)), source, pa.array(chunk.origin_start + rows))
    return pa.table(dict(zip(ORIGIN_COLUMNS, columns, strict=True)))


def _recorded_origins(batch: Any) -> Any | None:
    """The origin columns of a batch; None if their types are not those that a report writes."""
    columns = {}
    try:
        for name, kind in zip(ORIGIN_COLUMNS, _TYPES, strict=True):
            columns[name] = plain(batch.column(name)).cast(kind)
    except pa.ArrowException:
        return None
    return pa.table(columns)

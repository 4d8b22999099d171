"""Where rows were first: failures that are sent again lead back to the table they came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.model.distinct import DIGEST_BYTES, DigestSet

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from cdp_backfill.sources import Chunk

    Mask = npt.NDArray[np.bool_]

ORIGIN_COLUMNS: Final = ("cdp_run", "cdp_source", "cdp_row")
"""What of the columns of a failure says where its row was first."""

_KINDS: Final = (pa.string(), pa.string(), pa.int64())
_ROW_BITS: Final = 40


class Lineage:
    """Tells where each row of a table was first, and remembers which rows of before it met.

    A frame of failures carries the run, the file and the number of each row. A row that is sent
    again keeps them; one that was added, or is there a second time, is a row of this run.

    Args:
        run: Name of this run.
        schema: Arrow schema of the table.
    """

    def __init__(self, run: str, schema: Any) -> None:
        self.run = run
        self.columns = ORIGIN_COLUMNS if set(ORIGIN_COLUMNS) <= set(schema.names) else ()
        """Columns of the table to read, if it has failures of an earlier run."""
        self._seen = DigestSet()
        self._numbers: dict[tuple[str, str | None], int] = {}

    @property
    def runs(self) -> frozenset[str]:
        """The earlier runs whose rows it met."""
        return frozenset(run for run, _ in self._numbers)

    def earlier(self, chunk: Chunk) -> Any | None:
        """The same for all rows of a chunk and where they were first; None if that is here."""
        if not self.columns:
            return None
        told = self._told(chunk.batch)
        own = own_origins(self.run, chunk, np.arange(chunk.batch.num_rows))
        if told is None:
            return None
        keys, known = self._keys(told, learn=True)
        known[known] = ~self._seen.before(keys[known])
        mask = pa.array(known)
        columns = (
            pc.if_else(mask, before.combine_chunks(), here.combine_chunks())
            for before, here in zip(told.columns, own.columns, strict=True)
        )
        return pa.table(dict(zip(ORIGIN_COLUMNS, columns, strict=True)))

    def met(self, table: Any) -> Mask:
        """True for each row of a table with these columns that was sent again in this run."""
        keys, known = self._keys(table, learn=False)
        known[known] = self._seen.has(keys[known])
        return known

    def again(self) -> Iterator[Any]:
        """Where all rows that were sent again were first, as tables."""
        names = list(self._numbers)
        for keys in self._seen.firsts():
            number, row = keys >> np.uint64(_ROW_BITS), keys & np.uint64(2**_ROW_BITS - 1)
            places = [names[at] for at in np.unique(number)]
            at = pa.array(np.unique(number, return_inverse=True)[1])
            runs, sources = (
                pa.array([place[part] for place in places], pa.string()).take(at) for part in (0, 1)
            )
            columns = (runs, sources, pa.array(row.astype(np.int64)))
            yield pa.table(dict(zip(ORIGIN_COLUMNS, columns, strict=True)))

    @staticmethod
    def _told(batch: Any) -> Any | None:
        """What the rows say of themselves, or None where that is nothing that a report wrote."""
        columns = {}
        try:
            for name, kind in zip(ORIGIN_COLUMNS, _KINDS, strict=True):
                array = batch.column(name)
                if pa.types.is_dictionary(array.type):
                    array = array.dictionary_decode()
                columns[name] = array.cast(kind)
        except pa.ArrowException:
            return None
        return pa.table(columns)

    def _keys(self, table: Any, *, learn: bool) -> tuple[npt.NDArray[np.uint8], Mask]:
        """A key for each row, and whether it has one."""
        runs, sources, rows = (
            table.column(name).combine_chunks().cast(kind)
            for name, kind in zip(ORIGIN_COLUMNS, _KINDS, strict=True)
        )
        runs, sources = runs.dictionary_encode(), sources.dictionary_encode("encode")
        number = rows.fill_null(-1).to_numpy(zero_copy_only=False)
        run = runs.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        source = sources.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        known = (run >= 0) & (number >= 0) & (number < 2**_ROW_BITS)
        run_names, source_names = runs.dictionary.to_pylist(), sources.dictionary.to_pylist()
        both = run * len(source_names) + source
        table_of = np.full(len(both), -1, dtype=np.int64)
        for pair in np.unique(both[known]):
            place = (run_names[pair // len(source_names)], source_names[pair % len(source_names)])
            if learn:
                self._numbers.setdefault(place, len(self._numbers))
            table_of[both == pair] = self._numbers.get(place, -1)
        known &= table_of >= 0
        keys = np.zeros((len(both), DIGEST_BYTES), dtype=np.uint8)
        joined = ((table_of << _ROW_BITS) | number).astype(">u8")
        keys[:, :8] = joined.view(np.uint8).reshape(-1, 8)
        return keys, known


def own_origins(run: str, chunk: Chunk, rows: npt.NDArray[np.int64]) -> Any:
    """An Arrow table with the run, file and row number of rows that originate in this run.

    Args:
        run: Name of this run.
        chunk: The chunk of the rows.
        rows: Their positions in the chunk.
    """
    source = pa.repeat(pa.scalar(chunk.origin, pa.string()), len(rows))
    columns = (pa.repeat(run, len(rows)), source, pa.array(chunk.origin_start + rows))
    return pa.table(dict(zip(ORIGIN_COLUMNS, columns, strict=True)))

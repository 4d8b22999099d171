"""Tells whether a table is still what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import xxhash

if TYPE_CHECKING:
    from cdp_backfill.sources.chunks import Source

_TABLE = "stamped"
_QUERY = f"SELECT count(*), sum(hash({_TABLE})), bit_xor(hash({_TABLE})) FROM {_TABLE}"  # noqa: S608


class ContentFingerprint:
    """A hash over the rows of a table, whatever order they are read in.

    Args:
        schema: Columns of the table.
    """

    def __init__(self, schema: Any) -> None:
        self._connection = duckdb.connect()
        self._connection.execute("SET threads = 1")
        self._names = [item.name for item in schema if self._takes(item)]
        # Of types that DuckDB does not know, the bytes of each chunk are taken as they are.
        self._others = [name for name in schema.names if name not in self._names]
        self._rows = self._sum = self._mixed = 0
        self._add(f"{schema.remove_metadata()}".encode())

    def _takes(self, item: Any) -> bool:
        try:
            self._hashed(pa.schema([item]).empty_table())
        except (duckdb.Error, pa.ArrowException):
            return False
        return True

    def _hashed(self, table: Any) -> tuple[int, int, int]:
        self._connection.register(_TABLE, table)
        rows, total, mixed = self._connection.execute(_QUERY).fetchall()[0]
        return rows, total or 0, mixed or 0

    def add(self, batch: Any) -> None:
        """Take rows in."""
        self._rows += batch.num_rows
        if self._names and batch.num_rows:
            _, total, mixed = self._hashed(batch.select(self._names))
            self._sum += int(total)
            self._mixed ^= int(mixed)
        if self._others and batch.num_rows:
            self._add(batch.select(self._others).serialize().to_pybytes())

    def _add(self, data: bytes) -> None:
        self._sum += xxhash.xxh3_64_intdigest(data)

    @property
    def value(self) -> tuple[int, int, int]:
        """What changes when a row does."""
        return self._rows, self._sum, self._mixed


def current_fingerprint(source: Source) -> tuple[Any, ...]:
    """The fingerprint of a table as it is now; reads it only where nothing else tells."""
    cheap = source.fingerprint()
    if cheap is not None:
        return cheap
    content = ContentFingerprint(source.schema)
    for chunk in source.chunks(source.schema.names):
        content.add(chunk.batch)
    return content.value

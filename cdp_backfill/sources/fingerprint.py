"""Fingerprints of tables: whether a table has changed since it was read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import xxhash

if TYPE_CHECKING:
    from cdp_backfill.sources.chunks import Source

_TABLE = "rows"
_QUERY = f"SELECT count(*), sum(hash({_TABLE})), bit_xor(hash({_TABLE})) FROM {_TABLE}"  # noqa: S608


class ContentFingerprint:
    """A hash over the rows of a table, in whatever order they are read.

    Args:
        schema: Columns of the table.
    """

    def __init__(self, schema: Any) -> None:
        self._connection = duckdb.connect()
        self._connection.execute("SET threads = 1")
        self._names = [item.name for item in schema if self._is_hashable(item)]
        # Columns of types that DuckDB does not know enter as the bytes of each chunk.
        self._others = [name for name in schema.names if name not in self._names]
        self._rows = self._sum = self._xor = 0
        self._add(f"{schema.remove_metadata()}".encode())

    def _is_hashable(self, item: Any) -> bool:
        try:
            self._hash(pa.schema([item]).empty_table())
        except (duckdb.Error, pa.ArrowException):
            return False
        return True

    def _hash(self, table: Any) -> tuple[int, int, int]:
        self._connection.register(_TABLE, table)
        rows, total, xor = self._connection.execute(_QUERY).fetchall()[0]
        return rows, total or 0, xor or 0

    def add(self, batch: Any) -> None:
        """Add rows."""
        self._rows += batch.num_rows
        if self._names and batch.num_rows:
            chosen = batch.select(self._names)
            raw = [_raw(column) for column in chosen.columns]
            try:
                _, total, xor = self._hash(pa.RecordBatch.from_arrays(raw, self._names))
            except (duckdb.Error, pa.ArrowException):  # at a cell inside another one
                self._add(chosen.serialize().to_pybytes())
            else:
                self._sum += int(total)
                self._xor ^= int(xor)
        if self._others and batch.num_rows:
            self._add(batch.select(self._others).serialize().to_pybytes())

    def _add(self, data: bytes) -> None:
        self._sum += xxhash.xxh3_64_intdigest(data)

    @property
    def value(self) -> tuple[int, int, int]:
        """The fingerprint: it changes when a row does."""
        return self._rows, self._sum, self._xor


def _raw(array: Any) -> Any:
    """Times as whole numbers: DuckDB fails at times that are in no calendar."""
    types = pa.types
    if (
        types.is_timestamp(array.type)
        or types.is_duration(array.type)
        or types.is_date64(array.type)
    ):
        return array.cast(pa.int64())
    return array


def current_fingerprint(source: Source) -> tuple[Any, ...]:
    """The fingerprint of a table as it is now; reads the rows only where it must."""
    fingerprint = source.fingerprint()
    if fingerprint is not None:
        return fingerprint
    content = ContentFingerprint(source.schema)
    for chunk in source.chunks(source.schema.names):
        content.add(chunk.batch)
    return content.value

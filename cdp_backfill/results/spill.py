"""Stores tables of rows: some in memory, the rest in a temporary file."""

from __future__ import annotations

import contextlib
import mmap
import tempfile
import weakref
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.ipc

from cdp_backfill.results.joined_tables import common_schema, with_schema

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a table is in the file: the part of the file that holds it, and its number there."""

    start: int
    size: int
    number: int


class TableStore:
    """Stores tables of rows in memory, and moves them to a temporary file at a limit.

    The file has no name that anybody else could open (on Windows, it is deleted on closing), so the
    system removes it at any end of the process, even a kill.

    Args:
        spill_bytes: Bytes that may stay in memory.
    """

    def __init__(self, spill_bytes: int) -> None:
        self._spill_bytes = spill_bytes
        self._in_memory: list[tuple[int, Any]] = []
        self._memory_bytes = 0
        self._file: IO[bytes] | None = None
        self._file_bytes = 0
        self._on_disk: list[tuple[int, _Place]] = []  # with the position

    def append(self, position: int, table: Any) -> None:
        """Store a table.

        Args:
            position: Its position among all tables, which may be stored in any order.
            table: The rows.
        """
        self._in_memory.append((position, table))
        self._memory_bytes += table.nbytes
        if self._memory_bytes > self._spill_bytes:
            # With a full disk, the tables stay in memory: no row may be lost.
            with contextlib.suppress(OSError, pa.ArrowException):
                self._spill()

    def _spill(self) -> None:
        """Append the tables in memory to the file, as one part."""
        if self._file is None:
            file: Any = tempfile.TemporaryFile(prefix="cdp-backfill-")  # noqa: SIM115
            self._file = file
            weakref.finalize(self, _close, file)
        schema = common_schema(lambda: (table for _, table in self._in_memory))
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        # What an attempt left behind on a full disk is written over.
        start = -(-self._file_bytes // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        self._file.seek(start)
        sink = pa.PythonFile(self._file, mode="w")
        with pa.ipc.new_file(sink, schema, options=options) as writer:
            for _, table in self._in_memory:
                writer.write_table(with_schema(table, schema).combine_chunks())
        self._file.flush()
        size = self._file.tell() - start
        self._on_disk.extend(
            (position, _Place(start, size, n)) for n, (position, _) in enumerate(self._in_memory)
        )
        self._file_bytes = start + size
        self._in_memory, self._memory_bytes = [], 0

    def tables(self) -> Iterator[Any]:
        """All tables, by position."""
        entries: list[tuple[int, Any]] = [*self._on_disk, *self._in_memory]
        for _, table in sorted(entries, key=lambda entry: entry[0]):
            yield self._read(table) if isinstance(table, _Place) else table

    def _read(self, place: _Place) -> Any:
        assert self._file is not None  # noqa: S101  # the place is in it
        part = mmap.mmap(
            self._file.fileno(), place.size, access=mmap.ACCESS_READ, offset=place.start
        )
        with pa.BufferReader(pa.py_buffer(part)) as reader:
            return pa.Table.from_batches([pa.ipc.open_file(reader).get_batch(place.number)])


def _close(file: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # a full disk: what was not written is not needed
        file.close()

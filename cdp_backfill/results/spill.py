"""Stores tables of rows: some in memory, the rest in temporary files."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.ipc

from cdp_backfill.results.common_types import common_schema, in_schema

if TYPE_CHECKING:
    from collections.abc import Iterator


class TableStore:
    """Stores tables of rows in memory, and moves them to temporary files at a limit.

    The files are deleted with the store.

    Args:
        spill_bytes: Bytes that may stay in memory.
    """

    def __init__(self, spill_bytes: int) -> None:
        self._spill_bytes = spill_bytes
        self._in_memory: list[tuple[int, Any]] = []
        self._memory_bytes = 0
        self._folder: Path | None = None
        self._numbers = itertools.count()
        self._on_disk: list[tuple[int, Path, int]] = []  # position, file, number in the file

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
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="cdp-backfill-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        schema = common_schema(table.schema for _, table in self._in_memory)
        path = self._folder / f"{next(self._numbers):06d}.arrow"
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_file(str(path), schema, options=options) as writer:
            for _, table in self._in_memory:
                writer.write_table(in_schema(table.combine_chunks(), schema).combine_chunks())
        self._on_disk.extend((position, path, n) for n, (position, _) in enumerate(self._in_memory))
        self._in_memory, self._memory_bytes = [], 0

    def tables(self) -> Iterator[Any]:
        """All tables, by position."""
        entries: list[tuple[int, Any, int]] = [*self._on_disk]
        entries += [(position, table, 0) for position, table in self._in_memory]
        for _, table_or_path, number in sorted(entries, key=lambda entry: entry[0]):
            if isinstance(table_or_path, Path):
                with pa.memory_map(str(table_or_path)) as file:
                    yield pa.Table.from_batches([pa.ipc.open_file(file).get_batch(number)])
            else:
                yield table_or_path

"""Failed rows: a little in memory, the rest on disk."""

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

if TYPE_CHECKING:
    from collections.abc import Iterator


class FailureStore:
    """Tables of failed rows: a little in memory, the rest in a temporary file.

    Args:
        spill_bytes: How much may stay in memory.
    """

    def __init__(self, spill_bytes: int) -> None:
        self._spill_bytes = spill_bytes
        self._held: list[tuple[int, Any]] = []
        self._held_bytes = 0
        self._folder: Path | None = None
        self._numbers = itertools.count()
        self._spilled: list[tuple[int, Path, int]] = []

    def append(self, position: int, table: Any) -> None:
        """Keep a table.

        Args:
            position: Where it belongs among the others.
            table: Failed rows; the tables may come in any order.
        """
        self._held.append((position, table))
        self._held_bytes += table.nbytes
        if self._held_bytes > self._spill_bytes:
            # A disk that takes nothing more must not cost a row: then memory keeps them.
            with contextlib.suppress(OSError, pa.ArrowException):
                self._spill()

    def _spill(self) -> None:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="cdp-backfill-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        schema = pa.unify_schemas(
            [table.schema for _, table in self._held], promote_options="permissive"
        )
        path = self._folder / f"{next(self._numbers):06d}.arrow"
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_file(str(path), schema, options=options) as writer:
            for _, table in self._held:
                writer.write_table(table.combine_chunks().cast(schema))
        spilled = [(position, path, n) for n, (position, _) in enumerate(self._held)]
        self._spilled.extend(spilled)
        self._held, self._held_bytes = [], 0

    def tables(self) -> Iterator[Any]:
        """All tables, each where it belongs."""
        places: list[tuple[int, Any, int]] = [*self._spilled]
        places += [(position, table, 0) for position, table in self._held]
        for _, place, number in sorted(places, key=lambda found: found[0]):
            if isinstance(place, Path):
                with pa.memory_map(str(place)) as file:
                    yield pa.Table.from_batches([pa.ipc.open_file(file).get_batch(number)])
            else:
                yield place

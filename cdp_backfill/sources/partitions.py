"""Columns in the names of folders, such as ``year=2024``, as Hive and Spark write them."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import pyarrow as pa

from cdp_backfill.sources.chunks import Chunk, Source
from cdp_backfill.sources.texts.cell_types import CellTypes, column_type, convert

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Mapping, Sequence

    from cdp_backfill.sources.paths import File

_FOLDER: Final = re.compile(r"([^=/]+)=(.*)")
_EMPTY: Final = "__HIVE_DEFAULT_PARTITION__"


def partition_of(file: File) -> dict[str, str | None]:
    """The columns in the names of the folders of a file, with their cells.

    All folders from the root on count, so that the same file has the same columns whether you pass
    it, its folder or a glob.

    >>> from cdp_backfill.sources.paths import File
    >>> partition_of(File("s3://b/year=2024/city=K%C3%B6ln/a.csv", None, "b/year=2024"))
    {'year': '2024', 'city': 'Köln'}
    """
    name = file.name if "://" in file.name else Path(file.name).absolute().as_posix()
    matches = (_FOLDER.fullmatch(part) for part in PurePosixPath(name).parts[:-1])
    return {
        unquote(match[1]): None if match[2] == _EMPTY else unquote(match[2])
        for match in matches
        if match
    }


class PartitionedSource(Source):
    """Files with further columns, each of which has one cell for all rows of a file.

    Args:
        inner: The files.
        cells: For each file, its cells by column.
        text: Columns that stay text.
        given: Types of another table; see :meth:`Source.settled`.
    """

    def __init__(
        self,
        inner: Source,
        cells: dict[str, dict[str, str | None]],
        text: Collection[str] = (),
        given: Mapping[str, str] | None = None,
    ) -> None:
        self._inner, self._cells, self._text, self._given = inner, cells, text, given
        names = dict.fromkeys(name for own in cells.values() for name in own)
        own_names = [name for name in names if name not in inner.schema.names]
        self._kinds = self._settled_kinds([name for name in own_names if name not in text])
        types = {name: column_type(self._kinds.get(name)) for name in own_names}
        self._types: dict[str, Any] = types
        self.name, self.rows = inner.name, inner.rows
        self.paths, self.types_vary = inner.paths, inner.types_vary
        self.earlier_mapping, self.earlier_url = inner.earlier_mapping, inner.earlier_url
        self.earlier_left_out = inner.earlier_left_out
        self.schema = pa.schema([*inner.schema, *types.items()])
        found = {name: str(kind) for name, kind in types.items() if kind != pa.string()}
        self.found_types = {**(inner.found_types or {}), **found} if given is None else given
        listed = ", ".join(map(repr, types))
        notes = [f"Columns that come from the names of folders: {listed}."] if types else []
        taken = ", ".join(repr(name) for name in names if name not in types)
        if taken:
            notes.append(
                f"The names of folders also have {taken}, which the files have themselves. The "
                "cells in the files count."
            )
        self.notes = (*inner.notes, *notes)

    def _settled_kinds(self, names: Sequence[str]) -> dict[str, Any]:
        """The types of columns that are not text, as in CSV files; without others, numbers."""
        types = CellTypes(names, self._given)
        columns = {
            name: pa.array([own.get(name) for own in self._cells.values()], pa.string())
            for name in names
        }
        types.check(pa.RecordBatch.from_pydict(columns))
        found = types.result()
        if self._given is None:  # such as versions: 1.10 and 1.1 are two folders
            found = {name: kind for name, kind in found.items() if kind == pa.int64()}
        return found

    def _with(self, inner: Source) -> PartitionedSource:
        return PartitionedSource(inner, self._cells, self._text, self._given)

    def settled(self, text: Collection[str], types: Mapping[str, str] | None = None) -> Source:
        """The same files with final column types; see :class:`Source`."""
        return PartitionedSource(self._inner.settled(text, types), self._cells, text, types)

    def parts(self, count: int) -> list[Source]:
        """The files in parts; see :class:`Source`."""
        return [self._with(part) for part in self._inner.parts(count)]

    def fingerprint(self) -> tuple[Any, ...] | None:
        """The fingerprint of the files; it has the names of the folders."""
        return self._inner.fingerprint()

    def chunks(self, columns: Sequence[str], *, start: int = 0) -> Generator[Chunk]:
        """Read the rows in order, file by file."""
        inner = [name for name in columns if name not in self._types]
        for chunk in self._inner.chunks(inner, start=start):
            yield self._extended(chunk, columns)

    def _extended(self, chunk: Chunk, columns: Sequence[str]) -> Chunk:
        if not any(name in self._types for name in columns):
            return chunk
        own = self._cells[chunk.origin or ""]
        arrays = [
            self._repeated(own.get(name), self._kinds.get(name), chunk.batch.num_rows)
            if name in self._types
            else chunk.batch.column(name)
            for name in columns
        ]
        batch = pa.RecordBatch.from_arrays(arrays, list(columns))
        return Chunk(batch, chunk.start, chunk.origin, chunk.origin_start)

    @staticmethod
    def _repeated(cell: str | None, kind: Any, rows: int) -> Any:
        one = convert(pa.array([cell], pa.string()), kind)
        if not isinstance(one, pa.ExtensionArray):
            return pa.repeat(one[0], rows)
        return pa.ExtensionArray.from_storage(one.type, pa.repeat(one.storage[0], rows))

"""Parquet files, one or many."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cdp_backfill.errors import SourceError
from cdp_backfill.sources.chunks import CHUNK_BYTES, CHUNK_ROWS, Chunk, Source, check_names, slices

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from cdp_backfill.sources.paths import File


_OTHER_ENDINGS: Final = {
    ".feather": "pandas.read_feather",
    ".arrow": "pandas.read_feather",
    ".orc": "pandas.read_orc",
    ".xlsx": "pandas.read_excel",
}


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    path: str
    system: Any
    rows: int
    row_bytes: int
    group_rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some row groups of a file, one after another.

    Attributes:
        file: The file.
        groups: Numbers of the row groups.
        rows: Number of their rows.
        start: Number of their first row in the whole source.
        origin_start: Number of their first row in the file.
    """

    file: _File
    groups: tuple[int, ...]
    rows: int
    start: int
    origin_start: int


class ParquetSource(Source):
    """Parquet files, read one after another.

    Args:
        files: Name, file system and path there of each.

    Raises:
        SourceError: A file is missing or is not parquet, or the files do not fit together.
    """

    def __init__(self, files: Sequence[File]) -> None:
        self._files: list[_File] = []
        schemas = []
        for name, system, path in files:
            with _open(name, system, path) as file:
                metadata, schema = file.metadata, file.schema_arrow
            check_names(schema.names, f"The file {name!r}")
            groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
            size = sum(group.total_byte_size for group in groups)
            rows = metadata.num_rows
            group_rows = tuple(group.num_rows for group in groups)
            self._files.append(_File(name, path, system, rows, size // max(1, rows), group_rows))
            schemas.append(schema.remove_metadata())
        self.name = self._files[0].name if len(files) == 1 else f"{len(files)} parquet files"
        starts = np.cumsum([0, *(file.rows for file in self._files)]).tolist()
        self._take(
            [
                _Piece(file, tuple(range(len(file.group_rows))), file.rows, start, 0)
                for file, start in zip(self._files, starts, strict=False)
            ]
        )
        self.schema = self._unified(schemas)

    def _unified(self, schemas: list[Any]) -> Any:
        result = schemas[0]
        for file, schema in zip(self._files, schemas, strict=True):
            try:
                result = pa.unify_schemas([result, schema], promote_options="permissive")
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                clash = next(
                    (
                        f"column {field.name!r} is {field.type} there and "
                        f"{result.field(field.name).type} in earlier files"
                        for field in schema
                        if field.name in result.names
                        and field.type != result.field(field.name).type
                    ),
                    "their columns differ",
                )
                raise SourceError(
                    f"The files do not fit together at {file.name!r}: {clash}. "
                    "Send them in separate runs, or convert them to one type."
                ) from error
        return result

    def chunks(self, columns: Sequence[str], *, start: int = 0) -> Generator[Chunk]:
        """Read the rows in order, file by file.

        Raises:
            SourceError: A file cannot be read any more.
        """
        wanted = list(columns) or list(self.schema.names[:1])
        for piece in self._pieces:
            if piece.start + piece.rows > start:
                yield from self._piece_chunks(piece, wanted, max(0, start - piece.start))

    def parts(self, count: int) -> list[Source]:
        """Parts of about equally many rows, each of whole row groups."""
        groups = [group for piece in self._pieces for group in _groups_of(piece)]
        total = sum(group.rows for group in groups)
        ends = np.cumsum([group.rows for group in groups])
        which = np.clip((ends - 1) * count // max(1, total), 0, count - 1)
        return [
            self._part([groups[place] for place in np.flatnonzero(which == number)])
            for number in np.unique(which)
        ] or [self]

    def _part(self, pieces: list[_Piece]) -> ParquetSource:
        part = copy.copy(self)
        part._take(pieces)  # noqa: SLF001
        return part

    def _take(self, pieces: list[_Piece]) -> None:
        self._pieces = pieces
        self.rows: int | None = sum(piece.rows for piece in pieces)

    def chunks_within(
        self, column: str, may_hold: Callable[[Any, Any, Any], bool]
    ) -> Generator[Chunk]:
        """Read one column, in the row groups whose statistics do not rule it out.

        The chunks do not have the numbers of their rows.

        Raises:
            SourceError: A file cannot be read any more.
        """
        for piece in self._pieces:
            file = piece.file
            with _open(file.name, file.system, file.path) as parquet:
                groups = tuple(
                    number
                    for number in piece.groups
                    if _may_hold(parquet, number, column, may_hold)
                )
            if groups:
                yield from self._piece_chunks(replace(piece, groups=groups), [column], 0)

    def _piece_chunks(self, piece: _Piece, columns: list[str], skip: int) -> Iterator[Chunk]:
        file = piece.file
        schema = pa.schema([self.schema.field(name) for name in columns])
        rows = min(CHUNK_ROWS, max(64, CHUNK_BYTES // max(1, file.row_bytes)))
        with _open(file.name, file.system, file.path) as parquet:
            if parquet.metadata.num_rows != file.rows:
                raise SourceError(
                    f"The file {file.name!r} changed while it was being read. Run it again."
                )
            present = [name for name in columns if name in parquet.schema_arrow.names]
            offset = 0
            try:
                # A file may lack all requested columns; then one column gives the number of rows.
                for batch in parquet.iter_batches(
                    batch_size=rows,
                    row_groups=list(piece.groups),
                    columns=present or parquet.schema_arrow.names[:1],
                ):
                    stop = offset + batch.num_rows
                    if stop > skip:
                        rest = _conformed(batch, schema)
                        if offset < skip:
                            rest, offset = rest.slice(skip - offset), skip
                        for first, part in slices(rest):
                            here = offset + first
                            yield Chunk(
                                part, piece.start + here, file.name, piece.origin_start + here
                            )
                    offset = stop
            except (pa.ArrowException, OSError) as error:
                here = piece.origin_start + offset
                raise SourceError(
                    f"The file {file.name!r} cannot be read beyond row {here}: {error}."
                ) from error

    def fingerprint(self) -> tuple[Any, ...]:
        """Name, size and modification time of each file."""
        infos = [file.system.get_file_info(file.path) for file in self._files]
        named = zip(self._files, infos, strict=True)
        return tuple((file.name, info.size, info.mtime_ns) for file, info in named)


def _groups_of(piece: _Piece) -> Iterator[_Piece]:
    """Each row group of a piece alone."""
    before = 0
    for number in piece.groups:
        rows = piece.file.group_rows[number]
        start, origin_start = piece.start + before, piece.origin_start + before
        yield _Piece(piece.file, (number,), rows, start, origin_start)
        before += rows


def _may_hold(
    parquet: Any, number: int, column: str, may_hold: Callable[[Any, Any, Any], bool]
) -> bool:
    """Whether a row group may hold it, according to its statistics."""
    group = parquet.metadata.row_group(number)
    for place in range(group.num_columns):
        chunk = group.column(place)
        if chunk.path_in_schema == column and chunk.is_stats_set and chunk.statistics.has_min_max:
            kind = parquet.schema_arrow.field(column).type
            return may_hold(kind, chunk.statistics.min, chunk.statistics.max)
    return True


def _conformed(batch: Any, schema: Any) -> Any:
    if batch.schema.equals(schema):
        return batch
    arrays = [
        pc.cast(batch.column(field.name), field.type)
        if field.name in batch.schema.names
        else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _open(name: str, system: Any, path: str) -> Any:
    ending = Path(name).suffix.lower()
    if ending in _OTHER_ENDINGS:
        raise SourceError(
            f"{name!r} is neither parquet nor CSV nor JSON. Read it with "
            f"{_OTHER_ENDINGS[ending]}(...) and pass the DataFrame."
        )
    try:
        # Buffering a whole row group ahead would keep all of them until the file is closed.
        return pq.ParquetFile(path, filesystem=system, pre_buffer=False, buffer_size=2**20)
    except FileNotFoundError as error:
        raise SourceError(f"There is no file {name!r}. Check the path.") from error
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{name!r} cannot be read as a parquet file: {error}.") from error

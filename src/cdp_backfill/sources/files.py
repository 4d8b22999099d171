"""Parquet files, one or many."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

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


class ParquetSource(Source):
    """Parquet files, read one after another.

    Args:
        files: Name, file system and path there of each.

    Raises:
        SourceError: A file is missing or no parquet file, or the files do not fit together.
    """

    def __init__(self, files: Sequence[File]) -> None:
        self._files: list[_File] = []
        schemas = []
        for name, system, path in files:
            with _open(name, system, path) as file:
                metadata, schema = file.metadata, file.schema_arrow
            check_names(schema.names, f"The file {name!r}")
            groups = (metadata.row_group(n) for n in range(metadata.num_row_groups))
            size = sum(group.total_byte_size for group in groups)
            rows = metadata.num_rows
            self._files.append(_File(name, path, system, rows, size // max(1, rows)))
            schemas.append(schema.remove_metadata())
        self.name = self._files[0].name if len(files) == 1 else f"{len(files)} parquet files"
        self.rows: int | None = sum(file.rows for file in self._files)
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
                        f"{result.field(field.name).type} in the files before"
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
        position = 0
        for file in self._files:
            if position + file.rows > start:
                yield from self._file_chunks(file, wanted, position, max(0, start - position))
            position += file.rows

    def chunks_within(
        self, column: str, may_hold: Callable[[Any, Any, Any], bool]
    ) -> Generator[Chunk]:
        """Read one column of the row groups whose statistics do not rule it out.

        The chunks do not say where their rows are.

        Raises:
            SourceError: A file cannot be read any more.
        """
        for file in self._files:
            with _open(file.name, file.system, file.path) as parquet:
                groups = [
                    number
                    for number in range(parquet.metadata.num_row_groups)
                    if _may_hold(parquet, number, column, may_hold)
                ]
            if groups:
                yield from self._file_chunks(file, [column], 0, 0, groups)

    def _file_chunks(
        self,
        file: _File,
        columns: list[str],
        position: int,
        skip: int,
        groups: list[int] | None = None,
    ) -> Iterator[Chunk]:
        schema = pa.schema([self.schema.field(name) for name in columns])
        rows = min(CHUNK_ROWS, max(64, CHUNK_BYTES // max(1, file.row_bytes)))
        with _open(file.name, file.system, file.path) as parquet:
            if parquet.metadata.num_rows != file.rows:
                raise SourceError(f"The file {file.name!r} changed while it was being read.")
            present = [name for name in columns if name in parquet.schema_arrow.names]
            offset = 0
            try:
                # A file may lack every column asked for; one is read for the number of rows.
                for batch in parquet.iter_batches(
                    batch_size=rows,
                    row_groups=groups,
                    columns=present or parquet.schema_arrow.names[:1],
                ):
                    stop = offset + batch.num_rows
                    if stop > skip:
                        piece = _conformed(batch, schema)
                        if offset < skip:
                            piece, offset = piece.slice(skip - offset), skip
                        for first, part in slices(piece):
                            here = offset + first
                            yield Chunk(part, position + here, file.name, here)
                    offset = stop
            except (pa.ArrowException, OSError) as error:
                raise SourceError(
                    f"The file {file.name!r} cannot be read beyond row {offset}: {error}."
                ) from error

    def stamp(self) -> tuple[Any, ...]:
        """Name, size and time of change of each file."""
        infos = [file.system.get_file_info(file.path) for file in self._files]
        named = zip(self._files, infos, strict=True)
        return tuple((file.name, info.size, info.mtime_ns) for file, info in named)


def _may_hold(
    parquet: Any, number: int, column: str, may_hold: Callable[[Any, Any, Any], bool]
) -> bool:
    """Whether a row group may hold it, as far as its statistics tell."""
    group = parquet.metadata.row_group(number)
    for place in range(group.num_columns):
        found = group.column(place)
        if found.path_in_schema == column and found.is_stats_set and found.statistics.has_min_max:
            kind = parquet.schema_arrow.field(column).type
            return may_hold(kind, found.statistics.min, found.statistics.max)
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
            f"{_OTHER_ENDINGS[ending]}(...) and send the DataFrame."
        )
    try:
        # Buffering a whole row group ahead would keep all of them until the file is closed.
        return pq.ParquetFile(path, filesystem=system, pre_buffer=False, buffer_size=2**20)
    except FileNotFoundError as error:
        raise SourceError(f"There is no file {name!r}.") from error
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{name!r} cannot be read as a parquet file: {error}.") from error

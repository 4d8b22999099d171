"""Parquet files, one or many, here or in an object store."""

from __future__ import annotations

import glob as globbing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq

from cdp_backfill.errors import SourceError
from cdp_backfill.sources.chunks import CHUNK_BYTES, CHUNK_ROWS, Chunk, check_names, slices

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    import pandas as pd

_OTHER_ENDINGS: Final = {
    ".csv": "pandas.read_csv",
    ".tsv": "pandas.read_csv",
    ".json": "pandas.read_json",
    ".ndjson": "pandas.read_json",
    ".jsonl": "pandas.read_json",
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


class ParquetSource:
    """Parquet files, read one after another.

    Args:
        paths: Files, folders and globs; local, or with a scheme that Arrow knows such as
            ``s3://`` and ``gs://``. Of a folder, all files below whose names do not begin with
            ``_`` or a dot.

    Raises:
        SourceError: A file is missing or no parquet file, or the files do not fit together.
    """

    replayable = True
    keeps_rows = False

    def __init__(self, paths: Sequence[str | Path]) -> None:
        found = [item for path in paths for item in _expand(str(path))]
        self._files: list[_File] = []
        schemas = []
        _check_twice([name for name, _, _ in found])
        for name, system, path in found:
            with _open(name, system, path) as file:
                metadata, schema = file.metadata, file.schema_arrow
            check_names(schema.names, f"The file {name!r}")
            groups = (metadata.row_group(n) for n in range(metadata.num_row_groups))
            size = sum(group.total_byte_size for group in groups)
            rows = metadata.num_rows
            self._files.append(_File(name, path, system, rows, size // max(1, rows)))
            schemas.append(schema.remove_metadata())
        self.name = self._files[0].name if len(found) == 1 else f"{len(found)} parquet files"
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

    def chunks(self, columns: Sequence[str], *, start: int = 0) -> Iterator[Chunk]:
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

    def _file_chunks(
        self, file: _File, columns: list[str], position: int, skip: int
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
                    batch_size=rows, columns=present or parquet.schema_arrow.names[:1]
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

    def typed(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Not needed: rows are kept as they were read."""
        raise NotImplementedError

    def original(self, rows: npt.NDArray[Any]) -> pd.DataFrame:
        """Not possible for files: rows are kept when they fail."""
        raise NotImplementedError


def _check_twice(names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        place = name if "://" in name else str(Path(name).resolve())
        if place in seen:
            raise SourceError(f"The file {name!r} is given twice; its rows would be sent twice.")
        seen.add(place)


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
            f"{name!r} is not a parquet file. Read it with {_OTHER_ENDINGS[ending]}(...) and send "
            "the DataFrame."
        )
    try:
        # Buffering a whole row group ahead would keep all of them until the file is closed.
        return pq.ParquetFile(path, filesystem=system, pre_buffer=False, buffer_size=2**20)
    except FileNotFoundError as error:
        raise SourceError(f"There is no file {name!r}.") from error
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{name!r} cannot be read as a parquet file: {error}.") from error


def _expand(path: str) -> list[tuple[str, Any, str]]:
    """The files that a path, a folder or a glob stands for: name, file system, path there."""
    if "://" in path:
        try:
            system, inner = pa.fs.FileSystem.from_uri(path)
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{path!r} cannot be opened: {error}.") from error
        prefix = path[: len(path) - len(inner)]
    else:
        system, inner, prefix = pa.fs.LocalFileSystem(), str(Path(path).expanduser()), ""
    is_glob = any(letter in inner for letter in "*?[")
    if is_glob and system.get_file_info(inner).type == pa.fs.FileType.NotFound:
        names = _glob(system, inner)
        if not names:
            raise SourceError(f"No file matches {path!r}.")
    else:
        names = [inner]
        if system.get_file_info(inner).type == pa.fs.FileType.Directory:
            names = _below(system, inner)
            if not names:
                raise SourceError(f"There is no parquet file in the folder {path!r}.")
    return [(prefix + name, system, name) for name in names]


def _glob(system: Any, pattern: str) -> list[str]:
    if isinstance(system, pa.fs.LocalFileSystem):
        names = globbing.glob(pattern, recursive=True)  # noqa: PTH207  # absolute patterns too
        return sorted(
            file
            for name in names
            for file in (_below(system, name) if Path(name).is_dir() else [name])
        )
    fixed = pattern[: min(pattern.index(letter) for letter in "*?[" if letter in pattern)]
    selector = pa.fs.FileSelector(fixed.rsplit("/", 1)[0], recursive=True)
    found = (info.path for info in system.get_file_info(selector) if info.is_file)
    return sorted(name for name in found if fnmatchcase(name, pattern))


def _below(system: Any, folder: str) -> list[str]:
    selector = pa.fs.FileSelector(folder, recursive=True)
    root = Path(folder)
    return sorted(
        info.path
        for info in system.get_file_info(selector)
        # What Spark and others keep for themselves, such as _SUCCESS and .part.crc.
        if info.is_file
        and not any(part[0] in "_." for part in Path(info.path).relative_to(root).parts)
    )

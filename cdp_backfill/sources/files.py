"""Parquet, Arrow and ORC files, one or many."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cdp_backfill.errors import SourceError
from cdp_backfill.model.arrow_types import describe_type, viewless_type
from cdp_backfill.model.joined_types import ColumnApartError, fitted, join_schemas
from cdp_backfill.sources.chunks import CHUNK_BYTES, CHUNK_ROWS, Chunk, Source, check_names, slices
from cdp_backfill.sources.columnar import open_columnar
from cdp_backfill.sources.earlier_runs import take_from_files
from cdp_backfill.sources.unpacking import READ_ERRORS
from cdp_backfill.sources.views import viewless

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from cdp_backfill.sources.paths import File


@dataclass(frozen=True, slots=True)
class _File:
    file: File
    row_bytes: int
    group_rows: tuple[int, ...]
    state: tuple[str, int, int | None]

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def rows(self) -> int:
        return sum(self.group_rows)


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


class ColumnarSource(Source):
    """Files of groups of rows, read one after another.

    Args:
        files: The files.
        format_: Their format: ``"parquet"``, ``"Arrow"`` or ``"ORC"``.
        notes: Sentences about how the files were found.

    Raises:
        SourceError: A file is missing or damaged, or the files do not fit together.
    """

    def __init__(
        self, files: Sequence[File], format_: str = "parquet", notes: Sequence[str] = ()
    ) -> None:
        self._format = format_
        self._files: list[_File] = []
        self.notes = tuple(notes)
        schemas, carried = [], []
        for file in files:
            with open_columnar(file, format_) as opened:
                check_names(opened.schema.names, f"The file {file.name!r}")
                self._files.append(_File(file, opened.row_bytes, opened.group_rows, _state(file)))
                schemas.append(opened.schema)
                carried.append(opened.carried)
        take_from_files(self, carried)
        self.name = self._files[0].name if len(files) == 1 else f"{len(files)} {format_} files"
        starts = np.cumsum([0, *(file.rows for file in self._files)]).tolist()
        self._take(
            [
                _Piece(file, tuple(range(len(file.group_rows))), file.rows, start, 0)
                for file, start in zip(self._files, starts, strict=False)
            ]
        )
        self.schema = self._joined(schemas)
        self.types_vary = any(
            not viewless_type(field.type).equals(self.schema.field(field.name).type)
            for schema in schemas
            for field in schema
        )

    def _joined(self, schemas: list[Any]) -> Any:
        try:
            return join_schemas(schemas)
        except ColumnApartError as error:
            columns = error.columns
        name, first, second, apart = columns[0]
        kinds = [describe_type(apart.one), describe_type(apart.other)]
        if kinds[0] == kinds[1]:
            kinds = [str(apart.one), str(apart.other)]
        where = f"column {name!r}" + (f", at {apart.path!r} inside it," if apart.path else "")
        others = ", ".join(repr(name) for name, *_ in columns[1:])
        raise SourceError(
            f"The files do not fit together: {where} is of type {kinds[0]} in "
            f"{self._files[first].name!r} and of type {kinds[1]} in {self._files[second].name!r}. "
            "Send them in separate runs, or convert the column to one type."
            + (f" These columns differ, too: {others}." if others else "")
        )

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

    def _part(self, pieces: list[_Piece]) -> ColumnarSource:
        part = copy.copy(self)
        part._take(pieces)  # noqa: SLF001
        return part

    def _take(self, pieces: list[_Piece]) -> None:
        self._pieces = pieces
        self.rows: int | None = sum(piece.rows for piece in pieces)

    def _piece_chunks(self, piece: _Piece, columns: list[str], skip: int) -> Iterator[Chunk]:
        file = piece.file
        schema = pa.schema([self.schema.field(name) for name in columns])
        rows = min(CHUNK_ROWS, max(64, CHUNK_BYTES // max(1, file.row_bytes)))
        if _state(file.file) != file.state:
            raise SourceError(
                f"The file {file.name!r} changed while it was being read. Run it again."
            )
        with open_columnar(file.file, self._format) as opened:
            names = dict.fromkeys(opened.schema.names)
            present = [name for name in columns if name in names]
            offset = 0
            try:
                # A file may lack all requested columns; then one column gives the number of rows.
                for batch in opened.batches(piece.groups, present or [*names][:1], rows):
                    stop = offset + batch.num_rows
                    if stop > skip:
                        rest = batch
                        if offset < skip:
                            rest, offset = rest.slice(skip - offset), skip
                        for first, part in slices(rest):
                            here = offset + first
                            yield Chunk(
                                _conformed(part, schema),
                                piece.start + here,
                                file.name,
                                piece.origin_start + here,
                            )
                    offset = stop
            except READ_ERRORS as error:
                here = piece.origin_start + offset
                raise SourceError(
                    f"The file {file.name!r} cannot be read beyond row {here}: {error}."
                ) from error
            if offset != piece.rows:
                raise SourceError(
                    f"The file {file.name!r} is damaged: its footer gives another number of rows "
                    f"({piece.rows:,}) than it has ({offset:,}). Export it again."
                )

    def fingerprint(self) -> tuple[Any, ...]:
        """Name, size and modification time of each file."""
        return tuple(_state(file.file) for file in self._files)


def _state(file: File) -> tuple[str, int, int | None]:
    """Name, size and modification time of a file."""
    info = file.system.get_file_info(file.path)
    return file.name, info.size, info.mtime_ns


def _groups_of(piece: _Piece) -> Iterator[_Piece]:
    """Each row group of a piece alone."""
    before = 0
    for number in piece.groups:
        rows = piece.file.group_rows[number]
        start, origin_start = piece.start + before, piece.origin_start + before
        yield _Piece(piece.file, (number,), rows, start, origin_start)
        before += rows


def _conformed(batch: Any, schema: Any) -> Any:
    """The columns of a schema, each in its type if that changes no cell."""
    if batch.schema.equals(schema):
        return batch
    present = set(batch.schema.names)
    arrays = [
        fitted(viewless(batch.column(field.name)), field.type)
        if field.name in present
        else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema.names)

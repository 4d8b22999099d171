"""Reads CSV and similar files, with all cells as text until the column types are settled."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cdp_backfill.errors import SourceError
from cdp_backfill.model.outcomes import READING_COLUMNS, UNREADABLE
from cdp_backfill.model.plurals import count
from cdp_backfill.sources.ahead import ahead
from cdp_backfill.sources.texts.cell_types import CellTypes, column_type, convert
from cdp_backfill.sources.texts.headers import Table, escapes_note, read_header
from cdp_backfill.sources.texts.newest_days import NewestDays
from cdp_backfill.sources.texts.quoting import find_escapes
from cdp_backfill.sources.texts.reading import UNDECODED, blocks, windows_note
from cdp_backfill.sources.texts.rows import Check, read_rows
from cdp_backfill.sources.texts.unreadable import READING_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Mapping, Sequence

    from cdp_backfill.sources.texts.reading import TextFile


@dataclass(frozen=True, slots=True)
class Delimited:
    """Files of delimited text, each with a header.

    Attributes:
        notes: Sentences about what is read differently from the files.
        days: The newest day of each column of times, once the types are settled.
    """

    _tables: Sequence[Table]
    notes: tuple[str, ...]
    _types: dict[str, Any] = field(default_factory=dict)
    days: NewestDays = field(default_factory=NewestDays)

    @classmethod
    def open(cls, files: Sequence[TextFile], *, skip: bool = False) -> Delimited:
        """Read the headers.

        Args:
            files: The files.
            skip: Whether rows that cannot be read are rows of their own. Files are read for this.

        Raises:
            SourceError: A header cannot be read, or no file has one.
        """
        notes: list[str] = []
        read = _read_skipping if skip else read_header
        tables = [read(file, notes) for file in files]
        if not any(table.names for table in tables):
            which = f"file {files[0].name!r} is" if len(files) == 1 else "files are all"
            raise SourceError(f"The {which} empty, without even a header. Pass a file with rows.")
        return cls(tables, tuple(notes))

    @property
    def schema(self) -> Any:
        """The columns of all files."""
        names = dict.fromkeys(name for table in self._tables for name in table.names)
        schema = pa.schema([(name, column_type(self._types.get(name))) for name in names])
        if any(table.file.skips for table in self._tables):
            schema = pa.schema(
                [*(each for each in schema if each.name not in READING_COLUMNS), *READING_SCHEMA]
            )
        return schema

    @property
    def rows(self) -> list[int | None]:
        """Number of rows of each file; None until the types are settled."""
        return [table.rows for table in self._tables]

    def settled(self, text: Collection[str], given: Mapping[str, str] | None = None) -> Delimited:
        """Read and check everything once, and give each column the type that all its cells have.

        Args:
            text: Columns that stay text.
            given: Types that were settled over another table, or None to find them.

        Raises:
            SourceError: A file cannot be read.
        """
        types = CellTypes(
            (name for name in self.schema.names if name not in {*text, *READING_COLUMNS}), given
        )
        tables, notes, days = [], list(self.notes), NewestDays()
        for table in self._tables:
            settled, types = _settle(table, types, notes, days, text)
            tables.append(settled)
        return replace(self, _tables=tables, _types=types.result(), notes=tuple(notes), days=days)

    def batches(self, number: int, columns: Sequence[str]) -> Generator[Any]:
        """The rows of one file.

        Args:
            number: Number of the file, from 0.
            columns: At least one column.
        """
        schema = self.schema
        schema = pa.schema([schema.field(name) for name in columns])
        for batch in read_rows(self._tables[number], columns):
            present = set(batch.schema.names)
            arrays = [
                convert(batch.column(field.name), self._types.get(field.name))
                if field.name in present and field.name not in READING_COLUMNS
                else batch.column(field.name)
                if field.name in present
                else pa.nulls(batch.num_rows, field.type)
                for field in schema
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _read_skipping(file: TextFile, notes: list[str]) -> Table:
    """The header of a file of which rows that cannot be read are rows of their own.

    A file of which all rows can be read is read as always.
    """
    found: list[str] = []
    try:
        table = read_header(file, found)
    except SourceError:
        found = []
        table = read_header(file.skipping(), found)
        if any(UNDECODED in name for name in table.names):
            raise
    notes += found
    if not table.names:
        return table
    try:
        _settle(table, CellTypes(()), [], NewestDays())
    except SourceError:
        plain = replace(table, file=file.skipping())
        escapes = find_escapes(blocks(plain.file))
        if table.escaped or not (escapes.quotes and escapes.certain):
            return plain
        escaped = replace(plain, escaped=True)
        if _count_unreadable(escaped) >= _count_unreadable(plain):
            return plain
        notes.append(escapes_note(file.name, escapes.quotes))
        return escaped
    return table


def _count_unreadable(table: Table) -> int:
    return sum(
        len(cells) - cells.null_count
        for batch in ahead(read_rows(table, []))
        if UNREADABLE in batch.schema.names
        for cells in [batch.column(UNREADABLE)]
    )


def _settle(
    table: Table,
    types: CellTypes,
    notes: list[str],
    days: NewestDays,
    text: Collection[str] = (),
) -> tuple[Table, CellTypes]:
    """Read a file to its end, as CSV or, if it cannot be that, with backslashes before quotes.

    Args:
        table: The file.
        types: The types that the cells of earlier files leave open.
        notes: Gets sentences about what is read differently from the file.
        days: Gets the times.
        text: Columns that stay text, in which times are looked for, too.
    """
    try:
        return _read_all(table, types, notes, days, text)
    except SourceError as error:
        problem = error
    escapes = find_escapes(blocks(table.file))
    if not escapes.quotes or table.escaped:
        raise problem
    if not escapes.certain:
        raise SourceError(
            f"{problem} If backslashes escape quotes in this file, it is not certain what its "
            "other backslashes mean. Read it with the meaning that they have, for example with "
            f"df = pd.read_csv({table.file.name!r}, escapechar='\\\\', dtype=str), and pass df."
        )
    try:
        result = _read_all(replace(table, escaped=True), types, notes, days, text)
    except SourceError:
        raise problem from None
    notes.append(escapes_note(table.file.name, escapes.quotes))
    return result


def _read_all(
    table: Table,
    types: CellTypes,
    notes: list[str],
    days: NewestDays,
    text: Collection[str],
) -> tuple[Table, CellTypes]:
    types, check, rows = copy.deepcopy(types), Check(), 0
    columns = [*types.open_columns, *days.watched(text)]
    for batch in ahead(read_rows(table, columns, check)):
        rows += batch.num_rows
        types.check(batch)
        present = set(batch.schema.names)
        for name in days.watched(name for name in columns if name in present):
            days.add(name, batch.column(name))
    types.keep_text(check.guards)
    file = table.file
    for letters in check.windows.values():
        notes.append(windows_note(file.name, letters))
        file = file.as_windows()
    if check.guards:
        cells = check.guards.total()
        notes.append(
            f"{count(cells, 'cell')} of the file {file.name!r} {'is' if cells == 1 else 'are'} "
            f'written as ="..." for Excel (column {", ".join(map(repr, check.guards))}), and read '
            "without that."
        )
    return replace(table, file=file, rows=rows), types

"""Reads CSV and similar files, with all cells as text until the column types are settled."""

from __future__ import annotations

import csv
import io
import re
import secrets
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import chain, count
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.csv

from cdp_backfill.errors import SourceError
from cdp_backfill.sources.texts.cell_types import CellTypes, convert
from cdp_backfill.sources.texts.reading import BLOCK_BYTES, blocks

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from cdp_backfill.sources.texts.reading import TextFile

_DELIMITERS: Final = ",\t;|"

# A quote opens a quoted name only at the beginning of a field.
_QUOTED: Final = r'(?<![^,\t;|])"(?:[^"]|"")*+"'
_HEADER: Final = re.compile(rb"(?:" + _QUOTED.encode() + rb"|[^\r\n])*+")

_ROW_BYTES: Final = 16 * 2**20
"""Bytes of the longest row. A longer one is probably a quote that is never closed."""

# A text that no file can contain, because it is random.
_END: Final = f"end of the file {secrets.token_hex(16)}"
"""Begins a row that is added after the last one. If it disappears, a quote is still open."""


@dataclass(frozen=True, slots=True)
class _Table:
    """A file and its header.

    Attributes:
        rows: Number of rows; None until all are read.
    """

    file: TextFile
    names: tuple[str, ...]
    delimiter: str
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Delimited:
    """Files of delimited text, each with a header.

    Attributes:
        notes: Sentences about renamed columns and empty files.
    """

    _tables: Sequence[_Table]
    notes: tuple[str, ...]
    _types: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, files: Sequence[TextFile]) -> Delimited:
        """Read the headers.

        Raises:
            SourceError: A header cannot be read, or no file has one.
        """
        notes: list[str] = []
        tables = [_read_header(file, notes) for file in files]
        if not any(table.names for table in tables):
            which = f"file {files[0].name!r} is" if len(files) == 1 else "files are all"
            raise SourceError(f"The {which} empty, without even a header. Pass a file with rows.")
        return cls(tables, tuple(notes))

    @property
    def schema(self) -> Any:
        """The columns of all files."""
        names = dict.fromkeys(name for table in self._tables for name in table.names)
        return pa.schema([(name, self._types.get(name, pa.string())) for name in names])

    @property
    def rows(self) -> list[int | None]:
        """Number of rows of each file; None until the types are settled."""
        return [table.rows for table in self._tables]

    def settled(self, text: Collection[str]) -> Delimited:
        """Read everything once, and give each column the type that all of its cells have.

        Args:
            text: Columns that stay text.
        """
        types = CellTypes(name for name in self.schema.names if name not in text)
        tables = []
        for table in self._tables:
            rows = 0
            for batch in _batches(table, types.open_columns):
                rows += batch.num_rows
                types.check(batch)
            tables.append(replace(table, rows=rows))
        return replace(self, _tables=tables, _types=types.result())

    def batches(self, number: int, columns: Sequence[str]) -> Iterator[Any]:
        """The rows of one file.

        Args:
            number: Number of the file, from 0.
            columns: At least one column.
        """
        schema = self.schema
        schema = pa.schema([schema.field(name) for name in columns])
        for batch in _batches(self._tables[number], columns):
            present = set(batch.schema.names)
            arrays = [
                convert(batch.column(field.name), field.type)
                if field.name in present
                else pa.nulls(batch.num_rows, field.type)
                for field in schema
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _read_header(file: TextFile, notes: list[str]) -> _Table:
    header = _open_table(file)[0]
    if not header:
        notes.append(f"The file {file.name!r} is empty.")
        return _Table(file, (), ",")
    unquoted = re.sub(_QUOTED, "", header)
    delimiter = max(_DELIMITERS, key=unquoted.count)
    try:
        (names,) = csv.reader(io.StringIO(header, newline=""), delimiter=delimiter, strict=True)
    except (csv.Error, ValueError):
        raise SourceError(
            f"The header of the file {file.name!r} cannot be read as CSV: a quote is not closed."
        ) from None
    return _Table(file, _distinct(names, file.name, notes), delimiter)


def _distinct(header: list[str], where: str, notes: list[str]) -> tuple[str, ...]:
    """The names of a header, without repeated and empty names."""
    used, names, seen = set(header), [], Counter[str]()
    for number, name in enumerate(header, 1):
        seen[name] += 1
        unique = name
        if not name:
            unique = _unused_name(f"column_{number}", 1, used)
            notes.append(
                f"Column {number} of the file {where!r} has no name. It is called {unique!r} here."
            )
        elif seen[name] > 1:
            unique = _unused_name(name, seen[name], used)
            total, which = header.count(name), seen[name]
            notes.append(
                f"The file {where!r} has {_NUMBERS.get(total, total)} columns named {name!r}. "
                f"The {_ORDINALS.get(which, f'{which}th')} is called {unique!r} here."
            )
        used.add(unique)
        names.append(unique)
    return tuple(names)


_NUMBERS: Final = {2: "two", 3: "three"}
_ORDINALS: Final = {2: "second", 3: "third"}


def _unused_name(name: str, first: int, used: set[str]) -> str:
    numbered = (f"{name}_{number}" if number > 1 else name for number in count(first))
    return next(candidate for candidate in numbered if candidate not in used)


def _open_table(file: TextFile) -> tuple[str, Iterator[bytes]]:
    """The header of a file and the blocks of text after it."""
    parts = blocks(file)
    head = next(parts, b"").lstrip(b"\r\n")
    end = _HEADER.match(head).end()  # type: ignore[union-attr]  # it matches nothing, too
    if end >= BLOCK_BYTES // 2 and end == len(head):
        raise SourceError(
            f"The file {file.name!r} cannot be read as CSV: its first {BLOCK_BYTES:,} bytes hold "
            "no complete header."
        )
    return head[:end].decode(), chain([head[end:]], parts)


class _RowCheck:
    """Handles rows that do not have as many fields as the header."""

    def __init__(self) -> None:
        self.ended = False
        self.wrong: Any = None

    def __call__(self, row: Any) -> str:
        if _END in row.text:
            self.ended = row.text.startswith(_END)
            return "skip"
        self.wrong = row
        return "error"


def _batches(table: _Table, columns: Sequence[str]) -> Iterator[Any]:
    """The rows of one file as text: the columns that it has, or one for the number of rows."""
    if not table.names:
        return
    requested = [column for column in columns if column in table.names] or list(table.names[:1])
    pending, rows, min_bytes = b"", 0, 0
    for block in chain(_open_table(table.file)[1], [None]):
        pending += block or b""
        if block is not None and len(pending) < min_bytes:
            continue
        for end in [len(pending)] if block is None else _ends(pending):
            batches = _parse(pending[:end], table, requested, rows)
            if batches is not None:
                yield from batches
                rows += sum(batch.num_rows for batch in batches)
                pending, min_bytes = pending[end:], 0
                break
        else:
            if block is None:
                raise SourceError(
                    f"The file {table.file.name!r} ends inside quotes: a quote that opens after "
                    f"row {rows} is never closed. Close it."
                )
            if len(pending) > _ROW_BYTES:
                raise SourceError(
                    f"The file {table.file.name!r} cannot be read as CSV beyond row {rows}: the "
                    f"next row is longer than {_ROW_BYTES:,} bytes, or a quote is never closed."
                )
            min_bytes = 2 * len(pending)  # a row without an end is not tried again with every block


def _ends(text: bytes) -> Iterator[int]:
    """Where the last row may end: first where quotes pair, then where they do not."""
    mark = b"\n" if b"\n" in text else b"\r"
    last = text.rfind(mark) + 1
    if text.count(b'"', 0, last) % 2 == 0:
        yield from (end for end in (last, _other_end(text, mark, last)) if end)
    else:
        yield from (end for end in (_other_end(text, mark, last), last) if end)


def _other_end(text: bytes, mark: bytes, end: int) -> int:
    """The last line end before another with an odd number of quotes between them, or 0."""
    quotes = 0
    while end and quotes % 2 == 0:
        stop, end = end, text.rfind(mark, 0, max(0, text.rfind(b'"', 0, end))) + 1
        quotes += text.count(b'"', end, stop)
    return end


def _parse(text: bytes, table: _Table, columns: list[str], before: int) -> list[Any] | None:
    """Some rows, or None if the text ends inside quotes.

    Args:
        before: Number of earlier rows.
    """
    text += f"\n{_END}{table.delimiter * len(table.names)}".encode()
    row_check = _RowCheck()
    try:
        # With threads, Arrow would not know the row numbers.
        table_of_text = pa.csv.read_csv(
            pa.BufferReader(text),
            pa.csv.ReadOptions(column_names=table.names, block_size=len(text), use_threads=False),
            pa.csv.ParseOptions(
                delimiter=table.delimiter, newlines_in_values=True, invalid_row_handler=row_check
            ),
            pa.csv.ConvertOptions(
                check_utf8=False,  # the blocks are checked
                column_types=dict.fromkeys(columns, pa.string()),
                include_columns=columns,
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
        return table_of_text.to_batches() if row_check.ended else None
    except pa.ArrowException:
        pass  # its text contains cells
    if row_check.wrong is None:
        raise SourceError(
            f"The file {table.file.name!r} cannot be read as CSV beyond row {before}. Check its "
            "quotes and delimiters."
        )
    fields, expected = row_check.wrong.actual_columns, row_check.wrong.expected_columns
    raise SourceError(
        f"Row {before + row_check.wrong.number - 1} of the file {table.file.name!r} (counted "
        f"from 0, without the header) has {fields} field{'s' * (fields != 1)}, but the header "
        f"has {expected}. Text that contains the delimiter or a quote must stand in quotes."
    )

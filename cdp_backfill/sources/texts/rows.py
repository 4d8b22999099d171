"""Reads the rows of delimited files as Arrow batches of text."""

from __future__ import annotations

import csv
import io
import secrets
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.csv

from cdp_backfill.errors import SourceError
from cdp_backfill.sources.texts.broken_rows import BrokenRows
from cdp_backfill.sources.texts.headers import line_count
from cdp_backfill.sources.texts.quoting import remove_guards, restore_escaped, text_after_quote
from cdp_backfill.sources.texts.reading import SKIP_HINT, count_letter

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from cdp_backfill.sources.texts.headers import Table

MAX_ROW_BYTES: Final = 16 * 2**20
"""Bytes of the longest row. A longer one is probably a quote that is never closed."""

# A text that no file can contain, because it is random.
_END: Final = f"end of the file {secrets.token_hex(16)}"
"""Begins a row that is added after the last one. If it disappears, a quote is still open."""

_GUARD: Final = b'="'


@dataclass(slots=True)
class Check:
    """Checks each row that is read, and counts what is read differently from the file.

    Attributes:
        guards: Cells with a guard against Excel, by column.
        windows: See :func:`cdp_backfill.sources.texts.reading.blocks`.
    """

    guards: Counter[str] = field(default_factory=Counter)
    windows: dict[str, int] = field(default_factory=dict)


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


def read_rows(table: Table, columns: Sequence[str], check: Check | None = None) -> Generator[Any]:
    """The rows of one file as batches of text.

    To be called off the main thread, which alone an interrupt reaches: Arrow calls back, and would
    take the row for a wrong one at an interrupt.

    Args:
        table: The file.
        columns: The columns to read. Those that the file does not have are left out; if it has
            none of them, another gives the number of rows. If the file skips rows that cannot be
            read, batches with such rows have :data:`READING_SCHEMA` as well.
        check: For a reading that checks each row. Its batches can have more columns.

    Raises:
        SourceError: The file cannot be read.
    """
    if not table.names:
        return
    present = set(table.names)
    requested = [column for column in columns if column in present] or list(table.names[:1])
    pending, rows, min_bytes = b"", 0, 0
    line, body = table.body(None if check is None else check.windows)
    if table.file.skips:
        yield from _read_broken(table, requested, check or Check(), line, body)
        return
    for block in chain(body, [None]):
        pending += block or b""
        if block is not None and len(pending) < min_bytes:
            continue
        for end in [len(pending)] if block is None else _ends(pending):
            parser = _Parser(table, rows, line, check)
            batches = parser.parse(pending[:end], requested)
            if batches is not None:
                yield from batches
                rows += sum(batch.num_rows for batch in batches)
                line += line_count(pending[:end])
                pending, min_bytes = pending[end:], 0
                break
        else:
            if block is None:
                raise SourceError(
                    f"The file {table.file.name!r} ends inside quotes: a quote that opens after "
                    f"row {rows} (line {line + 1}) is never closed. Close it. {SKIP_HINT}"
                )
            if len(pending) > MAX_ROW_BYTES:
                raise SourceError(
                    f"The file {table.file.name!r} cannot be read as CSV beyond row {rows} (line "
                    f"{line + 1}): the next row is longer than {MAX_ROW_BYTES:,} bytes, or a quote "
                    f"is never closed. {SKIP_HINT}"
                )
            min_bytes = 2 * len(pending)  # a row without an end is not tried again with every block


def _read_broken(
    table: Table, columns: list[str], check: Check, line: int, body: Iterator[bytes]
) -> Iterator[Any]:
    def parse(text: bytes, rows: int, line: int) -> list[Any] | None:
        return _Parser(table, rows, line, check).parse(text, columns)

    broken = BrokenRows(table.file.name, table.delimiter, len(table.names), parse)
    yield from broken.batches(body, line)


def _ends(text: bytes) -> Iterator[int]:
    """Where the last row may end: first where quotes pair, then where they do not."""
    mark = b"\n" if b"\n" in text else b"\r"
    last = text.rfind(mark) + 1
    pairs = count_letter(text[:last], b'"') % 2 == 0
    if last and pairs:
        yield last
    if other := _other_end(text, mark, last):
        yield other
    if last and not pairs:
        yield last


def _other_end(text: bytes, mark: bytes, end: int) -> int:
    """The last line end before another with an odd number of quotes between them, or 0."""
    quotes = 0
    while end and quotes % 2 == 0:
        stop, end = end, text.rfind(mark, 0, max(0, text.rfind(b'"', 0, end))) + 1
        quotes += text.count(b'"', end, stop)
    return end


@dataclass(frozen=True, slots=True)
class _Parser:
    """Parses some rows of a file.

    Attributes:
        rows: Number of rows before them.
        line: Number of lines before them.
    """

    table: Table
    rows: int
    line: int
    check: Check | None

    def parse(self, text: bytes, columns: list[str]) -> list[Any] | None:
        """The rows of a text as batches, or None if it ends inside quotes."""
        table, row_check = self.table, _RowCheck()
        has_guards = _GUARD in text
        if has_guards and self.check is not None:
            columns = list(table.names)
        ended = text + f"\n{_END}{table.delimiter * len(table.names)}".encode()
        try:
            # With threads, Arrow would not know the row numbers.
            parsed = pa.csv.read_csv(
                pa.BufferReader(ended),
                pa.csv.ReadOptions(
                    column_names=table.names, block_size=len(ended), use_threads=False
                ),
                pa.csv.ParseOptions(
                    delimiter=table.delimiter,
                    newlines_in_values=True,
                    invalid_row_handler=row_check,
                ),
                pa.csv.ConvertOptions(
                    check_utf8=False,  # the blocks are checked
                    column_types=dict.fromkeys(columns, pa.string()),
                    include_columns=columns,
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )
        except pa.ArrowException:
            parsed = None  # its text contains cells
        if parsed is not None and not row_check.ended:
            return None
        if self.check is not None:
            self._check_quotes(text)
        if parsed is None:
            raise self._wrong_row(text, row_check.wrong)
        return [self._restored(batch, has_guards=has_guards) for batch in parsed.to_batches()]

    def _check_quotes(self, text: bytes) -> None:
        place = text_after_quote(text, self.table.delimiter)
        if place is not None:
            line = self.line + 1 + line_count(text[:place])
            raise SourceError(
                f"Line {line} of the file {self.table.file.name!r} cannot be read as CSV: text "
                "follows the closing quote of a cell. A quote inside a quoted cell must be "
                f"doubled. {SKIP_HINT}"
            )

    def _wrong_row(self, text: bytes, wrong: Any) -> SourceError:
        name = self.table.file.name
        if wrong is None:
            return SourceError(
                f"The file {name!r} cannot be read as CSV beyond row {self.rows} (line "
                f"{self.line + 1}). Check its quotes and delimiters. {SKIP_HINT}"
            )
        fields, expected = wrong.actual_columns, wrong.expected_columns
        number = wrong.number - 1
        trailing = (
            " If each row ends with a delimiter, add one at the end of the header; if each begins "
            "with a number of its own, add a name at its start."
            if fields == expected + 1
            else ""
        )
        return SourceError(
            f"Row {self.rows + number} of the file {name!r} (line {self._line_of(text, number)}; "
            f"rows are counted from 0, without the header) has {fields} "
            f"field{'s' * (fields != 1)}, but the header has {expected}. Text that contains the "
            "delimiter or a quote must stand in quotes. Take out lines that are no rows, such as "
            f"totals.{trailing} {SKIP_HINT}"
        )

    def _line_of(self, text: bytes, number: int) -> int:
        """The line where a row begins, by its number in the text."""
        reader = csv.reader(io.StringIO(text.decode(), newline=""), delimiter=self.table.delimiter)
        last = 0
        try:
            for row in reader:
                number -= bool(row)
                if number < 0:
                    break
                last = reader.line_num
        except csv.Error:  # such as a very long cell
            pass
        return self.line + 1 + last

    def _restored(self, batch: Any, *, has_guards: bool) -> Any:
        """Rows with their own quotes and without guards."""
        if not self.table.escaped and not has_guards:
            return batch
        arrays = []
        for name, cells in zip(batch.schema.names, batch.columns, strict=True):
            array = restore_escaped(cells) if self.table.escaped else cells
            if has_guards:
                array, guards = remove_guards(array)
                if self.check is not None and guards:
                    self.check.guards[name] += guards
            arrays.append(array)
        return pa.RecordBatch.from_arrays(arrays, batch.schema.names)

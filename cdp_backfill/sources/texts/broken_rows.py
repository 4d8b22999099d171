"""Reads the rows of delimited files some of which cannot be read: each of these is a row, too.

A row is the longest text of well-formed cells that begins where the row before it ended. Where no
such text ends at the end of a line, the line is broken, and the next row begins behind it.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from cdp_backfill.errors import SourceError
from cdp_backfill.sources.texts.unreadable import (
    FEWER,
    MORE,
    NO_ROW,
    NO_TEXT,
    QUOTES,
    READING_SCHEMA,
    UNDECODED_BYTES,
    Unreadable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Parse = Callable[[bytes, int, int], list[Any] | None]

ROW_BYTES: Final = 16 * 2**20
"""Bytes of the longest row. A longer one is probably a quote that is never closed."""

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


@cache
def _patterns(delimiter: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes], re.Pattern[bytes]]:
    """Patterns of a row, of a cell, and of cells the last of which is a quote that is open."""
    letter = re.escape(delimiter).encode()
    inner = rb'"[^"]*+(?:""[^"]*+)*+'
    cell = rb'(?:%b"|[^"%b\r\n][^%b\r\n]*+|(?!"))' % (inner, letter, letter)
    row = rb"%b(?:%b%b)*+(?=\r\n|\n|\r|\Z)" % (cell, letter, cell)
    is_open = rb"(?:%b%b)*+%b\Z" % (cell, letter, inner)
    return re.compile(row), re.compile(cell), re.compile(is_open)


class BrokenRows:
    """The rows of a file, readable or not.

    Args:
        name: Name of the file.
        delimiter: What separates cells.
        width: Number of cells of a row.
        parse: Reads rows as batches, by their text and the numbers of rows and lines before it;
            returns None, or raises a SourceError, if it cannot.
    """

    def __init__(self, name: str, delimiter: str, width: int, parse: Parse) -> None:
        self._name = name
        self._delimiter = delimiter.encode()
        self._width = width
        self._row, self._cell, self._is_open = _patterns(delimiter)
        self._parse = parse
        self._rows = 0

    def batches(self, blocks: Iterable[bytes], line: int) -> Iterator[Any]:
        """The rows as batches; those that cannot be read have no cells but a reason.

        Args:
            blocks: The text behind the header.
            line: Number of lines before it.
        """
        pending, tried = b"", 0
        for block in chain(blocks, [None]):
            pending += block or b""
            final = block is None
            if not final and len(pending) < tried:
                continue
            end = len(pending) if final else max(pending.rfind(b"\n") + 1, 0)
            if end and (batches := self._whole(pending[:end], line)) is not None:
                yield from self._counted(batches)
            else:
                end, rows = self._split(pending, line, final=final)
                yield from self._counted(self._mixed(rows, line))
            line += _line_ends(pending[:end])
            tried = 0 if end else 2 * len(pending)
            pending = pending[end:]
            if len(pending) > 2 * ROW_BYTES:
                raise SourceError(
                    f"The file {self._name!r} cannot be read as CSV beyond line {line}: the next "
                    f"line is longer than {ROW_BYTES:,} bytes."
                )

    def _counted(self, batches: list[Any]) -> list[Any]:
        self._rows += sum(batch.num_rows for batch in batches)
        return batches

    def _whole(self, text: bytes, line: int) -> list[Any] | None:
        """The rows of a text, if all of them can be read."""
        if UNDECODED_BYTES in text:
            return None
        try:
            return self._parse(text, self._rows, line)
        except SourceError:
            return None

    def _split(
        self, text: bytes, line: int, *, final: bool
    ) -> tuple[int, list[bytes | Unreadable]]:
        """The rows of a text one by one, and where the last of them ends."""
        rows: list[bytes | Unreadable] = []
        place = 0
        while place < len(text):
            ending = _LINE_END.search(text, place)
            if not final and (ending is None or ending.end() == len(text)):
                break  # the line may go on; a \n may follow an \r
            stop, behind = (ending.start(), ending.end()) if ending else (len(text), len(text))
            row: bytes | None = text[place:stop]
            if row and b'"' in row:
                match = self._row.match(text, place)
                stop = match.end() if match else stop
                waits = stop == len(text) if match else self._is_open.match(text, place)
                if waits and not final and len(text) - place < ROW_BYTES:
                    break
                if match and (ending := _LINE_END.match(text, stop)):
                    behind = ending.end()
                elif match:
                    behind = stop
                row = match[0] if match else None
            if row != b"":
                reason = self._problem(row)
                if reason is None and row is not None:
                    rows.append(row)
                else:
                    rows.append(Unreadable(reason or QUOTES, line + 1, text[place:stop]))
            line += max(1, _line_ends(text[place:behind]))
            place = behind
        return place, rows

    def _problem(self, row: bytes | None) -> str | None:
        """Why a row cannot be read, or None."""
        if row is None:
            return QUOTES
        if UNDECODED_BYTES in row:
            return NO_TEXT
        if b'"' not in row:
            width = row.count(self._delimiter) + 1
        else:
            width, place = 0, 0
            while place <= len(row):
                cell = self._cell.match(row, place)
                place = (cell.end() if cell else len(row)) + 1
                width += 1
        if width == self._width:
            return None
        return FEWER if width < self._width else MORE

    def _mixed(self, rows: list[bytes | Unreadable], line: int) -> list[Any]:
        """Batches of rows, of which some can be read."""
        good, lost = self._read([row for row in rows if isinstance(row, bytes)], line)
        unread = iter(lost)
        remarks = [row if isinstance(row, Unreadable) else next(unread) for row in rows]
        if not rows:
            return []
        number = 0
        places: list[int | None] = []
        for remark in remarks:
            places.append(number if remark is None else None)
            number += remark is None
        columns: dict[str, Any] = {}
        if good is not None:
            taken = good.take(pa.array(places, pa.int64()))
            columns = dict(zip(taken.column_names, taken.columns, strict=True))
        values: list[list[Any]] = [
            [remark and remark.reason for remark in remarks],
            [remark and remark.line for remark in remarks],
            [remark and remark.shown for remark in remarks],
        ]
        for item, column in zip(READING_SCHEMA, values, strict=True):
            columns[item.name] = pa.array(column, item.type)
        batches: list[Any] = pa.table(columns).combine_chunks().to_batches()
        return batches

    def _read(self, rows: list[bytes], line: int) -> tuple[Any, list[Unreadable | None]]:
        """The rows that can be read as a table; and for each row why it cannot, or None."""
        if not rows:
            return None, []
        batches = self._whole(b"\n".join(rows) + b"\n", line)
        if batches is not None and sum(batch.num_rows for batch in batches) == len(rows):
            return pa.Table.from_batches(batches), [None] * len(rows)
        if len(rows) == 1:
            return None, [Unreadable(NO_ROW, line + 1, rows[0])]
        half = len(rows) // 2
        (first, lost), (second, others) = (
            self._read(part, line) for part in (rows[:half], rows[half:])
        )
        tables = [table for table in (first, second) if table is not None]
        joined = pa.concat_tables(tables, promote_options="default") if tables else None
        return joined, [*lost, *others]


def _line_ends(text: bytes) -> int:
    """The number of line ends of any kind; those in a quoted cell may be of another."""
    return text.count(b"\n") + text.count(b"\r") - text.count(b"\r\n")

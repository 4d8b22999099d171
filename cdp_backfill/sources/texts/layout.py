"""Finds the header of a delimited file and what separates its cells, from its first rows."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DELIMITERS: Final = ",\t;|\x01"
"""What may separate cells; the last one is that of Hive."""

_ROWS: Final = 100
"""Rows that are looked at."""

_MAX_PREAMBLE: Final = 30
"""Most lines before a header."""

_MOST: Final = 0.8

# As Excel writes it.
_SEP: Final = re.compile(r'"?sep=(.)"?(?:\r\n|\n|\r|$)', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Row:
    """A row, and where it is in the text.

    Attributes:
        cells: Its cells.
        end: Place behind its last letter.
        is_spaced: Whether an empty line is before it.
    """

    cells: list[str]
    end: int
    is_spaced: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """How a text is a table.

    Attributes:
        delimiter: What separates cells.
        body: Place of the first letter behind the header.
        named: Whether a line such as ``sep=;`` names the delimiter.
        preamble: Number of rows before the header.
        width: Number of cells of most rows.
        share: Share of the first rows that have as many cells.
        rows: The first rows, the header included.
    """

    delimiter: str
    body: int
    named: bool
    preamble: int
    width: int
    share: float
    rows: tuple[list[str], ...]

    @property
    def may_be_table(self) -> bool:
        """Whether the text may have columns."""
        return self.width > 1 and self.share * 2 > 1 and not self._is_prose

    @property
    def is_table(self) -> bool:
        """Whether the text has columns beyond doubt."""
        return self.may_be_table and self.share >= _MOST and len(self.rows) > 1

    @property
    def is_spaced(self) -> bool:
        """Whether a blank follows each delimiter, as in sentences."""
        cells = [cell for row in self.rows for cell in row[1:]]
        return bool(cells) and all(cell.startswith(" ") for cell in cells)

    @property
    def _is_prose(self) -> bool:
        """Whether the commas of the first line are those of a sentence."""
        first, *others = self.rows[0]
        words = max(len(cell.split()) for cell in (first, *others))
        return words > 2 and all(cell.startswith(" ") for cell in others)  # noqa: PLR2004


def find_layout(text: str, *, complete: bool) -> Layout:
    r"""How a text is a table.

    Args:
        text: The text from its beginning on.
        complete: Whether it is all of it.

    >>> layout = find_layout("Report of May\nuid;ts\nada;1\nbob;2\n", complete=True)
    >>> layout.delimiter, layout.preamble, layout.rows[0]
    (';', 1, ['uid', 'ts'])
    """
    start = len(text) - len(text.lstrip("\r\n"))
    named = _SEP.match(text, start)
    if named is not None:
        start = named.end()
    found = {
        delimiter: _rows(text, start, delimiter, complete=complete)
        for delimiter in (named[1] if named else DELIMITERS)
    }
    delimiter = max(found, key=lambda each: _evidence(found[each], each))
    rows = found[delimiter]
    if not rows:
        return Layout(delimiter, start, bool(named), 0, 0, share=0.0, rows=())
    width = _width(rows, delimiter)
    preamble = _preamble(rows, width)
    table = rows[preamble:]
    return Layout(
        delimiter,
        table[0].end,
        bool(named),
        preamble,
        width,
        sum(len(row.cells) == width for row in table) / len(table),
        tuple(row.cells for row in table),
    )


def _rows(text: str, start: int, delimiter: str, *, complete: bool) -> list[_Row]:
    """The first rows, if the delimiter is this one; the last one is left out if it may go on."""
    lines = io.StringIO(text[start:], newline="")
    place, is_spaced = start, False
    seen: list[str] = []

    def noted() -> Iterator[str]:
        for line in lines:
            seen.append(line)
            yield line

    rows: list[_Row] = []
    reader = csv.reader(noted(), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            place += sum(map(len, seen))
            seen.clear()
            if cells:
                rows.append(_Row(cells, place, is_spaced))
            is_spaced = not cells
            if len(rows) > _ROWS:
                break
    except csv.Error:  # such as text behind a closing quote
        pass
    if place >= len(text) and not complete and rows:
        rows.pop()
    return rows


def _evidence(rows: list[_Row], delimiter: str) -> tuple[int, int, int]:
    """How much speaks for a delimiter: rows with the same number of cells, and this number."""
    widths = Counter(len(row.cells) for row in rows if len(row.cells) > 1)
    count, width = max(((count, width) for width, count in widths.items()), default=(0, 0))
    return count, width, -DELIMITERS.find(delimiter)


def _width(rows: list[_Row], delimiter: str) -> int:
    """The number of cells of most rows, apart from those without a delimiter."""
    return _evidence(rows, delimiter)[1] or 1


def _preamble(rows: list[_Row], width: int) -> int:
    """The number of rows before the header, if there certainly are any, else 0.

    A header may have fewer cells than the rows below it, if one column has no name. So these rows
    must be titles of one cell or remarks, or an empty line must follow them.
    """
    first = next((number for number, row in enumerate(rows) if len(row.cells) == width), len(rows))
    below = rows[first:]
    if (
        not 0 < first <= _MAX_PREAMBLE
        or width < 2  # noqa: PLR2004
        or len(below) < 2  # noqa: PLR2004
        or len(below[1].cells) != width
        or sum(len(row.cells) == width for row in below) * 2 <= len(below)
        or "" in below[0].cells
    ):
        return 0
    are_titles = all(len(row.cells) == 1 or row.cells[0].startswith("#") for row in rows[:first])
    return first if are_titles or below[0].is_spaced else 0


def looks_like_a_row(cells: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Whether what should be the header looks like the rows below it.

    Args:
        cells: The cells of the first row.
        below: The cells of the next rows.

    >>> looks_like_a_row(["u1", "2023-05-01"], [["u2", "2023-05-02"]])
    True
    >>> looks_like_a_row(["user", "day"], [["u2", "2023-05-02"]])
    False
    """
    others = [row for row in below if row != cells and len(row) == len(cells)]
    if _is_numbered(cells):
        return False
    for number, cell in enumerate(cells):
        column = [row[number] for row in others if row[number]]
        kind = _kind(cell)
        alike = sum(_kind(other) == kind for other in column)
        if kind is not None and (not others or alike * 2 >= max(1, len(column))):
            return True
        if cell and column.count(cell) * 10 >= max(10, len(column)):
            return True
    return False


_KINDS: Final = {
    "number": r"[-+]?\d+(?:[.,]\d+)?(?:[eE][-+]?\d+)?",
    "version": r"\d+(?:\.\d+){2,3}",
    "time": r"\d{4}-\d\d-\d\d(?:[T ].*)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}(?: .*)?",
    "uuid": r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    "hash": r"(?=[a-fA-F]*\d)[0-9a-fA-F]{16,}",
    "email": r"[^@\s]+@[^@\s]+\.[a-zA-Z]+",
    "url": r"https?://.*",
    "json": r"[{\[].*[}\]]",
    "boolean": r"(?i:true|false)",
}
"""Cells that hardly ever are names of columns."""

_CELL: Final = re.compile(
    "|".join(f"(?P<{name}>{pattern})" for name, pattern in _KINDS.items()), re.DOTALL
)


def _kind(cell: str) -> str | None:
    match = _CELL.fullmatch(cell)
    return match.lastgroup if match else None


def _is_numbered(cells: Sequence[str]) -> bool:
    """Whether the numbers among some cells are names: all numbers from 0, or years in a row."""
    numbers = [int(cell) for cell in cells if cell.isdecimal() and len(cell) < 5]  # noqa: PLR2004
    if len(cells) > 1 and numbers == list(range(len(numbers))) and len(numbers) >= len(cells) - 1:
        return True
    are_years = len(numbers) > 1 and all(1900 <= number <= 2100 for number in numbers)  # noqa: PLR2004
    kinds = {_kind(cell) for cell in cells} - {None}
    return (
        are_years and kinds == {"number"} and all(b - a == 1 for a, b in pairwise(sorted(numbers)))
    )

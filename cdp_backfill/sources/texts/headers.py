"""Reads the headers of delimited files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import TYPE_CHECKING, Final

from cdp_backfill.errors import SourceError
from cdp_backfill.model.plurals import count as counted
from cdp_backfill.sources.chunks import MAX_COLUMNS, check_names
from cdp_backfill.sources.texts.layout import find_layout, looks_like_a_row
from cdp_backfill.sources.texts.quoting import ESCAPED, find_escapes, mark_escaped
from cdp_backfill.sources.texts.reading import blocks, count_letter
from cdp_backfill.sources.unpacking import BLOCK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp_backfill.sources.texts.layout import Layout
    from cdp_backfill.sources.texts.reading import TextFile


@dataclass(frozen=True, slots=True)
class Table:
    """A delimited file and its header.

    Attributes:
        file: The file.
        names: Names of its columns, without repeated and empty ones; none if it is empty.
        delimiter: What separates cells.
        escaped: Whether a backslash escapes quotes.
        rows: Number of rows; None until all are read.
    """

    file: TextFile
    names: tuple[str, ...] = ()
    delimiter: str = ","
    escaped: bool = False
    rows: int | None = None

    def body(self, windows: dict[str, int] | None = None) -> tuple[int, Iterator[bytes]]:
        """The number of lines up to the header, and the blocks of text after it.

        Args:
            windows: See :func:`cdp_backfill.sources.texts.reading.blocks`.
        """
        head, rest, _ = _opened(self, windows)
        text = head.decode()
        place = find_layout(text, complete=rest is None).body
        lines = line_count(text[:place].encode())
        return lines, chain([text[place:].encode()], *(() if rest is None else (rest,)))


def line_count(text: bytes) -> int:
    """The number of line ends."""
    return count_letter(text, b"\n") or count_letter(text, b"\r")


def _opened(
    table: Table, windows: dict[str, int] | None = None
) -> tuple[bytes, Iterator[bytes] | None, bool]:
    parts = blocks(table.file, windows)
    if table.escaped:
        parts = mark_escaped(parts)
    head, second = next(parts, b""), next(parts, None)
    return head, None if second is None else chain([second], parts), b'\\"' in head


def read_header(file: TextFile, notes: list[str]) -> Table:
    """The header of a file.

    Args:
        file: The file.
        notes: Gets sentences about what is read differently from the file.

    Raises:
        SourceError: The file cannot be read, or has no header.
    """
    table = Table(file)
    head, rest, has_escapes = _opened(table)
    layout = find_layout(head.decode(), complete=rest is None)
    escapes = find_escapes(blocks(file)) if not layout.rows and has_escapes else None
    if escapes is not None and escapes.certain:
        table = replace(table, escaped=True)
        head, rest, _ = _opened(table)
        layout = find_layout(head.decode(), complete=rest is None)
    if not head.strip(b"\r\n"):
        notes.append(f"The file {file.name!r} is empty.")
        return table
    if not layout.rows:
        raise _no_header(file.name, len(head))
    if looks_like_a_row(layout.rows[0], layout.rows[1:]):
        raise _no_names(file.name, layout)
    if layout.named:
        notes.append(
            f"The first line of the file {file.name!r} names the delimiter, {layout.delimiter!r}. "
            "It is not a row."
        )
    if layout.preamble:
        notes.append(
            f"The file {file.name!r} has {counted(layout.preamble, 'line')} before its header. "
            f"{'It is' if layout.preamble == 1 else 'They are'} not read."
        )
    header = [name.replace(ESCAPED, '"') for name in layout.rows[0]]
    if escapes is not None:
        notes.append(escapes_note(file.name, escapes.quotes))
    if len(header) > MAX_COLUMNS:  # before each of them gets a note
        check_names(header, f"The file {file.name!r}")
    names = _distinct(header, file.name, notes)
    return replace(table, names=names, delimiter=layout.delimiter)


def escapes_note(name: str, quotes: int) -> str:
    """What people should know about quotes that a backslash escapes."""
    are = "is" if quotes == 1 else "are"
    return (
        f"{counted(quotes, 'quote')} in the file {name!r} {are} escaped with a backslash, and read "
        "without it."
    )


def _no_header(name: str, size: int) -> SourceError:
    if size >= BLOCK_BYTES // 2:
        return SourceError(
            f"The file {name!r} cannot be read as CSV: its first {size:,} bytes hold no complete "
            "header."
        )
    return SourceError(
        f"The header of the file {name!r} cannot be read as CSV: a quote is not closed, or text "
        "follows a closing quote."
    )


def _no_names(name: str, layout: Layout) -> SourceError:
    names = [f"column_{number}" for number in range(1, len(layout.rows[0]) + 1)]
    separator = "" if layout.delimiter == "," else f", sep={layout.delimiter!r}"
    return SourceError(
        f"The file {name!r} has no header, it seems: its first line looks like the rows below it. "
        "Add a first line with the names of the columns, or pass the names: df = "
        f"pd.read_csv({name!r}{separator}, header=None, names={names!r}, dtype=str), then "
        "df.cdp.send(...). If the first line is the header, read it with header=0 in the same way."
    )


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

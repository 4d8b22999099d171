"""Reads texts with one id a line, which are no tables: they need no header."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from cdp_backfill.errors import SourceError
from cdp_backfill.sources.texts.encodings import find_encoding

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD_BYTES: Final = 2**16
_DELIMITERS: Final = frozenset(",;\t|\x01")
_JSON: Final = ("{", "[")

LONGEST_ID: Final = 10_000
"""Characters of a line; a longer one is no id."""

_LINES: Final = 2**16
"""Lines that are read at a time."""


def id_lines(path: str | Path) -> Iterator[list[str]] | None:
    """The lines of a text in parts, or None if the file is a table, or no file of this machine.

    A line that stands in quotes is given with and without them.

    Args:
        path: The file.

    Raises:
        SourceError: A line is too long, or is not text.
    """
    file = Path(path).expanduser()
    try:
        if not file.is_file():
            return None
        with file.open("rb") as opened:
            head = opened.read(_HEAD_BYTES)
    except (OSError, ValueError):  # opening it as a table says why
        return None
    if not head:
        return iter(())
    encoding = find_encoding(head)
    if encoding is None:
        return None
    text = encoding.decode(head)
    if text.lstrip().startswith(_JSON) or _DELIMITERS & set(text):
        return None
    return _lines(file, encoding.name)


def _lines(file: Path, encoding: str) -> Iterator[list[str]]:
    part: list[str] = []
    try:
        with file.open(encoding=encoding) as opened:
            for number, line in enumerate(iter(lambda: opened.readline(LONGEST_ID), ""), 1):
                if len(line) == LONGEST_ID:
                    raise SourceError(
                        f"Line {number} of the file {file.name!r} has {LONGEST_ID:,} characters or "
                        "more, which is no id. Write one id a line, or pass a table with a column "
                        "of ids."
                    )
                text = line.removeprefix("\ufeff").strip()
                part.append(text)
                if len(text) > 1 and text[0] == text[-1] == '"':
                    part.append(text[1:-1].replace('""', '"'))
                if len(part) >= _LINES:
                    yield part
                    part = []
    except UnicodeError as error:
        raise SourceError(
            f"The file {file.name!r} is not text in {encoding.upper()}. Save it as UTF-8."
        ) from error
    except OSError as error:
        raise SourceError(
            f"The file {file.name!r} cannot be read: {error.strerror or error}."
        ) from error
    yield part

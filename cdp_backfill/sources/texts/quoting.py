"""Checks the quotes of delimited text, and reads those that a backslash escapes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_QUOTE: Final = ord('"')

ESCAPED: Final = "\ufdd0"
"""Stands for an escaped quote while text is parsed; no text has it, as it is no character."""

_ESCAPED_BYTES: Final = ESCAPED.encode()

_BACKSLASHES: Final = re.compile(rb"(\\+)([^\\])?", re.DOTALL)
_NULLS: Final = re.compile(rb'(?<![^,\t;|\x01\r\n"])\\N(?![^,\t;|\x01\r\n"])')
_BEFORE_QUOTES: Final = re.compile(rb'(\\+)"')

# What a backslash and this letter can mean besides themselves, as in \n or \N.
_MEANINGFUL: Final = frozenset(b"abefnrtuvxNU0123456789'/,;|\t\r\n\x01")


def text_after_quote(text: bytes, delimiter: str) -> int | None:
    r"""Where text follows the closing quote of a cell, which CSV does not allow; None if nowhere.

    Args:
        text: Whole rows.
        delimiter: What separates cells.

    >>> text_after_quote(b'"a",1\n"b"x,2\n', ",")
    9
    """
    letters = np.frombuffer(text, np.uint8)
    quotes = np.flatnonzero(letters == _QUOTE)
    if not len(quotes):
        return None
    beside = np.zeros(256, dtype=bool)
    beside[[ord(delimiter), _QUOTE, *b"\r\n"]] = True
    before = beside[letters[quotes - 1]]
    before[0] |= quotes[0] == 0
    after = beside[letters[np.minimum(quotes + 1, len(letters) - 1)]]
    after[-1] |= quotes[-1] == len(letters) - 1
    # In turns, quotes open and close; those within a cell, which are doubled, close and open it.
    if before[0::2].all() and after[1::2].all() and len(quotes) % 2 == 0:
        return None
    cells, quoted = _cells(delimiter)
    end = cells.match(text + b"\n").end()
    cell = quoted.match(text, end)
    return None if cell is None or cell.end() == len(text) else cell.end()


@cache
def _cells(delimiter: str) -> tuple[Any, Any]:
    """Patterns of any number of cells, and of a cell in quotes."""
    letter = re.escape(delimiter).encode()
    quoted = rb'"[^"]*+(?:""[^"]*+)*+"'
    plain = rb'[^"%b\r\n][^%b\r\n]*+' % (letter, letter)
    cell = rb"(?:(?:%b|%b)?[%b\r\n])*+" % (quoted, plain, letter)
    return re.compile(cell), re.compile(quoted)


@dataclass(frozen=True, slots=True)
class Escapes:
    """The backslashes of a text.

    Attributes:
        quotes: Number of quotes that a backslash escapes.
        certain: Whether it is certain what the other backslashes mean: themselves.
    """

    quotes: int
    certain: bool


def find_escapes(parts: Iterable[bytes]) -> Escapes:
    r"""The backslashes of a text, if they escape quotes.

    Some writers put a backslash before quotes only, others also before backslashes. A backslash
    before a letter, as in ``C:\Data``, shows the first kind, in which other backslashes stay. If
    there are double ones and no such sign, both kinds are possible. A cell of ``\N`` is an empty
    one in either.

    Args:
        parts: The text, in parts of any size.
    """
    quotes, literal, unclear = 0, False, False
    for part in _whole_runs(parts):
        if _ESCAPED_BYTES in part:
            return Escapes(0, certain=False)
        for run, then in _BACKSLASHES.findall(_NULLS.sub(b"", part)):
            if then == b'"':
                quotes += len(run) % 2
            elif len(run) == 1 and then and then[0] not in _MEANINGFUL:
                literal = True
            else:
                unclear = True
    return Escapes(quotes, certain=literal or not unclear)


def mark_escaped(parts: Iterable[bytes]) -> Iterator[bytes]:
    r"""A text with :data:`ESCAPED` for quotes that a backslash escapes.

    Args:
        parts: The text, in parts of any size.

    >>> b"".join(mark_escaped([b'"5\\" wide"'])).decode() == f'"5{ESCAPED} wide"'
    True
    """
    for part in _whole_runs(parts):
        yield _BEFORE_QUOTES.sub(_unescaped, part) if b'\\"' in part else part


def _unescaped(match: re.Match[bytes]) -> bytes:
    count = len(match[1])
    return b"\\" * (count // 2) + (_ESCAPED_BYTES if count % 2 else b'"')


def _whole_runs(parts: Iterable[bytes]) -> Iterator[bytes]:
    """A text in parts that do not end with a backslash."""
    rest = b""
    for part in parts:
        text = rest + part
        end = len(text.rstrip(b"\\"))
        if end:
            yield text[:end]
        rest = text[end:]
    if rest:
        yield rest


def restore_escaped(cells: Any) -> Any:
    """Cells with quotes in place of :data:`ESCAPED`."""
    return pc.replace_substring(cells, ESCAPED, '"')


_GUARD: Final = r'^="((?:[^"]|"")*)"$'


def remove_guards(cells: Any) -> tuple[Any, int]:
    """Cells without the guard ``="..."`` that keeps Excel from reading them as numbers.

    Returns:
        The cells, and how many had a guard.
    """
    guarded = pc.match_substring_regex(cells, _GUARD)
    count = pc.sum(guarded).as_py() or 0
    if not count:
        return cells, 0
    inner = pc.replace_substring_regex(cells, _GUARD, r"\1")
    inner = pc.replace_substring(inner, '""', '"')
    inner = pc.if_else(pc.equal(inner, ""), None, inner)
    return pc.if_else(guarded, inner, cells), count

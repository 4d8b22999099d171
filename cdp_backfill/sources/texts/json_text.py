"""Finds places in JSON text without parsing it, a whole block at a time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Places = npt.NDArray[np.int64]

_QUOTE, _BACKSLASH, _LINE_END = b'"\\\n'

_STEPS: Final = np.zeros(256, np.int64)
_STEPS[list(b"{[")] = 1
_STEPS[list(b"}]")] = -1

INFINITE: Final = b"1e99999"
"""A number beyond all types, in place of Infinity, which JSON does not have."""

_WORDS: Final = re.compile(rb"NaN|-?Infinity")

_ESCAPES: Final = re.compile(
    rb"(\\u[dD][89abAB]%(hex)b\\u[dD][c-fC-F]%(hex)b)|(\\u[dD][89a-fA-F]%(hex)b)|\\."
    % {b"hex": b"[0-9a-fA-F]{2}"}
)


def quotes(text: bytes) -> Places:
    r"""The places of the quotes that begin and end strings, in turns.

    >>> quotes(b'{"a\\"": 1}').tolist()
    [1, 5]
    """
    letters = np.frombuffer(text, np.uint8)
    places = np.flatnonzero(letters == _QUOTE)
    after_backslash = letters[places - 1] == _BACKSLASH
    if not after_backslash.any():
        return places
    # A quote is part of a string if an odd number of backslashes is before it.
    backslashes = np.flatnonzero(letters == _BACKSLASH)
    starts = np.flatnonzero(np.diff(backslashes, prepend=-2) != 1)
    runs = np.diff(starts, append=len(backslashes))
    ends = backslashes[starts] + runs
    odd_ends = ends[runs % 2 == 1]
    return places[~np.isin(places, odd_ends)]


def replace_half_characters(text: bytes) -> bytes:
    r"""Text with U+FFFD for halves of characters, such as ``\ud83d`` alone in a cut emoji."""
    return _ESCAPES.sub(lambda escape: rb"\ufffd" if escape[2] else escape[0], text)


def replace_words(text: bytes) -> tuple[bytes, int]:
    """Text with null for NaN and :data:`INFINITE` for Infinity, and the number of NaN.

    >>> replace_words(b'{"a": NaN, "b": "NaN", "c": -Infinity}')
    (b'{"a": null, "b": "NaN", "c": -1e99999}', 1)
    """
    words = list(_WORDS.finditer(text))
    if not words:
        return text, 0
    inside = np.searchsorted(quotes(text), [word.start() for word in words]) % 2 == 1
    parts: list[bytes] = []
    end = count = 0
    for word, skip in zip(words, inside.tolist(), strict=True):
        if skip:
            continue
        parts += [text[end : word.start()], _replacement(word[0])]
        count += word[0] == b"NaN"
        end = word.end()
    return b"".join([*parts, text[end:]]), count


def _replacement(word: bytes) -> bytes:
    if word == b"NaN":
        return b"null"
    return b"-" + INFINITE if word[:1] == b"-" else INFINITE


class Scanner:
    """Finds where the objects of a text begin and end, block by block.

    Args:
        depth: Brackets around the objects: 1 in an array, else 0.
    """

    def __init__(self, depth: int) -> None:
        self._outer = depth
        self._depth = 0
        self._in_string = 0

    @property
    def in_string(self) -> bool:
        """Whether the text that was scanned ends inside a string."""
        return bool(self._in_string)

    def scan(self, block: bytes) -> tuple[list[int], list[int], int | None]:
        """Scan the next block.

        Args:
            block: Text that does not end with a backslash.

        Returns:
            Places where objects begin, places behind objects, and the first line end inside a
            string, which JSON does not allow.
        """
        letters = np.frombuffer(block, np.uint8)
        strings = quotes(block)
        ends = np.flatnonzero(letters == _LINE_END)
        inner = ends[self._inside(strings, ends)]
        brackets = np.flatnonzero(_STEPS[letters])
        brackets = brackets[~self._inside(strings, brackets)]
        steps = _STEPS[letters[brackets]]
        depths = self._depth + np.cumsum(steps)
        begins = brackets[(steps > 0) & (depths == self._outer + 1)]
        closes = brackets[(steps < 0) & (depths == self._outer)] + 1
        self._depth = int(depths[-1]) if len(depths) else self._depth
        self._in_string = (self._in_string + len(strings)) % 2
        return begins.tolist(), closes.tolist(), int(inner[0]) if len(inner) else None

    def _inside(self, strings: Places, places: Places) -> npt.NDArray[np.bool_]:
        """Which places are inside strings."""
        return np.asarray((np.searchsorted(strings, places) + self._in_string) % 2 == 1)

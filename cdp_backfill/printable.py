"""Text that is safe to show: what steers a terminal, or turns text around, becomes visible."""

from __future__ import annotations

import re
from typing import Final

_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tabs and line breaks, and C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # turn the order of text around
    "\u2028\u2029\ud800-\udfff]"  # break lines; halves of a character, which no file takes
)
_BREAKS: Final = re.compile("[\t\n]")


def printable(text: str, *, one_line: bool = False) -> str:
    r"""The text with escapes such as ``\x1b`` in place of what does not show.

    A cell, a column name or the words of a server could otherwise move the cursor, rewrite what
    stands above, set the clipboard, or show text in another order than it has.

    Args:
        text: Any text.
        one_line: Replace tabs and line breaks, too.

    >>> printable("\x1b[2J\u202eabc")
    '\\x1b[2J\\u202eabc'
    """
    if one_line:
        text = _BREAKS.sub(_escape, text)
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode("ascii")

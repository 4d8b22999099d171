"""Finds the encoding of a text from its first bytes."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Final

_MARKS: Final = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32-le"),  # begins with the mark of UTF-16
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)

CONTROLS: Final = bytes({*range(32), 127} - set(b"\x01\t\n\x0b\x0c\r\x1b\x1e"))
"""Letters that texts hardly have. Hive puts 0x01 between cells."""

_FEW: Final = 0.02
_MANY: Final = 0.3
_ZEROS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Encoding:
    """How bytes are text.

    Attributes:
        name: Name of the codec.
        mark: Number of bytes of the mark that the text begins with.
    """

    name: str = "utf-8"
    mark: int = 0

    def decode(self, head: bytes) -> str:
        """The text that begins with some bytes, the last of which may be a part of a letter."""
        # The names of columns and the delimiters are the same in all encodings of 8 bits.
        decoder = codecs.getincrementaldecoder(self.name)("replace")
        return decoder.decode(head[self.mark :])


def find_encoding(head: bytes) -> Encoding | None:
    """The encoding of a text; None if the bytes are no text.

    Args:
        head: The first bytes of a file.

    >>> find_encoding(b"uid,ts").name, find_encoding("uid,ts".encode("utf-16-be")).name
    ('utf-8', 'utf-16-be')
    """
    for mark, name in _MARKS:
        if head.startswith(mark):
            return Encoding(name, len(mark))
    wide = _wide_encoding(head)
    if wide is not None:
        return Encoding(wide)
    controls = len(head) - len(head.translate(None, CONTROLS))
    allowed = _MANY if _is_utf8(head) else _FEW
    return Encoding() if controls <= allowed * len(head) else None


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _wide_encoding(head: bytes) -> str | None:
    """UTF-16 without a mark: every other byte of its Latin letters, digits and commas is zero."""
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if not head or min(even, odd) or max(even, odd) < _ZEROS * len(head):
        return None
    name = "utf-16-le" if odd else "utf-16-be"
    try:
        text = codecs.getincrementaldecoder(name)().decode(head)
    except UnicodeDecodeError:
        return None
    return name if text.isprintable() or _is_plain(text) else None


def _is_plain(text: str) -> bool:
    return all(letter.isprintable() or letter.isspace() or letter == "\x01" for letter in text)

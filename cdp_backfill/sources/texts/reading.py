"""Reads text files as blocks of UTF-8, whatever their compression and encoding."""

from __future__ import annotations

import codecs
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from cdp_backfill.errors import SourceError
from cdp_backfill.model.plurals import count
from cdp_backfill.sources import unpacking
from cdp_backfill.sources.ahead import ahead
from cdp_backfill.sources.texts.windows import WINDOWS, certain_windows_1252

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp_backfill.sources.paths import File

SKIP_HINT: Final = "To leave out such rows and count each, pass unreadable='skip'."
"""Ends an error about a row that cannot be read."""

UNDECODED: Final = "\ufdd1"
"""Stands for bytes that cannot be decoded; no text has it, as it is no character."""

_MARKING: Final = "cdp_backfill.mark"

codecs.register_error(
    _MARKING, lambda error: (UNDECODED, error.end if isinstance(error, UnicodeDecodeError) else 0)
)

_MOST_BYTES: Final = 4  # of a letter in UTF-8
_LEADING, _LEADS_3, _LEADS_4 = 0xC0, 0xE0, 0xF0  # first bytes of letters of 2, 3 and 4

_LABELS: Final = {
    "utf-8": "UTF-8",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
    "utf-32-le": "UTF-32",
    "utf-32-be": "UTF-32",
}


@dataclass(frozen=True, slots=True)
class TextFile:
    """A text file in the state in which it was opened.

    Attributes:
        file: The file.
        size: Bytes, as stored.
        mtime_ns: Modification time, or None if the file system has none.
        skips: Whether rows that cannot be read are rows of their own, and no error.
    """

    file: File
    size: int
    mtime_ns: int | None
    skips: bool = False

    @classmethod
    def open(cls, file: File) -> TextFile:
        """Open a file without reading it.

        Raises:
            SourceError: There is no such file.
        """
        try:
            info = file.system.get_file_info(file.path)
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"The file {file.name!r} cannot be opened: {error}.") from error
        if not info.is_file:
            raise SourceError(f"There is no file {file.name!r}. Check the path.")
        return cls(file, info.size, info.mtime_ns)

    @property
    def name(self) -> str:
        """The name in messages."""
        return self.file.name

    def as_windows(self) -> TextFile:
        """The same file, known to be Windows-1252."""
        return replace(self, file=replace(self.file, encoding=WINDOWS))

    def skipping(self) -> TextFile:
        """The same file, of which rows that cannot be read are rows of their own, and no error."""
        return replace(self, skips=True)

    def check(self) -> None:
        """Check that the file has not changed.

        Raises:
            SourceError: It has changed.
        """
        try:
            now = TextFile.open(self.file)
            same = (now.size, now.mtime_ns) == (self.size, self.mtime_ns)
        except SourceError:
            same = False
        if not same:
            raise SourceError(
                f"The file {self.name!r} changed while it was being read. Run it again."
            )


def blocks(file: TextFile, windows: dict[str, int] | None = None) -> Iterator[bytes]:
    """The text of a file as UTF-8 without a byte order mark, in blocks that are not empty.

    Args:
        file: The file.
        windows: Gets the name of the file and its number of letters beyond ASCII, if it is not
            UTF-8 but certainly Windows-1252.

    Raises:
        SourceError: The file cannot be read, has changed, or has another encoding. If it skips what
            cannot be read, :data:`UNDECODED` stands for bytes of another encoding.
    """
    encoding, skip, line = file.file.encoding, file.file.mark, 1
    decoder = codecs.getincrementaldecoder(encoding)()
    is_ascii = True
    for stored in _stored(file):
        fresh, skip = stored[skip:], max(0, skip - len(stored))
        block = decoder.getstate()[0] + fresh  # the part of a letter that the last block ended with
        is_utf8 = encoding == "utf-8" and decoder.errors == "strict"
        if is_utf8 and stored and (size := _whole_letters(block)):
            decoder.setstate((block[size:], 0))
            text, block = "", block[:size]
        else:
            try:
                text = decoder.decode(fresh, final=not stored)
            except UnicodeDecodeError as error:
                before = error.object[: error.start]
                letters = None
                if encoding == "utf-8" and is_ascii and before.isascii():
                    letters = certain_windows_1252(_stored(file))
                if letters is None and not file.skips:
                    raise _wrong_encoding(file.name, encoding, line + before.count(b"\n")) from None
                if letters is not None:
                    if windows is not None:
                        windows[file.name] = letters
                    encoding = WINDOWS
                decoder = codecs.getincrementaldecoder(encoding)(
                    "strict" if letters is not None else _MARKING
                )
                text = decoder.decode(block, final=not stored)
            block = text.encode()
        is_ascii = is_ascii and block.isascii()
        line += count_letter(block, b"\n")
        if block:
            yield block


def count_letter(text: bytes, letter: bytes) -> int:
    """How often a text has a letter of one byte; for long texts twice as fast as ``count()``."""
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == ord(letter)))


def _whole_letters(text: bytes) -> int:
    """Bytes of the whole letters of a UTF-8 text that may end inside one; 0 if it is no UTF-8.

    Arrow checks a text many times as fast as a decoder makes one.
    """
    size = len(text)
    for back in range(1, min(_MOST_BYTES, size + 1)):
        if text[-back] >= _LEADING:
            size -= back if back < _bytes_of_letter(text[-back]) else 0
            break
    ends = pa.py_buffer(struct.pack("qq", 0, size))
    try:
        pa.Array.from_buffers(pa.large_string(), 1, [None, ends, pa.py_buffer(text)]).validate(
            full=True
        )
    except pa.ArrowInvalid:
        return 0
    return size


def _bytes_of_letter(first: int) -> int:
    return 2 + (first >= _LEADS_3) + (first >= _LEADS_4)


def windows_note(name: str, letters: int) -> str:
    """What people should know about a file in Windows-1252."""
    return (
        f"The file {name!r} is not UTF-8 but Windows-1252, and is read as such. It has "
        f"{count(letters, 'letter')} beyond ASCII."
    )


def _wrong_encoding(name: str, encoding: str, line: int) -> SourceError:
    if encoding != "utf-8":
        return SourceError(
            f"The file {name!r} is not {_LABELS.get(encoding, encoding)}, as it begins: line "
            f"{line} cannot be decoded. Write it again, in UTF-8. {SKIP_HINT}"
        )
    return SourceError(
        f"The file {name!r} is not UTF-8: line {line} cannot be decoded, and the encoding is not "
        "certain. If it is from Windows, read it with df = pd.read_csv(..., encoding='cp1252', "
        "dtype=str) and pass df, or convert it first, for example with: iconv -f WINDOWS-1252 -t "
        f"UTF-8 old > new. {SKIP_HINT}"
    )


def _stored(file: TextFile) -> Iterator[bytes]:
    """The unpacked bytes in blocks, and an empty block at the end."""
    file.check()
    yield from ahead(unpacking.blocks_of(file.file))
    file.check()
    yield b""

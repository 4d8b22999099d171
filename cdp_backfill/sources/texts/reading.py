"""Text files as blocks of UTF-8, however they are compressed and encoded."""

from __future__ import annotations

import codecs
import re
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.fs

from cdp_backfill.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK_BYTES: Final = 2 * 2**20
"""Bytes of a block: enough for a parser to pay off, few enough to hold several of them."""

_COMPRESSED: Final = (
    (re.compile(rb"\x1f\x8b"), "gzip"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "zstd"),
    # "BZh" alone could be the beginning of a header.
    (re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"), "bz2"),
)

_FOREIGN: Final = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"PAR1": "a parquet file",
    b"\xfd7zXZ\x00": "compressed with xz",
}

_MARKS: Final = {
    b"\xef\xbb\xbf": "utf-8",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file as it was when it was first looked at.

    Attributes:
        name: What people call it.
        system: Arrow file system.
        path: Where it is in there.
        size: Bytes, as stored.
        mtime_ns: When it was written, or None where the file system does not tell.
    """

    name: str
    system: Any
    path: str
    size: int
    mtime_ns: int | None

    @classmethod
    def found(cls, name: str, system: Any, path: str) -> TextFile:
        """Look at a file.

        Raises:
            SourceError: There is none.
        """
        try:
            info = system.get_file_info(path)
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"The file {name!r} cannot be opened: {error}.") from error
        if not info.is_file:
            raise SourceError(f"There is no file {name!r}.")
        return cls(name, system, path, info.size, info.mtime_ns)

    def check(self) -> None:
        """Refuse to go on with a file that is not what it was.

        Raises:
            SourceError: It changed.
        """
        try:
            same = TextFile.found(self.name, self.system, self.path) == self
        except SourceError:
            same = False
        if not same:
            raise SourceError(f"The file {self.name!r} changed while it was being read.")


def blocks(file: TextFile) -> Iterator[bytes]:
    """The text of a file as UTF-8 without a byte order mark, none of the blocks empty.

    Raises:
        SourceError: The file cannot be read, changed, or is in another encoding.
    """
    decoder: codecs.IncrementalDecoder | None = None
    encoding, line = "utf-8", 1
    for stored in _stored(file):
        block = stored
        if decoder is None:
            mark = next((mark for mark in _MARKS if block.startswith(mark)), b"")
            encoding = _MARKS.get(mark, encoding)
            decoder = codecs.getincrementaldecoder(encoding)()
            block = block[len(mark) :]
        try:
            text = decoder.decode(block, final=not stored)
        except UnicodeDecodeError as error:
            line += error.object[: error.start].count(b"\n")
            raise SourceError(_not_utf8(file.name, line)) from None
        if encoding != "utf-8":
            block = text.encode()
        line += block.count(b"\n")
        if block:
            yield block


def _not_utf8(name: str, line: int) -> str:
    return (
        f"The file {name!r} is not UTF-8: line {line} cannot be decoded. Convert it first, for "
        "example with: iconv -f WINDOWS-1252 -t UTF-8 old > new"
    )


def _stored(file: TextFile) -> Iterator[bytes]:
    """The unpacked bytes in blocks, and an empty block at the end."""
    file.check()
    done = 0
    try:
        with ExitStack() as opened:
            stream = opened.enter_context(file.system.open_input_file(file.path))
            head = stream.read(16)
            stream.seek(0)
            for mark, what in _FOREIGN.items():
                if head.startswith(mark):
                    raise SourceError(f"The file {file.name!r} is {what}, not text.")
            for pattern, compression in _COMPRESSED:
                if pattern.match(head):
                    # Small reads, as the decompressor does, are slow in an object store.
                    stream = pa.BufferedInputStream(stream, BLOCK_BYTES)
                    stream = opened.enter_context(pa.CompressedInputStream(stream, compression))
            while block := stream.read(BLOCK_BYTES):
                yield block
                done += len(block)
    except (pa.ArrowException, OSError, EOFError) as error:
        raise SourceError(
            f"The file {file.name!r} cannot be read beyond {done:,} bytes of text: {error}."
        ) from error
    file.check()
    yield b""

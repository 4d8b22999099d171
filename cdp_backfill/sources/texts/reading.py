"""Reads text files as blocks of UTF-8, whatever their compression and encoding."""

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
"""Bytes of a block: enough for a parser to be fast, few enough to hold several blocks."""

_COMPRESSED: Final = (
    (re.compile(rb"\x1f\x8b"), "gzip"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "zstd"),
    # "BZh" alone could begin a header.
    (re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"), "bz2"),
)

_FOREIGN: Final = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"PAR1": "a parquet file",
    b"\xfd7zXZ\x00": "an xz archive",
}

_MARKS: Final = {
    b"\xef\xbb\xbf": "utf-8",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file in the state in which it was opened.

    Attributes:
        name: The name in messages.
        system: Arrow file system.
        path: Path in that file system.
        size: Bytes, as stored.
        mtime_ns: Modification time, or None if the file system has none.
    """

    name: str
    system: Any
    path: str
    size: int
    mtime_ns: int | None

    @classmethod
    def open(cls, name: str, system: Any, path: str) -> TextFile:
        """Open a file without reading it.

        Raises:
            SourceError: There is no such file.
        """
        try:
            info = system.get_file_info(path)
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"The file {name!r} cannot be opened: {error}.") from error
        if not info.is_file:
            raise SourceError(f"There is no file {name!r}. Check the path.")
        return cls(name, system, path, info.size, info.mtime_ns)

    def check(self) -> None:
        """Check that the file has not changed.

        Raises:
            SourceError: It has changed.
        """
        try:
            same = TextFile.open(self.name, self.system, self.path) == self
        except SourceError:
            same = False
        if not same:
            raise SourceError(
                f"The file {self.name!r} changed while it was being read. Run it again."
            )


def blocks(file: TextFile) -> Iterator[bytes]:
    """The text of a file as UTF-8 without a byte order mark, in blocks that are not empty.

    Raises:
        SourceError: The file cannot be read, has changed, or has another encoding.
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
    """The decompressed bytes in blocks, and an empty block at the end."""
    file.check()
    done = 0
    try:
        with ExitStack() as opened:
            stream = opened.enter_context(file.system.open_input_file(file.path))
            head = stream.read(16)
            stream.seek(0)
            for mark, what in _FOREIGN.items():
                if head.startswith(mark):
                    raise SourceError(
                        f"{file.name!r} is neither CSV nor JSON: it begins like {what}."
                    )
            for pattern, compression in _COMPRESSED:
                if pattern.match(head):
                    # The decompressor reads little at a time, which is slow in an object store.
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

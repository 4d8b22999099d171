"""Opens files as streams of unpacked bytes, of which only a few are held at a time."""

from __future__ import annotations

import lzma
import re
import zipfile
import zlib
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.fs

from cdp_backfill.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from cdp_backfill.sources.paths import File

BLOCK_BYTES: Final = 2 * 2**20
"""Bytes of a block: enough for a parser to be fast, few enough to hold several blocks."""

HEAD_BYTES: Final = 2**16
"""Bytes that decide what a file is."""

RANDOM_BYTES: Final = 64 * 2**20
"""Most bytes that are held of a packed file whose format needs all of it."""

READ_ERRORS: Final = (
    pa.ArrowException,
    OSError,
    EOFError,
    lzma.LZMAError,
    zlib.error,
    zipfile.BadZipFile,
)
"""What reading a file raises if the file is damaged, or gone."""

_LAYERS: Final = (
    (re.compile(rb"\x1f\x8b"), "gzip"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "zstd"),
    (re.compile(rb"\xfd7zXZ\x00"), "xz"),
    (re.compile(rb"\x04\x22\x4d\x18"), "lz4"),
    # "BZh" alone could begin a header.
    (re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"), "bz2"),
)

MAX_LAYERS: Final = 2
"""Most compressions of a file; one that was compressed twice by mistake has two."""


def peel(file: File) -> tuple[File, bytes]:
    """A file with the compressions that its first bytes show, and its first unpacked bytes.

    Raises:
        SourceError: There is no such file, or it cannot be unpacked.
    """
    while True:
        head = _head(file)
        layer = next((name for pattern, name in _LAYERS if pattern.match(head)), None)
        if layer is None:
            return file, head
        if len(file.layers) == MAX_LAYERS:
            raise SourceError(
                f"{file.name!r} is compressed more than {MAX_LAYERS} times, one inside the other. "
                "Unpack it first."
            )
        file = replace(file, layers=(*file.layers, layer))


def _head(file: File) -> bytes:
    parts, size = [], 0
    try:
        with unpacked(file) as stream:
            while size < HEAD_BYTES and (part := stream.read(HEAD_BYTES - size)):
                parts.append(part)
                size += len(part)
    except FileNotFoundError as error:
        raise SourceError(f"There is no file {file.name!r}. Check the path.") from error
    except READ_ERRORS as error:
        raise _damaged(file, size, error) from error
    return b"".join(parts)


def _damaged(file: File, done: int, error: BaseException) -> SourceError:
    return SourceError(f"The file {file.name!r} cannot be read beyond {done:,} bytes: {error}.")


@contextmanager
def unpacked(file: File) -> Iterator[Any]:
    """A file that is open for reading, with :attr:`File.layers` undone.

    Whatever a file unpacks to, only a buffer of it is held.
    """
    with ExitStack() as opened:
        stream = opened.enter_context(file.system.open_input_stream(file.path, compression=None))
        for number, layer in enumerate(file.layers):
            if number == 0:
                # Decompressors read little at a time, which is slow in an object store.
                stream = pa.BufferedInputStream(stream, BLOCK_BYTES)
            if layer == "xz":  # Arrow does not have it
                stream = opened.enter_context(lzma.LZMAFile(stream))
                stream = pa.PythonFile(stream, mode="r")
            else:
                stream = pa.CompressedInputStream(stream, layer)
            opened.enter_context(stream)
        yield stream


def blocks_of(file: File) -> Generator[bytes]:
    """The unpacked bytes of a file in blocks that are not empty.

    Raises:
        SourceError: The file cannot be read.
    """
    done = 0
    try:
        with unpacked(file) as stream:
            while block := stream.read(BLOCK_BYTES):
                yield block
                done += len(block)
    except READ_ERRORS as error:
        raise _damaged(file, done, error) from error


def random_access(file: File) -> Any:
    """A file that is open for reading from any place in it.

    Raises:
        SourceError: The file is packed, and too large to hold unpacked.
    """
    is_packed = bool(file.layers) or isinstance(file.system, pa.fs.PyFileSystem)
    if not is_packed:
        return file.system.open_input_file(file.path)
    parts, size = [], 0
    for block in blocks_of(file):
        parts.append(block)
        size += len(block)
        if size > RANDOM_BYTES:
            raise SourceError(
                f"{file.name!r} is packed as a whole, and unpacked it has more than "
                f"{RANDOM_BYTES:,} bytes. Files of this format must be unpacked first, for example "
                f"with: {_unpacking_line(file)}"
            )
    return pa.BufferReader(b"".join(parts))


def _unpacking_line(file: File) -> str:
    """A command that unpacks a file."""
    if file.layers:
        return f"{_TOOLS[file.layers[0]]} {file.path!r}"
    archive = file.name.removesuffix(file.path).rstrip("/")
    return f"python -m zipfile -e {archive!r} folder"


_TOOLS: Final = {
    "gzip": "gunzip",
    "zstd": "zstd -d",
    "xz": "unxz",
    "lz4": "lz4 -d",
    "bz2": "bunzip2",
}

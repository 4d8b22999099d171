"""What the compressed record batches of an Arrow file unpack to, from their metadata alone.

A record batch is held as a whole. Each compressed buffer begins with the number of its bytes when
it is unpacked, so that nothing has to be unpacked to add them up. Arrow refuses a buffer that
unpacks to anything else.

The metadata is a flatbuffer: tables that refer to a list of the places of their fields.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BATCH_BYTES: Final = 2**30
"""Most bytes that a record batch, or a dictionary, of an Arrow file may unpack to."""

MAGIC: Final = b"ARROW1"
"""What a file of record batches begins and ends with; a stream of them has no such mark."""

_CONTINUATION: Final = b"\xff\xff\xff\xff"
_RECORD_BATCH, _DICTIONARY_BATCH = 3, 2
_BLOCK_BYTES, _BUFFER_BYTES = 24, 16
_PREFIX_BYTES: Final = 8


def check_file(stream: Any) -> None:
    """Refuse a file with a batch that unpacks to too much.

    Args:
        stream: The open file; it may be read at any place.

    Raises:
        pa.ArrowInvalid: There is such a batch, or the metadata is damaged.
    """
    try:
        for start, size in _blocks(stream):
            prefix = len(_prefix(stream, start))
            _check_message(stream, start + prefix, size - prefix)
    except (struct.error, OverflowError) as error:
        raise pa.ArrowInvalid("its metadata is damaged") from error


def check_stream(stream: Any) -> None:
    """The same of a file that has no footer, whose messages follow one another."""
    try:
        start = 0
        while prefix := _prefix(stream, start):
            size = int.from_bytes(prefix[-4:], "little")
            if not size:
                return
            start = _check_message(stream, start + len(prefix), size)
    except (struct.error, OverflowError) as error:
        raise pa.ArrowInvalid("its metadata is damaged") from error


def _check_message(stream: Any, start: int, size: int) -> int:
    """Check the message whose metadata is there; returns where the next one begins."""
    data = _read(stream, start, size)
    message = _Table.root(data)
    body = start + size
    kind, header = message.number(1, "<B"), message.table(2)
    if kind == _DICTIONARY_BATCH and header is not None:
        header = header.table(1)
    if kind in (_RECORD_BATCH, _DICTIONARY_BATCH) and header is not None:
        total = 0
        for place in header.items(2, _BUFFER_BYTES) if header.table(3) else ():
            offset, length = struct.unpack_from("<qq", data, place)
            if length:
                prefix = _read(stream, body + offset, _PREFIX_BYTES)
                (unpacked,) = struct.unpack("<q", prefix)
                total += length if unpacked < 0 else unpacked
            if total > MAX_BATCH_BYTES:
                raise pa.ArrowInvalid(
                    f"a record batch unpacks to more than {MAX_BATCH_BYTES:,} bytes. Write it "
                    "without compression, or with fewer rows in each batch"
                )
    return body + message.number(3, "<q")


def _prefix(stream: Any, start: int) -> bytes:
    """What stands before the metadata of a message: its size, which old versions wrote alone."""
    prefix = _read(stream, start, 8)
    return prefix if prefix[:4] == _CONTINUATION else prefix[:4]


def _blocks(stream: Any) -> Iterator[tuple[int, int]]:
    """Place and size of the metadata of each batch, as the footer has them."""
    stream.seek(0, 2)
    end = stream.tell() - len(MAGIC) - 4
    tail = _read(stream, end, 4 + len(MAGIC))
    if tail[4:] != MAGIC:
        raise pa.ArrowInvalid("it is not an Arrow file")
    (length,) = struct.unpack("<i", tail[:4])
    if not 0 < length <= end:
        raise pa.ArrowInvalid("its metadata is damaged")
    data = _read(stream, end - length, length)
    footer = _Table.root(data)
    for field in (2, 3):
        for place in footer.items(field, _BLOCK_BYTES):
            start, size = struct.unpack_from("<qi", data, place)
            yield start, size


def _read(stream: Any, start: int, size: int) -> bytes:
    if start < 0 or size < 0 or start > stream.size():
        raise struct.error
    stream.seek(start)
    data: bytes = stream.read(size)
    return data


class _Table:
    """A table of a flatbuffer."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data, self._place = data, place
        (back,) = struct.unpack_from("<i", data, place)
        self._fields = place - back
        if self._fields < 0:
            raise struct.error
        (self._size,) = struct.unpack_from("<H", data, self._fields)

    @classmethod
    def root(cls, data: bytes) -> _Table:
        return cls(data, struct.unpack_from("<I", data)[0])

    def _where(self, field: int) -> int | None:
        """Where the value of a field is; None if it is not there."""
        at = 4 + 2 * field
        if at + 2 > self._size:
            return None
        (offset,) = struct.unpack_from("<H", self._data, self._fields + at)
        return self._place + offset if offset else None

    def number(self, field: int, kind: str) -> int:
        """A number; 0 if it is not there."""
        place = self._where(field)
        return 0 if place is None else int(struct.unpack_from(kind, self._data, place)[0])

    def _referred(self, field: int) -> int | None:
        place = self._where(field)
        if place is None:
            return None
        return place + int(struct.unpack_from("<I", self._data, place)[0])

    def table(self, field: int) -> _Table | None:
        """A table inside this one."""
        place = self._referred(field)
        return None if place is None else _Table(self._data, place)

    def items(self, field: int, size: int) -> range:
        """The places of the items of a list of structs of some size."""
        place = self._referred(field)
        if place is None:
            return range(0)
        (count,) = struct.unpack_from("<I", self._data, place)
        return range(place + 4, place + 4 + count * size, size)

"""How deeply the types of an ORC file are nested, from its footer alone.

The reader of ORC files goes down the types once for each level, and ends the process if there are
too many. So the footer is read here first. It stands at the end of the file, before a postscript
that says where it begins and how it is compressed. Both are messages of Protocol Buffers.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from cdp_backfill.model.arrow_types import MAX_DEPTH
from cdp_backfill.sources.depths import MAX_FIELDS, DepthError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MAX_FOOTER_BYTES: Final = 2**26
"""Most bytes of a footer, unpacked."""

_FOOTER_LENGTH, _COMPRESSION = 1, 2
_TYPES, _SUBTYPES, _NAMES = 4, 2, 3
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_HEADER_BYTES: Final = 3
_PART_BYTES: Final = 2**16
_SHORTEST_MATCH: Final = 4


def check_footer(stream: Any) -> None:
    """Refuse a file whose types are nested too deeply.

    Args:
        stream: The open file; it may be read at any place.

    Raises:
        DepthError: There is such a type.
        pa.ArrowInvalid: The footer is damaged, too large, or compressed in an unknown way.
    """
    try:
        _check(_types(_footer(stream)))
    except (struct.error, IndexError, zlib.error, OSError, UnicodeDecodeError) as error:
        raise pa.ArrowInvalid("its footer is damaged") from error


def _check(types: Iterable[tuple[list[int], list[str]]]) -> None:
    """Go through the types, which come before those inside them, up to the first that is wrong."""
    levels: dict[int, tuple[int, str]] = {}
    for number, (inside, names) in enumerate(types):
        level, name = levels.pop(number, (1, ""))
        if level > MAX_DEPTH:
            raise DepthError(
                f"column {name!r} is nested more than {MAX_DEPTH} levels deep. Convert it to text, "
                "or drop it"
            )
        if number + len(levels) + len(inside) > MAX_FIELDS:
            raise DepthError(f"it has more than {MAX_FIELDS:,} fields. Send fewer columns")
        for place, child in enumerate(inside):
            if child <= number or child in levels:  # inside two others: the reader would double it
                raise IndexError
            levels[child] = level + 1, name if number else names[place]


def _types(footer: bytes) -> Iterator[tuple[list[int], list[str]]]:
    """The types of a footer: the numbers of those inside, and the names of these."""
    for field, value in _fields(footer):
        if field != _TYPES or not isinstance(value, bytes):
            continue
        inside: list[int] = []
        names: list[str] = []
        for part, each in _fields(value):
            if part == _SUBTYPES:
                inside += [each] if isinstance(each, int) else _varints(each)
            elif part == _NAMES and isinstance(each, bytes):
                names.append(each.decode())
        yield inside, names


def _footer(stream: Any) -> bytes:
    end = stream.size()
    size = _read(stream, end - 1, 1)[0]
    postscript = dict(_fields(_read(stream, end - 1 - size, size)))
    length, kind = postscript.get(_FOOTER_LENGTH, 0), postscript.get(_COMPRESSION, 0)
    if not isinstance(length, int) or not isinstance(kind, int):
        raise struct.error
    if length > MAX_FOOTER_BYTES:
        raise pa.ArrowInvalid(f"its footer has more than {MAX_FOOTER_BYTES:,} bytes")
    data = _read(stream, end - 1 - size - length, length)
    if not kind:
        return data
    if kind not in _UNPACK:
        raise pa.ArrowInvalid("its compression is not known here. Write it with zstd or zlib")
    return b"".join(_unpacked(data, _UNPACK[kind]))


def _unpacked(data: bytes, unpack: Callable[[bytes, int], bytes]) -> Iterator[bytes]:
    """The blocks of compressed bytes, each behind its size and a bit that says if it is plain."""
    place, left = 0, MAX_FOOTER_BYTES
    while place < len(data):
        header = int.from_bytes(data[place : place + _HEADER_BYTES], "little")
        place += _HEADER_BYTES
        block = data[place : place + (header >> 1)]
        place += len(block)
        plain = block if header & 1 else unpack(block, left)
        left -= len(plain)
        if left < 0:
            raise pa.ArrowInvalid(f"its footer has more than {MAX_FOOTER_BYTES:,} bytes")
        yield plain


def _inflate(block: bytes, limit: int) -> bytes:
    return zlib.decompressobj(-15).decompress(block, limit + 1)


def _unpack_zstd(block: bytes, limit: int) -> bytes:
    data = bytearray()
    with pa.CompressedInputStream(pa.BufferReader(block), "zstd") as stream:
        while len(data) <= limit and (part := stream.read(_PART_BYTES)):
            data += part
    return bytes(data)


def _unpack_snappy(block: bytes, limit: int) -> bytes:
    size, _ = _varint(block, 0)
    if size > limit:
        return bytes(limit + 1)
    data: bytes = pa.Codec("snappy").decompress(block, decompressed_size=size, asbytes=True)
    return data


def _unpack_lz4(block: bytes, limit: int) -> bytes:
    """A block of LZ4, which does not say how large it becomes, as Arrow has to know."""
    out, place = bytearray(), 0
    while place < len(block) and len(out) <= limit:
        token = block[place]
        size, place = _lz4_size(block, place + 1, token >> 4)
        out += block[place : place + size]
        place += size
        if place >= len(block):
            break
        back = int.from_bytes(block[place : place + 2], "little")
        size, place = _lz4_size(block, place + 2, token & 15)
        size += _SHORTEST_MATCH
        if size > limit:
            return bytes(limit + 1)
        if not 0 < back <= len(out):
            raise struct.error
        repeated = bytes(out[-back:])[:size]
        out += (repeated * (size // len(repeated) + 1))[:size]
    return bytes(out)


def _lz4_size(block: bytes, place: int, size: int) -> tuple[int, int]:
    more = 255 if size == 15 else 0  # noqa: PLR2004  # four bits that are all set: bytes follow
    while more == 255:  # noqa: PLR2004
        more = block[place]
        size, place = size + more, place + 1
    return size, place


_UNPACK: Final[dict[int, Callable[[bytes, int], bytes]]] = {
    1: _inflate,
    2: _unpack_snappy,
    4: _unpack_lz4,
    5: _unpack_zstd,
}


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: the number of each, and its value."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            number, place = _varint(data, place)
            yield field, number
            continue
        if kind == _BYTES:
            size, place = _varint(data, place)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise struct.error
        if size > len(data) - place:
            raise struct.error
        yield field, data[place : place + size]
        place += size


def _varints(data: bytes) -> list[int]:
    numbers, place = [], 0
    while place < len(data):
        number, place = _varint(data, place)
        numbers.append(number)
    return numbers


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number of which each byte holds seven bits, the lowest first; and where it ends."""
    number = shift = 0
    while True:
        byte = data[place]
        place += 1
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128 or shift > 63:  # noqa: PLR2004
            return number, place


def _read(stream: Any, start: int, size: int) -> bytes:
    if start < 0 or size < 0:
        raise struct.error
    stream.seek(start)
    data: bytes = stream.read(size)
    return data

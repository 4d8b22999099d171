"""Rewrites footers of parquet files, so that they lie."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BOOLEANS: Final = {1: True, 2: False}
BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(3, 13)

Struct = dict[int, tuple[int, Any]]
"""The type and value of each field of a Thrift struct, by the number of the field."""

ROW_GROUPS: Final = 4
"""Field of a file: its row groups."""


class _Reader:
    """Reads Thrift's compact protocol."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _varint(self) -> int:
        result = shift = 0
        while True:
            byte = self._byte()
            result |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return result

    def _zigzag(self) -> int:
        number = self._varint()
        return (number >> 1) ^ -(number & 1)

    def value(self, kind: int) -> Any:
        if kind in (1, 2, BYTE):
            return self._byte()
        if kind in (I16, I32, I64):
            return self._zigzag()
        size = 8 if kind == DOUBLE else self._varint() if kind == BINARY else 0
        if kind in (DOUBLE, BINARY):
            self._at += size
            return self._data[self._at - size : self._at]
        if kind in (LIST, SET):
            head = self._byte()
            count = self._varint() if head >> 4 == 15 else head >> 4
            return head & 15, [self.value(head & 15) for _ in range(count)]
        assert kind == STRUCT
        return self.struct()

    def struct(self) -> Struct:
        fields: Struct = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            kind = head & 15
            fields[number] = (kind, BOOLEANS[kind] if kind in BOOLEANS else self.value(kind))
        return fields


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _zigzag(number: int) -> bytes:
    return _varint(number << 1 if number >= 0 else ~number << 1 | 1)


def _written(kind: int, value: Any) -> bytes:
    if kind in (1, 2, BYTE):
        return bytes([value])
    if kind in (I16, I32, I64):
        return _zigzag(value)
    if kind == BINARY:
        return _varint(len(value)) + bytes(value)
    if kind in (LIST, SET):
        inner, items = value
        head = bytes([0xF0 | inner]) + _varint(len(items))
        return head + b"".join(_written(inner, item) for item in items)
    assert kind == STRUCT
    return _struct(value)


def _struct(fields: Struct) -> bytes:
    out = b""
    for number, (kind, value) in sorted(fields.items()):
        if kind in BOOLEANS:
            out += bytes([1 if value else 2]) + _zigzag(number)
        else:
            out += bytes([kind]) + _zigzag(number) + _written(kind, value)
    return out + b"\0"


def forge(path: Path, change: Callable[[Struct], None]) -> None:
    """Change the footer of a parquet file."""
    data = path.read_bytes()
    (size,) = struct.unpack("<I", data[-8:-4])
    footer = _Reader(data[-8 - size : -8]).struct()
    change(footer)
    changed = _struct(footer)
    path.write_bytes(data[: -8 - size] + changed + struct.pack("<I", len(changed)) + b"PAR1")


def row_groups(footer: Struct) -> list[Struct]:
    """The row groups of a file."""
    groups: list[Struct] = footer[ROW_GROUPS][1][1]
    return groups


def column_chunks(group: Struct) -> list[Struct]:
    """What a row group says about each of its columns."""
    return [chunk[3][1] for chunk in group[1][1][1]]


def statistics(bounds: bytes | tuple[bytes, bytes], *, old: bool = False) -> tuple[int, Struct]:
    """Statistics with a least and a greatest cell.

    Args:
        bounds: Both, or one for both.
        old: In the fields that writers used before the order of cells was defined.
    """
    least, greatest = bounds if isinstance(bounds, tuple) else (bounds, bounds)
    first, second = (2, 1) if old else (6, 5)
    return STRUCT, {3: (I64, 0), first: (BINARY, least), second: (BINARY, greatest)}

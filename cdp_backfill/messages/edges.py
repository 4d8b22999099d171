"""The first and last bytes of texts, a whole column at a time.

Most columns need no fix. Two bytes of each cell show that many times faster than every rule applied
to the whole text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cdp_backfill.model.arrays import Bytes, Ints, Mask


def text_bytes(array: Any) -> tuple[Bytes, Ints, Ints]:
    """The bytes of an array of text; where each cell begins; and how long it is, 0 for null."""
    size = len(array)
    _, offsets, data = array.buffers()
    if not size or data is None:
        return np.zeros(0, np.uint8), np.zeros(size, np.int64), np.zeros(size, np.int64)
    width = np.int64 if pa.types.is_large_string(array.type) else np.int32
    raw = np.frombuffer(offsets, width)[array.offset : array.offset + size + 1]
    bounds: Ints = raw.astype(np.int64)
    lengths: Ints = np.diff(bounds)
    if array.null_count:
        lengths[array.is_null().to_numpy(zero_copy_only=False)] = 0
    return np.frombuffer(data, np.uint8), bounds[:-1], lengths


def byte_set(letters: Iterable[int]) -> Mask:
    """A table with one entry for each byte value, true for the given ones."""
    table = np.zeros(256, dtype=bool)
    table[list(letters)] = True
    return table


@dataclass(frozen=True, slots=True)
class Edges:
    """First and last bytes of the cells of a column.

    Attributes:
        first: The first byte of each cell; undefined where the cell is empty.
        last: The last byte of each cell; undefined where the cell is empty.
        lengths: Bytes of each, 0 for null.
    """

    first: Bytes
    last: Bytes
    lengths: Ints

    @classmethod
    def of(cls, array: Any) -> Edges:
        """The edges of an array of text."""
        data, starts, lengths = text_bytes(array)
        if not len(data):
            nothing = np.zeros(len(array), np.uint8)
            return cls(nothing, nothing, lengths)
        latest = len(data) - 1
        first = data[np.minimum(starts, latest)]
        return cls(first, data[np.clip(starts + lengths - 1, 0, latest)], lengths)


def holds(array: Any, letter: int) -> bool:
    """Whether a byte occurs anywhere in an array of text."""
    data, starts, lengths = text_bytes(array)
    if not len(data):
        return False
    return bool((data[starts[0] : starts[-1] + lengths[-1]] == letter).any())

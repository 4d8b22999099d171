"""What the first and last bytes of texts tell, a whole column at a time.

Most columns hold nothing that must be mended. To see that from two bytes of each cell is many times
faster than to run every rule over all of the text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Numbers = npt.NDArray[np.int64]
    Mask = npt.NDArray[np.bool_]


def text_bytes(array: Any) -> tuple[Bytes, Numbers, Numbers]:
    """The bytes of an array of text; where each cell begins; and how long it is, 0 for null."""
    size = len(array)
    _, offsets, data = array.buffers()
    if not size or data is None:
        return np.zeros(0, np.uint8), np.zeros(size, np.int64), np.zeros(size, np.int64)
    width = np.int64 if pa.types.is_large_string(array.type) else np.int32
    raw = np.frombuffer(offsets, width)[array.offset : array.offset + size + 1]
    bounds: Numbers = raw.astype(np.int64)
    lengths: Numbers = np.diff(bounds)
    if array.null_count:
        lengths[array.is_null().to_numpy(zero_copy_only=False)] = 0
    return np.frombuffer(data, np.uint8), bounds[:-1], lengths


def byte_set(letters: Iterable[int]) -> Mask:
    """A table that is true for some byte values."""
    table = np.zeros(256, dtype=bool)
    table[list(letters)] = True
    return table


@dataclass(frozen=True, slots=True)
class Edges:
    """First and last bytes of the cells of a column.

    Attributes:
        first: The first byte of each cell; any where it is empty.
        last: The last byte of each.
        lengths: Bytes of each, 0 for null.
    """

    first: Bytes
    last: Bytes
    lengths: Numbers

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
    """Whether a byte is anywhere in an array of text."""
    data, starts, lengths = text_bytes(array)
    if not len(data):
        return False
    return bool((data[starts[0] : starts[-1] + lengths[-1]] == letter).any())

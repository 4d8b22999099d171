"""Measures cells as the bounds of expressions count them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.messages.size_polynomials import LEAST
from cdp_backfill.model.arrow_types import is_bytes, is_text

if TYPE_CHECKING:
    from numpy.typing import NDArray


def cell_sizes(array: Any) -> NDArray[np.float64]:
    """The bytes of each cell: 16 for each value and each list inside, and those of its texts.

    Args:
        array: Array without dictionaries.

    >>> cell_sizes(pa.array([["ab", "c"], [], None])).tolist()
    [51.0, 16.0, 16.0]
    """
    kind, types = array.type, pa.types
    sizes = np.full(len(array), float(LEAST))
    if isinstance(array, pa.ExtensionArray):
        return cell_sizes(array.storage)
    if types.is_struct(kind):
        for child in array.flatten():
            sizes += cell_sizes(child)
    elif types.is_map(kind):
        inner = np.cumsum(np.append(0.0, cell_sizes(array.keys) + cell_sizes(array.items)))
        inner = inner[array.offsets.to_numpy()]
        sizes += np.where(array.is_valid(), inner[1:] - inner[:-1], 0.0)
    elif types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        ends = np.cumsum(_counts(pc.list_value_length(array)).astype(np.int64))
        inner = np.cumsum(np.append(0.0, cell_sizes(array.flatten())))[np.append(0, ends)]
        sizes += inner[1:] - inner[:-1]
    elif types.is_string_view(kind) or types.is_binary_view(kind):
        sizes += _counts(pc.binary_length(array.cast(pa.large_binary())))
    elif is_text(kind) or is_bytes(kind):
        sizes += _counts(pc.binary_length(array))
    elif types.is_nested(kind):  # a union or another rare type: each cell counts as all together
        sizes += array.nbytes * LEAST
    return sizes


def _counts(array: Any) -> NDArray[np.float64]:
    filled = pc.fill_null(pc.cast(array, pa.float64(), safe=False), 0.0)
    return np.asarray(filled.to_numpy(zero_copy_only=False))

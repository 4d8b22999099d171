"""Columns of which only a few cells are filled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence


def spread(cells: Any, places: Sequence[int], size: int) -> Any:
    """An array of some cells and nothing else.

    Args:
        cells: Arrow array of the cells.
        places: The place of each of them in the result.
        size: Length of the result.

    >>> import pyarrow as pa
    >>> spread(pa.array(["a", "b"]), [1, 3], 4).to_pylist()
    [None, 'a', None, 'b']
    """
    if isinstance(cells, pa.ExtensionArray):
        return pa.ExtensionArray.from_storage(cells.type, spread(cells.storage, places, size))
    order = np.full(size, -1, dtype=np.int64)
    order[places] = np.arange(len(cells))
    return cells.take(pa.array(order, mask=order < 0))

"""Divides rows so that expressions never make more of some rows than a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cdp_backfill.messages.cell_sizes import cell_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from cdp_backfill.messages.function_sizes import Estimate


def row_memory(batch: Any, estimates: Mapping[str, Estimate]) -> dict[str, NDArray[np.float64]]:
    """The bytes that each new column can make of each row.

    Args:
        batch: Rows.
        estimates: What each new column makes of a row, after those that it uses.
    """
    rows, memory = batch.num_rows, {}
    sizes = {name.casefold(): cell_sizes(batch.column(name)) for name in batch.schema.names}
    for name, estimate in estimates.items():
        memory[name] = estimate.cost.at(sizes, rows)
        sizes[name.casefold()] = estimate.size.at(sizes, rows)
    return memory


def row_groups(memory: NDArray[np.float64], limit: float) -> list[int]:
    """Where to divide rows so that each part stays within a limit, or is one row alone.

    >>> import numpy as np
    >>> row_groups(np.array([2.0, 3.0, 9.0, 1.0]), 5)
    [0, 2, 3, 4]
    """
    places, used = [0], 0.0
    for number, size in enumerate(memory.tolist()):
        if used + size > limit and number > places[-1]:
            places.append(number)
            used = 0.0
        used += size
    return [*places, len(memory)]


def beyond_limit(memory: Mapping[str, NDArray[np.float64]], limit: float) -> set[str]:
    """The new columns of one row that come beyond a limit, one after the other."""
    used, beyond = 0.0, set()
    for name, (size,) in memory.items():
        if used + size > limit:
            beyond.add(name)
        else:
            used += size
    return beyond

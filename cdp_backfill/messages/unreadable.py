"""Rows that could not be read: a file has them as rows without cells, and says why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.messages.text import decode
from cdp_backfill.model.arrow_types import is_text
from cdp_backfill.model.outcomes import UNREADABLE, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cdp_backfill.messages.problems import Problems
    from cdp_backfill.model.arrays import Mask


def unreadable_reasons(columns: Mapping[str, Any], size: int) -> tuple[Any, Mask]:
    """Why rows could not be read, as text that is null for all others, and a mask of these rows.

    Args:
        columns: The columns of a batch, by name.
        size: Number of rows of the batch.

    >>> reasons, mask = unreadable_reasons({"cdp_unreadable": pa.array([None, "it is cut"])}, 2)
    >>> mask.tolist()
    [False, True]
    """
    array = columns.get(UNREADABLE)
    if array is not None:
        array = decode(array)
    if array is None or not is_text(array.type):
        return pa.nulls(size, pa.string()), np.zeros(size, dtype=bool)
    filled = pc.fill_null(pc.not_equal(array, ""), fill_value=False)
    return array, np.asarray(filled.to_numpy(zero_copy_only=False))


def report_unreadable(problems: Problems, reasons: Any, mask: Mask) -> None:
    """Give the rows that could not be read this problem, and no other: they have no cells."""
    if not mask.any():
        return
    for reason in pc.unique(reasons.filter(pa.array(mask))).to_pylist():
        same = pc.fill_null(pc.equal(reasons, reason), fill_value=False)
        where = np.asarray(same.to_numpy(zero_copy_only=False))
        problems.replace(where, Problem("unreadable", None, f"the row cannot be read: {reason}"))

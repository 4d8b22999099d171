"""Finds the rows that a call leaves out: what ``where=`` does not choose, and excluded ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cdp_backfill.messages.epochs import FAR
from cdp_backfill.messages.field_builder import FieldBuilder
from cdp_backfill.model.distinct import key_digests
from cdp_backfill.model.outcomes import EXCLUDED, NOT_WHERE, Problem

if TYPE_CHECKING:
    from cdp_backfill.messages.binding import Binding
    from cdp_backfill.model.arrays import Mask

IS_NOT_WHERE = Problem(NOT_WHERE, None, "where= is not true for this row")
IS_EXCLUDED = Problem(EXCLUDED, None, "exclude= names an id of this row")
_WHERE_FAILS = Problem("where_failed", None, "the expression in where= fails for this row")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The rows of a batch that a call leaves out.

    Attributes:
        skipped: A mask of the rows for each reason; no row has two.
        problems: A mask of the rows of which nobody can tell whether they are chosen.
    """

    skipped: dict[Problem, Mask] = field(default_factory=dict)
    problems: dict[Problem, Mask] = field(default_factory=dict)


def left_out(
    binding: Binding, batch: Any, columns: dict[str, Any], unreadable: Mask
) -> LeftOut | None:
    """The rows that a call leaves out; None if it leaves out none.

    Args:
        binding: The mapping, bound to the schema of the batch.
        batch: Arrow record batch.
        columns: The columns that the mapping reads, by name.
        unreadable: The rows that could not be read: they have no cells to judge.
    """
    if binding.row_filter is None and binding.excluded is None:
        return None
    result, rest = LeftOut(), ~unreadable
    if binding.row_filter is not None:
        true, failed = binding.row_filter.apply(batch)
        result.problems[_WHERE_FAILS] = failed & rest
        result.skipped[IS_NOT_WHERE] = ~(true | failed) & rest
        rest = rest & ~result.skipped[IS_NOT_WHERE]
    if binding.excluded is not None:
        result.skipped[IS_EXCLUDED] = _excluded(binding, columns, len(rest)) & rest
    return result


def _excluded(binding: Binding, columns: dict[str, Any], size: int) -> Mask:
    """True for each row of which an id, as it would be sent, is excluded."""
    found = np.zeros(size, dtype=bool)
    if binding.excluded is None:
        return found
    for ids in FieldBuilder(binding, columns, size, FAR, None).identity().values():
        given = np.asarray(ids.is_valid().to_numpy(zero_copy_only=False))
        found[given] |= binding.excluded.has(key_digests(ids.filter(pa.array(given))))
    return found

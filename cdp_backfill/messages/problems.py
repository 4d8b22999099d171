"""Collects the problems and the fixes of the rows of one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from cdp_backfill.model.outcomes import Fix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp_backfill.model.arrays import Mask, Rows
    from cdp_backfill.model.outcomes import Problem


class Problems:
    """The problems of a batch, of which a row can have several, and its fixes.

    Args:
        rows: Number of rows of the batch.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.fixes: dict[Fix, int] = {}
        """Number of fixed cells by the kind of fix and the column."""
        self._problems: list[tuple[Problem, Mask]] = []

    def add(self, mask: Mask, problem: Problem) -> None:
        """Record a problem for each row at which ``mask`` is true."""
        if mask.any():
            self._problems.append((problem, mask))

    def replace(self, mask: Mask, problem: Problem) -> None:
        """Record a problem that makes all others of these rows meaningless."""
        if mask.any():
            self._problems = [(each, where & ~mask) for each, where in self._problems]
            self._problems = [(each, where) for each, where in self._problems if where.any()]
            self.add(mask, problem)

    def record_fix(self, code: str, column: str, where: Any) -> None:
        """Record fixed cells: a mask, as a numpy or Arrow array, or their number."""
        if isinstance(where, np.ndarray):
            count = int(np.count_nonzero(where))
        else:
            count = where if isinstance(where, int) else pc.sum(where).as_py() or 0
        if count:
            fix = Fix(code, column)
            self.fixes[fix] = self.fixes.get(fix, 0) + count

    def mask(self) -> Mask:
        """True for each row that has a problem."""
        result = np.zeros(self.rows, dtype=bool)
        for _, mask in self._problems:
            result |= mask
        return result

    def mask_of(self, code: str) -> Mask:
        """True for each row that has a problem of this code."""
        result = np.zeros(self.rows, dtype=bool)
        for problem, mask in self._problems:
            if problem.code == code:
                result |= mask
        return result

    def counts(self) -> Iterator[tuple[Problem, int]]:
        """Each problem with the number of rows that have it."""
        for problem, mask in self._problems:
            yield problem, int(np.count_nonzero(mask))

    def groups(self) -> Iterator[tuple[Rows, tuple[Problem, ...]]]:
        """Rows with exactly the same problems, and these problems in the order of their record."""
        bad = np.flatnonzero(self.mask())
        if not len(bad):
            return
        table = np.stack([mask[bad] for _, mask in self._problems])
        patterns, which = np.unique(table, axis=1, return_inverse=True)
        which = which.reshape(-1)
        for number in range(patterns.shape[1]):
            present = patterns[:, number]
            yield (
                bad[which == number],
                tuple(p for (p, _), here in zip(self._problems, present, strict=True) if here),
            )

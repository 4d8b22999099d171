"""Chooses rows by the expression of ``where=``, which sees one row as those of ``derive`` do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.errors import MappingError
from cdp_backfill.messages.deriving import Deriver

if TYPE_CHECKING:
    from cdp_backfill.model.arrays import Mask


class RowFilter:
    """Chooses the rows of record batches for which an expression is true.

    The expression may use derived columns. It sees a column in the type that the messages get: to
    choose rows changes no message.

    Args:
        where: SQL expression.
        derive: Derived columns that it may use.
        schema: Schema of the batches.

    Raises:
        MappingError: It is not SQL, is neither true nor false, or is refused for a reason for which
            :class:`Deriver` refuses one.

    >>> where = RowFilter("n > 1", {}, pa.schema({"n": pa.int64()}))
    >>> where.apply(pa.record_batch({"n": pa.array([1, 2, None])}))[0].tolist()
    [False, True, False]
    """

    def __init__(self, where: str, derive: dict[str, str], schema: Any) -> None:
        if not isinstance(where, str) or not where.strip():
            raise MappingError(
                "where= is empty or no text. Pass a SQL expression, such as "
                "where=\"country = 'DE'\"."
            )
        taken = {name.casefold() for name in (*schema.names, *derive)}
        self._name = "where"
        while self._name in taken:
            self._name += "_"
        expressions = derive | {self._name: where}
        self._deriver = Deriver(expressions, schema, only=[self._name], where=self._name)
        self._place = [item.name for item in self._deriver.fields].index(self._name)
        kind = self._deriver.fields[self._place].type
        if not pa.types.is_boolean(kind):
            raise MappingError(
                f"where= must be true or false in each row, but it is of type {kind}. Compare it "
                "with a value, as in where=\"country = 'DE'\"."
            )

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns of the batches that the expression uses."""
        return self._deriver.reads

    def apply(self, batch: Any) -> tuple[Mask, Mask]:
        """True for each row for which the expression is true, and for each in which it fails.

        A row in which a derived column fails that the expression uses counts as failed, too.

        Args:
            batch: Record batch that has the columns named in ``reads``.
        """
        arrays, failures = self._deriver.apply(batch)
        failed = np.zeros(batch.num_rows, dtype=bool)
        for mask in failures.values():
            failed |= mask
        true = pc.fill_null(arrays[self._place], fill_value=False)
        return np.asarray(true.to_numpy(zero_copy_only=False)) & ~failed, failed

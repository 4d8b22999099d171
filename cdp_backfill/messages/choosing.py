"""Binds the expression of ``where=`` to a table, beside the mapping."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cdp_backfill.messages.row_filter import RowFilter

if TYPE_CHECKING:
    from cdp_backfill.messages.binding import Binding


def choose_rows(binding: Binding, where: str | None, schema: Any) -> Binding:
    """The binding with an expression that chooses rows.

    Args:
        binding: A mapping, bound to a table.
        where: SQL expression, or None for all rows.
        schema: Arrow schema of the table.

    Raises:
        MappingError: See :class:`RowFilter`.
    """
    if where is None:
        return binding
    row_filter = RowFilter(where, binding.mapping.derive, schema)
    columns, guard = (
        tuple(name for name in schema.names if name in {*before, *row_filter.reads})
        for before in (binding.columns, binding.guard_columns)
    )
    return replace(binding, row_filter=row_filter, columns=columns, guard_columns=guard)

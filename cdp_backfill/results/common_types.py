"""Brings tables whose columns changed their type while they were read to one schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cdp_backfill.model.arrow_types import is_json
from cdp_backfill.sources.mixed_cells import mixed_cells

if TYPE_CHECKING:
    from collections.abc import Iterable


def common_schema(schemas: Iterable[Any]) -> Any:
    """The schema of tables with the same columns: a column that is JSON in one is JSON in all.

    Raises:
        pyarrow.ArrowException: Two types of a column have no common one.
    """
    different: list[Any] = []
    for schema in schemas:
        if not any(schema.equals(other) for other in different):
            different.append(schema)
    json = {field.name: field for schema in different for field in schema if is_json(field.type)}
    return pa.unify_schemas(
        [pa.schema([json.get(field.name, field) for field in schema]) for schema in different],
        promote_options="permissive",
    )


def in_schema(table: Any, schema: Any) -> Any:
    """A table with the types of a schema that :func:`common_schema` made."""
    for number, field in enumerate(table.schema):
        kind = schema.field(field.name).type
        if is_json(kind) and not is_json(field.type):
            cells = mixed_cells(table.column(number).to_pylist())
            table = table.set_column(number, field.name, cells)
    return table.select(schema.names).cast(schema)

"""Tables of rows from several files or runs, brought to one schema without changing a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.model.arrow_types import is_json
from cdp_backfill.model.joined_types import ApartError, fitted, join_types
from cdp_backfill.sources.mixed_cells import mixed_cells

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def common_schema(tables: Callable[[], Iterable[Any]]) -> Any:
    """A schema for the rows of all tables.

    A column that is JSON in one table is JSON in all; one that has no common type becomes text.

    Args:
        tables: Gives the tables; called again if the types of a column differ.
    """
    kinds: dict[str, Any] = {}
    varied: set[str] = set()
    metadata = None
    for table in tables():
        metadata = metadata or table.schema.metadata
        for field in table.schema:
            known = kinds.setdefault(field.name, field.type)
            if not known.equals(field.type):
                varied.add(field.name)
                kinds[field.name] = _joined(known, field.type)
    if varied:
        for table in tables():
            for name in varied.intersection(table.schema.names):
                if _fitted(table.column(name), kinds[name]) is None:
                    kinds[name] = pa.string()
    return pa.schema(list(kinds.items()), metadata)


def with_schema(table: Any, schema: Any) -> Any:
    """A table with the columns and types of a schema, which :func:`common_schema` gave."""
    if table.schema.equals(schema):
        return table
    columns = []
    for field in schema:
        if field.name not in table.schema.names:
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table.column(field.name)
        cast = _fitted(column, field.type)
        columns.append(_text(column) if cast is None else cast)
    return pa.table(columns, schema=schema)


def _joined(one: Any, other: Any) -> Any:
    if is_json(one) or is_json(other):
        return one if is_json(one) else other
    try:
        return join_types(one, other)
    except ApartError:
        return pa.string()


def _fitted(column: Any, kind: Any) -> Any | None:
    """A column in a joined type; None if a cell does not fit."""
    if column.type.equals(kind):
        return column
    if is_json(kind):
        return pa.chunked_array([mixed_cells(column.to_pylist())])
    try:
        if pa.types.is_nested(kind) and not pa.types.is_dictionary(kind):
            return column.cast(kind)
        chunks = [fitted(chunk, kind, value_only=True) for chunk in column.chunks]
    except pa.ArrowException:
        return None
    fits = all(chunk.type.equals(kind) for chunk in chunks)
    return pa.chunked_array(chunks, kind) if fits else None


def _text(column: Any) -> Any:
    """Cells as text, times as ISO 8601."""
    try:
        text = column.cast(pa.string())
    except pa.ArrowException:
        return pa.array(
            [None if cell is None else str(cell) for cell in column.to_pylist()], pa.string()
        )
    return pc.replace_substring(text, " ", "T") if pa.types.is_timestamp(column.type) else text

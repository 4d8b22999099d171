"""Makes columns of the keys of records that a loading tool keeps as JSON in one column."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cdp_backfill.inference.presets.merging import read_by
from cdp_backfill.messages import json_cells
from cdp_backfill.messages.expressions import quote
from cdp_backfill.messages.text import as_utf8, json_as_text

if TYPE_CHECKING:
    from cdp_backfill.model.mapping import Mapping


def inner_names(array: Any) -> list[str]:
    """The keys of records, in the order in which they come first.

    Args:
        array: Arrow array of JSON text, structs or maps.

    >>> inner_names(pa.array(['{"event": "open"}', '{"event": "open", "time": 1}']))
    ['event', 'time']
    """
    if pa.types.is_struct(array.type):
        return [field.name for field in array.type]
    text, _ = as_utf8(json_as_text(array))
    cells, _ = json_cells.parse(text)
    names: dict[str, None] = {}
    for cell in cells:
        names |= dict.fromkeys(cell if isinstance(cell, dict) else ())
    return list(names)


def with_inner_columns(
    mapping: Mapping, column: str, names: list[str], table: list[str]
) -> Mapping:
    """A mapping for a table that holds records in a column.

    Args:
        mapping: The mapping for the records.
        column: The column that holds them.
        names: Their keys.
        table: The columns of the table.
    """
    used = {*mapping.columns(), *(each for sql in mapping.derive.values() for each in read_by(sql))}
    folded = {name.casefold() for name in used}
    taken = {name.casefold() for name in (*table, *mapping.derive)}
    inner = {
        name: f"{quote(column)}::JSON->>{_path(name)}"
        for name in names
        if name.casefold() in folded and name.casefold() not in taken
    }
    return replace(mapping, derive=inner | mapping.derive)


def _path(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"').replace("'", "''")
    return f"'$.\"{escaped}\"'"

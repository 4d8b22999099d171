"""Columns whose parts become properties under their own names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.messages.json_cells import check_width
from cdp_backfill.messages.text import as_text, decode
from cdp_backfill.model.arrow_types import can_be_text, is_json, is_list

if TYPE_CHECKING:
    from cdp_backfill.model.arrays import Rows


Parts = dict[str, list[Any]]
"""Names to arrays of which at most one is not null in each row."""


def why_not_expandable(kind: Any) -> str | None:
    """Why a column of this Arrow type cannot be expanded, or None if it can."""
    types = pa.types
    if is_json(kind) or types.is_struct(kind) or types.is_null(kind):
        return None
    if can_be_text(kind) and not types.is_floating(kind) and not types.is_integer(kind):
        return None
    if types.is_map(kind) and can_be_text(kind.key_type):
        return None
    if is_list(kind) and key_and_values(kind.value_type) is not None:
        return None if _key_is_text(kind.value_type) else f"its keys are not text ({kind})"
    return (
        f"it is of type {kind}. JSON text of objects, structs, maps, and lists of structs with a "
        "field named key can be expanded"
    )


def key_and_values(kind: Any) -> list[str] | None:
    """Names of the fields beside ``key`` in a struct of a key and its value, or None."""
    if not pa.types.is_struct(kind):
        return None
    names = [kind.field(number).name for number in range(kind.num_fields)]
    others = [name for name in names if name != "key"]
    return others if "key" in names and others else None


def struct_parts(array: Any) -> Parts:
    """The fields of a struct."""
    whole = array.take(pa.array(np.arange(len(array))))  # the children of a slice are whole
    names = [array.type.field(number).name for number in range(array.type.num_fields)]
    return {name: [child] for name, child in zip(names, whole.flatten(), strict=True)}


def map_parts(array: Any, max_cells: int | None) -> Parts:
    """The keys of a map."""
    whole = array.take(pa.array(np.arange(len(array))))
    rows = np.repeat(np.arange(len(whole)), np.diff(whole.offsets.to_numpy()))
    return _by_key(_names(whole.keys), [whole.items], rows, len(array), max_cells)


def list_parts(array: Any, max_cells: int | None) -> Parts:
    """The keys of a list of structs of a key and its value, which can be of several types."""
    names = key_and_values(array.type.value_type) or []
    lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    rows = np.repeat(np.arange(len(array)), lengths)
    items = array.flatten()
    fields = dict(zip([item.name for item in items.type], items.flatten(), strict=True))
    values: list[Any] = []
    for name in names:
        value = fields[name]
        values += _typed(value) if pa.types.is_struct(value.type) else [value]
    return _by_key(_names(fields["key"]), values, rows, len(array), max_cells)


def _key_is_text(kind: Any) -> bool:
    return can_be_text(kind.field("key").type)


def _names(keys: Any) -> Any:
    """Keys as text; null where there is none, or where a NUL character would cut it."""
    text, _ = as_text(decode(keys))
    text = text.cast(pa.string())
    return pc.if_else(pc.match_substring(text, "\0"), None, text)


def _typed(value: Any) -> list[Any]:
    """The value arrays of a struct; GA4 keeps a string, an int, a float and a double field."""
    named = list(zip([item.name for item in value.type], value.flatten(), strict=True))
    chosen = [array for name, array in named if name.endswith("_value")]
    return chosen or [array for _, array in named]


def _by_key(keys: Any, values: list[Any], rows: Rows, size: int, max_cells: int | None) -> Parts:
    """For each key, arrays with one value for each row; where a key repeats, the last one."""
    encoded = keys.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    names = encoded.dictionary.to_pylist()
    check_width(len(names), size, max_cells)
    bounds = np.searchsorted(codes[order], np.arange(len(names) + 1))
    result: Parts = {}
    for number, name in enumerate(names):
        if not name:
            continue
        places = order[bounds[number] : bounds[number + 1]]
        # Of several values under one key, the first filled one counts, in the order of types.
        free = np.ones(size, dtype=bool)
        for value in values:
            here = places[value.take(pa.array(places)).is_valid().to_numpy(zero_copy_only=False)]
            where = np.full(size, -1)
            where[rows[here]] = here
            where[~free] = -1
            if (where >= 0).any():
                free &= where < 0
                column = value.take(pa.array(where, mask=where < 0))
                result.setdefault(name, []).append(column)
    return result

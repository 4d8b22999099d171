"""Columns whose parts become properties under their own names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.messages import json_cells
from cdp_backfill.messages.json_cells import check_width
from cdp_backfill.messages.key_values import (
    is_typed_number,
    typed_names,
    typed_value,
    value_names,
)
from cdp_backfill.messages.text import as_text, decode
from cdp_backfill.model.arrow_types import can_be_text, is_json, is_list, is_number, is_text

if TYPE_CHECKING:
    from cdp_backfill.model.arrays import Mask, Rows


Parts = dict[str, list[Any]]
"""Names to arrays of which at most one is not null in each row."""


def why_not_expandable(kind: Any) -> str | None:
    """Why a column of this Arrow type cannot be expanded, or None if it can."""
    types = pa.types
    if is_json(kind) or types.is_struct(kind) or types.is_null(kind):
        return None
    if can_be_text(kind) and not is_number(kind):
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
    """Names of the fields that hold the value, in a struct of a key and its value, or None."""
    if not pa.types.is_struct(kind):
        return None
    names = [kind.field(number).name for number in range(kind.num_fields)]
    return value_names(names) or None if "key" in names else None


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
        values += _typed(name, fields[name])
    return _by_key(_names(fields["key"]), values, rows, len(array), max_cells)


def _key_is_text(kind: Any) -> bool:
    return can_be_text(kind.field("key").type)


def _names(keys: Any) -> Any:
    """Keys as text; null where there is none, or where a NUL character would cut it."""
    text, _ = as_text(decode(keys))
    text = text.cast(pa.string())
    return pc.if_else(pc.match_substring(text, "\0"), None, text)


def _typed(name: str, value: Any) -> list[Any]:
    """The arrays of a value; GA4 keeps a string, an int, a float and a double field."""
    if pa.types.is_struct(value.type):
        fields = dict(zip([item.name for item in value.type], value.flatten(), strict=True))
        if typed := typed_names(fields):
            return [part for each in typed for part in _typed(each, fields[each])]
    value = decode(value)
    if not is_typed_number(name) or not is_text(value.type):
        return [value]
    # Numbers as text, as BigQuery writes them to JSON.
    return json_cells.to_arrays([typed_value(name, cell) for cell in value.to_pylist()], None)[0]


def _is_filled(value: Any) -> Mask:
    """Where there is a value; a struct without any is none."""
    filled = value.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_struct(value.type):
        children = [child.is_valid() for child in value.flatten()]
        inside = np.array([child.to_numpy(zero_copy_only=False) for child in children])
        filled = filled & inside.any(axis=0)
    return np.asarray(filled)


def _by_key(keys: Any, values: list[Any], rows: Rows, size: int, max_cells: int | None) -> Parts:
    """For each key, arrays with one value for each row; where a key repeats, the last one."""
    encoded = keys.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    # Of several values under one key, the first filled one counts, in the order of types.
    chosen = np.full(len(codes), -1)
    for number in reversed(range(len(values))):
        chosen[_is_filled(values[number])] = number
    codes = np.where(chosen < 0, -1, codes)
    order = np.argsort(codes, kind="stable")
    names = encoded.dictionary.to_pylist()
    check_width(len(names), size, max_cells, int(np.count_nonzero(codes >= 0)))
    bounds = np.searchsorted(codes[order], np.arange(len(names) + 1))
    result: Parts = {}
    for number, name in enumerate(names):
        places = order[bounds[number] : bounds[number + 1]]
        if not name or not len(places):
            continue
        where = np.full(size, -1)
        where[rows[places]] = places
        kinds = np.where(where < 0, -1, chosen[where])
        for kind in np.unique(kinds[kinds >= 0]):
            column = values[kind].take(pa.array(where, mask=kinds != kind))
            result.setdefault(name, []).append(column)
    return result

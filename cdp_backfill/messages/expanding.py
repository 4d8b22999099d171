"""Columns whose parts become properties under their own names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.messages.json_cells import check_width
from cdp_backfill.messages.text import as_text, can_be_text, decoded, json_type
from cdp_backfill.messages.values import is_list

if TYPE_CHECKING:
    import numpy.typing as npt

    Rows = npt.NDArray[np.int64]

Parts = dict[str, list[Any]]
"""Names to arrays of which at most one is not null in each row."""


def why_not_expandable(kind: Any) -> str | None:
    """Why a column of this Arrow type has no parts with names, or None if it can have."""
    types = pa.types
    if json_type(kind) or types.is_struct(kind) or types.is_null(kind):
        return None
    if can_be_text(kind) and not types.is_floating(kind) and not types.is_integer(kind):
        return None
    if types.is_map(kind) and can_be_text(kind.key_type):
        return None
    if is_list(kind) and key_and_values(kind.value_type) is not None:
        return None if _key_is_text(kind.value_type) else f"its keys are no text ({kind})"
    return (
        f"it is of type {kind}, and parts with names are in JSON text of an object, a struct, a "
        "map, or a list of structs with a field named key"
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
    whole = array.take(pa.array(np.arange(len(array))))  # of a slice the children are whole
    names = [array.type.field(number).name for number in range(array.type.num_fields)]
    return {name: [child] for name, child in zip(names, whole.flatten(), strict=True)}


def map_parts(array: Any) -> Parts:
    """The keys of a map."""
    whole = array.take(pa.array(np.arange(len(array))))
    rows = np.repeat(np.arange(len(whole)), np.diff(whole.offsets.to_numpy()))
    return _by_key(_names(whole.keys), [whole.items], rows, len(array))


def list_parts(array: Any) -> Parts:
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
    return _by_key(_names(fields["key"]), values, rows, len(array))


def _key_is_text(kind: Any) -> bool:
    return can_be_text(kind.field("key").type)


def _names(keys: Any) -> Any:
    """Keys as text; null where they are none, or would be cut at a character 0."""
    text, _ = as_text(decoded(keys))
    text = text.cast(pa.string())
    return pc.if_else(pc.match_substring(text, "\0"), None, text)


def _typed(value: Any) -> list[Any]:
    """The values of GA4, which keeps a string, an integer, a float and a double side by side."""
    named = list(zip([item.name for item in value.type], value.flatten(), strict=True))
    chosen = [array for name, array in named if name.endswith("_value")]
    return chosen or [array for _, array in named]


def _by_key(keys: Any, values: list[Any], rows: Rows, size: int) -> Parts:
    """Arrays of one value for each row, for each key; the last one where a key occurs twice."""
    encoded = keys.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    names = encoded.dictionary.to_pylist()
    check_width(len(names), size)
    bounds = np.searchsorted(codes[order], np.arange(len(names) + 1))
    result: Parts = {}
    for number, name in enumerate(names):
        if not name:
            continue
        places = order[bounds[number] : bounds[number + 1]]
        # Of several values under one key the first that is there counts, in the order of types.
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

"""Converts views and runs, which polars and others use, to the older types of Arrow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.model.arrow_types import is_json, viewless_type


def viewless(array: Any) -> Any:
    """The array without views and runs at any depth."""
    kind, types = array.type, pa.types
    if _same(kind):
        return array
    if types.is_run_end_encoded(kind):
        return viewless(pc.run_end_decode(array))
    if is_json(kind):
        storage = viewless(array.storage)
        return pa.ExtensionArray.from_storage(pa.json_(storage.type), storage)
    if types.is_string_view(kind) or types.is_binary_view(kind):
        return array.cast(viewless_type(kind))
    if types.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(array.indices, viewless(array.dictionary))
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        large = types.is_large_list_view(kind)
        lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
        ends = np.concatenate([[0], np.cumsum(lengths)]).astype("i8" if large else "i4")
        listed = pa.LargeListArray if large else pa.ListArray
        values = viewless(array.flatten())
        return listed.from_arrays(pa.array(ends), values, mask=pc.is_null(array))
    if types.is_list(kind) or types.is_large_list(kind):
        make = pa.ListArray if types.is_list(kind) else pa.LargeListArray
        offsets = pa.array(array.offsets.to_numpy())
        return make.from_arrays(offsets, viewless(array.values), mask=pc.is_null(array))
    if types.is_fixed_size_list(kind):
        start = array.offset * kind.list_size
        values = array.values.slice(start, len(array) * kind.list_size)
        return pa.FixedSizeListArray.from_arrays(
            viewless(values), kind.list_size, mask=pc.is_null(array)
        )
    if types.is_map(kind):
        offsets = pa.array(array.offsets.to_numpy())
        made = pa.MapArray.from_arrays(offsets, viewless(array.keys), viewless(array.items))
        return pc.if_else(pc.is_valid(array), made, None)
    children = [viewless(array.field(number)) for number in range(kind.num_fields)]
    names = [item.name for item in kind]
    return pa.StructArray.from_arrays(children, names, mask=pc.is_null(array))


def _same(kind: Any) -> bool:
    return bool(viewless_type(kind).equals(kind))

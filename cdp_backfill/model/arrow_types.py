"""Questions about Arrow types, and the words for them."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

LARGEST_EXACT: Final = 2**53
"""From here on, a float of 64 bits cannot hold every whole number."""

MAX_DEPTH: Final = 64
"""Most levels of nesting in a cell; Arrow passes on no deeper types."""


def is_text(kind: Any) -> bool:
    """Whether it is a text type."""
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_bytes(kind: Any) -> bool:
    """Whether it is a type of bytes, which often holds text."""
    types = pa.types
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


def is_number(kind: Any) -> bool:
    """Whether it is a number type."""
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def largest_exact(kind: Any) -> int:
    """The whole number from which on a float type cannot hold every one."""
    if pa.types.is_float16(kind):
        return 2**11
    return 2**24 if pa.types.is_float32(kind) else LARGEST_EXACT


def is_list(kind: Any) -> bool:
    """Whether it is one of the list types."""
    types = pa.types
    return bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def is_json(kind: Any) -> bool:
    """Whether it is Arrow's type of text that is known to be JSON."""
    return isinstance(kind, pa.BaseExtensionType) and kind.extension_name == "arrow.json"


def can_be_text(kind: Any) -> bool:
    """Whether a column of this type can be an identifier or a name."""
    return (
        is_text(kind)
        or is_number(kind)
        or is_bytes(kind)
        or is_json(kind)
        or bool(pa.types.is_null(kind))
    )


def is_time_like(kind: Any) -> bool:
    """Whether a column of this Arrow type can hold points in time."""
    types = pa.types
    return bool(
        types.is_timestamp(kind)
        or types.is_date(kind)
        or types.is_null(kind)
        or is_text(kind)
        or is_number(kind)
    )


def json_as_text_type(kind: Any) -> Any:
    """The type of what :func:`plain` gives."""
    return pa.string() if is_json(kind) else kind


def viewless_type(kind: Any) -> Any:
    """The type without views and runs at any depth, for which Arrow lacks functions."""
    types = pa.types
    if types.is_run_end_encoded(kind):
        return viewless_type(kind.value_type)
    if is_json(kind):
        return pa.json_(viewless_type(kind.storage_type))
    if types.is_string_view(kind):
        return pa.large_string()
    if types.is_binary_view(kind):
        return pa.large_binary()
    if types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, viewless_type(kind.value_type))
    if types.is_list(kind) or types.is_list_view(kind):
        return pa.list_(viewless_type(kind.value_type))
    if types.is_large_list(kind) or types.is_large_list_view(kind):
        return pa.large_list(viewless_type(kind.value_type))
    if types.is_fixed_size_list(kind):
        return pa.list_(viewless_type(kind.value_type), kind.list_size)
    if types.is_struct(kind):
        return pa.struct([pa.field(item.name, viewless_type(item.type)) for item in kind])
    if types.is_map(kind):
        return pa.map_(viewless_type(kind.key_type), viewless_type(kind.item_type))
    return kind


def describe_type(kind: Any) -> str:
    """An Arrow type in words; all text types are "text"."""
    types = pa.types
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return describe_type(kind.value_type)
    if is_json(kind):
        return "JSON"
    words = (
        (is_text, "text"),
        (types.is_boolean, "boolean"),
        (types.is_integer, "integer"),
        (types.is_floating, "float"),
        (types.is_decimal, "decimal"),
        (types.is_timestamp, f"time, {getattr(kind, 'tz', None) or 'no zone'}"),
        (types.is_date, "date"),
        (types.is_struct, "object"),
        (types.is_map, "map"),
        (is_list, "list"),
        (is_bytes, "bytes"),
        (types.is_null, "empty"),
    )
    return next((word for fits, word in words if fits(kind)), str(kind))

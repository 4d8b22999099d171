"""Cells as text and as booleans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.messages.times import is_number, is_text

if TYPE_CHECKING:
    import numpy.typing as npt

    Mask = npt.NDArray[np.bool_]

LARGEST_EXACT: Final = 2**53
"""From here on, not every whole number has a floating-point number of its own."""


def decoded(array: Any) -> Any:
    """The array with dictionaries, run ends, views and extension types undone."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        is_uuid = kind.extension_name == "arrow.uuid"
        return _uuid_text(array.storage) if is_uuid else decoded(array.storage)
    if pa.types.is_dictionary(kind):
        return decoded(array.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return decoded(pc.run_end_decode(array))
    if pa.types.is_string_view(kind):
        return array.cast(pa.string())
    if pa.types.is_binary_view(kind):
        return array.cast(pa.binary())
    return array


def _uuid_text(storage: Any) -> Any:
    """The 16 bytes of UUIDs as text, such as ``6e86c18b-3fe8-4a1f-bcda-426a8b8feed3``."""
    size = len(storage)
    data = storage.buffers()[1][16 * storage.offset : 16 * (storage.offset + size)]
    digits = pa.py_buffer(data.to_pybytes().hex().encode())
    ends = pa.py_buffer(np.arange(0, 32 * size + 1, 32, dtype=np.int32))
    text = pa.Array.from_buffers(pa.string(), size, [None, ends, digits])
    bounds = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
    parts = [pc.utf8_slice_codeunits(text, start, stop) for start, stop in bounds]
    return pc.if_else(pc.is_valid(storage), pc.binary_join_element_wise(*parts, "-"), None)


def is_bytes(kind: Any) -> bool:
    """Whether it is a type of bytes, which often holds text that nobody labelled."""
    types = pa.types
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


def can_be_text(kind: Any) -> bool:
    """Whether a column of this type can be an identifier or a name."""
    return is_text(kind) or is_number(kind) or is_bytes(kind) or bool(pa.types.is_null(kind))


def valid_text(array: Any) -> tuple[Any, Mask]:
    """Text or bytes as text; null and True where it is not UTF-8."""
    large = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    goal = pa.large_string() if large else pa.string()
    try:
        if is_bytes(array.type):
            if pa.types.is_fixed_size_binary(array.type):
                array = array.cast(pa.binary())
            return array.cast(goal), np.zeros(len(array), dtype=bool)
        array.validate(full=True)
    except pa.ArrowInvalid:
        cells = array.cast(pa.large_binary() if large else pa.binary()).to_pylist()
        texts = [None if cell is None else _utf8(cell) for cell in cells]
        bad = np.array(
            [text is None and cell is not None for text, cell in zip(texts, cells, strict=True)]
        )
        return pa.array(texts, goal), bad
    return array, np.zeros(len(array), dtype=bool)


def _utf8(cell: bytes) -> str | None:
    try:
        return cell.decode()
    except UnicodeDecodeError:
        return None


def as_text(array: Any, *, floats: Literal["id", "version", "number"] = "id") -> tuple[Any, Mask]:
    """A column as text; null and True where a cell cannot be.

    Args:
        array: Text, bytes, numbers or booleans, decoded.
        floats: How floating-point numbers are written. ``"id"``: whole ones below 2^53 without
            decimals, others are bad. ``"version"``: whole ones with ``.0``. ``"number"``: whole
            ones without decimals, others with theirs. Infinity is always bad.
    """
    kind = array.type
    none = np.zeros(len(array), dtype=bool)
    if is_text(kind) or is_bytes(kind):
        return valid_text(array)
    if pa.types.is_decimal(kind):
        return pc.replace_substring_regex(array.cast(pa.string()), r"\.0*$", ""), none
    if not pa.types.is_floating(kind):
        return array.cast(pa.string()), none
    if pa.types.is_float16(kind):
        array = array.cast(pa.float32())
    values = array.fill_null(np.nan).to_numpy(zero_copy_only=False)
    finite = np.isfinite(values)
    whole = finite & (np.floor(values) == values) & (np.abs(values) < LARGEST_EXACT)
    text = pa.array(np.where(whole, values, 0).astype(np.int64)).cast(pa.string())
    if floats == "version":
        text = pc.binary_join_element_wise(text, "0", ".")
    good = whole
    if floats != "id":
        text = pc.if_else(pa.array(whole), text, array.cast(pa.string()))
        good = finite
    return pc.if_else(pa.array(good), text, None), ~good & ~np.isnan(values)


_TRUE: Final = pa.array(["true", "1", "yes", "t", "y"])
_FALSE: Final = pa.array(["false", "0", "no", "f", "n"])


def as_boolean(array: Any) -> tuple[Any, Mask]:
    """A column as booleans; null and True where a cell is neither true nor false.

    Args:
        array: Booleans, numbers or text, decoded; numbers are 0 and 1, text is read without
            regard to case, and blank text is an empty cell.
    """
    if pa.types.is_boolean(array.type):
        return array, np.zeros(len(array), dtype=bool)
    text, bad = as_text(array)
    text = pc.utf8_lower(pc.utf8_trim_whitespace(text))
    true = pc.is_in(text, value_set=_TRUE.cast(text.type))
    false = pc.is_in(text, value_set=_FALSE.cast(text.type))
    result = pc.if_else(true, True, pc.if_else(false, False, None))
    empty = pc.or_kleene(pc.is_null(text), pc.equal(text, "")).to_numpy(zero_copy_only=False)
    known = pc.is_valid(result).to_numpy(zero_copy_only=False)
    return result, bad | (~known & ~empty.astype(bool))

"""Reads Python values of several types as one column of JSON, in which each keeps its own type."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from cdp_backfill.model.arrow_types import MAX_DEPTH

if TYPE_CHECKING:
    from collections.abc import Iterable

_INFINITE: Final = "1e999"
"""A number of JSON that no float holds; a later check reports its row."""

_MAX_BITS: Final = 13_000
"""Bits of the longest whole number; Python writes no number of more than 4,300 digits."""

_NESTED: Final = (dict, list, tuple)
_SCALARS: Final = (str, bool, int, float, Decimal, np.bool_, np.integer, np.floating, type(None))


def is_empty(cell: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, NA or NaT."""
    if isinstance(cell, Decimal):
        return cell.is_nan()
    is_nan = isinstance(cell, float | np.floating) and bool(np.isnan(cell))
    return is_nan or cell is None or cell is pd.NA or cell is pd.NaT


_KINDS: Final = (
    (bool | np.bool_, "boolean"),
    (int | np.integer, "integer"),
    (float | np.floating, "float"),
    (Decimal, "decimal"),
    (str, "text"),
    (dict, "object"),
    (list | tuple | np.ndarray, "list"),
)


def kind_of(cell: Any) -> str:
    """The kind of a cell in a word; of a type that JSON does not have, the name of the type."""
    if is_empty(cell):
        return "empty"
    return next((word for kind, word in _KINDS if isinstance(cell, kind)), type(cell).__name__)


def is_too_deep(cell: Any) -> bool:
    """Whether a cell is nested more than :data:`MAX_DEPTH` levels deep, or contains itself."""
    level = [cell] if isinstance(cell, _NESTED) else []
    for _ in range(MAX_DEPTH):
        if not level:
            return False
        inside = (
            item
            for outer in level
            for item in (outer.values() if isinstance(outer, dict) else outer)
        )
        # Each object once: one that contains itself twice would double with every level.
        level = list({id(item): item for item in inside if isinstance(item, _NESTED)}.values())
    return bool(level)


def has_json(cell: Any) -> bool:
    """Whether a cell is of a type that JSON has, at any depth."""
    if isinstance(cell, dict):
        return all(isinstance(name, str) and has_json(value) for name, value in cell.items())
    if isinstance(cell, list | tuple):
        return all(map(has_json, cell))
    return isinstance(cell, _SCALARS) or is_empty(cell)


def mixed_cells(cells: Iterable[Any]) -> Any:
    """An Arrow array of JSON: text stays text, a number stays a number.

    Args:
        cells: Values of types that JSON has; see :func:`has_json`.
    """
    texts = [None if is_empty(cell) else _json_of(cell) for cell in cells]
    return pa.ExtensionArray.from_storage(pa.json_(), keep_surrogates(texts))


def _json_of(cell: Any) -> str:
    if isinstance(cell, str):
        return json.dumps(cell, ensure_ascii=False)
    if isinstance(cell, bool | np.bool_):
        return "true" if cell else "false"
    if isinstance(cell, int | np.integer):
        if int(cell).bit_length() > _MAX_BITS:
            return _INFINITE if cell > 0 else f"-{_INFINITE}"
        return str(int(cell))
    if isinstance(cell, dict):
        parts = (f"{json.dumps(name)}:{_json_of(cell[name])}" for name in cell)
        return f"{{{','.join(parts)}}}"
    if isinstance(cell, list | tuple):
        return f"[{','.join(map(_json_of, cell))}]"
    if is_empty(cell):
        return "null"
    if cell in (float("inf"), float("-inf")):
        return _INFINITE if cell > 0 else f"-{_INFINITE}"
    if isinstance(cell, Decimal):
        return f"{cell:f}"
    exact = 2**53 if isinstance(cell, float) else 2 ** (np.finfo(type(cell)).nmant + 1)
    return str(int(cell)) if cell == np.floor(cell) and abs(cell) < exact else str(cell)


def keep_surrogates(cells: list[Any]) -> Any:
    """Text without a UTF-8 form, as bytes under a text type; a later check reports each row."""
    encoded = [None if is_empty(cell) else cell.encode("utf-8", "surrogatepass") for cell in cells]
    array = pa.array(encoded, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(array), array.buffers())

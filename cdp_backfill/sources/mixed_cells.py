"""Reads Python values of several types as one column of JSON, in which each keeps its own type."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable

_INFINITE: Final = "1e999"
"""A number of JSON that no float holds; a later check reports its row."""

_SCALARS: Final = (str, bool, int, float, Decimal, np.bool_, np.integer, np.floating, type(None))


def is_empty(cell: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, NA or NaT."""
    if isinstance(cell, Decimal):
        return cell.is_nan()
    is_nan = isinstance(cell, float | np.floating) and bool(np.isnan(cell))
    return is_nan or cell is None or cell is pd.NA or cell is pd.NaT


def types_without_json(cells: Iterable[Any]) -> list[str]:
    """Names of the types among some cells that JSON does not have, sorted."""
    names: set[str] = set()
    for cell in cells:
        _collect(cell, names)
    return sorted(names)


def _collect(cell: Any, names: set[str]) -> None:
    if isinstance(cell, dict):
        for name, value in cell.items():
            if not isinstance(name, str):
                names.add(f"dict with names of type {type(name).__name__}")
            _collect(value, names)
    elif isinstance(cell, list | tuple):
        for value in cell:
            _collect(value, names)
    elif not isinstance(cell, _SCALARS) and not is_empty(cell):
        names.add(type(cell).__name__)


def mixed_cells(cells: Iterable[Any]) -> Any:
    """An Arrow array of JSON: text stays text, a number stays a number.

    Args:
        cells: Values of types that JSON has; see :func:`types_without_json`.
    """
    texts = [None if is_empty(cell) else _json_of(cell) for cell in cells]
    return pa.ExtensionArray.from_storage(pa.json_(), keep_surrogates(texts))


def _json_of(cell: Any) -> str:
    if isinstance(cell, str):
        return json.dumps(cell, ensure_ascii=False)
    if isinstance(cell, bool | np.bool_):
        return "true" if cell else "false"
    if isinstance(cell, int | np.integer):
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
    return f"{cell:f}" if isinstance(cell, Decimal) else str(cell)


def keep_surrogates(cells: list[Any]) -> Any:
    """Text without a UTF-8 form, as bytes under a text type; a later check reports each row."""
    encoded = [None if is_empty(cell) else cell.encode("utf-8", "surrogatepass") for cell in cells]
    array = pa.array(encoded, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(array), array.buffers())

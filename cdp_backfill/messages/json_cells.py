"""JSON values as Arrow arrays, whatever kinds they mix.

A column of JSON has no single type. It becomes several arrays that are written under one name, of
which at most one is not null in each row, so that a row never depends on its neighbours.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.model.arrow_types import MAX_DEPTH
from cdp_backfill.model.sparse import spread

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_CELLS: Final = 4 * 2**20
"""Most cells that the arrays of all member names of a column may have; most of them are empty."""

_SPARSE: Final = 8  # objects are sparse if at most one cell in so many is filled
_WIDE: Final = 2**18  # the same for a list inside one cell
MAX_JSON_CELL: Final = 2**18
"""Most characters of JSON in a cell, far more than fit into a message; longer cells stay text."""

_MIXED: Final = "mixed"
_NONE: Final = "none"
_LARGEST_EXACT: Final = 2**53
_DIGITS: Final = 10**38  # what fits into a decimal lies below it
_MORE_DIGITS: Final = 10**76  # and into a wide one
_FLOAT_LENGTH: Final = 17  # characters of a number that a float may hold with all its digits
_WHOLE_DIGITS: Final = 30
_FRACTION_DIGITS: Final = 40  # of a fraction that is kept as a decimal; longer ones are floats

_KINDS: Final[dict[type, str]] = {
    bool: "boolean",
    int: "integer",
    float: "float",
    Decimal: "fraction",
    str: "text",
    dict: "object",
}

_LARGE: Final = {"decimal": _DIGITS, "wide decimal": _MORE_DIGITS}
"""Kinds of whole numbers beyond 64 bits: what lies below the limit fits."""

_STRINGS: Final = re.compile(r'"(?:[^"\\]|\\.)*"')

_TYPES: Final[dict[str, Any]] = {
    "boolean": pa.bool_(),
    "integer": pa.int64(),
    "float": pa.float64(),
    "text": pa.string(),
}


class TooWideError(Exception):
    """Too many member names occur in too many rows, so fewer rows must be read at a time.

    Where names are ids, for example, each row has names of its own, and the memory for one array
    per name would grow with the square of the rows.
    """


def check_width(names: int, rows: int, max_cells: int | None, filled: int) -> None:
    """Refuse to make too many arrays of too many rows.

    Args:
        names: Number of arrays.
        rows: Number of rows of each.
        max_cells: The most cells that all arrays may have together; None for no limit. If nearly
            all of them are empty, a sixteenth of it is the most.
        filled: Number of cells that are not empty.

    Raises:
        TooWideError: They have more.
    """
    if max_cells is None:
        return
    cells = names * rows
    if cells > max_cells or (cells > max_cells // 16 and cells > _SPARSE * filled):
        raise TooWideError


def parse(text: Any) -> tuple[list[Any], list[bool]]:
    """JSON text as Python values, None for null; and True where a cell stays text.

    A cell stays text if it is not JSON, is nested too deeply or is far too long, or if the name of
    a member contains a NUL character, at which Arrow would cut the name.
    """
    cells, bad = text.to_pylist(), [False] * len(text)
    decode = msgspec.json.Decoder(float_hook=_number).decode
    for number, cell in enumerate(cells):
        if cell is not None:
            try:
                if len(cell) > MAX_JSON_CELL or _depth(cell) > MAX_DEPTH:
                    bad[number] = True
                    continue
                value = decode(cell)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                bad[number] = True
                continue
            if "\\u0000" in cell and _has_zero_names(value):
                bad[number] = True
            else:
                cells[number] = value
    return cells, bad


def is_beyond_numbers(cell: str) -> bool:
    """Whether text is JSON but for a number that is too large for all types, such as 1e999.

    That is also how Infinity in a JSON file is read.
    """
    try:
        msgspec.json.Decoder().decode(cell)
    except msgspec.ValidationError:
        return True
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return False


def _number(text: str) -> int | float | Decimal:
    """A number with a point or an exponent; as a decimal where a float would lose digits."""
    number = float(text)
    if len(text) <= _FLOAT_LENGTH or not math.isfinite(number):
        return number
    exact = Decimal(text)
    if exact == Decimal(repr(number)):
        return number
    digits, scale = exact.adjusted() + 1, -int(exact.as_tuple().exponent)
    if digits > _WHOLE_DIGITS or scale > _FRACTION_DIGITS:
        return number
    return int(exact) if exact == exact.to_integral_value() else exact


def _depth(text: str) -> int:
    """Levels of nesting of a JSON text, or a few more."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return 0
    level = deepest = 0
    for letter in _STRINGS.sub("", text):
        if letter in "[{":
            level += 1
            deepest = max(deepest, level)
        elif letter in "]}":
            level -= 1
    return deepest


def _has_zero_names(value: Any) -> bool:
    if isinstance(value, dict):
        return any("\0" in name for name in value) or any(map(_has_zero_names, value.values()))
    return isinstance(value, list) and any(map(_has_zero_names, value))


def scalars_as_text(text: Any) -> tuple[Any, Any]:
    """JSON text as text: strings without their quotes, numbers and booleans as written.

    Returns:
        The text, null where the cell is null; and a mask of objects and arrays.
    """
    nested = pc.match_substring_regex(text, r"^\s*[\[{]")
    quoted = pc.starts_with(text, '"')
    plain = pc.if_else(pc.or_(nested, pc.equal(text, "null")), None, text)
    if pc.any(quoted).as_py():
        decode = msgspec.json.Decoder().decode
        unquoted = [
            decode(cell) if cell is not None and cell[0] == '"' else cell
            for cell in plain.to_pylist()
        ]
        plain = pa.array(unquoted, pa.string())
    return plain, nested


def to_arrays(values: list[Any], max_cells: int | None) -> tuple[list[Any], int]:
    """Python values as Arrow arrays of their length; and how many mixed lists became text.

    Args:
        values: None, booleans, numbers, text, and lists and dicts of these.
        max_cells: See :func:`check_width`.

    Raises:
        TooWideError: See :func:`check_width`.
    """
    kinds = [_kind(value) for value in values]
    distinct = sorted(set(kinds) - {_NONE})
    result, mixed = [], 0
    for kind in distinct:
        here = values if len(distinct) == 1 else _only(values, kinds, kind)
        array, more = _array(here, kind, max_cells)
        result += array
        mixed += more
    return result, mixed


def _kind(value: Any) -> str:
    """The kind of array that a value goes into. It depends on the value alone."""
    if value is None:
        return _NONE
    if not isinstance(value, list):
        kind = _KINDS[type(value)]
        if kind == "float" and value.is_integer() and abs(value) < _LARGEST_EXACT:
            kind = "integer"
        if kind != "integer" or -(2**63) <= value < 2**63:
            return kind
        return next((k for k, limit in _LARGE.items() if abs(value) < limit), "digits")
    inner = {_kind(item) for item in value} - {_NONE}
    if "fraction" in inner:  # in a list of numbers
        inner = inner - {"fraction"} | {"float"}
    if inner == {"object"} and _wide(value):
        return f"list of {_MIXED}"
    if inner == {"integer", "float"} and all(
        abs(item) <= _LARGEST_EXACT for item in value if isinstance(item, int)
    ):
        inner = {"float"}
    if len(inner) > 1 or any(kind.endswith((_MIXED, *_LARGE, "digits")) for kind in inner):
        return f"list of {_MIXED}"
    return f"list of {inner.pop() if inner else _NONE}"


def _wide(items: list[Any]) -> bool:
    """Whether the objects of a list have so many names that their arrays would be mostly empty."""
    names = sum(len(item) for item in items if item is not None)
    if names * len(items) <= _WIDE:
        return False
    different = {name for item in items if item is not None for name in item}
    return len(different) * len(items) > _WIDE


def _only(values: list[Any], kinds: list[str], kind: str) -> list[Any]:
    return [value if other == kind else None for value, other in zip(values, kinds, strict=True)]


def _array(values: list[Any], kind: str, max_cells: int | None) -> tuple[list[Any], int]:
    if kind in _TYPES:
        if kind == "integer":
            values = [None if value is None else int(value) for value in values]
        return [pa.array(values, _TYPES[kind])], 0
    if kind in _LARGE or kind == "fraction":
        # Arrow makes the decimals as wide as the longest needs.
        cells = [None if value is None else Decimal(value) for value in values]
        return [pa.array(cells)], 0
    if kind == "digits":
        texts = [None if value is None else str(value) for value in values]
        return [pa.array(texts, pa.string())], 0
    if kind == "object":
        return _objects(values, max_cells)
    if kind == f"list of {_MIXED}":
        texts = [None if value is None else _text(value) for value in values]
        return [pa.array(texts, pa.string())], sum(value is not None for value in values)
    return _lists(values, kind.removeprefix("list of "), max_cells)


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _objects(values: list[Any], max_cells: int | None) -> tuple[list[Any], int]:
    names, children, mixed = [], [], 0
    for name, parts, more in member_arrays(values, max_cells):
        names += [name] * len(parts)
        children += parts
        mixed += more
    if not children:
        return [], 0
    mask = np.ones(len(values), dtype=bool)
    for child in children:
        mask &= child.is_null().to_numpy(zero_copy_only=False)
    return [pa.StructArray.from_arrays(children, names, mask=pa.array(mask))], mixed


def member_arrays(values: list[Any], max_cells: int | None) -> Iterator[tuple[str, list[Any], int]]:
    """The members of objects in the order of their names: arrays, and number of mixed lists.

    Raises:
        TooWideError: See :func:`check_width`.
    """
    names = sorted({name for value in values if value is not None for name in value})
    filled = sum(len(value) for value in values if value is not None)
    check_width(len(names), len(values), max_cells, filled)
    if len(names) * len(values) > _SPARSE * filled:
        yield from _sparse_arrays(values, names, max_cells)
        return
    for name in names:
        cells = [None if value is None else value.get(name) for value in values]
        parts, mixed = to_arrays(cells, max_cells)
        if parts:
            yield name, parts, mixed


def _sparse_arrays(
    values: list[Any], names: list[str], max_cells: int | None
) -> Iterator[tuple[str, list[Any], int]]:
    """The same for objects that have few of the names; it does not look at what is missing."""
    places: dict[str, list[int]] = {name: [] for name in names}
    cells: dict[str, list[Any]] = {name: [] for name in names}
    for number, value in enumerate(values):
        for name, cell in (value or {}).items():
            places[name].append(number)
            cells[name].append(cell)
    for name in names:
        # What is inside the cells counts with all rows, because each array gets as many.
        inner = None if max_cells is None else max_cells * len(cells[name]) // len(values)
        parts, mixed = to_arrays(cells[name], inner)
        if parts:
            yield name, [spread(part, places[name], len(values)) for part in parts], mixed


def _lists(values: list[Any], kind: str, max_cells: int | None) -> tuple[list[Any], int]:
    flat = [item for value in values if value is not None for item in value]
    if kind == "float":
        flat = [item if item is None else float(item) for item in flat]
    inner, mixed = _array(flat, kind, max_cells) if kind != _NONE else ([], 0)
    items = inner[0] if inner else pa.nulls(len(flat))
    lengths = [0 if value is None else len(value) for value in values]
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype("i4")
    mask = pa.array([value is None for value in values])
    return [pa.ListArray.from_arrays(pa.array(ends), items, mask=mask)], mixed

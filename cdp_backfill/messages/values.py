"""Writes cells of any type as JSON values, and in the canonical form that ids are made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.messages import json_cells
from cdp_backfill.messages.text import LARGEST_EXACT, as_utf8, decode
from cdp_backfill.messages.times import localise, out_of_range
from cdp_backfill.model.arrow_types import is_bytes, is_json, is_list, is_text
from cdp_backfill.model.outcomes import Problem

if TYPE_CHECKING:
    import numpy.typing as npt

    from cdp_backfill.messages.problems import Problems
    from cdp_backfill.model.arrays import Mask


_INT64: Final = 9.2e18  # a little below 2^63, where floats lie far apart


def why_not_json(kind: Any) -> str | None:
    """Why a column of this Arrow type cannot be a property, or None if it can."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return None if is_json(kind) else why_not_json(kind.storage_type)
    if types.is_decimal(kind) and kind.scale < 0:
        return f"decimals with a negative scale ({kind}) cannot be written exactly"
    if types.is_union(kind) or types.is_interval(kind):
        return f"JSON has no counterpart of the type {kind}"
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return why_not_json(kind.value_type)
    if types.is_map(kind):
        return _why_not_inside(kind.key_type) or _why_not_inside(kind.item_type)
    if is_list(kind):
        return _why_not_inside(kind.value_type)
    if types.is_struct(kind):
        reasons = (why_not_json(kind.field(number).type) for number in range(kind.num_fields))
        return next((reason for reason in reasons if reason), None)
    return None


def _why_not_inside(kind: Any) -> str | None:
    """The same for the items of lists and maps."""
    if isinstance(kind, pa.BaseExtensionType) or pa.types.is_run_end_encoded(kind):
        return f"lists and maps of {kind} are not supported; convert them to text"
    return why_not_json(kind)


class ValueReader:
    """Turns the columns of one batch into arrays that are written as JSON.

    Args:
        problems: Where problems and fixes are recorded.
        timezone: IANA name of the zone of times that carry none; None for UTC.
        max_cells: See :func:`cdp_backfill.messages.json_cells.check_width`.
    """

    def __init__(
        self, problems: Problems, timezone: str | None, max_cells: int | None = None
    ) -> None:
        self._problems = problems
        self._max_cells = max_cells
        self._timezone = timezone

    def read(self, array: Any, column: str) -> list[Any]:
        """The column as JSON values.

        Returns:
            Arrays of which at most one is not null in each row: one for most columns, several
            for JSON of several kinds, none for a column without values.
        """
        if is_json(array.type):
            return self.read_json(array, column)
        value = self._read(array, column, np.arange(len(array)), nested=False)
        return [] if value is None else [value]

    def read_json(self, array: Any, column: str) -> list[Any]:
        """The same for text that holds JSON; a cell that is not JSON stays text."""
        values, mixed = json_cells.to_arrays(self.parse_json(array, column), self._max_cells)
        self._problems.record_fix("mixed_list", column, mixed)
        return values

    def parse_json(self, array: Any, column: str) -> list[Any]:
        """JSON text as Python values; a cell that is not JSON as its text."""
        declared_json = is_json(array.type)
        text, bad = as_utf8(array.storage if declared_json else array)
        self._note(bad, np.arange(len(text)), bad_text(column))
        cells, not_json = json_cells.parse(text)
        if not declared_json:
            parsed = pc.invert(pc.or_(pa.array(not_json, pa.bool_()), text.is_null()))
            self._problems.record_fix("json_text", column, parsed)
        self._problems.record_fix("not_json", column, sum(not_json))
        return cells

    def _note(self, bad: Mask, rows: npt.NDArray[np.int64], problem: Problem) -> None:
        if bad.any():
            mask = np.zeros(self._problems.rows, dtype=bool)
            mask[rows[bad]] = True
            self._problems.add(mask, problem)

    def _read(self, array: Any, column: str, rows: Any, *, nested: bool) -> Any | None:
        array = decode(array)
        kind, types = array.type, pa.types
        if types.is_nested(kind):  # the children of a slice are whole, even at offset 0
            array = array.take(pa.array(np.arange(len(array))))
        if types.is_null(kind):
            return None
        if is_text(kind) or is_bytes(kind):
            return self._text(array, column, rows)
        if types.is_floating(kind):
            return self._float(array, column, rows, nested=nested)
        if types.is_decimal(kind):
            return array if nested else whole_decimals(array)
        if types.is_date64(kind):
            array = array.cast(pa.date32(), safe=False)
        if types.is_temporal(kind) and not types.is_duration(kind):
            bad = out_of_range(array)
            self._note(bad, rows, bad_time(column))
            array = pc.if_else(pa.array(bad), None, array) if bad.any() else array
        if types.is_timestamp(kind):
            array, bad = localise(array, self._timezone)
            self._note(bad, rows, nonexistent_time(column))
        elif types.is_duration(kind):
            per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
            seconds = pc.divide(array.cast(pa.int64()).cast(pa.float64(), safe=False), per_second)
            return self._float(seconds, column, rows, nested=nested)
        if types.is_map(kind):
            return self._map(array, column, rows)
        if is_list(kind):
            return self._list(array, column, rows)
        if types.is_struct(kind):
            return self._struct(array, column, rows)
        return array

    def _text(self, array: Any, column: str, rows: Any) -> Any:
        if is_bytes(array.type):
            self._problems.record_fix("bytes_text", column, array.is_valid())
        array, bad = as_utf8(array)
        self._note(bad, rows, bad_text(column))
        return array

    def _float(self, array: Any, column: str, rows: Any, *, nested: bool) -> Any:
        floats = array.cast(pa.float32()) if pa.types.is_float16(array.type) else array
        values = floats.fill_null(np.nan).to_numpy(zero_copy_only=False)
        infinite = np.isinf(values)
        self._note(infinite, rows, not_finite(column))
        missing = np.isnan(values) | infinite
        if not nested and _whole(values[~missing]).all():
            whole = np.where(missing, 0, values).astype(np.int64)
            if missing.any():
                self._problems.record_fix("integer_float", column, ~missing)
            return pa.array(whole, mask=missing)
        return pa.array(values, floats.type, mask=missing)

    def _list(self, array: Any, column: str, rows: Any) -> Any:
        large = pa.types.is_large_list(array.type) or pa.types.is_large_list_view(array.type)
        make, goal = (pa.LargeListArray, pa.large_list) if large else (pa.ListArray, pa.list_)
        array = array.cast(goal(array.type.value_type))
        lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
        # Not list_parent_indices: it also counts items below null lists.
        inner_rows = np.repeat(rows, lengths)
        values = self._read(array.flatten(), column, inner_rows, nested=True)
        ends = np.concatenate([[0], np.cumsum(lengths)]).astype("i8" if large else "i4")
        if values is None:
            values = pa.nulls(int(ends[-1]))
        return make.from_arrays(pa.array(ends), values, mask=pc.is_null(array))

    def _map(self, array: Any, column: str, rows: Any) -> Any:
        inner_rows = np.repeat(rows, np.diff(array.offsets.to_numpy()))
        keys = decode(array.keys)
        keys = as_utf8(keys)[0] if is_bytes(keys.type) or is_text(keys.type) else keys
        items = self._read(array.items, column, inner_rows, nested=True)
        if items is None:
            return None
        keys = keys.cast(pa.string()).fill_null("")
        # Names inside objects are sorted, whatever order a map has them in.
        order = pc.sort_indices(
            pa.table({"row": inner_rows, "key": keys}),
            sort_keys=[("row", "ascending"), ("key", "ascending")],
        )
        made = pa.MapArray.from_arrays(array.offsets, keys.take(order), items.take(order))
        return pc.if_else(pc.is_valid(array), made, None)

    def _struct(self, array: Any, column: str, rows: Any) -> Any | None:
        children = []
        for number, child in enumerate(array.flatten()):
            value = self._read(child, column, rows, nested=False)
            if value is not None:
                children.append((array.type.field(number).name, value))
        return make_struct(children)


def make_struct(children: list[tuple[str, Any]]) -> Any | None:
    """A struct of the children, sorted by name, null where all are null; None without children.

    Several children may share a name if at most one of them is not null in each row.
    """
    if not children:
        return None
    children = sorted(children, key=lambda child: child[0])
    names, arrays = [name for name, _ in children], [array for _, array in children]
    mask = None
    if all(array.null_count for array in arrays):
        absent = np.ones(len(arrays[0]), dtype=bool)
        for array in arrays:
            absent &= array.is_null().to_numpy(zero_copy_only=False)
        mask = pa.array(absent)
    return pa.StructArray.from_arrays(arrays, names, mask=mask)


def whole_decimals(array: Any) -> Any:
    """Decimals as integers if all of them are whole; otherwise as they are."""
    if array.type.scale == 0 or pc.all(pc.equal(pc.trunc(array), array)).as_py() in (True, None):
        try:
            return array.cast(pa.int64())
        except pa.ArrowInvalid:  # too large for 64 bits
            return array
    return array


def canonical(array: Any) -> list[Any]:
    """Arrays that together hold the values of one in a form that does not depend on a library.

    Fractions are written as the bits of the 64-bit float, or, if decimal, as digits without
    trailing zeros. A whole number stays a whole number whatever its type, so that a column whose
    empty cells made it float gives the same result as one of integers. That needs two arrays under
    one name, of which one is null in each row.
    """
    kind, types = array.type, pa.types
    if types.is_floating(kind):
        values = array.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
        whole = _whole(values)
        whole_part = pa.array(np.where(whole, values, 0).astype(np.int64), mask=~whole)
        return [whole_part, _bits(values, mask=whole | np.isnan(values))]
    if types.is_uint64(kind):
        fits = pc.less(array, pa.scalar(2**63, pa.uint64()))
        small = pc.if_else(fits, array, None).cast(pa.int64())
        return [small, pc.if_else(fits, None, array.cast(pa.string()))]
    if types.is_decimal(kind):
        digits, whole = _digits(array)
        fits = np.abs(array.cast(pa.float64()).fill_null(0).to_numpy(zero_copy_only=False)) < _INT64
        as_integer = pc.and_(whole, pa.array(fits))
        whole_part = pc.if_else(as_integer, digits, None).cast(pa.int64())
        return [whole_part, pc.if_else(as_integer, None, digits)]
    if types.is_struct(kind):
        names, arrays = [], []
        for number, child in enumerate(array.flatten()):
            for part in canonical(child):
                names.append(kind.field(number).name)
                arrays.append(part)
        return [pa.StructArray.from_arrays(arrays, names, mask=array.is_null())]
    if types.is_map(kind):
        items = _canonical_item(array.items)
        if items is array.items:
            return [array]
        made = pa.MapArray.from_arrays(array.offsets, array.keys, items)
        return [pc.if_else(pc.is_valid(array), made, None)]
    if types.is_list(kind) or types.is_large_list(kind):
        items = _canonical_item(array.values)
        if items is array.values:
            return [array]
        make = pa.ListArray if types.is_list(kind) else pa.LargeListArray
        return [make.from_arrays(array.offsets, items, mask=array.is_null())]
    return [array]


def _canonical_item(values: Any) -> Any:
    """The same inside lists and maps, where a single array must hold it: numbers as text.

    A whole number is ``"i:"`` and its digits, so that no other text equals it.
    """
    kind, types = values.type, pa.types
    if types.is_integer(kind):
        return pc.binary_join_element_wise("i:", values.cast(pa.string()), "")
    if types.is_floating(kind):
        floats = values.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
        whole = _whole(floats)
        digits = pa.array(np.where(whole, floats, 0).astype(np.int64)).cast(pa.string())
        integers = pc.binary_join_element_wise("i:", digits, "")
        bits = _bits(floats, mask=np.isnan(floats))
        return pc.if_else(pa.array(whole), integers, bits)
    if types.is_decimal(kind):
        digits, whole = _digits(values)
        return pc.if_else(whole, pc.binary_join_element_wise("i:", digits, ""), digits)
    return canonical(values)[0] if types.is_nested(kind) else values


def _digits(array: Any) -> tuple[Any, Any]:
    """Decimals as digits without trailing zeros, and whether they are whole."""
    digits = array.cast(pa.string())
    if array.type.scale > 0:
        digits = pc.utf8_rtrim(pc.utf8_rtrim(digits, "0"), ".")
    return digits, pc.invert(pc.match_substring(digits, "."))


def needs_canonical(kind: Any) -> bool:
    """Whether :func:`canonical` changes anything in a column of this type."""
    types = pa.types
    if types.is_floating(kind) or types.is_decimal(kind) or types.is_uint64(kind):
        return True
    if is_list(kind) or types.is_map(kind):
        item = kind.item_type if types.is_map(kind) else kind.value_type
        return bool(types.is_integer(item)) or needs_canonical(item)
    return bool(types.is_struct(kind)) and any(
        needs_canonical(kind.field(number).type) for number in range(kind.num_fields)
    )


def _whole(values: npt.NDArray[Any]) -> Mask:
    with np.errstate(invalid="ignore"):
        return np.asarray((np.floor(values) == values) & (np.abs(values) < LARGEST_EXACT))


def _bits(values: npt.NDArray[np.float64], mask: Mask) -> Any:
    bits = pa.array(values.view(np.int64)).cast(pa.string())
    return pc.if_else(pa.array(mask), None, pc.binary_join_element_wise("f64:", bits, ""))


def bad_text(column: str) -> Problem:
    """The problem of a cell that is not UTF-8."""
    return Problem("bad_text", column, f"column {column!r} is not valid UTF-8")


def bad_time(column: str) -> Problem:
    """The problem of a date or time outside every calendar."""
    return Problem("bad_time", column, f"column {column!r} holds a time that is out of range")


def not_finite(column: str) -> Problem:
    """The problem of an infinite number."""
    return Problem("not_finite", column, f"column {column!r} holds an infinite number")


def nonexistent_time(column: str) -> Problem:
    """The problem of a local time that does not exist."""
    return Problem(
        "nonexistent_time",
        column,
        f"column {column!r} holds a local time that its time zone skipped (summer time)",
    )

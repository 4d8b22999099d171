"""Reads cells of any type as arrays that are written as JSON values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.messages import json_cells
from cdp_backfill.messages.local_times import Zone, localise
from cdp_backfill.messages.text import as_utf8, decode
from cdp_backfill.messages.times import out_of_range
from cdp_backfill.model.arrow_types import is_bytes, is_json, is_list, is_text, largest_exact
from cdp_backfill.model.outcomes import Problem

if TYPE_CHECKING:
    import numpy.typing as npt

    from cdp_backfill.messages.problems import Problems
    from cdp_backfill.model.arrays import Mask


_INT64: Final = 9.2e18  # a little below 2^63, where floats lie far apart
_DIGITS: Final = 76  # of the widest decimals
_SHORT: Final = 16  # characters of a decimal with at most 15 digits, which a float keeps
_SMALLEST: Final = 1e-4
_LARGEST: Final = 1e10  # between these, floats are written without an exponent


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
        zone: The zone of times that carry none.
        max_cells: See :func:`cdp_backfill.messages.json_cells.check_width`.
    """

    def __init__(self, problems: Problems, zone: Zone, max_cells: int | None = None) -> None:
        self._problems = problems
        self._max_cells = max_cells
        self._zone = zone

    def read(self, array: Any, column: str) -> list[Any]:
        """The column as JSON values.

        Returns:
            Arrays of which at most one is not null in each row: one for most columns, several for
            whole and broken numbers and for JSON of several kinds, none for a column without
            values. So a cell is written in the same way whatever its neighbours are.
        """
        if is_json(array.type):
            return self.read_json(array, column)
        return self._read(array, column, np.arange(len(array)), nested=False)

    def read_json(self, array: Any, column: str) -> list[Any]:
        """The same for text that holds JSON; a cell that is not JSON stays text."""
        arrays, mixed = json_cells.to_arrays(self.parse_json(array, column), self._max_cells)
        self._problems.record_fix("mixed_list", column, mixed)
        rows = np.arange(len(array))
        return [part for value in arrays for part in self._read(value, column, rows, nested=False)]

    def parse_json(self, array: Any, column: str) -> list[Any]:
        """JSON text as Python values; a cell that is not JSON as its text."""
        declared_json = is_json(array.type)
        text, bad = as_utf8(array.storage if declared_json else array)
        self._note(bad, np.arange(len(text)), bad_text(column))
        cells, not_json = json_cells.parse(text)
        if declared_json and any(not_json):
            infinite = np.zeros(len(text), dtype=bool)
            for row in np.flatnonzero(not_json):
                infinite[row] = json_cells.is_beyond_numbers(cells[row])
            self._note(infinite, np.arange(len(text)), not_finite(column))
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

    def _in_utc(self, array: Any, column: str, rows: Any) -> Any:
        """Times in UTC; local times that did not exist, or existed twice, are recorded."""
        array, moved = localise(array, self._zone)
        if moved is None:
            return array
        self._note(moved.outside, rows, bad_time(column))
        for mask, rule, problem, fix in (
            (moved.skipped, self._zone.nonexistent, nonexistent_time(column), "shifted_forward"),
            (moved.twice, self._zone.ambiguous, ambiguous_time(column), "shown_twice"),
        ):
            if rule == "invalid":
                self._note(mask, rows, problem)
            else:
                self._problems.record_fix(fix, column, mask)
        return array

    def _read(self, array: Any, column: str, rows: Any, *, nested: bool) -> list[Any]:
        """The arrays of a column; at most one if it is ``nested`` in a list or a map."""
        array = decode(array)
        kind, types = array.type, pa.types
        if types.is_nested(kind):  # the children of a slice are whole, even at offset 0
            array = array.take(pa.array(np.arange(len(array))))
        if types.is_null(kind):
            return []
        if is_text(kind) or is_bytes(kind):
            return [self._text(array, column, rows)]
        if types.is_floating(kind):
            return self._float(array, column, rows, nested=nested)
        if types.is_decimal(kind):
            return [array] if nested else split_decimals(array)
        if types.is_date64(kind):
            array = array.cast(pa.date32(), safe=False)
        if types.is_temporal(kind) and not types.is_duration(kind):
            bad = out_of_range(array)
            self._note(bad, rows, bad_time(column))
            array = pc.if_else(pa.array(bad), None, array) if bad.any() else array
        if types.is_timestamp(kind):
            array = self._in_utc(array, column, rows)
        elif types.is_duration(kind):
            per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
            seconds = pc.divide(array.cast(pa.int64()).cast(pa.float64(), safe=False), per_second)
            return self._float(seconds, column, rows, nested=nested)
        if types.is_map(kind):
            return self._map(array, column, rows)
        if is_list(kind):
            return [self._list(array, column, rows)]
        if types.is_struct(kind):
            return self._struct(array, column, rows)
        return [array]

    def _text(self, array: Any, column: str, rows: Any) -> Any:
        if is_bytes(array.type):
            self._problems.record_fix("bytes_text", column, array.is_valid())
        array, bad = as_utf8(array)
        self._note(bad, rows, bad_text(column))
        return array

    def _float(self, array: Any, column: str, rows: Any, *, nested: bool) -> list[Any]:
        floats = array.cast(pa.float32()) if pa.types.is_float16(array.type) else array
        values = floats.fill_null(np.nan).to_numpy(zero_copy_only=False)
        infinite = np.isinf(values)
        self._note(infinite, rows, not_finite(column))
        missing = np.isnan(values) | infinite
        with np.errstate(invalid="ignore"):
            whole = (np.floor(values) == values) & (np.abs(values) < largest_exact(array.type))
        if nested or not whole.any():
            return [pa.array(values, floats.type, mask=missing)]
        integers = pa.array(np.where(whole, values, 0).astype(np.int64), mask=~whole)
        if (whole | missing).all():
            if missing.any():
                self._problems.record_fix("integer_float", column, whole)
            return [integers]
        return [integers, pa.array(values, floats.type, mask=missing | whole)]

    def _list(self, array: Any, column: str, rows: Any) -> Any:
        large = pa.types.is_large_list(array.type) or pa.types.is_large_list_view(array.type)
        make, goal = (pa.LargeListArray, pa.large_list) if large else (pa.ListArray, pa.list_)
        array = array.cast(goal(array.type.value_type))
        lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
        # Not list_parent_indices: it also counts items below null lists.
        inner_rows = np.repeat(rows, lengths)
        read = self._read(array.flatten(), column, inner_rows, nested=True)
        ends = np.concatenate([[0], np.cumsum(lengths)]).astype("i8" if large else "i4")
        values = read[0] if read else pa.nulls(int(ends[-1]))
        return make.from_arrays(pa.array(ends), values, mask=pc.is_null(array))

    def _map(self, array: Any, column: str, rows: Any) -> list[Any]:
        inner_rows = np.repeat(rows, np.diff(array.offsets.to_numpy()))
        keys = decode(array.keys)
        keys = as_utf8(keys)[0] if is_bytes(keys.type) or is_text(keys.type) else keys
        items = self._read(array.items, column, inner_rows, nested=True)
        if not items:
            return []
        keys = keys.cast(pa.string()).fill_null("")
        # Names inside objects are sorted, whatever order a map has them in.
        order = pc.sort_indices(
            pa.table({"row": inner_rows, "key": keys}),
            sort_keys=[("row", "ascending"), ("key", "ascending")],
        )
        made = pa.MapArray.from_arrays(array.offsets, keys.take(order), items[0].take(order))
        return [pc.if_else(pc.is_valid(array), made, None)]

    def _struct(self, array: Any, column: str, rows: Any) -> list[Any]:
        children: list[tuple[str, Any]] = []
        for number, child in enumerate(array.flatten()):
            name = array.type.field(number).name
            children += [(name, part) for part in self._read(child, column, rows, nested=False)]
        made = make_struct(children)
        return [] if made is None else [made]


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


def split_decimals(array: Any) -> list[Any]:
    """Decimals as integers where they are whole, as floats where these have the same few digits.

    Returns:
        Arrays of which at most one is not null in each row. The last one holds the decimals that
        are neither.
    """
    near = array.cast(pa.float64()).fill_null(0).to_numpy(zero_copy_only=False)
    whole = np.zeros(len(array), dtype=bool)
    if array.type.scale < _DIGITS:
        # Wide, because rounding needs a digit before the point.
        wide = array.cast(pa.decimal256(_DIGITS, array.type.scale))
        whole = pc.equal(pc.trunc(wide), wide).fill_null(False).to_numpy(zero_copy_only=False)
    whole &= np.abs(near) < _INT64
    left = array.is_valid().to_numpy(zero_copy_only=False) & ~whole
    parts = []
    if whole.any() or not left.any():
        parts.append(pc.if_else(pa.array(whole), array, None).cast(pa.int64()))
    if left.any():
        digits = pc.if_else(pa.array(left), array, None).cast(pa.string())
        short = pc.less_equal(pc.binary_length(pc.utf8_rtrim(digits, "0")), _SHORT)
        short = short.fill_null(False).to_numpy(zero_copy_only=False)
        short &= (np.abs(near) >= _SMALLEST) & (np.abs(near) < _LARGEST)
        if short.any():
            parts.append(pc.if_else(pa.array(short), digits, None).cast(pa.float64()))
        if (left & ~short).any():
            parts.append(pc.if_else(pa.array(left & ~short), array, None))
    return parts


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


def ambiguous_time(column: str) -> Problem:
    """The problem of a local time that existed twice."""
    return Problem(
        "ambiguous_time",
        column,
        f"column {column!r} holds a local time that its time zone had twice (end of summer time)",
    )

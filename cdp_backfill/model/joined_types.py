"""Which Arrow types one column can have in several files, and the type that stands for all of them.

A joined type promises that no cell changes its meaning: :func:`fitted` gives the cells in that type
only where each of them is still the same value, and in their own type otherwise.
"""

from __future__ import annotations

from functools import reduce
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.model.arrow_types import (
    LARGEST_EXACT,
    is_bytes,
    is_list,
    is_number,
    is_text,
    largest_exact,
    viewless_type,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNITS: Final = ("s", "ms", "us", "ns")
_WHOLE_DIGITS: Final = {8: 3, 16: 5, 32: 10, 64: 20}
_DIGITS: Final = 38  # of a decimal of the usual width
_MORE_DIGITS: Final = 76


class ApartError(Exception):
    """Two types that cannot be joined.

    Args:
        path: Where they differ inside a nested column: names of members, dotted; else "".
        one: The first type there.
        other: The second type there.
    """

    def __init__(self, path: str, one: Any, other: Any) -> None:
        super().__init__(path)
        self.path, self.one, self.other = path, one, other


def join_types(one: Any, other: Any) -> Any:
    """The type that stands for both.

    >>> join_types(pa.int32(), pa.float64()), join_types(pa.string(), pa.null())
    (DataType(double), DataType(string))

    Raises:
        ApartError: There is none, because the cells mean different things, such as text and
            numbers.
    """
    one, other = viewless_type(one), viewless_type(other)
    if one.equals(other):
        return one
    one, other = _plain(one), _plain(other)
    types = pa.types
    if one.equals(other) or types.is_null(other):
        return one
    if types.is_null(one):
        return other
    joined = None
    if _is_nested(one) or _is_nested(other):
        joined = _join_nested(one, other)
    elif (_is_characters(one) and _is_characters(other)) or (is_number(one) and is_number(other)):
        joined = _join_characters(one, other) if _is_characters(one) else _join_numbers(one, other)
    elif types.is_temporal(one) and types.is_temporal(other):
        joined = _join_times(one, other)
    if joined is None:
        raise ApartError("", one, other)
    return joined


def _plain(kind: Any) -> Any:
    """The type of the cells, without dictionaries."""
    return _plain(kind.value_type) if pa.types.is_dictionary(kind) else kind


def _is_nested(kind: Any) -> bool:
    return bool(pa.types.is_struct(kind) or pa.types.is_map(kind) or is_list(kind))


def _is_uuid(kind: Any) -> bool:
    return isinstance(kind, pa.BaseExtensionType) and kind.extension_name == "arrow.uuid"


def _is_characters(kind: Any) -> bool:
    """Whether the cells are read as text: text, bytes that hold text, and UUIDs."""
    return is_text(kind) or is_bytes(kind) or _is_uuid(kind)


def _join_characters(one: Any, other: Any) -> Any:
    large = any(
        pa.types.is_large_string(kind) or pa.types.is_large_binary(kind) for kind in (one, other)
    )
    if is_bytes(one) or is_bytes(other):
        return pa.large_binary() if large else pa.binary()
    return pa.large_string() if large else pa.string()


def _join_numbers(one: Any, other: Any) -> Any:
    types = pa.types
    if types.is_floating(one) or types.is_floating(other):
        return pa.float64()
    if types.is_decimal(one) or types.is_decimal(other):
        sizes = [_digits(kind) for kind in (one, other)]
        scale = max(scale for _, scale in sizes)
        precision = max(before for before, _ in sizes) + scale
        if precision > _MORE_DIGITS:
            return pa.decimal256(_MORE_DIGITS, scale)
        return (pa.decimal128 if precision <= _DIGITS else pa.decimal256)(max(1, precision), scale)
    if types.is_signed_integer(one) == types.is_signed_integer(other):
        return max(one, other, key=lambda kind: kind.bit_width)
    return pa.int64()


def _digits(kind: Any) -> tuple[int, int]:
    """Most digits before and behind the point."""
    if pa.types.is_decimal(kind):
        return kind.precision - kind.scale, max(0, kind.scale)
    return _WHOLE_DIGITS[kind.bit_width], 0


def _join_times(one: Any, other: Any) -> Any:
    types, kinds = pa.types, (one, other)
    if all(types.is_date(kind) for kind in kinds):
        return pa.date32()
    if all(types.is_time(kind) for kind in kinds):
        unit = _finest(kinds)
        return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
    if all(types.is_duration(kind) for kind in kinds):
        return pa.duration(_finest(kinds))
    if all(types.is_timestamp(kind) or types.is_date(kind) for kind in kinds):
        zones = {getattr(kind, "tz", None) for kind in kinds}
        # A column with some times without a zone is one whose zone is to be asked about.
        zone = None if None in zones else zones.pop() if len(zones) == 1 else "UTC"
        return pa.timestamp(_finest([kind for kind in kinds if types.is_timestamp(kind)]), zone)
    return None


def _finest(kinds: Any) -> str:
    return _UNITS[max(_UNITS.index(kind.unit) for kind in kinds)]


def _join_nested(one: Any, other: Any) -> Any:
    types = pa.types
    if types.is_struct(one) and types.is_struct(other):
        fields = {item.name: item.type for item in one}
        for item in other:
            known = fields.get(item.name)
            fields[item.name] = (
                item.type if known is None else _join_inside(item.name, known, item.type)
            )
        return pa.struct(list(fields.items()))
    if types.is_map(one) and types.is_map(other):
        return pa.map_(
            _join_inside("key", one.key_type, other.key_type),
            _join_inside("value", one.item_type, other.item_type),
        )
    if is_list(one) and is_list(other):
        inner = _join_inside("", one.value_type, other.value_type)
        large = types.is_large_list(one) or types.is_large_list(other)
        return pa.large_list(inner) if large else pa.list_(inner)
    return None


def _join_inside(name: str, one: Any, other: Any) -> Any:
    try:
        return join_types(one, other)
    except ApartError as apart:
        path = ".".join(filter(None, (name, apart.path)))
        raise ApartError(path, apart.one, apart.other) from None


def fitted(array: Any, kind: Any, *, value_only: bool = False) -> Any:
    """Cells in a joined type if each is written in the same way in it, else as they are.

    >>> fitted(pa.array([7], pa.int32()), pa.int64()).type
    DataType(int64)
    >>> sevens = pa.array([7])
    >>> fitted(sevens, pa.float64()).type, fitted(sevens, pa.float64(), value_only=True).type
    (DataType(int64), DataType(double))

    Args:
        array: Arrow array without views.
        kind: The type that :func:`join_types` gives for it and others.
        value_only: Whether it is enough that numbers keep their value: as a version, the float 7.0
            is written ``7.0``, and the whole number 7 is not.
    """
    if array.type.equals(kind):
        return array
    types, own = pa.types, array.type
    if types.is_dictionary(own) and not types.is_dictionary(kind):
        return fitted(array.dictionary_decode(), kind, value_only=value_only)
    if types.is_null(own):
        return pa.nulls(len(array), kind)
    if not _is_safe(own, kind) or not (value_only or _is_written_alike(own, kind)):
        return array
    try:
        if types.is_floating(own) and types.is_floating(kind):
            # 0.1 of 32 bits is 0.1, and not the number of 64 bits that is closest to it.
            cast = array.cast(pa.float32()).cast(pa.string()).cast(kind)
        else:
            cast = pc.cast(array, kind)
        is_rounded = types.is_decimal(own) and types.is_floating(kind)
        if is_rounded and not cast.cast(pa.string()).cast(own).equals(array):
            return array
    except pa.ArrowException:  # a cell does not fit
        return array
    return cast if not types.is_floating(kind) or _is_exact(cast, own) else array


def _is_safe(own: Any, kind: Any) -> bool:
    """Whether a cast changes nothing that a message shows, as long as each cell fits."""
    types = pa.types
    if types.is_timestamp(own):
        return bool(types.is_timestamp(kind)) and (own.tz is None) == (kind.tz is None)
    return any(
        same(own) and same(kind)
        for same in (is_text, is_bytes, is_number, types.is_date, types.is_time)
    )


def _is_written_alike(own: Any, kind: Any) -> bool:
    """Whether equal numbers of both types are the same text."""
    types = pa.types
    kinds = (own, kind)
    return (
        not is_number(own)
        or all(types.is_integer(each) for each in kinds)
        or all(types.is_floating(each) for each in kinds)
    )


def _is_exact(floats: Any, own: Any) -> bool:
    """Whether all numbers lie below the limit up to which their own type and floats are exact."""
    limit = LARGEST_EXACT if not pa.types.is_floating(own) else largest_exact(own)
    values = floats.drop_null().to_numpy(zero_copy_only=False)
    return bool(np.all(np.isnan(values) | np.isinf(values) | (np.abs(values) < limit)))


class ColumnApartError(Exception):
    """Columns whose types differ between tables, and cannot be joined.

    Args:
        columns: For each, its name, the numbers of two tables with such types, and how they differ.
    """

    def __init__(self, columns: list[tuple[str, int, int, ApartError]]) -> None:
        super().__init__(columns)
        self.columns = columns


def join_schemas(schemas: Sequence[Any]) -> Any:
    """The columns of all schemas, with joined types.

    >>> join_schemas([pa.schema({"n": pa.int32()}), pa.schema({"n": pa.int64(), "m": pa.bool_()})])
    n: int64
    m: bool

    Raises:
        ColumnApartError: The types of some columns cannot be joined.
    """
    apart, fields = [], []
    every: dict[str, list[tuple[int, Any]]] = {}
    for number, schema in enumerate(schemas):
        for item in schema:
            every.setdefault(item.name, []).append((number, item.type))
    for name, kinds in every.items():
        try:
            fields.append(
                pa.field(
                    name,
                    viewless_type(reduce(join_types, dict.fromkeys(kind for _, kind in kinds))),
                )
            )
        except ApartError:
            apart.append((name, *_first_apart(kinds)))
    if apart:
        raise ColumnApartError(apart)
    return pa.schema(fields)


def _first_apart(kinds: list[tuple[int, Any]]) -> tuple[int, int, ApartError]:
    """The numbers of the first two types that cannot be joined, and how they differ."""
    firsts = {kind: number for number, kind in reversed(kinds)}
    for (one, first), (other, second) in combinations(reversed(firsts.items()), 2):
        try:
            join_types(one, other)
        except ApartError as error:
            return first, second, error
    raise AssertionError  # pragma: no cover  # joining does not depend on the order

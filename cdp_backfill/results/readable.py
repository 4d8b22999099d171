"""Makes Arrow columns that pandas and parquet can read, whatever their types."""

from __future__ import annotations

import re
import zoneinfo
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Callable

_OFFSET: Final = re.compile(r"[+-]\d\d:\d\d")
_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_FIRST_DAY: Final = -719_162  # 0001-01-01 in days since 1970
_LAST_DAY: Final = 2_932_896  # 9999-12-31
_DAY: Final = 86_400


def plain(column: Any) -> Any:
    """A column without encodings, and with time zones that exist.

    Args:
        column: An Arrow array.

    >>> import pyarrow as pa
    >>> plain(pa.array([0], pa.timestamp("s", "Z"))).type
    TimestampType(timestamp[s, tz=UTC])
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    kind = _with_zones(column.type)
    return column if kind == column.type else column.cast(kind)


def _with_zones(kind: Any) -> Any:
    """The same type with time zones that exist; in place of others, which name UTC, with UTC."""
    if pa.types.is_timestamp(kind):
        return kind if kind.tz is None or _exists(kind.tz) else pa.timestamp(kind.unit, "UTC")
    if isinstance(kind, pa.BaseExtensionType) or not pa.types.is_nested(kind):
        return kind
    if pa.types.is_struct(kind):
        return pa.struct([_field(field) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_field(kind.key_field), _field(kind.item_field), kind.keys_sorted)
    make: Callable[..., Any]
    for is_kind, make in (
        (pa.types.is_list, pa.list_),
        (pa.types.is_large_list, pa.large_list),
        (pa.types.is_list_view, pa.list_view),
        (pa.types.is_large_list_view, pa.large_list_view),
    ):
        if is_kind(kind):
            return make(_field(kind.value_field))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_field(kind.value_field), kind.list_size)
    return kind


def _field(field: Any) -> Any:
    return field.with_type(_with_zones(field.type))


@lru_cache
def _exists(zone: str) -> bool:
    if _OFFSET.fullmatch(zone):
        return True
    try:
        zoneinfo.ZoneInfo(zone)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return False
    return True


def for_pandas(table: Any) -> Any:
    """A table whose cells pandas can show.

    A column with a date or time before the year 1 or after 9999, which Python does not have,
    becomes text; such a cell is the number of its units since 1970. Halves become singles, with
    which pandas can count. Unions become text.
    """
    for number, field in enumerate(table.schema):
        column, kind = table.column(number), field.type
        if pa.types.is_float16(kind):
            table = table.set_column(number, field.name, column.cast(pa.float32()))
        elif pa.types.is_union(kind):  # pandas has no such type
            cells = [None if cell is None else str(cell) for cell in column.to_pylist()]
            table = table.set_column(number, field.name, pa.array(cells, pa.string()))
        elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            text = _far_times_as_text(column)
            table = table if text is None else table.set_column(number, field.name, text)
    return table


def _far_times_as_text(column: Any) -> Any | None:
    """Dates or times as text; None if Python has all of them."""
    kind, units = column.type, pa.int64()
    if pa.types.is_date32(kind):
        column_units, per_day = column.cast(pa.int32()).cast(units), 1
    else:
        per_day = _DAY * (1_000 if pa.types.is_date64(kind) else _PER_SECOND[kind.unit])
        column_units = column.cast(units)
    # A day less on both sides, so that each time zone has them, too.
    first, last = (_FIRST_DAY + 1) * per_day, _LAST_DAY * per_day
    inside = pc.and_(
        pc.greater_equal(column_units, max(first, -(2**63))),
        pc.less(column_units, min(last, 2**63 - 1)),
    )
    if pc.all(inside, skip_nulls=True).as_py() is not False:
        return None
    near = pc.if_else(inside, column, pa.scalar(None, kind))
    return pc.if_else(inside, near.cast(pa.string()), column_units.cast(pa.string()))

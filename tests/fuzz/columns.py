"""Columns of every Arrow type, each with an independent reading of its cells in plain Python."""

from __future__ import annotations

import json
import re
import struct
import uuid
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

MARKER: Final = "zq7marker"
"""Stands in every text, so that a text that is shown somewhere is noticed."""

BAD: Final = object()
"""The row of such a cell is invalid."""

MISSING: Final = object()
"""Such a cell is in no message."""

_DAYS: Final = (date(1, 1, 1) - date(1970, 1, 1)).days, (date(9999, 12, 31) - date(1970, 1, 1)).days
PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclass(frozen=True)
class Kind:
    """A type of columns.

    Attributes:
        type: Arrow type.
        cells: Strategy of its cells, without null.
        read: The JSON value that a cell is sent as, :data:`BAD` or :data:`MISSING`.
        equal: Whether a JSON value that arrived is this value.
        make: Makes an array of cells, of which some may be None.
    """

    type: Any
    cells: st.SearchStrategy[Any]
    read: Callable[[Any], Any]
    equal: Callable[[Any, Any], bool] = lambda sent, expected: bool(sent == expected)
    make: Callable[[list[Any]], Any] | None = None

    @property
    def name(self) -> str:
        """Name of the type."""
        return re.sub(r"\s+", " ", str(self.type))

    def array(self, cells: list[Any]) -> Any:
        """The cells as an array."""
        return pa.array(cells, self.type) if self.make is None else self.make(cells)


texts: Final = st.text(st.characters(codec="utf-8"), max_size=6).map(lambda text: MARKER + text)


def _same(cell: Any) -> Any:
    return cell


def _whole(kind: Any) -> Kind:
    bits = kind.bit_width
    low, high = (
        (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if "u" not in str(kind) else (0, 2**bits - 1)
    )
    cells = st.integers(low, high) | st.sampled_from([low, high, 0, 1])
    return Kind(kind, cells, _same, lambda sent, cell: type(sent) is int and sent == cell)


def _float(kind: Any, code: str) -> Kind:
    def read(cell: float) -> Any:
        if cell != cell:  # noqa: PLR0124  # not a number
            return MISSING
        return BAD if cell in (float("inf"), float("-inf")) else cell

    def equal(sent: Any, cell: float) -> bool:
        return bool(struct.unpack(code, struct.pack(code, float(sent)))[0] == cell)

    cells = st.floats(width=kind.bit_width) | st.integers(-100, 100).map(float)
    return Kind(kind, cells, read, equal, lambda cells: _floats(cells, kind))


def _floats(cells: list[Any], kind: Any) -> Any:
    width = {16: np.float16, 32: np.float32, 64: np.float64}[kind.bit_width]
    filled = np.array([0 if cell is None else cell for cell in cells], dtype=width)
    return pa.array(filled, kind, mask=np.array([cell is None for cell in cells]))


def _decimal(kind: Any) -> Kind:
    most = 10**kind.precision - 1
    cells = (st.integers(-most, most) | st.integers(-1000, 1000) | st.just(0)).map(
        lambda digits: Decimal(f"{digits}E{-kind.scale}")
    )
    return Kind(kind, cells, _same, lambda sent, cell: Decimal(sent) == cell)


def _bytes(kind: Any, size: int | None = None) -> Kind:
    def read(cell: bytes) -> Any:
        try:
            return cell.decode()
        except UnicodeDecodeError:
            return BAD

    if size is not None:
        cells = st.binary(min_size=size, max_size=size) | st.just(MARKER[:size].encode())
    else:
        cells = texts.map(str.encode) | st.binary(max_size=4)
    return Kind(kind, cells, read)


def _day(days: int) -> Any:
    return date(1970, 1, 1) + timedelta(days=days) if _DAYS[0] <= days <= _DAYS[1] else BAD


def _date(kind: Any, per_day: int, bits: int) -> Kind:
    most = 2 ** (bits - 1) // per_day - 1
    days = st.integers(*_DAYS) | st.integers(-most, most) | st.sampled_from([*_DAYS, 0])

    def read(cell: int) -> Any:
        day = _day(cell)
        return day if day is BAD else day.isoformat()

    raw = {32: pa.int32(), 64: pa.int64()}[bits]
    return Kind(
        kind,
        days,
        read,
        make=lambda cells: pa.array(
            [None if cell is None else cell * per_day for cell in cells], raw
        ).view(kind),
    )


def _clock(text: str) -> int:
    """Nanoseconds of a time of day."""
    hours, minutes, seconds = text.split(":")
    whole, _, fraction = seconds.partition(".")
    return (int(hours) * 3600 + int(minutes) * 60 + int(whole)) * 10**9 + int(
        fraction.ljust(9, "0") or "0"
    )


def _time(kind: Any) -> Kind:
    per_second = PER_SECOND[kind.unit]
    most = 86_400 * per_second
    cells = st.integers(0, most - 1) | st.sampled_from([-1, most, 0, most - 1])
    raw = pa.int32() if kind.bit_width == 32 else pa.int64()

    def read(cell: int) -> Any:
        return cell * 10**9 // per_second if 0 <= cell < most else BAD

    return Kind(
        kind,
        cells,
        read,
        lambda sent, expected: _clock(sent) == expected,
        lambda cells: pa.array(cells, raw).view(kind),
    )


def _instant(text: str) -> int:
    """Nanoseconds since 1970 of a time in UTC."""
    day, _, clock = text.partition("T")
    year, month, number = map(int, day.split("-"))
    days = (date(year, month, number) - date(1970, 1, 1)).days
    return days * 86_400 * 10**9 + _clock(clock.removesuffix("Z"))


def _timestamp(kind: Any) -> Kind:
    per_second = PER_SECOND[kind.unit]
    first, last = _DAYS[0] * 86_400 * per_second, (_DAYS[1] + 1) * 86_400 * per_second - 1
    low, high = max(first, -(2**63)), min(last, 2**63 - 1)
    cells = (
        st.integers(low, high)
        | st.integers(0, 2**31).map(lambda second: second * per_second)
        | st.sampled_from([low, high, -(2**63) + 1, 2**63 - 1, 0])
    )

    def read(cell: int) -> Any:
        return cell * 10**9 // per_second if first <= cell <= last else BAD

    return Kind(
        kind,
        cells,
        read,
        lambda sent, expected: _instant(sent) == expected,
        lambda cells: pa.array(cells, pa.int64()).view(kind),
    )


def _duration(kind: Any) -> Kind:
    per_second = PER_SECOND[kind.unit]
    return Kind(
        kind,
        st.integers(-(2**53), 2**53) | st.integers(-1000, 1000),
        lambda cell: Decimal(cell) / per_second,
        lambda sent, expected: float(sent) == float(expected),
        lambda cells: pa.array(cells, pa.int64()).view(kind),
    )


def _inside(cell: Any) -> Any:
    """A value inside a list: not a number is null there."""
    return None if cell != cell else cell  # noqa: PLR0124


def _list(kind: Any, items: st.SearchStrategy[Any], *, size: int | None = None) -> Kind:
    cells = st.lists(st.none() | items, min_size=size or 0, max_size=3 if size is None else size)

    def read(cell: list[Any]) -> Any:
        if any(isinstance(item, float) and item in (float("inf"), -float("inf")) for item in cell):
            return BAD
        return [_inside(item) for item in cell]

    def equal(sent: Any, right: list[Any]) -> bool:
        pairs = zip(sent, right, strict=True)
        return all(
            float(one) == other if isinstance(other, float) else one == other
            for one, other in pairs
        )

    return Kind(kind, cells, read, equal)


def _object(cell: dict[str, Any]) -> Any:
    kept = {}
    for name, value in cell.items():
        inner = _object(value) if isinstance(value, dict) else value
        if inner is not None and inner is not MISSING:
            kept[name] = inner
    return kept or MISSING


def _encoded(kind: Any) -> Kind:
    plain = texts if pa.types.is_string(kind.value_type) else st.integers(-(2**31), 2**31 - 1)
    return Kind(
        kind,
        plain,
        _same,
        make=lambda cells: pa.array(cells, kind.value_type).dictionary_encode().cast(kind),
    )


def _runs(value_type: Any, cells: st.SearchStrategy[Any]) -> Kind:
    def make(values: list[Any]) -> Any:
        ends = pa.array(range(1, len(values) + 1), pa.int32())
        return pa.RunEndEncodedArray.from_arrays(ends, pa.array(values, value_type))

    return Kind(pa.run_end_encoded(pa.int32(), value_type), cells, _same, make=make)


def _json() -> Kind:
    values = st.dictionaries(
        texts, st.none() | st.integers(-(2**63), 2**63 - 1) | texts, max_size=3
    )

    def make(cells: list[Any]) -> Any:
        dumped = [None if cell is None else json.dumps(cell) for cell in cells]
        return pa.ExtensionArray.from_storage(pa.json_(), pa.array(dumped, pa.string()))

    clean = values.filter(lambda value: not any("\0" in name for name in value))
    return Kind(pa.json_(), clean, _object, make=make)


def _uuid() -> Kind:
    def make(cells: list[Any]) -> Any:
        return pa.ExtensionArray.from_storage(pa.uuid(), pa.array(cells, pa.binary(16)))

    return Kind(
        pa.uuid(),
        st.uuids().map(lambda each: each.bytes),
        lambda cell: str(uuid.UUID(bytes=cell)),
        make=lambda cells: pa.ExtensionArray.from_storage(
            pa.uuid(), pa.array(cells, pa.binary(16))
        ),
    )


_INNER: Final = pa.struct([("c", pa.string()), ("d", pa.list_(pa.int64()))])
_STRUCT: Final = pa.struct([("a", pa.int64()), ("b", pa.string()), ("s", _INNER)])
_structs: Final = st.fixed_dictionaries(
    {
        "a": st.none() | st.integers(-(2**63), 2**63 - 1),
        "b": st.none() | texts,
        "s": st.none()
        | st.fixed_dictionaries(
            {"c": st.none() | texts, "d": st.none() | st.lists(st.integers(0, 9), max_size=2)}
        ),
    }
)
_MAP: Final = pa.map_(pa.string(), pa.int64())


def _map_cells() -> Kind:
    cells = st.dictionaries(texts, st.integers(-(2**63), 2**63 - 1), max_size=3)
    return Kind(_MAP, cells, _same, make=lambda rows: pa.array(
        [None if row is None else list(row.items()) for row in rows], _MAP
    ))  # fmt: skip


KINDS: Final[tuple[Kind, ...]] = (
    Kind(pa.null(), st.none(), _same),
    Kind(pa.bool_(), st.booleans(), _same, lambda sent, cell: sent is cell),
    *map(_whole, (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
    *map(_whole, (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())),
    _float(pa.float16(), "e"),
    _float(pa.float32(), "f"),
    _float(pa.float64(), "d"),
    _decimal(pa.decimal32(7, 2)),
    _decimal(pa.decimal64(18, 9)),
    _decimal(pa.decimal128(38, 0)),
    _decimal(pa.decimal128(38, 9)),
    _decimal(pa.decimal128(20, 20)),
    _decimal(pa.decimal256(76, 30)),
    *(Kind(kind, texts, _same) for kind in (pa.string(), pa.large_string(), pa.string_view())),
    *map(_bytes, (pa.binary(), pa.large_binary(), pa.binary_view())),
    _bytes(pa.binary(8), 8),
    _date(pa.date32(), 1, 32),
    _date(pa.date64(), 86_400_000, 64),
    *map(_time, (pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"))),
    *(_timestamp(pa.timestamp(unit)) for unit in PER_SECOND),
    *(_timestamp(pa.timestamp(unit, "Asia/Tokyo")) for unit in PER_SECOND),
    *(_duration(pa.duration(unit)) for unit in PER_SECOND),
    _encoded(pa.dictionary(pa.int8(), pa.string())),
    _encoded(pa.dictionary(pa.uint32(), pa.int64())),
    _runs(pa.string(), texts),
    _runs(pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    _list(pa.list_(pa.int64()), st.integers(-(2**63), 2**63 - 1)),
    _list(pa.large_list(pa.string()), texts),
    _list(pa.list_(pa.float64()), st.floats()),
    _list(pa.list_(pa.int32(), 2), st.integers(-9, 9), size=2),
    _list(pa.list_view(pa.string()), texts),
    _list(pa.large_list_view(pa.bool_()), st.booleans()),
    Kind(_STRUCT, _structs, _object),
    _map_cells(),
    _json(),
    _uuid(),
)
"""All types that can be a property."""

REFUSED: Final = (pa.month_day_nano_interval(), pa.sparse_union([pa.field("a", pa.int64())]))
"""Types that JSON has no counterpart of: a table of them is refused, naming the column."""


def expected(kind: Kind, cell: Any) -> Any:
    """What a cell is sent as."""
    return MISSING if cell is None else kind.read(cell)

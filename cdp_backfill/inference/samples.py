"""The first rows of a table: names, types and cells of its columns."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.inference.column_names import core_words, is_for_a_field, split_words
from cdp_backfill.inference.date_orders import DateOrders
from cdp_backfill.messages.epochs import FAR
from cdp_backfill.messages.text import as_identifier, as_text, clean_text, decode
from cdp_backfill.messages.times import Times, read_times
from cdp_backfill.model import api_facts
from cdp_backfill.model.arrow_types import (
    can_be_text,
    is_bytes,
    is_json,
    is_number,
    is_text,
    is_time_like,
)
from cdp_backfill.model.outcomes import FAILURE_COLUMNS, READING_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp_backfill.model.arrays import Mask

_FEW_ROWS: Final = 1_024
"""Rows of a sample whose columns are looked at each for itself, from here on."""

_TOGETHER: Final = 65_536
"""Cells of several columns that are read together."""

MAX_DISTINCT: Final = 2_000
"""Distinct cells of a column that are looked at, from the first rows."""

EARLIEST: Final = int(
    datetime.fromisoformat(api_facts.APP_STORES).replace(tzinfo=UTC).timestamp() * 1000
)
"""No event is earlier; milliseconds since 1970 UTC."""

_DAY_ONLY: Final = r"^\d{4}-\d\d-\d\d([T ]00:00(:00(\.0+)?)?)?(Z|\+00:?00)?$"
_TIME_OF_DAY: Final = r"^\d{1,2}:\d\d(:\d\d([.,]\d+)?)?( ?[AaPp][Mm])?$"


class SampleColumn:
    """A column of the first rows.

    Args:
        name: Its name.
        array: Its cells, an Arrow array.
        nulls: Texts that mean an empty cell.
    """

    def __init__(self, name: str, array: Any, nulls: tuple[str, ...] = ()) -> None:
        self.name = name
        self.words = split_words(name)
        self.core = core_words(name)
        self.array = decode(array)
        self.kind = self.array.type
        if nulls and is_text(self.kind):
            empty = pc.is_in(self.array, value_set=pa.array(nulls).cast(self.kind))
            self.array = pc.if_else(empty, None, self.array)

    @property
    def is_text(self) -> bool:
        """Whether its cells are text or bytes."""
        return is_text(self.kind) or is_bytes(self.kind)

    @property
    def is_number(self) -> bool:
        """Whether its cells are numbers, by their type."""
        return is_number(self.kind)

    @property
    def is_nested(self) -> bool:
        """Whether its cells have parts."""
        types = pa.types
        return is_json(self.kind) or types.is_nested(self.kind)

    @cached_property
    def filled(self) -> Any:
        """The cells that are not empty; blanks and words for nothing are."""
        array = self.array
        if is_bytes(self.kind):
            array, _ = as_text(array)
        if is_text(array.type):
            array = clean_text(array, ignore)
        if pa.types.is_floating(array.type):
            array = pc.if_else(pc.is_nan(array), None, array)
        return array.drop_null()

    @cached_property
    def distinct(self) -> int:
        """Number of different cells that are not empty."""
        return 0 if self.is_nested else len(pc.unique(self.filled))

    @cached_property
    def texts(self) -> list[str]:
        """The different cells as text, in the order of the rows; the first 2,000."""
        if len(self.array) < _FEW_ROWS and pa.types.is_string(self.kind):
            return list(dict.fromkeys(self.filled.to_pylist()))
        if not (can_be_text(self.kind) or pa.types.is_boolean(self.kind)) or is_json(self.kind):
            return []
        unique = pc.unique(self.filled)[:MAX_DISTINCT]
        text, _ = as_text(unique, floats="number")
        return [str(cell) for cell in text.drop_null().to_pylist()]

    @cached_property
    def ids(self) -> Any:
        """The cells as ids, null where there is none."""
        if not can_be_text(self.kind) or is_json(self.kind):
            return pa.nulls(len(self.array), pa.string())
        return as_identifier(self.array, ignore)[0]

    @cached_property
    def bad_ids(self) -> bool:
        """Whether a cell has lost digits, so that it cannot be an id."""
        if not can_be_text(self.kind) or is_json(self.kind):
            return True
        return bool(as_identifier(self.array, ignore)[1].any())

    @property
    def is_truth(self) -> bool:
        """Whether its cells are truth values, whatever their type."""
        return pa.types.is_boolean(self.kind) or (
            bool(self.texts) and all(text.casefold() in TRUTH for text in self.texts)
        )

    @cached_property
    def times(self) -> Times | None:
        """Its cells as times, or None if they are of another type.

        Dates that are numbers only are read in the order that most of these cells allow; which one
        it is does not matter to a proposal, and all cells of the table decide later.
        """
        array, order = self.array, None
        if is_bytes(self.kind):
            array, _ = as_text(array)
        if is_text(array.type):
            array = clean_text(array, ignore)
            orders = DateOrders(EARLIEST, FAR)
            orders.add(array)
            order = orders.most_likely
        if not is_time_like(array.type) or pa.types.is_null(array.type):
            return None
        return read_times(array, unit=None, timezone=None, earliest=EARLIEST, order=order)

    @cached_property
    def moments(self) -> list[int | None]:
        """Milliseconds since 1970 UTC; None where a cell is not a time."""
        times = self.times
        if times is None:
            return [None] * len(self.array)
        unusable = times.missing | times.bad | times.unclear
        return [None if no else int(m) for m, no in zip(times.millis, unusable, strict=True)]

    @cached_property
    def time_of_day(self) -> bool:
        """Whether its cells are times of day, without a day."""
        if pa.types.is_time(self.kind):
            return True
        return bool(self.texts) and self.is_text and matches_all(self.texts, _TIME_OF_DAY)

    @cached_property
    def day_only(self) -> bool:
        """Whether its cells are days, without a time of day."""
        if pa.types.is_date(self.kind):
            return True
        if pa.types.is_timestamp(self.kind):
            moments = [each for each in self.moments if each is not None]
            return bool(moments) and all(each % 86_400_000 == 0 for each in moments)
        if self.is_text and self.texts and matches_all(self.texts, _DAY_ONLY):
            return True
        times, good = self.times, self._read
        return times is not None and bool(good.any() and times.days[good].all())

    @property
    def _read(self) -> Mask:
        """True where a cell is a time."""
        times = self.times
        if times is None:
            return np.zeros(len(self.array), dtype=bool)
        return ~(times.missing | times.bad | times.unclear)

    @cached_property
    def has_no_zone(self) -> bool:
        """Whether its times carry no zone."""
        if pa.types.is_timestamp(self.kind):
            return self.kind.tz is None
        times, good = self.times, self._read
        if self.is_number:
            return times is not None and bool(times.naive.any())
        return times is None or not good.any() or bool(times.naive[good].any())


TRUTH: Final = frozenset(["true", "false", "yes", "no", "y", "n", "t", "f", "0", "1", "on", "off"])


def ignore(code: str, where: Any) -> None:
    """Take note of a fix to a cell, without any effect."""
    del code, where


_JSON: Final = re.compile(r'\s*(\{.*\}|\[\s*(["{\[\d-].*)?\])\s*', re.DOTALL)


def is_json_text(text: str) -> bool:
    """Whether a text is an object or a list in JSON.

    >>> is_json_text('{"a": 1}'), is_json_text("[Amplitude] Application Opened")
    (True, False)
    """
    return bool(_JSON.fullmatch(text))


def matches_all(texts: list[str], pattern: str) -> bool:
    """Whether every text matches a regular expression."""
    compiled = re.compile(pattern)
    return all(compiled.search(text) for text in texts)


class Sample:
    """The first rows of a table.

    Args:
        batch: Record batch with all columns.
        nulls: Texts that mean an empty cell.
    """

    def __init__(self, batch: Any, nulls: tuple[str, ...] = ()) -> None:
        self.rows = batch.num_rows
        self._columns = {
            name: SampleColumn(name, array, nulls)
            for name, array in _readable(batch)
            if name not in FAILURE_COLUMNS and name not in READING_COLUMNS
        }

    @cached_property
    def named(self) -> tuple[SampleColumn, ...]:
        """The columns whose names are for some field."""
        return tuple(column for column in self if is_for_a_field(column.name))

    def may_hold_times(self, column: SampleColumn) -> bool:
        """Whether a cell of a column may be a time; False is certain."""
        return column.name not in self._without_times

    @cached_property
    def _without_times(self) -> frozenset[str]:
        """The columns of text in which no cell is a time, found together if rows are few.

        To read the times of a column takes far longer than to read those of a few cells.
        """
        if self.rows >= _FEW_ROWS:
            return frozenset()
        texts = [each for each in self if is_text(each.kind)]
        step, names = max(1, _TOGETHER // max(1, self.rows)), []
        for start in range(0, len(texts), step):
            some = texts[start : start + step]
            cells = pa.concat_arrays([each.array.cast(pa.large_string()) for each in some])
            times = read_times(
                clean_text(cells, ignore), unit=None, timezone=None, earliest=EARLIEST
            )
            # Where the order of a date decides, the column that it stands in may know it.
            perhaps = times.unclear | ~(times.missing | times.bad)
            found = np.flatnonzero(~np.any(perhaps.reshape(len(some), self.rows), axis=1))
            names += [some[number].name for number in found]
        return frozenset(names)

    def __iter__(self) -> Iterator[SampleColumn]:
        return iter(self._columns.values())

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __getitem__(self, name: str) -> SampleColumn:
        return self._columns[name]

    def get(self, name: Any) -> SampleColumn | None:
        """The column of a name, or None."""
        return self._columns.get(name) if isinstance(name, str) else None


def _readable(batch: Any) -> Iterator[tuple[str, Any]]:
    """The columns that can be read."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            array = decode(column)
            array.validate(full=True)
        except pa.ArrowException:
            continue  # such as text that is not UTF-8; each such row is reported later
        yield name, array


def equal_cells(one: list[Any], other: list[Any]) -> tuple[int, int]:
    """In how many rows two columns are equal, and in how many both are filled."""
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    return sum(a == b for a, b in pairs), len(pairs)


def are_equal(one: list[Any], other: list[Any]) -> bool:
    """Whether two columns are equal wherever both are filled."""
    equal, both = equal_cells(one, other)
    return both > 0 and equal == both

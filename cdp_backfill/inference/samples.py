"""The first rows of a table: names, types and cells of its columns."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.inference.column_names import split_words
from cdp_backfill.inference.content_checks import moments
from cdp_backfill.messages.text import decode
from cdp_backfill.model.arrow_types import is_number

_MIN_COLUMNS: Final = 4  # that share a beginning


def readable_columns(sample: Any) -> Any:
    """The columns of a batch that can be read, without dictionaries and the like."""
    columns = {}
    for name, column in zip(sample.schema.names, sample.columns, strict=True):
        try:
            array = decode(column)
            array.validate(full=True)
        except pa.ArrowException:
            continue  # such as text that is not UTF-8; each such row is reported later
        columns[name] = array
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


def shared_prefixes(names: list[str]) -> tuple[str, ...]:
    """What many columns of a table begin with, such as ``payload``; fold."""
    counts: dict[str, int] = {}
    for name in names:
        words = split_words(name)
        for stop in range(1, min(len(words), 4)):
            start = "".join(words[:stop])
            counts[start] = counts.get(start, 0) + 1
    minimum = max(_MIN_COLUMNS, len(names) // 2)
    return tuple(start for start, count in counts.items() if count >= minimum)


def has_no_zone(column: Any) -> bool:
    """Whether the times of a column carry no zone."""
    kind = column.type
    if is_number(kind):
        return False
    if pa.types.is_timestamp(kind):
        return kind.tz is None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        marked = pc.match_substring_regex(column, r"(^\d{9,19}$|[Zz]$|[+-]\d\d:?\d\d$|UTC$)")
        return not pc.all(marked).as_py()
    return True


def comparable_cells(column: Any, field: str) -> list[Any]:
    """The cells of a column in a form in which two columns can be compared."""
    if field == "timestamp":
        return moments(column)
    return [None if cell is None else str(cell) for cell in column.to_pylist()]


def are_equal(one: list[Any], other: list[Any]) -> bool:
    """Whether two columns are equal wherever both are filled."""
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    return bool(pairs) and all(a == b for a, b in pairs)

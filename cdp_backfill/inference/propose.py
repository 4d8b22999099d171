"""Completes the mapping of a table: from a preset, or from its columns."""

from __future__ import annotations

from contextlib import closing
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.errors import MappingError
from cdp_backfill.inference.column_names import split_words
from cdp_backfill.inference.columns import MANY_VALUES, Inference, translations
from cdp_backfill.inference.preset_proposals import detect_preset, propose_preset
from cdp_backfill.inference.proposal import Proposal
from cdp_backfill.messages.text import as_text, decode
from cdp_backfill.model.arrow_types import can_be_text
from cdp_backfill.model.mapping import Mapping
from cdp_backfill.model.mapping_checks import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

    from cdp_backfill.sources import Source


_NO_VERSIONS: Final = (
    *("conversion", "diversion", "inversion", "reversion", "aversion"),
    "rebuild",
)
"""Words that end in version or build and are neither."""


def propose(
    table: Source,
    given: Mapping,
    passed: Collection[str] = (),
    now: datetime | None = None,
) -> Proposal:
    """Propose the fields that a mapping leaves out: from a preset, or from the table.

    Args:
        table: The table; it can be read more than once.
        given: The mapping of the caller.
        passed: Fields that the caller passed, even if they are at their default.
        now: The current time; None reads the clock.
    """
    names = list(table.schema.names)
    _check_columns(names, given)
    preset = detect_preset(table)
    if preset is not None:
        values = {item.name: getattr(given, item.name) for item in fields(Mapping)}
        fields_of_caller = {
            item.name: values[item.name]
            for item in fields(Mapping)
            if item.name in passed or values[item.name] not in (item.default, {}, None)
        }
        return propose_preset(table, preset, fields_of_caller, "its columns match")
    # Closed before the next reading: some tables have only one reader at a time.
    with closing(table.chunks(names)) as chunks:
        first = next(chunks, None)
    if first is None:
        empty = table.schema.empty_table()
        sample = pa.RecordBatch.from_arrays(
            [column.combine_chunks() for column in empty.columns], names
        )
    else:
        sample = first.batch
    return Inference(sample, _counter(table), now).propose(given, passed)


def translate_events(table: Source, given: Mapping, passed: Collection[str] = ()) -> Proposal:
    """Translate known spellings of events for a mapping that has who, what and when.

    Args:
        table: The table; it can be read more than once.
        given: The mapping of the caller.
        passed: Fields that the caller passed, even if they are at their default.
    """
    event = given.event
    if not isinstance(event, str) or event not in table.schema.names or "events" in passed:
        return Proposal(given)
    values = _counter(table)(event)
    if values is None:
        return Proposal(given)
    events, choices = translations(values, event)
    return Proposal(replace(given, events=events) if events else given, tuple(choices))


def version_columns(names: Collection[str]) -> frozenset[str]:
    """Columns whose name ends in version or build: 1.10 and 1.1 are two versions and one number."""
    return frozenset(name for name in names if _ends_in_version(split_words(name)))


def _ends_in_version(words: list[str]) -> bool:
    last = words[-1] if words else ""
    if last in _NO_VERSIONS:
        return False
    return last.endswith(("version", "build")) or last in ("ver", "vsn")


def _check_columns(names: list[str], given: Mapping) -> None:
    """Report an unknown column before any question is asked."""
    for name in given.columns():
        if name not in names and name not in given.derive:
            raise MappingError(
                f"There is no column {name!r}.{did_you_mean(name, names)} The table has "
                f"{', '.join(map(repr, names[:12]))}. For a constant, pass lit({name!r})."
            )


def _counter(table: Source) -> Callable[[str], dict[str, int] | None]:
    """A function that counts the values of a column, once for each column."""
    cache: dict[str, dict[str, int] | None] = {}

    def values_of(column: str) -> dict[str, int] | None:
        if column not in cache:
            cache[column] = _values(table, column)
        return cache[column]

    return values_of


def _values(table: Source, column: str) -> dict[str, int] | None:
    """The values of a column with their counts; None if there are too many."""
    counts: dict[str, int] = {}
    for chunk in table.chunks([column]):
        array = decode(chunk.batch.column(0))
        if not (can_be_text(array.type) or pa.types.is_boolean(array.type)):
            return None
        text, _ = as_text(array)
        for item in pc.value_counts(text.drop_null()).to_pylist():
            value: Any = item["values"]
            counts[value] = counts.get(value, 0) + item["counts"]
        if len(counts) > MANY_VALUES:
            return None
    return counts

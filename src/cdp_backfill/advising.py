"""Finds a mapping for a table that was given none, or not all of one."""

from __future__ import annotations

from contextlib import closing
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill import presets
from cdp_backfill.inference import MANY_VALUES, Inference
from cdp_backfill.mapping import Mapping
from cdp_backfill.messages.text import as_text, can_be_text, decoded

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from cdp_backfill.proposal import Proposal
    from cdp_backfill.sources import Source


def propose(
    table: Source,
    given: Mapping,
    said: Collection[str] = (),
    now: datetime | None = None,
) -> Proposal:
    """Propose what a mapping does not say: by a preset, or else by looking at the table.

    Args:
        table: The table; it can be read more than once.
        given: What is said.
        said: Fields that are said even if they are at their default.
        now: The current time.
    """
    names = list(table.schema.names)
    preset = presets.detect(names)
    if preset is not None:
        values = {item.name: getattr(given, item.name) for item in fields(Mapping)}
        kept = {
            item.name: values[item.name]
            for item in fields(Mapping)
            if item.name in said or values[item.name] not in (item.default, {}, None)
        }
        return preset.proposal(names, kept, "its columns tell")
    # Closed before anything else is read: some tables have but one reader at a time.
    with closing(table.chunks(names)) as chunks:
        first = next(chunks, None)
    if first is None:
        empty = table.schema.empty_table()
        sample = pa.RecordBatch.from_arrays(
            [column.combine_chunks() for column in empty.columns], names
        )
    else:
        sample = first.batch
    counted: dict[str, dict[str, int] | None] = {}

    def values_of(column: str) -> dict[str, int] | None:
        if column not in counted:
            counted[column] = _values(table, column)
        return counted[column]

    return Inference(sample, values_of, now).propose(given, said)


def _values(table: Source, column: str) -> dict[str, int] | None:
    """How often each value of a column occurs; None where there are too many of them."""
    found: dict[str, int] = {}
    for chunk in table.chunks([column]):
        array = decoded(chunk.batch.column(0))
        if not (can_be_text(array.type) or pa.types.is_boolean(array.type)):
            return None
        text, _ = as_text(array)
        for item in pc.value_counts(text.drop_null()).to_pylist():
            value: Any = item["values"]
            found[value] = found.get(value, 0) + item["counts"]
        if len(found) > MANY_VALUES:
            return None
    return found

"""Event names: the values of the event column, translated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.messages.text import as_text, decode
from cdp_backfill.messages.values import bad_text
from cdp_backfill.model import api_facts
from cdp_backfill.model.mapping import Lit
from cdp_backfill.model.outcomes import UNMAPPED, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp_backfill.model.arrays import Mask
    from cdp_backfill.model.mapping import Mapping


_SKIPPED_REASON: Final = "the mapping leaves this event out"
_UNMAPPED_REASON: Final = "nobody mapped this value of the event column"


@dataclass(frozen=True, slots=True)
class EventNames:
    """The event names of a batch.

    Attributes:
        names: Arrow array of event names; null where a row has none.
        problems: A mask of the rows that have each problem.
        skipped: True for rows that the mapping leaves out.
        keys: Keys of the mapping's ``events`` that occur.
        unknown: Rows by value of the event column that is no event.
        trimmed: Number of values that had white space around them.
    """

    names: Any
    problems: dict[Problem, Mask]
    skipped: Mask
    keys: frozenset[str] = frozenset()
    unknown: dict[str, int] = field(default_factory=dict)
    trimmed: int = 0


def read_events(mapping: Mapping, columns: dict[str, Any], size: int) -> EventNames:
    """Read the event column, and translate its values.

    Args:
        mapping: The mapping.
        columns: The columns of a batch, by name.
        size: Number of rows of the batch.
    """
    none = np.zeros(size, dtype=bool)
    if isinstance(mapping.event, Lit):
        return EventNames(pa.repeat(mapping.event.value, size), {}, none)
    column = str(mapping.event)
    text, bad = as_text(decode(columns[column]))
    text = text.cast(pa.string())
    trimmed = pc.utf8_trim_whitespace(text)
    known = dict(mapping.events)
    for name in api_facts.EVENTS:
        known.setdefault(name, name)
    keys = pa.array(list(known), pa.string())
    # A value that the mapping translates counts, even if it is blank.
    positions = pc.coalesce(pc.index_in(text, value_set=keys), pc.index_in(trimmed, value_set=keys))
    names = pa.array(list(known.values()), pa.string()).take(positions)
    used = frozenset(keys.take(pc.unique(positions.drop_null())).to_pylist())
    unknown = names.is_null().to_numpy(zero_copy_only=False)
    missing = unknown & ~bad & _blank(trimmed)
    if mapping.nulls:
        empty = pc.is_in(trimmed, value_set=pa.array(mapping.nulls, pa.string()))
        missing |= unknown & empty.to_numpy(zero_copy_only=False)
    unknown = unknown & ~bad & ~missing
    others: dict[str, int] = {}
    if unknown.any():
        counted = pc.value_counts(trimmed.filter(pa.array(unknown))).to_pylist()
        others = {item["values"]: item["counts"] for item in counted}
    padded = pc.and_(pc.not_equal(trimmed, text), pa.array(~missing))
    padded = pc.sum(padded).as_py() or 0
    problems = {
        bad_text(column): bad,
        Problem("missing_event", column, f"column {column!r} is empty"): missing,
    }
    if mapping.other_events in ("skip", "unmapped"):
        return EventNames(names, problems, unknown, used, others, padded)
    if mapping.other_events == "send":
        return EventNames(pc.coalesce(names, trimmed), problems, none, used, others, padded)
    problems[
        Problem(
            "unknown_event",
            column,
            f"column {column!r} holds a value that is neither translated by events={{...}} nor one "
            "of the seven mobile-app events",
        )
    ] = unknown
    return EventNames(names, problems, none, used, others, padded)


def why_skipped(mapping: Mapping) -> Problem:
    """Why a mapping leaves out rows for their event."""
    column = mapping.event if isinstance(mapping.event, str) else None
    if mapping.other_events == "unmapped":
        return Problem(UNMAPPED, column, _UNMAPPED_REASON)
    return Problem("skipped", column, _SKIPPED_REASON)


def commands(mapping: Mapping, names: Any) -> Iterator[tuple[Problem, Mask]]:
    """The rows whose event is a command of the API that the mapping does not allow.

    Args:
        mapping: The mapping.
        names: Arrow array of event names.
    """
    if mapping.other_events != "send":  # then every name is one of the seven
        return
    refused = [name for name in api_facts.COMMANDS if name not in mapping.allow_commands]
    plain = pc.utf8_lower(pc.utf8_trim_whitespace(names))
    for name in refused:
        mask = pc.equal(plain, name.lower()).fill_null(False).to_numpy(zero_copy_only=False)
        if mask.any():
            column = mapping.event if isinstance(mapping.event, str) else "lit()"
            reason = f"{name!r} is a command of the API, not an event"
            yield Problem("command", column, reason), mask


def _blank(text: Any) -> Mask:
    """Null or empty."""
    blank = pc.equal(text, "")
    return np.asarray(blank.fill_null(True).to_numpy(zero_copy_only=False))

"""Sentences that plans and reports share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from cdp_backfill.messages.text import is_bytes, json_type
from cdp_backfill.messages.times import is_text
from cdp_backfill.messages.values import is_list

if TYPE_CHECKING:
    from cdp_backfill.inference.proposal import Proposal
    from cdp_backfill.model.outcomes import Problem

SKIPPED_REASON: Final = "the mapping leaves this event out"
DUPLICATE_REASON: Final = "an earlier row has the same message id"


def type_in_words(kind: Any) -> str:
    """An Arrow type for people: text is text, however it is stored."""
    types = pa.types
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return type_in_words(kind.value_type)
    if json_type(kind):
        return "JSON"
    words = (
        (is_text, "text"),
        (types.is_boolean, "boolean"),
        (types.is_integer, "integer"),
        (types.is_floating, "float"),
        (types.is_decimal, "decimal"),
        (types.is_timestamp, f"time, {getattr(kind, 'tz', None) or 'no zone'}"),
        (types.is_date, "date"),
        (types.is_struct, "object"),
        (types.is_map, "map"),
        (is_list, "list"),
        (is_bytes, "bytes"),
        (types.is_null, "empty"),
    )
    return next((word for fits, word in words if fits(kind)), str(kind))


def join_reasons(problems: tuple[Problem, ...]) -> str:
    """All reasons of a row in one text."""
    return "; ".join(problem.reason for problem in problems)


def mapping_notes(proposal: Proposal, naive: int, event_keys: set[str]) -> tuple[str, ...]:
    """What a plan and a report say about the use of a mapping.

    Args:
        proposal: The mapping.
        naive: Number of times that carry no zone.
        event_keys: Keys of the mapping's ``events`` that occur in the table.
    """
    mapping, notes = proposal.mapping, []
    if naive:
        zone = f"{mapping.timezone}, as timezone says" if mapping.timezone else "UTC"
        advice = "" if mapping.timezone else " If that is wrong, pass timezone='...'."
        notes.append(f"{naive:,} times carry no zone and are read as {zone}.{advice}")
    unused = [repr(key) for key in mapping.events if key not in event_keys]
    if unused and isinstance(mapping.event, str) and not proposal.preset:
        notes.append(
            f"No row of column {mapping.event!r} holds {', '.join(unused)}, which events= "
            "translates. Check the spelling."
        )
    return tuple(notes)

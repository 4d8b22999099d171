"""Sentences that plans and reports share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cdp_backfill.inference.proposal import Proposal
    from cdp_backfill.model.outcomes import Problem

SKIPPED_REASON: Final = "the mapping leaves this event out"
DUPLICATE_REASON: Final = "an earlier row has the same message id"


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

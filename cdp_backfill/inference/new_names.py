"""Gives the properties of a proposal the names that a caller chose."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from cdp_backfill.model.renaming import parse_rename, with_renamed, without_renamed

if TYPE_CHECKING:
    from cdp_backfill.inference.proposal import Proposal

_WHO_WHAT_WHEN: Final = ("user_id", "anonymous_id", "event", "timestamp", "message_id")


def with_new_names(proposal: Proposal, rename: Any) -> Proposal:
    """A proposal in which columns become properties under new names.

    What else it proposes stays: a version stays in the context, whatever its property is called.

    Args:
        proposal: The proposal.
        rename: Names of columns to the names of their properties.

    Raises:
        MappingError: A column is who, what or when, or a name is wrong.
    """
    names = parse_rename(rename)
    if not names:
        return proposal
    mapping = proposal.mapping
    with_renamed({name: getattr(mapping, name) for name in _WHO_WHAT_WHEN}, names)
    chosen = {name: column for column, name in names.items()}
    old = [f"column {column!r}" for column in names]
    return replace(
        proposal,
        mapping=replace(
            mapping,
            properties=without_renamed(mapping.properties, names) | chosen,
            expand=[name for name in mapping.expand if name not in names],
            drop=[name for name in mapping.drop if name not in names],
        ),
        choices=tuple(
            each
            for each in proposal.choices
            if each.value not in old or not each.field.startswith(("properties.", "expand"))
        ),
        left_out=tuple(each for each in proposal.left_out if each.column not in names),
    )

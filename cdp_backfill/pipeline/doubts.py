"""What a plan shows first: what needs an answer, what was assumed, and what stays out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdp_backfill.inference.proposal import Assumption
from cdp_backfill.model.plurals import count
from cdp_backfill.model.views import Section

if TYPE_CHECKING:
    from collections.abc import Mapping as AbstractMapping
    from collections.abc import Sequence

    from cdp_backfill.inference.proposal import Proposal, Question
    from cdp_backfill.model.outcomes import Fix

_MAX_NAMES: Final = 8
_UNITS: Final = {
    "epoch_s": "seconds",
    "epoch_ms": "milliseconds",
    "epoch_us": "microseconds",
    "epoch_ns": "nanoseconds",
}
_COUNTED: Final = ("timezone", "timestamp_unit")
"""Assumptions that a plan makes itself, because it has read the whole table."""


def assumptions_of(
    proposal: Proposal, naive: int, fixes: AbstractMapping[Fix, int], unnamed: Sequence[str]
) -> tuple[Assumption, ...]:
    """What a plan takes for granted, after it has read the whole table.

    Args:
        proposal: The mapping.
        naive: Number of times that carry no zone.
        fixes: Cells that were changed on reading, by the kind of change.
        unnamed: Columns that become properties under their own names.
    """
    mapping = proposal.mapping
    made = [each for each in proposal.assumptions if each.field not in _COUNTED]
    if naive and mapping.timezone is None:
        made.append(
            Assumption(
                "timezone",
                f"{naive:,} times carry no zone and are read as UTC.",
                "timezone='Europe/Berlin' or another zone",
            )
        )
    units = [
        f"{cells:,} numbers in {fix.column!r} are {_UNITS[fix.code]} since 1970"
        for fix, cells in fixes.items()
        if fix.code in _UNITS and fix.column == mapping.timestamp
    ]
    if units:
        made.append(
            Assumption(
                "timestamp_unit",
                f"{', and '.join(units)}, as their size shows.",
                "timestamp_unit='s', 'ms', 'us' or 'ns'",
            )
        )
    if unnamed:
        made.append(Assumption("rest", f"{_unnamed(unnamed)}.", "rest='drop'"))
    return tuple(made)


def _unnamed(names: Sequence[str]) -> str:
    listed = ", ".join(map(repr, names[:_MAX_NAMES]))
    more = f" and {len(names) - _MAX_NAMES} more" if names[_MAX_NAMES:] else ""
    one = len(names) == 1
    return (
        f"{count(len(names), 'column')} that the mapping does not name "
        f"{'becomes a property' if one else 'become properties'} under "
        f"{'its own name' if one else 'their own names'}: {listed}{more}"
    )


def doubt_sections(
    questions: Sequence[Question], assumptions: Sequence[Assumption], proposal: Proposal
) -> list[Section]:
    """The first tables of a plan.

    Args:
        questions: The open questions.
        assumptions: What is taken for granted.
        proposal: The mapping, with what stays out.
    """
    return [
        Section("Questions", (), [(each.field, str(each)) for each in questions]),
        Section(
            "What a cell means under each answer",
            (),
            [(each.field, each.example) for each in questions if each.example],
            from_table=True,
        ),
        Section(
            "Assumed",
            (),
            [(each.field, f"{each.text} If not, pass {each.otherwise}.") for each in assumptions],
        ),
        Section(
            "Left out as personal data; name a column to send it, or pass rest='all'",
            (),
            [(each.column, each.reason) for each in proposal.left_out],
        ),
    ]

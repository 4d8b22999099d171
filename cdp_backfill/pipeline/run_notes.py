"""The notes of a report: what a person should know about a run beyond its figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdp_backfill.pipeline.notes import DUPLICATE, harm_notes, mapping_notes

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.inference.proposal import Proposal
    from cdp_backfill.sources import Source


def run_notes(
    source: Source,
    proposal: Proposal,
    *,
    unread: int,
    naive: int,
    event_keys: set[str],
    duplicates: int,
    left_out: list[str],
) -> tuple[str, ...]:
    """The notes of a run.

    Args:
        source: The table.
        proposal: The mapping.
        unread: Rows that the run did not read.
        naive: Times without a time zone.
        event_keys: Keys of the mapping's ``events`` that occurred.
        duplicates: Rows that were skipped because an earlier row has the same message id.
        left_out: What is to be said about the rows that the call left out, if all were read.
    """
    # The rows that were not read may hold any key.
    all_read = source.rows is not None and not unread
    keys = event_keys if all_read else set(proposal.mapping.events)
    lines = [
        *(left_out if all_read else ()),
        *harm_notes(proposal.mapping),
        *source.notes,
        *mapping_notes(proposal, naive, keys),
    ]
    if source.rows is None:
        lines.append(f"{source.title} was not read to its end. Further rows are not counted.")
    elif unread and not source.ordered:
        lines.append(
            f"{unread:,} rows were not read. The failures do not include them, because a query can "
            "return its rows in another order each time. Send the whole query again; with a "
            "journal, rows that arrived are not sent twice."
        )
    if duplicates:
        lines.append(
            f"{duplicates:,} rows were skipped: {DUPLICATE.reason}. If that row was not "
            "delivered, these were not either. After a repair, send the whole table again."
        )
    return tuple(lines)


def canary_note(rows: int, journal: Path | str | None) -> str:
    """What to do after a canary.

    Args:
        rows: Rows of the canary.
        journal: The journal of the run.
    """
    path = str(journal) if journal else None
    return (
        f"This was a canary of the first {rows:,} rows. Look for a few of them in Customer.io: on "
        "the person's page, and in the incoming data of the source under Data & Integrations. "
        "Check names, times and properties, and that nobody was messaged. Events older than 30 "
        "days count for segments but do not show in activity logs. To send the other rows, send "
        f"again without canary and with journal={path!r}, or call resume({path!r}). Rows that "
        "arrived are not sent twice."
    )

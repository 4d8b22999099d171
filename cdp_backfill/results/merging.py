"""Two reports as one: what was sent again counts once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from cdp_backfill.model.outcomes import Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.results.failure_log import CombinedFailures
    from cdp_backfill.results.progress import Snapshot
    from cdp_backfill.results.reports import Report

_TIMELINE: Final = 1_000  # snapshots, as of a single run

_ADDED: Final = (
    "requests",
    "retries",
    "throttled",
    "body_bytes",
    "wire_bytes",
    "seconds",
    "delivered_before",
    "paused_seconds",
)

_SEVERAL: Final = (
    "This is the sum over several tables: none of them is known to hold failures of another. Where "
    "a whole table was sent a second time, the second report alone tells all of it."
)


def summed(first: Report, second: Report, account: CombinedFailures) -> dict[str, Any]:
    """The public fields of both as one.

    Args:
        first: The earlier report.
        second: The later one.
        account: What both together draw on.
    """
    counts = {
        name: rows - account.moved[name] + second.counts[name]
        for name, rows in first.counts.items()
    }
    # What had no answer the first time and was delivered the second may be there twice.
    doubtful = min(account.moved[Outcome.UNKNOWN], second.counts[Outcome.DELIVERED])
    doubtful += first.maybe_twice + second.maybe_twice
    fixes = dict(first.fixes)
    for fix, cells in second.fixes.items():
        fixes[fix] = fixes.get(fix, 0) + cells
    several = () if account.linked else (_SEVERAL,)
    return {name: getattr(first, name) + getattr(second, name) for name in _ADDED} | {
        "counts": counts,
        "fill": _fill(first, second),
        "maybe_twice": min(counts[Outcome.DELIVERED], doubtful),
        "max_in_flight": max(first.max_in_flight, second.max_in_flight),
        "timeline": _joined(first, second),
        "journal": _one_journal(first.journal, second.journal),
        "canary": None,
        "interrupted": first.interrupted or second.interrupted,
        "fixes": fixes,
        "notes": tuple(dict.fromkeys((*first.notes, *second.notes, *several))),
        "url": first.url if first.url == second.url else f"{first.url} and {second.url}",
    }


def _fill(first: Report, second: Report) -> float:
    """The share of both, each with the weight of its requests."""
    one, other = (report.requests - report.retries for report in (first, second))
    return (first.fill * one + second.fill * other) / (one + other) if one + other else 0.0


def _joined(first: Report, second: Report) -> tuple[Snapshot, ...]:
    """One run after the other, as if there had been no time between them."""
    rows = sum(first.counts.values()) - first.counts[Outcome.UNSENT]
    last = first.timeline[-1] if first.timeline else None
    later = (
        replace(
            item,
            seconds=item.seconds + first.seconds,
            rows=item.rows + rows,
            total=None if item.total is None else item.total + rows,
            not_delivered=item.not_delivered + _missing(first),
            requests=item.requests + first.requests,
            wire_bytes=item.wire_bytes + first.wire_bytes,
            paused_seconds=item.paused_seconds + first.paused_seconds,
            answers=item.answers + (last.answers if last else 0),
            answer_seconds=item.answer_seconds + (last.answer_seconds if last else 0.0),
        )
        for item in second.timeline
    )
    joined = [*first.timeline, *later]
    while len(joined) > _TIMELINE:
        joined = joined[::2]
    return tuple(joined)


def _missing(report: Report) -> int:
    settled = sum(report.counts[outcome] for outcome in Outcome if outcome.settled)
    return sum(report.counts.values()) - report.counts[Outcome.UNSENT] - settled


def _one_journal(first: Path | None, second: Path | None) -> Path | None:
    """The journal, unless there are two."""
    return first or second if None in (first, second) or first == second else None

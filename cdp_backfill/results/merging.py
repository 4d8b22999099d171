"""Adds up the results of two runs: a row that the second run sent again counts once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cdp_backfill.model.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cdp_backfill.model.outcomes import Fix
    from cdp_backfill.results.progress import Snapshot
    from cdp_backfill.results.run_stats import RunStats

_MAX_TIMELINE: Final = 1_000  # snapshots, as of a single run

SEVERAL_TABLES: Final = (
    "This report adds up runs over several tables: no table is known to hold failures of another. "
    "If you sent a whole table a second time, read the second report alone."
)


def merged_counts(
    first: dict[str, int], second: dict[str, int], resent: dict[str, int]
) -> dict[str, int]:
    """Rows by outcome.

    Args:
        first: Rows of the earlier run by outcome.
        second: Rows of the later run by outcome.
        resent: Rows that the later run sent again, by their outcome in the earlier run.
    """
    return {name: rows - resent[name] + second[name] for name, rows in first.items()}


def merged_stats(first: RunStats, second: RunStats, *, rows: int, resent_twice: int) -> RunStats:
    """The figures of both runs.

    Args:
        first: Figures of the earlier run.
        second: Figures of the later run.
        rows: Rows of both runs, each once.
        resent_twice: Rows that the later run sent again and that both runs count as maybe arrived
            twice.
    """
    stats = first + second
    return replace(stats, maybe_twice=min(rows, stats.maybe_twice - resent_twice))


def merged_fixes(first: dict[Fix, int], second: dict[Fix, int]) -> dict[Fix, int]:
    """Changed cells by what was done."""
    fixes = dict(first)
    for fix, cells in second.items():
        fixes[fix] = fixes.get(fix, 0) + cells
    return fixes


def merged_notes(*notes: Iterable[str]) -> tuple[str, ...]:
    """The notes of both runs, each once."""
    return tuple(dict.fromkeys(note for group in notes for note in group))


def merged_journal(first: Path | str | None, second: Path | str | None) -> Path | str | None:
    """The journal, or None if there are two."""
    return first or second if None in (first, second) or first == second else None


def merged_timeline(
    first: tuple[Snapshot, ...],
    second: tuple[Snapshot, ...],
    *,
    counts: dict[str, int],
    stats: RunStats,
) -> tuple[Snapshot, ...]:
    """The timeline of both runs, as if the second began when the first ended.

    Args:
        first: Timeline of the earlier run.
        second: Timeline of the later run.
        counts: Rows of the earlier run by outcome.
        stats: Figures of the earlier run.
    """
    rows = sum(counts.values()) - counts[Outcome.UNSENT]
    not_delivered = rows - sum(counts[outcome] for outcome in Outcome if outcome.settled)
    later = (
        replace(
            item,
            rows=item.rows + rows,
            total=None if item.total is None else item.total + rows,
            not_delivered=item.not_delivered + not_delivered,
            stats=stats + item.stats,
        )
        for item in second
    )
    timeline = [*first, *later]
    while len(timeline) > _MAX_TIMELINE:
        timeline = timeline[::2]
    return tuple(timeline)

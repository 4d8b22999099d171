"""What a report shows: its headline, tables and notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdp_backfill.model.outcomes import PROBLEMS, UNMAPPED, Outcome
from cdp_backfill.model.plurals import count
from cdp_backfill.model.views import Section, View, duration, duration_range, fixes_section
from cdp_backfill.results.progress import megabytes
from cdp_backfill.results.remedies import remedy

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cdp_backfill.model.mapping import Call
    from cdp_backfill.model.outcomes import Fix
    from cdp_backfill.results.reasons import FailureReason
    from cdp_backfill.results.run_stats import RunStats


def headline(
    counts: dict[str, int],
    *,
    unmapped: int = 0,
    canary: int | None,
    interrupted: bool,
    call: Call = "track",
) -> str:
    """The result of a run in one line.

    Args:
        counts: Rows by outcome.
        unmapped: Skipped rows whose event value nobody mapped.
        canary: Rows to send as a canary, or None.
        interrupted: Whether the run was interrupted.
        call: What the rows became.
    """
    subject = "Identities" if call == "identify" else "Backfill"
    rows = sum(counts.values())
    delivered, skipped = counts[Outcome.DELIVERED], counts[Outcome.SKIPPED] - unmapped
    held = counts[Outcome.HELD]
    missing = rows - delivered - skipped - held
    suffix = f", {skipped:,} skipped on purpose" if skipped else ""
    suffix += f", {held:,} held on request" if held else ""
    suffix += f", {unmapped:,} of an unmapped event" if unmapped and canary is not None else ""
    if not rows:
        return f"{subject}: {'no row was counted' if interrupted else 'the table has no rows'}"
    if canary is not None and not interrupted:
        first = min(canary, rows)
        return f"Canary: {delivered:,} of the first {first:,} rows delivered{suffix}"
    if skipped == rows:
        return f"{subject}: nothing to send, all {skipped:,} rows are skipped on purpose"
    if not missing and not delivered:
        return f"{subject}: nothing to send now{suffix}"
    if not missing:
        return f"{subject}: all {delivered:,} rows delivered{suffix}"
    return f"{subject}: {missing:,} of {rows:,} rows not delivered{suffix}"


def report_view(
    title: str,
    *,
    counts: dict[str, int],
    stats: RunStats,
    planned: tuple[float, float] | None,
    reasons: Sequence[FailureReason],
    skipped: Sequence[FailureReason],
    fixes: dict[Fix, int],
    notes: Sequence[str],
    url: str,
    journal: Path | str | None,
    interrupted: bool,
    identities: dict[str, int] | None,
    alerts: list[str],
    quote_server: bool = True,
) -> View:
    """The tables and notes of a report.

    Args:
        title: The headline.
        counts: Rows by outcome.
        stats: The figures of the run.
        planned: Least and most seconds that a plan expected, or None.
        reasons: Why rows were not delivered.
        skipped: Why rows were skipped on purpose.
        fixes: Cells that were changed on the way, by what was done.
        notes: Notes of the run.
        url: The address that the rows were sent to.
        journal: The journal, or None.
        interrupted: Whether the run was interrupted.
        identities: Identities by outcome, or None if there are none.
        alerts: Sentences for the top.
        quote_server: Show what the server said about rows, which can quote them.
    """
    by_reason: list[tuple[object, ...]] = [
        (
            item.rows,
            item.outcome,
            item.code,
            f"{item.reason if quote_server else item.own_words}. {remedy(item)}".strip(),
        )
        for item in reasons
    ]
    return View(
        title,
        [
            Section("Identities by outcome, sent first", (), _by_outcome(identities or {})),
            Section("Rows by outcome", (), _by_outcome(counts)),
            Section("Not delivered, by reason", ("rows", "outcome", "code", "reason"), by_reason),
            Section(
                "Skipped on purpose, by reason",
                ("rows", "code", "reason"),
                [(item.rows, item.code, item.reason) for item in skipped],
            ),
            fixes_section(fixes),
            Section(f"Sent to {url}", (), _traffic(counts, stats, planned, journal)),
        ],
        [*notes, *_notes(counts, stats, is_missing=bool(reasons))],
        [*_interruption(counts, interrupted=interrupted), *alerts],
    )


def unmapped_alerts(rows: int) -> list[str]:
    """Rows that were left out although nobody chose so."""
    if not rows:
        return []
    alert = (
        f"{count(rows, 'row')} {'was' if rows == 1 else 'were'} left out and "
        f"{'counts' if rows == 1 else 'count'} as missing: nobody mapped "
        f"{'its' if rows == 1 else 'their'} value of the event column. {PROBLEMS[UNMAPPED]}"
    )
    return [alert]


def identities_alerts(counts: dict[str, int], *, is_canary: bool) -> list[str]:
    """How many people may not be joined with their anonymous events.

    Args:
        counts: Identities by outcome.
        is_canary: Unsent ones wait for their turn.
    """
    missing = {
        name: rows
        for name, rows in counts.items()
        if rows and not Outcome(name).settled and not (is_canary and name == Outcome.UNSENT)
    }
    if not missing:
        return []
    total, listed = sum(missing.values()), ", ".join(f"{n:,} {name}" for name, n in missing.items())
    alert = (
        f"{total:,} of {count(sum(counts.values()), 'identity', 'identities')} "
        f"{'was' if total == 1 else 'were'} not delivered ({listed}): up to "
        f"{count(total, 'person', 'people')} may not be joined with their anonymous events. "
        "report.identities.failures has them."
    )
    return [alert]


def _by_outcome(counts: dict[str, int]) -> list[tuple[object, ...]]:
    return [(rows, name) for name, rows in counts.items() if rows]


def _traffic(
    counts: dict[str, int],
    stats: RunStats,
    planned: tuple[float, float] | None,
    journal: Path | str | None,
) -> list[tuple[object, ...]]:
    rows = sum(counts.values()) - counts[Outcome.UNSENT]
    rate = rows / stats.seconds if stats.seconds else 0.0
    expected = "" if planned is None else f"; the plan expected {duration_range(planned)}"
    retries = f"{stats.retries:,} of them retries, " if stats.retries else ""
    lines: list[tuple[object, ...]] = [
        (duration(stats.seconds), f"{rate:,.0f} rows/s{expected}"),
        (
            f"{stats.requests:,} request{'' if stats.requests == 1 else 's'}",
            f"{retries}{stats.fill:.0%} full on average",
        ),
        (megabytes(stats.body_bytes), f"delivered; {megabytes(stats.wire_bytes)} sent, compressed"),
        (f"up to {stats.max_in_flight:,}", "requests in flight"),
    ]
    if stats.throttled:
        lines.append((f"{stats.throttled:,} x 429", "the server asked to slow down"))
    if stats.paused_seconds:
        lines.append((duration(stats.paused_seconds), "paused at the server's request"))
    if journal:
        lines.append(("journal", str(journal)))
    return lines


def _interruption(counts: dict[str, int], *, interrupted: bool) -> list[str]:
    """What the top of a report says about the stop button."""
    if not interrupted or not counts[Outcome.UNSENT]:
        return []
    return ["The run was interrupted. The rows that it did not send are 'unsent'."]


def _notes(counts: dict[str, int], stats: RunStats, *, is_missing: bool) -> list[str]:
    notes = []
    if stats.maybe_twice:
        notes.append(
            f"Up to {stats.maybe_twice:,} rows may have arrived twice: an earlier attempt got no "
            "answer, or an earlier run with this journal crashed or was interrupted. Both copies "
            "have the same message id."
        )
    if stats.delivered_before:
        notes.append(
            f"{stats.delivered_before:,} of the delivered rows were delivered by an earlier run, "
            "according to the journal, and were not sent again."
        )
    if is_missing or any(rows for name, rows in counts.items() if not Outcome(name).settled):
        notes.append(
            "report.failures has the rows, each with its reason. report.by_reason() shows what to "
            "do about each reason."
        )
    return notes

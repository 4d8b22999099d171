"""The texts and figures that all displays share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdp_backfill.model.outcomes import Outcome
from cdp_backfill.printable import printable
from cdp_backfill.results.progress.snapshots import State

if TYPE_CHECKING:
    from cdp_backfill.results.progress.pace import Pace
    from cdp_backfill.results.progress.snapshots import Snapshot

_STATES = {
    State.RUNNING: "",
    State.STOPPING: " stopping",
    State.DONE: " done",
    State.INTERRUPTED: " interrupted",
    State.STOPPED: " stopped by an error",
}


def title(snapshot: Snapshot) -> str:
    """What runs, and its state.

    >>> from cdp_backfill.results.progress.snapshots import Snapshot
    >>> from cdp_backfill.results.run_stats import RunStats
    >>> title(Snapshot(1, 2, 0, 1, call="identify", stats=RunStats()))
    'Identities'
    """
    subject = "Identities" if snapshot.call == "identify" else "Backfill"
    return f"{subject}{_STATES[snapshot.state]}"


def megabytes(size: int) -> str:
    """A size in kB or MB.

    >>> megabytes(1_234_567)
    '1.2 MB'
    """
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"  # noqa: PLR2004


def remaining_time(seconds: float) -> str:
    """A remaining time, in its two largest units.

    >>> [remaining_time(seconds) for seconds in (8, 151, 7_321, 200_000)]
    ['8 s', '2 min 31 s', '2 h 2 min', '55 h']
    """
    whole = round(seconds)
    minutes, hours = whole // 60, whole // 3_600
    if not minutes:
        return f"{whole} s"
    if not hours:
        return f"{minutes} min {whole % 60} s" if minutes < 10 else f"{minutes} min"  # noqa: PLR2004
    return f"{hours} h {minutes % 60} min" if hours < 24 else f"{hours:,} h"  # noqa: PLR2004


def elapsed_time(seconds: float) -> str:
    """An elapsed time, with decimals below ten seconds.

    >>> elapsed_time(0.042), elapsed_time(5.23), elapsed_time(151)
    ('0.04 s', '5.2 s', '2 min 31 s')
    """
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    return remaining_time(seconds)


def short_number(number: float) -> str:
    """A number in at most five characters.

    >>> [short_number(number) for number in (7, 999.6, 12_345, 4_210_000, 10**9)]
    ['7', '1k', '12.3k', '4.21M', '1B']
    """
    size = float(round(number))
    for unit in ("", "k", "M", "B"):
        if size < 999.5 or unit == "B":  # noqa: PLR2004
            break
        size /= 1_000
    places = 0 if not unit or size >= 99.95 else 1 if size >= 9.995 else 2  # noqa: PLR2004
    text = f"{size:.{places}f}"
    return (text.rstrip("0").rstrip(".") if places else text) + unit


def percent(snapshot: Snapshot) -> str:
    """The share of rows with an outcome, rounded down.

    >>> from cdp_backfill.results.progress.snapshots import Snapshot
    >>> from cdp_backfill.results.run_stats import RunStats
    >>> percent(Snapshot(9_999, 10_000, 0, 1, stats=RunStats()))
    '99%'
    """
    return "?" if snapshot.share is None else f"{int(100 * snapshot.share)}%"


def row_count(snapshot: Snapshot) -> str:
    """The number of rows with an outcome, and of all rows if that is known; or that of tasks.

    >>> from cdp_backfill.results.progress.snapshots import Snapshot
    >>> from cdp_backfill.results.run_stats import RunStats
    >>> row_count(Snapshot(0, None, 0, 0, tasks=(3, 8), stats=RunStats()))
    '3 of 8 tasks'
    """
    if snapshot.tasks is not None:
        ended, tasks = snapshot.tasks
        return f"{ended:,} of {tasks:,} {'task' if tasks == 1 else 'tasks'}"
    total = "" if snapshot.total is None else f" of {snapshot.total:,}"
    one = (snapshot.rows if snapshot.total is None else snapshot.total) == 1
    return f"{snapshot.rows:,}{total} {'row' if one else 'rows'}"


def speed(pace: Pace) -> list[str]:
    """The rate and the remaining time, or the elapsed time and the average rate."""
    now, rate = pace.now, pace.rate
    if now.tasks is not None:
        return [f"after {elapsed_time(now.seconds)}"]
    rows = "? rows/s" if rate is None else f"{rate:,.0f} rows/s"
    if now.state.ended:
        return [f"in {elapsed_time(now.seconds)}", rows]
    if now.state is State.STOPPING:
        return [rows]
    seconds = pace.seconds_left
    return [rows, f"{'?' if seconds is None else remaining_time(seconds)} left"]


def outcomes(snapshot: Snapshot) -> list[str]:
    """Rows by outcome, without zeros."""
    return [f"{snapshot.counts[name]:,} {name}" for name in Outcome if snapshot.counts.get(name)]


def traffic(pace: Pace) -> list[str]:
    """The activity, the requests in flight and the requests and bytes sent."""
    now = pace.now
    if now.tasks is not None:  # only the engine knows
        return []
    requests = f"{now.requests:,} request{'' if now.requests == 1 else 's'}"
    sent = f"{megabytes(now.wire_bytes)} sent"
    if now.state.ended:
        return [requests, sent]
    return [pace.activity, in_flight(now), requests, sent]


def in_flight(snapshot: Snapshot) -> str:
    """The number of requests in flight and its present limit."""
    limit = f" (limit {snapshot.level:,})" if snapshot.level else ""
    return f"{snapshot.in_flight:,} in flight{limit}"


def reasons(snapshot: Snapshot) -> list[str]:
    """The most frequent reasons, one text each."""
    reasons = (f"{each.rows:,} x {each.code}: {each.words}" for each in snapshot.reasons)
    return [printable(reason) for reason in reasons]

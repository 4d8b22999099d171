"""The words and figures of a run in progress, the same for every place that shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdp_backfill.model.outcomes import Outcome
from cdp_backfill.results.progress.snapshots import State

if TYPE_CHECKING:
    from cdp_backfill.results.progress.pace import Pace
    from cdp_backfill.results.progress.snapshots import Snapshot

TITLES = {
    State.RUNNING: "Backfill",
    State.STOPPING: "Backfill stopping",
    State.DONE: "Backfill done",
    State.INTERRUPTED: "Backfill interrupted",
    State.STOPPED: "Backfill stopped by an error",
}


def megabytes(size: int) -> str:
    """A size for people.

    >>> megabytes(1_234_567)
    '1.2 MB'
    """
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"  # noqa: PLR2004


def span(seconds: float) -> str:
    """A stretch of time that is still to come, in its two largest units.

    >>> span(8), span(151), span(7_321), span(200_000)
    ('8 s', '2 min 31 s', '2 h 2 min', '55 h')
    """
    whole = round(seconds)
    minutes, hours = whole // 60, whole // 3_600
    if not minutes:
        return f"{whole} s"
    if not hours:
        return f"{minutes} min {whole % 60} s" if minutes < 10 else f"{minutes} min"  # noqa: PLR2004
    return f"{hours} h {minutes % 60} min" if hours < 24 else f"{hours:,} h"  # noqa: PLR2004


def taken(seconds: float) -> str:
    """A stretch of time that is over; short ones more closely.

    >>> taken(0.042), taken(5.23), taken(151)
    ('0.04 s', '5.2 s', '2 min 31 s')
    """
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    return span(seconds)


def short(number: float) -> str:
    """A number in at most five characters.

    >>> [short(number) for number in (7, 999.6, 12_345, 4_210_000, 10**9)]
    ['7', '1k', '12.3k', '4.21M', '1B']
    """
    size = float(round(number))
    for unit in ("", "k", "M", "B"):
        if size < 999.5 or unit == "B":  # noqa: PLR2004
            break
        size /= 1_000
    places = 0 if not unit or size >= 99.95 else 1 if size >= 9.995 else 2  # noqa: PLR2004
    shown = f"{size:.{places}f}"
    return (shown.rstrip("0").rstrip(".") if places else shown) + unit


def percent(snapshot: Snapshot) -> str:
    """The share that is done; never rounded up to the whole.

    >>> from cdp_backfill.results.progress.snapshots import Snapshot
    >>> from cdp_backfill.results.run_stats import RunStats
    >>> percent(Snapshot(9_999, 10_000, 0, 1, stats=RunStats()))
    '99%'
    """
    return "?" if snapshot.share is None else f"{int(100 * snapshot.share)}%"


def amount(snapshot: Snapshot) -> str:
    """How many rows of how many."""
    of = "" if snapshot.total is None else f" of {snapshot.total:,}"
    one = (snapshot.rows if snapshot.total is None else snapshot.total) == 1
    return f"{snapshot.rows:,}{of} {'row' if one else 'rows'}"


def speed(pace: Pace) -> list[str]:
    """The rate and the time left, or the time taken and the average."""
    now, rate = pace.now, pace.rate
    rows = "? rows/s" if rate is None else f"{rate:,.0f} rows/s"
    if now.state.ended:
        return [f"in {taken(now.seconds)}", rows]
    if now.state is State.STOPPING:
        return [rows]
    left = pace.seconds_left
    return [rows, f"{'?' if left is None else span(left)} left"]


def outcomes(snapshot: Snapshot) -> list[str]:
    """Rows by outcome, as far as there are any."""
    return [f"{snapshot.counts[name]:,} {name}" for name in Outcome if snapshot.counts.get(name)]


def traffic(pace: Pace) -> list[str]:
    """What goes over the wire, and what decides about its speed."""
    now = pace.now
    requests = f"{now.requests:,} request{'' if now.requests == 1 else 's'}"
    sent = f"{megabytes(now.wire_bytes)} sent"
    if now.state.ended:
        return [requests, sent]
    return [pace.doing, f"{now.in_flight:,} in flight", requests, sent]


def reasons(snapshot: Snapshot) -> list[str]:
    """The most frequent reasons, one each."""
    return [f"{reason.rows:,} x {reason.code}: {reason.words}" for reason in snapshot.reasons]

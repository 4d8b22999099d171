"""Shows how a run is doing: on a terminal, in a notebook, in a log, or not at all."""

from __future__ import annotations

import sys
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tqdm import tqdm

from cdp_backfill.surroundings import in_notebook

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

_TIMELINE = 1_000

LOG_SECONDS = 10.0
"""Time between two lines in a log."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How a run is doing.

    Attributes:
        rows: Rows that have an outcome.
        total: Rows in all, or None where nobody knows.
        not_delivered: Rows among them that did not arrive, skipped ones aside.
        requests: Requests sent.
        wire_bytes: Bytes sent.
        in_flight: Requests under way.
        level: Requests that may be under way, as the governor has found.
        paused_seconds: How long the server made everyone wait.
        seconds: Since the run began.
        answers: Answers that came.
        answer_seconds: How long all of these took together.
    """

    rows: int
    total: int | None
    not_delivered: int
    requests: int
    wire_bytes: int
    in_flight: int
    level: int = 0
    paused_seconds: float = 0.0
    seconds: float = 0.0
    answers: int = 0
    answer_seconds: float = 0.0


class Timeline:
    """Keeps a few snapshots of a run, however long it takes: at most 1,000, evenly spread."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []
        self._interval = 0.1
        self._due = 0.0

    def add(self, snapshot: Snapshot, *, last: bool = False) -> None:
        """Keep it if it is time for one, or if it is the last."""
        if last or snapshot.seconds >= self._due:
            self.snapshots.append(snapshot)
            if len(self.snapshots) >= _TIMELINE:
                self.snapshots = self.snapshots[::2]
                self._interval *= 2
            self._due = snapshot.seconds + self._interval


class Progress(Protocol):
    """Something that shows snapshots."""

    def update(self, snapshot: Snapshot) -> None:
        """Show how it is now."""
        ...

    def close(self) -> None:
        """Show no more."""
        ...


class Silence:
    """Shows nothing."""

    def update(self, snapshot: Snapshot) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Show nothing."""


class Bar:
    """A tqdm bar, for a terminal or a notebook.

    Args:
        total: Rows in all, or None.
        options: More for tqdm.
    """

    def __init__(self, total: int | None, **options: Any) -> None:
        self._bar = tqdm(
            total=total, desc="Backfill", unit=" rows", unit_scale=True, mininterval=0.2, **options
        )

    def update(self, snapshot: Snapshot) -> None:
        """Move the bar."""
        self._bar.set_postfix(
            sent=megabytes(snapshot.wire_bytes),
            requests=snapshot.requests,
            in_flight=f"{snapshot.in_flight}/{snapshot.level}",
            failures=snapshot.not_delivered,
            refresh=False,
        )
        self._bar.update(snapshot.rows - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.refresh()
        self._bar.close()


class Log:
    """A line from time to time, for output that is no terminal.

    Args:
        file: Where to; None for the standard error stream.
        clock: Seconds that only go forward.
    """

    def __init__(
        self, file: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._file = file
        self._clock = clock
        self._started = clock()
        self._due = self._started + LOG_SECONDS
        self._last: Snapshot | None = None

    def update(self, snapshot: Snapshot) -> None:
        """Write a line if it is time for one."""
        self._last = snapshot
        if self._clock() >= self._due:
            self._due = self._clock() + LOG_SECONDS
            self._write(snapshot)

    def close(self) -> None:
        """Write a last line."""
        if self._last is not None:
            self._write(self._last)

    def _write(self, snapshot: Snapshot) -> None:
        seconds = max(self._clock() - self._started, 1e-9)
        share = (
            f" of {snapshot.total:,} ({snapshot.rows / snapshot.total:.0%})"
            if snapshot.total
            else ""
        )
        print(  # a progress line is what was asked for
            f"Backfill: {snapshot.rows:,}{share} rows, {snapshot.rows / seconds:,.0f} rows/s, "
            f"{megabytes(snapshot.wire_bytes)} sent, {snapshot.requests:,} requests, "
            f"{snapshot.in_flight}/{snapshot.level} in flight, {snapshot.not_delivered:,} failures",
            file=self._file or sys.stderr,
            flush=True,
        )


class Unbreakable:
    """Passes snapshots on, and stops doing so at the first error: a display must not end a run.

    Args:
        shown: What shows them.
    """

    def __init__(self, shown: Progress) -> None:
        self._shown: Progress | None = shown

    def update(self, snapshot: Snapshot) -> None:
        """Show how it is now, if that works."""
        self._try(lambda shown: shown.update(snapshot))

    def close(self) -> None:
        """Show no more."""
        self._try(lambda shown: shown.close())

    def _try(self, action: Callable[[Progress], None]) -> None:
        if self._shown is not None:
            try:
                action(self._shown)
            except Exception as error:  # noqa: BLE001  # whatever a display can raise
                self._shown = None
                warnings.warn(
                    f"The progress display failed ({type(error).__name__}); the run goes on.",
                    RuntimeWarning,
                    stacklevel=4,
                )


def make_progress(wanted: bool | Progress, total: int | None) -> Progress:
    """Choose a display.

    Args:
        wanted: True for what suits the place, False for none, or a display of one's own.
        total: Rows in all, or None.
    """
    if wanted is False:
        return Silence()
    if wanted is not True:
        return Unbreakable(wanted)
    try:
        return Unbreakable(_suitable(total))
    except Exception:  # noqa: BLE001  # no display at all is better than no run
        return Silence()


def _suitable(total: int | None) -> Progress:
    if in_notebook():
        # Text, not a widget: it looks the same in every front end, and a saved notebook shows
        # where it ended rather than where it began.
        return Bar(total, file=sys.stdout)
    if sys.stderr.isatty():
        return Bar(total, dynamic_ncols=True)
    return Log()


def megabytes(size: int) -> str:
    """A size for people.

    >>> megabytes(1_234_567)
    '1.2 MB'
    """
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"  # noqa: PLR2004

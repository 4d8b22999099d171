"""How fast a run goes at the moment, and what holds it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from cdp_backfill.results.progress.snapshots import Snapshot, State
from cdp_backfill.results.run_stats import RunStats

if TYPE_CHECKING:
    from collections.abc import Iterable

WINDOW_SECONDS: Final = 10.0
"""The rate is that of so many seconds."""

_STEP: Final = 0.2  # seconds between two snapshots that are kept
_FIRST: Final = 1.0  # before this, a rate tells little
_LATELY: Final = 4.0
_QUIET: Final = 1.5  # seconds without a request after which it is worth a word

_BEGINNING: Final = Snapshot(rows=0, total=None, not_delivered=0, in_flight=0, stats=RunStats())


class Pace:
    """Learns from snapshots how fast a run goes.

    An average since the start would hide that a run got slower, and promise too much or too little
    for hours. The rate is that of the last ten seconds; before there are ten, of all there are.
    """

    def __init__(self) -> None:
        self.now = _BEGINNING
        self._kept: deque[Snapshot] = deque([_BEGINNING])
        self._departure = self._throttled = -1.0  # seconds: the last request, the last 429

    def add(self, snapshot: Snapshot) -> None:
        """Take in how it is now."""
        if snapshot.requests != self.now.requests:
            self._departure = snapshot.seconds
        if snapshot.throttled != self.now.throttled:
            self._throttled = snapshot.seconds
        self.now = snapshot
        if snapshot.seconds >= self._kept[-1].seconds + _STEP:
            self._kept.append(snapshot)
            # The newest of those that are older than the window is where it begins.
            while len(self._kept) > 2 and self._kept[1].seconds <= self._since(WINDOW_SECONDS):  # noqa: PLR2004
                self._kept.popleft()

    @property
    def rate(self) -> float | None:
        """Rows per second: lately, or of the whole run once it is over; None in its first second.

        >>> pace = Pace()
        >>> for second in range(31):
        ...     rows = 1_000 * min(second, 10) + 100 * max(0, second - 10)
        ...     pace.add(Snapshot(rows, 20_000, 0, 1, stats=RunStats(seconds=second)))
        >>> pace.rate
        100.0
        """
        now = self.now
        if now.state.ended:
            return now.rows / now.seconds if now.seconds else None
        begun = self._kept[0]
        if now.seconds < _FIRST or not now.rows:
            return None
        return (now.rows - begun.rows) / (now.seconds - begun.seconds)

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at this rate, or None where nobody can tell."""
        rate, now = self.rate, self.now
        if now.state.ended or now.state is State.STOPPING or now.total is None or not rate:
            return None
        return max(0, now.total - now.rows) / rate

    @property
    def doing(self) -> str:
        """What decides about the speed at the moment, in a few plain words; nothing at the end."""
        now = self.now
        if now.state.ended:
            return ""
        if now.state is State.STOPPING:
            return "stopping: what is under way may finish"
        if not now.requests:
            return "preparing the first request"
        quiet = now.seconds - self._departure
        if not now.in_flight and quiet >= _QUIET:
            if self._throttled >= self._departure:
                return f"waiting as the server asked, for {quiet:.0f} s now"
            return f"nothing sent for {quiet:.0f} s"
        if self._throttled >= 0 and self._throttled >= self._since(_LATELY):
            return "slowed down by 429"
        before = self._lately().level
        if now.level < before:
            return "slowed down: answers are slow or fail"
        if now.level > before:
            return "speeding up"
        return f"steady at {now.level}"

    @property
    def is_held(self) -> bool:
        """Whether something other than the rows and the limits decides about the speed."""
        return self.doing.startswith(("slowed", "waiting", "nothing"))

    def _since(self, seconds: float) -> float:
        return self.now.seconds - seconds

    def _lately(self) -> Snapshot:
        """The first of the last few seconds' snapshots with a request."""
        lately: Iterable[Snapshot] = (
            kept for kept in self._kept if kept.requests and kept.seconds >= self._since(_LATELY)
        )
        return next(iter(lately), self.now)

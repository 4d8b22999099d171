"""How fast a run is, how long it still takes, and what limits its speed."""

from __future__ import annotations

from collections import deque
from typing import Final

from cdp_backfill.results.progress.snapshots import Snapshot, State
from cdp_backfill.results.run_stats import RunStats

WINDOW_SECONDS: Final = 10.0
"""The rate is that of the last so many seconds."""

SETTLING_SECONDS: Final = 3.0
"""A time left is shown after so many seconds of sending at the earliest."""

_STEP: Final = 0.2  # seconds between two stored snapshots
_MIN_SECONDS: Final = 1.0  # an earlier rate would mean little
_ALIKE: Final = 0.5  # a rate is steady if one half of the window has this share of the other's
_BURSTS_SECONDS: Final = 30.0  # after that, answers that come in bursts have shown their average
_RECENT_SECONDS: Final = 4.0
_IDLE_SECONDS: Final = 1.5  # without a request for so long, the display says so

_BEGINNING: Final = Snapshot(rows=0, total=None, not_delivered=0, in_flight=0, stats=RunStats())


class Pace:
    """Computes from snapshots how fast a run is.

    The rate is that of the last ten seconds, or of all sending if it is younger. An average since
    the start would hide a change of speed, and so give a wrong remaining time for hours. What comes
    before the first answer (connecting, and the check of the key) does not count either: it says
    nothing about the rows to come. So there is no time left before the rate is steady.
    """

    def __init__(self) -> None:
        self.now = _BEGINNING
        self._window: deque[Snapshot] = deque([_BEGINNING])
        self._start = _BEGINNING  # the last snapshot before the first answer
        self._last_request = self._last_throttled = -1.0  # seconds since the start

    def add(self, snapshot: Snapshot) -> None:
        """Add the latest snapshot."""
        if snapshot.requests != self.now.requests:
            self._last_request = snapshot.seconds
        if snapshot.throttled != self.now.throttled:
            self._last_throttled = snapshot.seconds
        if not _is_moving(snapshot):
            self._start = snapshot
            self._window = deque([snapshot])
        self.now = snapshot
        if snapshot.seconds >= self._window[-1].seconds + _STEP:
            self._window.append(snapshot)
            # The window begins with the newest snapshot that is older than ten seconds.
            start = self._seconds_ago(WINDOW_SECONDS)
            while len(self._window) > 2 and self._window[1].seconds <= start:  # noqa: PLR2004
                self._window.popleft()

    @property
    def rate(self) -> float | None:
        """Rows per second: recently, or on average after the end; None in the first second.

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
        if now.seconds < self._start.seconds + _MIN_SECONDS or not now.rows:
            return None
        return self._rate_since(self._window[0])

    def _rate_since(self, first: Snapshot) -> float:
        """Rows per second since a snapshot."""
        seconds = self.now.seconds - first.seconds
        return (self.now.rows - first.rows) / seconds if seconds else 0.0

    @property
    def is_steady(self) -> bool:
        """Whether the rate says how fast the remaining rows will be sent."""
        sending = self.now.seconds - self._start.seconds
        if sending < SETTLING_SECONDS:
            return False
        first = self._window[0]
        half = (first.seconds + self.now.seconds) / 2
        middle = next((each for each in self._window if each.seconds >= half), self.now)
        if middle in (first, self.now):  # a display that is rarely updated
            return True
        before = (middle.rows - first.rows) / (middle.seconds - first.seconds)
        slower, faster = sorted((before, self._rate_since(middle)))
        return slower > _ALIKE * faster or (slower > 0 and sending >= _BURSTS_SECONDS)

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the remaining rows take at this rate; None until the rate is steady."""
        rate, now = self.rate, self.now
        if now.state.ended or now.state is State.STOPPING or now.total is None or not rate:
            return None
        if not self.is_steady:
            return None
        return max(0, now.total - now.rows) / rate

    @property
    def activity(self) -> str:
        """What the run is doing, in a few words; empty once it has ended."""
        now = self.now
        if now.state.ended:
            return ""
        if now.state is State.STOPPING:
            return "stopping: waiting for requests in flight"
        if not now.requests:
            return "preparing the first request"
        if now.seconds_away >= _IDLE_SECONDS:
            return f"the server has been away for {now.seconds_away:.0f} s, waiting"
        idle = now.seconds - self._last_request
        if not now.in_flight and idle >= _IDLE_SECONDS:
            if self._last_throttled >= self._last_request:
                return f"paused at the server's request for {idle:.0f} s"
            return f"nothing sent for {idle:.0f} s"
        if self._last_throttled >= 0 and self._last_throttled >= self._seconds_ago(_RECENT_SECONDS):
            return "slowed down by 429"
        earlier = self._first_recent().level
        if now.level < earlier:
            return "slowed down: slow or failed answers"
        if now.level > earlier:
            return "speeding up"
        return "steady"

    @property
    def is_slowed(self) -> bool:
        """Whether the server or the network slows the run down."""
        return self.activity.startswith(("slowed", "paused", "nothing", "the server"))

    def _seconds_ago(self, seconds: float) -> float:
        return self.now.seconds - seconds

    def _first_recent(self) -> Snapshot:
        """The first snapshot with a request of the last four seconds."""
        start = self._seconds_ago(_RECENT_SECONDS)
        recent = (each for each in self._window if each.requests and each.seconds >= start)
        return next(recent, self.now)


def _is_moving(snapshot: Snapshot) -> bool:
    """Whether rows get their outcomes: at the first answer, or without a request at once."""
    return snapshot.answers > 0 if snapshot.requests else snapshot.rows > 0

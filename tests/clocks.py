"""A clock that only moves when somebody waits, or when a test moves it."""

from __future__ import annotations

import threading


class FakeClock:
    """Stands in for the clock of a sender; see :class:`cdp_backfill.delivery.clock.Clock`."""

    def __init__(self) -> None:
        self._now = 1_000.0
        self._lock = threading.Lock()

    def now(self) -> float:
        """Seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock."""
        with self._lock:
            self._now += seconds

    def sleep(self, stopping: threading.Event, seconds: float) -> bool:
        """Move the clock by the time to wait."""
        self.advance(seconds)
        return stopping.is_set()

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        """Move the clock by the time to wait; without a time, wait for the notification."""
        if seconds is None:
            condition.wait()
        else:
            self.advance(max(0.0, seconds))

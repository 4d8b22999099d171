"""One rate for all workers."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Governor:
    """Hands out turns to send, evenly spaced, and can make all workers wait.

    Args:
        rate: Turns per second, or None for no limit.
        clock: Seconds that only go forward.
        sleep: Waits so many seconds; returns True where the run ends instead.
    """

    def __init__(
        self, rate: float | None, *, clock: Callable[[], float], sleep: Callable[[float], bool]
    ) -> None:
        self._interval = 0.0 if rate is None else 1.0 / rate
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next = self._pause_end = clock()

    def turn(self) -> bool:
        """Wait for a turn. False where the run ends instead."""
        while True:
            with self._lock:
                mine = max(self._next, self._pause_end, self._clock())
                self._next = mine + self._interval
            wait = mine - self._clock()
            if wait > 0 and self._sleep(wait):
                return False
            with self._lock:
                if self._pause_end <= self._clock():
                    return True  # else everyone was made to wait meanwhile: queue again

    def pause(self, seconds: float) -> None:
        """Let nobody have a turn for so many seconds."""
        with self._lock:
            self._pause_end = max(self._pause_end, self._clock() + seconds)

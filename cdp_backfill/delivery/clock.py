"""The time: a run reads it and waits through one object, so that a test need not wait."""

from __future__ import annotations

import threading
import time
from typing import Final, Protocol


class Clock(Protocol):
    """Tells the time and waits."""

    def now(self) -> float:
        """Monotonic time in seconds."""
        ...

    def sleep(self, stopping: threading.Event, seconds: float) -> bool:
        """Wait for so many seconds, or until an event is set. Returns whether it is set."""
        ...

    def condition(self, lock: threading.RLock) -> threading.Condition:
        """A condition on a lock, whose timeouts are those of this clock."""
        ...


class SystemClock:
    """The time of the machine."""

    def now(self) -> float:
        """Monotonic time in seconds."""
        return time.monotonic()

    def sleep(self, stopping: threading.Event, seconds: float) -> bool:
        """Wait for so many seconds, or until an event is set. Returns whether it is set."""
        return stopping.wait(min(seconds, threading.TIMEOUT_MAX))

    def condition(self, lock: threading.RLock) -> threading.Condition:
        """A condition on a lock, whose timeouts are those of this clock."""
        return threading.Condition(lock)


SYSTEM_CLOCK: Final = SystemClock()

"""A clock that only moves when everybody waits, or when a test moves it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK_AGAIN: Final = 0.005  # seconds of the machine; a thread that ended says nothing


class FakeClock:
    """Stands in for the clock of a sender; see :class:`cdp_backfill.delivery.clock.Clock`.

    While a thread that has ever waited is at work, the time stands still. When all wait, it goes to
    the earliest moment that one of them waits for, and that one goes on.
    """

    def __init__(self) -> None:
        self._now = 1_000.0
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._waits: dict[threading.Thread, _Wait] = {}

    def now(self) -> float:
        """Seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock."""
        with self._lock:
            self._now += seconds

    def sleep(self, stopping: threading.Event, seconds: float) -> bool:
        """Wait until the clock has moved by so much, or until an event is set."""
        self.wait(_Wait(self._now + seconds, stopping.is_set))
        return stopping.is_set()

    def condition(self, lock: Any) -> threading.Condition:
        """A condition whose timeouts are those of this clock."""
        return _Condition(self, lock)

    def wait(self, wait: _Wait) -> None:
        """Wait for the moment, or until somebody wakes this thread."""
        with self._lock:
            self._threads.add(threading.current_thread())
            self._waits[threading.current_thread()] = wait
            self._go_on()
        while not wait.over.wait(_LOOK_AGAIN):
            with self._lock:
                self._go_on()

    def wake(self, wait: _Wait) -> None:
        """End a wait; from here on, its thread is at work."""
        with self._lock:
            self._end(wait)

    def _end(self, wait: _Wait) -> None:
        for thread, each in [*self._waits.items()]:
            if each is wait:
                del self._waits[thread]
        wait.over.set()

    def _go_on(self) -> None:
        if any(thread not in self._waits and thread.is_alive() for thread in self._threads):
            return
        waits = [*self._waits.values()]
        interrupted = [wait for wait in waits if wait.is_interrupted()]
        timed = [wait for wait in waits if wait.until is not None]
        for wait in interrupted or sorted(timed, key=lambda wait: wait.until or 0.0)[:1]:
            if not interrupted:
                self._now = max(self._now, wait.until or 0.0)
            self._end(wait)


class _Wait:
    """One thread that waits."""

    def __init__(
        self, until: float | None, is_interrupted: Callable[[], bool] = lambda: False
    ) -> None:
        self.until = until
        self.is_interrupted = is_interrupted
        self.over = threading.Event()


class _Condition(threading.Condition):
    """A condition that tells the clock whom it wakes."""

    def __init__(self, clock: FakeClock, lock: Any) -> None:
        super().__init__(lock)
        self._clock = clock
        self._lock_of_callers = lock
        self._sleepers: list[_Wait] = []

    def wait(self, timeout: float | None = None) -> bool:
        wait = _Wait(None if timeout is None else self._clock.now() + timeout)
        self._sleepers.append(wait)
        self._lock_of_callers.release()
        try:
            self._clock.wait(wait)
        finally:
            self._lock_of_callers.acquire()
        is_notified = wait not in self._sleepers
        if not is_notified:
            self._sleepers.remove(wait)
        return is_notified

    def notify(self, n: int = 1) -> None:
        for wait in self._sleepers[:n]:
            self._sleepers.remove(wait)
            self._clock.wake(wait)

    def notify_all(self) -> None:
        self.notify(len(self._sleepers))

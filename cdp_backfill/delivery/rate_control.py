"""One rate and one concurrency for all workers."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

START: Final = 4
"""Requests in flight that a run begins with, unless the number is pinned."""

HIGHEST: Final = 128
"""Most that it finds by itself: enough for 1,000 requests a second at 128 ms each."""

_SLOWER: Final = 2.0
_SLACK_SECONDS: Final = 0.05
_HALVED: Final = 0.5
_EASED: Final = 0.9
_UNDER: Final = 0.9
_GROWTH: Final = 0.04
_SLOWEST: Final = 10.0


class RateControl:
    """Says when the next request may go, and how many may be under way.

    Turns to send are evenly spaced, and one refusal can make all workers wait. A 429 sets the pace
    to nine tenths of what was answered in the second before, or half of what was sent if that is
    more; from there it grows by four percent and one a second, up to the rate given. The level of
    concurrency doubles each round trip up to the first sign of strain, then grows by one each
    round trip as long as it is used; it is halved by 429, 5xx and broken connections, and eased off
    when answers take longer than twice the quickest.

    Args:
        rate: Turns per second, or None for no limit.
        pinned: A fixed level, or None to find one.
        clock: Seconds that only go forward.
        sleep: Waits so many seconds; returns True where the run ends instead.
    """

    def __init__(
        self,
        rate: float | None,
        *,
        pinned: int | None = None,
        clock: Callable[[], float],
        sleep: Callable[[float], bool],
    ) -> None:
        self._least_interval = self._interval = 0.0 if rate is None else 1.0 / rate
        self._pinned = pinned
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next = self._pause_end = clock()
        self._level = float(pinned or START)
        self._quickest: float | None = None
        self._rising = True  # no sign of strain yet
        self._answers: deque[float] = deque()  # times of the answers of the last second
        self._turns = self._turns_now = 0  # in the last whole second, and in this one
        self._second = self._next
        self._paced = 0.0  # until then, further 429s belong to the last one
        self._settled = 0.0  # signs before this moment have been heeded
        self.paused_seconds = 0.0
        """How long the server made everyone wait, in seconds."""

    @property
    def level(self) -> int:
        """Requests that may be under way now."""
        return int(self._level)

    @property
    def highest(self) -> int:
        """The most that the level can become."""
        return self._pinned or HIGHEST

    def turn(self) -> bool:
        """Wait for a turn. False where the run ends instead."""
        while True:
            with self._lock:
                mine = max(self._next, self._pause_end, self._clock())
                self._next = mine + self._interval
                self._count_turn(mine)
            wait = mine - self._clock()
            if wait > 0 and self._sleep(wait):
                return False
            with self._lock:
                if self._pause_end <= self._clock():
                    return True  # else everyone was made to wait meanwhile: queue again

    def pause(self, seconds: float) -> None:
        """Let nobody have a turn for so many seconds."""
        with self._lock:
            now = self._clock()
            end = now + seconds
            if end > self._pause_end:
                self.paused_seconds += end - max(now, self._pause_end)
                self._pause_end = end

    def answered(self, seconds: float, on_wire: int) -> None:
        """Learn from an answer that was no refusal.

        Args:
            seconds: How long it took.
            on_wire: Requests that were on the wire with it, itself included.
        """
        with self._lock:
            self._note_answer()
            if self._pinned:
                return
            self._quickest = min(seconds, self._quickest or seconds)
            if seconds > _SLOWER * self._quickest + _SLACK_SECONDS:
                # What used to be quick may never be so again.
                self._quickest *= 1.01
                self._back_off(_EASED)
            elif 2 * on_wire >= self._level:  # what is not used need not grow
                rising = self._rising
                step = 1.0 if rising else 1.0 / self._level
                self._level = min(float(HIGHEST), self._level + step)

    def throttled(self) -> None:
        """Learn from a 429: the pace was too much, and so was the level."""
        with self._lock:
            now = self._clock()
            if now >= self._paced:
                self._forget(now)
                allowed = max(_SLOWEST, _UNDER * len(self._answers), _HALVED * self._turns)
                self._interval = max(self._least_interval, 1.0 / allowed)
                self._paced = now + 1.0
            if not self._pinned:
                self._back_off(_HALVED)

    def strained(self) -> None:
        """Learn from a 5xx or a broken connection."""
        with self._lock:
            if not self._pinned:
                self._back_off(_HALVED)

    def _note_answer(self) -> None:
        now = self._clock()
        self._answers.append(now)
        self._forget(now)
        if self._interval > self._least_interval:
            rate = 1.0 / self._interval
            rate += _GROWTH + 1.0 / rate  # a share, and one, more each second
            self._interval = max(self._least_interval, 1.0 / rate)

    def _count_turn(self, moment: float) -> None:
        if moment >= self._second + 1.0:
            self._turns, self._turns_now, self._second = self._turns_now, 0, moment
        self._turns_now += 1

    def _forget(self, now: float) -> None:
        while self._answers and self._answers[0] <= now - 1.0:
            self._answers.popleft()

    def _back_off(self, factor: float) -> None:
        now = self._clock()
        if now < self._settled:
            return  # the same trouble, told by another of the requests that were under way
        self._rising = False
        self._level = max(1.0, self._level * factor)
        self._settled = now + max(self._quickest or 0.0, _SLACK_SECONDS) * 2

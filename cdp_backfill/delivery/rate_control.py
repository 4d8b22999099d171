"""One rate limit and one concurrency limit for all workers."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

INITIAL_CONCURRENCY: Final = 4
"""Requests in flight that a run starts with, unless the caller fixes the number."""

MAX_CONCURRENCY: Final = 128
"""Most requests in flight that a run chooses by itself: 1,000 requests a second at 128 ms each."""

_SLOW_FACTOR: Final = 2.0  # an answer that takes longer than the fastest by this is slow
_SLACK_SECONDS: Final = 0.05
_HALF: Final = 0.5
_SLOW_BACK_OFF: Final = 0.9
_RATE_BACK_OFF: Final = 0.9
_RATE_GROWTH: Final = 0.04
_MIN_RATE: Final = 10.0  # requests a second


class RateControl:
    """Decides when the next request may be sent, and how many may be in flight.

    Requests are evenly spaced, and a pause holds all workers. After a 429, the rate drops to 90 %
    of the answers of the second before, or to half of the requests sent then if that is more. From
    there it grows by 4 % plus one request a second, each second, up to the rate limit.

    The concurrency doubles each round trip up to the first sign of overload. Then it grows by one
    each round trip, as long as it is used. It is halved after a 429, a 5xx or a broken connection,
    and reduced by 10 % when an answer takes more than twice as long as the fastest.

    Args:
        rate: Requests per second, or None for no limit.
        fixed_concurrency: Requests that may be in flight, or None to adapt the number.
        clock: Monotonic time in seconds.
        sleep: Waits for so many seconds; returns True if the run stops meanwhile.
    """

    def __init__(
        self,
        rate: float | None,
        *,
        fixed_concurrency: int | None = None,
        clock: Callable[[], float],
        sleep: Callable[[float], bool],
    ) -> None:
        self._min_interval = self._interval = 0.0 if rate is None else 1.0 / rate
        self._fixed_concurrency = fixed_concurrency
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next_send = self._pause_end = clock()
        self._concurrency = float(fixed_concurrency or INITIAL_CONCURRENCY)
        self._fastest: float | None = None  # seconds of the fastest answer
        self._doubling = True  # no sign of overload yet
        self._answer_times: deque[float] = deque()  # of the last second
        self._sent_last_second = self._sent_this_second = 0
        self._second_start = self._next_send
        self._rate_holds_until = 0.0  # until then, further 429s do not lower the rate
        self._concurrency_holds_until = 0.0  # until then, nothing lowers the concurrency
        self.paused_seconds = 0.0
        """Seconds for which the server paused all workers."""

    @property
    def concurrency(self) -> int:
        """Requests that may be in flight now."""
        return int(self._concurrency)

    def wait_to_send(self) -> bool:
        """Wait until the next request may be sent. Returns False if the run stops meanwhile."""
        while True:
            with self._lock:
                send_time = max(self._next_send, self._pause_end, self._clock())
                self._next_send = send_time + self._interval
                self._count_sent(send_time)
            wait = send_time - self._clock()
            if wait > 0 and self._sleep(wait):
                return False
            with self._lock:
                if self._pause_end <= self._clock():
                    return True  # else a pause began meanwhile: wait again

    def pause(self, seconds: float) -> None:
        """Let no worker send for so many seconds."""
        with self._lock:
            now = self._clock()
            end = now + seconds
            if end > self._pause_end:
                self.paused_seconds += end - max(now, self._pause_end)
                self._pause_end = end

    def record_answer(self, seconds: float, in_flight: int, *, is_small: bool = False) -> None:
        """Adapt to an answer that shows no overload.

        Args:
            seconds: How long it took.
            in_flight: Requests that were in flight with it, itself included.
            is_small: The request was no full one, so full ones take longer without being slow.
        """
        with self._lock:
            self._raise_rate()
            if self._fixed_concurrency or is_small:
                return
            self._fastest = min(seconds, self._fastest or seconds)
            if seconds > _SLOW_FACTOR * self._fastest + _SLACK_SECONDS:
                # The server may never be as fast again: forget the fastest answer slowly.
                self._fastest *= 1.01
                self._lower_concurrency(_SLOW_BACK_OFF)
            elif 2 * in_flight >= self._concurrency:  # grow only if most of it is used
                step = 1.0 if self._doubling else 1.0 / self._concurrency
                self._concurrency = min(float(MAX_CONCURRENCY), self._concurrency + step)

    def record_too_many_requests(self) -> None:
        """Lower the rate and the concurrency after a 429."""
        with self._lock:
            now = self._clock()
            if now >= self._rate_holds_until:
                self._drop_old_answers(now)
                rate = max(
                    _MIN_RATE,
                    _RATE_BACK_OFF * len(self._answer_times),
                    _HALF * self._sent_last_second,
                )
                self._interval = max(self._min_interval, 1.0 / rate)
                self._rate_holds_until = now + 1.0
            if not self._fixed_concurrency:
                self._lower_concurrency(_HALF)

    def record_failure(self) -> None:
        """Lower the concurrency after a 5xx or a broken connection."""
        with self._lock:
            if not self._fixed_concurrency:
                self._lower_concurrency(_HALF)

    def recover(self) -> None:
        """Let the concurrency grow as at first: the server was away and has come back."""
        with self._lock:
            if not self._fixed_concurrency:
                self._doubling = True
                self._concurrency = max(self._concurrency, float(INITIAL_CONCURRENCY))

    def _raise_rate(self) -> None:
        now = self._clock()
        self._answer_times.append(now)
        self._drop_old_answers(now)
        if self._interval > self._min_interval:
            rate = 1.0 / self._interval
            rate += _RATE_GROWTH + 1.0 / rate  # over a second: 4 % and one request a second more
            self._interval = max(self._min_interval, 1.0 / rate)

    def _count_sent(self, send_time: float) -> None:
        if send_time >= self._second_start + 1.0:
            self._sent_last_second, self._sent_this_second = self._sent_this_second, 0
            self._second_start = send_time
        self._sent_this_second += 1

    def _drop_old_answers(self, now: float) -> None:
        while self._answer_times and self._answer_times[0] <= now - 1.0:
            self._answer_times.popleft()

    def _lower_concurrency(self, factor: float) -> None:
        now = self._clock()
        if now < self._concurrency_holds_until:
            return  # other requests that were in flight report the same overload
        self._doubling = False
        self._concurrency = max(1.0, self._concurrency * factor)
        self._concurrency_holds_until = now + max(self._fastest or 0.0, _SLACK_SECONDS) * 2

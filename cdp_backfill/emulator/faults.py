"""Injected faults: what the emulator does wrong on request."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The faults to inject. Shares are of requests, from 0.0 (none) to 1.0 (all).

    Args:
        latency: Seconds before each answer.
        jitter: Up to so many seconds more, at random.
        too_many: Share that is answered 429.
        retry_after: Seconds in the ``Retry-After`` header of a 429; None for no header.
        failing: Share that is answered 500 or 503.
        reset_before: Share whose connection breaks before the body is read.
        reset_after: Share whose connection breaks after the messages were stored.
        stall: Share that is never answered.
        silent: Share that is answered 200 but not stored.
        refuse_users: User ids whose messages are answered 400.
        rate_limit: Requests per second; further requests in a second are answered 429.
        seed: Seed that decides which requests the faults hit.

    Raises:
        ValueError: A number is out of its range.

    >>> Faults(latency=0.1, too_many=0.05).latency
    0.1
    """

    latency: float = 0.0
    jitter: float = 0.0
    too_many: float = 0.0
    retry_after: float | None = None
    failing: float = 0.0
    reset_before: float = 0.0
    reset_after: float = 0.0
    stall: float = 0.0
    silent: float = 0.0
    refuse_users: frozenset[str] = frozenset()
    rate_limit: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("too_many", "failing", "reset_before", "reset_after", "stall", "silent"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share of requests; it must be between 0 and 1.")
        for name in ("latency", "jitter", "retry_after", "rate_limit"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must not be negative.")


class RequestFaults(msgspec.Struct, frozen=True):
    """The faults that hit one request.

    Attributes:
        wait: Seconds to wait first.
        status: Status to answer with instead of handling the request, or 0.
        reset_before: Break the connection before the body is read.
        reset_after: Store the messages, then break the connection.
        stall: Never answer.
        silent: Answer 200 and store nothing.
    """

    wait: float = 0.0
    status: int = 0
    reset_before: bool = False
    reset_after: bool = False
    stall: bool = False
    silent: bool = False


class FaultInjector:
    """Decides at random which requests the faults hit.

    Args:
        faults: The faults to inject; they can change while the server runs.
        clock: Monotonic time in seconds.
    """

    def __init__(self, faults: Faults, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self.faults = faults

    @property
    def faults(self) -> Faults:
        """The faults that are injected now."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        with self._lock:
            self._faults = faults
            self._rng = random.Random(faults.seed)  # noqa: S311  # no secret depends on it
            self._second_start = 0.0
            self._requests_this_second = 0

    def next_request(self) -> RequestFaults:
        """The faults that hit the next request."""
        faults = self._faults
        with self._lock:
            random_share = self._rng.random
            wait = faults.latency + faults.jitter * random_share()
            hits = {
                name: random_share() < getattr(faults, name)
                for name in (
                    "too_many",
                    "failing",
                    "reset_before",
                    "reset_after",
                    "stall",
                    "silent",
                )
            }
            status = self._rng.choice((500, 503)) if hits["failing"] else 0
            if hits["too_many"] or self._exceeds(faults.rate_limit):
                status = 429
        return RequestFaults(
            wait, status, hits["reset_before"], hits["reset_after"], hits["stall"], hits["silent"]
        )

    def _exceeds(self, rate_limit: float | None) -> bool:
        if rate_limit is None:
            return False
        now = self._clock()
        if now - self._second_start >= 1:
            self._second_start, self._requests_this_second = now, 0
        self._requests_this_second += 1
        return self._requests_this_second > rate_limit

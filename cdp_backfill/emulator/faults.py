"""The bad day, on order: what the box does wrong on purpose."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the box does wrong. Shares are of requests, from 0.0 (never) to 1.0 (always).

    Args:
        latency: Seconds before each answer.
        jitter: Seconds more, at random from nothing to this.
        too_many: Share that is answered 429.
        retry_after: Seconds that such an answer asks for in ``Retry-After``; None for no header.
        failing: Share that is answered 500 or 503.
        reset_before: Share whose connection breaks before the body is read.
        reset_after: Share whose connection breaks after what is in it was accepted.
        stall: Share that never gets an answer.
        silent: Share that is answered 200 and dropped.
        refuse_users: User ids that are refused with 400.
        rate_limit: Requests per second; what exceeds it in a second is answered 429.
        seed: Decides which requests it hits.

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
                raise ValueError(f"{name} is a share and must be from 0 to 1.")
        for name in ("latency", "jitter", "retry_after", "rate_limit"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must not be below 0.")


class Fate(msgspec.Struct, frozen=True):
    """What happens to one request.

    Attributes:
        wait: Seconds before anything.
        status: Answer instead of the right one, or 0.
        reset_before: Break the connection at once.
        reset_after: Break it instead of the answer.
        stall: Never answer.
        silent: Answer 200 and drop it.
    """

    wait: float = 0.0
    status: int = 0
    reset_before: bool = False
    reset_after: bool = False
    stall: bool = False
    silent: bool = False


class FaultInjector:
    """Decides the fate of each request; its faults can be changed while the box runs.

    Args:
        faults: What to begin with.
        clock: Seconds that only go forward.
    """

    def __init__(self, faults: Faults, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self.faults = faults

    @property
    def faults(self) -> Faults:
        """What is done wrong now."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        with self._lock:
            self._faults = faults
            self._rng = random.Random(faults.seed)  # noqa: S311  # dice, not secrets
            self._second = 0.0
            self._count = 0

    def fate(self) -> Fate:
        """The fate of the next request."""
        faults = self._faults
        with self._lock:
            roll = self._rng.random
            wait = faults.latency + faults.jitter * roll()
            hit = {
                name: roll() < getattr(faults, name)
                for name in (
                    "too_many",
                    "failing",
                    "reset_before",
                    "reset_after",
                    "stall",
                    "silent",
                )
            }
            status = self._rng.choice((500, 503)) if hit["failing"] else 0
            if hit["too_many"] or self._over_rate(faults.rate_limit):
                status = 429
        return Fate(
            wait, status, hit["reset_before"], hit["reset_after"], hit["stall"], hit["silent"]
        )

    def _over_rate(self, limit: float | None) -> bool:
        if limit is None:
            return False
        now = self._clock()
        if now - self._second >= 1:
            self._second, self._count = now, 0
        self._count += 1
        return self._count > limit

"""Whether the server is there, and how long a run waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdp_backfill.delivery import retry
from cdp_backfill.errors import StoppedError, UnreachableError
from cdp_backfill.model.views import duration

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

UNREACHED_SECONDS: Final = 30.0
"""Patience with an address at which nothing has ever been: it is probably wrong."""

_MIN_FAILURES: Final = 3  # failed attempts in a row that can mean that the server is away


class Availability:
    """Follows whether the server is there. The sender holds its lock around each call.

    The server is *away* from the first failed attempt on, once as many attempts in a row failed as
    are still in flight, and three at least; before the first success, one is enough. An answer that
    settles a request is a success, even if it refuses rows.

    Patience counts from the last success, or from the first failed attempt after it if that began
    later, since a run that has nothing to send has no success either.

    Args:
        patience: Seconds without a success after which a run ends.
        now: Monotonic time in seconds.
        rng: Source of the jitter.
    """

    def __init__(self, patience: float, now: Callable[[], float], rng: random.Random) -> None:
        self._patience = patience
        self._now = now
        self._rng = rng
        self._reached = False  # a request got through to a server
        self._last_success = float("-inf")
        self._failing_since: float | None = None
        self._failed = 0  # attempts in a row
        self._away_since: float | None = None  # when it was found to be away
        self._probes = 0
        self._next_probe = 0.0
        self.successes = 0
        """Number of successes so far."""

    @property
    def away(self) -> bool:
        """Whether the server is away: only one request at a time should look for it."""
        return self._away_since is not None

    @property
    def seconds_away(self) -> float:
        """Seconds for which the server has been away, or 0.0 if it is there."""
        if self._away_since is None or self._failing_since is None:
            return 0.0
        return self._now() - self._failing_since

    @property
    def seconds_failing(self) -> float:
        """Seconds since the first failed attempt after the last success began, or 0.0."""
        return 0.0 if self._failing_since is None else self._now() - self._failing_since

    @property
    def seconds_to_probe(self) -> float:
        """Seconds until the next request to a server that is away."""
        return self._next_probe - self._now()

    @property
    def seconds_left(self) -> float:
        """Seconds of patience that are left; 0.0 or less if the run should end."""
        patience = self._patience
        if not self._reached:
            patience = min(patience, UNREACHED_SECONDS)
        return patience - self.seconds_failing

    def record_success(self) -> bool:
        """Record an answer that settles a request. Returns whether the server was away."""
        was_away = self.away
        self.successes += 1
        self._reached = True
        self._last_success = self._now()
        self._failing_since = self._away_since = None
        self._failed = self._probes = 0
        return was_away

    def record_failure(
        self, started: float, *, reached: bool, throttled: bool, in_flight: int
    ) -> None:
        """Record an attempt that failed and may be repeated.

        Args:
            started: When it began.
            reached: It got through to a server.
            throttled: The server asked to slow down, so it is there.
            in_flight: Requests that are still in flight.
        """
        self._reached |= reached
        if self._failing_since is None:
            self._failing_since = max(started, self._last_success)
        if throttled:
            return
        self._failed += 1
        now = self._now()
        if self._away_since is None:
            if self.successes and self._failed < max(_MIN_FAILURES, in_flight):
                return
            self._away_since = now
        elif started < self._away_since:
            return  # it was in flight when the server went away
        self._probes += 1
        wait = retry.probe_wait(self._probes, self._rng)
        self._next_probe = now + min(wait, max(0.0, self.seconds_left))

    def error(self, url: str, failure: str) -> StoppedError:
        """The error of a run whose patience is over.

        Args:
            url: Address of the server.
            failure: Why the last attempt failed.
        """
        period = duration(self.seconds_failing)
        if not self.successes:
            return UnreachableError(
                f"No request to {url} succeeded for {period}: {failure}. No row of this run is "
                "known to be delivered. Check the network and base_url, or try again later."
            )
        return StoppedError(
            f"The server stopped accepting requests: none succeeded for {period} (the latest: "
            f"{failure}). Try again later. A longer patience= of the destination lets a run wait "
            "longer."
        )

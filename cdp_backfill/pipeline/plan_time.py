"""How long a run will take, as a range: no one knows how fast the server and the network answer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from cdp_backfill.delivery.rate_control import INITIAL_CONCURRENCY, MAX_CONCURRENCY

if TYPE_CHECKING:
    from cdp_backfill.model.destination import Destination

ROUND_TRIPS: Final = (0.1, 0.5)
"""Seconds from request to answer that a plan assumes, at best and at worst."""

_FIRST_TRIPS: Final = 3  # to connect, to agree on encryption, and for the first answer
_LEAST_READING: Final = 0.5  # a run reads and checks in at least this share of the plan's time


def expected_seconds(
    requests: int, reading: float, destination: Destination
) -> tuple[float, float]:
    """The least and the most seconds that a run should take.

    Args:
        requests: Number of requests.
        reading: Seconds that the plan took to read, check and encode the table.
        destination: Its rate limit and number of workers.

    >>> from cdp_backfill.model.destination import Destination
    >>> least, most = expected_seconds(10_000, 2.0, Destination(rate_limit=500))
    >>> round(least), round(most)
    (21, 45)
    """
    if not requests:
        return _LEAST_READING * reading, reading
    least, most = (_sending(requests, trip, destination) for trip in ROUND_TRIPS)
    # A run reads while it sends; at worst, one waits for the other.
    return max(least, _LEAST_READING * reading), most + reading


def _sending(requests: int, round_trip: float, destination: Destination) -> float:
    """Seconds until all requests have an answer, if each takes the same time."""
    rate, workers = destination.rate_limit, destination.workers
    concurrency = workers or INITIAL_CONCURRENCY
    limit = math.inf if rate is None else rate * round_trip
    seconds, left = _FIRST_TRIPS * round_trip, float(requests - 1)
    while left > 0 and concurrency < (workers or MAX_CONCURRENCY):
        left -= min(concurrency, limit)
        seconds += round_trip
        concurrency *= 2
    return seconds + round_trip * max(0.0, left) / min(workers or MAX_CONCURRENCY, limit)

"""How long a run will take, as a range: no one knows how fast the server and the network answer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from cdp_backfill.delivery.rate_control import INITIAL_CONCURRENCY, MAX_CONCURRENCY
from cdp_backfill.model.views import duration_range
from cdp_backfill.results.progress import megabytes

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


def duration_words(expected: tuple[float, float], rate: float | None, wire_bytes: int) -> str:
    """How long a run will take, with what that assumes.

    Args:
        expected: Least and most seconds.
        rate: The rate limit in requests per second, or None.
        wire_bytes: Bytes of all requests, compressed.

    >>> duration_words((20.6, 45.1), 500, 90_000_000)
    '21 to 45 s at up to 500 requests/s, if an answer takes 100 to 500 ms; longer with an upload \
below 2.0 MB/s'
    """
    least, most = (f"{1000 * each:.0f}" for each in ROUND_TRIPS)
    limit = "" if rate is None else f" at up to {round(rate, 1):,g} requests/s"
    upload = megabytes(round(wire_bytes / max(expected[1], 0.001)))
    return (
        f"{duration_range(expected)}{limit}, if an answer takes {least} to {most} ms; longer with "
        f"an upload below {upload}/s"
    )

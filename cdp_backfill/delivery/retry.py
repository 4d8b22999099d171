"""How long to wait before the next attempt."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random

BASE_SECONDS: Final = 0.5
MAX_SECONDS: Final = 30.0
MAX_PROBE_SECONDS: Final = 5.0
"""Longest wait between two requests to a server that is away."""


def backoff(attempt: int, rng: random.Random) -> float:
    """Seconds to wait after a failed attempt: full jitter below a limit that doubles each time.

    Args:
        attempt: Number of the attempt, from 1.
        rng: Source of the jitter.
    """
    return rng.uniform(0.0, _doubled(attempt, MAX_SECONDS))


def probe_wait(attempt: int, rng: random.Random) -> float:
    """Seconds between two requests to a server that is away: they double up to five.

    Args:
        attempt: Number of the failed request, from 1.
        rng: Source of the jitter.
    """
    most = _doubled(attempt, MAX_PROBE_SECONDS)
    return rng.uniform(most / 2, most)


def _doubled(attempt: int, most: float) -> float:
    return min(most, BASE_SECONDS * 2.0 ** min(attempt - 1, 60))


def retry_after(header: str | None, most: float, now: datetime | None = None) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, within limits.

    Args:
        header: A number of seconds or an HTTP date.
        most: Most seconds to return.
        now: The time that a date is compared with; None for the current time.

    Returns:
        The seconds, from 0 to ``most``; None if there is no header or it cannot be read.

    >>> retry_after("2", 600.0), retry_after("86400", 600.0), retry_after("soon", 600.0)
    (2.0, 600.0, None)
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            moment = parsedate_to_datetime(header)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            seconds = (moment - (now or datetime.now(UTC))).total_seconds()
        except Exception:  # noqa: BLE001  # the parser raises many kinds of errors
            return None
    return None if math.isnan(seconds) else min(most, max(0.0, seconds))

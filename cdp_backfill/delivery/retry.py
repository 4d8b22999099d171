"""How long to wait before the next attempt."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random

BASE_SECONDS: Final = 0.5
MAX_SECONDS: Final = 30.0
MAX_RETRY_AFTER: Final = 300.0


def backoff(attempt: int, rng: random.Random) -> float:
    """Seconds to wait after a failed attempt: full jitter below a limit that doubles each time.

    Args:
        attempt: Number of the attempt, from 1.
        rng: Source of the jitter.
    """
    return rng.uniform(0.0, min(MAX_SECONDS, BASE_SECONDS * 2 ** (attempt - 1)))


def retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, at most 300.

    Args:
        header: A number of seconds or an HTTP date.
        now: The time that a date is compared with; None for the current time.

    Returns:
        The seconds, or None if there is no header or it cannot be read.

    >>> retry_after("2")
    2.0
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            moment = parsedate_to_datetime(header)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - (now or datetime.now(UTC))).total_seconds()
    return min(MAX_RETRY_AFTER, max(0.0, seconds)) if seconds == seconds else None  # noqa: PLR0124

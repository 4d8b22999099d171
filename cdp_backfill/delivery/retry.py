"""Which answers are worth another try, and how long to wait for it."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random

BASE_SECONDS: Final = 0.5
MAX_SECONDS: Final = 30.0
MAX_RETRY_AFTER: Final = 300.0


class Verdict(Enum):
    """What an answer means for the request."""

    ACCEPTED = "accepted"
    SPLIT = "something in it is wrong, or it is too large"
    REFUSED = "it will never be taken"
    RETRY = "another try may do"
    UNAUTHORIZED = "the key is wrong"
    FOREIGN = "this is not the Pipelines API"


_VERDICTS: Final = {
    400: Verdict.SPLIT,
    413: Verdict.SPLIT,
    422: Verdict.SPLIT,
    401: Verdict.UNAUTHORIZED,
    403: Verdict.UNAUTHORIZED,
    404: Verdict.FOREIGN,
    405: Verdict.FOREIGN,
    408: Verdict.RETRY,
    425: Verdict.RETRY,
    429: Verdict.RETRY,
}
_BY_HUNDREDS: Final = {
    1: Verdict.FOREIGN,
    2: Verdict.ACCEPTED,
    3: Verdict.FOREIGN,
    4: Verdict.REFUSED,
    5: Verdict.RETRY,
}


def verdict(status: int) -> Verdict:
    """What a status means."""
    return _VERDICTS.get(status) or _BY_HUNDREDS.get(status // 100, Verdict.FOREIGN)


def backoff(attempt: int, rng: random.Random) -> float:
    """Seconds to wait after an attempt, counted from 1: full jitter under a doubling cap."""
    return rng.uniform(0.0, min(MAX_SECONDS, BASE_SECONDS * 2 ** (attempt - 1)))


def retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, at most 300, or None without one.

    Args:
        header: A number of seconds or an HTTP date.
        now: The time that a date is held against; None for the current time.

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

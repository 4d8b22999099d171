"""Tells from two times of the same events whether one of them is in another time zone than UTC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from cdp_backfill.model.arrays import Mask, Millis

_MINUTE: Final = 60_000
_QUARTER: Final = 15 * _MINUTE
"""Offsets of time zones are whole quarters of an hour."""

_HOUR: Final = 4 * _QUARTER
_WIDEST: Final = 15 * _HOUR
"""No offset of a time zone is larger."""

_CLOCK_ERROR: Final = 10 * _MINUTE
"""Clocks of devices can be ahead by this much without being in another zone."""

_AHEAD_SHARE: Final = 0.1
"""Share of events after their own processing that wrong clocks do not explain, 0.0 to 1.0."""

_SHARE: Final = 0.5
"""Share of events in one quarter of an hour that late arrival does not explain, 0.0 to 1.0."""

_MIN_ROWS: Final = 20
"""Rows that are needed to conclude from late arrival."""


@dataclass(frozen=True, slots=True)
class ZoneEvidence:
    """Evidence that times are not in UTC.

    Attributes:
        minutes: How far the times seem to be ahead of UTC, in minutes; negative for behind.
        rows: Number of events that show it.
        of: Number of events that were compared.
    """

    minutes: int
    rows: int
    of: int

    @property
    def offset(self) -> str:
        """The offset in words.

        >>> ZoneEvidence(-330, 20, 20).offset, ZoneEvidence(60, 20, 20).offset
        ('5:30 hours behind', '1:00 hour ahead of')
        """
        hours, minutes = divmod(abs(self.minutes), 60)
        unit = "hour" if (hours, minutes) == (1, 0) else "hours"
        return f"{hours}:{minutes:02} {unit} {'ahead of' if self.minutes > 0 else 'behind'}"


def zone_evidence(happened: Millis, processed: Millis, usable: Mask) -> ZoneEvidence | None:
    """Compare the times of events with the times at which a server processed them.

    No event can happen after it was processed. So a time zone ahead of UTC shows at once. A zone
    behind UTC looks as if all events were late; it shows if most are late by the same hours.

    Args:
        happened: Times of events as they are written; milliseconds since 1970.
        processed: Times at which they were processed; milliseconds since 1970 UTC.
        usable: True where both are known.

    Returns:
        The evidence, or None if there is none.
    """
    lag = (happened - processed)[usable]
    lag = lag[np.abs(lag) <= _WIDEST]
    if not len(lag):
        return None
    ahead = lag > _CLOCK_ERROR
    if np.count_nonzero(ahead) >= max(1, _AHEAD_SHARE * len(lag)):
        top = lag[ahead]
        offset = _next_quarter(int(np.median(top)))
        return ZoneEvidence(offset // _MINUTE, len(top), len(lag))
    if len(lag) < _MIN_ROWS:
        return None
    nearest = _next_quarter(int(np.quantile(lag, 0.98)))
    if nearest > -_HOUR:
        return None
    # An hour apart from each other are summer and winter.
    late = _within_quarter(lag, nearest) | _within_quarter(lag, nearest - _HOUR)
    if np.count_nonzero(late) < _SHARE * len(lag):
        return None
    return ZoneEvidence(nearest // _MINUTE, int(np.count_nonzero(late)), len(lag))


def _next_quarter(lag: int) -> int:
    """The smallest whole quarter of an hour that is not below a lag; milliseconds."""
    return -(-lag // _QUARTER) * _QUARTER


def _within_quarter(lag: Millis, offset: int) -> Mask:
    return np.asarray((lag <= offset) & (lag > offset - _QUARTER))

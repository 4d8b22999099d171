"""Moves local times of a zone to UTC, each by itself, also where the clocks were changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from cdp_backfill.messages.epochs import FIRST, LAST, PER_SECOND, integers_of, to_millis

if TYPE_CHECKING:
    from cdp_backfill.model.arrays import Ints, Mask
    from cdp_backfill.model.mapping import AmbiguousTime, NonexistentTime

_DAY: Final = 26 * 3_600_000  # with two more hours, since zones go up to +14


_WIDEST: Final = 14 * 3_600
"""No zone is farther from UTC; seconds."""


@dataclass(frozen=True, slots=True)
class Zone:
    """The zone of times that carry none.

    Attributes:
        name: IANA name; None for UTC.
        nonexistent: What becomes of a local time that the zone skipped.
        ambiguous: What becomes of a local time that the zone had twice.
    """

    name: str | None
    nonexistent: NonexistentTime = "invalid"
    ambiguous: AmbiguousTime = "invalid"

    @property
    def is_utc(self) -> bool:
        """Whether local times are those of UTC."""
        return self.name in (None, "UTC")


@dataclass(frozen=True, slots=True)
class Moved:
    """Local times that were moved to UTC.

    Attributes:
        moments: The times in UTC, in the unit of the local ones; 0 where there is no usable time.
        skipped: True where the zone skipped the local time.
        twice: True where the zone had the local time twice.
        outside: True where the time is so near to the first or the last year that UTC may lie
            outside of the years 1 to 9999.
    """

    moments: Any
    skipped: Mask
    twice: Mask
    outside: Mask

    def unusable(self, zone: Zone) -> Mask:
        """True where the rules of the zone make no time of it."""
        result = self.outside
        if zone.nonexistent == "invalid":
            result = result | self.skipped
        return result | self.twice if zone.ambiguous == "invalid" else result


def to_utc(local: Any, unit: str, zone: Zone) -> Moved:
    """Move local times of a zone to UTC.

    Args:
        local: Numbers since 1970 as the clocks showed them.
        unit: Their unit.
        zone: Their zone.
    """
    none = np.zeros(len(local), dtype=bool)
    if zone.is_utc or not len(local):
        return Moved(local, none, none, none)
    millis, overflow = to_millis(local, unit)
    outside = overflow | (millis < FIRST + _DAY) | (millis > LAST - _DAY)
    index = pd.DatetimeIndex(np.where(outside, 0, local).view(f"M8[{unit}]"))
    first, second = (
        index.tz_localize(zone.name, ambiguous=np.full(len(index), summer), nonexistent="NaT")
        for summer in (True, False)
    )
    skipped = np.asarray(first.isna()) & ~outside
    twice = np.asarray(first != second) & ~skipped & ~outside
    moments = _numbers(first if zone.ambiguous != "latest" else second, unit)
    if zone.nonexistent == "shift_forward" and skipped.any():
        seconds, where = np.unique(millis[skipped] // 1_000, return_inverse=True)
        per_second = PER_SECOND[unit]
        moments[skipped] = _ends_of_gaps(seconds, str(zone.name))[where] * per_second
    moved = Moved(moments, skipped, twice, outside)
    moments[moved.unusable(zone)] = 0
    return moved


def _ends_of_gaps(local: Ints, zone: str) -> Ints:
    """The first moments after gaps, in seconds since 1970 UTC.

    pandas would shift to the next full hour, but a gap can have half an hour, or a day.

    Args:
        local: Local times in gaps, in seconds.
        zone: Their zone.
    """
    low, high = local - _WIDEST, local + _WIDEST
    while (high - low > 1).any():
        middle = (low + high) // 2
        index = pd.DatetimeIndex(middle.view("M8[s]")).tz_localize("UTC").tz_convert(zone)
        shown = np.asarray(index.tz_localize(None)).astype("M8[s]").view("i8")
        is_after = shown > local
        high = np.where(is_after, middle, high)
        low = np.where(is_after, low, middle)
    return high


def _numbers(index: pd.DatetimeIndex, unit: str) -> Any:
    return np.asarray(index.tz_convert(None)).astype(f"M8[{unit}]").view("i8").copy()


def localise(array: Any, zone: Zone) -> tuple[Any, Moved | None]:
    """A timestamp column in UTC, to be a property; and how its local times were moved.

    Args:
        array: Arrow timestamp array, with or without a zone.
        zone: The zone of times that carry none.

    Returns:
        The column, null where a local time is unusable; and None where no time is local.
    """
    unit = array.type.unit
    moved = None
    if array.type.tz is None and not zone.is_utc:
        raw, null = integers_of(array)
        found = to_utc(raw, unit, zone)
        filled = ~null
        moved = Moved(
            found.moments, found.skipped & filled, found.twice & filled, found.outside & filled
        )
        unusable = null | found.unusable(zone)
        array = pa.array(found.moments, pa.int64(), mask=unusable).cast(pa.timestamp(unit))
    return array.cast(pa.int64()).cast(pa.timestamp(unit, "UTC")), moved

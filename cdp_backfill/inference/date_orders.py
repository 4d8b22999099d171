"""Counts which orders of day, month and year the dates of a column allow."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from cdp_backfill.messages.date_layouts import ORDERS
from cdp_backfill.messages.dates import read_dates

if TYPE_CHECKING:
    from cdp_backfill.model.mapping import DateOrder

_MIN_SHARE: Final = 0.9
"""Share of the dates that must be times of events: neither in the future nor before there were
apps. Each other row is reported later."""

NAMES: Final[dict[DateOrder, str]] = {
    "DMY": "the day first",
    "MDY": "the month first",
    "YMD": "the year first",
}
"""The orders in words."""


@dataclass(slots=True)
class DateOrders:
    """The orders that the dates of a column allow.

    Attributes:
        earliest: Events before this time are implausible; milliseconds since 1970 UTC.
        latest: The same for later ones.
        dates: Number of dates that do not show their order.
        fits: For each order, how many of them are dates in it.
        plausible: For each order, how many of these are times at which an event can have happened.
        example: A date that means another day in each order, and the days that it means.
    """

    earliest: int
    latest: int
    dates: int = 0
    fits: dict[DateOrder, int] = field(default_factory=lambda: dict.fromkeys(ORDERS, 0))
    plausible: dict[DateOrder, int] = field(default_factory=lambda: dict.fromkeys(ORDERS, 0))
    example: tuple[str, dict[DateOrder, int]] | None = None

    def add(self, text: Any) -> None:
        """Count the dates of an Arrow array of text, without white space around it."""
        unordered = read_dates(text, None).unordered
        if not unordered.any():
            return
        text = text.filter(pa.array(unordered))
        self.dates += len(text)
        read = {order: read_dates(text, order) for order in ORDERS}
        for order, dates in read.items():
            in_time = (dates.millis >= self.earliest) & (dates.millis <= self.latest)
            self.fits[order] += int(np.count_nonzero(dates.read))
            self.plausible[order] += int(np.count_nonzero(dates.read & in_time))
        if self.example is None:
            many = sum(dates.read.astype(int) for dates in read.values()) > 1
            differs = read["DMY"].millis != read["MDY"].millis
            rows = np.flatnonzero(many & differs)
            if len(rows):
                row = int(rows[0])
                means = {o: int(d.millis[row]) for o, d in read.items() if d.read[row]}
                self.example = str(text[row]), means

    @property
    def possible(self) -> list[DateOrder]:
        """The orders that all dates allow; of these, the plausible ones if there are any."""
        orders = [order for order in ORDERS if self.fits[order] == self.dates > 0]
        likely = [o for o in orders if self.plausible[o] >= _MIN_SHARE * self.dates]
        return orders if len(orders) == 1 else likely or orders

    @property
    def most_likely(self) -> DateOrder | None:
        """The first possible order, or else the one that most dates allow."""
        if not self.dates:
            return None
        return next(iter(self.possible), max(ORDERS, key=lambda order: self.fits[order]))

    @property
    def is_certain(self) -> bool:
        """Whether each order but one is excluded by a cell, and not by the times it would mean."""
        return sum(self.fits[order] == self.dates for order in ORDERS) == 1

    @property
    def contradict(self) -> bool:
        """Whether some dates allow one order only, and others another one only."""
        return self.dates > 0 and not self.possible

    def readings(self) -> str:
        """What the example means in each possible order, in a sentence; empty without one."""
        if self.example is None:
            return ""
        cell, means = self.example
        wanted = self.possible or list(means)
        listed = [f"{_day(means[order])} in {order}" for order in wanted if order in means]
        return f"{cell!r} is {' and '.join(listed)}."


def _day(millis: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=millis)
    return f"{moment.day} {moment:%B %Y}"

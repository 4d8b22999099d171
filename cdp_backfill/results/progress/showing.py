"""What every display has in common."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

from cdp_backfill.results.progress.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.results.progress.snapshots import Snapshot

_COST: Final = 20.0  # a display that takes long waits so many times as long: 5 % of the run at most


class Progress(Protocol):
    """Something that shows snapshots."""

    def update(self, snapshot: Snapshot) -> None:
        """Show how it is now."""
        ...

    def close(self) -> None:
        """Show no more."""
        ...


class Silence:
    """Shows nothing."""

    def update(self, snapshot: Snapshot) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Show nothing."""


class Display:
    """Shows a run from time to time, and how it ended.

    Args:
        interval: Seconds between two times; more where showing takes long.
        first: Seconds before the first time.
        clock: Seconds that only go forward.
    """

    def __init__(
        self,
        interval: float,
        *,
        first: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = interval
        self._clock = clock
        self._due = clock() + first
        self._pace = Pace()
        self._any = False

    def update(self, snapshot: Snapshot) -> None:
        """Show how it is now, if it is time for that."""
        self._any = True
        self._pace.add(snapshot)
        begun = self._clock()
        if begun >= self._due:
            self.show(self._pace)
            ended = self._clock()
            self._due = ended + max(self._interval, _COST * (ended - begun))

    def close(self) -> None:
        """Show how it ended."""
        if self._any:
            self.show(self._pace)

    def show(self, pace: Pace) -> None:
        """Show it now."""
        raise NotImplementedError

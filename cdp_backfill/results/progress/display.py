"""What all displays have in common."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

from cdp_backfill.results.progress.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.results.progress.snapshots import Snapshot

_WAIT_FACTOR: Final = 20.0  # a slow display waits 20 times as long: it takes 5 % of the run at most


class Progress(Protocol):
    """A display of the progress of a run: any object with these two methods.

    Pass it as ``progress=`` to show a run in your own way: in a widget, a log or a chat.

    - A run calls both methods on the thread that called ``send``, never at the same time.
      With a table of Spark in a classic session, another thread calls :meth:`update`.
    - It calls :meth:`update` several times a second, and more often while it reads fast. A display
      that is slow, or writes to a network, should return at once from most calls.
    - The last snapshot has a ``state`` whose ``ended`` is True. After it, the run calls
      :meth:`close` once. With ``identify=``, one display shows two runs, one after the other:
      ``snapshot.call`` tells which.
    - If a method raises an error, a warning says so, and the run goes on without the display.
    - No snapshot contains a cell of the table.

    >>> import pandas as pd
    >>> import cdp_backfill as cdp
    >>> class LastLine:
    ...     def update(self, snapshot: cdp.Snapshot):
    ...         self.last = snapshot
    ...
    ...     def close(self):
    ...         print(f"{self.last.rows} rows, {self.last.not_delivered} of them failed")
    >>> frame = pd.DataFrame({"uid": ["a", None], "ts": "2023-05-01T10:00:00Z"})
    >>> with cdp.sandbox() as box:
    ...     report = frame.cdp.send(
    ...         user_id="uid",
    ...         timestamp="ts",
    ...         event=cdp.lit("Application Opened"),
    ...         destination=box.destination,
    ...         progress=LastLine(),
    ...     )
    2 rows, 1 of them failed
    """

    def update(self, snapshot: Snapshot) -> None:
        """Show the latest state of the run.

        Args:
            snapshot: The progress at this moment.
        """
        ...

    def close(self) -> None:
        """Show the final state and end. No call follows."""
        ...


class NoDisplay:
    """Shows nothing."""

    def update(self, snapshot: Snapshot) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Show nothing."""


class Display:
    """Shows a run at regular intervals and at its end.

    Args:
        interval: Seconds between two updates; more if an update takes long.
        first: Seconds before the first update.
        clock: Monotonic time in seconds.
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
        self._has_snapshot = False

    def update(self, snapshot: Snapshot) -> None:
        """Show the latest state if the interval is over."""
        self._has_snapshot = True
        self._pace.add(snapshot)
        started = self._clock()
        if started >= self._due:
            self.show(self._pace)
            ended = self._clock()
            self._due = ended + max(self._interval, _WAIT_FACTOR * (ended - started))

    def close(self) -> None:
        """Show the final state."""
        if self._has_snapshot:
            self.show(self._pace)

    def show(self, pace: Pace) -> None:
        """Show the run now."""
        raise NotImplementedError

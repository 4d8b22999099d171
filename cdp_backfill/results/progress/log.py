"""Progress as lines of a log."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from cdp_backfill.results.progress import words
from cdp_backfill.results.progress.showing import Display

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from cdp_backfill.results.progress.pace import Pace

LOG_SECONDS: Final = 10.0
"""Time between two lines in a log."""


class Log(Display):
    """A line from time to time, for output that is no terminal.

    Args:
        file: Where to; None for the standard error stream.
        clock: Seconds that only go forward.
    """

    def __init__(
        self, file: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(LOG_SECONDS, first=LOG_SECONDS, clock=clock)
        self._file = file

    def show(self, pace: Pace) -> None:
        """Write a line."""
        now = pace.now
        known = f" ({words.percent(now)})" if now.total is not None else ""
        parts = [
            f"{words.TITLES[now.state]}: {words.amount(now)}{known}",
            *words.speed(pace),
            *words.outcomes(now),
            *words.traffic(pace),
        ]
        why = "".join(f"; {reason}" for reason in words.reasons(now))
        print(  # a progress line is what was asked for
            ", ".join(parts) + why, file=self._file or sys.stderr, flush=True
        )

"""Shows progress as lines of a log."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from cdp_backfill.results.progress import wording
from cdp_backfill.results.progress.display import Display

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from cdp_backfill.results.progress.pace import Pace

LOG_SECONDS: Final = 10.0
"""Seconds between two lines."""


class LogDisplay(Display):
    """Writes a line every ten seconds, for output that is not a terminal.

    Args:
        file: The stream to write to; None for standard error.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self, file: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(LOG_SECONDS, first=LOG_SECONDS, clock=clock)
        self._file = file

    def show(self, pace: Pace) -> None:
        """Write a line."""
        now = pace.now
        percent = f" ({wording.percent(now)})" if now.total is not None else ""
        parts = [
            f"{wording.title(now)}: {wording.row_count(now)}{percent}",
            *wording.speed(pace),
            *wording.outcomes(now),
            *wording.traffic(pace),
        ]
        reasons = "".join(f"; {reason}" for reason in wording.reasons(now))
        print(", ".join(parts) + reasons, file=self._file or sys.stderr, flush=True)

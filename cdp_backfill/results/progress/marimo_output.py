"""Shows progress as the output of a marimo cell."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from cdp_backfill.results.progress.display import Display
from cdp_backfill.results.progress.notebook import html_view

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.results.progress.pace import Pace

_INTERVAL: Final = 0.15


class MarimoDisplay(Display):
    """The output of the cell, which is replaced as the run goes on; marimo has no display handles.

    If the last line of the cell has a value, such as the report, marimo shows that in the end.

    Args:
        clock: Monotonic time in seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(_INTERVAL, clock=clock)

    def show(self, pace: Pace) -> None:
        """Replace the output."""
        marimo = sys.modules["marimo"]  # it runs the cell, so it is there
        marimo.output.replace(marimo.Html(html_view(pace)))

"""Shows how a run is doing: on a terminal, in a notebook, in a log, or not at all."""

from __future__ import annotations

import contextlib
import sys
import warnings
from typing import TYPE_CHECKING

from cdp_backfill.model.environment import in_notebook, is_captured
from cdp_backfill.results.progress.log import LOG_SECONDS, Log
from cdp_backfill.results.progress.notebook import Live
from cdp_backfill.results.progress.showing import Progress, Silence
from cdp_backfill.results.progress.snapshots import Reason, Snapshot, State, Timeline
from cdp_backfill.results.progress.terminal import Bar
from cdp_backfill.results.progress.words import megabytes

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "LOG_SECONDS",
    "Bar",
    "Live",
    "Log",
    "Progress",
    "Reason",
    "Silence",
    "Snapshot",
    "State",
    "Timeline",
    "Unbreakable",
    "make_progress",
    "megabytes",
]


class Unbreakable:
    """Passes snapshots on, and stops doing so at the first error: a display must not end a run.

    Args:
        shown: What shows them.
    """

    def __init__(self, shown: Progress) -> None:
        self._shown: Progress | None = shown

    def update(self, snapshot: Snapshot) -> None:
        """Show how it is now, if that works."""
        self._try(lambda shown: shown.update(snapshot))

    def close(self) -> None:
        """Show no more."""
        self._try(lambda shown: shown.close())

    def _try(self, action: Callable[[Progress], None]) -> None:
        if self._shown is not None:
            try:
                action(self._shown)
            except Exception as error:  # noqa: BLE001  # whatever a display can raise
                self._shown = None
                # Where warnings are errors, or have no stream to go to, this raises, too.
                with contextlib.suppress(Exception):
                    warnings.warn(
                        f"The progress display failed ({type(error).__name__}); the run goes on.",
                        RuntimeWarning,
                        stacklevel=4,
                    )


def make_progress(wanted: bool | Progress) -> Progress:
    """Choose a display.

    Args:
        wanted: True for what suits the place, False for none, or a display of one's own.
    """
    if wanted is False:
        return Silence()
    if wanted is not True:
        return Unbreakable(wanted)
    try:
        return Unbreakable(_suitable())
    except Exception:  # noqa: BLE001  # no display at all is better than no run
        return Silence()


def _suitable() -> Progress:
    if in_notebook():
        return Live(only_the_end=is_captured())
    if sys.stderr.isatty():
        return Bar()
    return Log()

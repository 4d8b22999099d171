"""Shows the progress of a run: in a terminal, in a notebook, in a log, by tqdm, or not at all."""

from __future__ import annotations

import contextlib
import sys
import warnings
from typing import TYPE_CHECKING, Any, Literal

from cdp_backfill.errors import BadInputError
from cdp_backfill.model.environment import in_marimo, in_notebook, is_captured
from cdp_backfill.results.progress.display import NoDisplay, Progress
from cdp_backfill.results.progress.log import (
    LOG_SECONDS,
    LOGGER,
    LineFormatter,
    LogDisplay,
    SafeFormatter,
)
from cdp_backfill.results.progress.marimo_output import MarimoDisplay
from cdp_backfill.results.progress.notebook import NotebookDisplay
from cdp_backfill.results.progress.snapshots import Reason, Snapshot, State, Timeline
from cdp_backfill.results.progress.terminal import TerminalDisplay
from cdp_backfill.results.progress.tqdm_bar import TqdmDisplay
from cdp_backfill.results.progress.wording import megabytes

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "LOGGER",
    "LOG_SECONDS",
    "LineFormatter",
    "LogDisplay",
    "MarimoDisplay",
    "NoDisplay",
    "NotebookDisplay",
    "Progress",
    "ProgressChoice",
    "Reason",
    "SafeDisplay",
    "SafeFormatter",
    "Snapshot",
    "State",
    "TerminalDisplay",
    "Timeline",
    "TqdmDisplay",
    "check_progress",
    "make_progress",
    "megabytes",
]


ProgressChoice = bool | Literal["tqdm"] | Progress
"""True for the display that fits, False for none, a bar of tqdm, or a display of the caller."""


class SafeDisplay:
    """Passes snapshots to a display up to its first error, so that a display cannot end a run.

    Args:
        display: The display.
        keep_open: Do not close the display, because another run follows that it shows, too.
    """

    def __init__(self, display: Progress, *, keep_open: bool = False) -> None:
        self._display: Progress | None = display
        self._keep_open = keep_open

    def update(self, snapshot: Snapshot) -> None:
        """Show the latest state of the run."""
        self._try(lambda display: display.update(snapshot))

    def close(self) -> None:
        """Show the final state and end."""
        if not self._keep_open:
            self._try(lambda display: display.close())

    def _try(self, action: Callable[[Progress], None]) -> None:
        if self._display is not None:
            try:
                action(self._display)
            except Exception as error:  # noqa: BLE001  # a display can raise anything
                self._display = None
                # This raises if warnings are errors, or if there is no stream for them.
                with contextlib.suppress(Exception):
                    warnings.warn(
                        f"The progress display failed ({type(error).__name__}). The run continues "
                        "without it.",
                        RuntimeWarning,
                        stacklevel=4,
                    )


def check_progress(progress: Any) -> None:
    """Refuse what is no display.

    Raises:
        BadInputError: It is none.
    """
    methods = [getattr(progress, name, None) for name in ("update", "close")]
    if not (isinstance(progress, bool) or progress == "tqdm" or all(map(callable, methods))):
        raise BadInputError(
            "progress must be True, False, 'tqdm', or an object with the methods update(snapshot) "
            f"and close(), not {progress!r:.80}."
            if isinstance(progress, str)
            else "progress must be True, False, 'tqdm', or an object with the methods "
            f"update(snapshot) and close(), not {type(progress).__name__}."
        )


def make_progress(progress: ProgressChoice, *, keep_open: bool = False) -> Progress:
    """Choose a display.

    Args:
        progress: True for the display that fits the environment, False for none, ``"tqdm"`` for a
            bar of tqdm, or a display.
        keep_open: Another run follows, which a display that was passed shows as well.
    """
    if progress is False:
        return NoDisplay()
    if not isinstance(progress, bool | str):
        return SafeDisplay(progress, keep_open=keep_open)
    try:
        return SafeDisplay(TqdmDisplay() if progress == "tqdm" else _default_display())
    except Exception:  # noqa: BLE001  # a run without a display is better than none
        return NoDisplay()


def _default_display() -> Progress:
    if in_marimo():
        return MarimoDisplay()
    if in_notebook():
        return NotebookDisplay(only_at_end=is_captured())
    if sys.stderr.isatty():
        return TerminalDisplay()
    return LogDisplay()

"""Shows progress as one line of a terminal, which is redrawn."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from tqdm import tqdm

from cdp_backfill.results.progress import wording
from cdp_backfill.results.progress.display import Display
from cdp_backfill.results.progress.snapshots import State

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from cdp_backfill.results.progress.pace import Pace
    from cdp_backfill.results.progress.snapshots import Snapshot

_INTERVAL: Final = 0.1
_BAR_WIDTH: Final = 10  # characters; less in a narrow terminal
_DEFAULT_COLUMNS: Final = 80  # if the width of the terminal is unknown

_TITLES: Final = {
    State.STOPPING: "Stopping",
    State.DONE: "Done",
    State.INTERRUPTED: "Interrupted",
    State.STOPPED: "Stopped",
}


class TerminalDisplay(Display):
    """A tqdm bar, followed by as many figures as fit, the most important ones first.

    The line is always shorter than the terminal is wide, since a longer one would scroll.

    Args:
        file: The stream to write to; None for standard error.
        columns: Width of the terminal; None reads it each time, since a window can be resized.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self,
        file: TextIO | None = None,
        *,
        columns: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(_INTERVAL, clock=clock)
        self._file = file or sys.stderr
        self._columns = columns
        self._bar: Any = None

    def show(self, pace: Pace) -> None:
        """Redraw the line."""
        now = pace.now
        # The last column stays empty, since some terminals start a new line after it.
        width = (self._columns or _width(self._file)) - 1
        head = f"{_title(now)} {wording.percent(now):>4}"
        bar, bar_width = "", 0
        if now.share is not None:
            size = min(_BAR_WIDTH, width // 8)
            bar, bar_width = f"|{{bar:{size}}}|", size + 2
        text = f"{head}{bar} {_figures(pace, width - len(head) - bar_width - 1)}"
        share = now.share or 0.0
        if self._bar is None:
            # With miniters, tqdm does not draw from its own thread.
            self._bar = tqdm(
                total=1.0,
                initial=share,
                file=self._file,
                ncols=width,
                miniters=1,
                bar_format=text,
            )
        self._bar.ncols, self._bar.bar_format, self._bar.n = width, text, share
        # An interrupt while tqdm's lock is held would block all bars, which share it.
        self._bar.refresh(nolock=True)

    def close(self) -> None:
        """Show the final state and leave the line in place."""
        super().close()
        if self._bar is not None:
            self._bar.close()


def _title(now: Snapshot) -> str:
    """The state in one word; before it, whether the rows are identities."""
    is_identities = now.call == "identify"
    if now.state is State.RUNNING:
        return "Identities" if is_identities else "Backfill"
    return f"Identities {_TITLES[now.state].lower()}" if is_identities else _TITLES[now.state]


def _figures(pace: Pace, width: int) -> str:
    """As many figures as fit, the most important ones first."""
    now, rate = pace.now, pace.rate
    if now.tasks is not None:
        return _join_fitting([wording.row_count(now), *wording.speed(pace)], width)
    total = "" if now.total is None else f"/{wording.short_number(now.total)}"
    failures = code = ""
    if now.not_delivered:
        plural = "s" * (now.not_delivered != 1)
        failures = f"{wording.short_number(now.not_delivered)} failure{plural}"
        code = "".join(f" ({reason.code})" for reason in now.reasons[:1])
    parts = [f"{wording.short_number(now.rows)}{total}", failures]
    parts.append("" if rate is None else f"{wording.short_number(rate)}/s")
    if now.state is State.RUNNING:
        seconds = pace.seconds_left
        parts.append(f"{'?' if seconds is None else wording.remaining_time(seconds)} left")
    if now.state.ended:
        parts.append(f"in {wording.elapsed_time(now.seconds)}")
    if pace.is_slowed:
        parts.append(pace.activity)
    text = _join_fitting(parts, width)
    if failures in text and len(text) + len(code) <= width:
        text = text.replace(failures, failures + code, 1)
    less_important = [
        "" if pace.is_slowed else pace.activity,
        "" if now.state.ended else wording.in_flight(now),
        f"{now.requests:,} requests",
        f"{wording.megabytes(now.wire_bytes)} sent",
    ]
    return _join_fitting([text, *less_important], width)


def _join_fitting(parts: list[str], width: int) -> str:
    """Join the parts that fit; a part that is too long is left out."""
    text = ""
    for part in parts:
        longer = f"{text}, {part}" if text and part else text or part
        if len(longer) <= width:
            text = longer
    return text


def _width(file: TextIO) -> int:
    try:
        return os.get_terminal_size(file.fileno()).columns or _DEFAULT_COLUMNS
    except (OSError, ValueError):
        return _DEFAULT_COLUMNS

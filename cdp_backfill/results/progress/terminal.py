"""Progress as one line of a terminal that moves."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from tqdm import tqdm

from cdp_backfill.results.progress import words
from cdp_backfill.results.progress.showing import Display
from cdp_backfill.results.progress.snapshots import State

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from cdp_backfill.results.progress.pace import Pace

_INTERVAL: Final = 0.1
_BAR: Final = 10  # characters of the bar; less in a narrow terminal
_COLUMNS: Final = 80  # where the terminal does not tell

_TITLES: Final = {
    State.STOPPING: "Stopping",
    State.DONE: "Done",
    State.INTERRUPTED: "Interrupted",
    State.STOPPED: "Stopped",
}


class Bar(Display):
    """A tqdm bar with what matters behind it, as much of it as the line has room for.

    The line is never longer than the terminal is wide: what is longer would scroll.

    Args:
        file: Where to; None for the standard error stream.
        columns: Width; None asks the terminal each time, since a window can be resized.
        clock: Seconds that only go forward.
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
        """Move the bar."""
        now = pace.now
        # The last column stays free: some terminals begin a new line once it is written to.
        room = (self._columns or _width(self._file)) - 1
        head = f"{_TITLES.get(now.state, 'Backfill')} {words.percent(now):>4}"
        size = min(_BAR, room // 8)
        drawn, used = ("", 0) if now.share is None else (f"|{{bar:{size}}}|", size + 2)
        text = f"{head}{drawn} {_fitting(pace, room - len(head) - used - 1)}"
        done = now.share or 0.0
        if self._bar is None:
            # With miniters, tqdm does not draw from a thread of its own.
            self._bar = tqdm(
                total=1.0,
                initial=done,
                file=self._file,
                ncols=room,
                miniters=1,
                bar_format=text,
            )
        self._bar.ncols, self._bar.bar_format, self._bar.n = room, text, done
        # An interrupt in between would leave tqdm's lock taken, which all bars share.
        self._bar.refresh(nolock=True)

    def close(self) -> None:
        """Leave the bar as it stands."""
        super().close()
        if self._bar is not None:
            self._bar.close()


def _fitting(pace: Pace, room: int) -> str:
    """As much as there is room for, what matters most first."""
    now, rate = pace.now, pace.rate
    of = "" if now.total is None else f"/{words.short(now.total)}"
    failures = why = ""
    if now.not_delivered:
        failures = f"{words.short(now.not_delivered)} failure{'s' * (now.not_delivered != 1)}"
        why = "".join(f" ({reason.code})" for reason in now.reasons[:1])
    parts = [f"{words.short(now.rows)}{of}", failures]
    parts.append("" if rate is None else f"{words.short(rate)}/s")
    if now.state is State.RUNNING:
        left = pace.seconds_left
        parts.append(f"{'?' if left is None else words.span(left)} left")
    if now.state.ended:
        parts.append(f"in {words.taken(now.seconds)}")
    if pace.is_held:
        parts.append(pace.doing)
    shown = _joined(parts, room)
    if failures in shown and len(shown) + len(why) <= room:
        shown = shown.replace(failures, failures + why, 1)
    more = [
        "" if pace.is_held else pace.doing,
        f"{now.requests:,} requests",
        f"{words.megabytes(now.wire_bytes)} sent",
    ]
    return _joined([shown, *more], room)


def _joined(parts: list[str], room: int) -> str:
    """Those of the parts that fit; one that is too long gives way to the next."""
    shown = ""
    for part in parts:
        longer = f"{shown}, {part}" if shown and part else shown or part
        if len(longer) <= room:
            shown = longer
    return shown


def _width(file: TextIO) -> int:
    try:
        return os.get_terminal_size(file.fileno()).columns or _COLUMNS
    except (OSError, ValueError):
        return _COLUMNS

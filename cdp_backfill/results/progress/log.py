"""Shows progress as lines of a log."""

from __future__ import annotations

import logging
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Final

from cdp_backfill.printable import printable
from cdp_backfill.results.progress import wording
from cdp_backfill.results.progress.display import Display

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from cdp_backfill.results.progress.pace import Pace

LOG_SECONDS: Final = 10.0
"""Seconds between two lines."""

LOGGER: Final = logging.getLogger("cdp_backfill")
"""The logger of the package. Its lines have no cell of a row and no key."""


class SafeFormatter(logging.Formatter):
    """The message, in which no name of a column or file can steer a terminal."""

    def __init__(self, form: str = "%(message)s") -> None:
        super().__init__(form)

    def format(self, record: logging.LogRecord) -> str:
        """The message as text."""
        return printable(super().format(record))


class LineFormatter(SafeFormatter):
    """A line with the time and its zone, the level and the message.

    >>> record = logging.makeLogRecord({"created": 0, "levelname": "INFO", "msg": "Done"})
    >>> LineFormatter().format(record).split(" ", 1)[1]
    'INFO Done'
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatTime(  # noqa: N802  # as logging names it
        self, record: logging.LogRecord, datefmt: str | None = None
    ) -> str:
        """The time in ISO 8601, with the offset of the local time."""
        moment = datetime.fromtimestamp(record.created).astimezone()
        return moment.strftime(datefmt) if datefmt else moment.isoformat(timespec="seconds")


class LogDisplay(Display):
    """Logs a line every ten seconds, for output that is not a terminal.

    The lines go to the logger ``cdp_backfill`` with level INFO. If the program has set up no
    handler for it, they are written to standard error.

    Args:
        file: The stream to write to instead; None for the above.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self, file: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(LOG_SECONDS, first=LOG_SECONDS, clock=clock)
        self._file = file

    def show(self, pace: Pace) -> None:
        """Log a line."""
        now = pace.now
        percent = f" ({wording.percent(now)})" if now.share is not None else ""
        parts = [
            f"{wording.title(now)}: {wording.row_count(now)}{percent}",
            *wording.speed(pace),
            *wording.outcomes(now),
            *wording.traffic(pace),
        ]
        # Without the words of a server, which can quote a row.
        reasons = "".join(f"; {reason.rows:,} x {reason.code}" for reason in now.reasons)
        self._write(", ".join(parts) + reasons)

    def _write(self, line: str) -> None:
        if self._file is None and LOGGER.hasHandlers():
            LOGGER.info("%s", line)
            return
        record = LOGGER.makeRecord(LOGGER.name, logging.INFO, "", 0, line, (), None)
        print(LineFormatter().format(record), file=self._file or sys.stderr, flush=True)

"""What commands write to standard error: sentences for people, or lines of a log for jobs."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING

from cdp_backfill.results.progress import LOGGER, LineFormatter, SafeFormatter

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def logging_to_stderr(*, lines: bool | None = None) -> Iterator[None]:
    """Send what the package logs to standard error.

    Args:
        lines: Write the time and the level before each line, and report the start and the end of a
            run; None does where standard error is no terminal.
    """
    has_lines = is_log(lines=lines)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter() if has_lines else SafeFormatter())
    earlier = LOGGER.level, LOGGER.propagate
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False  # the process is the command's: nobody else logs
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.level, LOGGER.propagate = earlier


def is_log(*, lines: bool | None = None) -> bool:
    """Whether standard error gets lines of a log."""
    return not sys.stderr.isatty() if lines is None else lines

"""Exit codes, and what commands print."""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import typer

from cdp_backfill.errors import BackfillError, BadInputError, StoppedError
from cdp_backfill.model.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cdp_backfill.results.reports import Report


def exit_with(action: Callable[[], int], *, as_json: bool = False) -> NoReturn:
    """Run a command and exit with its code; an error is one line, not a traceback."""
    try:
        code = action()
    except BackfillError as error:
        kind = type(error).__name__
        if as_json:
            print(json.dumps({"error": kind, "message": str(error)}))
        print_error(f"{kind}: {error}")
        code = 2 if isinstance(error, BadInputError) else 1
    raise typer.Exit(code)


def print_error(text: str) -> None:
    """Print a line to the standard error stream."""
    print(text, file=sys.stderr)


def show_report(
    action: Callable[[], Report],
    save: Path | None,
    *,
    as_json: bool,
    may_send_nothing: bool = True,
) -> int:
    """Run a backfill, print and save its report, and return the exit code.

    SIGTERM ends it as Ctrl-C does: the process belongs to the command.

    Args:
        action: The backfill.
        save: Folder for the report, or None.
        as_json: Print JSON instead of text.
        may_send_nothing: Skipping every row is a success.
    """
    terminated = False

    def terminate(_: int, __: object) -> None:
        nonlocal terminated
        terminated = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)
    if save:  # rather now than after the run
        try:
            save.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise BadInputError(
                f"The report cannot be saved: {problem}. Give --save another folder."
            ) from problem
    error: StoppedError | None = None
    try:
        report = action()
    except StoppedError as stopped:
        if stopped.report is None:
            raise
        report, error = stopped.report, stopped
    details = {"error": type(error).__name__, "message": str(error)} if error else {}
    print(json.dumps(report.to_dict() | details) if as_json else report)
    if save and not _try_to_save(report, save):
        return 1
    if error is not None:
        print_error(f"{type(error).__name__}: {error}")
        return 1
    if report.interrupted:
        return 128 + (signal.SIGTERM if terminated else signal.SIGINT)
    return 0 if _is_success(report, may_send_nothing=may_send_nothing) else 1


def _try_to_save(report: Report, folder: Path) -> bool:
    try:
        report.save(folder)
    except OSError as problem:  # such as a disk that is full
        print_error(
            f"The report could not be saved in full: {problem.strerror or problem}. What fitted is "
            f"in {folder}."
        )
        return False
    print_error(f"The report and the rows that did not arrive are in {folder}.")
    return True


def _is_success(report: Report, *, may_send_nothing: bool) -> bool:
    skipped = report.counts[Outcome.SKIPPED]
    if report.canary is not None:  # rows and identities of the rest are no failures
        parts = [report] if report.identities is None else [report, report.identities]
        done = Outcome.DELIVERED, Outcome.SKIPPED, Outcome.UNSENT
        return all(
            sum(part.counts[name] for name in done) - part.unmapped == part.rows for part in parts
        )
    if report.rows == skipped > 0 and not may_send_nothing:
        return False
    return report.ok

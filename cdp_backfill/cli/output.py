"""Exit codes, and what commands print."""

from __future__ import annotations

import json
import logging
import signal
import sys
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from cdp_backfill.cli.log import is_log, logging_to_stderr
from cdp_backfill.cli.words import in_options
from cdp_backfill.errors import (
    ApiKeyError,
    AuthenticationError,
    BackfillError,
    BadInputError,
    StoppedError,
)
from cdp_backfill.model.outcomes import UNMAPPED, Outcome
from cdp_backfill.results.missing import parse_allowed
from cdp_backfill.results.progress import LOGGER, LogDisplay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cdp_backfill.model.views import View
    from cdp_backfill.pipeline.plans import Plan
    from cdp_backfill.results.progress import Progress
    from cdp_backfill.results.reports import Report


class ExitCode(IntEnum):
    """Exit codes of the commands; a signal adds its number to 128."""

    AS_WANTED = 0
    """each row was delivered, skipped on purpose or held on request, or --allow names why not"""
    MISSING = 1
    """rows are missing, or there was nothing to send although you did not choose that"""
    USAGE = 2
    """wrong options or input, or an open question of the plan; nothing was sent"""
    STOPPED = 3
    """an error stopped the run, or recent rows kept it from starting"""
    KEY = 4
    """there is no API key, it is malformed, or the server rejected it"""


@dataclass(frozen=True, kw_only=True)
class Output:
    """How a command prints.

    Attributes:
        as_json: Print JSON instead of text.
        samples: Show cells of the table; None does on a terminal.
        log: Write lines of a log to standard error; None does where it is no terminal.
        allow: Outcomes and codes of rows that may be missing.
    """

    as_json: bool = False
    samples: bool | None = None
    log: bool | None = None
    allow: Sequence[str] = ()

    @property
    def shows_cells(self) -> bool:
        """Whether standard output may show cells."""
        return sys.stdout.isatty() if self.samples is None else self.samples

    def progress(self, *, shown: bool) -> bool | Progress:
        """What ``progress`` of a run is to be."""
        return LogDisplay() if shown and self.log else shown

    def print_view(self, view: View) -> None:
        """Print a view in the words of the command line."""
        print((view if self.shows_cells else view.without_cells()).reworded(in_options).text())

    def print_plan(self, plan: Plan) -> None:
        """Print a plan."""
        if not self.as_json:
            self.print_view(plan._view())  # noqa: SLF001  # of this package
            return
        values = plan.to_dict()
        print(json.dumps(values if self.shows_cells else _without_cells(values)))

    def print_report(self, report: Report, **more: str) -> None:
        """Print a report, and as JSON further values."""
        quote = self.shows_cells
        if self.as_json:
            print(json.dumps(report.to_dict(quote_server=quote) | more))
        else:
            self.print_view(report._view(quote_server=quote))  # noqa: SLF001  # of this package


def exit_with(action: Callable[[], int], output: Output | None = None) -> NoReturn:
    """Run a command and exit with its code; an error is one line, not a traceback."""
    output = output or Output()
    with logging_to_stderr(lines=output.log):
        try:
            parse_allowed(output.allow)
            code = action()
        except BackfillError as error:
            name, text = _described(error)
            if output.as_json:
                print(json.dumps({"error": name, "message": text}))
            LOGGER.error("%s: %s", name, text)
            code = exit_code_of(error)
    raise typer.Exit(int(code))


def exit_code_of(error: BackfillError) -> ExitCode:
    """The exit code of an error."""
    if isinstance(error, ApiKeyError | AuthenticationError):
        return ExitCode.KEY
    return ExitCode.USAGE if isinstance(error, BadInputError) else ExitCode.STOPPED


def plan_exit_code(plan: Plan, output: Output, *, recent: str, may_send_nothing: bool) -> ExitCode:
    """The code with which ``send`` would exit if the server accepted every request.

    Args:
        plan: The plan.
        output: What may be missing.
        recent: What the run does with recent rows.
        may_send_nothing: Skipping every row is a success.
    """
    if not plan.proposal.complete:
        return ExitCode.USAGE
    if recent == "raise" and plan.recent:
        return ExitCode.STOPPED
    if plan.rows and plan.rows == plan.skipped and not may_send_nothing:
        return ExitCode.MISSING
    allowed = parse_allowed(output.allow)
    plans = [plan] if plan.identities is None else [plan, plan.identities]
    for each in plans:
        codes = {problem.code for problem in each.problems} - {UNMAPPED}
        if each.unmapped and UNMAPPED not in allowed:
            return ExitCode.MISSING
        if each.invalid and Outcome.INVALID not in allowed and not codes <= allowed:
            return ExitCode.MISSING
    return ExitCode.AS_WANTED


def show_report(
    action: Callable[[], Report],
    save: Path | None,
    output: Output,
    *,
    may_send_nothing: bool = True,
) -> int:
    """Run a backfill, print and save its report, and return the exit code.

    SIGTERM ends it as Ctrl-C does: the process belongs to the command.

    Args:
        action: The backfill.
        save: Folder for the report, or None.
        output: How to print.
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
    details = {}
    if error is not None:
        details = dict(zip(("error", "message"), _described(error), strict=True))
    output.print_report(report, **details)
    is_missing = _is_missing(report, output, may_send_nothing=may_send_nothing)
    if is_log(lines=output.log):
        _log_result(report, logging.WARNING if is_missing else logging.INFO)
    is_saved = not save or _try_to_save(report, save)
    if error is not None:
        LOGGER.error("%s: %s", *_described(error))
        return exit_code_of(error)
    if report.interrupted:
        return 128 + (signal.SIGTERM if terminated else signal.SIGINT)
    return ExitCode.MISSING if is_missing or not is_saved else ExitCode.AS_WANTED


def _described(error: BackfillError) -> tuple[str, str]:
    """The name of an error and its sentence, without the report, which is shown by itself."""
    text = error.message if isinstance(error, StoppedError) else str(error)
    return type(error).__name__, in_options(text)


def _log_result(report: Report, level: int) -> None:
    LOGGER.log(level, "%s", in_options(report.summary))
    for reason in report.by_reason().itertuples():
        LOGGER.log(level, "%s rows: %s, %s", f"{reason.rows:,}", reason.outcome, reason.code)


def _try_to_save(report: Report, folder: Path) -> bool:
    try:
        report.save(folder)
    except OSError as problem:  # such as a disk that is full
        LOGGER.error(
            "The report could not be saved in full: %s. What fitted is in %s.",
            problem.strerror or problem,
            folder,
        )
        return False
    LOGGER.info("The report and the rows that did not arrive are in %s.", folder)
    return True


def _is_missing(report: Report, output: Output, *, may_send_nothing: bool) -> bool:
    if report.rows == report.counts[Outcome.SKIPPED] > 0 and not may_send_nothing:
        return True
    return bool(report.missing(allow=output.allow))


def _without_cells(plan: dict[str, Any]) -> dict[str, Any]:
    """A plan as plain values, without cells of the table."""
    columns = [{**column, "sample": ""} for column in plan["columns"]]
    inner = plan["identities"] and _without_cells(plan["identities"])
    questions = [{**question, "example": ""} for question in plan["questions"]]
    cleared: dict[str, Any] = {"samples": [], "unknown_events": {}, "questions": questions}
    return plan | cleared | {"columns": columns, "identities": inner}

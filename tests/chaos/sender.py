"""The process that sends, and that is killed."""

from __future__ import annotations

import _thread
import functools
import os
import re
import signal
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

import cdp_backfill as cdp
from cdp_backfill.delivery import rate_control, retry, transport
from cdp_backfill.delivery import sender as delivery_sender
from cdp_backfill.pipeline.journal import Journal
from tests.chaos.inputs import FILES, identity_key

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from tests.chaos.inputs import Key, Table

# Imported here, before processes are forked.
_SEND, _RESUME = cdp.send, cdp.resume

FOLDER_VARIABLE: Final = "CDP_CHAOS_FOLDER"
"""The variable by which worker processes are known; its value is the folder of the chain."""

WRITES: Final = ("begin", "add", "change", "close")
"""What writes to the journal."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a process does.

    Attributes:
        table: What it sends.
        url: Where to.
        journal: The journal, or None for none.
        verb: ``send`` or ``resume``.
        folder: Where reports are saved, and temporary files are.
        options: Of the destination.
        arguments: Of the verb.
        retries: How often the report is retried, while there is something to retry.
        kill_at: A write of the journal at which the process is killed: its name, its number, and
            the seconds from the beginning of the write; None to kill it before the write.
    """

    table: Table
    url: str
    journal: str | None
    verb: str
    folder: str
    options: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    retries: int = 0
    kill_at: tuple[str, int, float | None] | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """What a run says of itself.

    Attributes:
        rows: Its rows.
        counts: Rows by outcome.
        maybe_twice: Rows that may have arrived twice.
        delivered_before: Rows that an earlier run delivered.
        others: The rows among its failures, with their outcomes.
        misplaced: Rows whose file or row number in the failures is wrong.
        identities: The same of the identities, if there are any.
        error: Class and text of the error that it ended with, or empty.
        ended: Whether the run ended; False if an interrupt came before it began.
        saved: The folder with its files.
        first: It is about one run, not about that and its retries.
    """

    rows: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    maybe_twice: int = 0
    delivered_before: int = 0
    others: dict[Key, str] = field(default_factory=dict)
    misplaced: tuple[Key, ...] = ()
    identities: Account | None = None
    error: str = ""
    ended: bool = True
    saved: str = ""
    first: bool = True


shared_tls = functools.cache(transport.tls_context)
"""Making one takes longer than a run of the chaos, which does without TLS."""

shared_tls()  # before processes are forked


def short_waits() -> None:
    """The same waits as ever, only shorter."""
    delivery_sender.tls_context = shared_tls  # type: ignore[attr-defined]
    retry.BASE_SECONDS = 0.002  # type: ignore[misc]
    rate_control._MIN_RATE = 500.0  # type: ignore[misc]


def work(step: Step, connection: Connection) -> None:
    """Do a step in a process of its own, and send an account of each run; then end."""
    short_waits()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tempfile.tempdir = step.folder
    os.environ[FOLDER_VARIABLE] = step.folder
    if step.kill_at is not None:
        _kill_at(*step.kill_at)
    interrupts = Interrupts(connection)
    connection.send("ready")
    report: cdp.Report | None = None
    for number in range(step.retries + 1):
        if number and (report is None or not _worth_a_retry(report)):
            break
        account, report = run(step, report, interrupts, number)
        connection.send(account)
        # It is judged by what the server has now, not by what the next run sends.
        interrupts.judged.wait(60)
        interrupts.judged.clear()
    connection.send(None)
    # What is still on the wire after a second interrupt ends with the process.
    connection.close()
    os._exit(0)


class Interrupts:
    """Interrupts the main thread, as Ctrl-C does, while a run is under way."""

    def __init__(self, connection: Connection | None) -> None:
        self.armed = False
        self.judged = threading.Event()
        if connection is not None:
            threading.Thread(target=self._listen, args=(connection,), daemon=True).start()

    def _listen(self, connection: Connection) -> None:
        try:
            while told := connection.recv():
                if told == "judged":
                    self.judged.set()
                elif self.armed:
                    _thread.interrupt_main()
        except (EOFError, OSError):
            return


def run(
    step: Step, before: cdp.Report | None, interrupts: Interrupts, number: int
) -> tuple[Account, cdp.Report | None]:
    """One run, or a retry of the one before; the report is that of all runs so far."""
    error = ""
    report: cdp.Report | None = None
    try:
        interrupts.armed = True
        try:
            report = _sent(step) if before is None else before.retry()
        except cdp.BackfillError as stopped:
            error = f"{type(stopped).__name__}: {stopped}"
            report = getattr(stopped, "report", None)
        interrupts.armed = False
    except KeyboardInterrupt:
        interrupts.armed = False
    if report is None:
        return Account(error=error, ended=False), before
    if before is not None:
        report = before + report
    folder = os.path.join(step.folder, f"report-{time.time_ns()}-{number}")  # noqa: PTH118
    report.save(folder)
    return account_of(report, step.table, error, folder, first=before is None), report


def account_of(
    report: cdp.Report, table: Table, error: str = "", folder: str = "", *, first: bool = True
) -> Account:
    """What a report says, and that of its identities."""
    failures = report.failures.to_dict("records")
    numbers = [_number(line) for line in failures]
    places = [(Path(str(line["cdp_source"])).name, int(line["cdp_row"])) for line in failures]
    wrong = (
        number
        for number, place in zip(numbers, places, strict=True)
        if table.places and place != table.places[number]
    )
    account = _account(report, numbers, failures, first=first)
    if report.identities is not None:
        failures = report.identities.failures.to_dict("records")
        keys = [identity_key(line["aid"], line["uid"]) for line in failures]
        identities = _account(report.identities, keys, failures, first=first)
        account = replace(account, identities=identities)
    return replace(account, misplaced=tuple(wrong), error=error, saved=folder)


def _account(
    report: cdp.Report, keys: Sequence[Key], failures: list[dict[Any, Any]], *, first: bool
) -> Account:
    outcomes = (str(line["cdp_outcome"]) for line in failures)
    return Account(
        report.rows,
        {str(name): rows for name, rows in report.counts.items() if rows},
        report.maybe_twice,
        report.delivered_before,
        dict(zip(keys, outcomes, strict=True)),
        first=first,
    )


def _number(failure: dict[Any, Any]) -> int:
    """The number of the row: of a line that cannot be read, the first in its text."""
    number = failure["n"]
    if not pd.isna(number):
        return int(number)
    found = re.search(r"\d+", failure["cdp_text"])
    return int(found[0]) if found else -1


def _sent(step: Step) -> cdp.Report:
    destination = cdp.Destination(api_key="chaos", base_url=step.url, **step.options)
    how: dict[str, Any] = {"destination": destination, "progress": False, **step.arguments}
    table = step.table
    how |= table.options
    source = table.source()
    if step.verb == "resume" and step.journal is not None:
        # The journal remembers files, identities and options.
        remembered = () if table.shape.container in FILES else (source,)
        how = {name: value for name, value in how.items() if name not in table.options}
        how |= table.forgotten
        return _RESUME(step.journal, *remembered, **how)
    return _SEND(source, table.mapping, journal=step.journal or False, **how)


def _worth_a_retry(report: cdp.Report) -> bool:
    return any(report.counts[name] for name in ("failed", "unknown", "unsent"))


def _kill_at(name: str, number: int, seconds: float | None) -> None:
    """Kill this process at a write of the journal."""
    write, calls = getattr(Journal, name), [0]

    def killing(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            if seconds is None:
                kill()
            threading.Thread(target=_kill_in, args=(seconds,), daemon=True).start()
        return write(*arguments)

    setattr(Journal, name, killing)


def _kill_in(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:  # a sleep is not exact enough
        pass
    kill()


def kill() -> None:
    """Kill this process as ``kill -9`` does."""
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

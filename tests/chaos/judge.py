"""Holds what runs say of themselves against what the server truly accepted."""

from __future__ import annotations

import json
import sqlite3
import stat
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from cdp_backfill.pipeline.journal import read_journal

if TYPE_CHECKING:
    from tests.chaos.inputs import Table
    from tests.chaos.sender import Account
    from tests.chaos.server import ChaosServer, Record


@dataclass
class Figures:
    """What was done and found.

    Attributes:
        chains: Chains of runs.
        kills: Processes that were killed while they sent, by what the kill waited for.
        interrupts: Interrupts.
        resumes: Runs that went on with a journal.
        retries: Calls of ``report.retry()``.
        rows: Rows of all tables.
        accepted: Acceptances of a row.
        inputs: Tables by container.
        faults: Faults by kind, when and place.
        lost: Good rows that the server lacks at the end of a chain.
        skipped: Rows that a run called delivered and the server lacks.
        twice: Rows accepted more than once.
        counted: Those that the runs counted as maybe accepted twice.
        above: Rows accepted more than once beyond those that a run counted.
        wrong: Everything that is wrong, in words.
    """

    chains: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    interrupts: int = 0
    resumes: int = 0
    retries: int = 0
    rows: int = 0
    accepted: int = 0
    inputs: Counter[str] = field(default_factory=Counter)
    faults: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    lost: int = 0
    skipped: int = 0
    twice: int = 0
    counted: int = 0
    above: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Figures) -> None:
        """Add the figures of another chain."""
        for each in fields(self):
            both = getattr(self, each.name) + getattr(other, each.name)
            setattr(self, each.name, both)


class Judge:
    """Judges the runs of one chain.

    Args:
        table: What is sent.
        server: What was truly accepted.
        figures: Gets what is found.
        name: Of the chain, for what is wrong.
    """

    def __init__(self, table: Table, server: ChaosServer, figures: Figures, name: str) -> None:
        self._table, self._server, self._figures, self._name = table, server, figures, name

    def _wrong(self, text: str) -> None:
        self._figures.wrong.append(f"{self._name}: {text}")

    def run(self, account: Account) -> None:
        """Judge a run that ended."""
        table, record = self._table, self._server.truth()
        if not account.ended:
            if account.error and "is empty: the run" not in account.error:
                self._wrong(f"an error without a report: {account.error}")
            return
        if sum(account.counts.values()) != account.rows or account.rows != table.rows:
            self._wrong(f"{account.counts} of {account.rows} rows do not add up to {table.rows}")
        by_outcome = Counter(account.others.values())
        if by_outcome != Counter(account.counts) - Counter(
            {"delivered": account.counts.get("delivered", 0)}
        ):
            self._wrong(f"the failures have {by_outcome}, and the counts {account.counts}")
        if "AccountingError" in account.error or "unexpected error" in account.error:
            self._wrong(account.error)
        self._outcomes(account, record)
        called = [row for row in range(table.rows) if row not in account.others]
        lacking = [row for row in called if not record.accepted[row]]
        if lacking:
            self._figures.skipped += len(lacking)
            self._wrong(f"the server lacks rows {lacking}, which are called delivered")
        above = record.twice - account.maybe_twice
        if above > 0:
            self._figures.above += above
            self._wrong(f"{record.twice} rows arrived twice, maybe_twice is {account.maybe_twice}")
        self._saved(account)

    def _outcomes(self, account: Account, record: Record) -> None:
        """Judge the outcomes of the rows that are not called delivered."""
        table = self._table
        untrue: dict[str, list[int]] = {}
        for row, outcome in account.others.items():
            invalid = row in table.invalid
            if outcome != "unsent" and (outcome == "invalid") is not invalid:
                untrue.setdefault(f"{outcome}, and {invalid=}", []).append(row)
            taken = record.accepted[row] > record.denied[row]
            if outcome == "unsent" and account.first:  # an earlier run may have sent it
                taken = record.now[row] > record.denied[row]
            if taken and outcome != "unknown" and (outcome != "unsent" or account.first):
                untrue.setdefault(f"{outcome}, and the server has it", []).append(row)
        for text, rows in untrue.items():
            self._wrong(f"rows {rows} are {text}")

    def _saved(self, account: Account) -> None:
        try:
            saved = json.loads((Path(account.saved) / "report.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            self._wrong(f"report.json cannot be read: {error!r}")
            return
        if {name: rows for name, rows in saved["counts"].items() if rows} != account.counts:
            self._wrong("report.json has other counts")

    def journal(self, path: Path) -> None:
        """Judge a journal that no process uses."""
        if not path.exists() or not path.stat().st_size:
            return  # it was killed before
        try:
            with closing(sqlite3.connect(path)) as database:
                ((answer,),) = database.execute("PRAGMA integrity_check").fetchall()
            if answer != "ok":
                self._wrong(f"the journal is damaged: {answer}")
            if path.with_name(f"{path.name}.lock").exists():
                with FileLock(f"{path}.lock", blocking=False):
                    pass
        except Timeout:
            self._wrong("the journal is still locked")
        except sqlite3.Error as error:
            self._wrong(f"the journal cannot be read: {error!r}")

    def end(self, account: Account | None, journal: Path | None) -> None:
        """Judge a chain whose last run had no fault."""
        table, server, figures = self._table, self._server, self._figures
        record = server.record
        good = [row for row in table.valid if row not in server.refused_rows]
        lost = [row for row in good if not record.accepted[row]]
        if lost:
            figures.lost += len(lost)
            self._wrong(f"rows {lost} are lost")
        for row, ids in record.ids.items():
            if len(ids) > 1:
                self._wrong(f"row {row} came with {len(ids)} ids")
        if len(set().union(*record.ids.values())) != len(record.ids):
            self._wrong("two rows came with one id")
        if account is None or account.error:
            self._wrong(f"the last run did not end well: {account and account.error}")
        elif account.counts.get("delivered", 0) != len(good):
            self._wrong(f"the last run says {account.counts}, and {len(good)} rows are good")
        if journal is not None:
            self._left(journal, len(good))
        figures.chains += 1
        figures.rows += table.rows
        figures.inputs[table.container] += 1
        figures.accepted += record.accepted.total()
        figures.faults += record.faults
        figures.twice += record.twice
        figures.counted += account.maybe_twice if account else 0

    def _left(self, journal: Path, good: int) -> None:
        if read_journal(journal).delivered < good:
            self._wrong("the journal knows fewer rows than were delivered")
        if stat.S_IMODE(journal.stat().st_mode) & 0o077 and hasattr(stat, "S_IFSOCK"):
            self._wrong("others can read the journal")
        names = {path.name for path in journal.parent.iterdir() if "report-" not in path.name}
        kept = {journal.name, f"{journal.name}.lock", Path(self._table.path).name}
        if names - kept:
            self._wrong(f"left behind: {sorted(names - kept)}")

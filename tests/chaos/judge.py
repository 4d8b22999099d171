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

from cdp_backfill.pipeline.journal import identities_path, read_journal

if TYPE_CHECKING:
    from tests.chaos.inputs import Key, Rows, Table
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
        traits: Runs, rows and identities by what is special about them.
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
    traits: Counter[str] = field(default_factory=Counter)
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

    def count(self, table: Table) -> None:
        """Count a table whose chain has ended."""
        shape, events = table.shape, table.events
        self.inputs[shape.container] += 1
        self.rows += events.count
        self.traits["rows skipped by the mapping"] += len(events.skipped)
        self.traits["rows invalid or unreadable"] += len(events.invalid)
        self.traits["rows left out with where= or exclude="] += len(events.left_out)
        self.traits["tables with where="] += shape.where > 0
        self.traits["tables with exclude="] += shape.exclude > 0
        self.traits["tables with lines that cannot be read"] += shape.unreadable > 0
        self.traits["tables of several files"] += len(table.paths) > 1
        if table.identities is not None:
            self.traits[f"tables with identities from a {shape.identify}"] += 1
            self.traits["identities"] += table.identities.count


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
        table, server = self._table, self._server
        if not account.ended:
            if account.error and "is empty: the run" not in account.error:
                self._wrong(f"an error without a report: {account.error}")
            return
        if "AccountingError" in account.error or "unexpected error" in account.error:
            self._wrong(account.error)
        self._rows(account, table.events, server.truth(), "row")
        if (table.identities is None) is not (account.identities is None):
            self._wrong("the report has identities, or lacks them")
        if table.identities is not None and account.identities is not None:
            record = server.truth(identities=True)
            self._rows(account.identities, table.identities, record, "identity")
        if server.early:
            self._wrong(f"rows {sorted(map(str, server.early))} came before their identity")
        if account.misplaced:
            self._wrong(f"rows {account.misplaced} are said to be elsewhere")
        self._saved(account)

    def _rows(self, account: Account, rows: Rows, record: Record, name: str) -> None:
        """Judge what an account says of its rows."""
        counts = account.counts
        if sum(counts.values()) != account.rows or account.rows != rows.count:
            self._wrong(f"{counts} of {account.rows} ({name}) do not add up to {rows.count}")
        expected = Counter(account.others.values())
        silent = rows.left_out if rows.reported else rows.left_out | rows.skipped
        expected["skipped"] += len(silent - account.others.keys())
        called = [row for row in rows.valid if row not in account.others]
        expected["delivered"] += len(called)
        if +expected != Counter(counts):
            self._wrong(f"the failures ({name}) mean {expected}, and the counts are {counts}")
        lacking = [row for row in called if not record.accepted[row]]
        if lacking:
            self._figures.skipped += len(lacking)
            self._wrong(f"the server lacks {name} {lacking}, called delivered")
        above = record.twice - account.maybe_twice
        if above > 0:
            self._figures.above += above
            self._wrong(f"{record.twice} ({name}) came twice, maybe_twice is {account.maybe_twice}")
        self._outcomes(account, rows, record, name)

    def _outcomes(self, account: Account, rows: Rows, record: Record, name: str) -> None:
        """Judge the outcomes of the rows that are not called delivered."""
        untrue: dict[str, list[Key]] = {}
        for row, outcome in account.others.items():
            right = "invalid" if row in rows.invalid else ""
            if row in rows.skipped and rows.reported:
                right = "skipped"
            stays_out = row in rows.skipped or row in rows.left_out
            wrong = outcome in ("invalid", "skipped") or bool(right) or stays_out
            if outcome not in ("unsent", right) and wrong:
                untrue.setdefault(f"{outcome}, and not {right or 'so'}", []).append(row)
            taken = record.accepted[row] > record.denied[row]
            if outcome == "unsent" and account.first:  # an earlier run may have sent it
                taken = record.now[row] > record.denied[row]
            if taken and outcome != "unknown" and (outcome != "unsent" or account.first):
                untrue.setdefault(f"{outcome}, and the server has it", []).append(row)
        for text, found in untrue.items():
            self._wrong(f"{name} {found}: {text}")
        out = (*rows.invalid, *rows.skipped, *rows.left_out)
        if never := [row for row in out if row in record.arrived]:
            self._wrong(f"{name} {never} came, and should stay out")

    def _saved(self, account: Account) -> None:
        try:
            saved = json.loads((Path(account.saved) / "report.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            self._wrong(f"report.json cannot be read: {error!r}")
            return
        if {name: rows for name, rows in saved["counts"].items() if rows} != account.counts:
            self._wrong("report.json has other counts")

    def journals(self, path: Path) -> None:
        """Judge the journals of a chain, which no process uses."""
        for each in (path, identities_path(path)):
            self._journal(each)

    def _journal(self, path: Path) -> None:
        if not path.exists() or not path.stat().st_size:
            return  # it was killed before
        try:
            with closing(sqlite3.connect(path)) as database:
                ((answer,),) = database.execute("PRAGMA integrity_check").fetchall()
            if answer != "ok":
                self._wrong(f"{path.name} is damaged: {answer}")
            if path.with_name(f"{path.name}.lock").exists():
                with FileLock(f"{path}.lock", blocking=False):
                    pass
        except Timeout:
            self._wrong(f"{path.name} is still locked")
        except sqlite3.Error as error:
            self._wrong(f"{path.name} cannot be read: {error!r}")

    def end(self, account: Account | None, journal: Path | None) -> None:
        """Judge a chain whose last run had no fault."""
        table, server, figures = self._table, self._server, self._figures
        if account is None or account.error:
            self._wrong(f"the last run did not end well: {account and account.error}")
        good = self._all_came(table.events, server.record, account, "row")
        if journal is not None:
            self._known(journal, good)
        if table.identities is not None:
            of_identities = account.identities if account else None
            good = self._all_came(table.identities, server.identities, of_identities, "identity")
            if journal is not None:
                self._known(identities_path(journal), good)
        if journal is not None:
            self._left(journal)
        figures.chains += 1
        figures.count(table)
        figures.faults += server.faults
        server.faults.clear()

    def _all_came(self, rows: Rows, record: Record, account: Account | None, name: str) -> int:
        """Judge whether all rows came that should; their number."""
        figures = self._figures
        good = [row for row in rows.valid if row not in self._server.refused_rows]
        lost = [row for row in good if not record.accepted[row]]
        if lost:
            figures.lost += len(lost)
            self._wrong(f"{name} {lost} are lost")
        for row, ids in record.ids.items():
            if len(ids) > 1:
                self._wrong(f"{name} {row} came with {len(ids)} ids")
        if len(set().union(*record.ids.values())) != len(record.ids):
            self._wrong(f"two came with one id ({name})")
        if account is not None and account.counts.get("delivered", 0) != len(good):
            self._wrong(f"the last run says {account.counts}, and {len(good)} ({name}) are good")
        figures.accepted += record.accepted.total()
        figures.twice += record.twice
        figures.counted += account.maybe_twice if account else 0
        return len(good)

    def _known(self, journal: Path, good: int) -> None:
        if read_journal(journal).delivered < good:
            self._wrong(f"{journal.name} knows fewer rows than were delivered")
        if stat.S_IMODE(journal.stat().st_mode) & 0o077 and hasattr(stat, "S_IFSOCK"):
            self._wrong(f"others can read {journal.name}")

    def _left(self, journal: Path) -> None:
        table = self._table
        names = {path.name for path in journal.parent.iterdir() if "report-" not in path.name}
        journals = [journal] + [identities_path(journal)] * (table.identities is not None)
        kept = {name for each in journals for name in (each.name, f"{each.name}.lock")}
        excluded = table.excluded if isinstance(table.excluded, str) else ""
        kept |= {Path(path).name for path in (*table.paths, table.people, excluded) if path}
        if names - kept:
            self._wrong(f"left behind: {sorted(names - kept)}")

"""Chains of runs over one journal: killed, interrupted, resumed, retried."""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from tests.chaos.faults import FAULTS, KINDS, PLACES, WHENS
from tests.chaos.inputs import CONTAINERS, FILES, Shape, Table, written
from tests.chaos.judge import Figures, Judge
from tests.chaos.sender import FOLDER_VARIABLE, WRITES, Account, Step, work
from tests.chaos.server import ChaosServer, Planned, chaos_serving

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from tests.chaos.inputs import Key

MOST_STEPS: Final = 12
"""Runs of a chain before its last one, at most."""

WANTED: Final = ("column", "file", "processes", "unreadable", "where", "exclude")
"""Parts of a chain: identities from a column or a file, worker processes, cut lines, rows that are
left out."""

_SECONDS: Final = 60.0
"""A run that takes longer hangs."""

_STAGES: Final = ("arrived", "accepted", "answered")
_BY_KIND: Final = {
    kind: [fault for fault in FAULTS.values() if fault.kind == kind] for kind in KINDS
}


def processes() -> Any:
    """How processes are made: forked from one that has all imports, where that is possible."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.chaos.sender"])
    return context


class Chain:
    """A chain.

    Args:
        seed: Decides about everything that is left to chance.
        figures: Gets what is done and found.
        wanted: A part of :data:`WANTED` that must be in it; None leaves that to chance.
    """

    def __init__(self, seed: int, figures: Figures, wanted: str | None = None) -> None:
        self.seed, self._wanted = seed, wanted
        self._figures = figures
        self._processes = 1
        self._rng = random.Random(seed)  # noqa: S311  # no secret
        self._context = processes()

    def run(self) -> None:
        """Run it to its end, and judge it."""
        rng, folder = self._rng, Path(tempfile.mkdtemp(prefix="chaos-"))
        wrong = len(self._figures.wrong)
        try:
            table = written(folder, self._shape(), rng.choice([1, 7, 30, 60, 150]), rng)
            with chaos_serving() as server:
                server.owners = table.owners
                if rng.random() < 0.25:
                    every = _messages(table)
                    server.refused_rows = set(rng.sample(every, min(2, len(every))))
                if rng.random() < 0.1:
                    server.most_messages = rng.randint(1, 5)
                judge = Judge(table, server, self._figures, f"seed {self.seed}")
                if rng.random() < 0.85:
                    self._with_journal(folder, table, server, judge)
                else:
                    self._without_journal(folder, table, server, judge)
        finally:
            if len(self._figures.wrong) == wrong:
                shutil.rmtree(folder)

    def _shape(self) -> Shape:
        """What the table is, and whether helpers read it."""
        rng, wanted = self._rng, self._wanted
        container = rng.choice(CONTAINERS)
        identify = rng.choice(["column", "file"]) if rng.random() < 0.3 else ""
        self._processes = 2 if rng.random() < 0.1 else 1
        unreadable = rng.choice([0.0, 0.0, 0.05, 0.5])
        if wanted == "processes":
            self._processes = 2
        elif wanted in ("column", "file"):
            identify = wanted
        elif wanted == "unreadable":
            unreadable = 0.2
        if wanted in ("processes", "unreadable"):
            container = rng.choice(("csv", "ndjson"))
        is_text = container in ("csv", "ndjson")
        if container not in FILES:
            self._processes = 1
        files = 1
        if container in FILES:
            files = 2 if self._processes > 1 else rng.choice([1, 1, 2, 3])
        return Shape(
            container=container,
            invalid=rng.choice([0.0, 0.0, 0.1, 0.5]),
            skipped=rng.choice([0.0, 0.0, 0.1, 0.5]),
            other_events=rng.choice(["skip", "unmapped"]),
            unreadable=unreadable if is_text else 0.0,
            where=0.3 if wanted == "where" else rng.choice([0.0, 0.0, 0.0, 0.2, 0.6]),
            exclude=0.3 if wanted == "exclude" else rng.choice([0.0, 0.0, 0.0, 0.1, 0.5]),
            excluded_file=rng.random() < 0.5,
            identify=identify,
            files=files,
        )

    def _with_journal(self, folder: Path, table: Table, server: ChaosServer, judge: Judge) -> None:
        journal = folder / "chaos.journal"
        for number in range(self._rng.randint(1, MOST_STEPS)):
            server.begin(self._planned(table))
            step = self._step(folder, table, server, journal, resumes=number > 0)
            self._do(step, server, judge)
            judge.journals(journal)
        server.begin([])
        last = Step(
            table, server.url, str(journal), "send", str(folder), {"max_messages": 5, "workers": 2}
        )
        accounts = self._do(last, server, judge, calm=True)
        judge.end(accounts[-1] if accounts else None, journal)

    def _without_journal(
        self, folder: Path, table: Table, server: ChaosServer, judge: Judge
    ) -> None:
        """One process that retries its report until all rows have arrived."""
        server.begin(self._planned(table))
        step = self._step(folder, table, server, None, resumes=False)
        self._do(step, server, judge, kills=False)
        self._figures.faults += server.faults
        server.faults.clear()

    def _planned(self, table: Table) -> list[Planned]:
        """Faults of one run."""
        rng, valid = self._rng, _messages(table)
        if table.identities is not None:
            valid = rng.choice([valid, [*table.events.valid], [*table.identities.valid]])
        if not valid:
            return []
        rows = dict(zip(PLACES, (valid[0], valid[len(valid) // 2], valid[-1]), strict=True))
        planned = []
        for place in rng.sample(PLACES, rng.choice([0, 1, 1, 2, 3])):
            fault = rng.choice(_BY_KIND[rng.choice(KINDS)])
            times = rng.choice([1, 1, 1, 2, 4])
            planned.append(Planned(fault, rng.choice(WHENS), place, rows[place], times))
        return planned

    def _step(
        self,
        folder: Path,
        table: Table,
        server: ChaosServer,
        journal: Path | None,
        *,
        resumes: bool,
    ) -> Step:
        rng = self._rng
        options = {
            "max_messages": rng.choice([1, 3, 5, 8, 2_500]),
            "workers": rng.choice([None, 1, 2, 4, 8]),
            "patience": rng.choice([0.2, 0.5, 1.0]),
            "answer_timeout": rng.choice([0.2, 0.4]),
        }
        arguments: dict[str, Any] = {}
        verb = "send"
        if resumes and journal is not None and _has_begun(journal) and rng.random() < 0.5:
            verb = "resume"
        elif journal is not None and rng.random() < 0.1:
            arguments["canary"] = rng.randint(1, table.events.count)
        if self._processes > 1 and "canary" not in arguments:
            arguments["processes"] = self._processes
        kill_at = None
        if journal is not None and rng.random() < 0.4:
            many = rng.choice([1, 1, 2, 3, 5, 8, 13])
            name = rng.choice([*WRITES, "add", "change"])
            seconds = rng.choice([None, 0.0, rng.uniform(0, 0.002)])
            if name in ("begin", "close"):  # once for each journal
                many = 1 if table.identities is None else rng.randint(1, 2)
            kill_at = (name, many, seconds)
        return Step(
            table,
            server.url,
            str(journal) if journal else None,
            verb,
            str(folder),
            options,
            arguments,
            retries=rng.choice([0, 0, 1, 2]) if journal else 3,
            kill_at=kill_at,
        )

    def _await_workers(self, folder: str) -> None:
        """Judge whether the workers of a process end when it has ended, however it did."""
        workers = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                is_worker = any("worker_main" in word for word in process.cmdline())
                if is_worker and process.environ().get(FOLDER_VARIABLE) == folder:
                    workers.append(process)
        _, alive = psutil.wait_procs(workers, timeout=10)
        for process in alive:
            process.kill()
            self._figures.wrong.append(f"seed {self.seed}: a worker outlives its run")

    def _do(
        self,
        step: Step,
        server: ChaosServer,
        judge: Judge,
        *,
        kills: bool = True,
        calm: bool = False,
    ) -> list[Account]:
        """Let a process do a step, and disturb it unless calm; the accounts of its runs, judged."""
        rng, figures = self._rng, self._figures
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=work, args=(step, theirs))
        disturb = _Disturbance(process, ours)
        how = "" if calm else rng.choice(["", "interrupt", "kill", "kill", "kill"])
        if how == "kill" and not kills:
            how = "interrupt"
        if step.kill_at is not None:
            how = ""
        if how:
            at = rng.choice(["time", *_STAGES])
            seconds = rng.choice([0.0, 0.0, 0.003])
            if at == "time":
                seconds = rng.uniform(0.0, 5.0 if "processes" in step.arguments else 0.3)
            number = rng.choice([0, 0, 1, 2, 3, 5, 8, 13])
            disturb.plan(how, at, number, rng.randint(1, 3), seconds)
        server.on_stage = disturb.on_stage
        process.start()
        theirs.close()
        accounts, done = _accounts(ours, disturb, judge)
        process.join(_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            figures.wrong.append(f"seed {self.seed}: a run hangs")
        disturb.end()
        server.on_stage = lambda *_: None
        server.wait_until_idle()
        if done and accounts:  # what was on the wire has arrived by now
            judge.run(accounts[-1])
        if process.exitcode != 0 or not done:
            expected = step.kill_at is not None or disturb.killed
            if not expected:
                figures.wrong.append(f"seed {self.seed}: a process ended with {process.exitcode}")
            elif accounts is not None:
                figures.kills[f"journal {step.kill_at[0]}" if step.kill_at else disturb.at] += 1
        if "processes" in step.arguments:
            figures.traits["runs with worker processes"] += 1
            self._await_workers(folder=step.folder)
        figures.interrupts += disturb.interrupts
        figures.resumes += step.journal is not None and Path(step.journal).exists()
        figures.retries += max(0, len(accounts) - 1)
        process.close()
        return accounts


def _messages(table: Table) -> list[Key]:
    """All that should arrive, in order."""
    identities = () if table.identities is None else table.identities.valid
    return [*identities, *table.events.valid]


def _has_begun(journal: Path) -> bool:
    return journal.exists() and journal.stat().st_size > 0


def _accounts(
    connection: Connection, disturb: _Disturbance, judge: Judge
) -> tuple[list[Account], bool]:
    """The accounts that a process sends, each judged, and whether it came to its end."""
    accounts: list[Account] = []
    try:
        while connection.poll(_SECONDS):
            told = connection.recv()
            if told is None:
                return accounts, True
            if told == "ready":
                disturb.begin()
            else:
                accounts.append(told)
                judge.run(told)
                disturb.send("judged")
    except (EOFError, OSError):
        pass
    return accounts, False


class _Disturbance:
    """Kills or interrupts a process at a time, or when a request has come to a stage."""

    def __init__(self, process: Any, connection: Connection) -> None:
        self._process, self._connection = process, connection
        self._how = self.at = ""
        self._number, self._times, self._seconds = 0, 0, 0.0
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()
        self.killed = False
        self.interrupts = 0

    def plan(self, how: str, at: str, number: int, times: int, seconds: float) -> None:
        """Plan it.

        Args:
            how: ``kill`` or ``interrupt``.
            at: ``time``, or a stage of a request.
            number: Of the request, since the run began.
            times: How often to interrupt.
            seconds: How much later.
        """
        self._how, self.at = how, at
        self._number, self._times, self._seconds = number, times, seconds

    def begin(self) -> None:
        """The process is about to run."""
        if self._how and self.at == "time":
            self._timer = threading.Timer(self._seconds, self._act)
            self._timer.start()

    def on_stage(self, stage: str, number: int) -> None:
        """A request has come to a stage."""
        if self._how and stage == self.at and number >= self._number:
            if self._seconds:
                threading.Event().wait(self._seconds)
            self._act()

    def send(self, text: str) -> None:
        """Tell the process something, if it is still there."""
        with self._lock:
            self._tell(text)

    def _tell(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._connection.send(text)

    def _act(self) -> None:
        with self._lock:
            if self._how == "kill" and not self.killed:
                self.killed = True
                self._process.kill()
            while self._how == "interrupt" and self._times:
                self._times -= 1
                self.interrupts += 1
                self._tell("interrupt")
                if self.at != "time":
                    return

    def end(self) -> None:
        """The process has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        self._how = ""

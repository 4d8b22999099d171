"""Every fault at every place, without kills: in this process, one after the other."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.faults import FAULTS, PLACES, WHENS, Fault
from tests.chaos.inputs import CONTAINERS, Shape, written
from tests.chaos.judge import Figures, Judge
from tests.chaos.sender import Interrupts, Step, run, short_waits
from tests.chaos.server import ChaosServer, Planned, chaos_serving

if TYPE_CHECKING:
    from collections.abc import Iterable
    from multiprocessing.connection import Connection

ROWS = 30


def sweep(figures: Figures, faults: Iterable[Fault] = tuple(FAULTS.values())) -> None:
    """Let each fault happen before and after acceptance, at the first, middle and last request.

    Args:
        figures: Gets what is found.
        faults: The faults.
    """
    with chaos_serving() as server:
        for fault in faults:
            number = list(FAULTS).index(fault.name)  # the same table each time
            for when in WHENS:
                _one(fault, when, number, server, figures)


def sweep_all(results: Connection) -> None:
    """Sweep over all faults, in a process of its own, and send what was found."""
    short_waits()
    figures = Figures()
    sweep(figures)
    results.send(figures)


def _one(fault: Fault, when: str, number: int, server: ChaosServer, figures: Figures) -> None:
    """Send a table once and again, until each of the three places has had the fault."""
    rng = random.Random(number)  # noqa: S311  # no secret
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        container = CONTAINERS[number % len(CONTAINERS)]
        identify = ("", "", "column", "file")[number % 4]
        shape = Shape(container=container, invalid=0.1, identify=identify)
        table = written(folder, shape, ROWS, rng)
        valid = table.events.valid
        first = valid[0] if table.identities is None else table.identities.valid[0]
        rows = (first, valid[len(valid) // 2], valid[-1])
        planned = [
            Planned(fault, when, place, row) for place, row in zip(PLACES, rows, strict=True)
        ]
        server.forget()
        server.owners = table.owners
        judge = Judge(table, server, figures, f"{fault.name}, {when} acceptance")
        options = {"max_messages": 5, "workers": 2, "patience": 0.5, "answer_timeout": 0.2}
        journal = folder / "chaos.journal"
        account = None
        for _ in range(2 * len(PLACES) + 2):
            server.begin(planned)
            step = Step(table, server.url, str(journal), "send", name, options)
            account, _report = run(step, None, Interrupts(None), 0)
            judge.run(account)
            if not account.error and account.counts.get("delivered") == len(valid):
                people = account.identities and account.identities.counts.get("delivered", 0)
                if table.identities is None or people == len(table.identities.valid):
                    break
        judge.end(account, journal)
        left = [each.place for each in planned if each.times]
        if left:
            figures.wrong.append(f"{fault.name}, {when}: it did not happen at {left}")

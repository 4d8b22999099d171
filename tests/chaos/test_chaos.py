"""A short run of the chaos; ``make chaos`` is the long one."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.chaos.chains import Chain
from tests.chaos.faults import FAULTS, KINDS, PLACES, WHENS
from tests.chaos.inputs import Shape, written
from tests.chaos.judge import Figures, Judge
from tests.chaos.sender import Account, shared_tls
from tests.chaos.server import chaos_serving
from tests.chaos.sweep import sweep

if TYPE_CHECKING:
    from pathlib import Path

ONE_OF_EACH_KIND = {fault.kind: fault for fault in FAULTS.values() if fault.name != "429 Slow"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_of_each_kind(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after acceptance, first, in the middle and last: no row is lost or miscounted."""
    monkeypatch.setattr("cdp_backfill.delivery.sender.tls_context", shared_tls)
    figures = Figures()
    sweep(figures, [ONE_OF_EACH_KIND[kind]])
    assert figures.wrong == []
    assert figures.faults == {(kind, when, place): 1 for when in WHENS for place in PLACES}


CHAINS = [
    (0, None),
    (1, None),
    (11, "column"),
    (14, "file"),
    (14, "unreadable"),
    (16, "processes"),
    (17, "where"),
    (18, "exclude"),
]


@pytest.mark.parametrize(("seed", "wanted"), CHAINS)
def test_a_chain(seed: int, wanted: str | None) -> None:
    """Kills, interrupts, resumes and retries over one journal: nothing is lost or miscounted."""
    figures = Figures()
    Chain(seed, figures, wanted).run()
    assert figures.wrong == []
    assert (figures.lost, figures.skipped, figures.above) == (0, 0, 0)


def test_the_judge_sees_what_is_wrong(tmp_path: Path) -> None:
    """Events before their identity, lost rows, odd counts and odd places: each is found."""
    shape = Shape(container="csv", skipped=0.2, invalid=0.2, unreadable=0.2, identify="column")
    table = written(tmp_path, shape, 30, random.Random(0))  # noqa: S311  # no secret
    assert table.identities
    row = table.events.valid[0]
    account = Account(
        table.events.count,
        {"delivered": table.events.count - 1, "invalid": 1},
        others={row: "invalid"},
        misplaced=(row,),
        identities=Account(table.identities.count, {"delivered": table.identities.count}),
    )
    figures = Figures()
    with chaos_serving() as server:
        server.early.add(row)
        server.record.arrived.update(table.events.skipped)
        judge = Judge(table, server, figures, "test")
        judge.run(account)
        judge.end(account, None)
    found = "; ".join(figures.wrong)
    for words in (
        "came before their identity",
        "said to be elsewhere",
        "the failures (row) mean",
        "the server lacks row",
        "the server lacks identity",
        "invalid, and not so",
        "and should stay out",
        "are lost",
    ):
        assert words in found

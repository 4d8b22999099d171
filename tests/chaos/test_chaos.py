"""A short run of the chaos; ``make chaos`` is the long one."""

from __future__ import annotations

import pytest

from tests.chaos.chains import Chain
from tests.chaos.faults import FAULTS, KINDS, PLACES, WHENS
from tests.chaos.judge import Figures
from tests.chaos.sender import shared_tls
from tests.chaos.sweep import sweep

ONE_OF_EACH_KIND = {fault.kind: fault for fault in FAULTS.values() if fault.name != "429 Slow"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_of_each_kind(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after acceptance, first, in the middle and last: no row is lost or miscounted."""
    monkeypatch.setattr("cdp_backfill.delivery.sender.tls_context", shared_tls)
    figures = Figures()
    sweep(figures, [ONE_OF_EACH_KIND[kind]])
    assert figures.wrong == []
    assert figures.faults == {(kind, when, place): 1 for when in WHENS for place in PLACES}


@pytest.mark.parametrize("seed", range(4))
def test_a_chain(seed: int) -> None:
    """Kills, interrupts, resumes and retries over one journal: nothing is lost or miscounted."""
    figures = Figures()
    Chain(seed, figures).run()
    assert figures.wrong == []
    assert (figures.lost, figures.skipped, figures.above) == (0, 0, 0)

"""The inputs of ``benchmarks/hostile.py``, small: each ends in rows or in one error."""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path

import pytest

import cdp_backfill as cdp

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from hostile_inputs import CASES  # a script beside the package

_SCALE = {"parquet_of_one_cell_repeated": 0.000_3, "derive_of_a_cell_for_each_letter": 0.002}
"""Of what grows with the square, less."""

_UNPACKED = ("gzip", "zstd", "orc")
"""What is unpacked in Python's memory, which is watched."""


@pytest.mark.parametrize("name", CASES)
def test_small_ones_end_well(name: str, tmp_path: Path) -> None:
    """A plan counts each row once, or raises an error of its own, in little memory."""
    case = CASES[name]
    path = case.make(tmp_path, _SCALE.get(name, 0.000_05))
    if any(word in name for word in _UNPACKED):
        tracemalloc.start()
    try:
        plan = cdp.plan(path, **case.options)
        assert sum(plan.counts.values()) == plan.rows or plan.questions
    except cdp.BackfillError as error:
        ends = str(error)[-1:]
    else:
        ends = "."
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert ends in (".", ")")
    assert peak < 16 * 2**20

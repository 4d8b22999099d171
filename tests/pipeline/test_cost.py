"""What a row costs, counted rather than timed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import cdp_backfill as cdp
from cdp_backfill.cli import sample_data
from cdp_backfill.inference.proposal import Proposal
from cdp_backfill.pipeline.prepared_source import PreparedSource
from cdp_backfill.sources import open_source
from tests.rows import opens

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cdp_backfill.sources import Source


def calls(source: Source, mapping: cdp.Mapping) -> int:
    """Calls that Python makes in this thread to prepare all rows of a table."""
    prepared_source = PreparedSource(
        source, Proposal(mapping), recent="send", context_scope="message", now=None
    )
    count = 0

    def note(_frame: Any, event: str, _arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    def prepare() -> None:
        for _ in prepared_source.chunks(prepared_source.binding.columns):
            pass

    prepare()  # fills caches
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        prepare()
    finally:
        sys.setprofile(before)
    return count


TABLES: dict[str, Callable[[int], dict[str, Any]]] = {
    "text": lambda rows: {"t": ["a b"] * rows, "v": ["1.10"] * rows},
    "numbers": lambda rows: {"f": np.arange(rows) * 1.5, "i": range(rows)},
    "empty": lambda rows: {"x": [None, "NULL"] * (rows // 2)},
}


@pytest.mark.parametrize("name", TABLES)
def test_no_python_is_run_for_each_row(name: str) -> None:
    """7,000 more rows of a chunk cost a few calls more: whole columns are worked on."""
    mapping = cdp.Mapping(
        user_id="uid",
        timestamp="ts",
        event=cdp.lit("Application Opened"),
        context={"app": {"version": "v"}} if name == "text" else {},
    )
    few, many = (
        calls(open_source(opens(rows, **TABLES[name](rows))), mapping) for rows in (1_000, 8_000)
    )
    assert many - few < 200  # messages are hashed 512 at a time


def test_the_demo_costs_few_calls(tmp_path: Path) -> None:
    """Of Python's calls there are far fewer than rows, spoilt rows included."""
    path = tmp_path / "records.parquet"
    sample_data.write(path, 65_536)
    assert calls(open_source(path), sample_data.MAPPING) < 65_536 / 4

"""The made-up records."""

from __future__ import annotations

import pyarrow as pa

from cdp_backfill import plan
from cdp_backfill.cli import sample_data


def test_records_are_the_same_for_the_same_seed() -> None:
    """Deterministic, and each seed has its own."""
    first, again, other = (
        pa.Table.from_batches(sample_data.batches(60_000, seed=seed)) for seed in (1, 1, 2)
    )
    assert first.equals(again)
    assert not first.equals(other)
    assert first.num_rows == 60_000


def test_records_have_the_trouble_of_real_ones() -> None:
    """Each kind of trouble is there, in about the share that is promised."""
    table = pa.Table.from_batches(sample_data.batches(100_000))
    actual = {
        problem.code: rows for problem, rows in plan(table, sample_data.MAPPING).problems.items()
    }
    assert 50 < actual["missing_user"] < 200
    assert 100 < actual["unknown_event"] < 400
    assert 50 < actual["bad_time"] < 200
    assert actual["oversize"] == 2
    assert set(actual) == {"missing_user", "unknown_event", "bad_time", "oversize"}
    assert any(not city.isascii() for city in table["city"].unique().to_pylist())

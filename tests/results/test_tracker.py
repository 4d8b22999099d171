"""The account of a run."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from cdp_backfill import AccountingError, Outcome
from cdp_backfill.messages.encoding import NO_DIGESTS, Ids
from cdp_backfill.results.tracker import OutcomeTracker
from cdp_backfill.sources import open_source
from tests.rows import opens


def test_a_row_cannot_have_two_outcomes() -> None:
    """A second outcome is a bug, and is told as one."""
    source = open_source(opens(3))
    (chunk,) = source.chunks(["uid"])
    tracker = OutcomeTracker(source)
    outcomes = tracker.open(chunk)
    tracker.settle(outcomes, np.array([0]), Outcome.DELIVERED)
    with pytest.raises(AccountingError, match="second outcome"):
        tracker.settle(outcomes, np.array([0, 1]), Outcome.FAILED)


def test_a_source_that_lied_about_its_rows() -> None:
    """If the sum is wrong, that is an error and never a printed summary."""
    source = open_source(opens(3))
    tracker = OutcomeTracker(source)
    for chunk in source.chunks(["uid"]):
        tracker.settle(tracker.open(chunk), np.arange(3), Outcome.DELIVERED)
    source.rows = 2
    with pytest.raises(AccountingError, match="3 rows have an outcome, but the table has 2 rows"):
        tracker.close("stopped", "it stopped")


def test_rows_that_were_never_read_are_unsent() -> None:
    """They count, and the frame of failures fetches them from the source."""
    table = pa.Table.from_pandas(opens(20_000))
    for source in (open_source(table), open_source(table.to_pandas())):
        tracker = OutcomeTracker(source)
        chunk = next(iter(source.chunks(source.schema.names)))
        tracker.settle(tracker.open(chunk), np.arange(8_000), Outcome.DELIVERED)
        tracker.close("stopped", "it stopped")
        assert tracker.counts["unsent"] == 12_000
        failures = tracker.failures()
        assert failures["uid"].tolist() == [f"u{number}" for number in range(8_000, 20_000)]
        assert failures["cdp_code"].eq("stopped").all()


def test_a_page_holds_little_for_the_few_rows_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory counts, a row that waits for company does not keep its whole chunk in it."""
    monkeypatch.setattr("cdp_backfill.results.tracker.CROWDED_BYTES", 2**20)
    table = pa.table({"uid": [f"u{n}" for n in range(8_000)], "pad": ["x" * 500] * 8_000})
    source = open_source(table)
    tracker = OutcomeTracker(source)
    (chunk,) = source.chunks(["uid", "pad"])
    outcomes = tracker.open(chunk)
    rows = np.arange(8_000)
    tracker.settle(
        outcomes, rows[rows % 1_000 == 1], Outcome.FAILED, code="http_503", reason="busy"
    )
    tracker.set_message_ids(outcomes, np.array([7_777]), Ids(NO_DIGESTS, pa.array(["x1"])))
    assert tracker._pending_bytes > 2**20
    rest = rows[(rows % 1_000 != 1) & (rows != 7_777)]
    tracker.settle(outcomes, rest, Outcome.DELIVERED)
    assert outcomes.memory_bytes < 10_000
    assert tracker._pending_bytes < 2**20
    tracker.settle(outcomes, np.array([7_777]), Outcome.REFUSED, code="http_400", reason="no")
    tracker.close("stopped", "it stopped")
    failures = tracker.failures()
    assert failures["uid"].tolist() == [*(f"u{n}" for n in range(1, 7_778, 1_000)), "u7777"]
    assert failures["cdp_row"].tolist() == [*range(1, 7_778, 1_000), 7_777]
    assert failures["cdp_message_id"].tolist()[-1] == "x1"
    assert tracker.counts == dict.fromkeys(tracker.counts, 0) | {
        "delivered": 7_991, "failed": 8, "refused": 1,
    }  # fmt: skip


def test_reasons_stay_few() -> None:
    """A server that finds new words for each row does not fill the memory of the report."""
    source = open_source(opens(300))
    tracker = OutcomeTracker(source)
    (chunk,) = source.chunks(["uid"])
    outcomes = tracker.open(chunk)
    for row in range(300):
        tracker.settle(
            outcomes, np.array([row]), Outcome.REFUSED, code="http_400", reason=f"words {row}"
        )
    tracker.close("stopped", "it stopped")
    reasons = tracker.reasons()
    assert len(reasons) == 51
    assert sum(found.rows for found in reasons) == 300
    assert reasons[0].reason == "other reasons; see the failures"
    assert tracker.failures()["cdp_reason"].nunique() == 300

"""The outcome tracker of a run."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pytest

from cdp_backfill import AccountingError, Outcome
from cdp_backfill.messages.ids import Ids
from cdp_backfill.results.tracker import OutcomeTracker
from cdp_backfill.sources import open_source
from tests.rows import opens


def test_a_row_cannot_have_two_outcomes() -> None:
    """A second outcome is a bug, and raises an error that says so."""
    source = open_source(opens(3))
    (chunk,) = source.chunks(["uid"])
    tracker = OutcomeTracker(source)
    outcomes = tracker.open(chunk)
    tracker.settle(outcomes, np.array([0]), Outcome.DELIVERED)
    with pytest.raises(AccountingError, match="second outcome"):
        tracker.settle(outcomes, np.array([0, 1]), Outcome.FAILED)


def test_a_wrong_number_of_rows_is_an_error() -> None:
    """If the counts do not add up to the rows of the source, closing raises an error."""
    source = open_source(opens(3))
    tracker = OutcomeTracker(source)
    for chunk in source.chunks(["uid"]):
        tracker.settle(tracker.open(chunk), np.arange(3), Outcome.DELIVERED)
    source.rows = 2
    with pytest.raises(AccountingError, match="3 rows have an outcome, but the table has 2 rows"):
        tracker.close("stopped", "it stopped")


def test_rows_that_were_never_read_are_unsent() -> None:
    """They are counted, and the failures read them from the source."""
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


def test_few_pending_rows_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """When memory is short, a pending row does not keep its whole chunk in memory."""
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
    tracker.set_message_ids(outcomes, np.array([7_777]), Ids.of_column(pa.array(["x1"])))
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
    """A server with a different message for each row does not fill the memory of the report."""
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
    assert sum(item.rows for item in reasons) == 300
    assert reasons[0].reason == "other reasons; see the failures"
    assert tracker.failures()["cdp_reason"].nunique() == 300


def test_several_threads_settle_rows_of_one_chunk() -> None:
    """Each row is counted once, whichever thread settles it."""
    source = open_source(opens(8_000))
    tracker = OutcomeTracker(source)
    (chunk,) = source.chunks(["uid"])
    outcomes = tracker.open(chunk)

    def settle(first: int) -> None:
        for row in range(first, 8_000, 8):
            outcome = Outcome.DELIVERED if first % 2 else Outcome.FAILED
            tracker.settle(outcomes, np.array([row]), outcome, code="c", reason="r")

    threads = [threading.Thread(target=settle, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tracker.close("stopped", "it stopped")
    assert tracker.counts["delivered"] == tracker.counts["failed"] == 4_000
    assert tracker.failures()["cdp_row"].tolist() == list(range(0, 8_000, 2))

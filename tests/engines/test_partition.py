"""The seam: parts of a table, sent by whoever iterates over them."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.delivery import sender
from cdp_backfill.model.distinct import DigestSet
from cdp_backfill.model.outcomes import Problem
from cdp_backfill.results.histogram import EventCounts
from cdp_backfill.results.part_reports import error_of_parts
from cdp_backfill.results.part_summary import earlier_attempts
from cdp_backfill.results.reasons import FailureReason
from cdp_backfill.results.run_stats import RunStats
from tests.clocks import FakeClock
from tests.rows import OPENED, opens
from tests.sending import counts, send
from tests.servers import ReceivedRequest, Reply, serving
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

KEY: dict[str, Any] = {"key_from": partial(str, "a-key")}
STORED = ["messageId", "userId", "event", "timestamp", "properties"]


def in_order(events: pd.DataFrame) -> pd.DataFrame:
    """Stored events, whichever came first."""
    return events.sort_values("messageId", ignore_index=True)[STORED]


def table_of(rows: int, batch: int = 100) -> Any:
    """A table in batches, each tenth row of which lacks its user."""
    frame = opens(rows, n=range(rows))
    frame.loc[::10, "uid"] = None
    table = pa.Table.from_pandas(frame, preserve_index=False)
    return pa.Table.from_batches(table.to_batches(max_chunksize=batch), table.schema)


def run_part(
    source: Iterable[Any], job: cdp.PartitionJob, part: str = "0", **options: Any
) -> tuple[list[Any], cdp.PartSummary]:
    """The failures of a part, and its summary after its way to the driver."""
    failures, sending = [], cdp.send_partition(source, job, part=part, **options)
    while True:
        try:
            failures.append(next(sending))
        except StopIteration as end:
            return failures, cdp.PartSummary.from_bytes(end.value.to_bytes())


def job_for(destination: cdp.Destination, **options: Any) -> cdp.PartitionJob:
    """A job, as a worker unpickles it."""
    job = cdp.PartitionJob(mapping=OPENED, destination=destination, **options)
    unpickled: cdp.PartitionJob = pickle.loads(pickle.dumps(job))  # noqa: S301
    return unpickled


def test_parts_send_what_the_whole_table_sends(box: Sandbox) -> None:
    """Three parts: the same messages, counts, figures by event and failures as from one table."""
    table = table_of(1_000)
    with cdp.sandbox() as other:
        whole = send(table, other)
        stored = other.events()
    job = job_for(box.destination, slots=3)
    failures, parts = [], []
    for number in range(3):
        tables, part = run_part(table.slice(number * 400, 400).to_batches(), job, str(number))
        failures += tables
        parts.append(part)
    report = cdp.report(parts, job, failures=pa.concat_tables(failures))
    assert report.counts == whole.counts
    assert report.maybe_twice == 0
    assert (
        report.by_reason()
        .drop(columns=["source", "row"])
        .equals(whole.by_reason().drop(columns=["source", "row"]))
    )
    assert len(report.failures) == 100
    columns = ["uid", "ts", "n", "cdp_outcome", "cdp_code", "cdp_reason"]
    pd.testing.assert_frame_equal(
        report.failures[columns].reset_index(drop=True),
        whole.failures[columns].reset_index(drop=True),
        check_dtype=False,
    )
    assert set(report.failures.cdp_source) == {"part 0", "part 1", "part 2"}
    pd.testing.assert_frame_equal(in_order(box.events()), in_order(stored))
    assert any("3 parts ran at a time, each at up to 167" in note for note in report.notes)
    assert str(report)
    assert report.to_dict()["counts"] == report.counts


def test_failures_of_parts_can_be_repaired_and_sent(box: Sandbox) -> None:
    """The sum of a report of parts and that of its repaired failures has every row once."""
    job = job_for(box.destination)
    failures, part = run_part([table_of(50)], job)
    report = cdp.report([part], job, failures=pa.concat_tables(failures))
    repaired = report.failures.assign(uid="repaired").cdp.send(
        destination=box.destination, progress=False
    )
    assert counts(repaired) == {"delivered": 5}
    assert counts(report + repaired) == {"delivered": 50}


class Batches:
    """An iterator of an engine, which notices whether it is closed."""

    def __init__(self, batches: Iterable[Any], broken_after: int | None = None) -> None:
        self._batches = iter(batches)
        self._left = broken_after
        self.closed = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._left == 0:
            raise OSError("the engine lost a file")
        if self._left is not None:
            self._left -= 1
        return next(self._batches)

    def close(self) -> None:
        """Notice it."""
        self.closed = True


@pytest.mark.parametrize("good", [0, 1, 3])
@pytest.mark.parametrize("batch", [7, 100, 5_000])
def test_a_stopped_part_loses_no_row(good: int, batch: int) -> None:
    """A key that is rejected from some request on: no error, and what is not sent is unsent."""

    def answer(number: int, _: ReceivedRequest) -> Reply:
        return Reply(200) if number < good else Reply(401)

    with serving(answer) as server:
        destination = cdp.Destination(
            base_url=server.destination().url,
            key_from=_key,
            workers=1,
            max_messages=50,
            rate_limit=None,
        )
        job = job_for(destination)
        source = Batches(table_of(5_000, batch).to_batches())
        failures, part = run_part(source, job)
    assert not source.closed
    answered = server.requests
    sent = sum(len(request.batch) for request in answered[:good])
    assert part.counts["delivered"] == sent
    assert part.rows == 5_000 == sum(map(len, failures)) + sent
    assert part.counts["unsent"] == 5_000 - sent - part.counts["invalid"]
    assert part.error is not None
    assert part.error[0] == "AuthenticationError"
    report = cdp.report([part], job, failures=pa.concat_tables(failures))
    left = set(report.failures.n) | {m["properties"]["n"] for r in answered[:good] for m in r.batch}
    assert left == set(range(5_000))


def _key() -> str:
    return "a-key"


def test_nothing_begins_without_a_key(box: Sandbox) -> None:
    """Without a key on the worker, or with a mapping that does not fit, all rows are unsent."""
    nowhere = cdp.Destination(base_url=box.url)
    other = cdp.PartitionJob(
        mapping=cdp.Mapping(user_id="nobody", timestamp="ts", event=cdp.lit("Application Opened")),
        destination=box.destination,
    )
    for job, name in ((job_for(nowhere), "ApiKeyError"), (other, "MappingError")):
        failures, part = run_part([table_of(30)], job)
        assert {name: rows for name, rows in part.counts.items() if rows} == {"unsent": 30}
        assert sum(map(len, failures)) == 30
        assert part.error is not None
        assert part.error[0] == name
    assert not len(box.requests())


@pytest.mark.parametrize(
    ("attempt", "earlier"), [("0", 0), ("00", 0), ("1", 1), ("2", 2), ("19", 2), ("a-name", 1)]
)
def test_earlier_attempts_count_as_twice(attempt: str, earlier: int, box: Sandbox) -> None:
    """Whatever an earlier attempt may have sent counts, and no row of it is called refused."""
    assert earlier_attempts(attempt) == earlier
    frame = table_of(200).to_pandas().assign(userId="x")
    _, part = run_part([pa.Table.from_pandas(frame)], job_for(box.destination), attempt=attempt)
    delivered = part.counts["delivered"]
    if earlier:
        assert part.stats.maybe_twice >= delivered
        assert part.counts["refused"] == part.counts["failed"] == 0
    else:
        assert part.stats.maybe_twice == 0
    report = cdp.report([part], job_for(box.destination))
    assert any("whole parts may have gone twice" in each for each in report.notes) == bool(earlier)


def test_attempts_that_nobody_counts(box: Sandbox) -> None:
    """A part that comes twice counts once; unknown attempts make all that was sent doubtful."""
    job = job_for(box.destination)
    parts = [run_part([table_of(100)], job, part)[1] for part in ("0", "1", "1")]
    once = cdp.report(parts[:2], job)
    assert (once.rows, once.maybe_twice) == (200, 0)
    assert [cdp.report(parts, job).rows, cdp.report(parts, job).maybe_twice] == [200, 90]
    assert cdp.report(parts[:2], job, uncounted=True).maybe_twice == 180
    held = box.events().messageId.value_counts()
    assert int((held > 1).sum()) <= cdp.report(parts, job, uncounted=True).maybe_twice


class Remembered:
    """A shared journal in memory."""

    def __init__(self) -> None:
        self.known = DigestSet()
        self.closed = 0

    def skip(self, digests: Any) -> Any:
        """Which were added before."""
        return self.known.has(digests)

    def add(self, digests: Any) -> None:
        """Remember them."""
        self.known.before(digests)

    def close(self) -> None:
        """Count."""
        self.closed += 1


def test_a_shared_journal_skips_what_is_delivered(box: Sandbox) -> None:
    """The second attempt sends what the first did not deliver, and nothing else."""
    journal, job = Remembered(), job_for(box.destination)
    _, first = run_part([table_of(300).slice(0, 200)], job, journal=journal)
    _, second = run_part([table_of(300)], job, attempt="1", journal=journal)
    assert (first.counts["delivered"], second.counts["delivered"]) == (180, 270)
    assert second.stats.delivered_before == 180
    assert second.stats.maybe_twice == 90
    assert len(box.events()) == 270
    assert not len(box.duplicates())
    assert journal.closed == 2
    requests = len(box.requests())
    _, third = run_part(
        [table_of(300).take(np.arange(299, -1, -1))], job, part="1", journal=journal
    )
    assert (third.stats.maybe_twice, len(box.requests())) == (0, requests)


def test_a_journal_that_cannot_be_written_stops_the_part(box: Sandbox) -> None:
    """The rows that were delivered count as delivered, and the others are unsent."""

    class Full(Remembered):
        def add(self, digests: Any) -> None:
            """There is no room."""
            del digests
            raise OSError(28, "No space left on device")

    job = job_for(box.destination)
    _, part = run_part([table_of(300)], job, journal=Full())
    assert part.rows == 300
    assert part.counts["delivered"] == len(box.events())
    assert part.error is not None
    assert "No space left on device" in part.error[1]


def test_an_engine_that_breaks_off(box: Sandbox) -> None:
    """Before anything was sent, its error is raised, so that it can try again; not afterwards."""
    job = job_for(box.destination)
    with pytest.raises(OSError, match="lost a file"):
        run_part(Batches(table_of(300).to_batches(), broken_after=0), job)
    many = table_of(60_000, 5_000).to_batches()
    _, part = run_part(Batches(many, broken_after=10), job)
    assert part.rows == 50_000
    assert part.counts["delivered"] == len(box.events())
    assert part.error is not None


@pytest.mark.parametrize("stops_at", [4, 7, 8])  # of 8 batches
def test_a_file_stops_a_part(tmp_path: Path, box: Sandbox, stops_at: int) -> None:
    """A part sends no more once the file exists, and nothing afterwards; no row is lost."""
    stop = tmp_path / "stop"

    def stop_once_sent() -> None:
        until(lambda: len(box.requests()) > 0)
        stop.touch()

    def batches() -> Iterator[Any]:
        for number, batch in enumerate(table_of(80_000, 10_000).to_batches()):
            if number == stops_at:
                stop_once_sent()
            yield batch
        if stops_at == 8:  # the part is read to its end, and the run is behind
            stop_once_sent()

    job = job_for(box.destination, stop_file=stop)
    failures, part = run_part(batches(), job)
    assert part.interrupted
    assert 0 < part.counts["delivered"] == len(box.events())
    assert part.rows == 80_000 == part.counts["delivered"] + sum(map(len, failures))
    requests = len(box.requests())
    _, next_part = run_part([table_of(100)], job, part="1")
    assert (next_part.counts["unsent"], len(box.requests())) == (100, requests)
    report = cdp.report([part, next_part], job)
    assert report.interrupted
    assert error_of_parts([part, next_part], report) is None


def test_an_empty_part(box: Sandbox) -> None:
    """No batch, or one without rows: no failure, a summary of zeros."""
    for source in ([], [table_of(10).slice(0, 0)], table_of(10).slice(0, 0).to_batches()):
        failures, part = run_part(source, job_for(box.destination))
        assert (failures, part.rows, part.error) == ([], 0, None)
    assert cdp.report([], job_for(box.destination)).rows == 0


def test_a_job_holds_no_key_and_refuses_what_a_part_cannot_do() -> None:
    """No key in a pickle, and one error for each option that compares rows of several parts."""
    destination = cdp.Destination(api_key="key-not-to-be-shown", key_from=_key)
    job = cdp.PartitionJob(mapping=OPENED, destination=destination)
    assert b"key-not-to-be-shown" not in pickle.dumps(job)
    assert "key-not-to-be-shown" not in repr(job)
    unpickled: cdp.PartitionJob = pickle.loads(pickle.dumps(job))  # noqa: S301
    assert unpickled.share.with_key().api_key == "a-key"
    with pytest.raises(cdp.BadInputError, match="dropDuplicates"):
        cdp.PartitionJob(mapping=cdp.Mapping(duplicates="skip"))
    with pytest.raises(cdp.BadInputError, match="'hold' or 'send'"):
        cdp.PartitionJob(mapping=OPENED, recent="raise")  # type: ignore[arg-type]
    with pytest.raises(cdp.BadInputError, match="slots"):
        cdp.PartitionJob(mapping=OPENED, slots=0)
    with pytest.raises(cdp.MappingError, match="not dict"):
        cdp.PartitionJob(mapping={})  # type: ignore[arg-type]
    with pytest.raises(cdp.BadInputError, match="no summary"):
        cdp.PartSummary.from_bytes(b"something else")


def total(bins: dict[tuple[str, int], Any]) -> Any:
    """Rows of all bins by outcome."""
    return np.sum(list(bins.values()), axis=0)


@settings(max_examples=12)
@given(
    events=st.integers(1, 51),
    days=st.integers(1, 4_000),
    reasons=st.integers(0, 50),
    length=st.integers(0, 5_000),
    columns=st.integers(0, 60),
)
def test_a_summary_is_small_whatever_is_in_it(
    events: int, days: int, reasons: int, length: int, columns: int
) -> None:
    """At most 32 KB, with the same counts and figures; rows by event lose only days."""
    rng = np.random.default_rng(events * days)
    bins = {
        (f"event {number % events} {'x' * (length % 300)}", int(day)): rng.integers(0, 10**6, 8)
        for number, day in enumerate(rng.integers(0, 20_000, days))
    }
    words = [rng.bytes(length // 2).hex() for _ in range(reasons)]
    names = [f"{number}{rng.bytes(length // 20).hex()}" for number in range(columns)]
    summary = _summary(bins, words, names)
    data = summary.to_bytes()
    again = cdp.PartSummary.from_bytes(data)
    assert len(data) <= 32 * 1024
    assert (again.counts, again.stats, again.rows) == (summary.counts, summary.stats, summary.rows)
    assert sum(each.rows for each in again.reasons) == sum(each.rows for each in summary.reasons)
    if again.events.bins:
        assert np.array_equal(total(again.events.bins), total(bins))


def _summary(
    bins: dict[tuple[str, int], Any], words: list[str], columns: list[str]
) -> cdp.PartSummary:
    problems = tuple(Problem("too_long", name, "is too long") for name in columns)
    reasons = tuple(
        FailureReason("refused", f"http_{number}", each, number + 1, problems, ("a file", number))
        for number, each in enumerate(words)
    )
    return cdp.PartSummary(
        part="3",
        attempt="0",
        counts=dict.fromkeys(map(str, cdp.Outcome), 10**9),
        stats=RunStats(requests=7, seconds=1.5, maybe_twice=3),
        fixes={cdp.Fix("trimmed", name): 5 for name in ["uid", *columns]},
        naive=4,
        event_keys=("opened", *columns),
        reasons=reasons,
        events=EventCounts(bins, 1),
        run="a run",
        error=("StoppedError", "The run stopped."),
    )


def test_the_summary_of_a_part_with_everything() -> None:
    """Many events, days, columns with fixes and problems, and words of the server: 32 KB."""
    rows = 3_000
    frame = opens(rows, **{f"column {n} {'é' * 200}": ["y" * 40] * rows for n in range(40)})
    frame["ts"] = pd.date_range("2012-01-01", periods=rows, freq="36h", tz="UTC").astype(str)
    frame["name"] = [f"event {n % 700} {'x' * (n % 90)}" for n in range(rows)]
    frame.loc[::7, "uid"] = None
    frame.loc[::11, "ts"] = [f"no time {n}" for n in range(-(-rows // 11))]
    table = pa.Table.from_pandas(frame, preserve_index=False)

    def answer(number: int, _: ReceivedRequest) -> Reply:
        words = f"refused {number} {'z' * 3_000}"
        return Reply(400, json.dumps({"message": words}).encode()) if number % 2 else Reply()

    with serving(answer) as server:
        job = job_for(server.destination(max_messages=40, **KEY))
        job = replace(job, mapping=replace(OPENED, event="name", other_events="send"))
        sending = cdp.send_partition(table.to_batches(), job, part="0")
        try:
            while True:
                next(sending)
        except StopIteration as end:
            data = end.value.to_bytes()
    summary = cdp.PartSummary.from_bytes(data)
    assert len(data) <= 32 * 1024
    assert sum(summary.counts.values()) == rows
    assert len(summary.reasons) > 10
    assert summary.counts["invalid"] > 0 < summary.counts["refused"]


def test_parts_share_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four parts side by side: 90 requests a second or more, and in no second more than 110."""
    times: list[float] = []
    for _ in range(4):
        clock = FakeClock()
        monkeypatch.setattr(sender, "SYSTEM_CLOCK", clock)

        def answer(_: int, request: ReceivedRequest, clock: FakeClock = clock) -> Reply:
            if request.raw:
                times.append(clock.now())
            return Reply()

        with serving(answer) as server:
            job = job_for(server.destination(rate_limit=100, max_messages=10, **KEY), slots=4)
            run_part(table_of(1_000).to_batches(), job)
    times.sort()
    ends = np.searchsorted(times, np.array(times) + 1.0)
    assert max(ends - np.arange(len(times))) <= 110
    assert len(times) / (times[-1] - times[0]) >= 90

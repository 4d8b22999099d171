"""A table in, a report out, through the sandbox."""

from __future__ import annotations

import gc
import json
import mmap
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.engines import choosing
from cdp_backfill.model import destination as destinations
from cdp_backfill.results import tracker as trackers
from cdp_backfill.sources import ColumnarSource
from cdp_backfill.sources.paths import files_of
from tests.rows import OPENED, opens, texts
from tests.sending import counts, send
from tests.servers import ReceivedRequest, Reply, run_interrupted, serving

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox
    from cdp_backfill.results.progress import Snapshot

NOW = datetime(2023, 5, 10, tzinfo=UTC)
FAILURE_COLUMNS = [
    "cdp_outcome",
    "cdp_code",
    "cdp_reason",
    "cdp_status",
    "cdp_attempts",
    "cdp_message_id",
    "cdp_source",
    "cdp_row",
    "cdp_run",
]


def test_every_outcome_is_always_there(box: Sandbox) -> None:
    """``counts`` has all eight outcomes, and they add up."""
    report = send(opens(3), box)
    assert set(report.counts) == set(cdp.Outcome)
    assert sum(report.counts.values()) == report.rows == 3
    assert report.ok
    report.raise_for_failures()


@pytest.mark.parametrize("n", [OPENED, "3", 1.0, -1, True])
def test_messages_of_no_number(n: Any) -> None:
    """A mapping in the place of the number, say, gets one clear error."""
    with pytest.raises(cdp.BadInputError, match="n must be a whole number of rows"):
        opens(3).cdp.messages(n)


def test_what_arrives_is_what_messages_shows(box: Sandbox) -> None:
    """``messages`` shows the exact payloads, and says why a row has none."""
    frame = opens(3, version=["1.0", None, "ß"], uid=["a", None, "c"])
    shown = frame.cdp.messages(3, OPENED)
    assert shown[1] == {
        "cdp_outcome": "invalid",
        "cdp_code": "missing_user",
        "cdp_reason": "column 'uid' is empty",
    }
    send(frame, box)
    stored = box.events()
    assert stored["messageId"].tolist() == [shown[0]["messageId"], shown[2]["messageId"]]
    assert stored["properties"].tolist() == [shown[0]["properties"], shown[2]["properties"]]
    assert stored["timestamp"].tolist() == frame["ts"].iloc[[0, 2]].tolist()


def test_failures_keep_columns_labels_and_dtypes(box: Sandbox) -> None:
    """A failed row comes back as it was given, with nine columns more."""
    frame = opens(
        4,
        uid=["a", None, "c", None],
        tier=pd.Categorical(["x", "y", "x", "y"]),
        count=pd.array([1, None, 3, 4], dtype="Int64"),
    ).set_index(pd.Index(["p", "q", "q", "s"], name="label"))
    report = send(frame, box)
    failures = report.failures
    assert counts(report) == {"delivered": 2, "invalid": 2}
    pd.testing.assert_frame_equal(failures[frame.columns.tolist()], frame.iloc[[1, 3]])
    assert failures.columns.tolist() == [*frame.columns, *FAILURE_COLUMNS]
    assert failures["cdp_row"].tolist() == [1, 3]
    assert failures["cdp_status"].isna().all()
    with pytest.raises(cdp.UndeliveredError, match="2 of 4 rows not delivered") as got:
        report.raise_for_failures()
    assert got.value.report is report


def test_failures_can_be_repaired_and_sent_again(box: Sandbox) -> None:
    """The frame of failures knows its mapping; ids of untouched rows stay the same."""
    frame = opens(3, uid=["a", None, "c"])
    failures = send(frame, box).failures
    fixed = failures.assign(uid="b")
    again = fixed.cdp.send(destination=box.destination, progress=False)
    assert counts(again) == {"delivered": 1}
    assert sorted(box.events()["userId"]) == ["a", "b", "c"]
    whole = frame.assign(uid=["a", "b", "c"]).cdp.messages(3, OPENED)
    assert set(box.events()["messageId"]) == {message["messageId"] for message in whole}
    still_bad = failures.cdp.send(destination=box.destination, progress=False).failures
    assert still_bad.columns.tolist() == failures.columns.tolist()


def test_a_rehearsal_does_not_go_on_to_an_account(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failures sent again without a destination must not end up somewhere else."""
    monkeypatch.setenv("CUSTOMERIO_CDP_API_KEY", "a-real-key")
    failures = send(opens(2, uid=[None, "b"]), box).failures
    with pytest.raises(cdp.DestinationError, match=f"were sent to {box.url} before"):
        failures.assign(uid="a").cdp.send(progress=False)
    cdp.configure(box.api_key, base_url=box.url)
    assert failures.assign(uid="a").cdp.send(progress=False).ok


def test_a_wrong_unit_is_said_aloud(box: Sandbox) -> None:
    """Milliseconds read as microseconds are of 1970, when there were no apps: not one is sent."""
    frame = opens(2, ts=[1_705_314_600_000, 1_705_314_601_000])
    for unit, wrong in (("us", True), ("ms", False)):
        plan = frame.cdp.plan(OPENED, timestamp_unit=unit, destination=box.destination)
        for shown in (plan, plan.send(progress=False)):
            assert ("holds a time before 2008-07-10" in str(shown)) is wrong
            assert shown.counts["invalid"] == (2 if wrong else 0)


def test_a_key_of_events_that_never_occurs(box: Sandbox) -> None:
    """A typing error in a key is said aloud, even if all rows are skipped for it."""
    frame = opens(3, ev=["_open", "_open", "other"])
    options: dict[str, Any] = {
        "user_id": "uid",
        "timestamp": "ts",
        "event": "ev",
        "events": {"open": "Application Opened"},
        "other_events": "skip",
    }
    plan = frame.cdp.plan(**options, destination=box.destination)
    report = plan.send(progress=False)
    assert str(report).startswith("Backfill: nothing to send, all 3 rows are skipped")
    for shown in (plan, report):
        assert "No row of column 'ev' holds 'open'" in " ".join(str(shown).split())


def test_failures_can_be_saved_as_parquet(box: Sandbox, tmp_path: Path) -> None:
    """They go through a file and can be sent from there."""
    failures = send(opens(2, uid=[None, "b"]), box).failures
    failures.to_parquet(tmp_path / "failures.parquet")
    back = pd.read_parquet(tmp_path / "failures.parquet").assign(uid="x")
    assert send(back, box).ok


def test_failures_of_a_file_name_file_and_row(box: Sandbox, tmp_path: Path) -> None:
    """A row from parquet comes back whole, unread columns included, with its file and number."""
    for number in range(2):
        frame = opens(5, n=np.arange(5), extra="kept").assign(ts=lambda f: f["ts"])
        frame.loc[number, "uid"] = None
        frame.to_parquet(tmp_path / f"p{number}.parquet")
    failures = send(tmp_path, box, rest="drop").failures
    assert failures["cdp_source"].str[-10:].tolist() == ["p0.parquet", "p1.parquet"]
    assert failures["cdp_row"].tolist() == [0, 1]
    assert failures["n"].tolist() == [0, 1]
    assert failures["extra"].tolist() == ["kept", "kept"]


def test_without_failures_the_frame_is_empty_but_has_its_columns(box: Sandbox) -> None:
    """Nothing failed: zero rows, all columns, and it can even be sent."""
    for table in (opens(2), pa.Table.from_pandas(opens(2))):
        failures = send(table, box).failures
        assert len(failures) == 0
        assert failures.columns.tolist() == ["uid", "ts", *FAILURE_COLUMNS]


@pytest.mark.parametrize("make", [lambda f: f, pa.Table.from_pandas, pl.from_pandas])
def test_every_kind_of_table_gives_the_same_ids(box: Sandbox, make: Any) -> None:
    """pandas, pyarrow and polars: the same records are the same messages."""
    frame = opens(50, n=[1.0, np.nan] * 25, version="1.0")
    report = send(make(frame), box)
    assert report.ok
    expected = [message["messageId"] for message in frame.cdp.messages(50, OPENED)]
    assert box.events()["messageId"].tolist() == expected


@pytest.mark.parametrize("make", [pa.Table.from_pandas, pl.from_pandas, lambda f: f])
def test_failures_of_every_kind_of_table(box: Sandbox, make: Any) -> None:
    """Skipped, invalid and good rows side by side, with text, lists, structs and categories."""
    frame = opens(
        6,
        uid=["a", None, "c", "d", None, "f"],
        ev=pd.Categorical(["o", "o", "x", "o", "x", "o"]),
        tags=[["a"], ["b", "c"], None, [], ["d"], None],
        deep=[{"k": ["v"]}, None, {"k": None}, {"k": []}, None, {"k": ["w"]}],
    )
    mapping = cdp.Mapping(
        user_id="uid",
        timestamp="ts",
        event="ev",
        events={"o": "Application Opened"},
        other_events="skip",
    )
    report = send(make(frame), box, mapping)
    assert counts(report) == {"delivered": 3, "invalid": 1, "skipped": 2}
    (failed,) = report.failures.to_dict("records")
    assert (failed["ev"], list(failed["tags"]), failed["cdp_row"]) == ("o", ["b", "c"], 1)
    stored = [properties or {} for properties in box.events()["properties"]]
    assert [item.get("tags") for item in stored] == [["a"], [], None]
    assert [item.get("deep") for item in stored] == [{"k": ["v"]}, {"k": []}, {"k": ["w"]}]


def test_a_duckdb_relation(box: Sandbox) -> None:
    """A query is streamed, planned, looked at and sent, with its own types."""
    with duckdb.connect() as connection:
        relation = connection.sql(
            "SELECT 'u' || i AS uid, TIMESTAMP '2023-01-01' + i * INTERVAL 1 SECOND AS ts, "
            "i::DECIMAL(10, 2) AS price, uuid() AS token, ['a', NULL] AS tags, {'k': i} AS deep "
            "FROM range(20000) AS t(i)"
        )
        plan = cdp.plan(relation, OPENED, destination=box.destination)
        assert plan.to_send == plan.rows == 20_000
        report = send(relation, box)
        again = connection.execute("SELECT 41 + 1").fetchone()
    assert report.ok
    assert again == (42,)
    first = box.events().sort_values("timestamp")["properties"].iloc[7]
    assert (first["price"], first["tags"], first["deep"]) == (7, ["a", None], {"k": 7})
    assert len(first["token"]) == 36


def test_rows_that_cannot_be_sent_at_all(box: Sandbox) -> None:
    """An honest report, and no request."""
    report = send(opens(3, uid=[None, "", " "]), box)
    assert counts(report) == {"invalid": 3}
    assert report.requests == 0
    assert len(box.requests()) == 0


def test_an_empty_frame(box: Sandbox) -> None:
    """No rows: a report that says so, and no request."""
    report = send(opens(0), box)
    assert report.ok
    assert str(report).startswith("Backfill: the table has no rows")
    assert report.requests == 0


def test_context_once_per_request(box: Sandbox) -> None:
    """With batch scope the receiver gets the same, in fewer bytes."""
    frame = opens(100, lang=["de", "fr"] * 50)
    mapping = cdp.Mapping.from_dict(OPENED.to_dict() | {"context": {"locale": "lang"}})
    wide = send(frame, box, mapping)
    narrow = send(frame, box, mapping, context_scope="batch")
    assert wide.ok
    assert narrow.ok
    assert narrow.body_bytes < wide.body_bytes
    stored = box.events()
    keys = ["messageId", "context"]
    first, second = (part.sort_values("messageId")[keys] for part in (stored[:100], stored[100:]))
    assert first.to_numpy().tolist() == second.to_numpy().tolist()


def test_an_oversize_row_blames_its_column(box: Sandbox) -> None:
    """The limit is exact: one byte more is too much, and the row says which column it was."""
    (message,) = opens(1, note=["x"]).cdp.messages(1, OPENED)
    room = 32_000 - len(json.dumps(message, separators=(",", ":"))) + 1
    report = send(opens(2, note=["é" * (room // 2) + "x" * (room % 2), "x" * (room + 1)]), box)
    assert counts(report) == {"delivered": 1, "invalid": 1}
    row = report.failures.iloc[0]
    assert (row["cdp_code"], row["cdp_row"]) == ("oversize", 1)
    assert "most of them from column 'note'" in row["cdp_reason"]


def test_times_without_a_zone_are_said_aloud(box: Sandbox) -> None:
    """Plan and report both say how naive times were read."""
    frame = opens(2, ts=["2023-05-01 10:00:00", "2023-05-01T10:00:00Z"])
    plan = frame.cdp.plan(OPENED, destination=box.destination)
    report = plan.send(progress=False)
    for shown in (str(plan), str(report), plan._repr_html_(), report._repr_html_()):
        assert "1 times carry no zone and are read as UTC" in shown
    other = frame.cdp.plan(OPENED, timezone="Asia/Tokyo", destination=box.destination)
    assert "are read as Asia/Tokyo, as timezone says." in str(other)


# --- the recent guard ---------------------------------------------------------------------------


def recent_rows() -> pd.DataFrame:
    """Five rows, of which three, about two people, are younger than 72 hours at NOW."""
    ages = [200, 71, 73, 1, -5]
    times = [NOW - timedelta(hours=age) for age in ages]
    return pd.DataFrame({"uid": ["a", "b", "c", "b", "d"], "ts": times})


def test_recent_rows_stop_a_run_before_it_starts(box: Sandbox) -> None:
    """By default nothing is sent, and the error says how many rows and people."""
    with pytest.raises(cdp.RecentRowsError, match="3 rows of 2 people") as got:
        send(recent_rows(), box, now=NOW)
    assert got.value.report is None
    assert len(box.requests()) == 0


def test_recent_rows_can_be_held_or_sent(box: Sandbox) -> None:
    """Held rows have an outcome of their own; sent ones arrive."""
    held = send(recent_rows(), box, recent="hold", now=NOW)
    assert counts(held) == {"delivered": 2, "held": 3}
    assert held.failures["cdp_code"].eq("recent").all()
    assert counts(send(recent_rows(), box, recent="send", now=NOW)) == {"delivered": 5}


def test_recent_rows_in_a_stream_stop_it_there(box: Sandbox) -> None:
    """A stream cannot be read twice: it stops at the first recent row, and accounts for it."""
    old = pa.Table.from_pandas(opens(20_000), preserve_index=False)
    new = pa.Table.from_pandas(recent_rows(), preserve_index=False).cast(old.schema)
    reader = pa.concat_tables([old, new]).to_reader(max_chunksize=10_000)
    with pytest.raises(cdp.RecentRowsError, match="stopped at the first rows") as got:
        send(reader, box, now=NOW)
    actual = counts(got.value.report)
    assert set(actual) <= {"delivered", "unsent"}
    assert sum(actual.values()) == 20_005
    assert not set(box.events()["userId"]) & {"a", "b", "c", "d"}


def test_recent_rows_that_are_skipped_or_invalid_do_not_count(box: Sandbox) -> None:
    """Only what would be sent can message anybody."""
    frame = recent_rows()
    frame["uid"] = pd.Series(["a", None, "c", "x", None])
    frame["ev"] = ["o", "o", "o", "z", "o"]
    mapping = cdp.Mapping(
        user_id="uid",
        timestamp="ts",
        event="ev",
        events={"o": "Application Opened"},
        other_events="skip",
    )
    assert counts(send(frame, box, mapping, now=NOW)) == {
        "delivered": 2,
        "invalid": 2,
        "skipped": 1,
    }


def test_a_stream_that_hides_that_it_can_be_read_once(box: Sandbox) -> None:
    """What the look for recent rows has spent is an error, not an empty success."""
    reader = pa.Table.from_pandas(opens(10)).to_reader()

    class Hidden:
        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            return reader.__arrow_c_stream__(requested_schema)

    with pytest.raises(
        cdp.StoppedError, match=r"can only be read once.*pyarrow\.RecordBatchReader"
    ):
        send(Hidden(), box)
    assert len(box.requests()) == 0


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"api_key": ""}, cdp.DestinationError, "is empty"),
        ({"api_key": "abc\n"}, cdp.DestinationError, "line break"),
        ({"api_key": "abc:def"}, cdp.DestinationError, "colon"),
        ({"api_key": 3}, cdp.DestinationError, "must be text"),
        ({"region": "uk"}, cdp.DestinationError, "no region 'uk'. Did you mean 'us'"),
        ({"base_url": "https://x.y/v2"}, cdp.DestinationError, "must end in /v1"),
        ({"base_url": "ftp://x.y/v1"}, cdp.DestinationError, "begin with https"),
        ({"base_url": "https://k@x.y/v1"}, cdp.DestinationError, "credentials"),
        ({"base_url": "https://x.y:port/v1"}, cdp.DestinationError, "not an address"),
        ({"rate_limit": 0}, cdp.DestinationError, "rate_limit"),
        ({"answer_timeout": -1}, cdp.DestinationError, "answer_timeout"),
        ({"workers": 0}, cdp.DestinationError, "workers"),
        ({"max_messages": 1.5}, cdp.DestinationError, "max_messages"),
    ],
)
def test_a_wrong_destination(arguments: dict[str, Any], error: Any, words: str) -> None:
    """Each has its own clear error, and no key is in it."""
    with pytest.raises(error, match=words) as got:
        cdp.Destination(**arguments)
    assert "abc" not in str(got.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"destination": "http://x/v1"}, "destination must be a Destination.*not str"),
        ({"mapping": {"user_id": "uid"}}, "A dict is no mapping. Pass its items as keywords"),
        ({"event": "Application Opened"}, r"pass lit\('Application Opened'\)"),
    ],
)
def test_an_argument_of_the_wrong_type(arguments: dict[str, Any], words: str) -> None:
    """It says what was expected instead."""
    given: dict[str, Any] = {
        "mapping": OPENED,
        "destination": cdp.Destination(api_key="k"),
    } | arguments
    with pytest.raises(cdp.BadInputError, match=words):
        cdp.send(opens(1), **given)


@pytest.mark.parametrize(
    "option",
    [
        {"recent": "maybe"},
        {"context_scope": "all"},
        {"canary": True},
        {"canary": 0},
        {"canary": 1.5},
        {"processes": True},
        {"processes": 0},
    ],
)
def test_a_wrong_option(option: dict[str, Any]) -> None:
    """An option of a wrong value says which values there are; True is no number of rows."""
    with pytest.raises(cdp.BadInputError, match="must be"):
        cdp.send(opens(1), OPENED, destination=cdp.Destination(api_key="k"), **option)


def test_no_key_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key nothing starts, and the error says where one can come from."""
    monkeypatch.setattr(destinations, "_prompt_for_key", lambda _: None)
    with pytest.raises(cdp.DestinationError, match=r"\$CUSTOMERIO_CDP_API_KEY"):
        cdp.send(opens(1), OPENED)


def test_where_a_key_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given before configured, configured before the environment, that before the keyring."""
    monkeypatch.setattr(destinations, "_key_from_keyring", lambda _: "from-keyring")
    assert destinations.resolve(None).api_key == "from-keyring"
    monkeypatch.setenv("CUSTOMERIO_CDP_API_KEY", "from-env")
    assert destinations.resolve(None).api_key == "from-env"
    configured = cdp.configure("from-configure", region="eu")
    assert destinations.resolve(None) == configured
    assert destinations.resolve(cdp.Destination(region="eu")).api_key == "from-configure"
    assert destinations.resolve(cdp.Destination()).api_key == "from-env"  # another address
    given_ = cdp.Destination(api_key="given")
    assert destinations.resolve(given_) is given_
    monkeypatch.setenv("CUSTOMERIO_CDP_API_KEY", "bad key")
    cdp.configure()
    with pytest.raises(cdp.DestinationError, match=r"comes from \$CUSTOMERIO_CDP_API_KEY"):
        destinations.resolve(None)


def test_a_key_never_shows() -> None:
    """Neither repr nor text of a destination has it."""
    destination = cdp.Destination(api_key="hunter2-key")
    assert "hunter2" not in f"{destination!r} {destination} {[destination]}"
    assert repr(destination) == "Destination(region='us', url='https://cdp.customer.io/v1')"


def test_a_table_that_changes_while_it_is_read(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading that fails midway ends the run with a report of what went before."""
    for number in range(2):
        opens(5).to_parquet(tmp_path / f"p{number}.parquet")
    source = sorted(tmp_path.glob("*.parquet"))
    table = ColumnarSource(files_of(source))
    read = table.chunks

    def shrinking(columns: Any, *, start: int = 0) -> Any:
        for chunk in read(columns, start=start):
            yield chunk
            opens(3).to_parquet(source[1])

    monkeypatch.setattr(table, "chunks", shrinking)
    monkeypatch.setattr(choosing, "open_source", lambda _, **__: table)
    with pytest.raises(cdp.StoppedError) as got:
        send(tmp_path, box, recent="send")
    assert "changed while it was being read" in str(got.value)
    assert sum(got.value.report.counts.values()) == 10
    assert got.value.report.counts["unsent"] == 10 - got.value.report.counts["delivered"]


def test_no_thread_stays_behind(box: Sandbox) -> None:
    """Neither after a run that ends well nor after one that does not."""
    before = threading.active_count()
    send(opens(3), box)
    with pytest.raises(cdp.RecentRowsError):
        send(pa.Table.from_pandas(recent_rows()).to_reader(), box, now=NOW)
    assert threading.active_count() == before


def test_an_error_nobody_expected_keeps_the_report(box: Sandbox) -> None:
    """A stream breaks midway: earlier rows are accounted for, and its own text is hidden."""
    batch = pa.RecordBatch.from_pandas(opens(3_000))

    def breaking() -> Any:
        yield from [batch] * 5
        raise ValueError("secret of a row")

    reader = pa.RecordBatchReader.from_batches(batch.schema, breaking())
    with pytest.raises(cdp.StoppedError) as got:
        send(reader, box)
    assert sum(got.value.report.counts.values()) == 15_000
    assert got.value.report.counts["delivered"] == len(box.events())
    assert "secret" not in str(got.value)


# --- interrupts -----------------------------------------------------------------------------------


class Interrupting:
    """A display that interrupts, as the stop button does, once some rows are delivered."""

    def __init__(self, at: int, times: int = 1) -> None:
        self.at = at
        self.times = times

    def update(self, snapshot: Snapshot) -> None:
        """Interrupt if it is time."""
        if snapshot.requests >= self.at and self.times:
            self.times -= 1
            raise KeyboardInterrupt

    def close(self) -> None:
        """Nothing to do."""


def test_an_interrupt_returns_the_report() -> None:
    """What is under way finishes, the rest is unsent, and it all adds up."""
    with serving(lambda *_: Reply()) as server:
        report = cdp.send(
            opens(30_000),
            OPENED,
            destination=server.destination(workers=2, max_messages=100),
            progress=Interrupting(5),
        )
    assert report.interrupted
    actual = counts(report)
    assert set(actual) == {"delivered", "unsent"}
    assert sum(actual.values()) == 30_000
    assert actual["delivered"] == sum(len(seen.batch) for seen in server.requests)
    failures = report.failures
    assert len(failures) == actual["unsent"]
    assert failures["cdp_code"].eq("stopped").all()
    assert failures.index.is_monotonic_increasing


def test_a_second_interrupt_waits_no_longer() -> None:
    """Requests under way become unknown: they may have been taken."""
    never = threading.Event()

    def answer(number: int, _: ReceivedRequest) -> Reply:
        return Reply(wait_for=never if number else None)

    with serving(answer) as server:
        report = cdp.send(
            opens(1_000),
            OPENED,
            destination=server.destination(workers=2, max_messages=100),
            progress=Interrupting(3, times=2),
        )
        never.set()
    actual = counts(report)
    assert actual["unknown"] in (100, 200)
    assert actual["delivered"] == 20  # the small first request
    assert sum(actual.values()) == 1_000
    assert set(report.failures["cdp_code"]) == {"cancelled", "stopped"}


@pytest.mark.parametrize("first", ["", "import polars"])
def test_ctrl_c_in_a_process_of_its_own(first: str) -> None:
    """A real SIGINT to a real process: the report comes out, complete; beside polars too."""
    code = (
        f"{first}\n"
        """
import sys, threading
sys.path.insert(0, ".")
from tests.servers import Reply, serving
from tests.rows import opens
import cdp_backfill as cdp

waiting, go = threading.Event(), threading.Event()
def answer(number, seen):
    if number >= 3 and seen.raw:
        print("under way\\n", end="", flush=True)
    return Reply()
with serving(answer) as server:
    report = cdp.send(
        opens(200_000),
        user_id="uid",
        timestamp="ts",
        event=cdp.lit("Application Opened"),
        destination=server.destination(rate_limit=40.0, max_messages=500),
        progress=False,
    )
    print("REPORT", report.interrupted, sum(report.counts.values()),
          report.counts["delivered"] + report.counts["unsent"], flush=True)
"""
    )
    assert run_interrupted(code) == "REPORT True 200000 200000"


# --- many rows ------------------------------------------------------------------------------------


def test_failed_rows_go_to_disk_when_they_are_many(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Memory keeps a little of them; the rest is read back from a file, in order, and removed."""
    monkeypatch.setattr(trackers, "SPILL_BYTES", 100_000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mapped = Mock(wraps=mmap.mmap)
    monkeypatch.setattr("mmap.mmap", mapped)
    table = pa.Table.from_pandas(opens(50_000, uid=None, n=np.arange(50_000)))
    report = send(table, box)
    assert report.failures["n"].tolist() == list(range(50_000))
    assert mapped.call_count > 2
    del report
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_failed_rows_with_categories_go_to_disk_too(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each chunk can have categories of its own."""
    monkeypatch.setattr(trackers, "SPILL_BYTES", 10_000)
    parts = [
        pa.Table.from_pandas(opens(3_000, uid=None)).append_column(
            "kind", pa.array([f"v{part}"] * 3_000).dictionary_encode()
        )
        for part in range(3)
    ]
    report = send(pa.concat_tables(parts).to_reader(), box, recent="send")
    assert report.failures["kind"].value_counts().to_dict() == dict.fromkeys(
        ("v0", "v1", "v2"), 3_000
    )


def test_a_mapping_of_constants_only(box: Sandbox) -> None:
    """No column is read, and yet every row is sent."""
    mapping = cdp.Mapping(
        user_id=cdp.lit("a"), timestamp=cdp.lit("2023-01-01"), event=cdp.lit("Application Opened")
    )
    for rest in ("drop", "properties"):
        report = send(pd.DataFrame({"z": range(9_000)}), box, mapping, rest=rest)
        assert report.counts["delivered"] == 9_000


def test_ranges_of_numbers_as_categories(box: Sandbox) -> None:
    """What ``pd.cut`` gives cannot be read, and says so."""
    frame = opens(3, band=pd.cut(pd.Series([1, 5, 9]), 3))
    with pytest.raises(cdp.SourceError, match="Column 'band' of dtype category cannot"):
        send(frame, box)


def test_a_full_disk_loses_no_row(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """If failed rows cannot go to disk, memory keeps them."""
    monkeypatch.setattr(trackers, "SPILL_BYTES", 1_000)
    monkeypatch.setattr("tempfile.tempdir", "/proc/no-room")
    report = send(pa.Table.from_pandas(opens(20_000, uid=None)), box)
    assert len(report.failures) == 20_000


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.none() | texts,
            st.sampled_from(["2023-01-01T00:00:00Z", "", "soon", "2023-02-30"]),
            st.sampled_from(["o", "Application Crashed", "?", None]),
            st.none() | texts | st.just("x" * 33_000),
        ),
        max_size=30,
    ),
    st.sampled_from(["message", "batch"]),
    st.integers(1, 9),
)
def test_whatever_the_rows_the_counts_add_up(
    box: Sandbox, rows: list[tuple[Any, ...]], scope: Any, max_messages: int
) -> None:
    """Any mix of good and bad rows: each has one outcome, and the box holds the delivered ones."""
    frame = pd.DataFrame(rows, columns=["uid", "ts", "ev", "note"], dtype=object)
    before = len(box.events())
    report = frame.cdp.send(
        user_id="uid",
        timestamp="ts",
        event="ev",
        events={"o": "Application Opened"},
        properties={"note": "note"},
        context_scope=scope,
        destination=cdp.Destination(
            api_key=box.api_key, base_url=box.url, max_messages=max_messages
        ),
        progress=False,
    )
    assert sum(report.counts.values()) == len(frame)
    stored = box.events().iloc[before:]
    assert len(stored) == report.counts["delivered"]
    assert len(report.failures) == report.counts["invalid"] + report.unmapped
    assert report.counts["invalid"] + report.counts["skipped"] == len(frame) - len(stored)
    sent = frame.drop(report.failures.index)
    # Blanks around an id are not sent.
    assert {uid.strip() for uid in stored["userId"]} <= {uid.strip() for uid in sent["uid"]}

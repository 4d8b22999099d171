"""Identities go before the events, each with an outcome, and nobody is guessed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cdp_backfill as cdp
from cdp_backfill.pipeline.journal import read_journal
from tests.sending import counts, send
from tests.servers import ReceivedRequest, Reply, serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.local_sandbox import Sandbox
    from tests.clocks import FakeClock

MAPPING = cdp.Mapping(
    user_id="uid", anonymous_id="did", timestamp="ts", event=cdp.lit("Application Opened")
)


def rows(dids: list[Any], uids: list[Any], **columns: Any) -> pd.DataFrame:
    """Events of devices, some of which have a user."""
    when = pd.date_range("2023-05-01T10:00:00Z", periods=len(dids), freq="s")
    return pd.DataFrame({"did": dids, "uid": uids, "ts": when} | columns)


def many(size: int, people: int = 50) -> pd.DataFrame:
    """Events of devices: each other event has a user, the same for each device."""
    devices = [number * 7 % people for number in range(size)]
    users = [f"u{d}" if number >= size // 2 else None for number, d in enumerate(devices)]
    return rows([f"d{d}" for d in devices], users)


def identified(box: Sandbox) -> set[tuple[str, str]]:
    """Anonymous and user ids of the identify calls that arrived."""
    frame = box.events().query("type == 'identify'")
    return set(zip(frame["anonymousId"], frame["userId"], strict=True))


def test_every_identity_has_an_answer_before_the_first_event() -> None:
    """Even one that is answered only at its third attempt."""
    seen: list[str] = []
    refused: dict[str, int] = {}

    def answer(_: int, request: ReceivedRequest) -> Reply:
        if not request.raw:
            return Reply()
        first = request.batch[0]
        seen.append(first["type"])
        slow = first["type"] == "identify" and first["anonymousId"] == "d14"
        if slow and refused.setdefault("d14", 0) < 2:
            refused["d14"] += 1
            return Reply(503)
        return Reply()

    with serving(answer) as server:
        destination = server.destination(max_messages=2)
        report = cdp.send(
            many(200), MAPPING, identify="uid", destination=destination, progress=False
        )
    assert seen == ["identify"] * 27 + ["track"] * 100
    assert report.identities is not None
    assert (counts(report.identities), counts(report)) == ({"delivered": 50}, {"delivered": 200})
    assert report.ok


def test_without_identify_nothing_is_identified(box: Sandbox) -> None:
    """It is off unless asked for, and the events are the same with it."""
    plain = send(many(20), box, MAPPING)
    assert plain.identities is None
    assert plain.to_dict()["identities"] is None
    before = box.events()
    assert set(before["type"]) == {"track"}
    send(many(20), box, MAPPING, identify="uid")
    tracks = box.events().query("type == 'track'").iloc[20:]
    same = ["messageId", "userId", "anonymousId", "event", "timestamp", "properties"]
    pd.testing.assert_frame_equal(
        tracks[same].reset_index(drop=True), before[same].reset_index(drop=True)
    )


def _parquet(frame: pd.DataFrame, folder: Path) -> Any:
    pq.write_table(pa.Table.from_pandas(frame), folder / "t.parquet", row_group_size=7)
    return folder / "t.parquet"


def _csv(frame: pd.DataFrame, folder: Path) -> Any:
    frame.to_csv(folder / "t.csv", index=False)
    return folder / "t.csv"


def _json(frame: pd.DataFrame, folder: Path) -> Any:
    frame.to_json(folder / "t.ndjson", orient="records", lines=True, date_format="iso")
    return folder / "t.ndjson"


FORMATS: list[Callable[[pd.DataFrame, Path], Any]] = [
    lambda frame, _: frame,
    lambda frame, _: frame.sample(frac=1, random_state=3),
    lambda frame, _: frame.astype({"uid": "float64"}),
    lambda frame, _: pl.from_pandas(frame),
    lambda frame, _: pl.from_pandas(frame).lazy(),
    lambda frame, _: pa.Table.from_pandas(frame),
    _parquet,
    _csv,
    _json,
]


@pytest.mark.parametrize("convert", FORMATS)
def test_ids_do_not_depend_on_the_table(
    box: Sandbox, tmp_path: Path, convert: Callable[[pd.DataFrame, Path], Any]
) -> None:
    """Order, format and chunks of the table, and the way to name the pairs: the same ids."""
    frame = many(60, people=9)
    frame["uid"] = frame["uid"].str[1:].astype("Int64")
    send(convert(frame, tmp_path), box, MAPPING, identify="uid", journal=False)
    pairs = frame[["did", "uid"]].dropna().drop_duplicates()
    send(frame, box, MAPPING, identify=pairs)
    calls = box.events().query("type == 'identify'")
    assert len(calls) == 18
    assert calls["messageId"].value_counts().eq(2).all()
    assert set(calls["userId"]) == {str(number) for number in range(9)}


def test_an_anonymous_id_of_two_people_is_never_guessed(box: Sandbox) -> None:
    """Both of its rows are invalid, the plan tells it first, and its events go as they are."""
    frame = rows(["a", "b", "b", "b", "c"], ["x", "y", None, "z", None])
    plan = frame.cdp.plan(MAPPING, identify="uid", destination=box.destination)
    assert plan.identities is not None
    assert plan.identities.counts == {"to_send": 1, "invalid": 2, "held": 0, "skipped": 0}
    assert "2 identities have an anonymous id with more than one user id" in plan.alerts[0]
    report = plan.send(progress=False)
    assert counts(report) == {"delivered": 5}
    assert report.identities is not None
    assert report.identities.by_reason()["code"].tolist() == ["ambiguous_identity"]
    assert identified(box) == {("a", "x")}
    tracks = box.events().query("type == 'track'")
    assert tracks["userId"].isna().tolist() == [False, False, True, False, True]


def test_repaired_identities_can_be_sent(box: Sandbox) -> None:
    """The failures carry their mapping; with one of the two rows, nothing is ambiguous."""
    report = send(rows(["a", "b", "b"], ["x", "y", "z"]), box, MAPPING, identify="uid")
    assert report.identities is not None
    failures = report.identities.failures
    assert failures[["did", "uid", "cdp_row"]].to_numpy().tolist() == [["b", "y", 1], ["b", "z", 2]]
    assert counts(send(failures, box, None)) == {"invalid": 2}
    again = send(failures.iloc[1:], box, None)
    assert counts(again) == {"delivered": 1}
    assert counts(report.identities + again) == {"delivered": 2, "invalid": 1}
    assert identified(box) == {("a", "x"), ("b", "z")}


@pytest.mark.parametrize("names", [("did", "uid"), ("anonymousId", "userId"), ("did", "user_id")])
def test_a_table_of_identities(box: Sandbox, names: tuple[str, str]) -> None:
    """Its other columns become traits, repeated rows go once, empty ids are invalid."""
    table = pd.DataFrame(
        {
            "plan": ["gold", None, None, None, "x"],
            names[0]: [" d0 ", "d1", "d1", None, "d9"],
            names[1]: ["u0", "u1", "u1", "u3", "NULL"],
            "since": pd.Series(["2020-01-01", None, None, None, None], dtype="datetime64[ns]"),
            "score": [1.0, 2.5, 2.5, 1.0, 1.0],
        }
    )
    report = send(many(10), box, MAPPING, identify=table)
    assert report.identities is not None
    assert counts(report.identities) == {"delivered": 2, "invalid": 2, "skipped": 1}
    assert set(report.identities.failures["cdp_code"]) == {"missing_user"}
    calls = box.events().query("type == 'identify'")
    assert calls["userId"].tolist() == ["u0", "u1"]
    assert calls["anonymousId"].tolist() == ["d0", "d1"]
    assert calls["traits"].tolist() == [
        {"plan": "gold", "score": 1, "since": "2020-01-01T00:00:00Z"},
        {"score": 2.5},
    ]
    assert calls["event"].isna().all()
    assert calls["timestamp"].isna().all()


def test_a_table_of_identities_from_files(box: Sandbox, tmp_path: Path) -> None:
    """A text that is no column is a path; ids of files keep their zeros."""
    (tmp_path / "ids.csv").write_text("did,user_id,age\nd1,007,30\nd2,08,31\n")
    for identify in (str(tmp_path / "ids.csv"), tmp_path / "ids.csv", [str(tmp_path / "*.csv")]):
        report = send(many(4), box, MAPPING, identify=identify)
        assert report.identities is not None
        assert report.identities.ok
    assert identified(box) == {("d1", "007"), ("d2", "08")}
    assert box.events().query("type == 'identify'")["traits"].tolist()[:2] == [
        {"age": 30},
        {"age": 31},
    ]


@pytest.mark.parametrize(
    ("identify", "change", "words"),
    [
        ("udi", {}, r"identify='udi' is no column of the DataFrame. Did you mean 'uid'"),
        ("did", {}, "is the column of the anonymous id"),
        ("uid", {"anonymous_id": None}, "has no anonymous id. Pass anonymous_id="),
        ("uid", {"anonymous_id": cdp.lit("x")}, "has a constant as anonymous id"),
        ("uid", {"integrations": {"A": "flag"}}, r"integrations\['A'\] is filled from a column"),
        (pd.DataFrame({"did": [], "x": []}), {}, "no column is named 'uid' or 'user_id'"),
        (
            pd.DataFrame({"did": [], "anonymous_id": [], "x": []}),
            {},
            "could each be the anonymous_id; rename all but one of them, and no column is named",
        ),
        (pd.DataFrame({"uid": []}), {"anonymous_id": "uid", "user_id": None}, "no column is named"),
        (pa.table({"did": [], "uid": []}).to_reader(), {}, "can only be read once"),
        (7, {}, "A table of type int cannot be read"),
    ],
)
def test_what_is_unclear_is_one_error(
    box: Sandbox, identify: Any, change: dict[str, Any], words: str
) -> None:
    """Before anything is sent, in a plan as in a run."""
    frame = rows(["d"], ["u"], flag=[True])
    values = {**MAPPING.to_dict(), "event": MAPPING.event} | change
    mapping = cdp.Mapping(**{name: value for name, value in values.items() if value is not None})
    for verb in (cdp.send, cdp.plan):
        with pytest.raises(cdp.BadInputError, match=words):
            verb(frame, mapping, identify=identify, destination=box.destination)
    assert box.requests().empty


def test_a_stream_cannot_be_read_before_it_is_sent(box: Sandbox) -> None:
    """A column of it is refused; a table beside it is not."""
    table = pa.Table.from_pandas(many(4))
    with pytest.raises(cdp.BadInputError, match="identify='uid' reads it before the events"):
        send(table.to_reader(), box, MAPPING, identify="uid")
    assert box.requests().empty
    ids = pd.DataFrame({"did": ["d0"], "uid": ["u0"]})
    assert send(table.to_reader(), box, MAPPING, identify=ids).ok


def test_identities_go_where_the_events_go(box: Sandbox) -> None:
    """Destinations that are shut out of the events get no identities either."""
    change = {"integrations": {"All": False, "Mixpanel": True}}
    mapping = cdp.Mapping.from_dict(MAPPING.to_dict() | {"event": MAPPING.event} | change)
    for identify in ("uid", pd.DataFrame({"did": ["a"], "uid": ["x"]})):
        send(rows(["a"], ["x"]), box, mapping, identify=identify)
    assert box.events()["integrations"].tolist() == [{"All": False, "Mixpanel": True}] * 4


def test_a_wrong_key_stops_before_the_events() -> None:
    """The error has both reports: no event left, and all of them are unsent."""
    with serving(lambda *_: Reply(401)) as server:
        with pytest.raises(cdp.AuthenticationError) as got:
            cdp.send(
                many(3_000),
                MAPPING,
                identify="uid",
                destination=server.destination(),
                progress=False,
            )
        kinds = {message["type"] for request in server.requests for message in request.batch}
    report = got.value.report
    assert kinds == {"identify"}
    assert counts(report) == {"unsent": 3_000}
    assert counts(report.identities) == {"unsent": 50}
    assert "50 of 50 identities were not delivered (50 unsent): up to 50 people" in _flat(report)
    assert report.failures["cdp_code"].unique().tolist() == ["stopped"]


def _flat(shown: object) -> str:
    return " ".join(str(shown).split())


def test_a_stop_among_the_events_keeps_the_identities(box: Sandbox) -> None:
    """Their report is in that of the error."""
    frame = many(20)
    frame.loc[19, "ts"] = pd.Timestamp.now(tz="UTC")
    ids = pd.DataFrame({"did": ["d0"], "uid": ["u0"]})
    with pytest.raises(cdp.RecentRowsError) as got:
        send(pa.Table.from_pandas(frame).to_reader(), box, MAPPING, identify=ids)
    assert counts(got.value.report.identities) == {"delivered": 1}
    assert got.value.report.counts["delivered"] == 0


def test_recent_rows_stop_before_the_identities(box: Sandbox) -> None:
    """Where the table can be read first, nothing at all is sent."""
    frame = many(20)
    frame.loc[19, "ts"] = pd.Timestamp.now(tz="UTC")
    with pytest.raises(cdp.RecentRowsError):
        send(frame, box, MAPPING, identify="uid")
    assert box.requests().empty


def test_an_interrupt_among_the_identities_sends_no_event(box: Sandbox) -> None:
    """The report comes back, with all events unsent."""

    class Interrupting:
        closed = 0

        def update(self, snapshot: cdp.Snapshot) -> None:
            if snapshot.call == "identify" and snapshot.state == "running":
                raise KeyboardInterrupt

        def close(self) -> None:
            self.closed += 1

    display = Interrupting()
    report = cdp.send(
        many(100), MAPPING, identify="uid", destination=box.destination, progress=display
    )
    assert report.interrupted
    assert counts(report) == {"unsent": 100}
    assert report.identities is not None
    assert report.identities.interrupted
    assert sum(report.identities.counts.values()) == 50
    assert "track" not in set(box.events()["type"])
    assert display.closed == 1


def test_one_display_shows_both_runs(box: Sandbox) -> None:
    """Identities first; it is closed once, at the end."""
    seen: list[str] = []

    class Display:
        def update(self, snapshot: cdp.Snapshot) -> None:
            seen.append(snapshot.call)

        def close(self) -> None:
            seen.append("closed")

    cdp.send(many(20), MAPPING, identify="uid", destination=box.destination, progress=Display())
    assert list(dict.fromkeys(seen)) == ["identify", "track", "closed"]
    assert seen.count("closed") == 1


def test_failed_identities_do_not_stop_the_events(box: Sandbox, tmp_path: Path) -> None:
    """The report begins with the number of people who may not be joined, and saves them."""
    box.set_faults(refuse_users=["u3"])
    report = send(many(300), box, MAPPING, identify="uid")
    assert report.identities is not None
    assert counts(report.identities) == {"delivered": 49, "refused": 1}
    first = str(report).split("\n\n")[1]
    assert "1 of 50 identities was not delivered (1 refused): up to 1 person" in _flat(first)
    assert not report.ok
    with pytest.raises(cdp.UndeliveredError, match="1 of 50 identities was not delivered"):
        report.raise_for_failures()
    assert report.to_dict()["identities"]["counts"]["refused"] == 1
    report.save(tmp_path)
    saved = pd.read_parquet(tmp_path / "identities" / "failures.parquet")
    assert saved[["did", "uid"]].to_numpy().tolist() == [["d3", "u3"]]
    assert cdp.Mapping.load(tmp_path / "identities" / "mapping.toml").call == "identify"


def _failing_for_d2(clock: FakeClock, failing: list[bool], seen: list[str]) -> Any:
    """Answers of a server that cannot take what is about d2, as long as the list is not empty."""

    def answer(_: int, request: ReceivedRequest) -> Reply:
        if not request.raw:
            return Reply()
        clock.advance(50)
        seen.append(request.batch[0]["type"])
        about_d2 = any(message["anonymousId"] == "d2" for message in request.batch)
        return Reply(503 if failing and about_d2 else 200)

    return answer


def test_a_retry_sends_the_missing_identities_first(clock: FakeClock) -> None:
    """Those that failed, and then the events that failed."""
    failing, seen = [True], ["x"]
    with serving(_failing_for_d2(clock, failing, seen)) as server:
        destination = server.destination(max_messages=2, workers=1)
        report = cdp.send(
            many(100), MAPPING, identify="uid", destination=destination, progress=False
        )
        assert report.identities is not None
        assert counts(report.identities) == {"delivered": 48, "unknown": 2}
        assert counts(report) == {"delivered": 96, "unknown": 4}
        failing.clear()
        seen.clear()
        again = report.retry()
    assert seen == ["identify", "track", "track"]
    both = report + again
    assert both.identities is not None
    assert (counts(both.identities), counts(both)) == ({"delivered": 50}, {"delivered": 100})
    assert both.ok
    assert not report.identities.ok


def test_identities_alone_can_be_retried(clock: FakeClock) -> None:
    """Where only they failed, the error of retry() says so."""
    failing: list[bool] = [True]
    with serving(_failing_for_d2(clock, failing, [])) as server:
        destination = server.destination(max_messages=2, workers=1)
        report = cdp.send(
            many(2, 2), MAPPING, identify=_ids(30), destination=destination, progress=False
        )
        with pytest.raises(cdp.BadInputError, match=r"report\.identities\.retry\(\) sends those"):
            report.retry()
        assert report.identities is not None
        assert counts(report.identities) == {"delivered": 28, "unknown": 2}
        failing.clear()
        assert counts(report.identities + report.identities.retry()) == {"delivered": 30}


def _ids(size: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"did": [f"d{n}" for n in range(size)], "uid": [f"u{n}" for n in range(size)]}
    )


def test_a_plan_and_its_run_agree(box: Sandbox) -> None:
    """Counts, first messages and ids; the plan says it as plain values, too."""
    frame = many(100)
    frame.loc[[1, 60, 80], "uid"] = ["bob", "u2", "1.5E+15"]
    plan = frame.cdp.plan(MAPPING, identify="uid", destination=box.destination)
    first = plan.identities
    assert first is not None
    assert plan.to_dict()["identities"]["counts"] == first.counts
    report = plan.send(progress=False)
    assert report.identities is not None
    assert report.identities.counts["delivered"] == first.to_send
    assert report.identities.counts["invalid"] == first.invalid
    assert report.identities.requests == first.requests
    calls = box.events().query("type == 'identify'")
    sent = calls[["type", "messageId", "userId", "anonymousId"]].to_dict("records")
    assert sent[: len(first.samples)] == list(first.samples)
    shown = str(plan)
    assert "Identities, sent first" in shown
    assert "An identify call acts when it is sent" in _flat(shown)
    assert f"{first.to_send:,} of {first.rows} rows" in _flat(first)


def test_a_table_that_changed_since_the_plan_is_refused(box: Sandbox) -> None:
    """The events or the identities: then neither is sent."""
    frame, table = many(20), _ids(20)
    of_column = frame.cdp.plan(MAPPING, identify="uid", destination=box.destination)
    of_table = frame.cdp.plan(MAPPING, identify=table, destination=box.destination)
    table.loc[3, "uid"] = "someone else"
    with pytest.raises(cdp.SourceError, match="has changed since the plan"):
        of_table.send(progress=False)
    frame.loc[3, "uid"] = "someone else"
    with pytest.raises(cdp.SourceError, match="has changed since the plan"):
        of_column.send(progress=False)
    assert box.requests().empty
    assert of_column.identities is not None
    assert of_column.identities.send(progress=False).counts["delivered"] == 10


def test_a_plan_with_questions_asks_them_first() -> None:
    """Without a mapping, there is nothing to identify yet."""
    plan = rows(["d"], ["u"]).drop(columns="ts").cdp.plan(identify="uid")
    assert plan.questions
    assert plan.identities is None


def test_a_canary_identifies_its_own_people(box: Sandbox, tmp_path: Path) -> None:
    """Also where only a later row tells who they are; the run after it sends the rest."""
    frame = rows(["a", "b", "c", "a", "b", "c"], [None, None, None, "x", "y", "z"])
    table = pd.DataFrame({"did": ["z", "c", "b", "a"], "uid": ["0", "z", "y", "x"]})
    for number, identify in enumerate(("uid", table)):
        journal = tmp_path / f"{number}.journal"
        with cdp.sandbox() as each:
            report = send(frame, each, MAPPING, identify=identify, canary=2, journal=journal)
            assert counts(report) == {"delivered": 2, "unsent": 4}
            assert identified(each) == {("a", "x"), ("b", "y")}
            assert report.identities is not None
            assert set(report.identities.failures["cdp_code"]) == {"canary"}
            assert "may not be joined" not in str(report)
            rest = send(frame, each, MAPPING, identify=identify, journal=journal)
            assert rest.ok
            assert rest.identities is not None
            assert rest.identities.delivered_before == 2
            assert len(identified(each)) == rest.identities.counts["delivered"]
    with pytest.raises(cdp.BadInputError, match="canary= and identify= together"):
        send(pl.from_pandas(frame).lazy(), box, MAPPING, identify="uid", canary=2)
    assert box.requests().empty


def test_a_canary_and_its_retry_finish_the_backfill(box: Sandbox, tmp_path: Path) -> None:
    """The identities that waited go first."""
    report = send(many(40, 20), box, MAPPING, identify="uid", canary=3, journal=tmp_path / "j")
    both = report + report.retry()
    assert both.ok
    assert counts(both) == {"delivered": 40}
    kinds = box.events()["type"].tolist()
    assert kinds == ["identify"] * 3 + ["track"] * 3 + ["identify"] * 17 + ["track"] * 37


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, ".")
import cdp_backfill as cdp
from cdp_backfill.pipeline import runner
from cdp_backfill.pipeline.journal import Journal
from tests.pipeline.test_identities import MAPPING

def die(*_):
    os._exit(9)

left = int(sys.argv[4])
change, send_all = Journal.change, runner.Run._send_all

def change_some(self, request, state):
    global left
    change(self, request, state)
    left -= 1
    if not left:
        die()

def begin(self):
    if self._prepared_source.mapping.call == "track":
        die()
    send_all(self)

if left:
    Journal.change = change_some
else:
    runner.Run._send_all = begin
destination = cdp.Destination(api_key="sandbox", base_url=sys.argv[1], max_messages=10, workers=1)
cdp.send(sys.argv[2], MAPPING, identify=sys.argv[5], destination=destination, progress=False,
         journal=sys.argv[3])
"""


@pytest.mark.parametrize(("requests", "by_table"), [(0, True), (0, False), (2, False), (7, True)])
def test_a_killed_run_is_resumed(
    box: Sandbox, tmp_path: Path, requests: int, by_table: bool
) -> None:
    """Killed between the two runs or within one: each message arrives once."""
    table, journal = tmp_path / "t.parquet", tmp_path / "j.cdp-journal"
    many(100).to_parquet(table)
    _ids(50).to_parquet(tmp_path / "ids.parquet")
    identify = str(tmp_path / "ids.parquet") if by_table else "uid"
    command = [sys.executable, "-c", KILLED, box.url, str(table), str(journal), str(requests)]
    root = Path(__file__).parents[2]
    killed = subprocess.run([*command, identify], cwd=root, env=os.environ, check=False)
    assert killed.returncode == 9
    arrived = len(box.events())
    assert arrived == (requests or 5) * 10
    report = cdp.resume(journal, destination=box.destination, progress=False)
    assert report.identities is not None
    assert report.ok
    assert report.identities.delivered_before == min(50, arrived)
    assert report.delivered_before == max(0, arrived - 50)
    assert box.events()["messageId"].value_counts().eq(1).all()
    assert len(box.events()) == 150
    assert report.identities.journal == tmp_path / "j-identities.cdp-journal"
    nothing = cdp.resume(journal, destination=box.destination, progress=False)
    assert nothing.requests == 0
    assert nothing.identities is not None
    assert nothing.identities.requests == 0


def test_resume_asks_for_a_table_in_memory(box: Sandbox, tmp_path: Path) -> None:
    """The journal cannot hold it; a column of the events needs nothing."""
    frame, journal = many(20), tmp_path / "j"
    send(frame, box, MAPPING, identify=_ids(20), journal=journal)
    assert read_journal(journal).identify == {"paths": None}
    options: Any = {"destination": box.destination, "progress": False}
    with pytest.raises(cdp.JournalError, match="Pass that table as identify="):
        cdp.resume(journal, frame, **options)
    assert cdp.resume(journal, frame, identify=_ids(20), **options).requests == 0
    again = tmp_path / "k"
    send(frame, box, MAPPING, identify="uid", journal=again)
    assert cdp.resume(again, frame, **options).identities is not None


def test_no_journal_is_left_locked(box: Sandbox, tmp_path: Path) -> None:
    """An error before the runs, or in the first of them, frees both journals."""
    frame, journal = many(20), tmp_path / "j"
    send(frame, box, MAPPING, identify="uid", journal=journal)
    with pytest.raises(cdp.JournalError, match=r"j-identities belongs to .*: .*traits"):
        send(frame, box, MAPPING, identify=_ids(20).assign(age=3), journal=journal)
    assert send(frame, box, MAPPING, identify="uid", journal=journal).requests == 0


def test_bad_cells_of_another_column_are_told(box: Sandbox) -> None:
    """Cells that cannot be an id make no identity, and cells that were repaired are counted."""
    frame = rows(["a", "b", "c"], ["x", "y", "z"], account=[" n ", "1.5E+17", "m"])
    plan = frame.cdp.plan(MAPPING, identify="account", destination=box.destination)
    assert plan.identities is not None
    assert plan.identities.to_send == 2
    notes = " ".join(plan.identities.notes)
    assert "1 row has a user id or an anonymous id that cannot be an id" in notes
    assert "1 cell of column 'account': white space around the value was removed" in notes


def test_derived_ids_and_null_words(box: Sandbox) -> None:
    """A derived column can be either id; the mapping's words for empty cells hold."""
    frame = rows(["A-1", "B-2", "C-3"], ["x@1", "y@1", "none@1"])
    mapping = cdp.Mapping(
        derive={"short": "split_part(uid, '@', 1)", "device": "lower(did)"},
        anonymous_id="device",
        timestamp="ts",
        event=cdp.lit("Application Opened"),
        nulls=["b-2"],
    )
    report = send(frame, box, mapping, identify="short", recent="send")
    assert report.identities is not None
    assert identified(box) == {("a-1", "x")}


def test_worker_processes_find_ambiguous_ids(box: Sandbox, tmp_path: Path) -> None:
    """Each process knows the ids of the whole table."""
    table = pd.concat([_ids(20), pd.DataFrame({"did": ["d0"], "uid": ["u1"]})])
    pq.write_table(pa.Table.from_pandas(table), tmp_path / "t.parquet", row_group_size=5)
    mapping = cdp.Mapping(call="identify", anonymous_id="did", user_id="uid")
    options: Any = {"journal": False, "processes": 2}
    assert counts(send(tmp_path / "t.parquet", box, mapping, **options)) == {
        "delivered": 19,
        "invalid": 2,
    }


def test_identify_calls_identify_nobody_else(box: Sandbox) -> None:
    """A mapping of identify calls and identify= exclude each other."""
    mapping = cdp.Mapping(call="identify", anonymous_id="did", user_id="uid")
    with pytest.raises(cdp.MappingError, match="already makes identify calls"):
        send(_ids(3), box, mapping, identify="uid")


def test_a_table_without_any_pair(box: Sandbox) -> None:
    """There is nobody to identify, and the events are sent."""
    frame = rows(["a", "b", None], [None, None, "x"])
    report = send(frame, box, MAPPING, identify="uid")
    assert report.identities is not None
    assert (report.identities.rows, report.identities.requests) == (0, 0)
    assert report.ok
    assert counts(report) == {"delivered": 3}


def test_limits_hold_for_traits(box: Sandbox) -> None:
    """An identify call that is too large is invalid, and its reason names the column."""
    table = pd.DataFrame({"did": ["a", "b"], "uid": ["x", "y"], "bio": ["short", "x" * 40_000]})
    report = send(rows(["a", "b"], ["x", "y"]), box, MAPPING, identify=table)
    assert report.identities is not None
    (reason,) = report.identities.by_reason().to_dict("records")
    assert (reason["code"], reason["columns"], reason["row"]) == ("oversize", "bio", 1)
    assert identified(box) == {("a", "x")}


def test_a_report_of_identities_is_drawn(box: Sandbox) -> None:
    """It has no events over time, and its reasons are there."""
    report = send(rows(["a", "a"], ["x", "y"]), box, MAPPING, identify="uid")
    assert report.identities is not None
    assert report.identities.plot().axes

"""Tables of Spark: the same messages, plans and refusals as on one machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cdp_backfill as cdp
from tests.engines.interrupting import interrupted
from tests.rows import opens
from tests.servers import Reply, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

pyspark = pytest.importorskip("pyspark", reason="the extra spark is not installed")
pytestmark = [
    pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java on this machine"),
    pytest.mark.filterwarnings("ignore:::pyspark"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

OPENED = cdp.Mapping(user_id="uid", event=cdp.lit("Application Opened"), timestamp="ts")
STORED = ["messageId", "userId", "event", "timestamp", "properties", "context"]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A session with two slots, whose tasks are tried again, and which logs its events."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    from pyspark.sql import SparkSession  # noqa: PLC0415  # an extra

    events = tmp_path_factory.mktemp("events")
    settings = {
        "spark.ui.enabled": "false",
        "spark.sql.session.timeZone": "America/New_York",
        "spark.sql.shuffle.partitions": "2",
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": events.as_uri(),
        "spark.eventLog.compress": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "OFF",
    }
    builder = SparkSession.builder.master("local[2,4]").appName("tests")
    for name, value in settings.items():
        builder = builder.config(name, value)
    running: Any = builder.getOrCreate()
    running.events = events
    yield running
    running.stop()


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A parquet file of many types; some rows lack their user."""
    frame = opens(400, n=range(400), price=1.5, **{"dotted.name": "x"})
    frame.loc[::10, "uid"] = None
    frame["local"] = frame.ts.dt.tz_localize(None)
    frame["day"] = frame.ts.dt.date
    table = pa.Table.from_pandas(frame, preserve_index=False)
    device = {"os": "ios", "screens": [1, 2], "seen": frame.ts[0]}
    nested = {"device": device, "tags": ["a", "b"], "fee": Decimal("1.50"), "many": [("k", 1)]}
    kinds = {"many": pa.map_(pa.string(), pa.int64())}
    for name, cell in nested.items():
        table = table.append_column(name, pa.array([cell] * 400, kinds.get(name)))
    pq.write_table(table, tmp_path / "rows.parquet", coerce_timestamps="us")
    return str(tmp_path / "rows.parquet")


def stored(box: Sandbox) -> pd.DataFrame:
    """What the sandbox has stored, in a fixed order."""
    return box.events().sort_values("messageId", ignore_index=True)[STORED]


def send(table: Any, box: Sandbox, **options: Any) -> cdp.Report:
    """Send to the sandbox."""
    mapping = options.pop("mapping", OPENED)
    return cdp.send(table, mapping, destination=box.destination, progress=False, **options)


def test_the_same_arrives(session: Any, box: Sandbox, path: str) -> None:
    """Each stored field, the counts and the failures are those of the same rows in pandas."""
    with cdp.sandbox() as other:
        expected = send(pd.read_parquet(path, dtype_backend="pyarrow"), other)
        theirs = stored(other)
    table = session.read.parquet(path)
    report = send(table.repartition(3), box)
    pd.testing.assert_frame_equal(stored(box), theirs)
    assert report.counts == expected.counts
    assert report.maybe_twice == 0
    failures = report.distributed_failures
    requests = len(box.requests())
    assert failures.count() == failures.count() == 40
    assert sorted(report.failures.n) == list(range(0, 400, 10))
    assert failures.schema["device"] == table.schema["device"]
    assert failures.select("`dotted.name`", "cdp_code").first().asDict() == {
        "dotted.name": "x",
        "cdp_code": "missing_user",
    }
    assert len(box.requests()) == requests  # however many actions follow
    assert any("2 parts ran at a time, each at up to 250" in note for note in report.notes)
    again = report.failures.assign(uid="repaired").cdp.send(
        destination=box.destination, progress=False
    )
    assert (report + again).counts["delivered"] == 400


def test_the_plan_is_the_same(session: Any, path: str) -> None:
    """A plan of three parts equals that of the whole table, but for the requests."""
    # The last row is then younger than 72 hours.
    options: dict[str, Any] = {"now": datetime(2023, 5, 4, 10, 6, 39, tzinfo=UTC)}
    local = cdp.plan(pq.read_table(path), OPENED, **options).to_dict()
    plan = cdp.plan(session.read.parquet(path), OPENED, **options)
    several = cdp.plan(session.read.parquet(path).repartition(3, "n"), OPENED, **options)
    ours = [plan.to_dict(), several.to_dict()]
    by_packing = {
        "requests",
        "body_bytes",
        "fill",
        "wire_bytes",
        "seconds_at_rate_limit",
        "expected_seconds",
        "source",
    }
    for name in local.keys() - by_packing - {"columns", "samples"}:
        assert [each[name] for each in ours] == [local[name]] * 2, name
    assert len(several.samples) == 3
    assert {each["name"]: each["fields"] for each in ours[1]["columns"]} == {
        each["name"]: each["fields"] for each in local["columns"]
    }
    assert plan.refusal == "1 of 400 rows is younger than 72 hours"


def test_a_plan_can_be_sent(session: Any, box: Sandbox) -> None:
    """A proposal is made on the driver, and its plan is sent by the workers."""
    frame = opens(50).rename(columns={"uid": "user_id"}).assign(event="Application Opened")
    table = session.createDataFrame(frame)
    plan = cdp.plan(table, destination=box.destination)
    assert plan.to_send == 50
    report = plan.send(progress=False)
    assert (report.counts["delivered"], len(box.events())) == (50, 50)


def test_nothing_is_sent_before_all_refusals(session: Any, box: Sandbox) -> None:
    """Recent rows, a missing column, options and keys that do not fit: one error, no request."""
    table = session.createDataFrame(opens(20))
    recent = session.createDataFrame(opens(20).assign(ts=pd.Timestamp.now("UTC")))
    with pytest.raises(cdp.RecentRowsError, match="20 rows of 20 people are younger"):
        send(recent, box)
    with pytest.raises(cdp.MappingError, match="There is no column 'nobody'"):
        send(table, box, user_id="nobody")
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"canary": 5}, "limit"),
        ({"processes": 2}, "repartition"),
        ({"outcomes": "folder"}, "distributed_failures"),
        ({"identify": "uid"}, "toPandas"),
        ({"duplicates": "skip"}, "dropDuplicates"),
    )
    for option, instead in refused:
        with pytest.raises(cdp.BadInputError, match=instead):
            send(table, box, **option)
    with pytest.raises(cdp.ApiKeyError, match="does not travel"):
        cdp.send(table, OPENED, destination=cdp.Destination(api_key="a-key", base_url=box.url))
    nowhere = cdp.Destination(key_from="no-such-file", base_url=box.url)
    with pytest.raises(cdp.ApiKeyError, match="A worker of Spark reports: The file"):
        cdp.send(table, OPENED, destination=nowhere, progress=False)
    assert not len(box.requests())
    assert send(recent, box, recent="hold").counts["held"] == 20
    assert send(recent, box, recent="send").counts["delivered"] == 20


@pytest.mark.parametrize(
    ("select", "instead"),
    [
        ("parse_json('1') v", "to_json"),
        ("named_struct('a', array(parse_json('1'))) v", "to_json"),
        ("interval '1' day v", "extract"),
        ("interval '3' month v", "extract"),
        ("map('a', interval '1' second) v", "extract"),
    ],
)
def test_types_without_json_are_refused(session: Any, select: str, instead: str) -> None:
    """Variants and intervals, inside others too: what to select instead."""
    table = session.sql(f"select 'u' uid, timestamp'2023-05-01 10:00:00' ts, {select}")
    with pytest.raises(cdp.SourceError, match=f"Column 'v'.*{instead}"):
        cdp.plan(table, OPENED)


def test_times_are_those_of_the_session(session: Any, box: Sandbox) -> None:
    """A TIMESTAMP is a moment, shown in the zone of the session; one without a zone is as it is."""
    table = session.sql(
        "select 'u' uid, timestamp'2023-05-01 10:00:00' ts, timestamp'2023-05-01 10:00:00' seen, "
        "timestamp_ntz'2023-05-01 10:00:00' plain, array(timestamp'2023-05-01 10:00:00') several"
    )
    assert send(table, box).ok
    (event,) = box.events().to_dict("records")
    moment = "2023-05-01T14:00:00Z"
    assert event["timestamp"] == pd.Timestamp(moment)
    assert event["properties"]["seen"] == moment
    assert event["properties"]["plain"].startswith("2023-05-01T10:00:00")
    assert event["properties"]["several"] == [moment]


def test_a_rejected_key_ends_the_job_well(session: Any) -> None:
    """Each part is answered 401: one error, whose report has all rows as unsent."""
    with serving(lambda *_: Reply(401)) as server:
        destination = cdp.Destination(base_url=server.url, key_from=_key)
        table = session.createDataFrame(opens(60)).repartition(3)
        with pytest.raises(cdp.AuthenticationError, match=r"\(3 parts of 3 stopped\.\)") as stopped:
            cdp.send(table, OPENED, destination=destination, progress=False)
    report = stopped.value.report
    assert {name: rows for name, rows in report.counts.items() if rows} == {"unsent": 60}
    assert report.distributed_failures.count() == 60


def _key() -> str:
    return "key-not-to-be-shown"


def test_an_empty_table(session: Any, box: Sandbox) -> None:
    """No rows, no request, a report of nothing."""
    table = session.createDataFrame(opens(5)).where("uid = 'nobody'")
    assert cdp.plan(table, OPENED).rows == 0
    assert send(table, box).rows == 0
    assert len(send(table, box).failures) == 0


KILLED_ONCE = """
import os, pathlib, signal
def killed_once(batches):
    for number, batch in enumerate(batches):
        mark = pathlib.Path({mark!r})
        if number == 2 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch
"""


@pytest.mark.parametrize("with_journal", [False, True])
def test_a_killed_worker(session: Any, box: Sandbox, tmp_path: Path, with_journal: bool) -> None:
    """Every row is held, and no more are held twice than maybe_twice counts."""
    names: dict[str, Any] = {}
    exec(KILLED_ONCE.format(mark=str(tmp_path / "killed")), names)  # noqa: S102  # by value
    moment = "timestamp'2023-05-01 10:00:00'"
    frame = session.range(0, 60_000, 1, 2).selectExpr("concat('u', id) uid", f"{moment} ts", "id n")
    table = frame.mapInArrow(names["killed_once"], frame.schema)
    journal = tmp_path / "journal" if with_journal else None
    report = send(table, box, recent="send", journal=journal)
    assert (tmp_path / "killed").exists()
    assert report.counts["delivered"] == 60_000
    held = box.events().messageId.value_counts()
    assert len(held) == 60_000
    assert int((held > 1).sum()) <= report.maybe_twice < 60_000
    if journal is not None:
        assert cdp.report(journal).maybe_twice == report.maybe_twice
        again = send(frame.repartition(3), box, recent="send", journal=journal)
        assert (again.requests, again.counts["delivered"]) == (0, 60_000)
    else:
        assert report.maybe_twice > 0
        assert any("whole parts may have gone twice" in note for note in report.notes)


def test_a_job_that_fails(session: Any, box: Sandbox) -> None:
    """One clear error without a cell, whether before or after rows were sent."""
    broken = session.sql(
        "select 'u' uid, timestamp'2023-05-01 10:00:00' ts, raise_error('a-secret-cell') n"
    )
    with pytest.raises(cdp.SourceError, match="log of Spark has the cause") as refused:
        cdp.plan(broken, OPENED)
    with pytest.raises(cdp.StoppedError, match="the account of them is lost") as stopped:
        send(broken, box, recent="send")
    assert "a-secret-cell" not in f"{refused.value}{stopped.value}"
    assert refused.value.__cause__ is refused.value.__context__ is stopped.value.__context__ is None


@pytest.mark.parametrize("with_journal", [False, True])
def test_a_job_that_fails_at_its_end(
    session: Any, box: Sandbox, tmp_path: Path, with_journal: bool
) -> None:
    """The error has the account of the parts before; with a journal, the rest can follow."""
    journal = tmp_path / "journal" if with_journal else None
    who, when = "concat('u', id) uid", "timestamp'2023-05-01 10:00:00' ts"
    broken = "case when id < 900 then id else raise_error('a-secret-cell') end n"
    table = session.range(0, 1_000, 1, 10).selectExpr(who, when, broken)
    with pytest.raises(cdp.StoppedError, match="Spark gave up parts of the table") as stopped:
        send(table, box, recent="send", journal=journal)
    report = stopped.value.report
    assert report is not None
    assert 0 < report.counts["delivered"] <= len(box.events()) <= 900
    assert "a-secret-cell" not in str(stopped.value)
    assert report.distributed_failures is None
    if journal is not None:
        whole = session.range(0, 1_000, 1, 3).selectExpr(who, when, "id n")
        again = send(whole, box, recent="send", journal=journal)
        held = box.events().messageId.value_counts()
        assert len(held) == again.counts["delivered"] == 1_000
        assert int((held > 1).sum()) <= again.maybe_twice


def test_the_key_is_in_no_log(session: Any) -> None:
    """After all that was sent above: not in the event log, in no plan and no setting."""
    logs = [path.read_bytes() for path in session.events.rglob("*") if path.is_file()]
    assert any(b"SparkListenerTaskEnd" in each for each in logs)  # they can be read
    assert not any(b"key-not-to-be-shown" in each for each in logs)
    text = session.createDataFrame(opens(5))._jdf.queryExecution().toString()
    assert "key-not-to-be-shown" not in text


@pytest.mark.parametrize("with_journal", [False, True])
def test_an_interrupt_stops_the_parts(
    session: Any, box: Sandbox, tmp_path: Path, with_journal: bool
) -> None:
    """The report comes all the same, and has every row."""
    moment = "timestamp'2023-05-01 10:00:00'"
    table = session.range(0, 60_000, 1, 2).selectExpr("concat('u', id) uid", f"{moment} ts")

    slow = replace(box.destination, rate_limit=2.0, max_messages=100)
    journal = tmp_path / "journal" if with_journal else None
    with interrupted(box):
        report = cdp.send(
            table, OPENED, destination=slow, progress=False, recent="send", journal=journal
        )
    assert report.interrupted
    assert 0 < report.counts["delivered"] == len(box.events())
    assert report.counts["delivered"] + report.counts["unsent"] == 60_000
    assert report.distributed_failures.count() == report.counts["unsent"]


CONNECT = """
import os, signal, sys, threading, warnings
from dataclasses import replace
os.environ["PYSPARK_PYTHON"] = sys.executable
warnings.simplefilter("ignore")
import cdp_backfill as cdp
from pyspark.sql import SparkSession
from tests.waiting import until
session = SparkSession.builder.remote("local[2,4]").getOrCreate()
moment = "timestamp'2023-05-01 10:00:00' ts"
user = "case when id % 10 = 0 then null else concat('u', id) end uid"
table = session.range(0, 100, 1, 2).selectExpr(user, moment, "id n").repartition(2)
mapping = cdp.Mapping(user_id="uid", event=cdp.lit("Application Opened"), timestamp="ts")
with cdp.sandbox() as box:
    plan = cdp.plan(table, mapping, destination=box.destination)
    report = plan.send(progress=False)
    failed = report.distributed_failures.count(), len(report.failures)
    ids = box.events().messageId.nunique()
    print(plan.to_send, report.counts["delivered"], report.maybe_twice, *failed, ids)
    def interrupt():
        until(lambda: len(box.requests()) > before)
        os.kill(os.getpid(), signal.SIGINT)
    before, slow = len(box.requests()), replace(box.destination, rate_limit=4.0, max_messages=100)
    more = session.range(100, 20_000, 1, 2).selectExpr(user, moment, "id n")
    threading.Thread(target=interrupt).start()
    try:
        cdp.send(more, mapping, destination=slow, recent="send", progress=False)
    except cdp.StoppedError as error:
        print(str(error).split(" The report")[0])
    again = cdp.send(table, mapping, destination=box.destination, recent="send", progress=False)
    print(again.counts["delivered"], box.events().messageId.nunique() < 18_000)
session.stop()  # and its server, which would keep the pipe open
"""


def test_connect() -> None:
    """Without a JVM in this process: the same counts and events; an interrupt ends the parts."""
    command = [sys.executable, "-c", CONNECT]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.splitlines()[-3:] == [
        "90 90 0 10 10 90",
        "You interrupted the run, and Spark cancelled its parts.",
        "90 True",
    ]

"""Each line of code that an error proposes is typed on the input that provokes the error."""

from __future__ import annotations

import pickle
import re
import sqlite3
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import cdp_backfill
import cdp_backfill as cdp
from cdp_backfill.messages.deriving import Deriver
from tests.remedies.files import FILE_CASES
from tests.remedies.leaving_out import LEFT_OUT_CASES
from tests.remedies.lines import HOLE, code_in, error_sentences
from tests.rows import OPENED, opens
from tests.servers import ReceivedRequest, Reply, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox


WHEN: Final = "2023-05-01T10:00:00Z"
GIVEN: Final[dict[str, Any]] = {"event": cdp.lit("Application Opened"), "timestamp": "ts"}


@dataclass(frozen=True)
class Case:
    """An error and what it tells to type.

    Attributes:
        code: The pieces of code in its sentence that are typed.
        provoke: Raises the error.
        mend: Types the code; raises nothing.
    """

    code: tuple[str, ...]
    provoke: Callable[[Desk], Any]
    mend: Callable[[Desk], Any]


class Desk:
    """Where somebody works: a sandbox, a folder and a table."""

    def __init__(self, box: Sandbox, folder: Path) -> None:
        self.box, self.folder = box, folder
        self.options: dict[str, Any] = {"destination": box.destination, "progress": False}

    def send(self, table: Any, *given: Any, **more: Any) -> cdp.Report:
        """Send to the sandbox."""
        return cdp.send(table, *given, **self.options | {"recent": "send"} | more)

    def reader(self) -> Any:
        """A table that can be read once."""
        return pa.Table.from_pandas(opens(2)).to_reader()

    def written_journal(self) -> Path:
        """A journal of a run of a frame."""
        path = self.folder / "b.journal"
        if not path.exists():
            self.send(opens(2), OPENED, journal=path)
        return path

    def identities_journal(self) -> Path:
        """A journal of a run of a file with identities in a frame."""
        path = self.folder / "i.journal"
        if not path.exists():
            rows = self.parquet()
            self.send(rows, anonymous_id="uid", identify=PEOPLE, journal=path, **GIVEN)
        return path

    def changed_csv(self) -> Path:
        """A CSV file with a journal, in which a later row makes a column of numbers one of text."""
        path = self.folder / "t.csv"
        path.write_text(f"uid,ts,paid\na,{WHEN},7\n")
        self.send(path, OPENED, journal=self.folder / "t.journal")
        path.write_text(f"{path.read_text()}b,{WHEN},x\n")
        return path

    def failures_of_a_rehearsal(self) -> pd.DataFrame:
        """Failures that were sent to another address."""
        with cdp.sandbox() as other:
            report = self.send(opens(1, uid=None), OPENED, destination=other.destination)
            return report.failures

    def opened_in_a_spreadsheet(self) -> pd.DataFrame:
        """Failures that were written to a CSV file and read again."""
        self.report = self.send(opens(1, uid=None), OPENED)
        self.report.failures.to_csv(self.folder / "failures.csv", index=False)
        return pd.read_csv(self.folder / "failures.csv", dtype=str)

    def saved_mapping(self) -> cdp.Mapping:
        """The mapping in the folder of the saved report."""
        self.report.save("report")
        return cdp.Mapping.load("report/mapping.toml")

    def started(self) -> Any:
        """A sandbox, started."""
        self.closing = cdp.sandbox().start()
        return self.closing

    def parquet(self) -> Path:
        """A file of rows."""
        path = self.folder / "rows.parquet"
        opens(3).to_parquet(path)
        return path


ELSEWHERE: Final = "https://api.example.com/v1"


def saved_plan(**destination: Any) -> str:
    """The file of a plan of a frame, in the current folder."""
    plan = cdp.plan(opens(2), OPENED, destination=cdp.Destination(**destination))
    plan.save("saved.json")
    return "saved.json"


def frame_of(*cells: Any) -> pd.DataFrame:
    """A frame with these cells in a column of Python objects."""
    return opens(len(cells), x=pd.Series(list(cells), dtype=object))


ODD: Final = frame_of(1j, 2j)
PERIODS: Final = opens(2, x=pd.period_range("2023", periods=2, freq="M"))
LEVELS: Final = opens(2).set_axis(
    pd.MultiIndex.from_tuples([("u", "id"), ("t", "s")]), axis="columns"
)
RECENT: Final = opens(2).assign(ts=pd.Timestamp.now(tz="UTC").floor("s"))
NAIVE: Final = opens(2).assign(ts=["2023-05-01 10:00:00", "2023-05-02 10:00:00"])
DATES: Final = frame_of(
    datetime(2023, 5, 1),  # noqa: DTZ001  # of two kinds
    datetime(2023, 5, 1, tzinfo=UTC),
)
INDEXED: Final = opens(2).set_index("uid")
IDENTIFY: Final = cdp.Mapping(call="identify", user_id="uid", anonymous_id="did")


QUERY: Final = (
    "SELECT 'a' AS uid, TIMESTAMPTZ '2023-05-01 10:00:00+00' AS ts, TIMESTAMPTZ '2023-05-01' AS x"
)
TEXTS: Final = pa.schema([("x", pa.string())])
PEOPLE: Final = pd.DataFrame({"anonymous_id": ["a", "b"], "user_id": ["x", "y"]})
KNOWN: Final = cdp.Mapping(anonymous_id="did", user_id="uid", **GIVEN)
SEGMENT: Final = pd.DataFrame(
    {
        "anonymous_id": ["a", "b"],
        "event": ["application_opened"] * 2,
        "original_timestamp": pd.to_datetime(["2023-05-01", "2023-05-02"], utc=True),
        "sent_at": pd.to_datetime(["2023-05-01", "2023-05-02"], utc=True),
        "received_at": pd.to_datetime(["2023-05-01", "2023-05-02"], utc=True),
        "timestamp": pd.to_datetime(["2023-05-01", "2023-05-02"], utc=True),
        "context_library_name": ["analytics-ios"] * 2,
    }
)


def send_to_a_failing_server(*, patience: float) -> None:
    """Send to a server that accepts one request, and the next ones a third of a second later."""
    until = time.monotonic() + 0.3

    def answer(number: int, _: ReceivedRequest) -> Reply:
        return Reply(503 if number and time.monotonic() < until else 200)

    with serving(answer) as server:
        destination = server.destination(patience=patience, max_messages=1, workers=1)
        report = cdp.send(opens(2), OPENED, destination=destination, progress=False, journal=False)
    assert report.ok


def lazy() -> Any:
    """A table whose rows come in no certain order."""
    return pl.from_pandas(opens(2, did=["x", "y"])).lazy()


class BrokenCursor:
    """A cursor that cannot be read."""

    description = (("uid",),)

    def fetchmany(self, _: int) -> list[Any]:
        """Raise the cause."""
        raise ZeroDivisionError("the cause")


class FailingSpark:
    """A frame of Spark that cannot be collected, but written."""

    dtypes = (("uid", "string"), ("ts", "timestamp"))

    def toArrow(self) -> Any:  # noqa: N802  # as Spark names it
        """Fail."""
        raise MemoryError

    @property
    def write(self) -> FailingSpark:
        """What writes it."""
        return self

    def parquet(self, folder: Path) -> Path:
        """Write it."""
        path = folder / "part-0.parquet"
        opens(2).to_parquet(path)
        return path


def causes(cursor: Any) -> None:
    """See the cause of an error by calling ``fetchmany()``."""
    with pytest.raises(ZeroDivisionError, match="the cause"):
        cursor.fetchmany(1)


def stopped(_: Desk) -> Any:
    """A sandbox that has stopped."""
    with cdp.sandbox() as box:
        pass
    return box


def bind_without(field: str) -> Callable[[Desk], Any]:
    """Send with a mapping that lacks a field."""
    whole: dict[str, Any] = {"user_id": "uid", "event": OPENED.event, "timestamp": "ts"}
    return lambda desk: desk.send(
        opens(2), cdp.Mapping(**{name: value for name, value in whole.items() if name != field})
    )


def cursor(*rows: Any) -> Any:
    """A cursor on some rows."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (uid, ts, x)")
    connection.executemany("INSERT INTO t VALUES ('a', '2023-05-01', ?)", [(row,) for row in rows])
    return connection.execute("SELECT * FROM t")


class Lists:
    """A cursor whose cells are lists."""

    description = (("uid",), ("ts",), ("x",))

    def __init__(self, cell: Any) -> None:
        self._rows = [("a", "2023-05-01T10:00:00Z", cell)]

    def fetchmany(self, _: int) -> list[Any]:
        """The row, then none."""
        rows, self._rows = self._rows, []
        return rows


CASES: list[Case] = [
    Case(
        (".astype('string')",),
        lambda desk: desk.send(PERIODS, OPENED),
        lambda desk: desk.send(PERIODS.assign(x=PERIODS["x"].astype("string")), OPENED),
    ),
    Case(
        (".map(str)",),
        lambda desk: desk.send(ODD, OPENED),
        lambda desk: desk.send(ODD.assign(x=ODD["x"].map(str)), OPENED),
    ),
    Case(
        ("pd.to_datetime(..., utc=True)", ".map(str)"),
        lambda desk: desk.send(DATES, OPENED),
        lambda desk: (
            desk.send(DATES.assign(x=pd.to_datetime(DATES["x"], utc=True)), OPENED),
            desk.send(DATES.assign(x=DATES["x"].map(str)), OPENED),
        ),
    ),
    Case(
        ("df.columns = ['_'.join(map(str, c)) for c in df.columns]",),
        lambda desk: desk.send(LEVELS, user_id="u_id", timestamp="t_s", event=OPENED.event),
        lambda desk: desk.send(
            LEVELS.set_axis(["_".join(map(str, c)) for c in LEVELS.columns], axis="columns"),
            user_id="u_id",
            timestamp="t_s",
            event=OPENED.event,
        ),
    ),
    Case(
        ("df.reset_index()",),
        lambda desk: desk.send(INDEXED, OPENED),
        lambda desk: desk.send(INDEXED.reset_index(), OPENED),
    ),
    Case(
        (".cast(pl.String)",),
        lambda desk: desk.send(
            pl.from_pandas(opens(2)).with_columns(x=pl.Series([1, 2], dtype=pl.Int128)), OPENED
        ),
        lambda desk: desk.send(
            pl.from_pandas(opens(2)).with_columns(
                x=pl.Series([1, 2], dtype=pl.Int128).cast(pl.String)
            ),
            OPENED,
        ),
    ),
    Case(
        ("connection.sql(query)",),
        lambda desk: desk.send(duckdb.connect().execute(QUERY), OPENED),
        lambda desk: desk.send(duckdb.connect().sql(QUERY), OPENED),
    ),
    Case(
        ("json=[...]",),
        lambda desk: desk.send(Lists([1, 2]), OPENED),
        lambda desk: desk.send(Lists("[1, 2]"), OPENED, json=["x"]),
    ),
    Case(
        ("patience=",),
        lambda _: send_to_a_failing_server(patience=0.05),
        lambda _: send_to_a_failing_server(patience=30.0),
    ),
    Case(
        ("execute()",),
        lambda desk: desk.send(object(), OPENED),
        lambda desk: desk.send(cursor("a"), OPENED),
    ),
    Case(
        ("fetchmany()",),
        lambda desk: desk.send(BrokenCursor(), OPENED),
        lambda _: causes(BrokenCursor()),
    ),
    Case(
        ("df.write.parquet(folder)",),
        lambda desk: desk.send(FailingSpark(), OPENED),
        lambda desk: desk.send(FailingSpark().write.parquet(desk.folder), OPENED),
    ),
    Case(
        ("json_extract()",),
        lambda _: Deriver({"v": "json_contains(x, '1')"}, TEXTS),
        lambda _: Deriver({"v": "json_extract(x, '$') = '1'"}, TEXTS),
    ),
    Case(("timestamp='...'",), bind_without("timestamp"), lambda desk: desk.send(opens(2), OPENED)),
    Case(
        ("event='...'", "event=lit('Application Installed')"),
        bind_without("event"),
        lambda desk: (
            desk.send(opens(2, e="Application Opened"), user_id="uid", timestamp="ts", event="e"),
            desk.send(
                opens(2), user_id="uid", timestamp="ts", event=cdp.lit("Application Installed")
            ),
        ),
    ),
    Case(
        ("user_id='...'", "anonymous_id='...'"),
        bind_without("user_id"),
        lambda desk: (
            desk.send(opens(2), cdp.Mapping(user_id="uid", **GIVEN)),
            desk.send(opens(2), cdp.Mapping(anonymous_id="uid", **GIVEN)),
        ),
    ),
    Case(
        ("user_id='...'", "anonymous_id='...'"),
        lambda desk: desk.send(opens(2), cdp.Mapping(call="identify", user_id="uid")),
        lambda desk: desk.send(opens(2, did=["x", "y"]), IDENTIFY),
    ),
    Case(
        ("anonymous_id='...'",),
        lambda desk: desk.send(opens(2, who="w"), OPENED, identify="who"),
        lambda desk: desk.send(
            opens(2, who=["v", "w"]), anonymous_id="uid", identify="who", **GIVEN
        ),
    ),
    Case(
        (f"lit({HOLE})",),
        lambda desk: desk.send(opens(2), user_id="Ada", **GIVEN),
        lambda desk: desk.send(opens(2), user_id=cdp.lit("Ada"), **GIVEN),
    ),
    Case(
        ("lit('...')",),
        lambda desk: desk.send(opens(2), user_id=7, **GIVEN),
        lambda desk: desk.send(opens(2), user_id=cdp.lit("7"), **GIVEN),
    ),
    Case(
        ("lit()",),
        lambda _: cdp.Mapping(properties={"a": None}),
        lambda _: cdp.Mapping(properties={"a": cdp.lit("x")}),
    ),
    Case(("key('order_id')",), lambda _: cdp.key(), lambda _: cdp.key("order_id")),
    Case(
        ("other_events='send'",),
        lambda desk: desk.send(opens(2), OPENED, event=cdp.lit("Order Placed")),
        lambda desk: desk.send(
            opens(2), OPENED, event=cdp.lit("Order Placed"), other_events="send"
        ),
    ),
    Case(
        ("rest='drop'",),
        lambda desk: desk.send(opens(2, a=1, b=2), OPENED, properties={"a": "b"}),
        lambda desk: desk.send(opens(2, a=1, b=2), OPENED, properties={"a": "b"}, rest="drop"),
    ),
    Case(
        ("rest='all'", "rest='properties'", "drop=[]"),
        lambda desk: desk.send(opens(2, a=1), OPENED, rest="all", drop=["a"]),
        lambda desk: (
            desk.send(opens(2, a=1), OPENED, rest="properties", drop=["a"]),
            desk.send(opens(2, a=1), OPENED, rest="all", drop=[]),
        ),
    ),
    Case(
        ("properties={…: …}",),
        lambda desk: desk.send(opens(2), OPENED, rename={"uid": "x"}),
        lambda desk: desk.send(opens(2), OPENED, properties={"x": "uid"}),
    ),
    Case(
        ("oversize='drop_largest'", "droppable=[...]"),
        lambda desk: desk.send(opens(2, a=1), OPENED, oversize="drop_largest"),
        lambda desk: desk.send(opens(2, a=1), OPENED, oversize="drop_largest", droppable=["a"]),
    ),
    Case(
        ("call='identify'",),
        lambda _: cdp.Mapping(user_id="uid", traits={"a": "b"}),
        lambda _: cdp.Mapping(
            call="identify", user_id="uid", anonymous_id="did", traits={"a": "b"}
        ),
    ),
    Case(
        ("timestamp_unit=",),
        lambda desk: desk.send(opens(2), OPENED, timestamp_unit="s"),
        lambda desk: desk.send(opens(2), OPENED),
    ),
    Case(
        ("timezone=",),
        lambda _: cdp.plan(SEGMENT, preset="segment", timezone="Europe/Berlin"),
        lambda _: cdp.plan(SEGMENT, preset="segment"),
    ),
    Case(
        ("timestamp_unit=",),
        lambda _: cdp.plan(SEGMENT, preset="segment", timestamp_unit="s"),
        lambda _: cdp.plan(SEGMENT, preset="segment"),
    ),
    Case(
        ("recent='hold'", "recent='send'"),
        lambda desk: desk.send(RECENT, OPENED, recent="raise"),
        lambda desk: (
            desk.send(RECENT, OPENED, recent="hold"),
            desk.send(RECENT, OPENED, recent="send"),
        ),
    ),
    Case(
        ("recent='hold'", "recent='send'"),
        lambda desk: desk.send(pa.Table.from_pandas(RECENT).to_reader(), OPENED, recent="raise"),
        lambda desk: [
            desk.send(pa.Table.from_pandas(RECENT).to_reader(), OPENED, recent=each)
            for each in ("hold", "send")
        ],
    ),
    Case(
        ("datetime.now(UTC)",),
        lambda desk: desk.send(opens(2), OPENED, now=datetime(2023, 5, 1)),  # noqa: DTZ001
        lambda desk: desk.send(opens(2), OPENED, now=datetime.now(UTC)),
    ),
    Case(
        ("send()",),
        lambda desk: cdp.plan(desk.reader(), OPENED),
        lambda desk: desk.send(desk.reader(), OPENED),
    ),
    Case(
        ("mapping=", "preset="),
        lambda _: cdp.plan(SEGMENT, OPENED, preset="segment"),
        lambda _: (cdp.plan(opens(2), OPENED), cdp.plan(SEGMENT, preset="segment")),
    ),
    Case(
        ("cdp.Mapping(user_id='...')",),
        lambda _: cdp.plan(opens(2), 7),  # type: ignore[arg-type]
        lambda _: cdp.plan(opens(2), cdp.Mapping(user_id="uid", **GIVEN)),
    ),
    Case(
        (
            "mapping=cdp.Mapping.load('report/mapping.toml')",
            "report.save('report')",
            "mapping=plan.mapping",
        ),
        lambda desk: desk.send(desk.opened_in_a_spreadsheet()),
        lambda desk: [
            desk.send(desk.opened_in_a_spreadsheet(), mapping=mapping)
            for mapping in (desk.saved_mapping(), cdp.plan(opens(2), OPENED).mapping)
        ],
    ),
    Case(
        ("journal=False",),
        lambda desk: desk.send(opens(2), OPENED, journal=desk.parquet() / "b.journal"),
        lambda desk: desk.send(opens(2), OPENED, journal=False),
    ),
    Case(
        ("resume(journal, df)",),
        lambda desk: cdp.resume(desk.written_journal(), **desk.options),
        lambda desk: cdp.resume(desk.written_journal(), opens(2), recent="send", **desk.options),
    ),
    Case(
        ("cdp.resume(journal)",),
        lambda desk: desk.send(desk.changed_csv(), OPENED, journal=desk.folder / "t.journal"),
        lambda desk: exec(  # noqa: S102  # as a person would
            "report = cdp.resume(journal, **options)\n"
            "assert report.ok and report.stats.delivered_before == 1",
            {"cdp": cdp, "journal": desk.folder / "t.journal", "options": desk.options},
        ),
    ),
    Case(
        ("identify=",),
        lambda desk: cdp.resume(desk.identities_journal(), **desk.options),
        lambda desk: cdp.resume(
            desk.identities_journal(), identify=PEOPLE, recent="send", **desk.options
        ),
    ),
    Case(
        ("processes=",),
        lambda desk: desk.send(opens(2), OPENED, processes=2),
        lambda desk: desk.send(opens(2), OPENED),
    ),
    Case(
        ("processes=", "canary=", "duplicates='skip'"),
        lambda desk: desk.send(desk.parquet(), OPENED, processes=2, canary=1),
        lambda desk: desk.send(desk.parquet(), OPENED, canary=1),
    ),
    Case(
        ("canary=", "identify="),
        lambda desk: desk.send(lazy(), KNOWN, canary=1, identify="uid"),
        lambda desk: desk.send(lazy(), KNOWN, identify="uid"),
    ),
    Case(
        (".cdp.send(destination=...)",),
        lambda desk: desk.failures_of_a_rehearsal().cdp.send(progress=False),
        lambda desk: desk.failures_of_a_rehearsal().assign(uid="a").cdp.send(**desk.options),
    ),
    Case(
        ("cdp_backfill.configure()", "destination=Destination(api_key=...)"),
        lambda desk: cdp.send(
            opens(2), OPENED, destination=cdp.Destination(base_url=desk.box.url), progress=False
        ),
        lambda desk: (
            desk.send(
                opens(2),
                OPENED,
                destination=cdp.Destination(base_url=desk.box.url, api_key=desk.box.api_key),
            ),
            cdp_backfill.configure(base_url=desk.box.url, api_key=desk.box.api_key),
            cdp.send(opens(2), OPENED, progress=False),
        ),
    ),
    Case(
        ("cdp.Destination(region='eu')",),
        lambda _: cdp.send(opens(2), OPENED, destination="eu"),  # type: ignore[arg-type]
        lambda _: cdp.plan(opens(2), OPENED, destination=cdp.Destination(region="eu")),
    ),
    Case(
        ("insecure=True",),
        lambda _: cdp.Destination(base_url="http://api.example/v1"),
        lambda _: cdp.Destination(base_url="http://api.example/v1", insecure=True),
    ),
    Case(
        ("api_key=",),
        lambda _: cdp.Destination(base_url="https://key:@cdp.customer.io/v1"),
        lambda _: cdp.Destination(base_url="https://cdp.customer.io/v1", api_key="key"),
    ),
    Case(
        ("report.by_reason()",),
        lambda desk: desk.send(opens(1, uid=None), OPENED).retry(),
        lambda desk: exec(  # noqa: S102  # as a person would
            "report.by_reason(); report.failures",
            {"report": desk.send(opens(1, uid=None), OPENED)},
        ),
    ),
    Case(
        ("report.save(folder)", "report.to_dict()"),
        lambda desk: pickle.dumps(desk.send(opens(2), OPENED)),
        lambda desk: exec(  # noqa: S102
            "report.save(folder); report.to_dict()",
            {"report": desk.send(opens(2), OPENED), "folder": desk.folder},
        ),
    ),
    Case(
        ("plan.save('plan.json')", "Plan.load('plan.json')"),
        lambda _: pickle.dumps(cdp.plan(opens(2), OPENED)),
        lambda desk: exec(  # noqa: S102
            "plan.save('plan.json'); Plan.load('plan.json')",
            {"plan": cdp.plan(desk.parquet(), OPENED), "Plan": cdp.Plan},
        ),
    ),
    Case(
        ("plan.save('plan.html')", "plan.save('plan.json')"),
        lambda _: cdp.plan(opens(2), OPENED).save("plan.pdf"),
        lambda _: exec(  # noqa: S102
            "plan.save('plan.html'); plan.save('plan.json')", {"plan": cdp.plan(opens(2), OPENED)}
        ),
    ),
    Case(
        ("Plan.load(path, df)",),
        lambda _: cdp.Plan.load(saved_plan()),
        lambda _: cdp.Plan.load(saved_plan(), opens(2)),
    ),
    Case(
        ("Plan.load(path, destination=Destination(base_url='...'))",),
        lambda _: cdp.Plan.load(saved_plan(base_url=ELSEWHERE), opens(2)),
        lambda _: cdp.Plan.load(
            saved_plan(base_url=ELSEWHERE),
            opens(2),
            destination=cdp.Destination(base_url=ELSEWHERE),
        ),
    ),
    Case(
        ("sandbox(...)",),
        lambda desk: stopped(desk).start(),
        lambda _: cdp.sandbox().__enter__().stop(),
    ),
    Case(
        ("start()",),
        lambda _: cdp.sandbox().events(),
        lambda desk: desk.started().events(),
    ),
    Case(
        ("sandbox(store='box.db')",),
        lambda desk: stopped(desk).events(),
        lambda _: exec(  # noqa: S102
            "with sandbox(store='box.db'): pass\nwith sandbox(store='box.db') as box: box.events()",
            {"sandbox": cdp.sandbox},
        ),
    ),
    Case(
        ("outcomes='folder/'", "cdp.send(source, outcomes='outcomes/')"),
        lambda desk: desk.send(opens(2), OPENED).outcomes(),
        lambda desk: exec(  # noqa: S102
            "report = cdp.send(source, mapping, outcomes='outcomes/', **options)\n"
            "assert len(report.outcomes()) == 2",
            {"cdp": cdp, "source": opens(2), "mapping": OPENED, "options": desk.options},
        ),
    ),
    *(Case(*each) for each in FILE_CASES),
    *(Case(*each) for each in LEFT_OUT_CASES),
]

MENTIONED: Final = {
    "close()": "a method of a display",
    "collect_batches()": "a method that an old polars lacks",
    '.write.parquet("new")': "a line for Spark",
    'spark.read.format("hudi").load(…)': "a line for Spark, with the reader of Hudi",
    "derive=": "the subject of the sentence",
    "Destination(key_from=...)": "a destination for workers, which need Spark",
    "df.dropDuplicates([...])": "a line for Spark",
    "cdp.report(summaries, job)": "a line for engines, which has summaries and a job",
    "drop=": "the subject of the sentence",
    "droppable=": "the subject of the sentence: remove a name from it",
    "expand=": "the subject of the sentence",
    "outcomes=": "the subject of the sentence",
    "key()": "the subject of the sentence",
    "key_from=": "the subject of the sentence",
    "properties=": "the subject of the sentence",
    "rename=": "the subject of the sentence",
    "store=": "the subject of the sentence",
    "to_bytes()": "a method of the summary of a part",
    "traits=": "the subject of the sentence",
    "update(snapshot)": "a method of a display",
}
"""Code that a sentence names and does not propose."""


def test_all_code_in_errors_is_typed() -> None:
    """A line of code in a new error fails here until a case types it."""
    typed = {code for case in CASES for code in case.code}
    known = typed | MENTIONED.keys()
    new = {
        code: module
        for sentence, module in error_sentences().items()
        for code in code_in(sentence)
        if code not in known
    }
    assert new == {}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.code[0])
def test_what_an_error_proposes(
    case: Case, box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error contains the code, and typing it on the same input ends the trouble."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CUSTOMERIO_CDP_API_KEY", raising=False)
    monkeypatch.setattr("cdp_backfill.model.destination._configured", None)
    desk = Desk(box, tmp_path)
    with pytest.raises((cdp.BackfillError, RuntimeError, TypeError)) as caught:
        case.provoke(desk)
    for code in case.code:
        assert re.search(re.escape(code).replace(HOLE, ".+"), str(caught.value))
    case.mend(desk)
    if (sandbox := getattr(desk, "closing", None)) is not None:
        sandbox.stop()

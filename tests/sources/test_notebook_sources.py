"""Tables that people hold in a notebook: the same records give the same bytes from each."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import subprocess
import sys
import traceback
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import UUID

import adbc_driver_sqlite.dbapi
import duckdb
import ibis  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import cdp_backfill as cdp
from cdp_backfill import BadInputError, Mapping, SourceError, StoppedError
from cdp_backfill.cli import sample_data
from cdp_backfill.inference.proposal import Proposal
from cdp_backfill.pipeline.job import Job, SendOptions
from cdp_backfill.sources import Source, cursors, open_source
from cdp_backfill.sources.chunks import CHUNK_ROWS
from tests.rows import OPENED, opens
from tests.servers import Reply, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

ROWS = 100_000

MAPPING = replace(
    sample_data.MAPPING,
    timestamp="started",
    properties={
        **sample_data.MAPPING.properties,
        "session": "session",
        "seconds": "seconds",
        "paid": "paid",
        "said": "happened_at",
    },
    rest="drop",
)

# SQLite has neither times nor booleans: numbers stand for them, and the mapping says so.
LEAN_MAPPING = replace(
    MAPPING,
    timestamp="started_ms",
    timestamp_unit="ms",
    derive={"paid": "paid_01 = 1"},
)


@pytest.fixture(scope="module")
def records() -> Any:
    """Records of the demo, with a time, a float and a boolean that are empty in some rows."""
    table = pa.Table.from_batches(sample_data.batches(ROWS)).combine_chunks()
    rng = np.random.default_rng(3)
    text = table["happened_at"]
    usable = pc.if_else(pc.starts_with(text, "#"), None, text)
    started = pc.strptime(pc.utf8_slice_codeunits(usable, 0, 19), "%Y-%m-%dT%H:%M:%S", "us")
    seconds = np.round(rng.exponential(30, ROWS), 2)
    columns = {
        "started": pc.assume_timezone(started, "UTC"),
        "seconds": pa.array(seconds, mask=rng.random(ROWS) < 0.1),
        "paid": pa.array(rng.random(ROWS) < 0.3, mask=rng.random(ROWS) < 0.2),
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


@pytest.fixture(scope="module")
def lean(records: Any) -> Any:
    """The same without the types that SQLite has not."""
    millis = pc.cast(pc.cast(records["started"], pa.timestamp("ms", "UTC")), pa.int64())
    flags = pc.cast(records["paid"], pa.int64())
    table = records.drop_columns(["started", "paid"])
    return table.append_column("started_ms", millis).append_column("paid_01", flags)


@pytest.fixture(scope="module")
def lean_database(lean: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """These in a SQLite file."""
    path = tmp_path_factory.mktemp("database") / "records.sqlite"
    names = lean.column_names
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE records ({', '.join(names)})")
        rows = zip(*(column.to_pylist() for column in lean.columns), strict=True)
        marks = ", ".join("?" * len(names))
        connection.executemany(f"INSERT INTO records VALUES ({marks})", rows)  # noqa: S608
        connection.commit()
    return path


def sent(table: Any, mapping: Mapping) -> tuple[int, str]:
    """Number of messages, and a digest of all their bytes, ids included, in order."""
    now = datetime(2024, 6, 1, tzinfo=UTC)
    options = SendOptions(recent="send", now=now)
    job = Job(source=open_source(table), proposal=Proposal(mapping), options=options)
    prepared_source = job.prepare()
    digest, messages = hashlib.blake2b(), 0
    for _, prepared in prepared_source.chunks(prepared_source.binding.columns):
        for part, _ in prepared.encoded:
            digest.update(part.data)
            messages += len(part)
    return messages, digest.hexdigest()


@pytest.fixture(scope="module")
def expected(records: Any) -> tuple[int, str]:
    """What the records become as a pandas DataFrame."""
    result = sent(records.to_pandas(), MAPPING)
    assert 0.99 * ROWS < result[0] < ROWS
    return result


def in_duckdb(table: Any, zone: str = "UTC") -> Any:
    """The records as a table of DuckDB, whose session is in some time zone."""
    connection = duckdb.connect()
    connection.execute(f"SET TimeZone = '{zone}'")
    connection.register("given", table)
    connection.execute("CREATE TABLE records AS SELECT * FROM given")
    connection.unregister("given")
    return connection


def a_dataset(table: Any, folder: Path) -> Any:
    """The records as a dataset over three parquet files."""
    for number, start in enumerate((0, 30_000, 77_777)):
        stop = (30_000, 77_777, ROWS)[number]
        pq.write_table(table.slice(start, stop - start), folder / f"part-{number}.parquet")
    return ds.dataset(folder)


def ibis_on_duckdb(table: Any) -> Any:
    """The records as a table expression of ibis."""
    backend = ibis.duckdb.connect()
    backend.con.register("given", table)
    backend.con.execute("CREATE TABLE records AS SELECT * FROM given")
    return backend.table("records")


def snowflake_like(table: Any) -> Any:
    """A cursor that gives tables as the documentation of Snowflake's does, ints of any width."""

    class Cursor:
        description = tuple((name,) for name in table.column_names)

        def fetch_arrow_batches(self) -> Iterator[Any]:
            for batch in table.to_batches(max_chunksize=9_999):
                part = pa.Table.from_batches([batch])
                if part.num_rows < 9_999 and "app_build" in part.column_names:
                    at = part.column_names.index("app_build")
                    part = part.set_column(at, "app_build", part["app_build"].cast(pa.int16()))
                yield part

    return Cursor()


def bigquery_like(table: Any) -> Any:
    """A row iterator that gives record batches as the documentation of BigQuery's does."""

    class Field:
        def __init__(self, name: str) -> None:
            self.name = name

    class RowIterator:
        schema = tuple(map(Field, table.column_names))

        def to_arrow_iterable(self) -> Iterator[Any]:
            yield from table.to_batches(max_chunksize=3_333)

    return RowIterator()


@pytest.mark.parametrize(
    "held",
    [
        pytest.param(pl.from_arrow, id="polars"),
        pytest.param(lambda table: pl.DataFrame(table).lazy(), id="polars lazy"),
        pytest.param(lambda table: in_duckdb(table).table("records"), id="DuckDB relation"),
        pytest.param(
            lambda table: in_duckdb(table, "America/St_Johns").sql("FROM records"),
            id="DuckDB relation, session elsewhere",
        ),
        pytest.param(
            # The zone is UTC without being said: it takes pytz to get it from such a cursor.
            lambda table: in_duckdb(table).execute(
                "SELECT * REPLACE (started AT TIME ZONE 'UTC' AS started) FROM records"
            ),
            id="DuckDB after execute",
        ),
        pytest.param(lambda table: table, id="pyarrow table"),
        pytest.param(lambda table: table.to_batches()[0], id="pyarrow record batch"),
        pytest.param(lambda table: table.to_reader(max_chunksize=777), id="pyarrow reader"),
        pytest.param(ds.dataset, id="pyarrow dataset in memory"),
        pytest.param(lambda table: ds.dataset(table).scanner(), id="pyarrow scanner"),
        pytest.param(ibis_on_duckdb, id="ibis on DuckDB"),
        pytest.param(
            lambda table: ibis.polars.connect({"t": pl.from_arrow(table)}).table("t"),
            id="ibis on polars",
        ),
        pytest.param(bigquery_like, id="as BigQuery gives it"),
        pytest.param(snowflake_like, id="as Snowflake gives it"),
    ],
)
@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")  # ibis of DuckDB
def test_the_same_bytes_as_from_pandas(
    records: Any, expected: tuple[int, str], held: Callable[[Any], Any]
) -> None:
    """Messages and ids do not depend on what holds the records, nor on how it cuts them."""
    assert sent(held(records), MAPPING) == expected


@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")
def test_the_same_bytes_from_ibis_in_memory(records: Any, expected: tuple[int, str]) -> None:
    """A table that lives in this process only is made known to the backend first."""
    backend = ibis.duckdb.connect()
    ibis.set_backend(backend)
    try:
        assert sent(ibis.memtable(records), MAPPING) == expected
    finally:
        ibis.options.default_backend = None
        backend.disconnect()


def test_the_same_bytes_from_a_dataset_of_files(
    records: Any, expected: tuple[int, str], tmp_path: Path
) -> None:
    """A dataset over files gives what one frame gives."""
    assert sent(a_dataset(records, tmp_path), MAPPING) == expected


def test_the_same_bytes_from_a_database_cursor(
    lean_database: Path, expected: tuple[int, str]
) -> None:
    """SQLite holds numbers for times and booleans; the mapping makes up for it."""
    with closing(sqlite3.connect(lean_database)) as connection:
        cursor = connection.execute("SELECT * FROM records ORDER BY session")
        assert sent(cursor, LEAN_MAPPING) == expected


def test_the_same_bytes_from_an_adbc_cursor(lean_database: Path, expected: tuple[int, str]) -> None:
    """An option makes the driver look further for types: the notes begin late."""
    with (
        adbc_driver_sqlite.dbapi.connect(str(lean_database)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": "65536"})
        cursor.execute("SELECT * FROM records ORDER BY session")
        assert sent(cursor, LEAN_MAPPING) == expected


def opened(rows: int = 3, **columns: Any) -> Any:
    """A pyarrow table of app opens."""
    return pa.Table.from_pandas(opens(rows, **columns), preserve_index=False)


def cells(source: Source, name: str) -> list[Any]:
    """A column, read from a source."""
    return [cell for chunk in source.chunks([name]) for cell in chunk.batch.column(0).to_pylist()]


def cursor_of(rows: list[tuple[Any, ...]], *names: str) -> Any:
    """A DB-API cursor, whose driver gives fewer rows than it is asked for."""

    class Cursor:
        description = tuple((name, None, None, None, None, None, None) for name in names)

        def __init__(self) -> None:
            self._rows = iter(rows)

        def fetchmany(self, size: int) -> list[tuple[Any, ...]]:
            return list(islice(self._rows, min(size, 5_000)))

    return Cursor()


@pytest.mark.parametrize("order", ["polars, cdp_backfill", "cdp_backfill, polars"])
def test_polars_frames_have_the_namespace(order: str) -> None:
    """It is there after ``import cdp_backfill``, whichever package was imported first."""
    code = (
        f"import {order}\n"
        "frame = polars.DataFrame({'uid': ['a'], 'ts': ['2023-05-01T10:00:00Z']})\n"
        "how = dict(user_id='uid', timestamp='ts', event=cdp_backfill.lit('Application Opened'))\n"
        "(one,), (two,) = (f.cdp.messages(1, **how) for f in (frame, frame.lazy()))\n"
        "assert one == two and one['userId'] == 'a', one\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_without_polars_nothing_is_missed() -> None:
    """The package can be imported and used where polars is not installed."""
    code = (
        "import sys; sys.modules['polars'] = None\n"
        "import cdp_backfill, pyarrow as pa\n"
        "from cdp_backfill.sources import open_source\n"
        "assert open_source(pa.table({'a': [1]})).rows == 1\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.parametrize("lazy", [False, True])
def test_polars_to_the_sandbox_and_back(records: Any, box: Sandbox, *, lazy: bool) -> None:
    """Failures come back as pandas rows with the right numbers, and go once they are repaired."""
    part = records.slice(40_000, 20_000)
    frame: Any = pl.from_arrow(part)
    frame = frame.lazy() if lazy else frame
    report = frame.cdp.plan(MAPPING, destination=box.destination).send(progress=False)
    failures = report.failures
    assert sum(report.counts.values()) == 20_000
    assert 20 < len(failures) == report.counts["invalid"]
    assert len(box.events()) == 20_000 - len(failures)
    shown = part.take(pa.array(failures["cdp_row"].astype("int64")))
    assert shown["session"].to_pylist() == failures["session"].tolist()
    assert failures["paid"].dtype == "boolean"
    for name in ("seconds", "paid", "session", "happened_at"):
        as_given = [None if pd.isna(cell) else cell for cell in failures[name]]
        assert as_given == shown[name].to_pylist()
    fixed = failures.assign(
        customer=failures["customer"].fillna("someone"),
        action="open",
        started=failures["started"].fillna(pd.Timestamp("2022-01-01", tz="UTC")),
        note=None,
    )
    again = fixed.cdp.send(destination=box.destination, progress=False)
    assert again.counts["delivered"] == len(failures)


def test_failures_of_polars_keep_their_ids() -> None:
    """A row that comes back and is sent again has the id that it had, empty cells included."""
    table = opened(
        6,
        whole=pa.array([1, None, 3, 4, None, 6]),
        real=pa.array([1.5, None, 2.0, float("nan"), 3.25, None]),
        flag=pa.array([True, None, False, None, True, None]),
        kind=pa.array(["a", None, "b", "a", "a", None]).dictionary_encode(),
        day=pa.array([date(2023, 1, n + 1) for n in range(6)]),
    )
    frame: Any = pl.from_arrow(table)
    with serving(lambda _, __: Reply(503)) as server, pytest.raises(StoppedError) as caught:
        frame.cdp.send(OPENED, destination=server.destination(patience=0.05), progress=False)
    report: Any = caught.value.report
    failures = report.failures
    assert len(failures) == 6
    ids = [message["messageId"] for message in failures.cdp.messages(6)]
    assert ids == failures["cdp_message_id"].tolist()
    assert ids == [message["messageId"] for message in frame.cdp.messages(6, OPENED)]


@pytest.mark.parametrize(
    "held",
    [
        pytest.param(lambda table: pl.DataFrame(table).lazy(), id="polars lazy"),
        pytest.param(lambda table: in_duckdb(table).table("records"), id="DuckDB relation"),
        pytest.param(ibis_on_duckdb, id="ibis"),
        pytest.param(ds.dataset, id="dataset"),
        pytest.param(lambda table: ds.dataset(table).scanner(), id="scanner"),
    ],
)
@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")
def test_a_query_is_planned_and_then_sent(held: Callable[[Any], Any], box: Sandbox) -> None:
    """What can be run again is read for the plan, which proposes a mapping, and for the sending."""
    table = opened(20_000).append_column("event", pa.array(["app_open"] * 20_000))
    plan = cdp.plan(held(table), destination=box.destination)
    assert (plan.to_send, plan.events) == (20_000, {"Application Opened": 20_000})
    report = plan.send(progress=False)
    assert report.counts["delivered"] == len(box.events()) == 20_000


def test_a_query_that_changed_since_the_plan(box: Sandbox) -> None:
    """A plan of a relation is of the rows that it gave then."""
    connection = in_duckdb(opened())
    plan = cdp.plan(connection.table("records"), OPENED, destination=box.destination)
    connection.execute("UPDATE records SET uid = 'other' WHERE uid = 'u1'")
    with pytest.raises(SourceError, match="The DuckDB relation has changed"):
        plan.send(progress=False)


def adbc_cursor(stack: contextlib.ExitStack) -> Any:
    """A cursor of ADBC after a query."""
    connection = stack.enter_context(adbc_driver_sqlite.dbapi.connect())
    cursor = stack.enter_context(connection.cursor())
    cursor.execute("SELECT 1 AS a")
    return cursor


def sqlite_cursor(stack: contextlib.ExitStack) -> Any:
    """A cursor of DB-API after a query."""
    connection = stack.enter_context(closing(sqlite3.connect(":memory:")))
    return connection.execute("SELECT 1 AS a")


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (lambda _: opened().to_reader(), r"a table, as from reader\.read_all"),
        (adbc_cursor, r"a table, as from cursor\.fetch_arrow_table"),
        (sqlite_cursor, r"pandas\.read_sql"),
        (
            lambda stack: stack.enter_context(duckdb.connect()).execute("SELECT 1"),
            r"as from connection\.sql\(query\)",
        ),
        (lambda _: bigquery_like(opened()), r"rows\.to_arrow"),
        (lambda _: snowflake_like(opened()), r"cursor\.fetch_arrow_all"),
    ],
)
def test_what_can_be_read_once(
    held: Callable[[contextlib.ExitStack], Any], words: str, box: Sandbox
) -> None:
    """A plan would spend it: it says so, and what to give instead; and then it is spent."""
    with contextlib.ExitStack() as stack:
        table = held(stack)
        with pytest.raises(BadInputError, match=f"can only be read once.*{words}"):
            cdp.plan(table, OPENED, destination=box.destination)
        source = open_source(held(stack))
        assert len(list(source.chunks(source.schema.names))) == 1
        with pytest.raises(SourceError, match="can only be read once and has been read"):
            list(source.chunks(source.schema.names))


def test_rows_of_a_query_that_were_not_read(box: Sandbox) -> None:
    """They count as unsent where their number is known; else the report says that they do not."""
    relation = in_duckdb(opened(20_000)).table("records")
    report = cdp.send(
        relation, OPENED, destination=box.destination, canary=10, journal=False, progress=False
    )
    assert (report.counts["delivered"], report.counts["unsent"]) == (10, 19_990)
    assert any("19,990 rows were not read" in note for note in report.notes)
    assert len(report.failures) == 0
    reader = opened(20_000).to_reader()
    report = cdp.send(
        reader, OPENED, destination=box.destination, canary=10, journal=False, progress=False
    )
    assert (report.counts["delivered"], report.counts["unsent"]) == (10, 0)
    assert any("not read to its end" in note for note in report.notes)


def test_a_query_that_breaks_off(box: Sandbox) -> None:
    """The report accounts for what the engine gave before, if any; the error shows no cell."""
    frame = pl.DataFrame({"uid": ["u"] * 60_000, "n": ["1"] * 59_999 + ["secret"]}).lazy()
    frame = frame.with_columns(pl.col("n").cast(pl.Int64), ts=pl.lit("2023-05-01T10:00:00Z"))
    with pytest.raises(StoppedError, match="LazyFrame cannot be read beyond row") as caught:
        cdp.send(frame, OPENED, destination=box.destination, recent="send", progress=False)
    report: Any = caught.value.report
    assert sum(report.counts.values()) == report.rows
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_a_table_that_cannot_be_opened() -> None:
    """The error says what it was, and of what kind the trouble."""
    for table, words in [
        (pl.DataFrame({"x": pl.Series([[1]], dtype=pl.List(pl.Int128))}).lazy(), "polars LazyF"),
        (pl.scan_parquet("nowhere.parquet"), r"polars LazyFrame cannot be opened \(FileNotFound"),
        (ibis.table({"a": "int64"}), r"ibis table cannot be opened \(IbisError\)"),
    ]:
        with pytest.raises(SourceError, match=f"^The {words}"):
            open_source(table)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pl.Series("x", [object()], dtype=pl.Object), "Column 'x' of the polars .* is Object"),
        (pl.Series("x", [2**70], dtype=pl.Int128), "Column 'x' of the polars .* is Int128"),
    ],
)
def test_a_column_that_only_polars_has(column: Any, words: str) -> None:
    """It is refused by name: Arrow would take addresses in memory for its cells."""
    for frame in (column.to_frame(), column.to_frame().lazy()):
        with pytest.raises(SourceError, match=words):
            open_source(frame)


def test_names_that_a_library_reads_in_its_own_way() -> None:
    """A name is a name, be it a pattern to polars or an expression to DuckDB."""
    names = {"^a.*$": 1, "*": 2, "ab": 3, 'x.y "z"': 4, "select": 5}
    frame = pl.DataFrame(names)
    for table in (frame, frame.lazy(), in_duckdb(frame.to_arrow()).table("records")):
        source = open_source(table)
        for name, cell in names.items():
            assert cells(source, name) == [cell]


@pytest.mark.parametrize("query", ["SELECT 1 AS a, 2 AS a", 'SELECT 1 AS a, 2 AS "A"'])
def test_columns_that_duckdb_cannot_tell_apart(query: str) -> None:
    """They are refused, where DuckDB would rename one without a word."""
    with closing(duckdb.connect()) as connection, pytest.raises(SourceError, match="than one col"):
        open_source(connection.sql(query))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pl.Series([1.5, float("nan")]), pl.Series([1.5, None])),
        (pl.Series([1, 2], dtype=pl.UInt8), pl.Series([1, 2], dtype=pl.UInt64)),
        (pl.Series(["a", "b"], dtype=pl.Categorical), pl.Series(["a", "b"])),
        (pl.Series(["a", "b"], dtype=pl.Enum(["b", "a"])), pl.Series(["a", "b"])),
        (pl.Series([1, 2], dtype=pl.Decimal(38, 0)), pl.Series([1, 2])),
        (pl.Series([[1], None]), pl.Series([[1], None], dtype=pl.List(pl.Int8))),
    ],
)
def test_types_of_polars_that_say_the_same(one: Any, other: Any) -> None:
    """Messages and ids are of values: how a library stores them does not show."""
    frame: Any = pl.from_arrow(opened(2))
    first, second = (frame.with_columns(x=column) for column in (one, other))
    assert sent(first, OPENED) == sent(second, OPENED) == sent(second.lazy(), OPENED)


def test_sums_of_duckdb() -> None:
    """A sum, which DuckDB makes of 128 bits, is the same number as in pandas."""
    connection = in_duckdb(opened(3, n=[1, 2, 3]))
    summed = connection.sql(
        "SELECT uid, ts, sum(n) OVER (ORDER BY ts) AS n FROM records ORDER BY ts"
    )
    assert open_source(summed).schema.field("n").type == pa.decimal128(38, 0)
    assert sent(summed, OPENED) == sent(opens(3, n=[1, 3, 6]), OPENED)


def test_many_small_batches_make_whole_chunks() -> None:
    """However a stream is cut, chunks are cut where those of a frame are."""
    reader = pa.table({"x": range(20_000)}).to_reader(max_chunksize=10)
    sizes = [chunk.batch.num_rows for chunk in open_source(reader).chunks(["x"])]
    assert sizes == [CHUNK_ROWS, 20_000 - CHUNK_ROWS]


@pytest.mark.parametrize("like", [bigquery_like, snowflake_like])
def test_a_result_of_a_warehouse_without_rows(like: Callable[[Any], Any]) -> None:
    """It has its columns, and no rows."""
    source = open_source(like(opened().slice(0, 0)))
    assert source.schema.names == ["uid", "ts"]
    assert list(source.chunks(["uid"])) == []


def test_cells_of_a_database_cursor() -> None:
    """Each kind of Python value becomes the type that holds it exactly."""
    zone = timezone(timedelta(hours=5, minutes=30))
    row = {
        "flag": True,
        "whole": 2**62,
        "big": 2**80,
        "real": 1.5,
        "either": 1,
        "text": "a",
        "raw": memoryview(b"ab"),
        "price": Decimal("12.50"),
        "zoned": datetime(2023, 5, 1, 15, 30, tzinfo=zone),
        "naive": datetime(2023, 5, 1, 10),  # noqa: DTZ001
        "day": date(2023, 5, 1),
        "at": time(10, 30),
        "took": timedelta(seconds=3),
        "id": UUID(int=7),
        "empty": None,
    }
    second = {**dict.fromkeys(row), "either": 2.5, "price": Decimal(3)}
    rows = [tuple(row.values()), tuple(second.values())]
    source = open_source(cursor_of(rows, *row))
    kinds = {item.name: str(item.type) for item in source.schema}
    assert kinds == {
        "flag": "bool", "whole": "int64", "big": "decimal128(38, 0)", "real": "double",
        "either": "double", "text": "string", "raw": "binary", "price": "decimal128(38, 2)",
        "zoned": "timestamp[us, tz=UTC]", "naive": "timestamp[us]", "day": "date32[day]",
        "at": "time64[us]", "took": "duration[us]", "id": "string", "empty": "string",
    }  # fmt: skip
    (chunk,) = source.chunks(list(row))
    first, last = chunk.batch.to_pylist()
    changed = {"either": 1.0, "raw": b"ab", "id": str(UUID(int=7)), "took": pd.Timedelta("3s")}
    assert first == {**row, **changed}
    assert last == second


def test_a_cell_of_another_kind_stops_a_database_cursor() -> None:
    """Of times and bytes, a column keeps the type of its first rows; no cell is shown."""
    for first, later, words in [
        (date(2023, 1, 1), "secret", "holds text in row 17,001 and dates before"),
        (1, date(2023, 1, 1), "holds dates in row 17,001 and whole numbers before"),
        (date(2023, 1, 1), datetime(2023, 1, 1, 5), "holds times without a zone in row 17,001"),  # noqa: DTZ001
        (datetime(2023, 1, 1, tzinfo=UTC), datetime(2023, 1, 1), "holds times without a zone"),  # noqa: DTZ001
        ("a", b"secret", "holds bytes in row 17,001 and text before"),
    ]:
        source = open_source(cursor_of([(first,)] * 17_001 + [(later,)], "x"))
        with pytest.raises(SourceError, match=f"Column 'x' of the cursor {words}") as caught:
            cells(source, "x")
        assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_a_column_of_a_database_cursor_that_begins_late() -> None:
    """It is looked for, so that its type is known; whole numbers among decimals are decimals."""
    rows = [(n, None, 1.5) for n in range(30_000)] + [(7, 9, 2)]
    source = open_source(cursor_of(rows, "n", "late", "real"))
    assert [str(kind) for kind in source.schema.types] == ["int64", "int64", "double"]
    assert cells(source, "late") == [None] * 30_000 + [9]


def test_a_column_that_is_empty_for_long_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking ahead has an end: from there on the column takes text, and no times or bytes."""
    monkeypatch.setattr(cursors, "_AHEAD_BYTES", 100_000)
    rows: list[tuple[Any, ...]] = [(n, None) for n in range(30_000)]
    assert cells(open_source(cursor_of([*rows, (1, "a")], "n", "late")), "late")[-1] == "a"
    source = open_source(cursor_of([*rows, (1, b"b")], "n", "late"))
    with pytest.raises(SourceError, match="holds bytes in row 30,000 and text before"):
        cells(source, "late")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([({"a": 1},)], "holds dict, which cannot be read.*json="),
        ([([1, 2],)], "holds list, which cannot be read"),
        ([(1,), (b"a",)], "mixes bytes and whole numbers"),
        ([(1, 2)], "rows of type tuple, which are not sequences of cells"),
        ([5], "rows of type int, which are not sequences of cells"),
    ],
)
def test_a_database_cursor_that_cannot_be_read(rows: list[Any], words: str) -> None:
    """It says which column and what to do, before anything is sent."""
    with pytest.raises(SourceError, match=words):
        open_source(cursor_of(rows, "x"))


def test_a_database_cursor_without_a_result() -> None:
    """A cursor that ran nothing, or no query, has no rows to send."""
    with closing(sqlite3.connect(":memory:")) as connection:
        with pytest.raises(SourceError, match="Execute a query"):
            open_source(connection.cursor())
        with pytest.raises(SourceError, match="more than one column named 'a'"):
            open_source(connection.execute("SELECT 1 AS a, 2 AS a"))
        assert open_source(connection.execute("SELECT 1 AS a WHERE false")).schema.names == ["a"]
        cursor = connection.execute("SELECT CAST(x'ff' AS TEXT) AS a")
        with pytest.raises(SourceError, match=r"cannot be read \(OperationalError\)"):
            open_source(cursor)
    with (
        closing(duckdb.connect()) as connection,
        pytest.raises(SourceError, match="Execute a query"),
    ):
        open_source(connection)


def test_zoned_times_of_a_duckdb_cursor() -> None:
    """DuckDB needs pytz to give them so: the relation is the way that needs nothing."""
    with closing(duckdb.connect()) as connection:
        connection.execute("SELECT now() AS seen")
        with pytest.raises(SourceError, match=r"'seen' .* Pass connection\.sql\(query\) instead"):
            open_source(connection)


def test_rows_of_other_shapes() -> None:
    """Rows that are mappings are read by name, and a result of SQLAlchemy by its keys."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.row_factory = sqlite3.Row
        assert cells(open_source(connection.execute("SELECT 1 AS a, 'x' AS b")), "b") == ["x"]
    rows: list[Any] = [{"b": "x", "a": 1}, {"a": 2, "b": None}]
    assert cells(open_source(cursor_of(rows, "a", "b")), "b") == ["x", None]
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection:
        result = connection.execute(sqlalchemy.text("SELECT 1 AS a, 'x' AS b"))
        assert cells(open_source(result), "b") == ["x"]
    engine.dispose()


def test_what_cannot_be_read_says_what_can() -> None:
    """The error lists the tables that are known, and helps with those that people try."""
    with pytest.raises(SourceError, match=r"type object .*DuckDB.*cursor after execute.*parquet"):
        open_source(object())
    with pytest.raises(SourceError, match=r"Pass pandas\.DataFrame\(rows\)"):
        open_source([{"a": 1}])
    frame = type("DataFrame", (), {"__module__": "pyspark.sql.classic.dataframe"})
    with pytest.raises(SourceError, match=r"Write it with df\.write\.parquet\(folder\)"):
        open_source(frame())

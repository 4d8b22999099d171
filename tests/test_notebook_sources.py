"""Tables that people hold in a notebook: the same records give the same bytes from each."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import adbc_driver_sqlite.dbapi
import duckdb
import ibis
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from cdp_backfill import Mapping, demo
from cdp_backfill.backfill import _road
from cdp_backfill.proposal import Proposal
from cdp_backfill.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROWS = 100_000

MAPPING = replace(
    demo.MAPPING,
    timestamp="started",
    properties={
        **demo.MAPPING.properties,
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
    table = pa.Table.from_batches(demo.batches(ROWS)).combine_chunks()
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
    road = _road(open_source(table), Proposal(mapping), "send", "message", now)
    digest, messages = hashlib.blake2b(), 0
    for _, prepared in road.prepared(road.binding.columns):
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
                if part.num_rows < 9_999:
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
        pytest.param(lambda table: pl.from_arrow(table).lazy(), id="polars lazy"),
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
        pytest.param(lambda table: ds.dataset(table), id="pyarrow dataset in memory"),
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


def test_the_same_bytes_from_an_adbc_cursor(
    lean_database: Path, expected: tuple[int, str]
) -> None:
    """The driver is told to look further for types: the notes begin late."""
    with (
        adbc_driver_sqlite.dbapi.connect(str(lean_database)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": "65536"})
        cursor.execute("SELECT * FROM records ORDER BY session")
        assert sent(cursor, LEAN_MAPPING) == expected

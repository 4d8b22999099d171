"""A row is the same message with the same id from every kind of source, in any company."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.api import messages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

MAPPING = cdp.Mapping(
    user_id="uid", timestamp="ts", event=cdp.lit("Application Opened"), json=["deep"]
)
TIME = "2023-05-01T10:00:00.250Z"

words = st.text(st.sampled_from("abcé€😀 _-"), min_size=1, max_size=6).map(lambda text: f"w{text}w")
rows_of_tables = st.lists(
    st.fixed_dictionaries(
        {
            "whole": st.none() | st.integers(-(2**53) + 1, 2**53 - 1),
            "broken": st.none() | st.floats(-1e12, 1e12).map(lambda x: round(x, 6)) | st.just(1e-7),
            "flag": st.none() | st.booleans(),
            "word": st.none() | words,
            "deep": st.none() | st.dictionaries(words, st.integers(0, 9) | words, max_size=2),
        }
    ),
    min_size=1,
    max_size=8,
)


def arrow(rows: list[dict[str, Any]], numbers: list[int]) -> Any:
    """The rows as an Arrow table; nested cells are JSON text."""
    deep = [None if row["deep"] is None else json.dumps(row["deep"]) for row in rows]
    return pa.table(
        {
            "uid": pa.array([f"u{number}" for number in numbers]),
            "ts": pa.array([TIME] * len(rows)),
            "whole": pa.array([row["whole"] for row in rows], pa.int64()),
            "broken": pa.array([row["broken"] for row in rows], pa.float64()),
            "flag": pa.array([row["flag"] for row in rows], pa.bool_()),
            "word": pa.array([row["word"] for row in rows], pa.string()),
            "deep": pa.array(deep, pa.string()),
        }
    )


def in_chunks(table: Any, _: Path) -> Any:
    """Chunks of two rows."""
    return pa.Table.from_batches(table.to_batches(max_chunksize=2), table.schema)


def objects(table: Any, _: Path) -> Any:
    """A frame in which every column is one of objects."""
    return pd.DataFrame(
        {name: pd.Series(table[name].to_pylist(), dtype=object) for name in table.column_names}
    )


def parquet(table: Any, folder: Path) -> Any:
    """Row groups of three rows."""
    pq.write_table(table, folder / "t.parquet", row_group_size=3)
    return folder / "t.parquet"


def ndjson(table: Any, folder: Path) -> Any:
    """An object on each line."""
    lines = map(json.dumps, table.to_pylist())
    (folder / "t.ndjson").write_text("\n".join(lines), encoding="utf-8")
    return folder / "t.ndjson"


def cursor(table: Any, _: Path) -> Any:
    """A cursor of SQLite, which knows no booleans: these are told apart below."""
    database = sqlite3.connect(":memory:")
    names = table.column_names
    database.execute(f"CREATE TABLE t ({', '.join(names)})")
    database.executemany(
        f"INSERT INTO t VALUES ({', '.join('?' * len(names))})",  # noqa: S608
        [tuple(row[name] for name in names) for row in table.to_pylist()],
    )
    return database.execute("SELECT * FROM t")


SOURCES: dict[str, Callable[[Any, Path], Any]] = {
    "arrow": lambda table, _: table,
    "chunks": in_chunks,
    "reader": lambda table, _: table.to_reader(max_chunksize=3),
    "pandas": lambda table, _: table.to_pandas(types_mapper=pd.ArrowDtype),
    "objects": objects,
    "polars": lambda table, _: pl.from_arrow(table),
    "duckdb": lambda table, _: duckdb.connect().from_arrow(table),
    "parquet": parquet,
    "ndjson": ndjson,
}


def by_row(source: Any, size: int) -> dict[str, Any]:
    """What each row becomes, by its id."""
    return {message["userId"]: message for message in messages(source, size, MAPPING)}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows_of_tables, st.data())
def test_a_row_is_the_same_in_any_company(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], data: Any
) -> None:
    """Random tables, subsets, orders and chunks, through every kind of source."""
    folder = tmp_path_factory.mktemp("t")
    expected = by_row(arrow(rows, list(range(len(rows)))), len(rows))
    name = data.draw(st.sampled_from(sorted(SOURCES)))
    chosen = data.draw(st.lists(st.sampled_from(range(len(rows))), min_size=1, unique=True))
    part = arrow([rows[number] for number in chosen], chosen)
    actual = by_row(SOURCES[name](part, folder), len(chosen))
    assert actual == {f"u{number}": expected[f"u{number}"] for number in chosen}


def test_a_cursor_says_the_same(tmp_path: Path) -> None:
    """SQLite's rows are the same messages, but for booleans, which it does not have."""
    rng = np.random.default_rng(7)
    rows = [
        {"whole": int(n), "broken": float(f), "flag": None, "word": f"w{n}", "deep": {"a": int(n)}}
        for n, f in zip(rng.integers(0, 9**9, 50), rng.random(50), strict=True)
    ]
    table = arrow(rows, list(range(50)))
    assert by_row(cursor(table, tmp_path), 50) == by_row(table, 50)

"""Random tables of all types, with random mappings."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

import cdp_backfill as cdp
from tests.fuzz.columns import BAD, KINDS, MARKER, MISSING, REFUSED, Kind, expected
from tests.fuzz.runs import FIGURES, Figures, desk, planned_and_sent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers import Server

EVENT = cdp.lit("Application Opened")
TIME = "2023-05-01T10:00:00Z"
plain = settings(
    suppress_health_check=[*HealthCheck], max_examples=25, phases=[Phase.explicit, Phase.generate]
)


@pytest.fixture(scope="module", name="server")
def running_server() -> Iterator[Server]:
    """A server for all tables."""
    with desk() as running:
        yield running


Column = tuple[Kind, list[Any]]


@st.composite
def tables(draw: st.DrawFn) -> list[Column]:
    """Columns of random types with the same number of cells."""
    rows = draw(st.integers(1, 6))
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    return [(kind, draw(st.lists(st.none() | kind.cells, min_size=rows, max_size=rows))) for kind in kinds]  # fmt: skip  # noqa: E501


def arrow(columns: list[Column]) -> Any:
    """The columns as an Arrow table, with a user and a time in each row."""
    rows = len(columns[0][1])
    named = {"uid": [f"u{n}" for n in range(rows)], "ts": [TIME] * rows}
    arrays = {f"c{n}": kind.array(cells) for n, (kind, cells) in enumerate(columns)}
    return pa.table(named | arrays)


def parquet(table: Any) -> Any:
    """A file with row groups of two rows; its types are those that parquet has."""
    path = Path(tempfile.mkdtemp()) / "t.parquet"
    try:
        pq.write_table(table, path, row_group_size=2)
        pq.read_table(path)
    except pa.ArrowException:
        return table
    return path


def padded(table: Any) -> Any:
    """A slice of a longer table, whose other rows must not show."""
    return pa.concat_tables([table, table, table]).slice(table.num_rows, table.num_rows)


def arrow_frame(table: Any) -> Any:
    """A pandas frame with the types of Arrow, where pandas has them."""
    try:
        return table.to_pandas(types_mapper=pd.ArrowDtype)
    except (pa.ArrowException, NotImplementedError, TypeError, ValueError):
        return table


EXACT: dict[str, Callable[[Any], Any]] = {
    "table": lambda table: table,
    "chunks": lambda table: pa.Table.from_batches(table.to_batches(max_chunksize=2), table.schema),
    "slice": padded,
    "parquet": parquet,
    "pandas": arrow_frame,
}
"""Containers that keep types and cells."""


STRATEGIES: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "test_each_message_is_its_row": {
        "columns": tables(),
        "container": st.sampled_from(sorted(EXACT)),
        "renamed": st.booleans(),
    }
}
"""The arguments of the tests; a long run draws them as well."""


@plain
@given(**STRATEGIES["test_each_message_is_its_row"])
def test_each_message_is_its_row(
    server: Server, columns: list[Column], container: str, renamed: bool
) -> None:
    """Every delivered message holds what plain Python reads in its row, and all others are bad."""
    figures = FIGURES.setdefault("tables of all types", Figures())
    for kind, cells in columns:
        figures.types[kind.name] += 1
        figures.cells += len(cells)
    table = EXACT[container](arrow(columns))
    options: dict[str, Any] = {"properties": {"named": "c0"}} if renamed else {}
    mapping = cdp.Mapping(user_id="uid", timestamp="ts", event=EVENT, **options)
    found = planned_and_sent(server, lambda: table, figures, mapping=mapping)
    assert found is not None
    arrived = {message["userId"]: message.get("properties", {}) for message in found}
    names = [f"c{number}" for number in range(len(columns))]
    if renamed:
        names[0] = "named"
    for row in range(len(columns[0][1])):
        right = {
            name: (kind, expected(kind, cells[row]))
            for name, (kind, cells) in zip(names, columns, strict=True)
        }
        is_bad = any(value is BAD for _, value in right.values())
        assert (f"u{row}" not in arrived) is is_bad, (right, container)
        if is_bad:
            continue
        sent = arrived[f"u{row}"]
        assert sent.keys() == {name for name, (_, value) in right.items() if value is not MISSING}
        for name, value in sent.items():
            kind, wanted = right[name]
            assert kind.equal(value, wanted), (kind.name, wanted, value, container)


@settings(plain, max_examples=6)
@given(st.sampled_from(REFUSED), st.integers(1, 3))
def test_types_that_json_lacks(server: Server, kind: Any, rows: int) -> None:
    """Such a column is refused by name; dropped, it troubles nothing."""
    figures = FIGURES.setdefault("types that JSON lacks", Figures())
    figures.types[str(kind)] += 1
    table = arrow([(KINDS[3], [1] * rows)]).append_column("odd", pa.nulls(rows, kind))
    mapping = cdp.Mapping(user_id="uid", timestamp="ts", event=EVENT)
    assert planned_and_sent(server, lambda: table, figures, mapping=mapping) is None
    mapping = cdp.Mapping(user_id="uid", timestamp="ts", event=EVENT, drop=["odd"])
    assert planned_and_sent(server, lambda: table, figures, mapping=mapping) is not None


ODD_FRAMES: dict[str, Callable[[Any], Any]] = {
    "pandas": lambda table: table.to_pandas(),
    "objects": lambda table: pd.DataFrame(
        {name: pd.Series(table[name].to_pylist(), dtype=object) for name in table.column_names}
    ),
    "nullable": lambda table: table.to_pandas().convert_dtypes(),
    "categories": lambda table: table.to_pandas().astype("category"),
    "polars": pl.from_arrow,
    "lazy": lambda table: pl.from_arrow(table).lazy(),  # type: ignore[union-attr]
    "reversed": lambda table: table.to_pandas()[::-1],
    "indexed": lambda table: table.to_pandas().set_index("c0"),
    "text": lambda table: table.to_pandas().astype("string"),
}

odd_series: st.SearchStrategy[Any] = st.sampled_from(
    [
        pd.period_range("2023", periods=3, freq="M"),
        pd.interval_range(0, 3),
        pd.arrays.SparseArray([0.0, 1.0, np.nan]),
        np.array([1 + 2j, 0, 3]),
        pd.array([1, None, 3], dtype="Int8"),
        pd.array([True, None, False], dtype="boolean"),
        pd.array([1.5, None, 3], dtype="Float32"),
        pd.Categorical(["a", None, "b"]),
        pd.Categorical([1, None, 2.5]),
        pd.to_timedelta(["1s", None, "3h"]),
        pd.to_datetime(["2023-05-01", "NaT", "2023-05-02"]).tz_localize("Europe/Berlin"),
        pd.Series([object(), MARKER, None], dtype=object),
        pd.Series([{1, 2}, (1, "a"), b"x"], dtype=object),
        pd.Series([1, MARKER, 2.5], dtype=object),
        pd.Series([{"a": 1}, [1, MARKER], None], dtype=object),
        pd.Series([2**70, -1, None], dtype=object),
        pd.Series(["\ud800" + MARKER, "\0", ""], dtype=object),
        np.array(["2023-05-01", "NaT", "2400-01-01"], dtype="M8[D]"),
        np.array([1, 2, 3], dtype=">i4"),
        np.array([0.5, np.inf, -0.0], dtype=np.float16),
    ]
)


@st.composite
def mappings(draw: st.DrawFn, names: list[str]) -> dict[str, Any]:
    """Arguments of a mapping that name random columns."""
    column = st.sampled_from(names)
    either = st.sampled_from([*names, *names, "nosuch"])
    options: dict[str, Any] = {
        "user_id": draw(st.sampled_from(["uid"] * 9 + [None, *names])),
        "timestamp": draw(st.sampled_from(["ts"] * 9 + names)),
        "event": draw(st.sampled_from([EVENT] * 9 + names)),
    }
    some: dict[str, st.SearchStrategy[Any]] = {
        "anonymous_id": column,
        "message_id": column | column.map(cdp.key),
        "properties": st.dictionaries(st.sampled_from(["a", "version", "c1", ""]), either),
        "context": column.map(lambda name: {"device": {"type": name, "model": name}})
        | column.map(lambda name: {"os": name, "ip": name}),
        "integrations": column.map(lambda name: {"All": name}) | st.just({"All": False}),
        "rest": st.sampled_from(["properties", "all", "drop"]),
        "drop": st.lists(column, max_size=1),
        "json": st.lists(column, max_size=2),
        "expand": st.lists(column, max_size=2),
        "timezone": st.sampled_from(["Europe/Berlin", "UTC", "Nowhere/None"]),
        "timestamp_unit": st.sampled_from(["s", "ms", "us", "ns", "h"]),
        "other_events": st.sampled_from(["send", "skip", "invalid"]),
        "duplicates": st.sampled_from(["skip", "send"]),
        "earliest": st.sampled_from(["1970-01-01", "2020-01-01", "soon"]),
        "derive": st.dictionaries(
            st.sampled_from(["d1", "d2"]),
            st.sampled_from(
                [
                    "c0::VARCHAR",
                    "c0::INT",
                    "c0 + 1",
                    "10 // c0",
                    "upper(c0)",
                    "c0::JSON->>'$.a'",
                    "coalesce(c0::JSON->>'$.b', c0::JSON->>'$.c')",
                    "strptime(c0, '%Y')",
                    "c0[1]",
                    "ts::TIMESTAMP + INTERVAL 1 day",
                    "[c0, c0]",
                    "{'a': c0}",
                    "c0 =",
                    "random()",
                ]
            ),
            max_size=2,
        ),
        "nulls": st.just([MARKER]),
    }
    for name in draw(st.lists(st.sampled_from(sorted(some)), max_size=2, unique=True)):
        options[name] = draw(some[name])
    return {name: value for name, value in options.items() if value is not None}


STRATEGIES["test_any_table_with_any_mapping"] = {
    "columns": tables(),
    "container": st.sampled_from(sorted(ODD_FRAMES)),
    "odd": st.none() | odd_series,
    "data": st.data(),
}


@plain
@given(**STRATEGIES["test_any_table_with_any_mapping"])
def test_any_table_with_any_mapping(
    server: Server, columns: list[Column], container: str, odd: Any, data: Any
) -> None:
    """Plan and run agree about every row, or both refuse the table with a proper error."""
    figures = FIGURES.setdefault("any table, any mapping", Figures())
    for kind, cells in columns:
        figures.types[kind.name] += 1
        figures.cells += len(cells)
    try:
        frame = ODD_FRAMES[container](arrow(columns))
    except (Exception, pl.exceptions.PanicException):  # noqa: BLE001  # it has no such type
        assume(False)
    if odd is not None and isinstance(frame, pd.DataFrame) and len(frame) == len(odd):
        frame = frame.assign(odd=np.asarray(odd) if isinstance(odd, pd.Series) else odd)
    is_lazy = isinstance(frame, pl.LazyFrame)
    names = frame.collect_schema().names() if is_lazy else list(map(str, frame.columns))
    options = data.draw(mappings(names))
    planned_and_sent(server, lambda: frame, figures, **options)

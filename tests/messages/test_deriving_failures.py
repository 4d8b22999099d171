"""Expressions that fail at cells, and expressions that are refused."""

from __future__ import annotations

import json
import logging
import signal
import threading
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill import MappingError
from cdp_backfill.messages.deriving import Deriver
from tests.rows import OPENED, built, codes, opens, properties

SCHEMA = pa.schema(
    [("x", pa.string()), ("k", pa.int64()), ("d", pa.dictionary(pa.int32(), pa.string()))]
)
SECRET = "grace-hopper"

EXPRESSIONS = [
    "coalesce(x::JSON->>'$.b', x::JSON->>'$.c')",
    "(x::JSON->>'$.b')::INT + (x::JSON->>'$.b')::INT",
    "CASE WHEN k > 1 THEN x::INT ELSE k END",
    "CASE WHEN k IS NULL OR x::INT > 1 THEN 'a' ELSE 'b' END",
    "x::DATE",
    "strptime(x, '%Y%m%d')",
    "x::TIMESTAMPTZ",
    "x::DECIMAL(4, 2)",
    "x::INT[]",
    "x::STRUCT(a INT)",
    "x::UUID",
    'from_json(x, \'{"b": "INT"}\')',
    "k + 1 > 5",
    "k * k",
    "-k",
    "10 // k",
    "10 / k",
    "1 << k",
    "factorial(k::INT)",
    "sqrt(k)",
    "ln(k)",
    "chr(k::INT)",
    "make_date(k, k, k)",
    "make_timestamp(k)",
    "to_timestamp(k)",
    "to_days(k::INT)",
    "DATE '2023-01-01' + k::INT",
    "k::HUGEINT * k",
    "k::UTINYINT",
    "[1, 2, 3][k]",
    "x[k]",
    "x[k:]",
    "substring(x, k)",
    "repeat(x, least(k, 3))",
    "split_part(x, d, k)",
    "regexp_matches(x, d)",
    "regexp_replace(x, d, 'y', 'g')",
    "regexp_extract_all(x, d)",
    "x LIKE d ESCAPE '\\\\'",
    "unhex(x)",
    "from_base64(x)",
    "url_decode(x)",
    "format(x, k)",
    "printf(x, k)",
    "map {x: k}",
    "map {x: k, d: k}",
    "struct_pack(a := x, b := k)",
    "list_extract(string_split(x, ','), k)::INT",
    "enum_code(x::ENUM('a', 'b'))",
    "x::BIT",
    "union_value(n := k)",
    "x::JSON",
    "json_object(x, k)",
    "upper(d)",
    "d::INT",
]
CELLS = [
    None, "", "a", "1", "-7", '{"b": 1}', '{"b": "x"}', '{"c": 2}', "cut {", "[1,2]", "2023-02-30",
    "20230501", "2023-05-01", "1e400", "(", "%d", "%", "{}", "\\", "é", "\0", "Infinity", "nan",
]  # fmt: skip
NUMBERS = [None, 0, 1, 2, 3, -1, 63, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)]
row_lists = st.lists(
    st.tuples(st.sampled_from(CELLS), st.sampled_from(NUMBERS), st.sampled_from(CELLS)),
    min_size=1,
    max_size=12,
)


def table(rows: list[tuple[Any, ...]]) -> Any:
    """A batch of such rows, in which the dictionary also holds the cells of other rows."""
    texts = pa.DictionaryArray.from_arrays(
        pa.array([None if row[2] is None else CELLS.index(row[2]) for row in rows], pa.int32()),
        pa.array([cell or "" for cell in CELLS]),
    )
    columns = [pa.array([row[i] for row in rows], SCHEMA.field(i).type) for i in range(2)]
    return pa.RecordBatch.from_arrays([*columns, texts], schema=SCHEMA)


def results(deriver: Deriver, batch: Any) -> list[tuple[bool, str]]:
    """For each row, whether the expression fails, and the new cell."""
    (array,), failed = deriver.apply(batch)
    bad = failed.get("v", np.zeros(len(array), dtype=bool))
    return [(bool(bad[i]), repr(array.slice(i, 1).to_pylist())) for i in range(len(array))]


derivers: dict[str, Deriver] = {}


@settings(max_examples=25)
@given(st.sampled_from(EXPRESSIONS), row_lists)
@example(EXPRESSIONS[0], [('{"b": 1}', 1, None), ("cut {", 1, None)])
@example(EXPRESSIONS[2], [("a", 1, None), ("a", 3, None)])
@example("k + 1 > 5", [("", 2**63 - 1, None), ("", 1, None)])
@example("d::INT", [("", 1, "1"), ("", 1, None)])
def test_a_row_alone_and_among_others(expression: str, rows: list[tuple[Any, ...]]) -> None:
    """Whether an expression fails, and what it gives, depends on the row alone."""
    deriver = derivers.setdefault(expression, Deriver({"v": expression}, SCHEMA))
    together = results(deriver, table(rows))
    assert together == results(Deriver({"v": expression}, SCHEMA), table(rows))
    for number, row in enumerate(rows):
        assert results(deriver, table([row])) == [together[number]]
    assert all(cell == "[None]" for bad, cell in together if bad)


def test_expressions_use_each_other_where_some_fail() -> None:
    """A failing expression leaves its own cell empty; what uses it and does not fail is kept."""
    derive = {"a": "x::JSON->>'$.b'", "b": "a::INT", "c": "upper(x)", "e": "coalesce(b, 7)"}
    deriver = Deriver(derive, SCHEMA)
    rows = [('{"b": 1}', 1, None), ('{"b": "y"}', 1, None), ("cut {", 1, None)]
    arrays, failed = deriver.apply(table(rows))
    assert [array.to_pylist() for array in arrays] == [
        ["1", "y", None],
        [1, None, None],
        ['{"B": 1}', '{"B": "Y"}', "CUT {"],
        [1, 7, 7],
    ]
    assert {name: mask.tolist() for name, mask in failed.items()} == {
        "a": [False, False, True],
        "b": [False, True, False],
    }


def test_a_json_column_stays_json_for_later_expressions() -> None:
    """An expression sees the type of a new column, whether another one fails or not."""
    deriver = Deriver({"j": "x::JSON", "l": "j::INT[]", "bad": "d::INT"}, SCHEMA)
    (_, lists, _), failed = deriver.apply(table([("[1,2]", 1, "a"), ("[3]", 1, "1")]))
    assert lists.to_pylist() == [[1, 2], [3]]
    assert failed["bad"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("array", "expression", "good"),
    [
        (pa.array([b"a", b"\xff"]).view(pa.string()), "upper(c)", ["A", None]),
        (pa.array([0, 2**62]).view(pa.timestamp("s")), "year(c)", [1970, None]),
        (pa.array([0, 2**62]).view(pa.timestamp("ns")), "year(c)", [1970, 2116]),
        (pa.array([0, 2**31 - 1], pa.int32()).view(pa.date32()), "year(c)", [1970, None]),
        (pa.array([0, 2**62]).view(pa.date64()), "year(c)", [1970, None]),
        (pa.array([0, -1]).view(pa.time64("us")), "hour(c)", [0, None]),
        (pa.array([0, 2**62]).view(pa.duration("s")), "c IS NULL", [False, None]),
        (pa.array([np.float16(1.5), None], pa.float16()), "c * 2", [3.0, None]),
        (pa.array([Decimal("1.5"), None], pa.decimal32(5, 1)), "c * 2", [Decimal("3.0"), None]),
        (pa.array(["a", "b"]).dictionary_encode(), "upper(c)", ["A", "B"]),
        (pa.array(["a", "b"], pa.string_view()), "upper(c)", ["A", "B"]),
    ],
    ids=str,
)
def test_cells_that_cannot_be_read(array: Any, expression: str, good: list[Any]) -> None:
    """Text that is not UTF-8, and times in no calendar, trouble their own row."""
    batch = pa.RecordBatch.from_arrays([array], ["c"])
    (actual,), failed = Deriver({"v": expression}, batch.schema).apply(batch)
    assert actual.to_pylist() == good
    missing = array.is_null().to_pylist()
    expected = [cell is None and not null for cell, null in zip(good, missing, strict=True)]
    assert failed.get("v", np.array([False, False])).tolist() == expected


def test_lists_of_a_column_without_cells() -> None:
    """A list of nothing is a valid array."""
    batch = pa.RecordBatch.from_arrays([pa.nulls(3)], ["c"])
    deriver = Deriver({"l": "[c, c]", "s": "{'a': [c]}", "n": "c", "m": "l[1]"}, batch.schema)
    arrays, failed = deriver.apply(batch)
    for array in arrays:
        array.validate(full=True)
    assert not failed
    assert arrays[0].to_pylist() == [[None, None]] * 3


@pytest.mark.parametrize(
    "error", [duckdb.InternalException, duckdb.FatalException, pa.ArrowInvalid, MemoryError]
)
def test_errors_that_no_row_is_blamed_for(error: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows are halved until the bad ones stand alone, and the connection is made anew."""
    bad, asked = {3, 4, 11}, []

    def answer(self: Deriver, source: Any, query: str, *, exact: bool) -> Any:
        asked.append(source.num_rows)
        if "* 3" in query and bad & set(source.column(0).to_pylist()):
            raise error(SECRET)
        return whole(self, source, query, exact=exact)

    whole = Deriver._answer
    monkeypatch.setattr(Deriver, "_answer", answer)
    batch = pa.RecordBatch.from_arrays([pa.array(range(16))], ["k"])
    deriver = Deriver({"v": "k * 3", "w": "k + 1"}, batch.schema)
    (threes, more), failed = deriver.apply(batch)
    assert threes.to_pylist() == [None if k in bad else 3 * k for k in range(16)]
    assert more.to_pylist() == list(range(1, 17))
    assert np.flatnonzero(failed["v"]).tolist() == sorted(bad)
    assert set(failed) == {"v"}
    assert len(asked) < 50


def test_a_fatal_error_of_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """After it, DuckDB answers no more, so the next attempt has a connection of its own."""

    class Broken:
        def register(self, *_: Any) -> None:
            raise duckdb.FatalException(SECRET)

    batch = pa.RecordBatch.from_arrays([pa.array([1, 2])], ["k"])
    deriver = Deriver({"v": "k * 3"}, batch.schema)
    deriver._connections[True] = deriver._connections[False] = Broken()
    monkeypatch.setattr(deriver, "_trouble", False)
    (threes,), failed = deriver.apply(batch)
    assert threes.to_pylist() == [3, 6]
    assert not failed


def test_an_interrupt_is_no_bad_row() -> None:
    """An interrupt stops the work; no row is blamed for it."""
    batch = pa.RecordBatch.from_arrays([pa.array(["a" * 300] * 16_000)], ["x"])
    slow = "list_sum(list_transform(string_split(x, ''), lambda q: ascii(md5(x || q))))"
    deriver = Deriver({"v": slow}, batch.schema)
    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        deriver.apply(batch)
    timer.join()


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("x::INT + 'abc'::INT", "fails in every row: Could not convert"),
        ("k + 1 // 0", "fails in every row: Division by zero"),
        ("regexp_extract(x, '(')", r"does not fit the table: missing \)"),
        ("1) FROM (SELECT 1", "must be one SQL expression"),
        ("1) AS a FROM read_csv('f.csv') t(a", "is not a SQL expression"),
        ("1) UNION SELECT (2", "must be one SQL expression"),
        ("1) AS a, (2", "must be one SQL expression"),
        ("COLUMNS('x')", "must be one SQL expression"),
        ("#1", "by name, not by number"),
        ("$1", "by name, not by number"),
        ("x::VARIANT", "uses the type VARIANT"),
        ("x::STRUCT(a VARIANT[])", "uses the type VARIANT"),
        ("json_contains(x, '1')", r"uses json_contains\(\)"),
        ("__internal_decompress_string(k::HUGEINT)", "uses __internal"),
        ("current_localtime()", "differs from run to run"),
        ("current_setting('threads')", "differs from run to run"),
        ("getvariable('x')", "differs from run to run"),
        ("version()", "differs from run to run"),
        ("write_log(x)", "differs from run to run"),
        ("error(x)", "differs from run to run"),
        ("read_text('f.txt')", "use its own row only"),
        ("getenv('HOME')", "does not fit the table"),
        ("st_point(1, 2)", "does not fit the table"),
        ("(" * 900 + "1" + "+1)" * 900, "is not a SQL expression: Max expression depth"),
        ("k" + "+1" * 5000, "SQL expression"),
        ("'\ud800'", "cannot be read as a SQL expression"),
        ("x[1:2:0]", "fails|does not fit|step"),
    ],
)
def test_expressions_that_are_refused(expression: str, words: str) -> None:
    """Files, settings, the clock, other statements and what may end the process are refused."""
    with pytest.raises(MappingError, match=words):
        Deriver({"v": expression}, SCHEMA)


@pytest.mark.parametrize(
    "expression",
    ["CASE WHEN k = 1 THEN 'abc'::INT END", "coalesce(k, 'abc'::INT)", "try_cast('abc' AS INT)"],
)
def test_a_constant_that_may_never_be_reached(expression: str) -> None:
    """A failing constant in a branch is an error of the rows that reach it."""
    (array,), failed = Deriver({"v": expression}, SCHEMA).apply(table([("", 2, "")]))
    assert not failed
    assert array.to_pylist() in ([None], [2])


def test_deeply_nested_cells_end_nothing() -> None:
    """The JSON functions that are allowed read cells of any depth."""
    deep = ["[" * 200_000, "[" * 100_000 + "]" * 100_000, '{"a":' * 50_000 + "1" + "}" * 50_000]
    schema = pa.schema([("x", pa.string())])
    batch = pa.RecordBatch.from_arrays([pa.array(deep)], schema=schema)
    for expression in (
        "x::JSON", "x->>'$.a'", "json_structure(x)", "json_type(x)", "x::JSON::INT[]", "json(x)",
        "json_merge_patch(x, x)", "json_keys(x)", "from_json(x, '[\"JSON\"]')", "x::VARCHAR[]",
    ):  # fmt: skip
        (array,), _ = Deriver({"v": expression}, schema).apply(batch)
        assert len(array) == 3


def test_what_is_not_needed_troubles_no_row() -> None:
    """A new column that is in no message is not computed."""
    columns = {"n": ["1", SECRET]}
    messages = built(columns, derive={"v": "n::INT", "w": "upper(n)"}, drop=["v"])
    assert codes(messages) == {}
    assert properties(columns, derive={"v": "n::INT"}, rest="drop") == [{}, {}]
    assert codes(built(columns, derive={"v": "n::INT", "w": "v + 1"}, drop=["v"])) == {
        1: ["derive_failed"]
    }


def test_no_cell_is_shown(box: Any, caplog: pytest.LogCaptureFixture, tmp_path: Any) -> None:
    """Plans, runs and logs of failing expressions hold no cell, and the counts agree."""
    cells = ['{"b": 1}', SECRET + " {", '{"b": "' + SECRET + '"}', None]
    path = tmp_path / "rows.ndjson"
    rows = [{"uid": "a", "ts": "2023-05-01T10:00:00Z", "x": cell} for cell in cells]
    path.write_text("\n".join(map(json.dumps, rows)))
    derive = {"v": "coalesce(x::JSON->>'$.b', x::JSON->>'$.c')::INT"}
    for source in (opens(4, x=cells), path):
        with caplog.at_level(logging.DEBUG):
            plan = cdp.plan(source, OPENED, derive=derive, destination=box.destination)
            report = plan.send(progress=False, journal=False)
        assert plan.counts["invalid"] == report.counts["invalid"] == 2
        assert report.counts["delivered"] == 2
        assert report.by_reason()["code"].tolist() == ["derive_failed"]
        shown = (
            f"{report!r}{report._repr_html_()}{report.by_reason()}{report.failures['cdp_reason']}"
        )
        assert SECRET not in shown + caplog.text


def test_another_chunking_gives_the_same_ids(box: Any) -> None:
    """The rows of a table that fails in places have the ids that they have alone."""
    frame = opens(60, x=['{"b": "1"}', "cut {", '{"c": "2"}'] * 20)
    derive = {"v": "coalesce(x::JSON->>'$.b', x::JSON->>'$.c')"}
    options: dict[str, Any] = {"derive": derive, "destination": box.destination}
    frame.cdp.send(OPENED, progress=False, journal=False, **options)
    stored = box.events().set_index("userId")["messageId"].to_dict()
    assert len(stored) == 40
    parts = pd.concat([frame[number : number + 1] for number in (0, 2, 3, 59)])
    for message in parts.cdp.messages(4, OPENED, derive=derive):
        assert message["messageId"] == stored[message["userId"]]

"""The memory of an expression is bounded before it is computed, by the sizes of the row's cells."""

from __future__ import annotations

import json
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdp_backfill.errors import MappingError
from cdp_backfill.messages import deriving
from cdp_backfill.messages.cell_sizes import cell_sizes
from cdp_backfill.messages.deriving import Deriver
from cdp_backfill.messages.expression_sizes import of_column
from cdp_backfill.messages.expressions import checked_columns

SCHEMA = pa.schema(
    [
        ("s", pa.string()),
        ("p", pa.string()),
        ("k", pa.int64()),
        ("l", pa.list_(pa.int64())),
        ("tags", pa.list_(pa.string())),
    ]
)

TEXTS = st.recursive(
    st.sampled_from(["s", "p", "'ab\"c'", "k::VARCHAR", "l::VARCHAR", "tags::TEXT", "tags[1]"]),
    lambda inner: st.one_of(
        st.builds("({} || {})".format, inner, inner),
        st.builds("concat_ws({}, {}, {})".format, inner, inner, inner),
        st.builds("CASE WHEN k > 2 THEN {} ELSE {} END".format, inner, inner),
        st.builds(
            "{}({})".format,
            st.sampled_from(
                ["upper", "trim", "reverse", "md5", "url_encode", "hex", "regexp_escape", "to_json"]
            ),
            inner,
        ),
        st.builds("replace({}, 'a', 'xyz')".format, inner),
        st.builds("regexp_replace({}, '[a-c]*', '<\\0\\0>', 'g')".format, inner),
        st.builds("lpad({}, 40, 'é')".format, inner),
        st.builds("format('{{0}}{{0:>30}}{{1}}', {}, {})".format, inner, inner),
        st.builds("array_to_string(string_split({}, ''), '-+-')".format, inner),
        st.builds("array_to_string(list_transform(tags, lambda x: x || {}), '')".format, inner),
        st.builds("list_reduce(tags, lambda a, b: a || {} || b)".format, inner),
        st.builds("list_reduce(tags, lambda a, b: b || a, {})".format, inner),
        st.builds("(list_transform(l, lambda x: {{'name': {}, 'x': x}}))::TEXT".format, inner),
        st.builds("array_to_string(list_resize([{}], 7, {}), ',')".format, inner, inner),
        st.builds("array_to_string(list_select([{}], [1, 1, 1]), '-')".format, inner),
        st.builds("list_zip(string_split({}, ','), l)::TEXT".format, inner),
        st.builds("invoke(lambda x: x || x, {})".format, inner),
        st.builds("array_to_string([x || {} for x in tags if x <> p], '')".format, inner),
        st.builds("to_json(json_object('a', {}, 'b', l))::TEXT".format, inner),
        st.builds("json_extract(to_json([tags, [{}]]), '$..*')::TEXT".format, inner),
        st.builds("map([{}], [tags])::TEXT".format, inner),
        st.builds("coalesce(nullif({}, p), s)".format, inner),
    ),
    max_leaves=6,
)
REFUSALS = ("fails in every row", "can grow by a factor", "can make more than")
CELLS = st.text('ab,"\\é ', max_size=12)
ROWS = st.fixed_dictionaries(
    {
        "s": CELLS,
        "p": CELLS,
        "k": st.integers(-5, 10**15),
        "l": st.lists(st.integers(-5, 10**15), max_size=6),
        "tags": st.lists(CELLS, max_size=6),
    }
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TEXTS, ROWS)
def test_no_value_is_larger_than_its_bound(expression: str, row: dict[str, Any]) -> None:
    """Whatever functions and lambdas are put into each other."""
    batch = pa.RecordBatch.from_pylist([row], schema=SCHEMA)
    columns = {item.name: of_column(item.name, item.type) for item in SCHEMA}
    with duckdb.connect() as connection:
        try:
            _, estimate = checked_columns(connection, "x", expression, columns)
        except MappingError as error:
            if any(words in str(error) for words in REFUSALS):
                return
            raise
        connection.register("rows", batch)
        relation = connection.table("rows").project(f"TRY({expression})::VARCHAR")
        made = relation.to_arrow_table().column(0).combine_chunks()
    sizes = {name: cell_sizes(batch.column(name)) for name in SCHEMA.names}
    (size,), (cost,) = estimate.size.at(sizes, 1), estimate.cost.at(sizes, 1)
    assert cell_sizes(made)[0] <= size <= cost, expression


@pytest.mark.parametrize(
    "expression",
    [
        "len(list_transform(l, lambda x: s || x::TEXT))",
        "list_sum(list_transform(l, lambda x: length(s || x::TEXT)))",
        "len(list_filter(l, lambda x: contains(s || x::TEXT, 'z')))",
        "len([upper(s) for x in l])",
        "length(list_reduce(l::TEXT[], lambda a, b: a || b || s))",
        "list_reduce(l, lambda a, b: a + length(list_transform(l, lambda x: s)))",
        "len(list_transform(l, lambda x: [s, s]))",
        "len(list_transform(l, lambda x: {'a': s}))",
        "len(list_transform(l, lambda x: list_transform(l, lambda y: x * y)))",
        "length(array_to_string(list_select([s], list_transform(l, lambda x: 1)), ''))",
        "length(array_to_string(list_resize([s], 10000, s), ''))",
        "length(concat_ws(s, l::TEXT[]))",
        "length(regexp_extract(s, '((.*))', ['a', 'b'])::TEXT || repeat_of)",
        "length(json_extract('[' || s || ']', '$..*')::TEXT)",
    ],
)
def test_a_row_that_could_make_too_much_fails_alone(
    expression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also beside a row in which another expression fails. It is never computed."""
    monkeypatch.setattr(deriving, "MAX_MEMORY", 32 * 2**20)
    repeat = {"repeat_of": "array_to_string(list_transform(l, lambda x: s), '')"}
    large = {"s": "1," * 10_000 + "1", "p": "no", "k": 1, "l": [1] * 20_000, "tags": ["a"]}
    small = {"s": "1", "p": "2", "k": 2, "l": [1, 2], "tags": [" A", "b"]}
    batch = pa.RecordBatch.from_pylist([small, large, small | {"p": "x"}, small], schema=SCHEMA)
    deriver = Deriver(repeat | {"d": expression, "n": "p::INT"}, SCHEMA, only=["d", "n"])
    columns, failed = deriver.apply(batch)
    arrays = dict(zip([item.name for item in deriver.fields], columns, strict=True))
    assert failed["d"].tolist() == [False, True, False, False]
    assert failed["n"].tolist() == [False, True, True, False]
    assert arrays["d"].is_valid().to_pylist() == [True, False, True, True]
    assert arrays["n"].to_pylist() == [2, None, None, 2]


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("list_reduce(tags, lambda a, b: a || a || b)", "can grow by a factor at each item"),
        ("NULL::INTEGER[100000][100000]", "can make more than 512 MB of every row"),
        ("[k]::INTEGER[90000][90000]", "can make more than 512 MB of every row"),
        ("equi_width_bins(0, k, 1000000, false)", "Write its size as a number of up to 10,000"),
        ("list_transform(l, x -> x + k)", "Deprecated lambda arrow"),
    ],
)
def test_what_no_row_can_afford(expression: str, words: str) -> None:
    """It is refused before a row is read."""
    with pytest.raises(MappingError, match=words):
        Deriver({"x": expression}, SCHEMA)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("list_transform(tags, lambda t: lower(trim(t)))", ["a", "b"]),
        ("list_filter(tags, lambda t: t <> p)", [" A"]),
        ("list_transform(tags, lambda t, i: p || ':' || t || i)", ["b: A1", "b:b2"]),
        ("[upper(t) for t in tags if t <> s]", [" A", "B"]),
        ("list_reduce(tags, lambda a, b: a || ',' || b)", " A,b"),
        ("list_reduce(l, lambda a, b: a + b, 5)", 15),
        ("list_transform(l, lambda x: 'n')", ["n", "n", "n", "n"]),
        ("list_transform(tags, lambda p: p) || [p]", [" A", "b", "b"]),
        ("array_to_string(list_transform(l, lambda x: x + k), '/')", "4/5/6/7"),
    ],
)
def test_everyday_lambdas(
    expression: str, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are computed for all rows of a chunk, and for lists of hundreds of items."""
    monkeypatch.setattr(deriving, "MAX_MEMORY", 128 * 2**20)
    row = {"s": "x", "p": "b", "k": 3, "l": [1, 2, 3, 4], "tags": [" A", "b"]}
    long = {**row, "l": list(range(800)), "tags": ["a tag of twenty chars"] * 300}
    batch = pa.RecordBatch.from_pylist([row] * 999 + [long], schema=SCHEMA)
    (array,), failed = Deriver({"x": expression}, SCHEMA).apply(batch)
    assert failed == {}
    assert array[0].as_py() == expected
    assert array[999].is_valid


def test_columns_in_lambdas() -> None:
    """The names that a lambda gives hide columns inside of it, and nowhere else."""
    with duckdb.connect() as connection:
        expression = "len(list_transform(l, lambda s, i: s + i + k)) || s || S"
        counted, _ = checked_columns(connection, "x", expression)
    assert counted == {"l": 1, "k": 1, "s": 1, "S": 1}


def test_cell_sizes() -> None:
    """Each value counts at least 16 bytes, and texts count their bytes."""
    cells = {
        "text": pa.array(["é", None]),
        "lists": pa.array([[["a"], []], None]),
        "fixed": pa.array([[1, 2], None], pa.list_(pa.int8(), 2)),
        "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
        "struct": pa.array([{"a": "b", "n": 1}, None]),
        "bytes": pa.array([b"abc", None], pa.large_binary()),
    }
    sizes = {name: cell_sizes(array).tolist() for name, array in cells.items()}
    assert sizes == {
        "text": [18, 16],
        "lists": [16 + 16 + 17 + 16, 16],
        "fixed": [48, 16],
        "map": [16 + 17 + 16, 16],
        "struct": [16 + 17 + 16, 16 + 16 + 16],
        "bytes": [19, 16],
    }
    part = pa.array([["ab"], None, ["c", "d"], []]).slice(2)
    assert cell_sizes(part).tolist() == [50, 16]
    assert np.isfinite(cell_sizes(pa.array([{"a": json.dumps([])}]))).all()

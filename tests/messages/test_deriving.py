"""Derived, expanded and JSON columns."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill import Mapping, MappingError
from cdp_backfill.inference.proposal import Proposal
from cdp_backfill.messages import json_cells
from cdp_backfill.messages.deriving import Deriver
from cdp_backfill.messages.expressions import columns_of
from cdp_backfill.pipeline.prepared_source import PreparedSource
from cdp_backfill.sources import open_source
from tests.rows import OPENED, built, codes, opens, payloads, properties

SCHEMA = pa.schema([("info", pa.string()), ("n", pa.string()), ("k", pa.int64())])


def derived(derive: dict[str, str], **columns: list[Any]) -> dict[str, list[Any]]:
    """The new columns of a table."""
    table = pa.table(columns, schema=pa.schema([SCHEMA.field(name) for name in columns]))
    deriver = Deriver(derive, table.schema)
    arrays, _ = deriver.apply(table.to_batches()[0])
    return {
        item.name: (array.storage if item.type == pa.json_() else array).to_pylist()
        for item, array in zip(deriver.fields, arrays, strict=True)
    }


def test_expressions_use_columns_and_each_other() -> None:
    """JSON paths, casts, constants, and a column that was derived before."""
    actual = derived(
        {
            "uid": "info->>'$.user.id'",
            "upper": "upper(uid)",
            "twice": "n::INT * k",
            "same": "'x'  -- a comment",
        },
        info=['{"user": {"id": "ada"}}', "{}", None],
        n=["1", None, "3"],
        k=[2, 3, 4],
    )
    assert actual == {
        "uid": ["ada", None, None],
        "upper": ["ADA", None, None],
        "twice": [2, None, 12],
        "same": ["x", "x", "x"],
    }


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("infos->>'$.a'", "names 'infos', which is not a column.* Did you mean 'info'"),
        ("1 +", "is not a SQL expression: syntax error"),
        ("*", "must be one SQL expression"),
        ("1; SELECT 2", "is not a SQL expression"),
        ("now()", r"uses now\(\), whose result differs from run to run"),
        ("random()", "result differs from run to run"),
        ("current_date", "not a column of the table"),
        ("sum(k)", r"use its own row only; sum\(\) reads more"),
        ("(SELECT 1)", "without a subquery or window"),
        ("row_number() OVER ()", "without a subquery or window"),
        ("read_csv('x')", "use its own row only"),
        ("nosuch(n)", "does not fit the table"),
        ("k - DATE '2023-01-01'", "does not fit the table"),
        (" ", "is empty"),
    ],
)
def test_what_is_no_expression_over_one_row(expression: str, words: str) -> None:
    """Other rows, the clock, chance and files are refused before anything is read."""
    with pytest.raises(MappingError, match=words):
        Deriver(Mapping(derive={"x": expression}).derive, SCHEMA)


def test_names_that_exist_already() -> None:
    """SQL knows no letter case: a new name that differs in it alone would hide a column."""
    with pytest.raises(MappingError, match="already has a column 'info'"):
        Deriver({"INFO": "1"}, SCHEMA)


def test_columns_of() -> None:
    """Names of columns, where the arrow of JSON is not that of a function."""
    assert columns_of("a->>'$.x' || b.c") == {"a", "b"}
    assert columns_of("a::JSON->'$.x'") == {"a"}
    assert columns_of("a -> '$.x'") == {"a"}
    assert columns_of("list_filter(a, lambda x: x > b)") == {"a", "b"}


def test_a_cell_at_which_an_expression_fails() -> None:
    """Only its row is invalid, whatever else reads the same cell; the error shows no value."""
    columns = {"info": ['{"a": "x"}', "oops", None], "n": ["1", "2", "secret"]}
    messages = built(
        columns,
        derive={"a": "info->>'$.a'", "b": "info->>'$.b'", "c": "n::INT"},
        properties={"a": "a", "c": "c"},
    )
    assert codes(messages) == {1: ["derive_failed", "derive_failed"], 2: ["derive_failed"]}
    assert payloads(messages)[0]["properties"] == {"a": "x", "c": 1}
    reasons = [problem.reason for problem, _ in messages.problems.counts()]
    assert "the expression in derive['a'] fails" in reasons
    assert "secret" not in str(reasons)


def test_what_feeds_an_expression_is_no_property() -> None:
    """A column that was used up is not sent once more; the new one is."""
    actual = properties({"info": ['{"a": "x"}'], "other": [1]}, derive={"a": "info->>'$.a'"})
    assert actual == [{"a": "x", "other": 1}]


def test_who_what_and_when_can_be_derived() -> None:
    """The guard against recent rows sees derived times as well."""
    frame = pd.DataFrame({"who": ["a", "b"], "s": ["20230501", "20991231"]})
    mapping = Mapping(
        user_id="who",
        event=cdp.lit("Application Opened"),
        timestamp="at",
        derive={"at": "strptime(s, '%Y%m%d')"},
    )
    assert frame.cdp.plan(mapping).counts["invalid"] == 1
    with pytest.raises(cdp.RecentRowsError):
        frame[:1].cdp.send(
            mapping,
            now=pd.Timestamp("2023-05-02", tz="UTC").to_pydatetime(),
            destination=cdp.Destination(api_key="k", base_url="http://127.0.0.1:1/v1"),
        )


def test_expanded_parts_and_named_properties() -> None:
    """A part does not replace a property of its name, which is counted, nor loses its type."""
    messages = built(
        {"p": ['{"plan": "free", "n": 1, "version": 2}', '{"n": "x"}', "{}"], "plan": ["pro"] * 3},
        expand=["p"],
    )
    assert [message.get("properties") for message in payloads(messages)] == [
        {"plan": "pro", "n": 1, "version": "2"},
        {"plan": "pro", "n": "x"},
        {"plan": "pro"},
    ]
    assert {fix.code: cells for fix, cells in messages.problems.fixes.items()} == {
        "expanded": 3,
        "json_text": 3,
        "name_taken": 1,
    }


@pytest.mark.parametrize(
    "kind",
    [pa.int64(), pa.float32(), pa.decimal128(9, 2), pa.list_(pa.int64()), pa.timestamp("us")],
)
def test_what_has_no_parts(kind: Any) -> None:
    """Numbers, plain lists and times cannot be expanded, which is said before anything else."""
    with pytest.raises(MappingError, match="expand= cannot be used with column 'p'"):
        built({"p": pa.array([None], kind)}, expand=["p"])


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


def plain(value: Any) -> Any:
    """What a JSON value is sent as: no nulls and no empty objects, mixed lists as text."""
    if isinstance(value, dict):
        kept = {name: plain(child) for name, child in value.items()}
        kept = {name: child for name, child in kept.items() if child is not None}
        return kept or None
    if isinstance(value, list):
        kind = json_cells._kind(value)
        if kind.endswith("mixed"):
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        if kind == "list of float":
            return [None if item is None else float(item) for item in value]
        return [plain(item) for item in value]
    return value


@given(st.lists(st.dictionaries(st.text(max_size=3), values, max_size=4), max_size=5))
def test_json_of_any_shape(objects: list[dict[str, Any]]) -> None:
    """Objects that mix kinds under one name arrive as they are, whatever their neighbours."""
    cells = [json.dumps(item) for item in objects]
    got = [item.get("j") for item in properties({"j": pa.array(cells, pa.string())}, json=["j"])]
    for value, item, cell in zip(got, objects, cells, strict=True):
        if json_cells._has_zero_names(item):
            assert value == cell
        else:
            assert _text(value) == _text(plain(item))


def _text(value: Any) -> Any:
    """With lists that were mixed as parsed JSON, since spaces and digits may differ."""
    if isinstance(value, dict):
        return {name: _text(child) for name, child in value.items()}
    if isinstance(value, list):
        return [_text(item) for item in value]
    if isinstance(value, str) and value[:1] == "[":
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


@given(st.lists(st.dictionaries(st.text(max_size=3), values, max_size=4), min_size=1, max_size=5))
def test_ids_of_json_do_not_depend_on_neighbours(objects: list[dict[str, Any]]) -> None:
    """A row has the same id alone as among others."""
    cells = [json.dumps(item) for item in objects]
    together = payloads(built({"j": pa.array(cells, pa.string())}, json=["j"]))
    for number, cell in enumerate(cells):
        alone = built({"j": [cell], "uid": [f"u{number}"]}, json=["j"])
        assert payloads(alone)[0]["messageId"] == together[number]["messageId"]


def test_objects_with_names_of_their_own_take_bounded_memory(box: Any, tmp_path: Any) -> None:
    """Where each row has a hundred other names, fewer rows are taken at a time; none is lost."""
    rows = 600
    cells = [json.dumps({f"{row}-{number}": 1 for number in range(100)}) for row in range(rows)]
    frame = opens(rows, p=cells)
    prepared_source = PreparedSource(
        open_source(frame),
        Proposal(replace(OPENED, expand=["p"])),
        recent="send",
        context_scope="message",
        now=None,
    )
    parts = list(prepared_source.chunks(prepared_source.binding.columns))
    assert sum(chunk.batch.num_rows for chunk, _ in parts) == rows
    assert max(100 * chunk.batch.num_rows**2 for chunk, _ in parts) <= json_cells.MAX_CELLS
    report = frame.cdp.send(
        OPENED,
        expand=["p"],
        destination=box.destination,
        progress=False,
        canary=599,
        journal=tmp_path / "j",
    )
    assert report.counts["delivered"] == 599
    assert len(box.events()["properties"][7]) == 100


def test_json_columns_of_arrow() -> None:
    """Columns that are known to be JSON are sent as what they say, and can be ids as well."""
    cells = pa.ExtensionArray.from_storage(
        pa.json_(pa.string()), pa.array(['{"a": 1}', '"u7"', "7", None])
    )
    assert [item.get("j") for item in properties({"j": cells})] == [{"a": 1}, "u7", 7, None]
    mapping = Mapping(**{**OPENED.to_dict(), "event": OPENED.event, "user_id": "j"})
    messages = built({"j": cells, "uid": ["x"] * 4}, mapping)
    assert codes(messages) == {0: ["bad_user"], 3: ["missing_user"]}


def test_failures_of_nested_columns_are_sent_again_as_they_are(box: Any, tmp_path: Any) -> None:
    """Lists and JSON come back in failures as what they were, and so does the message id."""
    path = tmp_path / "rows.json"
    rows = [{"uid": "u1", "ts": "2023-05-01T10:00:00Z", "p": {"a": [1, 2]}, "m": [1, "x"]}]
    path.write_text("\n".join(map(json.dumps, rows)))
    box.set_faults(refuse_users=["u1"])
    options: dict[str, Any] = {"destination": box.destination, "progress": False, "journal": False}
    report = cdp.send(path, OPENED, **options)
    assert report.counts["refused"] == 1
    box.set_faults()
    again = report.failures.cdp.send(destination=box.destination, progress=False)
    assert again.counts["delivered"] == 1
    stored = box.events()
    assert stored["properties"][0] == {"p": {"a": [1, 2]}, "m": '[1,"x"]'}
    assert stored["messageId"][0] == report.failures["cdp_message_id"][0]


def test_a_frame_with_mixed_numbers_in_a_derived_table(box: Any) -> None:
    """A plan and a run agree about derived and expanded columns."""
    frame = opens(3, info=['{"a": 1}', '{"a": "x"}', "oops"])
    plan = frame.cdp.plan(
        OPENED, derive={"j": "info::JSON"}, expand=["j"], destination=box.destination
    )
    assert plan.counts == {"to_send": 2, "invalid": 1, "held": 0, "skipped": 0}
    report = plan.send(progress=False)
    assert report.counts["delivered"] == 2
    assert [item["a"] for item in box.events()["properties"]] == [1, "x"]


@pytest.mark.parametrize(
    "expression",
    [
        "lpad(n, 2000000000, '0')",
        "rpad(n, length(n), '0')",
        "bar(1, 0, 10, 1e9)",
        "list_resize([n], 10 * 1000000000)",
        "printf('%2000000000d', 1)",
        "printf(n, 1)",
        "format('{:{}}', n, 5)",
        "upper(lpad(lpad(n, 5, '0'), 99999, '0'))",
    ],
)
def test_no_result_is_huge(expression: str) -> None:
    """A size that a cell decides, or a huge one, is refused before a row is read."""
    frame = opens(1, n="7")
    with pytest.raises(MappingError, match=r"derive\['x'\] uses \w+\(\)\. Write its "):
        frame.cdp.plan(OPENED, derive={"x": expression})


def test_results_of_a_stated_size_are_made() -> None:
    """Ids can be filled up with zeros, and numbers formatted."""
    derive = {"x": "lpad(n, 5, '0') || format('{:>4}', n) || printf('%3d', 1)"}
    (message,) = opens(1, n="7").cdp.messages(1, OPENED, derive=derive)
    assert message["properties"]["x"] == "00007   7  1"

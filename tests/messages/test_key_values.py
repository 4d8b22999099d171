"""Lists of keys and values, as in GA4's exports."""

from __future__ import annotations

import csv
import json
import math
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp_backfill.api import messages
from tests.rows import OPENED, properties

if TYPE_CHECKING:
    from pathlib import Path

GA4 = pa.struct(
    [
        ("string_value", pa.string()),
        ("int_value", pa.int64()),
        ("float_value", pa.float64()),
        ("double_value", pa.float64()),
        ("set_timestamp_micros", pa.int64()),
    ]
)
AS_TEXT = ("int_value", "set_timestamp_micros")
LISTS = pa.list_(pa.struct([("key", pa.string()), ("value", GA4)]))

values = st.fixed_dictionaries(
    {},
    optional={
        "string_value": st.none() | st.text(max_size=4),
        "int_value": st.none() | st.integers(-(2**63), 2**63 - 1),
        "float_value": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "double_value": st.none() | st.floats(allow_infinity=False),
        "set_timestamp_micros": st.none() | st.integers(0, 2**50),
    },
)
items = st.fixed_dictionaries(
    {}, optional={"key": st.none() | st.sampled_from(["plan", "n", "", "é"]), "value": values}
)
cells = st.none() | st.lists(items.filter(lambda item: "key" in item), max_size=4)


def exported(cell: Any, *, nulls: bool) -> Any:
    """A list as BigQuery exports it to JSON: 64-bit integers and NaN as text, nulls left out."""
    if cell is None:
        return None
    result = []
    for item in cell:
        value = {}
        for name, part in item.get("value", {}).items():
            if part is not None and (
                name in AS_TEXT or (isinstance(part, float) and math.isnan(part))
            ):
                value[name] = {"nan": "NaN"}.get(str(part), str(part))
            elif nulls or part is not None:
                value[name] = part
        result.append({"key": item["key"], **({"value": value} if "value" in item else {})})
    return result


def sent(source: Any) -> list[dict[str, Any]]:
    """The messages with their ids."""
    return messages(source, 10, OPENED, expand=["p"])


@given(st.lists(cells, min_size=1, max_size=4), st.booleans())
def test_json_csv_and_arrow_give_the_same(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], nulls: bool
) -> None:
    """Values, bytes and ids, with null or missing members, numbers as text, and repeated keys."""
    folder = tmp_path_factory.mktemp("rows")
    base = {"uid": [f"u{n}" for n in range(len(rows))], "ts": ["2023-05-01T10:00:00Z"] * len(rows)}
    whole = sent(pa.table(base | {"p": pa.array(rows, LISTS)}))
    texts = [None if cell is None else exported(cell, nulls=nulls) for cell in rows]
    lines = [
        {"uid": u, "ts": base["ts"][0], "p": p} for u, p in zip(base["uid"], texts, strict=True)
    ]
    (folder / "p.ndjson").write_text("\n".join(map(json.dumps, lines)))
    assert sent(folder / "p.ndjson") == whole
    dumped = [None if text is None else json.dumps(text) for text in texts]
    assert sent(pa.table(base | {"p": pa.array(dumped, pa.string())})) == whole
    with (folder / "p.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["uid", "ts", "p"])
        writer.writerows(zip(base["uid"], base["ts"], dumped, strict=True))
    assert sent(folder / "p.csv") == whole


CASES: list[tuple[Any, dict[str, Any]]] = [
    ([{"key": "a", "value": {"int_value": "5"}}], {"a": 5}),
    ([{"key": "a", "value": {"int_value": "-9223372036854775808"}}], {"a": -(2**63)}),
    ([{"key": "a", "value": {"int_value": "9223372036854775808"}}], {"a": "9223372036854775808"}),
    ([{"key": "a", "value": {"int_value": "05"}}], {"a": "05"}),
    ([{"key": "a", "value": {"double_value": "1.5"}}], {"a": 1.5}),
    ([{"key": "a", "value": {"double_value": "NaN", "string_value": None}}], {}),
    ([{"key": "a", "value": {"string_value": "5"}}], {"a": "5"}),
    ([{"key": "a", "value": {"string_value": "", "int_value": "5"}}], {"a": ""}),
    ([{"key": "a", "value": {"double_value": 1.5, "int_value": 5}}], {"a": 5}),
    ([{"key": "a", "value": {}}, {"key": "b"}, None], {}),
    ([{"key": "a", "value": "x"}, {"key": "b", "value": 7}], {"a": "x", "b": 7}),
    ([{"key": "a", "value": "x", "type": "t"}, {"key": "b", "type": "t"}], {"a": "x"}),
    ([{"key": "a", "string_value": "x", "note": "y"}], {"a": "x"}),
    ([{"key": "a", "value": "x"}, {"key": "a", "value": None}], {"a": "x"}),
    (
        [{"key": "a", "value": {"string_value": "x"}}, {"key": "a", "value": {"int_value": "1"}}],
        {"a": 1},
    ),
    ([{"key": "a", "value": {"b": 1, "c": 2}}], {"a": {"b": 1, "c": 2}}),
    ([{"key": "a", "value": [1, 2]}], {"a": [1, 2]}),
    ([{"key": 7, "value": "x"}], {"7": "x"}),
    ([{"value": "x"}, {"key": "a", "value": "y"}], {"a": "y"}),
    ([], {}),
]


@pytest.mark.parametrize(("cell", "expected"), CASES, ids=map(str, range(len(CASES))))
def test_all_forms(cell: Any, expected: dict[str, Any]) -> None:
    """JSON text, and where Arrow has a type for it the struct, give the same properties."""
    text = pa.array([json.dumps(cell)], pa.string())
    assert properties({"p": text}, expand=["p"]) == [expected]
    try:
        array = pa.array([cell])
    except pa.ArrowInvalid:
        return
    if pa.types.is_struct(array.type.value_type):
        assert properties({"p": array}, expand=["p"]) == [expected]


@pytest.mark.parametrize(
    "cell", [[1, 2], [{"a": 1}], [{"key": True, "value": 1}], [{"key": "a"}, 7], [{}]]
)
def test_other_lists_stay_lists(cell: Any) -> None:
    """A list of something else is no list of keys: it keeps the name of its column."""
    (actual,) = properties({"p": pa.array([json.dumps(cell)], pa.string())}, expand=["p"])
    assert list(actual) == (["p"] if any(cell) else [])


def test_frames_of_python_objects(tmp_path: Path) -> None:
    """A frame read by pandas from an exported file gives the ids of the file."""
    cell = [
        {"key": "n", "value": {"int_value": "5", "string_value": None}},
        {"key": "plan", "value": {"string_value": "pro"}},
    ]
    row = {"uid": "a", "ts": "2023-05-01T10:00:00Z", "p": cell}
    path = tmp_path / "p.ndjson"
    path.write_text(json.dumps(row))
    assert sent(path) == sent(pd.DataFrame([row]))
    assert sent(path)[0]["properties"] == {"n": 5, "plan": "pro"}

"""A cell of a text file means the same in every file: its type is kept in the mapping."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill import Mapping
from cdp_backfill.api import messages as preview
from tests.rows import OPENED

if TYPE_CHECKING:
    from pathlib import Path

cells = st.one_of(
    st.sampled_from(["", "0", "7", "007", "-0", "1.5", "1.10", "1e3", "true", "False", "x", "1 "]),
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(-1000, 1000, places=3).map(str),
)
tables = st.lists(st.tuples(cells, cells), min_size=2, max_size=12)


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["uid", "ts", "a", "b"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_json(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as NDJSON, where a cell that is a number or a truth value is one."""
    lines = []
    for row in rows:
        values = {
            name: cell if name in ("uid", "ts") else _value(cell) for name, cell in row.items()
        }
        lines.append(json.dumps(values))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _value(cell: str) -> Any:
    try:
        return json.loads(cell)
    except ValueError:
        return cell or None


def messages(path: Path, mapping: Mapping) -> dict[str, dict[str, Any]]:
    """The messages of a file by user."""
    return {message["userId"]: message for message in preview(path, 100, mapping)}


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=tables, keep=st.lists(st.booleans(), min_size=12, max_size=12), ndjson=st.booleans())
def test_a_row_has_the_same_id_in_another_file(
    rows: list[tuple[str, str]], keep: list[bool], ndjson: bool, tmp_path: Path
) -> None:
    """Under the mapping of the whole table, any subset in any order gives the same messages."""
    whole = [
        {"uid": f"u{n}", "ts": f"2023-05-01T10:00:{n:02d}Z", "a": one, "b": other}
        for n, (one, other) in enumerate(rows)
    ]
    some = [row for row, kept in zip(whole, keep, strict=False) if kept][::-1] or whole[:1]
    write = write_json if ndjson else write_csv
    name = "json" if ndjson else "csv"
    first = write(tmp_path / f"whole.{name}", whole)
    plan = cdp.plan(first, mapping=OPENED)
    expected = messages(first, plan.mapping)
    actual = messages(write(tmp_path / f"some.{name}", some), plan.mapping)
    assert actual.keys() <= expected.keys()
    assert {user: expected[user] for user in actual} == actual


def test_a_mapping_keeps_the_types(tmp_path: Path) -> None:
    """A plan fills the types in; saved and loaded, they are the same; frames have none."""
    rows = [
        {"uid": "a", "ts": "2023-05-01T10:00:00Z", "a": "1", "b": "0.5"},
        {"uid": "b", "ts": "2023-05-01T10:00:01Z", "a": "2", "b": "0.25"},
    ]
    plan = cdp.plan(write_csv(tmp_path / "one.csv", rows), mapping=OPENED)
    assert plan.mapping.types == {"a": "int64", "b": "double"}
    assert Mapping.from_toml(plan.mapping.to_toml()) == plan.mapping
    rows[0]["a"] = rows[0]["b"] = "x"
    all_text = cdp.plan(write_csv(tmp_path / "two.csv", rows[:1]), mapping=OPENED).mapping
    assert all_text.types == {}
    assert Mapping.from_toml(all_text.to_toml()).types == {}
    path = write_csv(tmp_path / "three.csv", rows)
    by_user = messages(path, plan.mapping)
    assert by_user["a"]["properties"] == {"a": "x", "b": "x"}
    assert by_user["b"]["properties"] == {"a": 2, "b": 0.25}
    assert messages(path, all_text)["b"]["properties"] == {"a": "2", "b": "0.25"}


@pytest.mark.parametrize("types", [["a"], {"a": "int32"}, {1: "bool"}, "a"])
def test_types_that_are_none(types: Any) -> None:
    """What is no dict of columns to types is refused."""
    with pytest.raises(cdp.MappingError, match="types must"):
        Mapping(types=types)

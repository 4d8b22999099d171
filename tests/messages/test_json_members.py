"""Fields of JSON objects, named by a path, wherever objects are held."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill import Mapping, MappingError, lit
from cdp_backfill.api import messages
from cdp_backfill.messages.json_members import split_members
from cdp_backfill.messages.paths import find_path, paths_of
from tests.sending import counts, send

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMES = st.sampled_from(["a", "b", "a.b", "", ".", "c"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**65) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(".".join)


def _ways(path: str, value: Any) -> list[tuple[str, ...]]:
    """All ways down a dict that a path can mean, the longest first name first."""
    if not isinstance(value, dict):
        return []
    parts = path.split(".")
    found: list[tuple[str, ...]] = []
    for size in range(len(parts), 0, -1):
        name, below = ".".join(parts[:size]), ".".join(parts[size:])
        if name in value:
            found += [(name, *way) for way in _ways(below, value[name])] if below else [(name,)]
    return found


def _without(value: Any, ways: list[tuple[str, ...]]) -> Any:
    """A dict without the ends of some ways; None if these were all that it had."""
    kept = {}
    for name, inner in value.items():
        below = [way[1:] for way in ways if way[0] == name]
        if () in below:
            continue
        left = _without(inner, below) if below else inner
        if not below or left is not None:
            kept[name] = left
    return kept or None


def _at(value: Any, way: tuple[str, ...] | None) -> Any:
    for name in way or ():
        value = value[name]
    return value if way else None


@given(st.lists(VALUES, min_size=1, max_size=4), st.lists(PATHS, max_size=3, unique=True))
def test_members_are_what_the_same_keys_read_from_dicts(
    values: list[Any], paths: list[str]
) -> None:
    """Any JSON, any paths: their values, and what is left, as with plain dicts."""
    array = pa.array([json.dumps(value) for value in values])
    found, left = split_members(array, paths, paths)
    for path, column in zip(paths, found, strict=True):
        cells = [None if cell is None else json.loads(cell) for cell in column.storage.to_pylist()]
        assert cells == [_at(value, next(iter(_ways(path, value)), None)) for value in values]
    for cell, value in zip(left.to_pylist(), values, strict=True):
        ways = [way for path in paths if (way := next(iter(_ways(path, value)), None))]
        rest = _without(value, ways) if ways else value
        assert (None if cell is None else json.loads(cell)) == rest


@given(st.lists(st.binary(max_size=6) | st.just(b'{"a":"\xff"}'), max_size=4))
def test_what_is_no_object_stays_as_it_is(cells: list[bytes]) -> None:
    """Cut JSON, other bytes, no UTF-8: no member, and the cell for a later check to report."""
    binary = pa.array(cells, pa.binary())
    text = pa.Array.from_buffers(pa.string(), len(binary), binary.buffers())
    (found,), left = split_members(text, ["b"], ["b"])
    assert found.null_count == len(cells)
    assert left.cast(pa.binary()).equals(binary)


ROWS: list[dict[str, Any]] = [
    {
        "device": {
            "id": f"d{number}",
            "os": {"name": "ios", "version": "1.10"},
            "imei": "1",
            "at": "2023-05-01T10:00:00Z",
            "size": number,
        },
        "kind": {"name": "open"},
        "more": {"url": "https://a.example", "left": number / 2},
        "count": {"text": "7", "word": "x"},
    }
    for number in range(3)
]
WHOLE: dict[str, Any] = {
    "user_id": "device.id",
    "event": "kind.name",
    "timestamp": "device.at",
    "events": {"open": "Application Opened"},
    "context": {"os": {"name": "device.os.name", "version": "device.os.version"}},
    "properties": {"number": "count.text"},
    "drop": ["device.imei"],
    "expand": ["more"],
}


def ndjson(folder: Path) -> Path:
    """The rows as objects in a file."""
    path = folder / "rows.ndjson"
    path.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    return path


def frame(folder: Path) -> pd.DataFrame:
    """The rows as dicts in a DataFrame, which become structs."""
    del folder
    return pd.DataFrame(ROWS)


def mixed(folder: Path) -> pd.DataFrame:
    """The same with cells of two kinds in a column, which become JSON."""
    odd = {"device": "none", "kind": {"name": "open"}, "more": None, "count": None}
    return pd.DataFrame([*frame(folder).to_dict("records"), odd])


def parquet(folder: Path) -> Path:
    """The rows as structs in a parquet file."""
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "rows.parquet")
    return folder / "rows.parquet"


def csv(folder: Path) -> Path:
    """The rows as text that holds JSON, in a CSV file."""
    texts = [{name: json.dumps(cell) for name, cell in row.items()} for row in ROWS]
    pd.DataFrame(texts).to_csv(folder / "rows.csv", index=False)
    return folder / "rows.csv"


JSON: dict[Any, list[str]] = {csv: ["device", "kind", "count", "more"]}


@pytest.mark.parametrize("make", [ndjson, frame, mixed, parquet, csv])
def test_paths_fill_every_field_and_the_rest_goes_along(
    tmp_path: Path, make: Callable[[Path], Any]
) -> None:
    """Objects of files, frames and text: who, what, when, context, drop, and the same ids."""
    source, json_columns = make(tmp_path), JSON.get(make, [])
    journal = tmp_path / "journal"
    with cdp.sandbox() as box:
        options: dict[str, Any] = {"destination": box.destination, "progress": False}
        mapping = cdp.Mapping.from_toml(Mapping(**WHOLE, json=json_columns).to_toml())
        report = cdp.send(source, mapping, journal=journal, **options)
        sent = {row["userId"]: row for row in box.events().to_dict("records")}
        again = cdp.send(source, mapping, journal=journal, **options)
    assert again.delivered_before == len(ROWS)
    assert counts(report) == {"delivered": 3} | ({"invalid": 1} if make is mixed else {})
    assert sent["d1"]["properties"] == {
        "device": {"size": 1},
        "count": {"word": "x"},
        "number": "7",
        "url": "https://a.example",
        "left": 0.5,
    }
    assert sent["d1"]["context"] == {"os": {"name": "iOS", "version": "1.10"}}
    assert {row["messageId"] for row in sent.values()} == IDS


IDS = {
    "01GZBC2E804YC5NBSM779D5F8B",
    "01GZBC2E80W175ST5X0YAJBTBF",
    "01GZBC2E80PTG44YQ0NJE48809",
}


@pytest.mark.parametrize("make", [ndjson, frame, csv])
def test_identities_are_joined_by_path(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    """Both ids of the pairs may lie inside columns; a file of such a name is still a file."""
    source, json_columns = make(tmp_path), JSON.get(make, [])
    fields: dict[str, Any] = {
        "anonymous_id": "device.id",
        "timestamp": "device.at",
        "event": lit("Application Opened"),
        "json": json_columns,
    }
    with cdp.sandbox() as box:
        options: dict[str, Any] = {"destination": box.destination, "progress": False}
        report = cdp.send(source, **fields, identify="more.url", **options)
        assert report.identities is not None
        assert report.identities.counts["delivered"] == len(ROWS)
        people = tmp_path / "more.csv"
        people.write_text("device.id,user_id\nd1,u1\n")
        report = cdp.send(source, **fields, identify=str(people), **options)
        assert report.identities is not None
        assert report.identities.counts["delivered"] == 1


def test_what_is_dropped_from_a_large_message_may_lie_in_json(tmp_path: Path) -> None:
    """A path and a whole column of JSON as of structs; the same keys, and failures sent again."""
    rows = [
        row | {"device": row["device"] | {"log": "x" * size}, "bag": {"b": "y" * size}}
        for row, size in zip(ROWS, (1, 17_000, 1), strict=True)
    ]
    path = tmp_path / "rows.ndjson"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    mapping = Mapping(
        user_id="device.id",
        event=lit("Application Opened"),
        timestamp="device.at",
        message_id=cdp.key("device.id", "device.at"),
        properties={"log": "device.log"},
        drop=["kind", "more", "count"],
    )
    ids = []
    for source in (path, pd.DataFrame(rows)):
        for droppable in ("device.log", "bag"):
            large = {"oversize": "drop_largest", "droppable": [droppable]}
            with cdp.sandbox() as box:
                report = send(source, box, mapping, journal=False)
                assert counts(report) == {"delivered": 2, "invalid": 1}
                again = send(report.failures, box, None, **large)
                assert counts(again) == {"delivered": 1}
                assert list(again.dropped["cdp_dropped"]) == [droppable]
                ids.append(set(box.events()["messageId"]))
    assert ids == [ids[0]] * 4


def test_an_expression_may_read_the_objects_of_a_path(tmp_path: Path) -> None:
    """The column stays JSON for the path, and is text for SQL; types name text that is a number."""
    mapping = Mapping(
        user_id="device.id",
        event=lit("Application Opened"),
        timestamp="device.at",
        derive={"place": "device->>'$.os.name'"},
        message_id=cdp.key("device.id"),
        properties={"where": "place", "number": "count.text", "word": "count.word"},
        types={"count.text": "int64", "count.word": "int64"},
        nulls=["d2"],
        rest="drop",
    )
    first, _, last = messages(ndjson(tmp_path), 3, mapping)
    assert first["properties"] == {"where": "ios", "number": 7, "word": "x"}
    assert last["cdp_code"] == "missing_user"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("device.idd", "no row has a field 'idd' in 'device'. Did you mean 'id'? Rows have 'id'"),
        ("device.os.nam", "no row has a field 'nam' in 'device.os'. Did you mean 'name'?"),
        ("device.id.x", "no row has JSON objects with fields at 'device.id'"),
        ("devise.id", "There is no column 'devise.id'. Did you mean 'device"),
    ],
)
def test_a_path_that_leads_nowhere_in_every_row_is_an_error(
    tmp_path: Path, path: str, said: str
) -> None:
    """With keywords as with a mapping, and what is dropped, too."""
    said = said.replace("?", r"\?")
    source = ndjson(tmp_path)
    with pytest.raises(MappingError, match=said):
        cdp.plan(source, user_id=path)
    with pytest.raises(MappingError, match=said):
        cdp.plan(source, Mapping(**WHOLE | {"drop": [path]}))


def test_a_field_of_few_rows_is_found_and_empty_columns_ask_for_none(tmp_path: Path) -> None:
    """The rows are read up to the first that has it; where nobody has objects, nothing is amiss."""
    rows = [{"d": {"id": "a"}, "e": None}] * 20_000 + [{"d": {"id": "a", "rare": 1}, "e": None}]
    path = tmp_path / "rows.ndjson"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    mapping = Mapping(
        user_id="d.id",
        event=lit("Application Opened"),
        timestamp=lit("2023-05-01T10:00:00Z"),
        properties={"rare": "d.rare", "none": "e.none"},
    )
    assert cdp.plan(path, mapping).counts["to_send"] == len(rows)


def test_a_column_with_the_longest_name_counts_and_structs_may_hold_json() -> None:
    """The columns are asked first, then the structs, and each object by itself."""
    schema = pa.schema({"a": pa.json_(), "a.b": pa.struct({"c": pa.json_(), "t": pa.string()})})
    assert find_path("a.b", schema) is None
    found = {name: find_path(name, schema) for name in ("a.b.c", "a.b.c.d", "a.b.x", "a.b.t.x")}
    ways = {name: path and (path.column, path.steps) for name, path in found.items()}
    assert ways == {
        "a.b.c": ("a.b", (0,)),
        "a.b.c.d": ("a.b", (0, "d")),
        "a.b.x": ("a", ("b.x",)),
        "a.b.t.x": ("a", ("b.t.x",)),
    }
    mapping = Mapping(user_id="a.b.c.d", json=["a.b.t"], drop=["a.b.t.x"])
    paths = paths_of(mapping, schema)
    cells = pa.array(['{"d": 1, "e": 2}', None])
    struct = pa.StructArray.from_arrays(
        [pa.ExtensionArray.from_storage(pa.json_(), cells), pa.array(['{"x": 1}', '{"y": 1}'])],
        ["c", "t"],
    )
    columns = paths.apply({"a.b": struct})
    assert columns["a.b.c.d"].storage.to_pylist() == ["1", None]
    assert columns["a.b"].field("c").storage.to_pylist() == ['{"e":2}', None]
    assert columns["a.b"].field("t").to_pylist() == [None, '{"y": 1}']
    assert columns["a.b"].type == paths.rest(schema)["a.b"]

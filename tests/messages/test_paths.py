"""Fields inside struct columns, named by a path."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill import Mapping, MappingError, lit
from cdp_backfill.messages import bind, build
from cdp_backfill.messages.paths import find_path, paths_of, why_no_path
from tests.sending import counts, send

NAMES = st.sampled_from(["a", "b", "a.b", "c"])
KINDS = st.recursive(
    st.just(pa.int64()),
    lambda kinds: st.dictionaries(NAMES, kinds, min_size=1, max_size=3).map(
        lambda inner: pa.struct(list(inner.items()))
    ),
    max_leaves=8,
)


def _cells(kind: Any) -> st.SearchStrategy[Any]:
    if not pa.types.is_struct(kind):
        return st.none() | st.integers(0, 9)
    return st.none() | st.fixed_dictionaries({item.name: _cells(item.type) for item in kind})


def _readings(path: list[str], value: Any) -> list[tuple[str, ...]]:
    """All ways down a tree of dicts that the parts of a path can mean, the longest names first."""
    if not path:
        return [()]
    if not isinstance(value, dict):
        return []
    found = []
    for size in range(len(path), 0, -1):
        name = ".".join(path[:size])
        if name in value:
            found += [(name, *below) for below in _readings(path[size:], value[name])]
    return found


def _tree(kind: Any) -> Any:
    return {item.name: _tree(item.type) for item in kind} if pa.types.is_struct(kind) else 0


def _at(cell: Any, way: tuple[str, ...]) -> Any:
    for name in way:
        cell = None if cell is None else cell[name]
    return cell


def _removed(cell: Any, tree: Any, way: tuple[str, ...]) -> Any:
    """The cell without what lies at the end of the way; a struct without fields is none."""
    if cell is None:
        return None
    inner = dict(cell)
    if len(way) == 1 or not _survives(tree[way[0]], way[1:]):
        del inner[way[0]]
    else:
        inner[way[0]] = _removed(inner[way[0]], tree[way[0]], way[1:])
    return inner or None


def _survives(tree: Any, way: tuple[str, ...]) -> bool:
    """Whether a struct keeps a field once the end of the way is gone."""
    return len(tree) > 1 or (len(way) > 1 and _survives(tree[way[0]], way[1:]))


@given(st.data())
def test_a_path_reads_what_the_same_keys_read_from_dicts(data: st.DataObject) -> None:
    """Any struct, any path, slices too: found, its cells, what is left, as with plain dicts."""
    kind = data.draw(KINDS.filter(pa.types.is_struct))
    cells = data.draw(st.lists(_cells(kind), min_size=1, max_size=4))
    path = data.draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=4))
    name, tree = ".".join(["s", *path]), _tree(kind)
    schema = pa.schema({"s": kind})
    ways = _readings(path, tree)
    found = find_path(name, schema)
    assert (found is not None) == bool(ways)
    if found is None:
        assert why_no_path(name, schema)
        return
    paths = paths_of(Mapping(user_id=name), schema)
    array = pa.array([None, *cells], kind).slice(1)
    columns = paths.apply({"s": array})
    assert columns[name].to_pylist() == [_at(cell, ways[0]) for cell in cells]
    assert columns["s"].to_pylist() == [_removed(cell, tree, ways[0]) for cell in cells]
    left = paths.rest(schema)["s"]
    assert columns["s"].type == (pa.null() if left is None else left)


def test_a_column_whose_name_holds_the_dot_is_meant_first() -> None:
    """An exact name wins, and a longer column wins over a shorter one."""
    schema = pa.schema(
        {
            "a": pa.struct({"b": pa.string(), "b.c": pa.string()}),
            "a.b": pa.struct({"c": pa.int64()}),
        }
    )
    assert find_path("a.b", schema) is None
    found = find_path("a.b.c", schema)
    assert found is not None
    assert (found.column, found.steps) == ("a.b", (0,))


SCHEMA = pa.schema(
    {
        "device": pa.struct(
            {"id": pa.string(), "os": pa.struct({"name": pa.string()}), "tags": pa.list_(pa.int8())}
        ),
        "text": pa.string(),
        "twice": pa.struct([("x", pa.int8()), ("x", pa.int8())]),
    }
)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("device.idd", "'device' has no field 'idd'. Did you mean 'id'? It has 'id', 'os', 'tags'"),
        ("device.os.version.x", "'device.os' has no field 'version'. It has 'name'."),
        ("device.tags.0", "'device.tags' is a list, and a path cannot go into a list"),
        ("text.id", "'text' is of type string and has no fields"),
        ("twice.x", "'twice' has more than one field 'x'"),
    ],
)
def test_a_path_that_leads_nowhere_says_what_is_there(path: str, said: str) -> None:
    """One error, in a plan as in a binding."""
    mapping = Mapping(user_id=path, event=lit("Application Opened"), timestamp="text")
    with pytest.raises(MappingError, match=said.replace("?", r"\?")):
        bind(mapping, SCHEMA)
    with pytest.raises(MappingError, match=said.replace("?", r"\?")):
        cdp.plan(SCHEMA.empty_table(), user_id=path)


ROWS = pa.table(
    {
        "device": [
            {"id": "d1", "model": "m1", "imei": "1", "at": "2023-01-01T00:00:00Z", "size": 1},
            {"id": "d2", "model": None, "imei": "2", "at": "2023-01-02T00:00:00Z", "size": 2},
            None,
        ],
        "kind": [{"name": "Application Opened"}] * 3,
    }
)
WHOLE: dict[str, Any] = {
    "user_id": "device.id",
    "event": "kind.name",
    "timestamp": "device.at",
    "context": {"device": {"model": "device.model"}},
    "drop": ["device.imei"],
}


def test_paths_fill_every_field_and_the_rest_of_the_struct_goes_along() -> None:
    """Who, what and when from structs; what is taken or dropped is no property; null is empty."""
    with cdp.sandbox() as box:
        report = cdp.send(ROWS, **WHOLE, destination=box.destination, progress=False)
        sent = {row["userId"]: row for row in box.events().to_dict("records")}
    assert counts(report) == {"delivered": 2, "invalid": 1}
    assert sent["d1"]["properties"] == {"device": {"size": 1}}
    assert sent["d1"]["context"]["device"] == {"model": "m1"}
    assert sent["d1"]["event"] == "Application Opened"
    assert set(report.by_reason()["code"]) == {"missing_user"}


def test_failed_rows_are_sent_again_and_rows_keep_their_ids() -> None:
    """The rows of a report hold the whole struct, and a mapping in TOML holds the paths."""
    mapping = Mapping.from_toml(Mapping(**WHOLE).to_toml())
    with cdp.sandbox() as box:
        first = send(ROWS, box, mapping)
        ids = set(box.events()["messageId"])
        fixed: Any = {
            "id": "d3",
            "model": None,
            "imei": "3",
            "at": "2023-01-03T00:00:00Z",
            "size": 3,
        }
        second = send(first.failures.assign(device=[fixed]), box, None)
        assert counts(first + second) == {"delivered": 3}
        send(ROWS, box, mapping)
        assert ids < set(box.events()["messageId"])
        assert len(set(box.events()["messageId"])) == ROWS.num_rows


def test_a_plan_shows_paths_and_no_cell_of_what_is_dropped() -> None:
    """Each path is a row of the plan; the struct says that parts of it are used."""
    plan = cdp.plan(ROWS, **WHOLE)
    columns = {column.name: column for column in plan.columns}
    assert columns["device.id"].fields == ("userId",)
    assert columns["device.imei"].verdict == "left out"
    assert columns["device"].verdict == "parts go elsewhere"
    assert columns["kind"].verdict == "parts go elsewhere"
    assert "imei" not in columns["device"].sample


def test_a_path_may_lead_into_a_derived_struct_and_a_key_may_hold_one() -> None:
    """Derived columns are columns; a key takes nothing away from the properties."""
    mapping = Mapping(
        user_id="both.id",
        event=lit("Application Opened"),
        timestamp="device.at",
        derive={"both": "{'id': device.id, 'kind': kind.name}"},
        message_id=cdp.key("device.id"),
        rest="drop",
        properties={"all": "device"},
        droppable=["device"],
        oversize="drop_largest",
    )
    batch = ROWS.slice(0, 2).combine_chunks().to_batches()[0]
    built = build(bind(mapping, ROWS.schema), batch)
    assert built.fields["userId"].to_pylist() == ["d1", "d2"]
    first = built.fields["properties"].to_pylist()[0]["all"]
    assert first["id"] == "d1"  # named as a whole
    guard = build(bind(mapping, ROWS.schema), batch, who_what_when=True)
    assert guard.fields["userId"].equals(built.fields["userId"])

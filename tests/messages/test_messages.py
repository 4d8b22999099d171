"""From rows to message fields."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp_backfill import Mapping, lit
from cdp_backfill.messages import bind, build
from cdp_backfill.model import api_facts
from tests.rows import OPENED, batch, built, codes, payloads, properties, texts

SEVEN = list(api_facts.EVENTS)


def _uuids(*cells: bytes | None) -> Any:
    return pa.ExtensionArray.from_storage(pa.uuid(), pa.array(cells, pa.binary(16)))


def test_a_whole_message_reads_as_the_page_says() -> None:
    """Field by field: type, id, user, event, time, properties, context, integrations."""
    mapping = Mapping(
        user_id="uid",
        anonymous_id="device",
        event=lit("Application Installed"),
        timestamp="ts",
        properties={"version": "v", "build": "b", "nested": {"plan": lit("pro")}},
        context={"device": {"model": "phone", "type": "os"}, "network": {"wifi": "wifi"}},
        integrations={"All": False, "Mixpanel": True},
    )
    columns = {
        "device": ["d1"],
        "v": ["2.1.0"],
        "b": [421],
        "phone": ["Pixel 8"],
        "os": ["Android"],
        "wifi": ["TRUE"],
        "extra": [None],
        "score": [7],
    }
    (message,) = payloads(built(columns, mapping))
    assert message.pop("messageId").startswith("01GZBC2E80")  # the time
    assert message == {
        "type": "track",
        "userId": "u0",
        "anonymousId": "d1",
        "event": "Application Installed",
        "timestamp": "2023-05-01T10:00:00.000Z",
        "properties": {"version": "2.1.0", "build": "421", "nested": {"plan": "pro"}, "score": 7},
        "context": {"device": {"model": "Pixel 8", "type": "android"}, "network": {"wifi": True}},
        "integrations": {"All": False, "Mixpanel": True},
    }


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (pa.array([12, None]), ["12", None]),
        (pa.array([12.0, math.nan]), ["12", None]),
        (pa.array([2.0**53 - 1, 2.0**53]), ["9007199254740991", "bad_user"]),
        (pa.array([1.5, -3.0]), ["bad_user", "-3"]),
        (pa.array([math.inf, 1.0]), ["bad_user", "1"]),
        (pa.array([2**63], pa.uint64()), ["9223372036854775808"]),
        (pa.array([Decimal("7.00"), Decimal("1e3")], pa.decimal128(10, 2)), ["7", "1000"]),
        (pa.array(["", "  ", " a "]), [None, None, "a"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array(["a", None], pa.large_string()), ["a", None]),
        (pa.array(["a", "é"], pa.string_view()), ["a", "é"]),
        (pa.array([b"a", b"\xff"]), ["a", "bad_user"]),
        (pa.nulls(1), [None]),
    ],
)
def test_user_ids_of_every_type(cells: Any, expected: list[str | None]) -> None:
    """Ids become text, and what cannot be one is a problem of its row."""
    messages = built({"uid": cells})
    actual = codes(messages)
    for row, value in enumerate(expected):
        if value is None:
            assert actual[row] == ["missing_user"]
        elif value == "bad_user":
            assert actual[row] == ["bad_user"]
        else:
            assert messages.fields["userId"][row].as_py() == value
            assert row not in actual


def test_one_of_two_ids_is_enough() -> None:
    """A row needs a user id or an anonymous id, not both."""
    columns = {"uid": ["a", None, None], "dev": [None, "d", ""]}
    messages = built(columns, anonymous_id="dev")
    assert codes(messages) == {2: ["missing_user"]}
    (rows, (problem,)) = next(messages.problems.groups())
    assert rows.tolist() == [2]
    assert problem.reason == "columns 'uid' and 'dev' are both empty"


EVENT_CELLS = ["open", "Application Crashed", "screen", None, " "]


@pytest.mark.parametrize(
    ("other", "names", "problems", "left"),
    [
        (
            "invalid",
            ["Application Opened", "Application Crashed"],
            {2: ["unknown_event"], 3: ["missing_event"], 4: ["missing_event"]},
            [0, 1, 2, 3, 4],
        ),
        (
            "skip",
            ["Application Opened", "Application Crashed"],
            {2: ["missing_event"], 3: ["missing_event"]},
            [0, 1, 3, 4],
        ),
        (
            "send",
            ["Application Opened", "Application Crashed", "screen"],
            {3: ["missing_event"], 4: ["missing_event"]},
            [0, 1, 2, 3, 4],
        ),
    ],
)
def test_other_events(
    other: str, names: list[str], problems: dict[int, list[str]], left: list[int]
) -> None:
    """Translated and known names go; the rest as ``other_events`` says."""
    messages = built(
        {"ev": EVENT_CELLS}, event="ev", events={"open": "Application Opened"}, other_events=other
    )
    assert messages.rows.tolist() == left
    assert messages.fields["event"].to_pylist()[: len(names)] == names
    assert codes(messages) == problems


@pytest.mark.parametrize(
    ("cells", "key"),
    [([1, 2], 1), ([True, False], True), (["", "x"], ""), ([1.0, 2.0], 1)],
)
def test_event_values_that_are_no_text(cells: list[Any], key: Any) -> None:
    """Numbers, booleans and the empty text can stand for an event."""
    messages = built({"ev": cells}, event="ev", events={key: "Application Opened"})
    assert messages.fields["event"][0].as_py() == "Application Opened"


def test_a_skipped_row_has_no_other_problem() -> None:
    """What is left out on purpose is not also called wrong."""
    columns = {"ev": ["x", "Application Opened"], "uid": [None, None], "ts": ["bad", "2023-01-01"]}
    messages = built(columns, event="ev", other_events="skip")
    assert messages.rows.tolist() == [1]
    assert codes(messages) == {0: ["missing_user"]}


def test_each_problem_of_a_row_is_told() -> None:
    """A row that is wrong in three ways says so at once, with the columns to blame."""
    columns = {"uid": [None, "a"], "ts": ["x", "2023-01-01"], "ev": ["?", "Application Opened"]}
    messages = built(columns, event="ev")
    (rows, problems) = next(messages.problems.groups())
    assert rows.tolist() == [0]
    assert [(problem.code, problem.column) for problem in problems] == [
        ("unknown_event", "ev"),
        ("missing_user", "uid"),
        ("bad_time", "ts"),
    ]
    assert all(problem.code in codes(messages)[0] for problem in problems)


@pytest.mark.parametrize(
    ("kind", "cells", "expected"),
    [
        ("version", ["2.1.0", "", None], ["2.1.0", None, None]),
        ("version", [2.0, 2.1, None], ["2.0", "2.1", None]),
        ("version", [3, 4], ["3", "4"]),
        ("build", [421.0, 1e11, math.nan], ["421", "100000000000", None]),
        ("build", [202_401_151_030, 1], ["202401151030", "1"]),
        ("build", [4.5, math.inf], ["4.5", "not_finite"]),
        ("build", [True, False], ["true", "false"]),
        ("url", [b"http://x", b"\xff\xfe"], ["http://x", "bad_text"]),
        ("from_background", [True, None], [True, None]),
        ("from_background", ["TRUE", "no", " 1 ", "", "N"], [True, False, True, None, False]),
        ("from_background", [0, 1, None], [False, True, None]),
        ("from_background", [1.0, 2.0], [True, "bad_boolean"]),
        ("from_background", ["maybe"], ["bad_boolean"]),
    ],
)
def test_documented_properties_get_their_type(kind: str, cells: list[Any], expected: Any) -> None:
    """Version and build become text, booleans booleans, or the row says why not."""
    messages = built({"p": cells}, properties={kind: "p"})
    actual = codes(messages)
    for row, (payload, value) in enumerate(zip(payloads(messages), expected, strict=True)):
        if isinstance(value, str) and value in ("not_finite", "bad_text", "bad_boolean"):
            assert actual[row] == [value]
        else:
            assert payload.get("properties", {}).get(kind) == value
            assert row not in actual


def test_device_type_is_android_or_ios() -> None:
    """The API knows two device types; case does not matter, other words do."""
    messages = built(
        {"os": ["iOS", " ANDROID", "Web", None, ""]}, context={"device": {"type": "os"}}
    )
    assert codes(messages) == {2: ["bad_device_type"]}
    types = [p.get("context", {}).get("device", {}).get("type") for p in payloads(messages)]
    assert types == ["ios", "android", None, None, None]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (pa.array([5.0, None, 7.0]), [5, None, 7]),
        (pa.array([5.5, math.nan]), [5.5, None]),
        (pa.array(np.array([1.5], np.float16)), [1.5]),
        (pa.array([Decimal("5.00"), Decimal("1.00")]), [5, 1]),
        (pa.array([Decimal("5.25")]), [5.25]),
        (pa.array([2**64 - 1], pa.uint64()), [2**64 - 1]),
        (pa.array([True, None]), [True, None]),
        (pa.array([date(2020, 2, 29)]), ["2020-02-29"]),
        (pa.array([date(2020, 2, 29)], pa.date64()), ["2020-02-29"]),
        (pa.array([clock(1, 2, 3)]), ["01:02:03"]),
        (pa.array([timedelta(seconds=90)]), [90]),
        (pa.array([timedelta(milliseconds=1500)]), [1.5]),
        (pa.array([datetime(2020, 1, 1, tzinfo=UTC)]), ["2020-01-01T00:00:00Z"]),
        (pa.array([datetime(2020, 1, 1)], pa.timestamp("ns")), ["2020-01-01T00:00:00Z"]),  # noqa: DTZ001
        (pa.array([b"text", None]), ["text", None]),
        (pa.array([b"ab"], pa.binary(2)), ["ab"]),
        (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"]),
        (_uuids(UUID(int=5).bytes, None), ["00000000-0000-0000-0000-000000000005", None]),
        (_uuids(bytes(16), UUID(int=5).bytes)[1:], ["00000000-0000-0000-0000-000000000005"]),
        (pa.array([[1, None, 2], [], None]), [[1, None, 2], [], None]),
        (pa.array([[1.0, 2.5]], pa.list_(pa.float64(), 2)), [[1.0, 2.5]]),
        (pa.array([[["a"], []], None]), [[["a"], []], None]),
        (pa.array([{"b": 1, "a": None}, None]), [{"b": 1}, None]),
        (pa.array([{"a": {"b": {"c": [1.5]}}}]), [{"a": {"b": {"c": [1.5]}}}]),
        (pa.array([{"a": None}], pa.struct([("a", pa.string())])), [None]),
        (pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())), [{"k": 1}, None]),
        (pa.array([[{"key": "k", "value": 1.5}]]), [[{"key": "k", "value": 1.5}]]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_properties_of_every_type(cells: Any, expected: list[Any]) -> None:
    """Any Arrow type that JSON has something for arrives with its value; nulls are left out."""
    assert [item.get("p") for item in properties({"p": cells})] == expected


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([1.0, math.inf]),
        pa.array([[1.0], [math.inf]]),
        pa.array([{"a": 1.0}, {"a": -math.inf}]),
        pa.array([[("k", 1.0)], [("k", math.inf)]], pa.map_(pa.string(), pa.float64())),
    ],
)
def test_infinity_is_a_problem_wherever_it_hides(cells: Any) -> None:
    """JSON has no infinity: the row is invalid, and its neighbour is not."""
    messages = built({"p": cells})
    assert codes(messages) == {1: ["not_finite"]}


def test_infinity_beside_null_lists_that_hold_something() -> None:
    """A null list can have values under it; they belong to no row."""
    for array in (
        pa.array([[1.0, 2.0], None, [3.0, math.inf]], pa.list_(pa.float64(), 2)),
        pa.ListArray.from_arrays(
            pa.array([0, 1, 2, 3]),
            pa.array([1.0, 2.0, math.inf]),
            mask=pa.array([False, True, False]),
        ),
    ):
        assert codes(built({"p": array})) == {2: ["not_finite"]}


def test_infinity_in_the_first_slice_of_a_map() -> None:
    """The values of the rows behind a slice are not its own."""
    maps = pa.array(
        [[("k", 1.0)], [("k", math.inf)], [("k", 2.0)]], pa.map_(pa.string(), pa.float64())
    )
    assert codes(built({"p": maps.slice(0, 2)})) == {1: ["not_finite"]}


def test_ids_do_not_depend_on_neighbours() -> None:
    """Large decimals, lists that became floats, and the order within a map change nothing."""

    def ids(array: Any) -> list[str]:
        return [payload["messageId"] for payload in payloads(built({"p": array}))]

    big = pa.decimal128(38, 2)
    alone = ids(pa.array([Decimal("5.00")], big))
    assert ids(pa.array([Decimal("5.00"), Decimal("99999999999999999999.00")], big))[0] == alone[0]
    assert alone == ids(pa.array([5]))
    assert ids(pa.array([[1.0, 2.0], [1.5]]))[0] == ids(pa.array([[1, 2]]))[0]
    assert ids(pa.array([[Decimal("1.0")], [Decimal("1.5")]]))[0] == ids(pa.array([[1]]))[0]
    maps = pa.map_(pa.string(), pa.int64())
    assert ids(pa.array([[("a", 1), ("b", 2)]], maps)) == ids(
        pa.array([[("b", 2), ("a", 1)]], maps)
    )


@pytest.mark.parametrize(
    "array",
    [
        pa.array([0, 2**30], pa.int32()).cast(pa.date32()),
        pa.array([0, 10**15], pa.int64()).cast(pa.timestamp("s")),
        pa.array([0, 10**15], pa.int64()).cast(pa.timestamp("s", "UTC")),
        pa.array([0, 2**30], pa.int32()).cast(pa.time32("s")),
    ],
)
def test_times_that_no_calendar_has(array: Any) -> None:
    """Out of range as a property, they are a problem of their row and never text of an error."""
    messages = built({"p": array})
    assert codes(messages) == {1: ["bad_time"]}
    assert "ERROR" not in str(payloads(messages))


def test_text_that_is_not_utf8_is_a_problem_of_its_row() -> None:
    """A damaged text sinks nobody else."""
    damaged = pa.array([b"ok", b"\xff", None]).view(pa.string())
    messages = built({"p": damaged})
    assert codes(messages) == {1: ["bad_text"]}
    assert payloads(messages)[0]["properties"] == {"p": "ok"}


scalars: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts
)


@given(
    st.one_of(
        st.lists(st.none() | st.booleans()),
        st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)),
        st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False)),
        st.lists(st.none() | texts),
        st.lists(st.none() | st.lists(st.none() | texts, max_size=3)),
        st.lists(st.none() | st.lists(st.integers(-9, 9), max_size=3)),
        st.lists(
            st.fixed_dictionaries(
                {"z": st.none() | texts, "a": st.none() | st.lists(st.floats(-9, 9), max_size=2)}
            )
        ),
    ).filter(bool),
    st.integers(0, 3),
)
def test_values_arrive_as_they_were(cells: list[Any], cut: int) -> None:
    """Whatever the cells, what arrives is what Python holds; also of a slice of the table."""
    table = batch({"p": cells}).slice(min(cut, len(cells) - 1))
    messages = build(bind(OPENED, table.schema), table)
    expected = [_without_nulls(cell) for cell in cells[min(cut, len(cells) - 1) :]]
    actual = [payload.get("properties", {}).get("p") for payload in payloads(messages)]
    assert actual == expected


def _without_nulls(value: Any) -> Any:
    """Nulls inside objects are left out, and so is an object that has nothing else."""
    if isinstance(value, dict):
        kept = {name: item for name, item in value.items() if item is not None}
        return kept or None
    return value


@given(
    st.lists(
        st.tuples(
            st.none() | texts,
            st.none() | st.floats(allow_infinity=False),
            st.none() | st.lists(st.floats(-9, 9), max_size=2),
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 5),
)
def test_ids_do_not_depend_on_chunks(rows: list[tuple[Any, ...]], size: int) -> None:
    """The same record gets the same id, however the table is cut and whatever its neighbours."""
    names, numbers, lists = zip(*rows, strict=True)
    table = batch(
        {
            "n": pa.array(names, pa.string()),
            "x": pa.array(numbers, pa.float64()),
            "l": pa.array(lists, pa.list_(pa.float64())),
        }
    )
    binding = bind(OPENED, table.schema)
    whole = [payload["messageId"] for payload in payloads(build(binding, table))]
    parts = [
        payload["messageId"]
        for start in range(0, table.num_rows, size)
        for payload in payloads(build(binding, table.slice(start, size)))
    ]
    assert parts == whole


def test_ids_do_not_depend_on_number_types_or_column_order() -> None:
    """A count is the same count as int, as float beside nulls, and as decimal."""
    variants: list[dict[str, Any]] = [
        {"n": pa.array([5, 6]), "s": ["x", "y"]},
        {"s": ["x", "y"], "n": pa.array([5.0, 6.0])},
        {"n": pa.array([Decimal("5.00"), Decimal("6.00")]), "s": pa.array(["x", "y"])},
        {"n": pa.array([5.0, 6.0, 7.5]), "s": ["x", "y", "z"]},
        {"n": pa.array([Decimal("5.0"), Decimal("6.0"), Decimal("7.5")]), "s": ["x", "y", "z"]},
        {"n": pa.array([5, 6], pa.uint8()), "s": pa.array(["x", "y"]).dictionary_encode()},
    ]
    ids = [[p["messageId"] for p in payloads(built(columns))][:2] for columns in variants]
    assert all(item == ids[0] for item in ids)
    assert ids[0][0] != ids[0][1]

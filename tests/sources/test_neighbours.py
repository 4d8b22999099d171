"""What a row becomes does not depend on the other rows, and no odd cell stops them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import cdp_backfill as cdp
from cdp_backfill.api import messages
from tests.rows import OPENED

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox


def table(rows: int, **columns: Any) -> Any:
    """A table of app opens with further columns."""
    base = {"uid": [f"u{n}" for n in range(rows)], "ts": ["2020-01-01T00:00:00Z"] * rows}
    return pa.table(base | columns)


def first(source: Any, **options: Any) -> dict[str, Any]:
    """What the first row becomes."""
    return messages(source, 1, OPENED, **options)[0]


ALONE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"A": ["{}", '{"k": 2}'], "B": ['{"k": 1}', "{}"]}, {"expand": ["A", "B"]}),
    ({"info": ['"hello"', '{"info": 1}']}, {"expand": ["info"]}),
    (
        {"info": ['{"x": {"y": 1}}'] * 2, "n": ["1", "z"]},
        {"derive": {"a": "info->'$.x'", "b": "json_object('k', a)", "c": "n::INT"}},
    ),
    ({"when": ["2024-01-15T10", "garbage"]}, {"timestamp": "when"}),
    ({"when": ["2024-01-15 10Z", "2024-01-15"]}, {"timestamp": "when"}),
    ({"when": ["1700000000001000000", "2024-01-15"]}, {"timestamp": "when"}),
    ({"n": pa.array([2**63 + 1, None], pa.uint64())}, {}),
]


@pytest.mark.parametrize(("columns", "options"), ALONE)
def test_a_row_of_arrow_is_the_same_alone(columns: dict[str, Any], options: dict[str, Any]) -> None:
    """The same message with the same id, whatever the row behind it holds."""
    both = table(2, **columns)
    assert first(both, **options) == first(both.slice(0, 1), **options)
    assert "cdp_outcome" not in first(both, **options)


@pytest.mark.parametrize(
    ("row", "other"),
    [
        ({"version": "1.10"}, {"version": '"1.2.3"'}),
        ({"version": "2"}, {"version": "1.5"}),
        ({"uid": "1e3"}, {"uid": '"u"'}),
        ({"n": "9223372036854775809"}, {"n": "-1"}),
        ({"p": "5"}, {"p": '"x"'}),
    ],
)
def test_a_row_of_json_is_the_same_alone(
    tmp_path: Path, row: dict[str, str], other: dict[str, str]
) -> None:
    """Numbers keep their digits where text is needed, and no other row changes an id."""
    actual = []
    for rows in ([row], [row, other]):
        lines = []
        for one in rows:
            cells = {"uid": '"u"', "ts": '"2020-01-01T00:00:00Z"'} | one
            lines.append("{" + ",".join(f'"{name}": {cell}' for name, cell in cells.items()) + "}")
        path = tmp_path / f"{len(rows)}.json"
        path.write_text("\n".join(lines))
        actual.append(first(path))
    assert actual[0] == actual[1]
    assert actual[0].get("properties", {}).get("version") in (None, "1.10", "2")


def test_rows_of_the_web_stay_out_whatever_comes_behind(tmp_path: Path) -> None:
    """One odd cell in a JSON export changes nothing for the rows before it."""
    row = {
        "user_id": "u1",
        "event_type": "[Amplitude] Application Opened",
        "event_time": "2020-01-01T00:00:00Z",
        "amplitude_id": 1,
        "device_id": "d",
        "event_properties": {},
        "platform": "Web",
        "device_model": "iPhone",
    }
    odd = row | {"user_id": "u2", "platform": 3, "device_model": 7}
    path = tmp_path / "a.json"
    path.write_text("\n".join(json.dumps(one) for one in (row, odd)))
    plan = cdp.plan(path)
    assert plan.counts["skipped"] == 1
    (sample,) = plan.samples
    assert sample["userId"] == "u2"
    assert sample["context"]["device"]["model"] == "7"


def test_a_journal_notices_that_types_have_changed(box: Sandbox, tmp_path: Path) -> None:
    """A cell that makes a column text would make other messages of all rows: it says so."""
    path = tmp_path / "j.csv"
    path.write_text("uid,ts,x\nu1,2020-01-01T00:00:00Z,5\nu2,2020-01-01T00:00:00Z,6\n")
    options: dict[str, Any] = {
        "destination": box.destination,
        "journal": tmp_path / "j",
        "progress": False,
    }
    cdp.send(path, OPENED, **options)
    more = path.read_text() + "u3,2020-01-02T00:00:00Z,7\n"
    path.write_text(more)
    assert cdp.send(path, OPENED, **options).delivered_before == 2
    path.write_text(more + "u4,2020-01-02T00:00:00Z,n/a\n")
    with pytest.raises(cdp.JournalError, match="Column 'x' was int64"):
        cdp.send(path, OPENED, **options)
    assert len(box.events()) == 3


WIDE = '{"a":[%s]}' % ",".join('{"k%d":1}' % n for n in range(2_100))  # noqa: UP031
DEEP = '{"a":' * 300 + "1" + "}" * 300


@pytest.mark.parametrize("cell", [WIDE, DEEP, '{"a\\u0000b": 1}', "[" * 50_000])
def test_a_strange_cell_of_json_stops_nobody(box: Sandbox, cell: str) -> None:
    """It is sent as what it says or as text, or its row is invalid; the other row arrives."""
    report = cdp.send(
        table(2, x=[cell, '{"b": 1}']),
        OPENED,
        json=["x"],
        destination=box.destination,
        progress=False,
    )
    assert report.counts["delivered"] + report.counts["invalid"] == 2
    assert {"x": {"b": 1}} in box.events()["properties"].tolist()


BAD = pa.Array.from_buffers(pa.string(), 1, pa.array([b"secret\xff"], pa.binary()).buffers())


@pytest.mark.parametrize(
    ("column", "outcome"),
    [
        (BAD, "invalid"),
        (pa.array([10**13], pa.timestamp("s")), "invalid"),
        (pa.array(["1.5"]).cast(pa.decimal32(5, 2)), "delivered"),
        (pa.array([["a"]], pa.list_(pa.string())), "delivered"),
        (pa.array([[(1, 2)]], pa.map_(pa.int64(), pa.int64())), "delivered"),
        (pa.array(np.array([0.5], np.float16)), "delivered"),
        (pa.array([5], pa.decimal256(50, 0)), "delivered"),
    ],
)
def test_a_strange_type_is_planned_and_sent(box: Sandbox, column: Any, outcome: str) -> None:
    """The plan of it is what becomes of it, and no value is in an error."""
    plan = cdp.plan(table(1, x=column), OPENED, destination=box.destination)
    report = plan.send(progress=False)
    assert report.counts[outcome] == 1


UUIDS = pa.ListArray.from_arrays(
    [0, 1], pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"a" * 16], pa.binary(16)))
)


@pytest.mark.parametrize(
    ("column", "options"),
    [
        (UUIDS, {}),
        (pa.array([[{"key": {"a": 1}, "value": 2}]]), {"expand": ["x"]}),
    ],
)
def test_a_type_that_cannot_be_is_told_first(column: Any, options: dict[str, Any]) -> None:
    """One clear error before anything is read."""
    with pytest.raises(cdp.MappingError, match="column 'x'"):
        cdp.plan(table(1, x=column), OPENED, **options)


def test_proposals_for_tables_of_strange_types() -> None:
    """Columns that cannot be looked at do not keep the others from being proposed."""
    base = {
        "user_id": ["a", "b"],
        "event_time": ["2020-01-01T00:00:00Z"] * 2,
        "event_name": ["app_open", "app_install"],
    }
    for column in (
        pa.RunEndEncodedArray.from_arrays([2], ["x"]),
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"a" * 16] * 2, pa.binary(16))),
        pa.concat_arrays([BAD, BAD]),
    ):
        plan = cdp.plan(pa.table(base | {"foo": column}))
        assert plan.mapping.event == "event_name"


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.set_axis(["x", "ts", "uid", "h"], axis="columns"),
        lambda frame: frame.assign(h=np.array([7, 8], "f2")),
        lambda frame: frame.assign(x=pd.Series(["p", "Q"])),
        lambda frame: frame.iloc[:1],
    ],
)
def test_whatever_changes_in_a_frame_is_noticed(box: Sandbox, change: Any) -> None:
    """Names, rows and cells of any type."""
    frame = pd.DataFrame(
        {
            "uid": ["a", "b"],
            "ts": ["2020-01-01T00:00:00Z"] * 2,
            "x": ["p", "q"],
            "h": np.array([1, 2], "f2"),
        }
    )
    plan = frame.cdp.plan(OPENED, destination=box.destination)
    other = change(frame)
    # The same object with other contents, as a notebook has it.
    frame.__dict__.update(other.__dict__)
    with pytest.raises(cdp.SourceError, match="has changed since"):
        plan.send(progress=False)
    assert len(box.events()) == 0


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("ago(to_days(1))::VARCHAR", "differs from run to run"),
        ("age('2020-01-01'::TIMESTAMP)::VARCHAR", "differs from run to run"),
        ("wavg(q, 1)", "use its own row only"),
        ("geomean(q)", "use its own row only"),
        ("json_group_array(q)", "use its own row only"),
        ("generate_subscripts([1, 2], 1)", "use its own row only"),
        ("1) UNION SELECT (2", "must be one SQL expression"),
        ("#1", "must use columns by name"),
    ],
)
def test_what_hides_in_macros_is_refused(expression: str, words: str) -> None:
    """Clock, chance and other rows, however they are called."""
    with pytest.raises(cdp.MappingError, match=words):
        first(table(1, q=[1]), derive={"y": expression})


def test_columns_that_differ_in_case_alone() -> None:
    """SQL would take one for the other: it is said."""
    with pytest.raises(cdp.MappingError, match="only in letter case"):
        first(table(1, x=["lower"], X=["upper"]), derive={"d": '"X"'})


def test_an_expression_that_always_fails_costs_no_query_for_each_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A handful of queries find all rows at which it does."""
    from cdp_backfill.messages.deriving import Deriver  # noqa: PLC0415

    deriver = Deriver({"y": "x::INT"}, pa.schema([("x", pa.string())]))
    asked: list[Any] = []
    answer = deriver._answer

    def counted(*given: Any, **more: Any) -> Any:
        asked.append(given)
        return answer(*given, **more)

    monkeypatch.setattr(deriver, "_answer", counted)
    batch = pa.RecordBatch.from_arrays([pa.array(["bad"] * 8_192)], ["x"])
    _, failed = deriver.apply(batch)
    assert failed["y"].all()
    assert len(asked) < 5


def test_names_that_would_be_cut_or_misread(tmp_path: Path) -> None:
    """The character 0 in a column's name, and the mark of constants as a property."""
    with pytest.raises(cdp.SourceError, match="a NUL character"):
        pd.DataFrame({"uid": ["u"], "ts": ["2020-01-01"], "a\0b": [1]}).cdp.plan(OPENED)
    with pytest.raises(cdp.MappingError, match="marks constants"):
        cdp.Mapping(properties={"a": {"$lit": "col"}})
    path = tmp_path / "e.csv"
    path.write_text("uid,ts,x\nu1,2020-01-01,a\nu2,\x1eend of the file\x1e\nu3,2020-01-01,b\n")
    with pytest.raises(cdp.SourceError, match="Row 1"):
        cdp.plan(path, OPENED)
    export = {"appsflyer_id": ["d"], "event_name": ["install"], "event_time": ["2020-01-01"]}
    named = pa.table(export | {'Plat"form': ["ios"]})
    assert cdp.plan(named, preset="appsflyer").counts["to_send"] == 1


def test_fractions_of_seconds_are_not_rounded_up() -> None:
    """A float of seconds gives the millisecond that its digits say."""
    for cell, expected in ((1700000000.999999, "20.999Z"), (1700000000.123, "20.123Z")):
        assert first(table(1, t=[cell]), timestamp="t")["timestamp"].endswith(expected)


def test_duplicates_of_a_row_that_did_not_arrive_are_spoken_of(box: Sandbox) -> None:
    """The report says that these did not arrive either."""
    box.set_faults(refuse_users=["u0"])
    report = cdp.send(
        table(2, mid=["m", "m"]),
        OPENED,
        message_id="mid",
        duplicates="skip",
        destination=box.destination,
        progress=False,
    )
    assert report.counts["refused"] == report.counts["skipped"] == 1
    assert "If that row was not delivered, these were not either" in " ".join(str(report).split())

"""JSON files whose rows are inside envelopes, and Apple's crash reports."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.sources import open_source
from cdp_backfill.sources.texts import envelopes
from cdp_backfill.sources.unpacking import BLOCK_BYTES

if TYPE_CHECKING:
    from pathlib import Path

ROWS: Final = [{"uid": f"u{number}", "version": "1.10", "n": number} for number in range(3)]

names = st.sampled_from(["uid", "event", "version", "a b", "é", "data", "type"])
rows = st.lists(
    st.dictionaries(names, st.integers() | st.text() | st.none() | st.lists(st.integers())),
    min_size=1,
    max_size=5,
)


def read(path: Path, text: str) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The rows of a file with this text, and the notes about it."""
    path.write_text(text, encoding="utf-8")
    source = open_source(path)
    cells = [row for chunk in source.chunks(source.schema.names) for row in chunk.batch.to_pylist()]
    assert source.rows == len(cells)
    return cells, source.notes


def lines(*objects: Any) -> str:
    """The objects, one on each line."""
    return "".join(f"{json.dumps(each)}\n" for each in objects)


LAYOUTS: Final[dict[str, str]] = {
    "one_list": json.dumps({"events": ROWS}),
    "one_list_on_lines": json.dumps({"results": ROWS}, indent=2),
    "pages": lines(
        {"records": ROWS[:2], "next_cursor": "x"}, {"records": ROWS[2:], "status": "ok"}
    ),
    "pages_in_a_list": json.dumps([{"rows": ROWS[:1]}, {"rows": []}, {"rows": ROWS[1:]}]),
    "a_page_without_rows": lines({"data": ROWS}, {"data": None, "count": 0}),
    "a_row_on_each_line": lines(*({"data": row} for row in ROWS)),
    "airbyte": lines(
        {"type": "LOG", "log": {"message": "x"}},
        *(
            {"type": "RECORD", "record": {"stream": "e", "data": row, "emitted_at": 1}}
            for row in ROWS
        ),
        {"type": "STATE", "state": {}},
    ),
    "airbyte_files": lines(
        *(
            {"_airbyte_raw_id": "r", "_airbyte_extracted_at": 1, "_airbyte_data": row}
            for row in ROWS
        )
    ),
    "singer": lines(
        {"type": "SCHEMA", "stream": "e", "schema": {}},
        *({"type": "RECORD", "stream": "e", "record": row, "time_extracted": "x"} for row in ROWS),
    ),
    "kafka_connect": lines(*({"schema": {"type": "struct"}, "payload": row} for row in ROWS)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_envelopes_are_opened(layout: str, tmp_path: Path) -> None:
    """The rows inside are read, in their order, and a note says where they were."""
    cells, notes = read(tmp_path / "events.json", LAYOUTS[layout])
    assert cells == ROWS
    assert "The rows are inside" in notes[0]


def test_a_note_names_what_is_left_out(tmp_path: Path) -> None:
    """Keys beside the rows, and messages without a row, are named and counted."""
    _, notes = read(tmp_path / "events.json", LAYOUTS["airbyte"])
    assert notes == (
        (
            "The rows are inside 'record.data' of each object; the keys beside them are left out "
            "(emitted_at, stream, type)."
        ),
        "Without a row: 2 messages of a loading tool.",
    )


@given(rows, st.sampled_from(["events", "records"]))
def test_opening_gives_what_was_put_in(
    tmp_path_factory: pytest.TempPathFactory, inside: list[dict[str, Any]], key: str
) -> None:
    """Any rows in a list come out as they do from a file that holds them without an envelope."""
    folder = tmp_path_factory.mktemp("envelopes")
    plain = folder / "plain.json"
    plain.write_text(json.dumps([{"id": 0}, *inside]), encoding="utf-8")
    wrapped = folder / "wrapped.json"
    wrapped.write_text(json.dumps({key: [{"id": 0}, *inside]}), encoding="utf-8")
    one, other = open_source(plain), open_source(wrapped)
    assert one.schema.equals(other.schema)
    for source in (one, other):
        assert source.rows == len(inside) + 1
    (first,), (second,) = (list(source.chunks(source.schema.names)) for source in (one, other))
    assert first.batch.equals(second.batch)


PLAIN: Final[dict[str, list[dict[str, Any]]]] = {
    "a_key_beside": [{"id": 1, "data": {"uid": "a"}}] * 2,
    "lines_of_an_order": [{"order": 1, "items": [{"sku": "a"}, {"sku": "b"}]}] * 2,
    "a_version_beside": [{"version": "2.1", "data": {"uid": "a"}}] * 2,
    "a_type_beside": [{"type": "track", "data": {"uid": "a"}}] * 2,
    "a_state": [{"type": "STATE", "name": "Ohio"}, {"type": "STATE", "name": "Iowa"}],
    "a_list_of_numbers": [{"data": [1, 2]}] * 2,
    "two_lists": [{"data": [{"a": 1}], "events": [{"b": 1}]}] * 2,
    "a_change_log": [{"database": "d", "table": "t", "type": "insert", "data": {"uid": "a"}}] * 2,
    "text": [{"data": "x"}] * 2,
}


@pytest.mark.parametrize("table", PLAIN)
def test_other_objects_are_rows(table: str, tmp_path: Path) -> None:
    """An object with a key that may say something about its rows stays a row of its own."""
    cells, notes = read(tmp_path / "rows.json", lines(*PLAIN[table]))
    assert len(cells) == 2
    assert set(cells[0]) == set(PLAIN[table][0])
    assert notes == ()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (lines({"data": {"uid": "secret"}}, {"uid": "secret"}), "jq -c '.data' old > new"),
        (
            lines({"data": {"uid": "secret"}}, {"data": {"uid": "secret"}, "uid": 1}),
            "jq -c '.data' old > new",
        ),
        (lines({"data": {"uid": "secret"}}, {"data": 7}), "jq -c '.data' old > new"),
        (
            lines(
                *({"type": "RECORD", "stream": name, "record": {"a": "secret"}} for name in "ef")
            ),
            "jq -c 'select(.stream == \"NAME\") | .record' old > new",
        ),
        (json.dumps({"device": "secret", "events": [{"a": 1}, {"a": 2}]}), "jq -c '.events[]'"),
        (lines({"events": [{"a": 1}]}, {"events": [1]}), "jq -c '.events[]' old > new"),
    ],
)
def test_what_cannot_be_opened_is_one_error_with_the_line_to_type(
    text: str, line: str, tmp_path: Path
) -> None:
    """The error names the file and the command that takes the rows out, and no cell."""
    with pytest.raises(cdp.SourceError) as caught:
        read(tmp_path / "events.json", text)
    assert "events.json" in str(caught.value)
    assert line in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_long_list_is_read_in_parts(tmp_path: Path) -> None:
    """A list of many rows gives batches of bounded size, and small lists share one."""
    many = [{"uid": "x" * 1000, "n": number} for number in range(3 * BLOCK_BYTES // 1000)]
    path = tmp_path / "events.json"
    path.write_text(json.dumps({"events": many}), encoding="utf-8")
    sizes = [chunk.batch.num_rows for chunk in open_source(path).chunks(["n"])]
    assert sum(sizes) == len(many)
    assert max(sizes) <= 2.1 * BLOCK_BYTES / 1000
    path.write_text(lines(*({"data": row} for row in ROWS * 100)), encoding="utf-8")
    assert [chunk.batch.num_rows for chunk in open_source(path).chunks(["n"])] == [300]


def test_several_files_are_opened_alike(tmp_path: Path) -> None:
    """Pages in files of their own are one table; a file that holds rows is named."""
    for number in range(2):
        (tmp_path / f"{number}.json").write_text(json.dumps({"events": ROWS}), encoding="utf-8")
    assert open_source(tmp_path).rows == 6
    (tmp_path / "2.json").write_text(lines(*ROWS), encoding="utf-8")
    with pytest.raises(cdp.SourceError, match=r"2\.json"):
        open_source(tmp_path)


def test_opened_rows_are_planned_like_others(tmp_path: Path) -> None:
    """A preset is recognised by what is inside, and the plan says where the rows were."""
    record = {
        "event": "$ae_first_open",
        "properties": {"time": 1683000000, "distinct_id": "ada", "$insert_id": "i"},
    }
    path = tmp_path / "mixpanel.jsonl"
    message = {"type": "RECORD", "record": {"stream": "export", "data": record, "emitted_at": 1}}
    path.write_text(lines(message), encoding="utf-8")
    plan = cdp.plan(path)
    assert plan.proposal.preset == "mixpanel_export"
    assert plan.to_send == 1
    assert any("'record.data'" in note for note in plan.notes)


HEAD: Final = {
    "bug_type": "309",
    "os_version": "iPhone OS 17.2 (21C62)",
    "timestamp": "2023-05-01 10:00:01.00 +0200",
    "incident_id": "I-1",
    "app_name": "Larder",
}
BODY: Final = {
    "captureTime": "2023-05-01 10:00:00.2500 +0200",
    "crashReporterKey": "key",
    "procName": "Larder",
    "incident": "I-1",
    "modelCode": "iPhone14,2",
    "exception": {"type": "EXC_CRASH", "signal": "SIGABRT"},
}


@pytest.mark.parametrize("indent", [None, 2])
def test_an_apple_report_is_one_row(indent: int | None, tmp_path: Path) -> None:
    """The line of metadata and the report below it are one crash, at the time of the crash."""
    path = tmp_path / "Larder-2023-05-01-100000.ips"
    path.write_text(f"{json.dumps(HEAD)}\n{json.dumps(BODY, indent=indent)}\n", encoding="utf-8")
    plan = cdp.plan(path)
    assert plan.proposal.preset == "apple_ips"
    (message,) = plan.samples
    assert message["event"] == "Application Crashed"
    assert message["timestamp"] == "2023-05-01T08:00:00.250Z"
    assert message["messageId"] == "I-1"
    assert message["properties"] == {"kind": "EXC_CRASH", "reason": "SIGABRT"}


def test_a_folder_of_apple_reports(tmp_path: Path) -> None:
    """Each file is a row; an old report, whose body is no JSON, is left out by its bug_type."""
    for number in range(3):
        head, body = HEAD | {"incident_id": str(number)}, BODY | {"incident": str(number)}
        text = f"{json.dumps(head)}\n{json.dumps(body, indent=1)}"
        (tmp_path / f"{number}.ips").write_text(text, encoding="utf-8")
    old = f"{json.dumps(HEAD | {'bug_type': '109'})}\nIncident Identifier: I\nHardware Model: x\n"
    (tmp_path / "old.ips").write_text(old, encoding="utf-8")
    plan = cdp.plan(tmp_path)
    assert (plan.to_send, plan.skipped) == (3, 1)
    assert plan.unknown_events == {"bug_type 109": 1}


def test_a_broken_apple_report_is_named(tmp_path: Path) -> None:
    """A report that was cut off gives one error, not half a crash."""
    path = tmp_path / "cut.ips"
    path.write_text(f'{json.dumps(HEAD)}\n{{"procName": "Lar', encoding="utf-8")
    with pytest.raises(cdp.SourceError, match=r"cut\.ips.*not valid JSON"):
        cdp.plan(path)


def test_a_table_of_metadata_is_a_table(tmp_path: Path) -> None:
    """Lines with the metadata of several reports are rows."""
    cells, _ = read(tmp_path / "heads.ndjson", lines(HEAD, HEAD, HEAD))
    assert cells == [HEAD] * 3


def test_no_other_key_is_a_key_of_rows() -> None:
    """The keys of rows and those of transport have none in common."""
    rows_keys = envelopes._ROW | envelopes._ROWS
    assert not rows_keys & (envelopes._LOADING | envelopes._ANSWER | envelopes._MESSAGE)

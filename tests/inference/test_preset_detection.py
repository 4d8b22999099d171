"""Which tables are taken for the export of a vendor, and which are not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import pyarrow as pa
import pytest

import cdp_backfill as cdp
from cdp_backfill.inference import presets
from cdp_backfill.inference.preset_proposals import detect_preset
from cdp_backfill.sources import open_source
from tests.inference.test_preset_shapes import Export, each_export

if TYPE_CHECKING:
    from pathlib import Path

FOREIGN: Final[dict[str, dict[str, Any]]] = {
    "chat_messages": {
        "type": "text",
        "event": "posted",
        "user_id": "u",
        "message_id": "m",
        "timestamp": "2023-05-01T10:00:00Z",
        "properties": "{}",
        "context": "the conversation",
    },
    "messages_of_another_bus": {
        "type": "order.created",
        "event": "created",
        "userId": "u",
        "messageId": "m",
        "timestamp": "2023-05-01T10:00:00Z",
        "properties": "{}",
        "context": "{}",
    },
    "webhooks": {
        "id": "w",
        "event_type": "order.created",
        "time": 1683000000,
        "user": '{"id": "u"}',
        "properties": "{}",
    },
    "events_of_another_tool": {"event": "signup", "properties": '{"user": "u", "at": 1}'},
    "profiles": {"profile": '{"name": "Ada"}', "ts": 1683000000, "event_props": "{}"},
    "uuid_of_another_kind": {
        "uuid": "17",
        "event": "open",
        "distinct_id": "u",
        "timestamp": "2023-05-01T10:00:00Z",
        "properties": "{}",
    },
    "tickets": {
        "bug_type": "regression",
        "timestamp": "2023-05-01T10:00:00Z",
        "incident": "i",
        "crashReporterKey": "k",
        "modelCode": "m",
        "exception": "e",
    },
    "installs_of_machines": {
        "device_id": "d",
        "install_timestamp": 1683000000,
        "os_name": "linux",
    },
    "sessions": {"session_start_timestamp": 1, "os_name": "ios", "device_id": "d"},
    "logs": {
        "event_id": "e",
        "timestamp": 1,
        "platform": "python",
        "level": "fatal",
        "exception": "ValueError",
    },
    "data_column": {"_airbyte_data_version": 1, "data": "{}"},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_tables_are_none(name: str) -> None:
    """A table of someone else with the same column names is not taken, because of its cells."""
    frame = pd.DataFrame([FOREIGN[name]] * 5)
    assert detect_preset(open_source(frame)) is None
    assert cdp.plan(frame).proposal.preset is None


@each_export
def test_exports_are_recognised_as_any_kind_of_table(export: Export, tmp_path: Path) -> None:
    """In a frame, in parquet, in JSON and in CSV, and from other columns of a loading tool."""
    frame = pd.DataFrame(export.rows())
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_json(tmp_path / "a.ndjson", orient="records", lines=True, date_format="iso")
    text = frame.map(lambda cell: json.dumps(cell) if isinstance(cell, dict | list) else cell)
    text.to_csv(tmp_path / "a.csv", index=False)
    loaded = frame.assign(_fivetran_synced="1999-01-01", _sdc_batched_at="1999-01-01")
    for table in (frame, pa.Table.from_pandas(frame), loaded):
        found = detect_preset(open_source(table))
        assert found is not None
        assert found.name == export.preset
    if export.preset == "airbyte":
        return  # lines of JSON are opened when they are read
    for kind in ("parquet", "ndjson", "csv"):
        plan = cdp.plan(tmp_path / f"a.{kind}")
        assert plan.proposal.preset == export.preset, kind
        assert plan.to_send == len(frame), (kind, plan)


@each_export
def test_names_in_another_case_are_recognised(export: Export) -> None:
    """Upper case, as some warehouses write it, does not matter where the cells tell enough."""
    frame = pd.DataFrame(export.rows())
    frame.columns = frame.columns.str.upper()
    found = presets.detect(list(frame.columns))
    spelled = any(
        name != name.casefold()
        for columns in (presets.load(export.preset).detect)
        for name in columns
    )
    assert (found is not None and found.name == export.preset) or spelled


@pytest.mark.parametrize("cell", [None, "", "{}"])
def test_empty_cells_do_not_hide_an_export(cell: str | None) -> None:
    """A column without a cell speaks neither for nor against an export."""
    frame = pd.DataFrame({"event": ["$ae_first_open"], "properties": [None]}, dtype="string")
    assert detect_preset(open_source(frame)) is not None
    if cell:
        frame["properties"] = cell
        assert detect_preset(open_source(frame)) is None


AIRBYTE: Final = {"_airbyte_raw_id": "r", "_airbyte_extracted_at": "1999-01-01T00:00:00Z"}


def airbyte(record: Any, **more: Any) -> pd.DataFrame:
    """A raw table of Airbyte with one record."""
    return pd.DataFrame([AIRBYTE | {"_airbyte_data": record} | more])


def test_records_that_no_preset_knows_are_asked_about() -> None:
    """The plan names the keys and what to type; with that, the rows are sent."""
    frame = airbyte('{"who": "ada", "did": "app_open", "at": "2023-05-01T10:00:00Z", "o\'k": 1}')
    plan = cdp.plan(frame)
    (question,) = plan.questions
    assert question.needed
    assert "'who', 'did', 'at'" in question.text
    assert "derive={'who': \"_airbyte_data::JSON->>'$.who'\"}" in question.text
    (message,) = frame.cdp.messages(
        1,
        derive={name: f"_airbyte_data::JSON->>'$.{name}'" for name in ("who", "did", "at")},
        user_id="who",
        event="did",
        events={"app_open": cdp.Event.OPENED},
        timestamp="at",
        rest="drop",
    )
    assert (message["userId"], message["event"]) == ("ada", "Application Opened")


def test_records_can_be_structs_and_presets_can_be_named() -> None:
    """A struct is read like JSON, and a preset for the records can be named."""
    record = {
        "event": "$ae_first_open",
        "properties": {"time": 1683000000, "distinct_id": "ada", "$insert_id": "i"},
    }
    expected = airbyte(json.dumps(record)).cdp.messages(1)
    assert airbyte(record).cdp.messages(1) == expected
    named = airbyte(json.dumps(record)).cdp.messages(1, preset="mixpanel_export")
    assert named == expected
    (message,) = airbyte(json.dumps(record), ours="x").cdp.messages(
        1, preset="airbyte", properties={"ours": "ours"}
    )
    assert message["properties"] == {"ours": "x"}


def test_a_flat_export_inside_records_is_read_by_its_keys() -> None:
    """Keys of a record serve as the columns of the export, whatever their case."""
    record = {
        "appsflyer_id": "af",
        "event_name": "install",
        "event_time": "2023-05-01 10:00:00",
        "customer_user_id": "ada",
        "app_version": "1.10",
        "platform": "ios",
    }
    (message,) = airbyte(json.dumps(record)).cdp.messages(1)
    assert message["userId"] == "ada"
    assert message["properties"] == {"version": "1.10"}
    assert message["timestamp"] == "2023-05-01T10:00:00.000Z"


def test_braze_files_without_the_event_are_asked_about() -> None:
    """Where only the folder tells the event, the plan asks for it; the answer is enough."""
    frame = pd.DataFrame(
        [
            {
                "id": "b",
                "user_id": "internal",
                "external_user_id": "ada",
                "app_id": "a",
                "time": 1683000000,
                "device_id": "d",
                "platform": "ios",
                "os_version": "16",
                "device_model": "iPhone14,5",
            }
        ]
    )
    (question,) = cdp.plan(frame).questions
    assert "event=lit('Application Opened')" in question.text
    (message,) = frame.cdp.messages(1, event=cdp.lit("Application Opened"))
    assert (message["userId"], message["messageId"]) == ("ada", "b")


def test_clevertap_asks_for_the_event_of_its_query() -> None:
    """Rows of the Get Events API, nested or flat, do not name their event."""
    nested = pd.DataFrame(
        [
            {
                "profile": {"identity": "ada", "objectId": "o", "platform": "iOS"},
                "ts": 20230501100000,
                "event_props": {"tier": "gold"},
            }
        ]
    )
    flat = pd.DataFrame(
        [
            {
                "profile.identity": "ada",
                "profile.objectId": "o",
                "profile.platform": "iOS",
                "ts": "20230501100000",
            }
        ]
    )
    for frame in (nested, flat):
        (question,) = cdp.plan(frame).questions
        assert question.field == "event"
        (message,) = frame.cdp.messages(1, event=cdp.lit(cdp.Event.OPENED), timezone="Asia/Kolkata")
        assert message["timestamp"] == "2023-05-01T04:30:00.000Z"
        assert message["userId"] == "ada"


def test_a_preset_without_a_user_asks() -> None:
    """A table that lacks every column of who is asked about, and the answer is enough."""
    frame = pd.DataFrame(
        {
            "event_name": ["application_foreground"],
            "event_vendor": "v",
            "derived_tstamp": "2023-05-01 10:00:00",
            "dvce_created_tstamp": "x",
            "event_fingerprint": "f",
            "uid": "ada",
        }
    )
    (question,) = cdp.plan(frame).questions
    assert question.field == "user_id"
    (message,) = frame.cdp.messages(1, user_id="uid")
    assert message["userId"] == "ada"

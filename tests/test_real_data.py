"""The main job on files made by other people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pandas as pd

import cdp_backfill as cdp

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

CLICKSTREAM = cdp.Mapping(
    anonymous_id="device_id",
    event="event_type",
    timestamp="timestamp",
    timestamp_unit="ms",
    message_id="event_id",
    events={
        "_first_open": "Application Installed",
        "_app_start": "Application Opened",
        "_app_end": "Application Backgrounded",
    },
    other_events="skip",
    properties={"version": "app_version"},
    context={
        "app": {"name": "app_title", "namespace": "app_package_name", "version": "app_version"},
        "device": {"id": "device_id", "manufacturer": "make", "model": "model"},
        "network": {"carrier": "carrier"},
        "os": {"name": "platform", "version": "os_version"},
        "locale": "locale",
    },
    rest="drop",
)


def test_clickstream(box: Sandbox, data: Path) -> None:
    """404 lifecycle rows arrive as the right events, field by field; 9,596 are skipped."""
    path = data / "aws_clickstream" / "events.parquet"
    report = cdp.send(path, CLICKSTREAM, destination=box.destination, progress=False)
    assert report.ok
    assert {name: rows for name, rows in report.counts.items() if rows} == {
        "delivered": 404,
        "skipped": 9_596,
    }
    assert box.totals()["messages"].to_dict() == {
        "Application Installed": 26,
        "Application Opened": 191,
        "Application Backgrounded": 187,
    }
    given = pd.read_parquet(path)
    given = given[given["event_type"].isin(CLICKSTREAM.events)].reset_index(drop=True)
    stored = box.events()
    assert stored["messageId"].tolist() == given["event_id"].tolist()
    assert stored["anonymousId"].tolist() == given["device_id"].tolist()
    assert stored["userId"].isna().all()
    assert (stored["timestamp"] == pd.to_datetime(given["timestamp"], unit="ms", utc=True)).all()
    for path_, column in (
        (("app", "version"), "app_version"),
        (("os", "name"), "platform"),
        (("os", "version"), "os_version"),
        (("device", "model"), "model"),
        (("device", "manufacturer"), "make"),
    ):
        actual = [context.get(path_[0], {}).get(path_[1]) for context in stored["context"]]
        assert actual == [None if pd.isna(cell) else cell for cell in given[column]]
    versions = [(properties or {}).get("version") for properties in stored["properties"]]
    assert versions == [None if pd.isna(cell) else cell for cell in given["app_version"]]


def test_clickstream_with_every_event(box: Sandbox, data: Path) -> None:
    """``other_events="send"`` delivers all 10,000 rows, of a frame as of a file."""
    path = data / "aws_clickstream" / "events.parquet"
    for table in (path, pd.read_parquet(path)):
        report = cdp.send(
            table, CLICKSTREAM, other_events="send", destination=box.destination, progress=False
        )
        assert report.counts["delivered"] == 10_000
    stored = box.events()
    assert stored["messageId"].value_counts().eq(2).all()


def test_clickstream_refuses_what_nobody_named(data: Path) -> None:
    """By default the other 17 kinds of event are invalid, and the plan says so."""
    plan = cdp.plan(
        data / "aws_clickstream" / "events.parquet", CLICKSTREAM, other_events="invalid"
    )
    assert plan.counts == {"to_send": 404, "invalid": 9_596, "held": 0, "skipped": 0}


def test_snowplow(box: Sandbox, data: Path) -> None:
    """25 lifecycle rows of a wide CSV arrive, with the user id out of a JSON context."""
    frame = pd.read_csv(data / "snowplow_mobile" / "snowplow_mobile_events.csv")
    session = frame["contexts_com_snowplowanalytics_snowplow_client_session_1_0_1"].map(
        lambda cell: json.loads(cell)[0]["user_id"] if isinstance(cell, str) else None
    )
    report = frame.assign(session_user=session).cdp.send(
        anonymous_id="session_user",
        event="event_name",
        timestamp="derived_tstamp",
        message_id="event_id",
        events={
            "application_foreground": "Application Foregrounded",
            "application_background": "Application Backgrounded",
        },
        other_events="skip",
        rest="drop",
        destination=box.destination,
        progress=False,
    )
    assert report.counts["delivered"] == 25
    assert report.counts["skipped"] == len(frame) - 25
    assert "25 times carry no zone and are read as UTC" in str(report)
    assert box.totals()["messages"].to_dict() == {
        "Application Foregrounded": 12,
        "Application Backgrounded": 13,
    }
    kept = frame[frame["event_name"].isin(["application_foreground", "application_background"])]
    expected = pd.to_datetime(kept["derived_tstamp"], utc=True, format="ISO8601")
    assert box.events()["timestamp"].tolist() == expected.dt.floor("ms").tolist()


def test_ga4_shape(box: Sandbox, data: Path) -> None:
    """Keywords add to the preset: parameters are properties under their own keys."""
    path = data / "aws_clickstream" / "ga4_shape_events.snappy.parquet"
    report = cdp.send(
        path,
        anonymous_id="user_pseudo_id",
        event="event_name",
        timestamp="event_timestamp",
        timestamp_unit="ms",
        other_events="send",
        destination=box.destination,
        progress=False,
    )
    assert report.counts["delivered"] == report.rows == 2_153
    first = pd.read_parquet(path).iloc[0]
    params = box.events()["properties"][0]
    filled = [
        param
        for param in first["event_params"]
        if any(v is not None for v in param["value"].values())
    ]
    assert set(params) == {param["key"] for param in filled}

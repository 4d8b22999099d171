"""Files made by other people, planned and sent with no argument at all.

What arrives is held against the files as plain Python reads them, without this package.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

import cdp_backfill as cdp

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox


def arrived(box: Sandbox, source: Any, **options: Any) -> list[dict[str, Any]]:
    """Plan with no argument, send that, and give what is stored, in order."""
    # One request at a time: then they are stored in the order of the rows.
    destination = replace(box.destination, workers=1)
    plan = cdp.plan(source, destination=destination, **options)
    assert plan.proposal.complete, plan
    report = plan.send(progress=False)
    counts = {**report.counts, "to_send": report.counts["delivered"]}
    assert {name: counts[name] for name in plan.counts} == plan.counts
    stored = box.events().astype(object)
    return [dict(row) for _, row in stored.where(stored.notna(), None).iterrows()]


def at(row: dict[str, Any]) -> str:
    """The time of a stored message, to the millisecond."""
    return str(row["timestamp"].isoformat(timespec="milliseconds"))


def moment(seconds: float) -> str:
    """The same of seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def inside(row: dict[str, Any], *names: str) -> Any:
    """A value of properties or context, None where it is not there."""
    actual: Any = row
    for name in names:
        actual = actual.get(name) if isinstance(actual, dict) else None
    return actual


def test_clickstream(box: Sandbox, data: Path) -> None:
    """341 events of apps, field by field; 63 of the web and 9,596 others are left out."""
    path = data / "aws_clickstream" / "events.parquet"
    stored = arrived(box, path)
    events = {
        "_first_open": "Application Installed",
        "_app_start": "Application Opened",
        "_app_end": "Application Backgrounded",
    }
    given = [
        row
        for row in pq.read_table(path).to_pylist()
        if row["event_type"] in events and row["platform"] != "Web"
    ]
    assert Counter(row["event"] for row in stored) == {
        "Application Installed": 19,
        "Application Opened": 163,
        "Application Backgrounded": 159,
    }
    assert len(stored) == len(given) == 341
    for row, source in zip(stored, given, strict=True):
        user = (json.loads(source["user"]).get("_user_id") or {}).get("value")
        assert row["event"] == events[source["event_type"]]
        assert row["messageId"] == source["event_id"]
        assert row["userId"] == user
        assert row["anonymousId"] == source["device_id"]
        assert at(row) == moment(source["timestamp"] / 1000)
        assert inside(row, "context", "app", "version") == source["app_version"]
        has_version = row["event"] != "Application Backgrounded"
        version = source["app_version"] if has_version else None
        assert inside(row, "properties", "version") == version
        assert inside(row, "context", "os", "name") == source["platform"]
        assert inside(row, "context", "os", "version") == source["os_version"]
        assert inside(row, "context", "device", "model") == source["model"]
        assert inside(row, "context", "device", "manufacturer") == source["make"]
    installs = [row for row in stored if row["event"] == "Application Installed"]
    assert not any(row["userId"] for row in installs)


def test_ga4_shape(box: Sandbox, data: Path) -> None:
    """Parameters are properties under their keys with their types; milliseconds stay that."""
    path = data / "aws_clickstream" / "ga4_shape_events.snappy.parquet"
    plan = cdp.plan(path)
    assert plan.proposal.preset == "ga4"
    assert plan.counts == {"to_send": 0, "invalid": 0, "held": 0, "skipped": 2_153}
    assert "Nothing would be sent. other_events='send' sends every event." in str(plan)
    stored = arrived(box, path, other_events="send")
    given = pq.read_table(path).to_pylist()
    assert len(stored) == len(given) == 2_153
    for row, source in zip(stored, given, strict=True):
        expected: dict[str, Any] = {}
        for pair in source["event_params"]:
            value = pair["value"]
            names = ("string_value", "int_value", "float_value", "double_value")
            actual = [value[name] for name in names if value[name] is not None]
            if actual:
                expected[pair["key"]] = actual[0]
        assert row["properties"] == expected  # own events have no version there
        assert inside(row, "context", "app", "version") == source["app_info"]["version"]
        assert row["event"] == source["event_name"]
        assert row["userId"] == source["user_id"]
        assert row["anonymousId"] == source["user_pseudo_id"]
        assert at(row) == moment(source["event_timestamp"] / 1000)
        assert row["timestamp"].year == 2023
        assert inside(row, "context", "device", "model") == source["device"]["mobile_model_name"]
        system = source["device"]["operating_system"]
        assert inside(row, "context", "os", "name").casefold() == system.casefold()


def test_rows_of_the_web_are_no_app(data: Path) -> None:
    """All ten rows of the flat table are of the web; words for nothing are no ids."""
    path = data / "aws_clickstream" / "event_v2_session_dataset.json"
    plan = cdp.plan(path)
    assert plan.proposal.preset == "aws_clickstream_v2"
    assert plan.counts["skipped"] == plan.rows == 10
    assert plan.unknown_events["_first_open (web)"] == 1
    # Sent as events of another kind, they show what the rest of the mapping makes of them.
    sent = cdp.plan(path, other_events="send").samples[0]
    assert "userId" not in sent
    assert sent["anonymousId"] == "412f30bf-a662-4cf8-8548-770816852f55"
    assert sent["timestamp"] == "2024-05-16T19:50:01.418Z"
    assert sent["context"]["location"] == {"city": "Warsaw", "country": "Poland"}
    assert "properties" not in sent


def test_snowplow(box: Sandbox, data: Path) -> None:
    """25 of 130 rows, with the user id inside a JSON context; labels are no ids."""
    path = data / "snowplow_mobile" / "snowplow_mobile_events.csv"
    stored = arrived(box, path)
    events = {
        "application_foreground": "Application Foregrounded",
        "application_background": "Application Backgrounded",
    }
    with path.open(encoding="utf-8", newline="") as file:
        given = [row for row in csv.DictReader(file) if row["event_name"] in events]
    assert len(stored) == len(given) == 25
    for row, source in zip(stored, given, strict=True):
        session = json.loads(
            source["contexts_com_snowplowanalytics_snowplow_client_session_1_0_1"]
        )[0]
        assert row["event"] == events[source["event_name"]]
        assert row["messageId"] == source["event_id"]
        assert not row["userId"]
        assert row["anonymousId"] == session["user_id"]
        expected = datetime.fromisoformat(source["derived_tstamp"]).replace(tzinfo=UTC)
        assert at(row) == expected.isoformat(timespec="milliseconds")
        assert inside(row, "context", "locale") == (source["br_lang"] or None)


def test_warehouse_seeds(box: Sandbox, data: Path) -> None:
    """The presets of three vendors' tables are recognised; these hold no lifecycle events."""
    folder = data / "warehouse_seeds"
    expected = {
        "amplitude_event_data.csv": ("amplitude", 10),
        "ga4_export_event_data.csv": ("ga4_flat", 6),
        "mixpanel_event.csv": ("mixpanel", 5),
    }
    for name, (preset, rows) in expected.items():
        plan = cdp.plan(folder / name)
        assert plan.proposal.preset == preset
        assert plan.counts["skipped"] == plan.rows == rows
    (note,) = cdp.plan(folder / "ga4_export_event_data.csv").notes
    assert "two columns named 'param_session_engaged'" in note
    stored = arrived(box, folder / "amplitude_event_data.csv", other_events="send")
    with (folder / "amplitude_event_data.csv").open(encoding="utf-8", newline="") as file:
        given = list(csv.DictReader(file))
    for row, source in zip(stored, given, strict=True):
        assert row["userId"] == source["user_id"]
        assert row["anonymousId"] == source["device_id"]
        assert row["event"] == source["event_type"]
        expected_time = datetime.fromisoformat(source["event_time"]).replace(tzinfo=UTC)
        assert at(row) == expected_time.isoformat(timespec="milliseconds")
        assert inside(row, "context", "location", "country") == (source["country"] or None)


# What each report is, as its file says it.
CRASHES = {
    "bugsnag-cocoa-BugsnagEvent1": "crash",
    "bugsnag-cocoa-KSCrashReport1": "crash",
    "bugsnag-cocoa-android_native_crash": "crash",
    "sentry-cocoa-Crash-faulty-report": "crash",
    "sentry-cocoa-Crash-missing-crash": "report without a crash",
    "sentry-cocoa-Crash-missing-user": "too_early",
    "sentry-cocoa-crash-bad-access": "crash",
    "sentry-cocoa-crash-report-1": "crash",
    "sentry-cocoa-crash-report-legacy-storage-info": "crash",
    "sentry-cocoa-crash-report-user-info-scope-v1": "refused",
    "sentry-cocoa-crash-report-without-device-context": "crash",
    "sentry-cocoa-crash-sigterm": "asked to end (SIGTERM)",
    "sentry-cocoa-fatal-error-binary-images-message2": "crash",
    "sentry-cocoa-raven-throwerror": "refused",
    "sentry-cocoa-recrash-report": "crash",
}


def test_which_crash_reports_are_crashes(data: Path) -> None:
    """One file at a time: ten crashes, two that are none, one of 1970, two of another kind."""
    actual = {}
    for path in sorted((data / "crash_reports").glob("*.json")):
        try:
            plan = cdp.plan(path, preset="crash_reports")
        except cdp.MappingError:
            actual[path.stem] = "refused"
            continue
        wrong = [problem.code for problem in plan.problems]
        actual[path.stem] = (wrong or [*plan.unknown_events] or ["crash"])[0]
    assert actual == CRASHES


def test_crash_reports(box: Sandbox, data: Path) -> None:
    """All files at once: crashes as they say, none too large, none of 1970."""
    files = sorted((data / "crash_reports").glob("*.json"))
    stored = arrived(box, files)
    given = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in files
        if CRASHES[path.stem] == "crash"
    ]
    assert len(stored) == len(given) == 10
    for row, source in zip(stored, given, strict=True):
        assert row["event"] == "Application Crashed"
        assert row["timestamp"].year > 2008
        assert len(json.dumps(row["properties"])) < 1_000
        report = source.get("report")
        system = source.get("system") or source.get("recrash_report", {}).get("system", {})
        if report is not None:
            assert row["messageId"] == report["id"]
            assert at(row) == moment(float(report["timestamp"]))
            assert inside(row, "context", "app", "version") == system["CFBundleShortVersionString"]
            assert inside(row, "context", "app", "build") == system["CFBundleVersion"]
            assert inside(row, "context", "os", "version") == system["system_version"]
            assert inside(row, "context", "device", "model") == system["machine"]
            assert row["anonymousId"] == system.get("device_app_hash")
        else:
            app, device = source["app"], source["device"]
            assert at(row) == datetime.fromisoformat(device["time"]).isoformat(
                timespec="milliseconds"
            )
            assert row["anonymousId"] == device["id"]
            user = source["user"]["id"]
            assert row["userId"] == (user if user != device["id"] else None)
            assert inside(row, "context", "app", "version") == app["version"]
            assert inside(row, "context", "app", "build") == str(
                app.get("bundleVersion") or app["versionCode"]
            )
            system = inside(row, "context", "os", "name")
            assert system.casefold() == device["osName"].casefold()
            assert inside(row, "context", "device", "model") == device["model"]
    plan = cdp.plan(files)
    assert plan.largest < 1_000
    assert plan.duplicates == 2

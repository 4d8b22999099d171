"""Keywords beside a preset: they add to what it has, and replace only what they name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import cdp_backfill as cdp
from cdp_backfill.cli.app import app
from cdp_backfill.cli.words import in_options
from cdp_backfill.inference import presets
from cdp_backfill.inference.presets.merging import add_fields, in_order, prune
from cdp_backfill.messages.expressions import columns_of
from tests.inference.test_preset_shapes import EXPORTS, Export, each_export

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

TREES: Final = ("properties", "context", "integrations")
UNITS: Final = ("s", "ms", "us", "ns")
BY_SLUG: Final = {export.slug: export for export in EXPORTS}


def table(export: Export | str) -> pd.DataFrame:
    """The table of an export."""
    return pd.DataFrame((BY_SLUG[export] if isinstance(export, str) else export).rows())


def leaves(tree: dict[str, Any], *path: str) -> dict[tuple[str, ...], Any]:
    """The leaves of a nested dict."""
    result: dict[tuple[str, ...], Any] = {}
    for name, value in tree.items():
        result |= leaves(value, *path, name) if isinstance(value, dict) else {(*path, name): value}
    return result


columns = st.sampled_from(["uid", "tier", "plan"])
trees = st.fixed_dictionaries(
    {},
    optional={
        "properties": st.dictionaries(st.sampled_from(["version", "tier", "url"]), columns),
        "context": st.fixed_dictionaries(
            {},
            optional={
                "locale": columns,
                "app": st.dictionaries(st.sampled_from(["name", "version"]), columns),
                "device": st.dictionaries(st.sampled_from(["id", "model"]), columns),
            },
        ),
        "integrations": st.dictionaries(st.sampled_from(["All", "Mixpanel"]), st.booleans()),
        "events": st.dictionaries(
            st.sampled_from(["mine", "install", "yours"]), st.sampled_from(list(cdp.Event))
        ),
        "derive": st.dictionaries(st.sampled_from(["mine", "yours"]), st.just("upper(uid)")),
        "nulls": st.lists(st.sampled_from(["-", "?"]), unique=True),
        "drop": st.lists(st.sampled_from(["note", "remark"]), unique=True),
        "allow_commands": st.lists(st.just("User Deleted")),
        "user_id": columns,
        "rest": st.sampled_from(["properties", "drop"]),
        "duplicates": st.sampled_from(["send", "skip"]),
    },
)


@given(trees, st.sampled_from(presets.names()))
def test_dicts_grow_and_other_fields_are_replaced(fields: dict[str, Any], name: str) -> None:
    """Entries that a keyword names are the keyword's; all others are the preset's."""
    mine = presets.load(name).mapping
    both = add_fields(mine, fields)
    theirs = cdp.Mapping(**fields)
    for field in TREES:
        merged = leaves(getattr(mine, field)) | leaves(getattr(theirs, field))
        assert leaves(getattr(both, field)) == merged
    for field in ("events", "derive"):
        assert getattr(both, field) == getattr(mine, field) | getattr(theirs, field)
    for field in ("nulls", "drop", "allow_commands"):
        assert set(getattr(both, field)) == {*getattr(mine, field), *getattr(theirs, field)}
    for field in ("user_id", "rest", "duplicates"):
        assert getattr(both, field) == fields.get(field, getattr(mine, field))
    untouched = {"event", "timestamp", "message_id", "other_events", "expand", "json"}
    for field in untouched:
        assert getattr(both, field) == getattr(mine, field)


@given(st.permutations(["a", "b", "c", "d", "e"]))
def test_new_columns_come_in_an_order_that_works(names: list[str]) -> None:
    """A column is computed after those that it uses, in whatever order they are written."""
    uses = {"a": "uid", "b": "a || uid", "c": "b || a", "d": "c", "e": "uid"}
    order = list(in_order({name: uses[name] for name in names}))
    assert sorted(order) == sorted(names)
    for name in order:
        earlier = order[: order.index(name)]
        assert columns_of(uses[name]) - {"uid"} <= set(earlier)


@given(st.sets(st.sampled_from(["a", "b", "c", "d"])))
def test_only_needed_columns_are_computed(needed: set[str]) -> None:
    """What nothing uses is left out, and what is used stays."""
    derive = {"a": "uid", "b": "a", "c": "uid", "d": "b || c"}
    kept = prune(derive, needed)
    assert set(kept) == needed | ({"a"} & {"a" if needed & {"b", "d"} else ""}) | (
        {"b", "c"} if "d" in needed else set()
    )


def test_a_circle_is_reported_under_its_name() -> None:
    """New columns that use each other give the error that they give without a preset."""
    with pytest.raises(cdp.MappingError, match=r"derive\['(one|two)'\] names"):
        cdp.plan(
            table("adjust"),
            preset="adjust",
            derive={"one": "two", "two": "one"},
            properties={"x": "one"},
        )


@each_export
def test_keywords_add_to_every_preset(export: Export) -> None:
    """A property, a path of the context and a translation more change nothing else."""
    frame = table(export).assign(tier="gold", mail_city="Porto")
    before = frame.cdp.messages(len(frame), preset=export.preset)
    after = frame.cdp.messages(
        len(frame),
        preset=export.preset,
        properties={"our_tier": "tier"},
        context={"groupId": "mail_city"},
        events={"never there": cdp.Event.CRASHED},
        derive={"loud": "upper(mail_city)"},
        nulls=["never there"],
    )
    for one, other in zip(before, after, strict=True):
        assert other.get("properties", {}).pop("our_tier") == "gold"
        assert other.get("context", {}).pop("groupId") == "Porto"
        for message in (one, other):
            message.pop("messageId")
            for name in ("properties", "context"):
                if not message.get(name):
                    message.pop(name, None)
        assert other == one


def test_an_event_that_a_keyword_adds_gets_the_version_too() -> None:
    """Version and build are properties of each event that has them, however it was translated."""
    frame = table("adjust").assign(**{"{activity_kind}": "first_run"})
    frame.loc[0, "{activity_kind}"] = "goodbye"
    first, second, *_ = frame.cdp.messages(
        2,
        preset="adjust",
        events={"first_run": cdp.Event.INSTALLED, "goodbye": "Application Crashed"},
    )
    assert (first.get("properties"), second["properties"]) == (None, {"version": "2.10"})


def test_a_constant_event_gets_what_it_has() -> None:
    """With the event as a constant, its documented properties are those of that event."""
    frame = table("adjust")
    (opened,) = frame.cdp.messages(1, preset="adjust", event=cdp.lit(cdp.Event.OPENED))
    (crashed,) = frame.cdp.messages(1, preset="adjust", event=cdp.lit(cdp.Event.CRASHED))
    assert (opened["properties"], crashed.get("properties")) == ({"version": "2.10"}, None)


def test_a_helper_column_never_leaves() -> None:
    """Columns that only other expressions use are no properties, whatever becomes of the rest."""
    for export in EXPORTS:
        frame = table(export)
        mapping = cdp.plan(frame, preset=export.preset).mapping
        helpers = set(mapping.derive) - set(mapping.properties)
        for message in frame.cdp.messages(len(frame), preset=export.preset, rest="properties"):
            assert not helpers & set(message.get("properties", {})), export.slug


def test_a_replaced_field_takes_its_helpers_with_it() -> None:
    """A new column of the preset for a field that the caller fills does not become a property."""
    frame = table("branch").assign(uid="bob")
    (message,) = frame.cdp.messages(1, preset="branch", user_id="uid", rest="properties")
    assert message["userId"] == "bob"
    assert not [name for name in message["properties"] if name.startswith("found")]


def test_another_time_column_has_no_unit_or_zone_of_the_first() -> None:
    """Milliseconds in a column of the caller's are not read as the preset's seconds."""
    frame = table("appmetrica_installations").assign(seen=1_683_000_000_500)
    (message,) = frame.cdp.messages(1, preset="appmetrica", timestamp="seen")
    assert message["timestamp"] == "2023-05-02T04:00:00.500Z"


def test_a_column_of_the_preset_can_be_used_and_changed() -> None:
    """An expression may use a new column of the preset, and may replace it."""
    frame = table("mixpanel_export")
    used = frame.cdp.messages(
        1,
        preset="mixpanel_export",
        derive={"near": "found_event_parts->>'$.mp_processing_time_ms'"},
        properties={"near": "near"},
    )
    assert used[0]["properties"]["near"].startswith("1682935")
    changed = frame.cdp.messages(
        1,
        preset="mixpanel_export",
        derive={"found_version": "'v' || short", "short": "'9'"},
    )
    assert changed[0]["context"]["app"]["version"] == "v9"


def attempt(action: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Any, str]:
    """What an action returns and no error, or nothing and the error."""
    try:
        return action(*arguments, **options), ""
    except cdp.MappingError as error:
        return None, str(error)


def moments(frame: pd.DataFrame, **options: Any) -> list[str | None]:
    """The times of the messages, None for a row that is not sent."""
    return [message.get("timestamp") for message in frame.cdp.messages(len(frame), **options)]


@each_export
def test_timezone_is_applied_or_refused(export: Export) -> None:
    """A zone moves times that carry none, and is an error where all times carry one."""
    frame = table(export)
    before = moments(frame, preset=export.preset)
    after, error = attempt(moments, frame, preset=export.preset, timezone="Asia/Tokyo")
    if error:
        assert "timezone='Asia/Tokyo' would change nothing" in error
        assert "Leave timezone= out" in error
        return
    moved = pd.to_datetime(pd.Series(before)) - pd.to_datetime(pd.Series(after))
    assert set(moved) == {pd.Timedelta(hours=9)}


@each_export
def test_unit_is_applied_or_refused(export: Export) -> None:
    """A unit changes how numbers are read, and is an error where there are none."""
    frame = table(export)
    before = moments(frame, preset=export.preset)
    same = []
    for unit in UNITS:
        after, error = attempt(moments, frame, preset=export.preset, timestamp_unit=unit)
        if error:
            assert "Leave timestamp_unit= out" in error
        else:
            same.append(after == before)
    assert same.count(True) <= 1
    assert len(same) in {0, len(UNITS)}


def test_zone_is_refused_by_the_type_of_a_stream() -> None:
    """A table that can be read only once is judged by the types of its columns."""
    frame = table("ga4")
    reader = pa.Table.from_pandas(frame).to_reader()
    with pytest.raises(cdp.MappingError, match="would change nothing"):
        cdp.send(reader, preset="ga4", timezone="Asia/Tokyo", progress=False, journal=False)


@pytest.mark.parametrize(
    ("renamed", "options", "error", "remedy"),
    [
        ({"event_time": "seen"}, {}, "pass timestamp='...'", {"timestamp": "seen"}),
        (
            {"event_name": "what", "platform": "os_name"},
            {},
            "pass event='...'",
            {"event": cdp.lit("Application Installed")},
        ),
        (
            {},
            {"preset": "adjust", "rest": "properties"},
            "would become the property 'network'",
            {"properties": {"wifi_network": "network"}},
        ),
        ({}, {"properties": {"x": "y"}}, r"pass lit\('y'\)", {"properties": {"x": cdp.lit("y")}}),
    ],
    ids=["no_time", "no_event", "name_taken", "constant"],
)
def test_what_an_error_recommends_works_beside_a_preset(
    renamed: dict[str, str],
    options: dict[str, Any],
    error: str,
    remedy: dict[str, Any],
    box: Sandbox,
) -> None:
    """A table that the preset does not fit is sent with the argument that the error names."""
    if options.get("preset") == "adjust":
        frame = table("adjust").assign(network="x", network_name="y")
    else:
        frame = table("appsflyer").rename(columns=renamed)
    options = {"preset": "appsflyer"} | options
    with pytest.raises(cdp.MappingError, match=error):
        frame.cdp.messages(1, **options)
    report = frame.cdp.send(destination=box.destination, progress=False, **(options | remedy))
    assert report.counts["delivered"] == len(frame)


def test_all_events_of_an_archive_can_be_sent() -> None:
    """other_events='send' sends track calls under their names, and other calls under none."""
    frame = table("archived_messages").iloc[:2].copy()
    frame.loc[0, "event"] = "Order Completed"
    frame.loc[1, "type"] = "identify"
    sent, other = frame.cdp.messages(2, preset="archived_messages", other_events="send")
    assert sent["event"] == "Order Completed"
    assert other["cdp_outcome"] == "invalid"
    assert "event_of_track_call" in other["cdp_reason"]


def options_of(fields: dict[str, Any]) -> list[str]:
    """Keyword arguments as options of the command line."""
    words = []
    for name, value in fields.items():
        if name in {"properties", "context"}:
            option = {"properties": "--property", "context": "--context"}[name]
            for path, source in leaves(value).items():
                words += [option, f"{'.'.join(path)}={source}"]
        elif name == "events":
            for spelling, event in value.items():
                words += ["--translate", f"{spelling}={event}"]
        else:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"properties": {"tier": "plan"}, "context": {"device": {"id": "appsflyer_id"}}},
        {"events": {"af_purchase": "Application Opened"}},
        {"timezone": "Asia/Tokyo"},
        {"user_id": "plan", "rest": "properties", "other_events": "invalid"},
        {"timestamp_unit": "ms"},
        {"timestamp": "nowhere"},
    ],
    ids=lambda fields: "-".join(fields) or "none",
)
def test_command_line_does_the_same(fields: dict[str, Any], tmp_path: Path) -> None:
    """Options beside --preset do what keywords beside preset= do, errors included."""
    path = tmp_path / "export.csv"
    table("appsflyer").assign(plan="gold").to_csv(path, index=False)
    words = ["plan", str(path), "--preset", "appsflyer", "--json", "--samples", *options_of(fields)]
    ran = CliRunner().invoke(app, words)
    plan, error = attempt(cdp.plan, str(path), preset="appsflyer", **fields)
    if error:
        assert ran.exit_code == 2
        assert " ".join(in_options(error).split()) in " ".join(ran.stderr.split())
        return
    expected = json.loads(json.dumps(plan.to_dict()))
    actual = json.loads(ran.stdout)
    for figures in (expected, actual):
        figures.pop("url")
        figures.pop("expected_seconds")  # it is measured
    assert actual == expected
    assert actual["preset"] == "appsflyer"


def test_a_wrong_keyword_is_one_clear_error() -> None:
    """A keyword of the wrong kind is reported as it is without a preset."""
    for fields in ({"properties": 5}, {"events": ["x"]}, {"derive": {1: "x"}}, {"nulls": "x"}):
        with pytest.raises(cdp.MappingError, match=f"{next(iter(fields))}"):
            cdp.plan(table("adjust"), preset="adjust", **fields)

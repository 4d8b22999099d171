"""Presets: what the export of each vendor becomes, field by field."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import pytest

import cdp_backfill as cdp
from cdp_backfill.inference import presets
from cdp_backfill.inference.column_names import fold
from cdp_backfill.messages.expressions import columns_of

if TYPE_CHECKING:
    from cdp_backfill.local_sandbox import Sandbox


MADE: Final = re.compile("[0-9A-HJKMNP-TV-Z]{26}")
"""An id that is made up."""


@dataclass(frozen=True)
class Case:
    """An export and what must arrive of it.

    Attributes:
        slug: What it is.
        preset: The expected preset.
        frame: The table.
        arrives: The messages in the order of the rows; an id that is made up is left out.
    """

    slug: str
    preset: str
    frame: pd.DataFrame
    arrives: list[dict[str, Any]]


def read_case(slug: str, preset: str, rows: Any, arrives: Any, times: Any = ()) -> Case:
    """A case of the data file; cells of the columns ``times`` become timestamps."""
    frame = pd.DataFrame(rows)
    for column in times:
        frame[column] = pd.to_datetime(frame[column], format="ISO8601")
    return Case(slug, preset, frame, arrives)


CASES: Final = {
    case["slug"]: read_case(**case)
    for case in json.loads(Path(__file__).with_name("preset_cases.json").read_text("utf-8"))
}


def said(event: str, time: str, **fields: Any) -> dict[str, Any]:
    """A message: ids under the names of the API, and the properties and the context."""
    return {"event": event, "timestamp": time, "properties": {}, "context": {}} | fields


def arrived(box: Sandbox) -> list[dict[str, Any]]:
    """The messages in the box as :func:`said` has them."""
    actual = []
    for row in box.events().to_dict("records"):
        message = said(
            row["event"],
            row["timestamp"].strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
            properties=row["properties"] or {},
            context=row["context"] or {},
        )
        for name in ("userId", "anonymousId", "messageId"):
            if isinstance(row[name], str) and not MADE.fullmatch(row[name]):
                message[name] = row[name]
        actual.append(message)
    return actual


each_case = pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.slug)
each_preset = pytest.mark.parametrize("name", presets.names())


def test_every_preset_has_a_case() -> None:
    """No preset is without a table here."""
    assert {case.preset for case in CASES.values()} == set(presets.names())


@each_case
def test_is_detected(case: Case) -> None:
    """The columns alone tell whose export it is."""
    actual = presets.detect(list(case.frame.columns))
    assert actual is not None
    assert actual.name == case.preset


@each_case
def test_plan_proposes_it(case: Case) -> None:
    """A plan without a word about the mapping takes the preset, and says what it relies on."""
    plan = cdp.plan(case.frame)
    assert plan.proposal.preset == case.preset
    assert plan.questions == ()
    assert plan.counts == {
        "to_send": len(case.arrives),
        "invalid": 0,
        "held": 0,
        "skipped": len(case.frame) - len(case.arrives),
    }
    shown = " ".join(str(plan).split())
    assert presets.load(case.preset).facts[0] in shown


@each_case
def test_arrives_field_by_field(case: Case, box: Sandbox) -> None:
    """Events, ids, times, properties and context are right; what is no app event stays out."""
    report = case.frame.cdp.send(destination=box.destination, progress=False)
    assert report.unmapped == report.counts["skipped"]  # nobody has named the preset
    assert arrived(box) == case.arrives
    assert report.counts["skipped"] == len(case.frame) - len(case.arrives)


@each_preset
def test_file_is_complete(name: str) -> None:
    """Every file parses, has a title and facts, can be detected, and says who, what and when."""
    preset = presets.load(name)
    assert "mapping" in tomllib.loads(preset.text)
    assert preset.title != name
    assert preset.facts
    assert all(fact.endswith(".") for fact in preset.facts)
    assert preset.detect or preset.detect_exact
    if preset.inside is not None:
        return  # the records inside have a preset of their own
    assert preset.mapping.complete
    assert preset.mapping.other_events == "skip"
    assert set(preset.mapping.events.values()) <= {str(event) for event in cdp.Event}


@pytest.mark.parametrize(("one", "other"), list(combinations(presets.names(), 2)))
def test_no_two_are_told_by_the_same_columns(one: str, other: str) -> None:
    """A table that has just what tells one preset does not tell another one as well."""
    for mine, theirs in ((one, other), (other, one)):
        preset = presets.load(mine)
        for columns in (*preset.detect, *preset.detect_exact):
            assert presets.load(theirs).matches(list(columns)) < preset.matches(list(columns))


@pytest.mark.parametrize(
    "columns",
    [
        ["user_id", "event", "timestamp"],
        ["user_id", "event_name", "event_time", "app_version", "os_version", "device_model"],
        ["id", "user_id", "event", "properties", "timestamp"],
        ["uid", "name", "time", "platform", "country", "device_id", "event_id"],
        ["event", "properties", "user_id"],
    ],
    ids=lambda columns: f"{len(columns)}_columns",
)
def test_ordinary_tables_are_none(columns: list[str]) -> None:
    """A table that somebody made up is not taken for the export of a vendor."""
    assert presets.detect(columns) is None


@each_case
def test_derived_names_are_free(case: Case) -> None:
    """No new column has the name of one that such an export has, spelled otherwise or not."""
    preset = presets.load(case.preset)
    there = {fold(str(column)) for column in case.frame.columns}
    assert not there & {fold(name) for name in preset.mapping.derive}


def test_unknown_name() -> None:
    """A name that is none gives one error, with the nearest and all names."""
    with pytest.raises(cdp.MappingError, match="There is no preset 'nosuch'") as caught:
        presets.load("nosuch")
    assert all(name in str(caught.value) for name in presets.names())
    with pytest.raises(cdp.MappingError, match="Did you mean 'amplitude'"):
        cdp.plan(CASES["amplitude_export"].frame, preset="amplitud")


def test_copy_can_be_edited(tmp_path: Path, box: Sandbox) -> None:
    """A copy under another path is used in place of the one that is detected."""
    text = presets.load("amplitude").text
    edited = text.replace(
        '"[Amplitude] Application Backgrounded" = "Application Backgrounded"', ""
    ).replace('version = "found_version"', 'version = "start_version"')
    path = tmp_path / "ours.toml"
    path.write_text(edited, encoding="utf-8")
    frame = CASES["amplitude_export"].frame
    plan = cdp.plan(frame, preset=str(path))
    assert plan.proposal.preset == "ours"
    report = frame.cdp.send(preset=str(path), destination=box.destination, progress=False)
    assert report.counts["delivered"] == 3
    assert [message["properties"]["version"] for message in arrived(box)] == ["1.0", "1.0", "1.0"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("title = ", "is not valid TOML"),
        ('title = "x"', r"has no \[mapping\]"),
        ('colour = "red"\n[mapping]', "unknown entry 'colour'"),
        ('[mapping]\nuser = "uid"', "no field 'user'"),
    ],
)
def test_copy_that_is_none(tmp_path: Path, text: str, why: str) -> None:
    """A file that is no preset says what is wrong with it."""
    path = tmp_path / "ours.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(cdp.MappingError, match=why):
        presets.load(path)


def test_copy_that_is_missing(tmp_path: Path) -> None:
    """A path without a file is one clear error."""
    with pytest.raises(cdp.MappingError, match="cannot be read"):
        presets.load(tmp_path / "ours.toml")


def test_keywords_win(box: Sandbox) -> None:
    """What is given as a keyword is added to the preset's or used instead; the rest stays."""
    frame = CASES["appsflyer_data_locker"].frame
    report = frame.cdp.send(
        preset="appsflyer",
        timezone="Europe/Paris",
        properties={"app": "app_version"},
        destination=box.destination,
        progress=False,
    )
    assert report.counts["delivered"] == 4
    first = arrived(box)[0]
    assert first["timestamp"] == "2023-08-14T07:30:15.000Z"
    assert first["properties"] == {"app": "4.2", "version": "4.2"}
    assert first["context"] == CASES["appsflyer_data_locker"].arrives[0]["context"]


def test_keywords_win_over_the_detected_one() -> None:
    """The same if the plan recognises the preset."""
    plan = CASES["appsflyer_data_locker"].frame.cdp.plan(timezone="Europe/Paris")
    assert plan.proposal.preset == "appsflyer"
    assert plan.mapping.timezone == "Europe/Paris"
    assert plan.samples[0]["timestamp"] == "2023-08-14T07:30:15.000Z"


def test_a_mapping_and_a_preset_are_too_much() -> None:
    """Both at once would leave open which one counts."""
    with pytest.raises(cdp.MappingError, match="not both"):
        cdp.plan(CASES["ga4"].frame, cdp.Mapping(user_id="user_id"), preset="ga4")


@each_preset
def test_only_what_tells_it(name: str) -> None:
    """Optional columns that are missing are left out, and the mapping still fits the table."""
    preset = presets.load(name)
    if preset.inside is not None:
        pytest.skip("the records inside have a preset of their own")
    columns = {*(preset.detect + preset.detect_exact)[-1]}
    # Several columns can tell these two, so no single one of them is among those of detect.
    columns |= {"branch": {"timestamp"}, "crashlytics": {"error_type"}}.get(name, set())
    mapping = preset.fit(sorted(columns))
    used = {column for sql in mapping.derive.values() for column in columns_of(sql)}
    assert {*mapping.columns(), *used} <= columns | set(mapping.derive)
    frame = pd.DataFrame({column: pd.Series([None], dtype="string") for column in columns})
    assert cdp.plan(frame, preset=name).to_send == 0


def test_missing_columns_are_left_out(box: Sandbox) -> None:
    """Without the optional columns the message has what there is."""
    frame = CASES["appsflyer_export_page"].frame[["AppsFlyer ID", "Event Name", "Event Time"]]
    frame.cdp.send(destination=box.destination, progress=False)
    assert arrived(box)[0] == said(
        "Application Installed", "2023-08-14T09:30:15.000Z", anonymousId="169-1"
    )


def test_export_without_properties(box: Sandbox) -> None:
    """A file of Amplitude in which no event has properties is no trouble."""
    frame = CASES["amplitude_export"].frame.iloc[[4]].reset_index(drop=True)
    frame.cdp.send(destination=box.destination, progress=False)
    assert arrived(box) == [CASES["amplitude_export"].arrives[3]]


def test_preset_of_a_file(tmp_path: Path, box: Sandbox) -> None:
    """Lines of JSON in a file are recognised and read as the same rows in a frame."""
    path = tmp_path / "export.jsonl"
    CASES["mixpanel_export_nested"].frame.to_json(path, orient="records", lines=True)
    report = cdp.send(path, destination=box.destination, progress=False)
    assert report.counts["delivered"] + report.unmapped == report.rows
    assert arrived(box) == CASES["mixpanel_export_nested"].arrives


def test_advertising_id_of_zeros(box: Sandbox) -> None:
    """Zeros, which stand for a person who does not want to be followed, are no id."""
    frame = (
        CASES["amplitude_export"]
        .frame.iloc[[0]]
        .assign(idfa="00000000-0000-0000-0000-000000000000")
    )
    frame.cdp.send(destination=box.destination, progress=False)
    assert "advertisingId" not in arrived(box)[0]["context"]["device"]


@pytest.mark.parametrize("cell", ["", None, "{}"])
def test_empty_properties_as_text(cell: str | None, box: Sandbox) -> None:
    """An empty cell where a warehouse has JSON is an event without properties."""
    frame = CASES["amplitude_warehouse"].frame.iloc[[4]].assign(EVENT_PROPERTIES=cell)
    frame.cdp.send(destination=box.destination, progress=False)
    assert arrived(box) == [CASES["amplitude_export"].arrives[3]]


def test_device_type_that_the_api_does_not_know(box: Sandbox) -> None:
    """A type of device that the API would refuse gives way to what the system says."""
    frame = CASES["segment_tracks"].frame.iloc[[0]].assign(context_device_type="tvos")
    frame.cdp.send(destination=box.destination, progress=False)
    assert arrived(box)[0]["context"]["device"]["type"] == "ios"


def test_adjust_time_as_text(box: Sandbox) -> None:
    """Adjust's times are read as seconds and as the text that its help shows."""
    frame = CASES["adjust"].frame.iloc[[0]].assign(**{"{created_at}": "2016-04-04T23:16UTC"})
    frame.cdp.send(destination=box.destination, progress=False)
    assert arrived(box)[0]["timestamp"] == "2016-04-04T23:16:00.000Z"


def test_mixpanel_names_without_dollar_signs(box: Sandbox) -> None:
    """A connector that takes the dollar signs away, and calls the column event, is read too."""
    frame = CASES["mixpanel"].frame.assign(name=CASES["mixpanel"].frame["name"].str.lstrip("$"))
    frame = frame.rename(columns={"name": "event"})
    frame.cdp.send(destination=box.destination, progress=False)
    assert arrived(box) == CASES["mixpanel"].arrives


def test_preset_is_saved_as_a_mapping() -> None:
    """What a preset proposes is a plain mapping, which can be kept and read back."""
    for case in CASES.values():
        mapping = presets.load(case.preset).fit(list(case.frame.columns))
        assert cdp.Mapping.from_toml(mapping.to_toml()) == mapping
        assert replace(mapping) == mapping

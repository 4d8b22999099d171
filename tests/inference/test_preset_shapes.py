"""Presets: what each export becomes, held path by path against what the vendor's SDKs send."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jsonschema_rs
import pandas as pd
import pytest

import cdp_backfill as cdp
from cdp_backfill.emulator.openapi import description
from cdp_backfill.emulator.policy import Policy
from cdp_backfill.inference import presets

if TYPE_CHECKING:
    from cdp_backfill.local_sandbox import Sandbox

HERE: Final = Path(__file__).parent
SHAPES: Final[dict[str, Any]] = tomllib.loads((HERE / "sdk_shapes.toml").read_text("utf-8"))
START: Final = datetime(2023, 5, 1, 10, tzinfo=UTC)
UPDATED: Final = SHAPES["properties"]["Application Updated"]
OPENED: Final = SHAPES["properties"]["Application Opened"]


@dataclass(frozen=True)
class Export:
    """A vendor's export of an app with all cells filled, and what the export does not have.

    Attributes:
        slug: What it is.
        preset: The expected preset.
        row: Columns to templates of cells.
        events: Event names to the columns that tell them.
        lacks: Paths of the SDKs that the export has no cell for.
        extra: Paths of the export that the SDKs do not have.
        systems: The systems of the rows.
        android_lacks: Paths that it has no cell for on Android.
    """

    slug: str
    preset: str
    row: dict[str, Any]
    events: dict[str, dict[str, Any]]
    lacks: tuple[str, ...]
    extra: tuple[str, ...] = ()
    systems: tuple[str, ...] = ("ios", "android")
    android_lacks: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """A row of each event on each system, in order."""
        told = [
            (self.row | override, system)
            for override in self.events.values()
            for system in self.systems
        ]
        return [fill(row, system, number) for number, (row, system) in enumerate(told)]

    def expected(self) -> list[tuple[str, dict[str, Any]]]:
        """The event and the paths with values of each row, in order."""
        result = []
        for event in self.events:
            for system in self.systems:
                lacking = {*self.lacks, *(self.android_lacks if system == "android" else ())}
                context = SHAPES["context"][system]
                properties = SHAPES["properties"][event]
                paths = {f"context.{path}": value for path, value in context.items()}
                paths |= {f"properties.{name}": value for name, value in properties.items()}
                without = {f"context.{path}" for path in lacking} | lacking
                kept = {path: value for path, value in paths.items() if path not in without}
                result.append((event, kept))
        return result


def fill(template: Any, system: str, number: int) -> Any:
    """A template with the values of a system and of a row; ``$json`` makes text of it."""
    if isinstance(template, dict):
        if "$json" in template:
            return json.dumps(fill(template["$json"], system, number))
        return {name: fill(value, system, number) for name, value in template.items()}
    if isinstance(template, list):
        return [fill(item, system, number) for item in template]
    if not isinstance(template, str):
        return template
    if whole := re.fullmatch(r"\{([^{}]+)\}", template):
        return value_of(whole[1], system, number)
    return re.sub(r"\{([^{}]+)\}", lambda part: str(value_of(part[1], system, number)), template)


def value_of(name: str, system: str, number: int) -> Any:
    """The value that a placeholder stands for."""
    context = SHAPES["context"][system]
    moment = START + timedelta(minutes=number)
    local = moment.replace(tzinfo=None)
    milliseconds = int(moment.timestamp() * 1000)
    values: dict[str, Any] = context | UPDATED | OPENED
    values |= {
        "n": f"{number:02}",
        "id": f"id-{number}",
        "time.s": milliseconds // 1000,
        "time.ms": milliseconds,
        "time.us": milliseconds * 1000,
        "time.iso": f"{local.isoformat()}.000Z",
        "time.offset": f"{(local + timedelta(hours=2)).isoformat(' ')}.0000 +0200",
        "time.naive": f"{local.isoformat(' ')}.000000",
        "time.compact": int(f"{local:%Y%m%d%H%M%S}"),
        "time.aware": pd.Timestamp(moment),
        "locale.underscore": context["locale"].replace("-", "_"),
        "locale.lower": context["locale"].lower(),
        "os.name.lower": context["os.name"].lower(),
        "os.name.upper": context["os.name"].upper(),
        "screen.width.text": str(context["screen.width"]),
        "screen.height.text": str(context["screen.height"]),
    }
    if name.startswith("connection:"):
        wifi, cellular = name.removeprefix("connection:").split(",")
        return wifi if context["network.wifi"] else cellular
    here, _, path = name.rpartition(":")
    if here:
        return context[path] if here == system else None
    return values.get(name)


def flat(value: Any, at: str = "") -> dict[str, Any]:
    """The leaves of nested dicts by path."""
    if not isinstance(value, dict):
        return {at: value}
    return {
        path: leaf
        for name, part in value.items()
        for path, leaf in flat(part, f"{at}.{name}" if at else name).items()
    }


EXPORTS: Final = [
    Export(**values)
    for values in json.loads((HERE / "preset_shapes.json").read_text(encoding="utf-8"))
]
each_export = pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.slug)


def test_every_preset_has_an_export() -> None:
    """No preset goes without a comparison with the SDKs."""
    assert {export.preset for export in EXPORTS} == set(presets.names())


def test_every_event_of_a_preset_is_compared() -> None:
    """Each of the events that a preset can make is among the rows here."""
    for name in presets.names():
        made = set(presets.load(name).mapping.events.values())
        compared = {event for export in EXPORTS if export.preset == name for event in export.events}
        assert made <= compared, name


@each_export
def test_messages_have_the_shape_of_the_sdks(export: Export, box: Sandbox) -> None:
    """Every path of the SDKs that the export has a cell for has its value; no other path is."""
    frame = pd.DataFrame(export.rows())
    plan = cdp.plan(frame)
    assert plan.proposal.preset == export.preset
    assert plan.counts["to_send"] == len(frame), plan
    report = plan.send(destination=box.destination, progress=False)
    assert report.ok
    stored = box.events()
    for row, (event, expected) in zip(stored.to_dict("records"), export.expected(), strict=True):
        assert row["event"] == event
        assert row["userId"] == "ada" or "user_id" not in plan.mapping.to_dict()
        actual = flat({"context": row["context"] or {}, "properties": row["properties"] or {}})
        actual = {path: value for path, value in actual.items() if path not in export.extra}
        assert actual == expected, event
    times = [START + timedelta(minutes=number) for number in range(len(frame))]
    assert [moment.to_pydatetime() for moment in stored["timestamp"]] == times


@each_export
def test_messages_fit_the_description_of_the_api(export: Export) -> None:
    """Every message is valid by the OpenAPI description that the sandbox serves."""
    components = description(Policy())["components"]
    schema = {"$ref": "#/components/schemas/Track", "components": components}
    validator = jsonschema_rs.validator_for(schema)
    frame = pd.DataFrame(export.rows())
    messages = frame.cdp.messages(len(frame), preset=export.preset)
    for message in messages:
        validator.validate(message)
    assert len(messages) == len(frame)
    with pytest.raises(jsonschema_rs.ValidationError):
        validator.validate(messages[0] | {"event": 7})


@each_export
def test_nothing_is_invented(export: Export) -> None:
    """An export whose cells are empty, but for who, what and when, makes messages without paths."""
    rows = [
        fill(without_values(export.row | override), "ios", number)
        for number, override in enumerate(export.events.values())
    ]
    frame = pd.DataFrame(rows)
    allowed = {*export.extra, "properties.from_background", "context.device.type"}
    for message in frame.cdp.messages(len(frame), preset=export.preset):
        if "cdp_code" in message:
            continue  # such as a crash whose system is unknown
        leaves = flat({name: message.get(name) or {} for name in ("context", "properties")})
        invented = {path for path, value in leaves.items() if value != {}} - allowed
        assert not invented, invented


def without_values(template: Any) -> Any:
    """A template without placeholders, except those of times and ids."""
    if isinstance(template, dict):
        return {name: without_values(value) for name, value in template.items()}
    if isinstance(template, list):
        return [without_values(item) for item in template]
    if isinstance(template, str) and re.search(r"\{(?!(n|id|time\.[a-z]+)\})", template):
        return None
    return template

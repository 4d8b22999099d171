"""Each field of a mapping is an option on the command line, and means the same there."""

from __future__ import annotations

import inspect
import json
import shlex
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

import pytest
import typer.main
from hypothesis import given, settings
from hypothesis import strategies as st

from cdp_backfill import Mapping, key, lit
from cdp_backfill.cli import app as application
from cdp_backfill.cli.options import MappingOptions
from cdp_backfill.cli.words import in_options, options
from tests.cli.test_cli import run

if TYPE_CHECKING:
    from pathlib import Path

COMMAND_LINE: Final[Any] = typer.main.get_command(application.app)

MADE: Final = {"call", "traits", "types"}
"""Fields that --identify makes, or that a plan finds and --save-mapping keeps."""

VALUES: Final[dict[str, Any]] = {
    "user_id": "uid",
    "anonymous_id": lit("nobody"),
    "event": lit("Application Opened"),
    "timestamp": "sent at",
    "timestamp_unit": "ms",
    "timezone": "Europe/Berlin",
    "date_order": "DMY",
    "nonexistent": "shift_forward",
    "ambiguous": "latest",
    "message_id": key("a", "b c"),
    "properties": {"version": "app_version", "tier": "plan"},
    "context": {"locale": "language"},
    "integrations": {"All": False, "Mixpanel": True, "Other": "flag"},
    "events": {"open": "Application Opened"},
    "other_events": "send",
    "allow_commands": ["User Deleted"],
    "rest": "all",
    "drop": ["email", "a b"],
    "rename": {"colour": "color"},
    "derive": {"both": "coalesce(a, b)", "is_one": "a == 1"},
    "expand": ["event_params"],
    "json": ["details"],
    "nulls": ["NULL", "-"],
    "earliest": "2020-01-01",
    "oversize": "drop_largest",
    "droppable": ["trace"],
    "duplicates": "skip",
}


def test_each_field_has_an_option_in_each_command() -> None:
    """A new field fails here until it has one."""
    names = {*inspect.signature(Mapping).parameters} - MADE
    assert names == {*VALUES} == {"rename", *(item.name for item in fields(Mapping))} - MADE
    for command in ("plan", "send", "rehearse"):
        known = {each for item in COMMAND_LINE.commands[command].params for each in item.opts}
        assert {options()[name] for name in names} <= known


@settings(max_examples=25)
@given(st.sets(st.sampled_from(sorted(VALUES)), min_size=1))
def test_options_are_the_keywords_that_their_words_stand_for(names: set[str]) -> None:
    """The words for any keywords, typed into a shell, are these keywords again."""
    typed = " ".join(in_options(f"{name}={VALUES[name]!r}") for name in sorted(names))
    command = COMMAND_LINE.commands["plan"]
    params = command.make_context("plan", ["rows.csv", *shlex.split(typed)]).params
    given = MappingOptions(**{item.name: params[item.name] for item in fields(MappingOptions)})
    assert given.arguments() == {name: VALUES[name] for name in names}


def test_options_add_to_a_proposal(tmp_path: Path) -> None:
    """From the file to the mapping, with all the options that say what becomes of a column."""
    path = tmp_path / "rows.csv"
    path.write_text(
        "user_id,ts,event,email,colour,params,blob,a,b\n"
        'u1,2023-05-01T10:00:00Z,app_open,a@b.example,red,"{""k"": 1}","{""z"": {""y"": 2}}",1,-\n'
    )
    saved = tmp_path / "mapping.toml"
    typed = (
        "--rename colour=color --derive total=a||b --expand params --json-column blob --null - "
        "--property y=blob.z.y --earliest 2020-01-01 --oversize drop_largest --droppable colour "
        f"--integration All=false --save-mapping {saved}"
    )
    result = run("plan", str(path), "--json", "--samples", *shlex.split(typed))
    assert result.exit_code == 0, result.stderr
    mapping = Mapping.load(saved)
    assert (mapping.user_id, mapping.timestamp, mapping.event) == ("user_id", "ts", "event")
    assert mapping.drop == ("email",)
    (message,) = json.loads(result.stdout)["samples"]
    assert message["properties"] == {"color": "red", "k": 1, "y": 2, "total": "1-"}
    assert message["integrations"] == {"All": False}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--rename colour", "--rename takes NAME=VALUE"),
        ("--rename a=x --rename b=x", "--rename gives 'a' and 'b' the same name 'x'"),
        ("--rename a=x --drop a", "--rename names 'a', and --drop leaves it out"),
        ("--rename a=x --user-id a", "Pass --property x=a to send it there, too"),
        ("--oversize drop_largest", "--oversize drop_largest needs --droppable"),
        ("--json-column nosuch", "There is no column 'nosuch'"),
        ("--earliest soon", "--earliest must be a day such as"),
    ],
)
def test_errors_speak_of_options(tmp_path: Path, typed: str, said: str) -> None:
    """What to type next is an option."""
    path = tmp_path / "rows.csv"
    path.write_text("user_id,ts,event,a,b\nu1,2023-05-01T10:00:00Z,app_open,1,2\n")
    result = run("plan", str(path), *shlex.split(typed))
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())

"""The command line speaks of options, quoted for a shell."""

from __future__ import annotations

import ast
import functools
import shlex
from dataclasses import fields
from typing import Any, Final

import pytest
import typer.main
from hypothesis import given
from hypothesis import strategies as st

from cdp_backfill import Mapping
from cdp_backfill.cli import app as application
from cdp_backfill.cli.words import in_options, options
from tests.cli.test_cli import run
from tests.remedies.lines import PACKAGE, code_in, text_of

COMMAND_LINE: Final[Any] = typer.main.get_command(application.app)

PYTHON_ONLY: Final = {
    "session": (
        "local_sandbox",
        "sources/",
        "results/plots",
        "cli/",
        "emulator/",
        "accessors",
        "pipeline/plan_file",
    ),
    "object": (
        "pickled",
        "can only be read once",
        "in-memory table",
        "The second argument",
        "a Destination",
        "Plan.load(path, exclude=ids)",
        "Destination(region",
        "a Mapping",
        "that samples=True shows",
        "progress must be",
        "The run kept the failures only",
        "'their name'",
    ),
    "engine": ("engines/", "model/key_places", "results/part_reports", "key_from="),
    "frame": (
        "in the index",
        "The index",
        "datetime.now(UTC)",
        "lit()",
        "key()",
        "print(mapping)",
        "dict",
    ),
    "SQL": (
        "import sys",
        "CASE WHEN",
        "nullif(",
        "trim(",
        "TRY(...)",
        "json_extract()",
        "::",
        "CAST(",
        "SELECT ",
        "strptime(",
        "derive={'what'",
        "struct_pack",
    ),
    "pandas": (
        "errors='coerce'",
        ".replace(",
        ".astype(",
        ".str.",
        "utc=True",
        "format='mixed'",
        "dayfirst=",
        "yearfirst=",
    ),
    "retry": ("nothing is worth sending", "report.identities.retry()"),
}
"""Modules and sentences that the command line never shows, or whose code is not Python's."""


@functools.cache
def sentences() -> dict[str, str]:
    """The sentences of the package with code in them, and the module of each."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        left = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        strings = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
        left |= {id(part) for node in strings for part in node.values}
        for node in ast.walk(tree):
            text = "" if id(node) in left else text_of(node)
            if " " in text.strip() and "<" not in text and "\\" not in text and code_in(text):
                found[text] = path.relative_to(PACKAGE).as_posix()
    return found


def test_no_sentence_speaks_python_on_the_command_line() -> None:
    """A new sentence with code fails here until the table has its words."""
    excused = tuple(each for group in PYTHON_ONLY.values() for each in group)
    left = {
        text: found
        for text, module in sentences().items()
        if not any(each in text or module.startswith(each) for each in excused)
        if (found := code_in(in_options(text)))
    }
    assert left == {}
    assert sum("--" in in_options(text) for text in sentences()) > 40


def test_each_option_exists() -> None:
    """The table names options of the commands, and all fields of a mapping that have one."""
    known = {
        option
        for name in ("plan", "send", "resume")
        for parameter in COMMAND_LINE.commands[name].params
        for option in parameter.opts
    }
    named = {option for option in options().values() if option.startswith("--")}
    assert named <= known
    for field in fields(Mapping):
        is_output = field.name == "json"  # --json prints JSON
        if f"--{field.name.replace('_', '-')}" in known and not is_output:
            assert field.name in options()


@given(st.text(min_size=1).filter(lambda text: "'" not in text and "\\" not in text))
def test_a_value_stays_the_same_behind_a_shell(value: str) -> None:
    """Whatever the value, a shell reads it back from the option."""
    if not value.isprintable():
        return
    assert shlex.split(in_options(f"user_id='{value}'")) == ["--user-id", value]
    assert shlex.split(in_options(f"event=cdp.lit('{value}')")) == ["--event", f"={value}"]


@pytest.mark.parametrize(
    ("python", "words"),
    [
        ("Pass user_id='...' or anonymous_id='...'.", "Pass --user-id ... or --anonymous-id ...."),
        ("events={'open': 'Application Opened'}", "--translate 'open=Application Opened'"),
        ("message_id=cdp.key('a', 'b c')", "--key a --key 'b c'"),
        ("drop=[]", "no --drop"),
        ("pass insecure=True.", "pass --insecure."),
        ("Check region and base_url.", "Check --region and --base-url."),
        ("There is no column 'user_id'.", "There is no column 'user_id'."),
        ("the file 'a/event=open/x.csv'", "the file 'a/event=open/x.csv'"),
        ("canary must be a whole number", "--canary must be a whole number"),
        ("nulls=['x']", "--null x"),
        ("types={'a': 'int64'}", "types = {'a': 'int64'} in the file of --mapping"),
        ("or call resume('b.journal').", "or type: cdp-backfill resume b.journal."),
    ],
)
def test_words(python: str, words: str) -> None:
    """Arguments become options, and names and paths stay as they are."""
    assert in_options(python) == words


def test_commands_suggest_what_was_meant() -> None:
    """A misspelt command or option is answered with one that exists."""
    assert "Did you mean 'plan'?" in run("plann").stderr
    assert "--user-id" in run("send", "x.csv", "--usr-id", "x").stderr

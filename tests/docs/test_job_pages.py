"""The scripts of the pages on jobs work as they stand, and name options that exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import pytest
import typer.main

from cdp_backfill.cli import app as application
from tests.docs.examples import examples
from tests.docs.test_docs import PAGES, ROOT
from tests.rows import OPENED, opens

if TYPE_CHECKING:
    from cdp_backfill.local_sandbox import Sandbox

COMMAND_LINE: Final[Any] = typer.main.get_command(application.app)
NIGHTLY: Final = ROOT / "docs" / "how-to" / "nightly.md"


def test_every_command_on_a_page_names_options_that_exist() -> None:
    """In a shell, in a script, in YAML or in a sentence: what is shown can be typed."""
    seen = 0
    for page in PAGES:
        text = re.sub(r"\\\n|(?<=[a-z]) *\n +(?=--)", " ", page.read_text("utf-8"))
        for name, arguments in re.findall(r"cdp-backfill ([a-z]+) ([^\n`]*--[^\n`]*)", text):
            assert name in COMMAND_LINE.commands, (page.name, name)
            parameters = COMMAND_LINE.commands[name].params
            known = {o for each in parameters for o in (*each.opts, *each.secondary_opts)}
            shown = set(re.findall(r"(?<!\S)--[a-z-]+", arguments.partition(" #")[0]))
            assert shown - {"--help"} <= known, (page.name, arguments)
            seen += 1
    assert seen >= 20


def test_the_nightly_script_is_silent_unless_rows_are_missing(box: Sandbox, tmp_path: Path) -> None:
    """Cron mails what it prints: nothing in a good night, the log and the code in a bad one."""
    (script,) = [
        each.code
        for each in examples(NIGHTLY.read_text("utf-8"))
        if each.code.startswith("#!/bin/sh")
    ]
    home = tmp_path / "backfill"
    (home / "exports").mkdir(parents=True)
    OPENED.save(home / "mapping.toml")
    (home / "key.env").write_text(f"export CUSTOMERIO_CDP_API_KEY={box.api_key}\n")
    address = f"--base-url {shlex.quote(box.url)}"
    (home / "nightly.sh").write_text(script.replace("--region eu", address))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    def night(uid: str | None, day: str) -> tuple[int, str]:
        opens(2, uid=[uid] * 2, ts=pd.to_datetime([day] * 2, utc=True)).to_parquet(
            home / f"exports/{day}.parquet"
        )
        done = subprocess.run(
            ["sh", str(home / "nightly.sh")],  # noqa: S607  # as cron does
            env=os.environ | {"HOME": str(tmp_path), "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    assert night("ada", "2023-05-01") == (0, "")
    assert night("bob", "2023-05-02") == (0, "")
    assert len(box.events()) == 4
    code, mail = night(None, "2023-05-03")
    assert code == 1
    assert "The backfill ended with exit code 1" in mail
    assert "WARNING 2 rows: invalid, missing_user" in mail
    assert len(box.events()) == 4


@pytest.mark.parametrize("page", ["several-keys", "nightly", "repaired-failures"])
def test_tasks_of_every_day_are_found(page: str) -> None:
    """The README and the index lead to the pages of the everyday tasks."""
    assert f"docs/how-to/{page}.md" in (ROOT / "README.md").read_text("utf-8")
    assert f"\n{page}\n" in (ROOT / "docs" / "how-to" / "index.md").read_text("utf-8")

"""The command line in jobs: exit codes, lines of a log, and no cell where nobody looks."""

from __future__ import annotations

import json
import os
import re
import subprocess
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import pytest

import cdp_backfill as cdp
from cdp_backfill.cli.output import exit_code_of
from tests.cli.test_cli import ARGUMENTS, COMMAND, run
from tests.rows import opens
from tests.servers import Reply, serving

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

CELL: Final = "a-cell-of-a-person"
NOW: Final = pd.Timestamp.now(tz="UTC").floor("s")
TIMES: Final = list(pd.to_datetime(["2023-05-01T10:00:00Z"] * 2))

OPTIONS: Final = ["--no-progress", "--no-journal"]
JOBS: Final[dict[str, tuple[dict[str, Any], list[str], int]]] = {
    "all delivered": ({}, [], 0),
    "skipped on purpose": ({"uid": ["a", "a"]}, ["--duplicates", "skip"], 0),
    "where= leaves one out": ({"n": [1, 2]}, ["--where", "n > 1"], 0),
    "where= leaves all out": ({"n": [1, 2]}, ["--where", "n > 2"], 0),
    "where= fails in a row": ({"n": ["x", "2"]}, ["--where", "n::INT > 1"], 1),
    "where= is no condition": ({"n": [1, 2]}, ["--where", "n + 1"], 2),
    "nobody of the file goes": ({"uid": ["a", "ida"]}, ["--exclude", "IDS"], 0),
    "there is no such file": ({}, ["--exclude", "nothing.txt"], 2),
    "held on request": ({"ts": [NOW, TIMES[0]]}, ["--recent", "hold"], 0),
    "recent rows": ({"ts": [NOW, TIMES[0]]}, [], 3),
    "a row without an id": ({"uid": [None, "b"]}, [], 1),
    "it is allowed by its outcome": ({"uid": [None, "b"]}, ["--allow", "refused,invalid"], 0),
    "it is allowed by its code": ({"uid": [None, "b"]}, ["--allow", "missing_user"], 0),
    "another one is allowed": ({"uid": [None, "b"]}, ["--allow", "bad_time,refused"], 1),
    "nobody knows what is allowed": ({}, ["--allow", "invald"], 2),
    "no such column": ({}, ["--user-id", "user"], 2),
}
"""A table, the options, and the exit code of plan, send and rehearse."""


@pytest.mark.parametrize("name", JOBS)
def test_exit_codes_of_a_table(name: str, box: Sandbox, tmp_path: Path) -> None:
    """What was wanted or allowed is 0; plan says with which code send would end."""
    columns, options, code = JOBS[name]
    (tmp_path / "ids.txt").write_text("ida\na\n")
    options = [str(tmp_path / "ids.txt") if each == "IDS" else each for each in options]
    path = tmp_path / "rows.parquet"
    opens(2, **{"ts": TIMES} | columns).to_parquet(path)
    sent = run("send", path, *ARGUMENTS, *OPTIONS, "--base-url", box.url, *options)
    assert (sent.exit_code, "Traceback" in sent.output) == (code, False), sent.output + sent.stderr
    assert run("plan", path, *ARGUMENTS, *options).exit_code == code
    if code == 2:
        assert not box.requests().shape[0]
    if "invald" in options:
        assert "Did you mean 'invalid'? Outcomes: invalid, refused" in sent.stderr


@pytest.mark.parametrize(
    ("status", "key", "code", "error"),
    [
        (401, "k", 4, "AuthenticationError"),
        (200, None, 4, "ApiKeyError"),
        (200, "with space", 4, "ApiKeyError"),
        (404, "k", 3, "UnexpectedAnswerError"),
        (200, "k", 0, ""),
        (400, "k", 1, ""),
    ],
)
def test_exit_codes_of_a_server(
    status: int, key: str | None, code: int, error: str, tmp_path: Path
) -> None:
    """What the server says decides: the key, what stops a run, and what rows are missing."""
    opens(1).to_parquet(tmp_path / "rows.parquet")
    with serving(lambda *_: Reply(status)) as server:
        where = ["--base-url", server.url, *OPTIONS]
        result = run("send", tmp_path / "rows.parquet", *ARGUMENTS, *where, key=key)
    assert result.exit_code == code
    assert error in result.stderr


def test_every_error_has_an_exit_code() -> None:
    """Usage, a key or a stop: no error of the package ends with the code of missing rows."""
    errors = [getattr(cdp, name) for name in cdp.__all__ if name.endswith("Error")]
    codes = {each.__name__: int(exit_code_of(each("what"))) for each in errors}
    assert {name for name, code in codes.items() if code == 4} == {
        "ApiKeyError",
        "AuthenticationError",
    }
    assert {codes[name] for name in codes if issubclass(getattr(cdp, name), cdp.StoppedError)} == {
        3,
        4,
    }
    assert set(codes.values()) == {2, 3, 4}


def test_a_job_writes_lines_of_a_log_and_no_cell(box: Sandbox, tmp_path: Path) -> None:
    """Without a terminal, each line on stderr has time and level, and stdout has no cell."""
    frame = opens(6, uid=[CELL, None, f"{CELL}-2", "u4", "u5", "u6"], note=CELL, what="Tea")
    frame["what"] = ["Tea", CELL, *["Application Opened"] * 4]
    frame.to_parquet(tmp_path / "rows.parquet")
    box.set_faults(refuse_users=[CELL])
    job = [COMMAND, "send", "rows.parquet", "--user-id", "uid", "--timestamp", "ts"]
    job += ["--event", "what", "--base-url", box.url, "--journal", "j", "--other-events", "send"]
    done = subprocess.run(
        job,
        env=os.environ | {"CUSTOMERIO_CDP_API_KEY": box.api_key},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 1
    lines = [line.split(" ", 2) for line in done.stderr.splitlines()]
    assert all(datetime.fromisoformat(moment).tzinfo for moment, _, _ in lines)
    assert [(level, text) for _, level, text in lines[-3:]] == [
        ("WARNING", "Backfill: 2 of 6 rows not delivered."),
        ("WARNING", "1 rows: invalid, missing_user"),
        ("WARNING", "1 rows: refused, http_400"),
    ]
    assert lines[0][1:] == ["INFO", lines[0][2]]
    assert lines[0][2].startswith("Backfill done: 6 of 6 rows (100%)")
    assert CELL not in done.stdout + done.stderr
    assert box.api_key not in done.stderr.replace("cdp_backfill", "")
    assert "refused" in done.stdout


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("command", ["plan", "send", "rehearse"])
def test_cells_are_shown_on_request(
    command: str, box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, as_json: bool
) -> None:
    """Plans have samples with --samples or on a terminal only; nothing else has them in a job."""
    monkeypatch.chdir(tmp_path)
    frame = opens(2, note=CELL, what=["Application Opened", f"{CELL}-event"])
    frame.to_parquet("rows.parquet")
    options: list[object] = ["rows.parquet", "--user-id", "uid", "--timestamp", "ts"]
    options += ["--event", "what", *(["--json"] if as_json else [])]
    if command == "send":
        options += ["--base-url", box.url, *OPTIONS]
    silent = run(command, *options)
    assert silent.exit_code in (0, 1)
    assert CELL not in silent.output + silent.stderr
    if command == "plan":
        assert CELL in run(command, *options, "--samples").output
        if as_json:
            assert json.loads(silent.stdout)["samples"] == []


def test_log_lines_can_be_asked_for(box: Sandbox, tmp_path: Path) -> None:
    """--no-log leaves the sentence alone; --log writes lines on a terminal, too."""
    opens(1).to_parquet(tmp_path / "rows.parquet")
    wrong = ["plan", tmp_path / "rows.parquet", *ARGUMENTS, "--recent", "x"]
    assert run(*wrong, "--no-log").stderr.startswith("BadInputError: --recent must be")
    assert re.match(r"\d{4}-\S+ ERROR BadInputError: --recent must be", run(*wrong, "--log").stderr)
    sent = run("send", tmp_path / "rows.parquet", *ARGUMENTS, "--base-url", box.url, "--no-log",
               "--no-progress")  # fmt: skip
    assert sent.stderr == ""

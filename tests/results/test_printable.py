"""What steers a terminal or turns text around is shown, and never sent to the terminal."""

from __future__ import annotations

import logging
import re
import unicodedata
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import cdp_backfill as cdp
from cdp_backfill.cli.app import app
from cdp_backfill.cli.log import logging_to_stderr
from cdp_backfill.errors import MappingError, StoppedError
from cdp_backfill.model.views import Code, Section, View
from cdp_backfill.printable import printable
from cdp_backfill.results.progress import LineFormatter
from cdp_backfill.results.progress.log import LOGGER
from tests.rows import OPENED, opens
from tests.sending import send
from tests.servers import ReceivedRequest, Reply, serving

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

_HOSTILE = "\x1b[2J\x9b31m\x1b]52;c;aGk=\x07\u202eabc\u2066\x00\r\x7f\ud83d\u2028\x85"
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_ODD = "\x1b[2J\x9b\u202e\u2028"
hostile = st.text(st.sampled_from(_HOSTILE + "ab \n\t<|")) | st.text()


@given(hostile)
def test_no_character_is_sent_that_is_not_shown(text: str) -> None:
    """Whatever a terminal does not show as a character; what it shows stays."""
    shown = printable(text)
    assert not _UNSAFE.search(shown)
    assert "\n" not in printable(text, one_line=True)
    if not any(unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp") for each in text):
        assert shown == text


@given(hostile, hostile, hostile, hostile)
def test_views(title: str, name: str, cell: str, note: str) -> None:
    """In every place of a view, and in each of its forms."""
    section = Section(name, (name, "sample", "code"), [(name, cell, Code(cell)), (1, cell, note)])
    view = View(title, [section], [note], [note])
    for text in (view.text(), view.html(), view.page(), view.markdown()):
        assert not _UNSAFE.search(text)
        text.encode()


@given(hostile)
def test_errors_and_logs(text: str) -> None:
    """The sentence of an error, as Python and IPython show it, and lines of logs."""
    record = logging.makeLogRecord({"msg": text, "levelname": "INFO", "created": 0})
    for shown in (
        str(MappingError(f"column {text} is wrong")),
        str(StoppedError(text)),
        StoppedError(text).message,
        *MappingError(text)._render_traceback_(),
        LineFormatter().format(record),
    ):
        assert not _UNSAFE.search(shown)


@pytest.mark.parametrize("lines", [True, False])
def test_the_log_of_commands(lines: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Sentences for people as well as lines of a log."""
    with logging_to_stderr(lines=lines):
        LOGGER.error("%s", _HOSTILE)
    written = capsys.readouterr().err
    assert "abc" in written
    assert not _UNSAFE.search(written)


def test_words_of_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    """In reports, in their table of reasons, and in what is displayed during the run."""

    def answer(_: int, __: ReceivedRequest) -> Reply:
        return Reply(400, b'{"meta": {"errors": ["no \\u001b[2J\\u202e\\ud800 \xc2\x9b31m"]}}')

    with serving(answer) as server:
        report = opens(2).cdp.send(OPENED, destination=server.destination(), progress=True)
    for text in (str(report), repr(report.by_reason()), report._repr_html_()):
        assert "\\x1b[2J\\u202e" in text
        assert not _UNSAFE.search(text)
    captured = capsys.readouterr()
    assert not re.search("[\x9b\u202e\ud800]", captured.out + captured.err)


def test_names_and_cells_of_a_table(box: Sandbox) -> None:
    """In plans, mappings, previews and errors."""
    odd = _HOSTILE.replace("\ud83d", "").replace("\0", "")
    frame = opens(2, **{f"n{odd}": [odd, "x"]})
    plan = cdp.plan(frame, OPENED, destination=box.destination)
    report = send(frame, box)
    with pytest.raises(MappingError) as caught:
        cdp.plan(frame, OPENED, user_id=odd)
    texts = [str(plan), plan._repr_html_(), repr(plan.mapping), str(plan.mapping)]
    texts += [plan.mapping._repr_html_(), str(report), str(caught.value)]
    for text in texts:
        assert not _UNSAFE.search(text)


def test_commands(tmp_path: Path, box: Sandbox) -> None:
    """What commands print for a file whose name, columns and cells are hostile."""
    odd = "\x1b[2J\x9b\u202e"
    path = tmp_path / f"t{odd}.csv"
    frame = pd.DataFrame({"uid": ["a"], "ts": ["2023-05-01T00:00:00Z"], f"x{odd}": [odd]})
    frame.to_csv(path, index=False)
    options = ["--user-id", "uid", "--timestamp", "ts", "--event", "'Application Opened'"]
    base = ["--base-url", box.url]
    for command in (
        ["plan", str(path), *options, "--samples"],
        ["plan", str(path), "--user-id", f"no{odd}"],
        ["plan", str(tmp_path / f"missing{odd}.csv")],
        ["send", str(path), *options, *base],
    ):
        result = CliRunner().invoke(app, command, env={"CUSTOMERIO_CDP_API_KEY": box.api_key})
        assert result.output
        assert not _UNSAFE.search(result.output.replace("\r", ""))


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "a", _ODD],
        ["plan", "a", f"--x{_ODD}"],
        [f"plan{_ODD}"],
        [f"--x{_ODD}"],
        ["send", "a", "--workers", _ODD],
    ],
)
def test_errors_about_options(arguments: list[str]) -> None:
    """They quote what a shell put in place of ``*``, such as names of files."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert not _UNSAFE.search(result.output)

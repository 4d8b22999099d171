"""The command line, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pandas as pd
import pytest
from typer.testing import CliRunner

from cdp_backfill import Mapping
from cdp_backfill.cli.app import app
from tests.rows import opens
from tests.waiting import until

if TYPE_CHECKING:
    from typer.testing import Result

    from cdp_backfill.local_sandbox import Sandbox

COMMAND = str(Path(sys.executable).with_name("cdp-backfill"))
ARGUMENTS = ["--user-id", "uid", "--timestamp", "ts", "--event", "=Application Opened"]


def run(*arguments: object, key: str | None = "sandbox") -> Result:
    """Run a command."""
    return CliRunner().invoke(
        app, [str(argument) for argument in arguments], env={"CUSTOMERIO_CDP_API_KEY": key}
    )


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A parquet file of ten rows, one of them without an id; the current folder is its own."""
    monkeypatch.chdir(tmp_path)
    frame = opens(10, version="1.0")
    frame.loc[3, "uid"] = None
    frame.to_parquet(tmp_path / "opens.parquet")
    return tmp_path / "opens.parquet"


def test_help_is_for_newcomers() -> None:
    """Each command has a sentence, and the exit codes are said."""
    shown = run("--help").output
    codes = (
        "0 all is as wanted, 1 rows are missing, 2 wrong usage, 3 the run stopped, 4 the API key"
    )
    for arguments in ([], ["plan"], ["send"], ["resume"], ["rehearse"]):
        assert codes in " ".join(run(*arguments, "--help").output.split())
    for command in ("demo", "plan", "send", "resume", "status", "presets", "sandbox"):
        assert command in shown
        assert "Usage" in run(command, "--help").output


def test_send(box: Sandbox, path: Path, tmp_path: Path) -> None:
    """Exit code 1 for a row that was not delivered, which goes to a file."""
    out = tmp_path / "out"
    result = run("send", path, *ARGUMENTS, "--base-url", box.url, "--save", out, "--no-journal")
    assert result.exit_code == 1
    assert "1 of 10 rows not delivered" in result.output
    assert pd.read_parquet(out / "failures.parquet")["cdp_code"].tolist() == ["missing_user"]
    assert len(box.events()) == 9
    assert "sandbox" not in result.stdout.replace(box.url, "")


def test_send_as_json(box: Sandbox, path: Path) -> None:
    """Exit code 0 if all arrived; JSON alone on the standard output."""
    result = run("send", path, *ARGUMENTS, "--user-id", "version", "--base-url", box.url, "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["ok"]
    assert report["counts"]["delivered"] == 10


def test_plan_with_options_for_everything(path: Path, tmp_path: Path) -> None:
    """Options build a mapping, which can be saved and used."""
    toml = tmp_path / "m.toml"
    options = [
        "--property", "app.version=version", "--property", "tier==gold", "--context", "locale=uid",
        "--translate", "x=Application Crashed", "--other-events", "send", "--rest", "drop",
    ]  # fmt: skip
    result = run("plan", path, *ARGUMENTS, *options, "--save-mapping", toml, "--json", key=None)
    assert result.exit_code == 1
    plan = json.loads(result.stdout)
    assert plan["counts"] == {"to_send": 9, "invalid": 1, "held": 0, "skipped": 0}
    assert plan["events"] == {"Application Opened": 9}
    assert Mapping.load(toml).to_dict() == plan["mapping"]
    again = run("plan", path, "--mapping", toml, "--user-id", "version", "--samples", key=None)
    assert again.exit_code == 0
    assert "10 of 10 rows" in again.output
    assert "gold" in again.output
    back = run("plan", path, "--mapping", toml, "--other-events", "invalid", "--json", key=None)
    assert "other_events" not in json.loads(back.stdout)["mapping"]


def test_version() -> None:
    """It can be asked for."""
    assert re.fullmatch(r"cdp-backfill \d+\.\d+\.\d+\n", run("--version").output)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["send", "no.parquet", *ARGUMENTS], "SourceError: There is no file 'no.parquet'"),
        (["send", "PATH", *ARGUMENTS, "--user-id", "user"], "MappingError: There is no column"),
        (["send", "PATH", *ARGUMENTS, "--region", "uk"], "DestinationError: There is no region"),
        (["send", "PATH", *ARGUMENTS, "--recent", "x"], "recent must be"),
        (["plan", "PATH", *ARGUMENTS, "--property", "x"], "--property takes NAME=VALUE"),
        (["plan", "PATH", "--mapping", "no.toml"], "MappingError"),
        (["plan", "PATH", *ARGUMENTS, "--property", "x=ts", "--property", "x.y=ts"], "lies below"),
        (["send", "PATH", *ARGUMENTS, "--save", "/proc/no"], "cannot be saved"),
        (["plan", "PATH", "--mapping", "m.toml", "--preset", "ga4"], "not both"),
        (["send"], "Missing argument"),
        (["send", "PATH", "--nonsense"], "No such option"),
        (["plan", "PATH", *ARGUMENTS, "--save-mapping", "/no/where"], "cannot be saved"),
    ],
)
def test_bad_use_is_exit_code_2(path: Path, arguments: list[str], words: str) -> None:
    """One line says what is wrong; there is no traceback."""
    result = run(*[str(path) if word == "PATH" else word for word in arguments])
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


def test_no_key_and_nobody_to_ask(path: Path) -> None:
    """Exit code 4, and it says where a key can come from."""
    done = subprocess.run(
        [COMMAND, "send", str(path), *ARGUMENTS],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert done.stderr.endswith("ApiKeyError: There is no API key. Set $CUSTOMERIO_CDP_API_KEY.\n")
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:]{8}[+-]\d\d:\d\d ERROR ", done.stderr)


def test_a_wrong_key_is_exit_code_4_with_the_report(box: Sandbox, path: Path) -> None:
    """The run began: the report is shown, and then the error."""
    result = run("send", path, *ARGUMENTS, "--base-url", box.url, "--json", key="wrong-key")
    assert result.exit_code == 4
    report = json.loads(result.stdout)
    assert report["counts"]["unsent"] == 9
    assert report["error"] == "AuthenticationError"
    assert "AuthenticationError" in result.stderr
    assert "wrong-key" not in result.output + result.stderr


def test_demo(tmp_path: Path) -> None:
    """The demo plans, sends, reports, and agrees with the sandbox; what is kept can be used."""
    result = run("demo", "--rows", 60_000, "--keep", tmp_path / "kept", key=None)
    assert result.exit_code == 0
    assert "The sandbox holds exactly what was delivered" in result.output
    for code in ("missing_user", "unknown_event", "bad_time", "oversize"):
        assert code in result.output
    assert len(pd.read_parquet(tmp_path / "kept" / "records.parquet")) == 60_000
    failures = pd.read_parquet(tmp_path / "kept" / "failures.parquet")
    assert re.search(rf"Backfill: {len(failures):,} of 60,000 rows not delivered", result.output)


def test_demo_as_json() -> None:
    """All figures of the demo, for programs."""
    result = run("demo", "--rows", 5_000, "--json", key=None)
    actual = json.loads(result.stdout)
    assert actual["agrees"]
    assert sum(actual["report"]["counts"].values()) == 5_000
    stored = sum(event["stored"] for event in actual["sandbox"].values())
    assert stored == actual["report"]["counts"]["delivered"] == actual["plan"]["counts"]["to_send"]


def test_sandbox_until_it_is_stopped(path: Path) -> None:
    """It says where it is, takes what is sent, and on Ctrl-C says what it got."""
    with subprocess.Popen(
        [COMMAND, "sandbox", "--port", "0", "--api-key", "k1"], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        lines = [server.stdout.readline() for _ in range(3)]
        url = re.search(r"http://\S+/v1", lines[0])
        assert url
        result = run("send", path, *ARGUMENTS, "--base-url", url.group(), key="k1")
        assert "delivered" in result.output
        server.send_signal(signal.SIGINT)
        rest = server.stdout.read()
    assert re.search(r"Application Opened\s+9\s+9\s+9", rest)
    assert server.returncode == 0


def test_canary_resume_and_status(box: Sandbox, path: Path, tmp_path: Path) -> None:
    """A few rows first, then the rest from the journal, which says what it knows."""
    url = ["--base-url", box.url, "--no-progress"]
    first = run("send", path, *ARGUMENTS, *url, "--canary", 2)
    assert first.exit_code == 0
    (journal,) = tmp_path.glob("*.cdp-journal")
    assert len(box.events()) == 2
    status = " ".join(run("status", journal, key=None).output.split())
    assert "2 rows are known to be delivered" in status
    assert "Go on with: cdp-backfill resume" in status
    rest = run("resume", journal, "--json", "--no-progress")
    report = json.loads(rest.stdout)
    assert (report["counts"]["delivered"], report["delivered_before"]) == (9, 2)
    assert len(box.events()) == 9
    noted = json.loads(run("status", journal, "--json", key=None).stdout)
    assert [entry["counts"]["delivered"] for entry in noted["runs"]] == [2, 9]
    assert noted["delivered"] == 9
    shown = " ".join(run("status", journal, key=None).output.split())
    assert "1 invalid missing_user" in shown
    assert run("status", "no.journal").exit_code == 2


def test_status_shows_what_a_journal_leaves_out(box: Sandbox, path: Path, tmp_path: Path) -> None:
    """The expression, the number of ids and their file, and the columns; of the ids only these."""
    (tmp_path / "gone.txt").write_text("somebody\nnobody\n", encoding="utf-8")
    leave = ["--where", "uid <> 'x'", "--exclude", tmp_path / "gone.txt", "--drop", "version"]
    journal = tmp_path / "of.cdp-journal"
    sent = run("send", path, *ARGUMENTS, *leave, "--base-url", box.url, "--journal", journal)
    assert "Left out on request" not in sent.output
    shown = " ".join(run("status", journal, key=None).output.split())
    assert "rows for which this is not true uid <> 'x'" in shown
    assert "rows of these people 2 ids, from" in shown
    assert "gone.txt" in shown
    assert "columns version" in shown
    assert "somebody" not in shown
    noted = json.loads(run("status", journal, "--json", key=None).stdout)
    assert (noted["where"], noted["exclude"]["ids"]) == ("uid <> 'x'", 2)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_with_the_report_saved(
    box: Sandbox, tmp_path: Path, number: int, code: int
) -> None:
    """Ctrl-C and SIGTERM: what is under way finishes, the report is saved, the code says which."""
    opens(200_000).to_parquet(tmp_path / "opens.parquet")
    box.set_faults(latency=0.05)
    with subprocess.Popen(
        [
            COMMAND, "send", str(tmp_path / "opens.parquet"), *ARGUMENTS, "--base-url", box.url,
            "--rate-limit", "20", "--save", str(tmp_path / "out"), "--json", "--no-progress",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"CUSTOMERIO_CDP_API_KEY": "sandbox"},
    ) as command:  # fmt: skip
        until(lambda: len(box.requests()) >= 3)
        command.send_signal(number)
        assert command.stdout is not None
        shown = json.loads(command.stdout.read())
    assert command.returncode == code
    saved = json.loads((tmp_path / "out" / "report.json").read_text())
    assert saved == shown
    assert saved["interrupted"]
    assert sum(saved["counts"].values()) == 200_000
    assert saved["counts"]["delivered"] == len(box.events()) > 0
    assert len(pd.read_parquet(tmp_path / "out" / "failures.parquet")) == saved["counts"]["unsent"]


def test_faults_of_a_sandbox_process() -> None:
    """They are options of the command, and can be changed over HTTP while it runs."""
    with subprocess.Popen(
        [COMMAND, "sandbox", "--port", "0", "--failing", "1.0"], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        url = re.search(r"http://\S+/v1", server.stdout.readline())
        assert url
        base = url.group().removesuffix("/v1")
        assert httpx.post(f"{base}/v1/batch").status_code in (500, 503)
        assert httpx.get(f"{base}/faults").json()["failing"] == 1.0
        assert httpx.put(f"{base}/faults", json={"failing": 2.0}).status_code == 400
        assert httpx.put(f"{base}/faults", json={}).status_code == 200
        assert httpx.post(f"{base}/v1/batch").status_code == 200
        server.send_signal(signal.SIGINT)


def test_a_plan_without_options_proposes_or_asks(tmp_path: Path) -> None:
    """A CSV that says it all is planned; one that does not ends with a question, exit code 2."""
    rows = "user_id,event,ts\nu1,app_open,2023-05-01T10:00:00Z\nu2,purchase,2023-05-01T11:00:00Z\n"
    (tmp_path / "a.csv").write_text(rows)
    planned = run("plan", tmp_path / "a.csv", key=None)
    assert planned.exit_code == 1  # nobody chose what becomes of the purchase
    assert "1  Application Opened" in planned.output
    assert run("plan", tmp_path / "a.csv", "--other-events", "skip", key=None).exit_code == 0
    (tmp_path / "b.csv").write_text("x,y\n1,2\n")
    asked = run("plan", tmp_path / "b.csv", key=None)
    assert asked.exit_code == 2
    assert "No column is clearly the id of a person. Pass" in asked.output
    sent = run("send", tmp_path / "b.csv")
    assert sent.exit_code == 2
    assert "MappingError: No column is clearly the id of a person. Pass" in sent.stderr


@pytest.mark.parametrize("kind", ["all right", "invalid", "recent", "asking"])
def test_plan_and_send_exit_alike(box: Sandbox, tmp_path: Path, kind: str) -> None:
    """What send would refuse or leave, plan says with the same exit code; JSON says why."""
    frame = opens(3)
    if kind == "invalid":
        frame.loc[0, "uid"] = None
    elif kind == "recent":
        frame["ts"] = pd.Timestamp.now("UTC").isoformat()
    path = tmp_path / "rows.csv"
    (frame if kind != "asking" else frame.drop(columns="ts")).to_csv(path, index=False)
    mapping = [] if kind == "asking" else ARGUMENTS
    planned = run("plan", path, *mapping, "--base-url", box.url)
    sent = run("send", path, *mapping, "--base-url", box.url, key=box.api_key)
    assert (planned.exit_code == 0) is (kind == "all right")
    assert planned.exit_code == sent.exit_code
    refused = json.loads(run("plan", path, *mapping, "--json").stdout)["refusal"]
    assert (refused is not None) is (kind in ("recent", "asking"))


def test_presets_are_listed_printed_and_used(tmp_path: Path) -> None:
    """A list, one to copy, and the copy in use; a name that is none says which there are."""
    assert "ga4" in run("presets").output
    assert json.loads(run("presets", "--json").stdout)["snowplow"]
    text = run("presets", "segment").output
    (tmp_path / "mine.toml").write_text(text)
    rows = "id,anonymous_id,event_text,timestamp\nm1,a1,Application Opened,2023-05-01T10:00:00Z\n"
    (tmp_path / "tracks.csv").write_text(rows)
    planned = run("plan", tmp_path / "tracks.csv", "--preset", tmp_path / "mine.toml", "--json")
    assert json.loads(planned.stdout)["counts"]["to_send"] == 1
    wrong = run("plan", tmp_path / "tracks.csv", "--preset", "segmnt")
    assert wrong.exit_code == 2
    assert "Did you mean 'segment'?" in wrong.stderr


def test_duplicates_can_be_left_out(box: Sandbox, tmp_path: Path) -> None:
    """The option does what the argument does."""
    opens(3, uid=["same"] * 3, ts="2023-05-01T10:00:00Z").to_json(
        tmp_path / "rows.ndjson", orient="records", lines=True
    )
    result = run(
        "send", tmp_path / "rows.ndjson", *ARGUMENTS, "--duplicates", "skip",
        "--base-url", box.url, "--json",
    )  # fmt: skip
    assert result.exit_code == 0
    assert json.loads(result.stdout)["counts"]["skipped"] == 2
    assert len(box.events()) == 1


def test_nothing_to_send_is_no_success_unless_chosen(box: Sandbox, tmp_path: Path) -> None:
    """A file of other events only is a question, but for those who said that they are skipped."""
    path = tmp_path / "o.csv"
    path.write_text("user_id,event,ts\nu1,purchase,2023-05-01T10:00:00Z\n")
    assert run("plan", path).exit_code == 2
    assert run("plan", path, "--event", "event").exit_code == 2
    assert run("send", path, "--event", "event", "--base-url", box.url).exit_code == 2
    assert box.events().empty
    assert run("plan", path, "--other-events", "skip").exit_code == 0
    assert run("send", path, "--base-url", box.url, "--other-events", "skip").exit_code == 0


def test_rehearse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report, the reconciliation, and the data; a question leaves nothing behind."""
    monkeypatch.chdir(tmp_path)
    opens(10, eid=["same"] * 2 + list("abcdefgh")).to_parquet("opens.parquet")
    options = [*ARGUMENTS, "--message-id", "eid", "--keep", "there", "--no-progress"]
    result = run("rehearse", "opens.parquet", *options)
    assert result.exit_code == 0
    shown = " ".join(result.output.split())
    assert "the sandbox holds 10 messages with 9 different ids" in shown
    assert "1 message has the id of an earlier one" in shown
    assert (tmp_path / "there" / "box.db").exists()
    assert (tmp_path / "there" / "report.json").exists()
    assert run("rehearse", "opens.parquet", *options).exit_code == 2
    Path("what.csv").write_text("x,y\n1,2\n")
    asked = run("rehearse", "what.csv", "--keep", "not-there")
    assert asked.exit_code == 2
    assert "No column is clearly the id of a person" in asked.stderr
    assert "No column is clearly the time of the event" in asked.stderr
    assert not (tmp_path / "not-there").exists()


def test_identities(box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column or a file; plan, send, resume, status and rehearse have them."""
    monkeypatch.chdir(tmp_path)
    opens(4, did=["a", "a", "b", "c"], uid=[None, "x", "y", None]).to_parquet("opens.parquet")
    Path("people.csv").write_text("did,uid,plan\na,x,gold\nc,z,\nc,w,\n")
    options = ["opens.parquet", *ARGUMENTS, "--anonymous-id", "did"]
    planned = run("plan", *options, "--identify", "uid", "--json", key=None)
    assert planned.exit_code == 0
    assert json.loads(planned.stdout)["identities"]["counts"]["to_send"] == 2
    assert run("plan", *options, "--identify", "people.csv", key=None).exit_code == 1
    journal = ["--journal", "o.journal", "--no-progress"]
    sent = run("send", *options, "--identify", "people.csv", "--base-url", box.url, *journal)
    assert sent.exit_code == 1
    assert "2 of 3 identities were not delivered (2 invalid)" in " ".join(sent.stdout.split())
    again = run("resume", "o.journal", "--no-progress", "--json")
    assert json.loads(again.stdout)["identities"]["delivered_before"] == 1
    shown = run("status", "o.journal").output
    assert "Identities, sent first" in shown
    status = json.loads(run("status", "o.journal", "--json").stdout)
    assert status["identities_delivered"] == 1
    assert status["identify"] == {"paths": [str(tmp_path / "people.csv")]}
    canary = run(
        "send", *options, "--identify", "uid", "--base-url", box.url, "--canary", 1, "--no-progress"
    )
    assert canary.exit_code == 0
    rehearsed = run("rehearse", *options, "--identify", "uid", "--keep", "k", "--no-progress")
    assert rehearsed.exit_code == 0
    assert "the sandbox holds 6 messages with 6 different ids" in " ".join(rehearsed.output.split())

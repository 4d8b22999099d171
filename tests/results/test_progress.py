"""Progress of a run: figures, texts, and displays in a log, a terminal and a notebook."""

from __future__ import annotations

import dataclasses
import io
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import warnings
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.model.environment import in_marimo
from cdp_backfill.results import progress
from cdp_backfill.results.progress import (
    LogDisplay,
    NoDisplay,
    Reason,
    SafeDisplay,
    Snapshot,
    State,
    TerminalDisplay,
    Timeline,
    TqdmDisplay,
    make_progress,
)
from cdp_backfill.results.progress.notebook import html_view, text_view
from cdp_backfill.results.progress.pace import Pace
from cdp_backfill.results.run_stats import RunStats
from tests.results.test_progress_figures import ParsedHtml
from tests.rows import OPENED, opens
from tests.servers import Reply, serving

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox


HALF = Snapshot(
    rows=500,
    total=1_000,
    not_delivered=2,
    in_flight=3,
    level=8,
    stats=RunStats(requests=7, answers=7, wire_bytes=1_234_567, seconds=20.0),
    counts={"delivered": 498, "refused": 2, "unsent": 0},
    reasons=(Reason("http_400", "the server answered 400", 2),),
)


def replace(snapshot: Snapshot, **values: Any) -> Snapshot:
    """A snapshot with other values; those of its figures are given by their names, too."""
    names = {field.name for field in dataclasses.fields(RunStats)}
    figures = {name: values.pop(name) for name in names & set(values)}
    stats = dataclasses.replace(snapshot.stats, **figures)
    return dataclasses.replace(snapshot, stats=stats, **values)


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        """The time in seconds."""
        return self.now


class RecordingDisplay:
    """A display that stores all snapshots."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []
        self.closed = 0

    def update(self, snapshot: Snapshot) -> None:
        """Store a snapshot."""
        self.snapshots.append(snapshot)

    def close(self) -> None:
        """Count the calls."""
        self.closed += 1


def pace_of(*snapshots: Snapshot) -> Pace:
    """The pace of these snapshots."""
    pace = Pace()
    for snapshot in snapshots:
        pace.add(snapshot)
    return pace


def seconds(*numbers: float, **fields: Any) -> list[Snapshot]:
    """The same snapshot at several times."""
    return [replace(HALF, seconds=second, **fields) for second in numbers]


# --- figures --------------------------------------------------------------------------------------


def test_the_rate_is_that_of_the_last_seconds() -> None:
    """After a run becomes ten times slower, the rate and the remaining time show it."""
    fast = [replace(HALF, seconds=s, rows=1_000 * s, total=100_000) for s in range(31)]
    slow = [replace(HALF, seconds=s, rows=27_000 + 100 * s, total=100_000) for s in range(31, 61)]
    pace = pace_of(*fast)
    assert pace.rate == pytest.approx(1_000)
    assert pace.seconds_left == pytest.approx(70)
    pace = pace_of(*fast, *slow)
    assert pace.rate == pytest.approx(100)
    assert pace.seconds_left == pytest.approx(670)


@given(
    waiting=st.floats(0.1, 8.0),
    doubling=st.floats(0.05, 0.6),
    rate=st.floats(20.0, 50_000.0),
    seconds_of_sending=st.floats(5.0, 120.0),
)
def test_a_time_left_is_never_far_off(
    waiting: float, doubling: float, rate: float, seconds_of_sending: float
) -> None:
    """Whatever comes before steady sending: a wait for the first answer, and a slow increase."""
    total = max(40, int(rate * seconds_of_sending))
    rows = [0.0]
    while rows[-1] < total:
        sending = 0.2 * len(rows) - waiting
        now = min(rate, 20 * 2 ** min(sending / doubling, 20)) if sending > 0 else 0.0
        rows.append(rows[-1] + 0.2 * now)
    pace, shown = Pace(), 0
    for number, done in enumerate(rows):
        stats = RunStats(requests=1 + int(done / 20), answers=int(done > 0), seconds=0.2 * number)
        pace.add(Snapshot(int(min(done, total)), total, 0, 1, stats=stats))
        if pace.seconds_left is not None:
            shown += 1
            left = 0.2 * (len(rows) - 1 - number)
            assert left / 2 - 1 <= pace.seconds_left <= 2 * left + 1
    assert shown or 0.2 * len(rows) < waiting + 12


def test_no_time_left_while_the_key_is_checked() -> None:
    """A slow first answer, or rows that were checked without one, say nothing about the rest."""
    first = [replace(HALF, seconds=s, rows=500, total=10**6, answers=0) for s in range(9)]
    pace = pace_of(*first, replace(HALF, seconds=8.4, rows=520, total=10**6, answers=1))
    assert (pace.rate, pace.seconds_left) == (None, None)
    assert "? left" in text_view(pace)


def test_many_snapshots_need_no_memory() -> None:
    """With 1,000 snapshots a second, only those that the window needs are stored."""
    pace = pace_of(*(replace(HALF, seconds=n / 1_000, rows=n) for n in range(60_000)))
    assert pace.rate == pytest.approx(1_000, rel=0.05)
    assert len(pace._window) < 60


def test_the_first_second_has_no_rate() -> None:
    """Its rate would mean little, so there is a question mark instead."""
    pace = pace_of(replace(HALF, seconds=0.3, rows=4))
    assert (pace.rate, pace.seconds_left) == (None, None)
    assert "? rows/s, ? left" in text_view(pace)
    pace = pace_of(replace(HALF, seconds=2.0, rows=0))
    assert pace.rate is None
    assert "? left" in text_view(pace)


def test_a_stream_of_unknown_length() -> None:
    """No display shows a share or a remaining time."""
    pace = pace_of(*seconds(1, 2, 3, total=None))
    text, file = text_view(pace), io.StringIO()
    assert text.startswith("Backfill: 500 rows, ")
    assert "? left" in text
    assert "%" not in text
    assert 'class="t"' not in html_view(pace)
    display = TerminalDisplay(file, columns=80)
    display.update(pace.now)
    display.close()
    assert "Backfill    ? 500, " in file.getvalue()
    assert "? left" in file.getvalue()


def test_a_run_without_progress() -> None:
    """After ten seconds without a row, the rate is 0 and the remaining time is unknown."""
    pace = pace_of(*seconds(*range(1, 30)))
    assert pace.rate == 0
    assert pace.seconds_left is None


def test_the_rate_at_the_end_is_the_average() -> None:
    """It is that of the whole run, not of its last seconds."""
    pace = pace_of(*seconds(1, 10, 20), replace(HALF, rows=1_000, seconds=40, state=State.DONE))
    assert pace.rate == pytest.approx(25)
    assert pace.seconds_left is None
    assert text_view(pace).startswith(
        "Backfill done: 100%, 1,000 of 1,000 rows, in 40 s, 25 rows/s"
    )


@pytest.mark.parametrize(
    ("snapshots", "expected"),
    [
        ([replace(HALF, requests=0)], "preparing the first request"),
        (seconds(1, 2, 3), "steady"),
        ([*seconds(1, level=4), *seconds(2, level=5)], "speeding up"),
        ([*seconds(1, level=4), *seconds(2, 3, 4, 5, 6, level=5)], "steady"),
        ([*seconds(1, level=9), *seconds(2, level=5)], "slowed down: slow or failed answers"),
        ([*seconds(1), *seconds(2, throttled=1, level=4)], "slowed down by 429"),
        ([*seconds(1), *seconds(2, 3, 4, 7, throttled=1)], "steady"),
        (
            [*seconds(1), *seconds(2, requests=8), *seconds(3, 14, requests=8, in_flight=0)],
            "nothing sent for 12 s",
        ),
        (
            [
                *seconds(1),
                *seconds(2, requests=8),
                *seconds(3, 14, requests=8, in_flight=0, throttled=1),
            ],
            "paused at the server's request for 12 s",
        ),
        (seconds(1, 2, state=State.STOPPING), "stopping: waiting for requests in flight"),
        (seconds(1, 2, state=State.DONE), ""),
    ],
)
def test_activities(snapshots: list[Snapshot], expected: str) -> None:
    """A text says why a run has the speed that it has."""
    assert pace_of(*snapshots).activity == expected


def test_a_pause_is_shown() -> None:
    """If the server asks for a pause, the text says so, and for how long."""

    def answer(number: int, _: object) -> Reply:
        return Reply(429, headers={"Retry-After": "2.2"}) if number == 1 else Reply()

    pace, activities = Pace(), set()

    class ActivityRecorder:
        def update(self, snapshot: Snapshot) -> None:
            pace.add(snapshot)
            activities.add(pace.activity)

        def close(self) -> None:
            """Nothing to do."""

    with serving(answer) as server:
        destination = server.destination(workers=1, max_messages=100)
        report = cdp.send(opens(300), OPENED, destination=destination, progress=ActivityRecorder())
    assert report.ok
    assert "slowed down by 429" in activities
    assert "paused at the server's request for 2 s" in activities


# --- snapshots of a run ---------------------------------------------------------------------------


def test_failures_show_during_the_run(box: Sandbox) -> None:
    """Outcomes and reasons are in the snapshots before the end."""
    display = RecordingDisplay()
    frame = opens(30_000, uid=[None, *[f"u{n}" for n in range(29_999)]])
    report = cdp.send(frame, OPENED, destination=box.destination, progress=display)
    assert report.counts["invalid"] == 1
    running = [each for each in display.snapshots if each.state is State.RUNNING]
    assert running[-1].reasons == (Reason("missing_user", "column 'uid' is empty", 1),)
    assert running[-1].counts["invalid"] == 1
    final = display.snapshots[-1]
    assert (final.state, final.rows, final.total, display.closed) == (State.DONE, 30_000, 30_000, 1)


def test_no_reason_of_a_server_is_shown() -> None:
    """It may repeat a value of a row, and logs are stored, so only the status is shown."""
    display = RecordingDisplay()

    def answer(number: int, seen: Any) -> Reply:
        if not number or not seen.raw or b'"u0"' in seen.body:
            return Reply()
        user = seen.batch[0]["userId"]
        return Reply(400, f'{{"message": "{user} is not welcome"}}'.encode())

    with serving(answer) as server:
        destination = server.destination(workers=1, max_messages=1)
        report = cdp.send(opens(3), OPENED, destination=destination, progress=display)
    assert "u1 is not welcome" in str(report)
    assert display.snapshots[-1].reasons == (Reason("http_400", "the server answered 400", 2),)


def test_the_share_of_a_canary(box: Sandbox, tmp_path: Path) -> None:
    """It is the share of the canary's rows, not of the whole table."""
    display = RecordingDisplay()
    cdp.send(
        opens(100),
        OPENED,
        destination=box.destination,
        journal=tmp_path / "canary",
        canary=10,
        progress=display,
    )
    assert (display.snapshots[-1].rows, display.snapshots[-1].total) == (10, 10)
    assert display.snapshots[-1].reasons == ()


@pytest.mark.parametrize("how", ["interrupted", "stopped"])
def test_the_end_of_a_run_is_shown(how: str, box: Sandbox) -> None:
    """The text names an interrupt or an error as the end, and shows that the run is stopping."""

    class InterruptingDisplay(RecordingDisplay):
        def update(self, snapshot: Snapshot) -> None:
            super().update(snapshot)
            if len(self.snapshots) == 1:
                raise KeyboardInterrupt

    if how == "interrupted":
        display = InterruptingDisplay()
        cdp.send(opens(50_000), OPENED, destination=box.destination, progress=display)
        assert State.STOPPING in {each.state for each in display.snapshots}
    else:
        display = RecordingDisplay()  # type: ignore[assignment]
        wrong = cdp.Destination(api_key="wrong", base_url=box.url)
        with pytest.raises(cdp.AuthenticationError):
            cdp.send(opens(50_000), OPENED, destination=wrong, progress=display)
    assert display.snapshots[-1].state == how
    pace = pace_of(*display.snapshots)
    titles = {"interrupted": "Backfill interrupted: ", "stopped": "Backfill stopped by an error: "}
    assert text_view(pace).startswith(titles[how])
    assert "unsent" in text_view(pace)
    assert display.closed == 1


def test_an_interrupt_of_the_last_update_keeps_the_report(box: Sandbox) -> None:
    """Every row has an outcome by then, so the report is returned."""

    class InterruptedAtEnd(RecordingDisplay):
        def close(self) -> None:
            raise KeyboardInterrupt

    report = cdp.send(opens(3), OPENED, destination=box.destination, progress=InterruptedAtEnd())
    assert report.ok


def test_a_timeline_stays_short() -> None:
    """A run of a day has at most 1,000 snapshots at even intervals."""
    timeline = Timeline()
    for second in range(86_400):
        timeline.add(replace(HALF, seconds=float(second)))
    assert 400 <= len(timeline.snapshots) <= 1_000


# --- a log ----------------------------------------------------------------------------------------


def test_a_log_gets_a_line_every_ten_seconds() -> None:
    """There are whole lines without carriage returns or a bar, and one at the end."""
    clock, file = Clock(), io.StringIO()
    log = LogDisplay(file, clock=clock)
    for second in range(25):
        clock.now = second
        log.update(replace(HALF, seconds=second, rows=second * 10))
    log.update(replace(HALF, seconds=25, rows=1_000, state=State.DONE))
    log.close()
    lines = file.getvalue().splitlines()
    assert len(lines) == 3
    moments, lines = map(list, zip(*(line.split(" INFO ") for line in lines), strict=True))
    assert all(datetime.fromisoformat(moment).tzinfo for moment in moments)
    assert lines[0] == (
        "Backfill: 100 of 1,000 rows (10%), 10 rows/s, 1 min 30 s left, 498 delivered, 2 refused, "
        "steady, 3 in flight (limit 8), 7 requests, 1.2 MB sent; "
        "2 x http_400"  # without the words of the server, which can quote a row
    )
    assert lines[-1].startswith("Backfill done: 1,000 of 1,000 rows (100%), in 25 s, 40 rows/s, ")
    assert "\r" not in file.getvalue()


def test_short_runs_have_one_line_each_in_a_log(
    box: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """Sending in a loop does not flood the log, which is that of the program if it has one."""
    caplog.set_level("INFO", "cdp_backfill")
    for _ in range(5):
        cdp.send(opens(3), OPENED, destination=box.destination)
    assert len(caplog.messages) == 5


# --- a terminal -----------------------------------------------------------------------------------


class Screen:
    """A simple terminal that wraps and scrolls as a real one."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines = [""]
        self.column = 0
        self.longest = 0

    def feed(self, text: str) -> None:
        """Write text to the terminal."""
        for character in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text):
            if character == "\r":
                self.column = 0
            elif character == "\n":
                self.lines.append("")
                self.column = 0
            else:
                if self.column == self.columns:
                    self.lines.append("")
                    self.column = 0
                line = self.lines[-1].ljust(self.column)
                self.lines[-1] = line[: self.column] + character + line[self.column + 1 :]
                self.column += 1
                self.longest = max(self.longest, self.column)


SEND = """
import sys; sys.path.insert(0, '.')
import cdp_backfill as cdp
from tests.rows import opens
with cdp.sandbox(latency=0.05, too_many={too_many}) as box:
    frame = opens({rows}, uid=[None, *['u'] * ({rows} - 1)])
    report = frame.cdp.send(user_id='uid', timestamp='ts', event=cdp.lit('Application Opened'),
        destination=cdp.Destination(api_key=box.api_key, base_url=box.url, max_messages=250,
            rate_limit=20.0))
print(report)
"""


def run_in_terminal(
    code: str, columns: int, *, interrupt_at: bytes | None = None
) -> tuple[Screen, list[str]]:
    """Run code in a pseudo-terminal; return the screen and all states of the line.

    Args:
        code: Python code.
        columns: Width of the terminal.
        interrupt_at: Interrupt the process, as with Ctrl-C, once this text is shown.
    """
    main, other = pty.openpty()
    termios.tcsetwinsize(other, (24, columns))
    command = [sys.executable, "-c", code]
    output = b""
    with subprocess.Popen(command, stderr=other, stdout=other, stdin=other) as run:
        os.close(other)
        try:
            while part := os.read(main, 4_096):
                output += part
                if interrupt_at and interrupt_at in output:
                    run.send_signal(signal.SIGINT)
                    interrupt_at = None
        except OSError:  # raised once the terminal is closed
            pass
        os.close(main)
    assert run.returncode == 0
    screen = Screen(columns)
    screen.feed(output.decode())
    return screen, output.decode().split("\r")


@pytest.mark.parametrize(("columns", "too_many"), [(80, 0.3), (60, 0.15)])
def test_a_terminal_shows_one_line(columns: int, too_many: float) -> None:
    """The line is redrawn in place and fits the terminal, and the report follows."""
    screen, states = run_in_terminal(SEND.format(rows=10_000, too_many=too_many), columns)
    updates = [state for state in states if state.startswith("Backfill")]
    assert len({state[:14] for state in updates}) > 3  # several shares
    assert any("1 failure" in state for state in updates)
    bars = [line for line in screen.lines if "%|" in line]
    assert len(bars) == 1
    assert bars[0] == screen.lines[0]
    assert re.match(r"Done 100%\|█+\| 10k/10k, 1 failure", bars[0])
    assert len(bars[0].rstrip()) < columns
    assert screen.lines[1].startswith("Backfill: 1 of 10,000 rows not delivered")
    if columns == 80:
        assert any(" left" in state for state in updates)
        assert any("slowed down by 429" in state for state in updates)
        assert screen.longest <= 80
        assert max(len(line) for line in screen.lines) <= 80


def test_ctrl_c_in_a_terminal() -> None:
    """The same line shows the interrupt, and the report follows."""
    code = SEND.format(rows=1_000_000, too_many=0.0)
    screen, _ = run_in_terminal(code, 80, interrupt_at=b"k/s, ")
    assert re.match(r"Interrupted +\d+%\|", screen.lines[0])
    assert screen.lines[1].startswith("Backfill: ")
    assert any("unsent" in line for line in screen.lines)
    assert not any("Traceback" in line for line in screen.lines)
    assert screen.longest <= 80


@pytest.mark.parametrize("columns", [10, 20, 40, 60, 79, 80, 200])
def test_a_line_fits_any_terminal(columns: int) -> None:
    """The least important figures are left out, and nothing wraps."""
    large = replace(
        HALF,
        rows=123_456_789,
        total=987_654_321,
        not_delivered=9_876_543,
        requests=12_345_678,
        wire_bytes=10**12,
        seconds=100_000.0,
        reasons=(Reason("nonexistent_time", "the clock skipped it", 9_876_543),),
    )
    file = io.StringIO()
    display = TerminalDisplay(file, columns=columns)
    for state in State:
        display.update(replace(large, state=state))
        display.close()
        display = TerminalDisplay(file, columns=columns)
    for line in re.split(r"[\r\n]", file.getvalue()):
        assert len(line) < columns
    if columns == 80:
        assert "123M/988M, 9.88M failures, 1.24k/s, 194 h left, steady\r" in file.getvalue()
        assert "9.88M failures (nonexistent_time)" in file.getvalue()


# --- a display that fails -------------------------------------------------------------------------


class BrokenDisplay:
    """A display that raises an error."""

    def update(self, _: Snapshot) -> None:
        """Raise an error."""
        raise RuntimeError

    def close(self) -> None:
        """Raise an error."""
        raise RuntimeError


def test_a_display_that_fails_does_not_end_the_run(box: Sandbox) -> None:
    """There is one warning, and the rows arrive."""
    with pytest.warns(RuntimeWarning, match=r"display failed \(RuntimeError\). The run continues"):
        report = cdp.send(opens(3), OPENED, destination=box.destination, progress=BrokenDisplay())
    assert report.ok


def test_a_display_that_fails_if_warnings_are_errors(box: Sandbox) -> None:
    """The report is also returned with ``-W error``."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = cdp.send(opens(3), OPENED, destination=box.destination, progress=BrokenDisplay())
    assert report.ok


@pytest.mark.parametrize("how", ["sys.stderr.close()", "sys.stderr = None", "os.close(2)"])
def test_a_run_without_standard_error(how: str) -> None:
    """A daemon that closed its streams can send."""
    code = (
        f"import os, sys; {how}; sys.path.insert(0, '.')\n"
        "import cdp_backfill as cdp\n"
        "from tests.rows import opens\n"
        "with cdp.sandbox() as box:\n"
        "    print(opens(3).cdp.send(user_id='uid', timestamp='ts',\n"
        "        event=cdp.lit('Application Opened'), destination=box.destination).ok)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=False)
    assert run.stdout == b"True\n"


def test_a_slow_display_is_updated_less_often() -> None:
    """Updates take at most 5 % of the time, however slow the display is."""
    clock, update_times = Clock(), []

    class SlowDisplay(progress.display.Display):
        def show(self, pace: Pace) -> None:
            update_times.append(pace.now.seconds)
            clock.now += 0.5

    display = SlowDisplay(0.1, clock=clock)
    while clock.now < 100:
        display.update(replace(HALF, seconds=clock.now))
        clock.now += 0.01
    assert len(update_times) * 0.5 <= 0.05 * 100 + 0.5


def test_the_display_fits_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """False shows nothing, and output that is not a terminal gets a log."""
    assert isinstance(make_progress(False), NoDisplay)
    display = make_progress(True)
    assert isinstance(display, SafeDisplay)
    assert isinstance(display._display, LogDisplay)
    monkeypatch.setattr(progress, "_default_display", lambda: 1 / 0)
    assert isinstance(make_progress(True), NoDisplay)


# --- a notebook -----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", list(State))
def test_text_and_html_have_the_same_words(state: State) -> None:
    """This also holds without the style, and no line is longer than 80 characters."""
    odd = Reason("derive_failed", "column '<b>x</b>' & {co}: fails " + "w" * 40, 1)
    pace = pace_of(*seconds(1, 2, 3, reasons=(*HALF.reasons, odd), state=state))
    text, html = text_view(pace), html_view(pace)
    assert ParsedHtml(html).words == text.split()
    assert "<b>x" not in html
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "width:50.0%" in html


# --- tqdm, marimo and displays of one's own -------------------------------------------------------


def test_a_bar_of_tqdm() -> None:
    """It counts rows, shows failures, and gives rows after identities a bar of their own."""
    file = io.StringIO()
    display = TqdmDisplay(clock=Clock(), options={"file": file, "ncols": 120})
    display.update(replace(HALF, call="identify", state=State.DONE))
    display._due = 0.0
    display.update(HALF)
    display.close()
    bars = file.getvalue()
    assert "Identities done:  50%" in bars
    assert "Backfill:  50%" in bars
    assert "500/1.00k" in bars
    assert "25 rows/s" in bars
    assert "2 failed" in bars


def test_progress_by_name(box: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """``progress="tqdm"`` shows a bar of tqdm."""
    opens(30).cdp.send(OPENED, destination=box.destination, progress="tqdm")
    assert "Backfill done: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("progress", ["tdqm", None, 1, object()])
def test_what_is_no_display_is_refused_first(box: Sandbox, progress: Any) -> None:
    """One clear error names what can be passed; nothing is sent."""
    with pytest.raises(cdp.BadInputError, match="True, False, 'tqdm', or an object"):
        opens(1).cdp.send(OPENED, destination=box.destination, progress=progress)
    assert box.events().empty


def test_held_and_skipped_rows_are_no_failures(box: Sandbox) -> None:
    """Rows that are left out on request are shown as that, and not as failures."""
    display = RecordingDisplay()
    now = datetime(2023, 5, 2, tzinfo=UTC)
    frame = opens(4, kind=["a", "a", "b", "b"], ts=["2023-01-01", "2023-05-01"] * 2)
    report = frame.cdp.send(
        user_id="uid",
        timestamp="ts",
        event="kind",
        events={"a": "Application Opened"},
        other_events="skip",
        recent="hold",
        now=now,
        destination=box.destination,
        progress=display,
    )
    assert (report.counts["held"], report.counts["skipped"]) == (1, 2)
    last = display.snapshots[-1]
    assert (last.rows, last.not_delivered, last.reasons) == (4, 0, ())
    assert "1 held, 2 skipped" in text_view(pace_of(last))


def test_a_marimo_cell_shows_each_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """The output of the cell is replaced; outside a cell, other displays are used."""
    shown: list[str] = []
    output = SimpleNamespace(replace=shown.append)
    marimo = SimpleNamespace(output=output, Html=str, running_in_notebook=lambda: True)
    monkeypatch.setitem(sys.modules, "marimo", marimo)
    display = make_progress(True)
    display.update(HALF)
    display.update(replace(HALF, state=State.DONE))
    display.close()
    assert "<b>Backfill:</b> 50%" in shown[0]
    assert "<b>Backfill done:</b>" in shown[-1]
    marimo.running_in_notebook = lambda: False
    assert not in_marimo()

"""How a run is shown while it goes on: figures, words, and the places where they appear."""

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
from typing import TYPE_CHECKING, Any

import pytest

import cdp_backfill as cdp
from cdp_backfill.results import progress
from cdp_backfill.results.progress import (
    Bar,
    Log,
    Reason,
    Silence,
    Snapshot,
    State,
    Timeline,
    Unbreakable,
    make_progress,
)
from cdp_backfill.results.progress.notebook import html_view, text_view
from cdp_backfill.results.progress.pace import Pace
from cdp_backfill.results.run_stats import RunStats
from tests.results.test_progress_figures import Balanced
from tests.rows import opens
from tests.servers import Reply, serving

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

OPENED = cdp.Mapping(user_id="uid", timestamp="ts", event=cdp.lit("Application Opened"))

HALF = Snapshot(
    rows=500,
    total=1_000,
    not_delivered=2,
    in_flight=3,
    level=8,
    stats=RunStats(requests=7, wire_bytes=1_234_567, seconds=20.0),
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
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now


class Kept:
    """A display that keeps all it is given."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []
        self.closed = 0

    def update(self, snapshot: Snapshot) -> None:
        """Keep it."""
        self.snapshots.append(snapshot)

    def close(self) -> None:
        """Count it."""
        self.closed += 1


def pace_of(*snapshots: Snapshot) -> Pace:
    """What is learnt from these."""
    pace = Pace()
    for snapshot in snapshots:
        pace.add(snapshot)
    return pace


def seconds(*numbers: float, **fields: Any) -> list[Snapshot]:
    """The same snapshot at several times."""
    return [replace(HALF, seconds=second, **fields) for second in numbers]


# --- figures --------------------------------------------------------------------------------------


def test_the_rate_is_that_of_the_last_seconds() -> None:
    """A run that got ten times slower says so, and so does the time that is left."""
    fast = [replace(HALF, seconds=s, rows=1_000 * s, total=100_000) for s in range(31)]
    slow = [replace(HALF, seconds=s, rows=27_000 + 100 * s, total=100_000) for s in range(31, 61)]
    pace = pace_of(*fast)
    assert pace.rate == pytest.approx(1_000)
    assert pace.seconds_left == pytest.approx(70)
    pace = pace_of(*fast, *slow)
    assert pace.rate == pytest.approx(100)
    assert pace.seconds_left == pytest.approx(670)


def test_many_snapshots_cost_no_memory() -> None:
    """A tick of a thousandth of a second keeps no more than the window needs."""
    pace = pace_of(*(replace(HALF, seconds=n / 1_000, rows=n) for n in range(60_000)))
    assert pace.rate == pytest.approx(1_000, rel=0.05)
    assert len(pace._kept) < 60


def test_the_first_second_promises_nothing() -> None:
    """A rate from a blink would be nonsense: there is a question mark instead."""
    pace = pace_of(replace(HALF, seconds=0.3, rows=4))
    assert (pace.rate, pace.seconds_left) == (None, None)
    assert "? rows/s, ? left" in text_view(pace)
    pace = pace_of(replace(HALF, seconds=2.0, rows=0))
    assert pace.rate is None
    assert "? left" in text_view(pace)


def test_nobody_knows_when_a_stream_ends() -> None:
    """No share and no end are made up, in any of the places."""
    pace = pace_of(*seconds(1, 2, 3, total=None))
    text, file = text_view(pace), io.StringIO()
    assert text.startswith("Backfill: 500 rows, ")
    assert "? left" in text
    assert "%" not in text
    assert 'class="t"' not in html_view(pace)
    bar = Bar(file, columns=80)
    bar.update(pace.now)
    bar.close()
    assert "Backfill    ? 500, " in file.getvalue()
    assert "? left" in file.getvalue()


def test_a_run_that_stands_still_has_no_end_in_sight() -> None:
    """Nothing in the last ten seconds: the rate is 0, and the time left is unknown."""
    pace = pace_of(*seconds(*range(1, 30)))
    assert pace.rate == 0
    assert pace.seconds_left is None


def test_at_the_end_it_is_the_average() -> None:
    """What the whole run did, no matter how its last seconds were."""
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
        (seconds(1, 2, 3), "steady at 8"),
        ([*seconds(1, level=4), *seconds(2, level=5)], "speeding up"),
        ([*seconds(1, level=4), *seconds(2, 3, 4, 5, 6, level=5)], "steady at 5"),
        ([*seconds(1, level=9), *seconds(2, level=5)], "slowed down: answers are slow or fail"),
        ([*seconds(1), *seconds(2, throttled=1, level=4)], "slowed down by 429"),
        ([*seconds(1), *seconds(2, 3, 4, 7, throttled=1)], "steady at 8"),
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
            "waiting as the server asked, for 12 s now",
        ),
        (seconds(1, 2, state=State.STOPPING), "stopping: what is under way may finish"),
        (seconds(1, 2, state=State.DONE), ""),
    ],
)
def test_what_the_governor_does_is_said_in_words(snapshots: list[Snapshot], expected: str) -> None:
    """Growth, steadiness, 429, strain, waiting and stopping each have their words."""
    assert pace_of(*snapshots).doing == expected


def test_a_real_wait_is_told() -> None:
    """A server that asks for a pause of two seconds: the words say so, and for how long."""

    def answer(number: int, _: object) -> Reply:
        return Reply(429, headers={"Retry-After": "2.2"}) if number == 1 else Reply()

    pace, said = Pace(), set()

    class Listening:
        def update(self, snapshot: Snapshot) -> None:
            pace.add(snapshot)
            said.add(pace.doing)

        def close(self) -> None:
            """Nothing to do."""

    with serving(answer) as server:
        there = server.destination(workers=1, max_messages=100)
        report = cdp.send(opens(300), OPENED, destination=there, progress=Listening())
    assert report.ok
    assert "slowed down by 429" in said
    assert "waiting as the server asked, for 2 s now" in said


# --- what a run tells -----------------------------------------------------------------------------


def test_failures_show_while_it_runs(box: Sandbox) -> None:
    """Outcomes and reasons are there before the end."""
    kept = Kept()
    frame = opens(30_000, uid=[None, *[f"u{n}" for n in range(29_999)]])
    report = cdp.send(frame, OPENED, destination=box.destination, progress=kept)
    assert report.counts["invalid"] == 1
    running = [one for one in kept.snapshots if one.state is State.RUNNING]
    assert running[-1].reasons == (Reason("missing_user", "column 'uid' is empty", 1),)
    assert running[-1].counts["invalid"] == 1
    last = kept.snapshots[-1]
    assert (last.state, last.rows, last.total, kept.closed) == (State.DONE, 30_000, 30_000, 1)


def test_no_word_of_a_server_is_shown() -> None:
    """It may repeat what it was sent, and lines of a log are kept: the status counts for all."""
    kept = Kept()

    def answer(number: int, seen: Any) -> Reply:
        if not number or not seen.raw or b'"u0"' in seen.body:
            return Reply()
        user = seen.batch[0]["userId"]
        return Reply(400, f'{{"message": "{user} is not welcome"}}'.encode())

    with serving(answer) as server:
        there = server.destination(workers=1, max_messages=1)
        report = cdp.send(opens(3), OPENED, destination=there, progress=kept)
    assert "u1 is not welcome" in str(report)
    assert kept.snapshots[-1].reasons == (Reason("http_400", "the server answered 400", 2),)


def test_a_canary_is_done_when_its_rows_are(box: Sandbox, tmp_path: Path) -> None:
    """The share is that of the rows that were to go, not of the whole table."""
    kept = Kept()
    cdp.send(
        opens(100),
        OPENED,
        destination=box.destination,
        journal=tmp_path / "canary",
        canary=10,
        progress=kept,
    )
    assert (kept.snapshots[-1].rows, kept.snapshots[-1].total) == (10, 10)
    assert kept.snapshots[-1].reasons == ()


@pytest.mark.parametrize("how", ["interrupted", "stopped"])
def test_how_it_ended_is_said(how: str, box: Sandbox) -> None:
    """An interrupt and an error each leave their word, and the run says when it is stopping."""

    class Interrupting(Kept):
        def update(self, snapshot: Snapshot) -> None:
            super().update(snapshot)
            if len(self.snapshots) == 1:
                raise KeyboardInterrupt

    if how == "interrupted":
        shown = Interrupting()
        cdp.send(opens(50_000), OPENED, destination=box.destination, progress=shown)
        assert State.STOPPING in {one.state for one in shown.snapshots}
    else:
        shown = Kept()  # type: ignore[assignment]
        wrong = cdp.Destination(api_key="wrong", base_url=box.url)
        with pytest.raises(cdp.AuthenticationError):
            cdp.send(opens(50_000), OPENED, destination=wrong, progress=shown)
    assert shown.snapshots[-1].state == how
    pace = pace_of(*shown.snapshots)
    words = {"interrupted": "Backfill interrupted: ", "stopped": "Backfill stopped by an error: "}
    assert text_view(pace).startswith(words[how])
    assert "unsent" in text_view(pace)
    assert shown.closed == 1


def test_an_interrupt_of_the_last_words_takes_no_report_away(box: Sandbox) -> None:
    """All is settled by then: the report is returned all the same."""

    class Late(Kept):
        def close(self) -> None:
            raise KeyboardInterrupt

    report = cdp.send(opens(3), OPENED, destination=box.destination, progress=Late())
    assert report.ok


def test_a_timeline_stays_short() -> None:
    """At most 1,000 snapshots of a run of a day, evenly spread."""
    timeline = Timeline()
    for second in range(86_400):
        timeline.add(replace(HALF, seconds=float(second)))
    assert 400 <= len(timeline.snapshots) <= 1_000


# --- a log ----------------------------------------------------------------------------------------


def test_a_log_gets_a_line_every_ten_seconds() -> None:
    """No carriage returns, no bar: whole lines, seldom, and one at the end."""
    clock, file = Clock(), io.StringIO()
    log = Log(file, clock=clock)
    for second in range(25):
        clock.now = second
        log.update(replace(HALF, seconds=second, rows=second * 10))
    log.update(replace(HALF, seconds=25, rows=1_000, state=State.DONE))
    log.close()
    lines = file.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0] == (
        "Backfill: 100 of 1,000 rows (10%), 10 rows/s, 1 min 30 s left, 498 delivered, 2 refused, "
        "steady at 8, 3 in flight, 7 requests, 1.2 MB sent; "
        "2 x http_400: the server answered 400"
    )
    assert lines[-1].startswith("Backfill done: 1,000 of 1,000 rows (100%), in 25 s, 40 rows/s, ")
    assert "\r" not in file.getvalue()


def test_a_log_of_many_short_runs_has_a_line_each(
    box: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sends in a loop do not flood it."""
    for _ in range(5):
        cdp.send(opens(3), OPENED, destination=box.destination)
    assert capsys.readouterr().err.count("\n") == 5


# --- a terminal -----------------------------------------------------------------------------------


class Screen:
    """As much of a terminal as a progress line needs; it wraps and scrolls as a real one."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines = [""]
        self.column = 0
        self.longest = 0

    def feed(self, text: str) -> None:
        """Show this."""
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
            rate_limit=60.0))
print(report)
"""


def in_a_terminal(
    code: str, columns: int, *, interrupt_at: bytes | None = None
) -> tuple[Screen, list[str]]:
    """Run it in a real pseudo-terminal; the screen, and each state of its lines.

    Args:
        code: Python.
        columns: Width.
        interrupt_at: Press Ctrl-C, as it were, once this is shown.
    """
    main, other = pty.openpty()
    termios.tcsetwinsize(other, (24, columns))
    command = [sys.executable, "-c", code]
    shown = b""
    with subprocess.Popen(command, stderr=other, stdout=other, stdin=other) as run:
        os.close(other)
        try:
            while part := os.read(main, 4_096):
                shown += part
                if interrupt_at and interrupt_at in shown:
                    run.send_signal(signal.SIGINT)
                    interrupt_at = None
        except OSError:  # how a closed terminal ends
            pass
        os.close(main)
    assert run.returncode == 0
    screen = Screen(columns)
    screen.feed(shown.decode())
    return screen, shown.decode().split("\r")


@pytest.mark.parametrize("columns", [80, 60])
def test_a_real_terminal_gets_one_line_that_moves(columns: int) -> None:
    """The bar stays on its line, whatever is in it, and the report follows; nothing is too wide."""
    screen, states = in_a_terminal(SEND.format(rows=20_000, too_many=0.05), columns)
    moved = [state for state in states if state.startswith("Backfill")]
    assert len({state[:14] for state in moved}) > 3  # several shares
    assert any("1 failure" in state for state in moved)
    bars = [line for line in screen.lines if "%|" in line]
    assert len(bars) == 1
    assert bars[0] == screen.lines[0]
    assert re.match(r"Done 100%\|█+\| 20k/20k, 1 failure", bars[0])
    assert len(bars[0].rstrip()) < columns
    assert screen.lines[1].startswith("Backfill: 1 of 20,000 rows not delivered")
    if columns == 80:
        assert any("/s, " in state and " left" in state for state in moved)
        assert any("slowed down by 429" in state for state in moved)
        assert screen.longest <= 80
        assert max(len(line) for line in screen.lines) <= 80


def test_ctrl_c_leaves_the_line_and_the_report() -> None:
    """The line says that it was interrupted, on the same place, and the report comes after it."""
    code = SEND.format(rows=1_000_000, too_many=0.0)
    screen, _ = in_a_terminal(code, 80, interrupt_at=b"k/s, ")
    assert re.match(r"Interrupted +\d+%\|", screen.lines[0])
    assert screen.lines[1].startswith("Backfill: ")
    assert any("unsent" in line for line in screen.lines)
    assert not any("Traceback" in line for line in screen.lines)
    assert screen.longest <= 80


@pytest.mark.parametrize("columns", [10, 20, 40, 60, 79, 80, 200])
def test_a_line_fits_any_terminal(columns: int) -> None:
    """What there is no room for is left out, the least important first; nothing wraps."""
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
    bar = Bar(file, columns=columns)
    for state in State:
        bar.update(replace(large, state=state))
        bar.close()
        bar = Bar(file, columns=columns)
    for line in re.split(r"[\r\n]", file.getvalue()):
        assert len(line) < columns
    if columns == 80:
        assert "123M/988M, 9.88M failures, 1.24k/s, 194 h left\r" in file.getvalue()
        assert "9.88M failures (nonexistent_time)" in file.getvalue()


# --- a display that fails -------------------------------------------------------------------------


class Broken:
    """A display that cannot."""

    def update(self, _: Snapshot) -> None:
        """Break."""
        raise RuntimeError

    def close(self) -> None:
        """Break."""
        raise RuntimeError


def test_a_display_that_breaks_does_not_end_the_run(box: Sandbox) -> None:
    """It is told once, and the rows arrive."""
    with pytest.warns(RuntimeWarning, match=r"display failed \(RuntimeError\); the run goes on"):
        report = cdp.send(opens(3), OPENED, destination=box.destination, progress=Broken())
    assert report.ok


def test_nor_where_warnings_are_errors(box: Sandbox) -> None:
    """Whoever runs with -W error gets the report all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = cdp.send(opens(3), OPENED, destination=box.destination, progress=Broken())
    assert report.ok


@pytest.mark.parametrize("how", ["sys.stderr.close()", "sys.stderr = None", "os.close(2)"])
def test_nor_where_there_is_no_error_stream(how: str) -> None:
    """A daemon that closed its streams sends all the same."""
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


def test_a_slow_display_shows_less_often() -> None:
    """Showing takes a twentieth of the time at most, however slow the place is."""
    clock, shows = Clock(), []

    class Slow(progress.showing.Display):
        def show(self, pace: Pace) -> None:
            shows.append(pace.now.seconds)
            clock.now += 0.5

    slow = Slow(0.1, clock=clock)
    while clock.now < 100:
        slow.update(replace(HALF, seconds=clock.now))
        clock.now += 0.01
    assert len(shows) * 0.5 <= 0.05 * 100 + 0.5


def test_which_display_suits_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """False is silence, a log is for output that is no terminal, one's own goes as it is."""
    assert isinstance(make_progress(False), Silence)
    chosen = make_progress(True)
    assert isinstance(chosen, Unbreakable)
    assert isinstance(chosen._shown, Log)
    monkeypatch.setattr(progress, "_suitable", lambda: 1 / 0)
    assert isinstance(make_progress(True), Silence)


# --- a notebook -----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", list(State))
def test_text_and_html_say_the_same(state: State) -> None:
    """Both views hold the same words, without any style, too; nothing is longer than 80."""
    odd = Reason("derive_failed", "column '<b>x</b>' & {co}: fails " + "w" * 40, 1)
    pace = pace_of(*seconds(1, 2, 3, reasons=(*HALF.reasons, odd), state=state))
    text, html = text_view(pace), html_view(pace)
    assert Balanced(html).words == text.split()
    assert "<b>x" not in html
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "width:50.0%" in html

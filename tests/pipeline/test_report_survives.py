"""The report survives anything: errors anywhere, interrupts at any moment, no threads."""

from __future__ import annotations

import errno
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any, Self

import pytest

import cdp_backfill as cdp
from cdp_backfill.delivery import sender, task, transport
from cdp_backfill.pipeline import recorder, request_log, runner, runs_in_turn
from cdp_backfill.pipeline.journal import Journal
from cdp_backfill.results.tracker import OutcomeTracker
from tests.rows import OPENED, opens
from tests.sending import counts
from tests.servers import ReceivedRequest, Reply, Server, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

ROWS = 60


def send(server: Server, journal: Any = False, **options: Any) -> cdp.Report:
    """Send rows, three in a request."""
    destination = server.destination(**{"max_messages": 3, "workers": 2} | options)
    return cdp.send(opens(ROWS), OPENED, destination=destination, journal=journal, progress=False)


def taken(server: Server) -> set[str]:
    """The users that the server took."""
    return {message["userId"] for seen in server.requests for message in seen.batch}


FILES = {module.__file__ for module in (runner, recorder, runs_in_turn)}


class InterruptAt:
    """Interrupts the main thread at the line with this number, counted in the runner's files."""

    def __init__(self, *lines: int) -> None:
        self.lines, self.count = set(lines), 0

    def __enter__(self) -> Self:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in FILES or frame.f_code.co_name in (
            "__init__",
            "<lambda>",
        ):
            return None
        if event == "line":
            self.count += 1
            if self.count in self.lines:
                raise KeyboardInterrupt
        return self._trace


@pytest.mark.parametrize("times", [1, 2, 3])
def test_an_interrupt_at_any_line(times: int) -> None:
    """Wherever it comes, and another right behind it: the report comes, and it adds up."""
    with serving(lambda *_: Reply()) as server:
        with InterruptAt() as counting:
            send(server, max_messages=20)
        total = counting.count
    assert total > 100
    step = 3 if times == 1 else 7
    for line in range(1, total - 1, step):
        with serving(lambda *_: Reply()) as server:
            try:
                with InterruptAt(*(line + 2 * n for n in range(times))):
                    report = send(server, max_messages=20)
            except KeyboardInterrupt:
                assert not server.requests  # the run had not begun
                continue
            assert sum(report.counts.values()) == ROWS
            delivered = set(opens(ROWS)["uid"]) - set(report.failures["uid"])
            assert delivered <= taken(server)
            unsent = report.failures.query("cdp_outcome == 'unsent'")["uid"]
            assert not set(unsent) & taken(server)


def failing(number: int, error: BaseException) -> Callable[[Any], Callable[..., Any]]:
    """Makes a function raise at its call with this number, and at each later one."""
    calls = [0]

    def wrap(function: Any) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            calls[0] += 1
            if calls[0] >= number:
                raise error
            return function(*arguments, **named)

        return call

    return wrap


PLACES = [
    (sender.Sender, "_settle"),
    (sender.Sender, "_retry_later"),
    (sender.Sender, "_slow_down"),
    (task.Task, "body"),
    (transport.HttpTransport, "post"),
    (transport.HttpTransport, "_exchange"),
    (OutcomeTracker, "settle"),
    (OutcomeTracker, "open"),
    (request_log.RequestLog, "sending"),
    (request_log.RequestLog, "settled"),
    (Journal, "add"),
    (Journal, "change"),
    (Journal, "close"),
    (runner.Run, "_record_result"),
    (runner.Run, "_pack"),
    (runner.Run, "_offer"),
]


@pytest.mark.parametrize("number", [1, 4])
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("x"), OSError(errno.ENOSPC, "full")])
@pytest.mark.parametrize(
    ("owner", "name"), PLACES, ids=lambda each: getattr(each, "__name__", each)
)
def test_an_error_anywhere(  # noqa: PLR0917
    owner: type,
    name: str,
    error: BaseException,
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run ends in order, and the error carries a report that adds up and is true."""
    monkeypatch.setattr(owner, name, failing(number, error)(getattr(owner, name)))
    with serving(lambda number, _: Reply(503 if number == 2 else 200)) as server:
        try:
            report = send(server, tmp_path / "j")
        except (cdp.StoppedError, cdp.AccountingError) as stopped:
            report = stopped.report
    assert report is not None
    if owner is not OutcomeTracker:  # without it, there is nobody to count
        assert sum(report.counts.values()) == ROWS
        unsent = report.failures.query("cdp_outcome == 'unsent'")["uid"]
        assert not set(unsent) & taken(server)
    report.save(tmp_path / "out")
    assert (tmp_path / "out" / "report.json").exists()
    monkeypatch.undo()
    with serving(lambda *_: Reply()) as again:
        destination = again.destination(base_url=server.url)
        held = Journal(tmp_path / "j", mapping=OPENED, url=destination.url)  # its lock is free
        held.release()


@pytest.mark.parametrize("times", [1, 2, 3, 99])
def test_outcomes_that_cannot_be_recorded_for_a_while(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outcomes add up, and nothing that was taken is unsent; or an error says so."""
    settle, left = OutcomeTracker.settle, [times]

    def failing_for_u4(
        tracker: OutcomeTracker, outcomes: Any, rows: Any, *more: Any, **how: Any
    ) -> None:
        if left[0] and 4 in rows:
            left[0] -= 1
            raise MemoryError
        settle(tracker, outcomes, rows, *more, **how)

    monkeypatch.setattr(OutcomeTracker, "settle", failing_for_u4)
    with (
        serving(lambda *_: Reply()) as server,
        pytest.raises((cdp.StoppedError, cdp.AccountingError)) as caught,
    ):
        send(server, tmp_path / "j")
    assert isinstance(caught.value, cdp.StoppedError) is (times < 99)
    report = caught.value.report
    assert (sum(report.counts.values()) == ROWS) is (times < 99)
    failures = report.failures.set_index("uid")["cdp_outcome"]
    assert not set(failures[failures == "unsent"].index) & taken(server)
    assert failures.get("u4", "delivered") in ("delivered", "unknown")


def test_no_outcome_can_be_recorded_while_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """All requests that wait for another attempt are given up, and the run ends."""
    monkeypatch.setattr(
        runner.Run, "_record_result", failing(2, MemoryError())(runner.Run._record_result)
    )
    waiting = threading.Semaphore(0)

    def answer(number: int, request: ReceivedRequest) -> Reply:
        if not request.raw or number == 0:
            return Reply()
        if number == 7:  # by now, others wait for another attempt
            for _ in range(4):
                waiting.acquire(timeout=20)
            return Reply()
        waiting.release()
        return Reply(503)

    with (
        serving(answer) as server,
        pytest.raises(cdp.StoppedError, match="MemoryError") as caught,
    ):
        send(server, workers=8)
    report = caught.value.report
    assert sum(report.counts.values()) == ROWS
    failures = report.failures.set_index("uid")["cdp_outcome"]
    assert not set(failures[failures == "unsent"].index) & taken(server)


def _without_threads(monkeypatch: pytest.MonkeyPatch, allowed: dict[str, int]) -> None:
    """Let only so many threads start, by the beginning of their names."""
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        for name, left in allowed.items():
            if thread.name.startswith(name):
                allowed[name] = left - 1
                if left <= 0:
                    raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)


def test_fewer_threads_than_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes on with those that it has."""
    _without_threads(monkeypatch, {"cdp-backfill": 3})  # one records
    with serving(lambda *_: Reply()) as server:
        report = send(server, workers=16)
    assert counts(report) == {"delivered": ROWS}
    assert report.max_in_flight <= 2


def test_no_thread_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent, and one clear error has the report."""
    with serving(lambda *_: Reply()) as server:
        _without_threads(monkeypatch, {"cdp-backfill": 0})
        with pytest.raises(cdp.StoppedError, match="can't start new thread") as caught:
            send(server)
        monkeypatch.undo()
    assert counts(caught.value.report) == {"unsent": ROWS}


def test_no_thread_to_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run records on the thread that it has."""
    _without_threads(monkeypatch, {"cdp-backfill-recorder": 0, "cdp-backfill-stop": 0})
    with serving(lambda *_: Reply()) as server:
        assert counts(send(server)) == {"delivered": ROWS}


def test_no_more_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that cannot be made are like a server that is away, for them alone."""
    connect, made = socket.create_connection, [0]

    def limited(*arguments: Any, **named: Any) -> socket.socket:
        made[0] += 1
        if made[0] > 2:
            raise OSError(errno.EMFILE, "Too many open files")
        return connect(*arguments, **named)

    monkeypatch.setattr(socket, "create_connection", limited)
    with serving(lambda *_: Reply()) as server:
        report = send(server, workers=8)
    assert counts(report) == {"delivered": ROWS}


def test_no_transport_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """One clear error before anything is sent, with the report."""
    monkeypatch.setattr(
        sender, "tls_context", failing(1, OSError(errno.EMFILE, "Too many open files"))(None)
    )
    with (
        serving(lambda *_: Reply()) as server,
        pytest.raises(cdp.StoppedError, match="Too many open files") as caught,
    ):
        send(server)
    assert counts(caught.value.report) == {"unsent": ROWS}


def test_an_error_while_others_are_in_flight() -> None:
    """What else is in flight is answered and counts; nothing that was taken is unsent."""
    together = threading.Barrier(2, timeout=20)
    post = transport.HttpTransport.post
    broken: list[bytes] = []

    def answer(number: int, request: ReceivedRequest) -> Reply:
        if number in (1, 2) and request.raw:
            together.wait()
        return Reply()

    def break_once(self: transport.HttpTransport, body: bytes) -> transport.Answer:
        answer = post(self, body)
        if not broken and len(server.requests) > 2:
            broken.append(body)
            raise MemoryError
        return answer

    with pytest.MonkeyPatch.context() as patch, serving(answer) as server:
        patch.setattr(transport.HttpTransport, "post", break_once)
        with pytest.raises(cdp.StoppedError, match="MemoryError") as caught:
            send(server)
    report = caught.value.report
    assert report.counts["unknown"] == 3
    assert sum(report.counts.values()) == ROWS
    failures = report.failures
    assert set(failures.query("cdp_outcome == 'unsent'")["uid"]).isdisjoint(taken(server))
    assert set(failures.query("cdp_outcome == 'unknown'")["cdp_code"]) == {"error"}

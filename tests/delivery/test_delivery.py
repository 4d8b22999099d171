"""Requests on their way: retries, waits, splitting, and when to stop."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill import Outcome
from cdp_backfill.delivery import retry
from cdp_backfill.delivery.rate_control import RateControl
from cdp_backfill.delivery.retry import Verdict
from cdp_backfill.delivery.transport import environment_proxy, words
from tests.rows import opens
from tests.servers import Reply, Seen, Server, serving

KEY = "secret-key"


def send(server: Server, rows: int = 3, **options: Any) -> cdp.Report:
    """Send some rows to a server."""
    destination = server.destination(**options)
    report: cdp.Report = opens(rows).cdp.send(
        user_id="uid",
        timestamp="ts",
        event=cdp.lit("Application Opened"),
        destination=destination,
        progress=False,
    )
    return report


def counts(report: cdp.Report) -> dict[str, int]:
    """The outcomes that occur."""
    return {name: rows for name, rows in report.counts.items() if rows}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, Verdict.ACCEPTED),
        (204, Verdict.ACCEPTED),
        (301, Verdict.FOREIGN),
        (400, Verdict.SPLIT),
        (401, Verdict.UNAUTHORIZED),
        (403, Verdict.UNAUTHORIZED),
        (404, Verdict.FOREIGN),
        (408, Verdict.RETRY),
        (409, Verdict.REFUSED),
        (413, Verdict.SPLIT),
        (429, Verdict.RETRY),
        (500, Verdict.RETRY),
        (503, Verdict.RETRY),
        (599, Verdict.RETRY),
        (999, Verdict.FOREIGN),
    ],
)
def test_what_a_status_means(status: int, expected: Verdict) -> None:
    """One table decides what is worth another try."""
    assert retry.verdict(status) is expected


@given(st.integers(1, 50), st.integers())
def test_backoff_is_jittered_and_bounded(attempt: int, seed: int) -> None:
    """The wait is somewhere between nothing and a doubling, capped limit."""
    wait = retry.backoff(attempt, random.Random(seed))  # noqa: S311
    assert 0 <= wait <= min(retry.MAX_SECONDS, retry.BASE_SECONDS * 2 ** (attempt - 1))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("2", 2.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("99999", 300.0),
        ("soon", None),
        ("nan", None),
        ("", None),
        ("Wed, 01 Jan 2025 00:00:10 GMT", 10.0),
        ("Wed, 01 Jan 2025 00:00:10 -0000", 10.0),
        ("Tue, 31 Dec 2024 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after(header: str | None, expected: float | None) -> None:
    """Seconds or a date, clamped; nonsense is as good as nothing."""
    assert retry.retry_after(header, datetime(2025, 1, 1, tzinfo=UTC)) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"meta": {"errors": ["a is wrong", "b too"]}}', "a is wrong; b too"),
        (b'{"error": {"message": "no"}, "code": 3}', "no"),
        (b"[]", ""),
        (b"", ""),
        (b"plain   text\n", "plain text"),
        (b"<html><style>x{}</style><h1>Bad&nbsp;Gateway</h1></html>", "Bad Gateway"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b'"' + b"x" * 5_000 + b'"', "x" * 299 + "…"),
        (b"[" * 100_000, "[" * 299 + "…"),
        (b'{"meta": []}', ""),
        (b"\x1b[31mred\x00", "[31mred"),
    ],
)
def test_error_bodies_of_any_shape(body: bytes, expected: str) -> None:
    """The server's words are read from whatever it sends, and kept short."""
    assert words(body) == expected


class Time:
    """A clock that only moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> bool:
        """Let time pass."""
        self.now += seconds
        return False


def test_turns_are_evenly_spaced() -> None:
    """Ten turns a second are ten turns a second."""
    time = Time()
    rate_control = RateControl(10, clock=lambda: time.now, sleep=time.sleep)
    moments = []
    for _ in range(21):
        assert rate_control.turn()
        moments.append(time.now)
    assert moments[-1] == pytest.approx(2.0)


def test_turns_that_nobody_took_are_not_saved_up() -> None:
    """After a quiet hour there is no burst."""
    time = Time()
    rate_control = RateControl(10, clock=lambda: time.now, sleep=time.sleep)
    time.now = 3_600
    for _ in range(11):
        rate_control.turn()
    assert time.now == pytest.approx(3_601)


def test_a_pause_holds_everyone() -> None:
    """Nobody gets a turn before it is over, and afterwards the rate goes on."""
    time = Time()
    rate_control = RateControl(10, clock=lambda: time.now, sleep=time.sleep)
    rate_control.turn()
    rate_control.pause(5)
    rate_control.turn()
    assert time.now == pytest.approx(5)
    rate_control.turn()
    assert time.now == pytest.approx(5.1)


def test_a_turn_ends_with_the_run() -> None:
    """Whoever waits for a turn is let go when the run stops."""
    rate_control = RateControl(0.001, clock=lambda: 0.0, sleep=lambda _: True)
    assert rate_control.turn()
    assert not rate_control.turn()


def answering(level_after: int, seconds: float = 0.1) -> tuple[RateControl, Time]:
    """A rate_control that has had so many answers, each with all that is allowed on the wire."""
    time = Time()
    rate_control = RateControl(None, clock=lambda: time.now, sleep=time.sleep)
    for _ in range(level_after):
        rate_control.answered(seconds, rate_control.level)
    return rate_control, time


def test_the_level_rises_until_it_is_enough() -> None:
    """Doubling each round trip until the first strain, then one each; never beyond 128."""
    assert answering(0)[0].level == 4
    assert answering(4)[0].level == 8
    assert answering(28)[0].level == 32
    assert answering(28 + 33)[0].level == 65
    assert answering(100_000)[0].level == 128
    rate_control, time = answering(28)
    rate_control.strained()
    time.now += 1
    for _ in range(17):
        rate_control.answered(0.1, 16)
    assert rate_control.level == 17


def test_a_level_that_is_not_used_does_not_grow() -> None:
    """Where a rate limit holds everyone back, more workers would only wait."""
    rate_control, _ = answering(28)
    for _ in range(1_000):
        rate_control.answered(0.1, 10)
    assert rate_control.level == 32


def test_strain_halves_the_level_once() -> None:
    """Eight 5xx of one moment are one sign; later ones are another."""
    rate_control, time = answering(28)
    for _ in range(8):
        rate_control.strained()
    assert rate_control.level == 16
    time.now += 1
    rate_control.strained()
    assert rate_control.level == 8


def test_rising_latency_eases_the_level_off() -> None:
    """Answers that take much longer than the quickest are a sign of strain."""
    rate_control, _ = answering(28)
    rate_control.answered(0.9, 32)
    assert rate_control.level == 28


def test_a_pinned_level_stays() -> None:
    """A number given is a number kept."""
    rate_control = RateControl(None, pinned=7, clock=lambda: 0.0, sleep=lambda _: False)
    rate_control.answered(0.1, 7)
    rate_control.strained()
    rate_control.throttled()
    assert rate_control.level == rate_control.highest == 7


def test_a_429_sets_the_pace() -> None:
    """After it, turns come at nine tenths of what was answered, and slowly faster again."""
    time = Time()
    rate_control = RateControl(None, clock=lambda: time.now, sleep=time.sleep)
    time.now = 10.0
    for _ in range(1_000):
        rate_control.answered(0.1, 1)
    rate_control.throttled()
    begin = time.now
    for _ in range(901):
        rate_control.turn()
    assert time.now - begin == pytest.approx(1.0, rel=0.01)
    for _ in range(900):
        rate_control.answered(0.1, 1)
    begin = time.now
    for _ in range(938):
        rate_control.turn()
    assert time.now - begin == pytest.approx(1.0, rel=0.01)


def test_a_batch_that_is_bad_throughout() -> None:
    """Small groups, not halves to the end: little more than one request a row."""

    def answer(_: int, seen: Seen) -> Reply:
        if seen.raw and any(message["userId"] != "u0" for message in seen.batch):
            return Reply(400, b"no")
        return Reply()

    with serving(answer) as server:
        report = send(server, 601, max_messages=600, workers=1)
    assert counts(report) == {"delivered": 1, "refused": 600}
    assert report.requests < 1.3 * 600


def test_a_mapping_that_is_wrong_throughout() -> None:
    """If nothing was ever taken, the run stops after twenty rows instead of hammering."""
    with (
        serving(lambda *_: Reply(400, b'{"meta": {"errors": ["event is odd"]}}')) as server,
        pytest.raises(cdp.StoppedError, match=r"first 20 rows.*answered 400") as got,
    ):
        send(server, 5_000)
    found = counts(got.value.report)
    assert found["refused"] < 30
    assert "event is odd" not in str(got.value)  # the server's words can quote a row
    assert got.value.report.failures["cdp_reason"].str.contains("event is odd").any()
    assert found["refused"] + found["unsent"] == 5_000
    assert len(server.seen) == 21


def test_what_a_request_looks_like() -> None:
    """Basic auth with a blank password, strict mode, gzip, JSON, the right call."""
    with serving(lambda *_: Reply()) as server:
        report = send(server)
    (seen,) = server.seen
    assert report.ok
    assert seen.path == "/v1/batch"
    assert seen.headers["authorization"] == "Basic c2VjcmV0LWtleTo="
    assert seen.headers["x-strict-mode"] == "1"
    assert seen.headers["content-encoding"] == "gzip"
    assert seen.headers["content-type"] == "application/json"
    assert [message["userId"] for message in seen.batch] == ["u0", "u1", "u2"]


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_an_answer_that_passes(status: int) -> None:
    """One such answer costs another attempt, and the very same bytes go again."""
    with serving(lambda number, _: Reply(200 if number else status)) as server:
        report = send(server)
    assert counts(report) == {"delivered": 3}
    assert (report.requests, report.retries) == (2, 1)
    assert report.throttled == (status == 429)
    assert report.maybe_twice == 0
    assert server.seen[0].raw == server.seen[1].raw


def test_retry_after_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait that the server asks for goes for all workers."""
    pauses = []
    pause = RateControl.pause

    def noted(rate_control: RateControl, seconds: float) -> None:
        pauses.append(seconds)
        pause(rate_control, seconds)

    monkeypatch.setattr(RateControl, "pause", noted)
    with serving(
        lambda number, _: Reply(200 if number else 503, headers={"Retry-After": "0.01"})
    ) as server:
        assert send(server).ok
    assert pauses == [0.01]


def test_a_row_that_the_server_refuses() -> None:
    """One bad row is found by halving; its neighbours are delivered; the words are kept."""

    def answer(_: int, seen: Seen) -> Reply:
        if seen.raw and any(message["userId"] == "u77" for message in seen.batch):
            return Reply(400, b'{"meta": {"errors": ["userId is on fire"]}}')
        return Reply()

    with serving(answer) as server:
        report = send(server, 128, max_messages=64)
    assert counts(report) == {"delivered": 127, "refused": 1}
    failures = report.failures
    assert failures.index.tolist() == [77]
    row = failures.iloc[0]
    assert row["uid"] == "u77"
    assert (row["cdp_outcome"], row["cdp_code"], row["cdp_status"]) == ("refused", "http_400", 400)
    assert row["cdp_reason"] == "the server answered 400: userId is on fire"
    assert row["cdp_message_id"].startswith("cdp1-")
    assert report.requests <= 1 + 1 + 2 * 6


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_stops_the_run_at_once(status: int) -> None:
    """One request, one clear error, and every row is unsent; the key is nowhere in it."""
    with serving(lambda *_: Reply(status)) as server, pytest.raises(cdp.AuthenticationError) as got:
        send(server, 20_000)
    report = got.value.report
    assert len(server.seen) == 1
    assert counts(report) == {"unsent": 20_000}
    assert len(report.failures) == 20_000
    assert KEY not in str(got.value) + repr(report) + repr(report.to_dict())


def test_a_key_that_is_withdrawn_meanwhile() -> None:
    """What was delivered before stays delivered; the rest is unsent."""
    with (
        serving(lambda number, _: Reply(200 if number < 3 else 401)) as server,
        pytest.raises(cdp.AuthenticationError) as got,
    ):
        send(server, 20_000, workers=2)
    found = counts(got.value.report)
    assert set(found) == {"delivered", "unsent"}
    assert sum(found.values()) == 20_000


@pytest.mark.parametrize("status", [301, 404, 405])
def test_an_address_that_is_not_the_api(status: int) -> None:
    """What answers otherwise than the API does is not sent a million rows."""
    with (
        serving(lambda *_: Reply(status, headers={"Location": "http://127.0.0.1:9/"})) as server,
        pytest.raises(cdp.UnexpectedAnswerError, match="Check region and base_url"),
    ):
        send(server)


def test_a_server_that_is_not_there() -> None:
    """After three attempts it is one clear error; nothing was delivered, and it says so."""
    with serving(lambda *_: Reply()) as server:
        destination = server.destination()
    with pytest.raises(
        cdp.UnreachableError, match=r"ConnectError.*No row of this run is known"
    ) as got:
        opens(5).cdp.send(
            user_id="uid",
            timestamp="ts",
            event=cdp.lit("Application Opened"),
            destination=destination,
            progress=False,
        )
    assert counts(got.value.report) == {"failed": 5}
    assert got.value.report.failures["cdp_attempts"].tolist() == [3] * 5


def test_a_broken_connection_before_the_body_was_read() -> None:
    """A reset is tried again."""
    with serving(lambda number, _: Reply(reset=number == 0)) as server:
        report = send(server)
    assert counts(report) == {"delivered": 3}
    assert report.retries == 1


def test_an_answer_that_never_came_and_then_did() -> None:
    """Delivered at the second attempt: the first may have been taken too, and that is said."""
    with serving(lambda number, _: Reply(None if number == 0 else 200)) as server:
        report = send(server)
    assert counts(report) == {"delivered": 3}
    assert report.maybe_twice == 3
    assert "may have arrived twice" in str(report)


def test_a_page_that_says_200_is_not_the_api() -> None:
    """A login page in the way takes nothing: the run stops, and no row is called delivered."""
    page = b"<html>Please log in</html>"
    with (
        serving(lambda *_: Reply(200, page, {"Content-Type": "text/html"})) as server,
        pytest.raises(cdp.UnexpectedAnswerError, match="Check region and base_url") as got,
    ):
        send(server, 5)
    assert counts(got.value.report) == {"unsent": 5}


def test_a_key_that_the_server_repeats() -> None:
    """Neither the key nor its Base64 form is passed on in the server's words."""
    body = b"bad credentials: secret-key / Basic c2VjcmV0LWtleTo="
    with (
        serving(lambda *_: Reply(401, body)) as server,
        pytest.raises(cdp.AuthenticationError) as got,
    ):
        send(server)
    report = got.value.report
    shown = f"{got.value} {report} {report.to_dict()} {report.failures['cdp_reason'].tolist()}"
    assert "secret-key" not in shown
    assert "c2VjcmV0" not in shown


def test_a_key_turned_down_after_an_answer_that_never_came() -> None:
    """What may have been taken is unknown, not unsent."""
    with (
        serving(lambda number, _: Reply(401 if number else None)) as server,
        pytest.raises(cdp.AuthenticationError) as got,
    ):
        send(server, 5)
    assert counts(got.value.report) == {"unknown": 5}


def test_an_answer_that_never_comes() -> None:
    """Without any answer, nobody knows: the rows are unknown, not failed."""
    with (
        serving(lambda number, _: Reply(200 if number == 0 else None)) as server,
    ):
        report = send(server, 5, max_messages=4, max_attempts=2, workers=1)
    assert counts(report) == {"delivered": 4, "unknown": 1}
    assert report.failures["cdp_code"].tolist() == ["no_answer"]
    assert report.failures["cdp_attempts"].tolist() == [2]


def test_a_server_that_falls_ill_is_not_hammered() -> None:
    """After eight requests given up in a row, the run stops and the rest is unsent."""
    with (
        serving(lambda number, _: Reply(503 if number else 200)) as server,
        pytest.raises(cdp.StoppedError, match="stopped taking requests") as got,
    ):
        send(server, 100, max_messages=1, max_attempts=2, workers=1)
    found = counts(got.value.report)
    assert found == {"delivered": 1, "failed": 8, "unsent": 91}
    assert len(server.seen) == 1 + 8 * 2
    reasons = got.value.report.failures["cdp_code"].value_counts().to_dict()
    assert reasons == {"stopped": 91, "http_503": 8}


def test_retries_have_a_limit_in_time() -> None:
    """After ``retry_seconds`` there is no further attempt, however many are allowed."""
    with serving(lambda number, _: Reply(503 if number else 200)) as server:
        report = send(server, 2, max_messages=1, max_attempts=999, retry_seconds=0.2, workers=1)
    assert counts(report) == {"delivered": 1, "failed": 1}
    assert 2 < len(server.seen) < 900


def test_without_strict_mode_nothing_is_called_delivered() -> None:
    """The API answers 200 to what it drops: then 200 says nothing."""
    with serving(lambda *_: Reply()) as server:
        report = send(server, strict=False)
    assert "x-strict-mode" not in server.seen[0].headers
    assert counts(report) == {"unknown": 3}


def test_without_strict_mode_requests_go_side_by_side() -> None:
    """An answer that says nothing still shows that key and address work."""
    together = threading.Barrier(2, timeout=20)

    def answer(number: int, seen: Seen) -> Reply:
        if number in (1, 2) and seen.raw:
            together.wait()
        return Reply()

    with serving(answer) as server:
        report = send(server, 20, strict=False, max_messages=1, workers=4)
    assert counts(report) == {"unknown": 20}
    assert report.max_in_flight > 1


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A rehearsal works behind a company's proxy."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with serving(lambda *_: Reply()) as server:
        assert send(server).ok


def test_a_proxy_of_the_environment_is_asked_for_other_machines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the environment names a proxy, requests to the API go through it, unless excepted."""
    with serving(lambda *_: Reply()) as server:
        proxy = server.destination().url.removesuffix("/v1")
        monkeypatch.setenv("HTTP_PROXY", proxy.removeprefix("http://"))
        elsewhere = "http://api.example/v1"
        report = send(server, base_url=elsewhere)
        assert report.ok
        assert server.seen[0].path == f"{elsewhere}/batch"
        monkeypatch.setenv("NO_PROXY", "api.example")
        assert environment_proxy(elsewhere) is None


def test_a_server_that_is_busy_at_first() -> None:
    """Answers of 429 from the first request on are waited for as patiently as later ones."""
    with serving(lambda number, _: Reply(429 if number < 5 else 200)) as server:
        assert send(server).ok


def test_many_workers_share_the_work() -> None:
    """Requests really are under way side by side."""
    together = threading.Barrier(4, timeout=20)
    released = threading.Event()

    def answer(number: int, seen: Seen) -> Reply:
        if number and seen.raw and not released.is_set():
            together.wait()
            released.set()
        return Reply()

    with serving(answer) as server:
        report = send(server, 9, max_messages=1, workers=4)
    assert counts(report) == {"delivered": 9}


def test_a_run_with_trouble_of_every_kind_adds_up() -> None:
    """Faults at random: every row has one outcome, and the server's memory agrees with it."""
    rng = random.Random(3)  # noqa: S311
    taken: list[str] = []
    plan: dict[int, Reply] = {}

    def answer(number: int, seen: Seen) -> Reply:
        if number not in plan:
            plan[number] = (
                rng.choice(
                    [
                        Reply(),
                        Reply(),
                        Reply(),
                        Reply(429),
                        Reply(500),
                        Reply(None),
                        Reply(reset=True),
                    ]
                )
                if number
                else Reply()
            )
        reply = plan[number]
        if seen.raw:
            users = [message["userId"] for message in seen.batch]
            if any(user.endswith("77") for user in users):
                return Reply(400, b"no")
            if reply.status in (200, None):
                taken.extend(users)  # an answer that gets lost was taken all the same
        return reply

    with serving(answer) as server:
        report = send(server, 1_000, max_messages=50, workers=4, max_attempts=20)
    assert sum(report.counts.values()) == 1_000
    assert counts(report) == {"delivered": 990, "refused": 10}
    assert set(taken) == {f"u{n}" for n in range(1_000) if n % 100 != 77}
    twice = pd.Series(taken).value_counts()
    assert (twice > 1).sum() <= report.maybe_twice
    assert report.failures["cdp_outcome"].eq(Outcome.REFUSED).all()

"""Sending requests: retries, waits, splitting, and when a run stops."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime
from typing import Any, Literal

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.delivery import retry
from cdp_backfill.delivery.answers import Verdict, status_verdict
from cdp_backfill.delivery.rate_control import RateControl
from cdp_backfill.delivery.transport import environment_proxy, error_reason
from cdp_backfill.model import api_facts
from tests.rows import OPENED, opens
from tests.sending import counts
from tests.servers import ReceivedRequest, Reply, Server, serving

KEY = "secret-key"


def send(server: Server, rows: int = 3, **options: Any) -> cdp.Report:
    """Send so many rows to a server."""
    destination = server.destination(**options)
    report: cdp.Report = opens(rows).cdp.send(
        user_id="uid",
        timestamp="ts",
        event=cdp.lit("Application Opened"),
        destination=destination,
        progress=False,
    )
    return report


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, Verdict.ACCEPTED),
        (204, Verdict.ACCEPTED),
        (301, Verdict.UNEXPECTED),
        (400, Verdict.SPLIT),
        (401, Verdict.UNAUTHORIZED),
        (403, Verdict.UNAUTHORIZED),
        (402, Verdict.UNPAID),
        (404, Verdict.UNEXPECTED),
        (407, Verdict.PROXY),
        (408, Verdict.FAILED),
        (409, Verdict.SPLIT),
        (410, Verdict.UNWANTED),
        (413, Verdict.SPLIT),
        (425, Verdict.RETRY),
        (429, Verdict.RETRY),
        (500, Verdict.FAILED),
        (503, Verdict.FAILED),
        (599, Verdict.FAILED),
        (999, Verdict.UNEXPECTED),
    ],
)
def test_what_a_status_means(status: int, expected: Verdict) -> None:
    """One table decides whether a request is sent again, split or given up."""
    assert status_verdict(status) is expected


@given(st.integers(1, 50), st.integers())
def test_backoff_is_jittered_and_bounded(attempt: int, seed: int) -> None:
    """The wait is between 0 and a limit that doubles up to a maximum."""
    wait = retry.backoff(attempt, random.Random(seed))  # noqa: S311
    assert 0 <= wait <= min(retry.MAX_SECONDS, retry.BASE_SECONDS * 2 ** (attempt - 1))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("2", 2.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("99999", 600.0),
        ("1e999", 600.0),
        ("Fri, 31 Dec 99999999999999999999 23:59:59 GMT", None),
        ("soon", None),
        ("nan", None),
        ("", None),
        ("Wed, 01 Jan 2025 00:00:10 GMT", 10.0),
        ("Wed, 01 Jan 2025 00:00:10 -0000", 10.0),
        ("Tue, 31 Dec 2024 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after(header: str | None, expected: float | None) -> None:
    """The header holds seconds or a date; other text counts as no header."""
    assert retry.retry_after(header, 600.0, datetime(2025, 1, 1, tzinfo=UTC)) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"meta": {"errors": ["a is wrong", "b too"]}}', "a is wrong; b too"),
        (b'{"error": {"message": "no"}, "code": 3}', "no"),
        (b"[]", ""),
        (b"", ""),
        (b"plain   text\n", "plain text"),
        (b"<html><style>x{}</style><h1>Bad&nbsp;Gateway</h1></html>", "Bad Gateway"),
        (b"\xff\xfa", "\ufffd\ufffd"),
        ("no".encode("utf-16"), "no"),
        (b"a <script>x", "a"),
        (b'"' + b"x" * 5_000 + b'"', "x" * 299 + "…"),
        (b"[" * 100_000, "[" * 299 + "…"),
        (b'{"meta": []}', ""),
        (b"\x1b[31mred\x00", "\\x1b[31mred\\x00"),
    ],
)
def test_error_bodies_of_any_shape(body: bytes, expected: str) -> None:
    """The reason of an error is read from any kind of body, and shortened."""
    assert error_reason(body) == expected


class Time:
    """A clock that only moves during a sleep."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> bool:
        """Move the clock."""
        self.now += seconds
        return False


def test_requests_are_evenly_spaced() -> None:
    """At 10 requests a second, 20 intervals take 2 seconds."""
    time = Time()
    rate_control = RateControl(10, clock=lambda: time.now, sleep=time.sleep)
    moments = []
    for _ in range(21):
        assert rate_control.wait_to_send()
        moments.append(time.now)
    assert moments[-1] == pytest.approx(2.0)


def test_unused_rate_is_not_saved_up() -> None:
    """After an hour without a request there is no burst."""
    time = Time()
    rate_control = RateControl(10, clock=lambda: time.now, sleep=time.sleep)
    time.now = 3_600
    for _ in range(11):
        rate_control.wait_to_send()
    assert time.now == pytest.approx(3_601)


def test_a_pause_holds_all_workers() -> None:
    """No request is sent before it ends; afterwards the rate limit applies again."""
    time = Time()
    rate_control = RateControl(10, clock=lambda: time.now, sleep=time.sleep)
    rate_control.wait_to_send()
    rate_control.pause(5)
    rate_control.wait_to_send()
    assert time.now == pytest.approx(5)
    rate_control.wait_to_send()
    assert time.now == pytest.approx(5.1)


def test_waiting_ends_with_the_run() -> None:
    """A worker that waits to send is released when the run stops."""
    rate_control = RateControl(0.001, clock=lambda: 0.0, sleep=lambda _: True)
    assert rate_control.wait_to_send()
    assert not rate_control.wait_to_send()


def after_answers(count: int, seconds: float = 0.1) -> tuple[RateControl, Time]:
    """A rate control after so many answers, each at full concurrency."""
    time = Time()
    rate_control = RateControl(None, clock=lambda: time.now, sleep=time.sleep)
    for _ in range(count):
        rate_control.record_answer(seconds, rate_control.concurrency)
    return rate_control, time


def test_the_concurrency_rises() -> None:
    """It doubles each round trip until the first failure, then grows by one, up to 128."""
    assert after_answers(0)[0].concurrency == 4
    assert after_answers(4)[0].concurrency == 8
    assert after_answers(28)[0].concurrency == 32
    assert after_answers(28 + 33)[0].concurrency == 65
    assert after_answers(100_000)[0].concurrency == 128
    rate_control, time = after_answers(28)
    rate_control.record_failure()
    time.now += 1
    for _ in range(17):
        rate_control.record_answer(0.1, 16)
    assert rate_control.concurrency == 17


def test_unused_concurrency_does_not_grow() -> None:
    """If the rate limit holds all workers, more of them would only wait."""
    rate_control, _ = after_answers(28)
    for _ in range(1_000):
        rate_control.record_answer(0.1, 10)
    assert rate_control.concurrency == 32


def test_failures_halve_the_concurrency_once() -> None:
    """Eight 5xx at the same time count once; a later one counts again."""
    rate_control, time = after_answers(28)
    for _ in range(8):
        rate_control.record_failure()
    assert rate_control.concurrency == 16
    time.now += 1
    rate_control.record_failure()
    assert rate_control.concurrency == 8


def test_slow_answers_lower_the_concurrency() -> None:
    """An answer that takes much longer than the fastest is a sign of overload."""
    rate_control, _ = after_answers(28)
    rate_control.record_answer(0.9, 32)
    assert rate_control.concurrency == 28


def test_a_fixed_concurrency_stays() -> None:
    """Answers and failures do not change it."""
    rate_control = RateControl(None, fixed_concurrency=7, clock=lambda: 0.0, sleep=lambda _: False)
    rate_control.record_answer(0.1, 7)
    rate_control.record_failure()
    rate_control.record_too_many_requests()
    assert rate_control.concurrency == 7


def test_a_429_lowers_the_rate() -> None:
    """It drops to 90 % of the answers of the last second, and then grows slowly."""
    time = Time()
    rate_control = RateControl(None, clock=lambda: time.now, sleep=time.sleep)
    time.now = 10.0
    for _ in range(1_000):
        rate_control.record_answer(0.1, 1)
    rate_control.record_too_many_requests()
    begin = time.now
    for _ in range(901):
        rate_control.wait_to_send()
    assert time.now - begin == pytest.approx(1.0, rel=0.01)
    for _ in range(900):
        rate_control.record_answer(0.1, 1)
    begin = time.now
    for _ in range(938):
        rate_control.wait_to_send()
    assert time.now - begin == pytest.approx(1.0, rel=0.01)


def test_a_batch_that_is_bad_throughout() -> None:
    """Small groups instead of halves: little more than one request a row."""

    def answer(_: int, request: ReceivedRequest) -> Reply:
        if request.raw and any(message["userId"] != "u0" for message in request.batch):
            return Reply(400, b"no")
        return Reply()

    with serving(answer) as server:
        report = send(server, 601, max_messages=600, workers=1)
    assert counts(report) == {"delivered": 1, "refused": 600}
    assert report.requests < 1.3 * 600


def test_a_mapping_that_is_wrong_throughout() -> None:
    """If the server accepts nothing, the run stops after 20 rows."""
    with (
        serving(lambda *_: Reply(400, b'{"meta": {"errors": ["event is odd"]}}')) as server,
        pytest.raises(cdp.StoppedError, match=r"first 20 rows.*answered 400") as caught,
    ):
        send(server, 5_000)
    outcomes = counts(caught.value.report)
    assert outcomes["refused"] < 30
    assert "event is odd" not in str(caught.value)  # the server's reason can quote a row
    assert caught.value.report.failures["cdp_reason"].str.contains("event is odd").any()
    assert outcomes["refused"] + outcomes["unsent"] == 5_000
    assert len(server.requests) == 21


def test_what_a_request_looks_like() -> None:
    """Basic auth with a blank password, strict mode, gzip, JSON, the right call."""
    with serving(lambda *_: Reply()) as server:
        report = send(server)
    (request,) = server.requests
    assert report.ok
    assert request.path == "/v1/batch"
    assert request.headers["authorization"] == "Basic c2VjcmV0LWtleTo="
    assert request.headers["x-strict-mode"] == "1"
    assert request.headers["content-encoding"] == "gzip"
    assert request.headers["content-type"] == "application/json"
    assert [message["userId"] for message in request.batch] == ["u0", "u1", "u2"]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_an_answer_that_is_worth_a_retry(status: int) -> None:
    """A retry sends the same bytes again; who failed may have accepted the first ones."""
    with serving(lambda number, _: Reply(200 if number else status)) as server:
        report = send(server)
    assert counts(report) == {"delivered": 3}
    assert (report.requests, report.retries) == (2, 1)
    assert report.throttled == (status == 429)
    assert report.maybe_twice == (0 if status in {425, 429} else 3)
    assert server.requests[0].raw == server.requests[1].raw


def test_retry_after_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause that the server asks for holds all workers."""
    pauses = []
    pause = RateControl.pause

    def recording_pause(rate_control: RateControl, seconds: float) -> None:
        pauses.append(seconds)
        pause(rate_control, seconds)

    monkeypatch.setattr(RateControl, "pause", recording_pause)
    with serving(
        lambda number, _: Reply(200 if number else 503, headers={"Retry-After": "0.01"})
    ) as server:
        assert send(server).ok
    assert pauses == [0.01]


def test_a_row_that_the_server_refuses() -> None:
    """Halving isolates the bad row, delivers all others and keeps the server's reason."""

    def answer(_: int, request: ReceivedRequest) -> Reply:
        if request.raw and any(message["userId"] == "u77" for message in request.batch):
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
    assert len(row["cdp_message_id"]) == 26
    assert report.requests <= 1 + 1 + 1 + 2 * 6  # the small first one, and two levels of 64 rows


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_stops_the_run_at_once(status: int) -> None:
    """There is one request and one error without the key, and every row is unsent."""
    with (
        serving(lambda *_: Reply(status)) as server,
        pytest.raises(cdp.AuthenticationError) as caught,
    ):
        send(server, 20_000)
    report = caught.value.report
    assert len(server.requests) == 1
    assert counts(report) == {"unsent": 20_000}
    assert len(report.failures) == 20_000
    assert KEY not in str(caught.value) + repr(report) + repr(report.to_dict())


@pytest.mark.parametrize(("region", "other"), [("us", "eu"), ("eu", "us")])
def test_a_wrong_key_names_the_region_and_the_kind(
    region: Literal["us", "eu"], other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says which region was tried, which key it takes, and how to try the other one."""
    with serving(lambda *_: Reply(401)) as server:
        monkeypatch.setitem(api_facts.REGIONS, region, server.url)
        destination = cdp.Destination(region=region, api_key=KEY)
        with pytest.raises(cdp.AuthenticationError) as caught:
            cdp.send(opens(1), OPENED, destination=destination, progress=False, journal=False)
    for words in (f"region {region!r}", server.url, "Pipelines source", f"region={other!r}"):
        assert words in str(caught.value)


def test_the_default_rate_leaves_half_to_live_traffic() -> None:
    """A run makes 500 requests a second unless told otherwise, and the time of a plan follows."""
    assert cdp.Destination().rate_limit == api_facts.REQUESTS_PER_SECOND / 2
    plan = cdp.plan(opens(3), OPENED, destination=cdp.Destination(max_messages=1))
    assert plan.seconds == 3 / 500


def test_a_key_that_is_revoked_during_a_run() -> None:
    """Delivered rows stay delivered; the rest is unsent."""
    with (
        serving(lambda number, _: Reply(200 if number < 3 else 401)) as server,
        pytest.raises(cdp.AuthenticationError) as caught,
    ):
        send(server, 20_000, workers=2)
    outcomes = counts(caught.value.report)
    assert set(outcomes) == {"delivered", "unsent"}
    assert sum(outcomes.values()) == 20_000


@pytest.mark.parametrize("status", [301, 404, 405])
def test_an_address_that_is_not_the_api(status: int) -> None:
    """The run stops at the first answer that the API does not give."""
    with (
        serving(lambda *_: Reply(status, headers={"Location": "http://127.0.0.1:9/"})) as server,
        pytest.raises(cdp.UnexpectedAnswerError, match="Check region and base_url"),
    ):
        send(server)


def test_a_server_that_is_not_there() -> None:
    """There is one error, which says that nothing was delivered."""
    with serving(lambda *_: Reply()) as server:
        destination = server.destination(patience=0.05)
    with pytest.raises(
        cdp.UnreachableError, match=r"ConnectError.*No row of this run is known"
    ) as caught:
        opens(5).cdp.send(
            user_id="uid",
            timestamp="ts",
            event=cdp.lit("Application Opened"),
            destination=destination,
            progress=False,
        )
    assert counts(caught.value.report) == {"failed": 5}
    assert caught.value.report.failures["cdp_attempts"].ge(1).all()


def test_a_broken_connection_before_the_body_was_read() -> None:
    """The request is sent again."""
    with serving(lambda number, _: Reply(reset=number == 0)) as server:
        report = send(server)
    assert counts(report) == {"delivered": 3}
    assert report.retries == 1


def test_a_retry_after_a_lost_answer() -> None:
    """A row delivered at the second attempt may have arrived twice; the report says so."""
    with serving(lambda number, _: Reply(None if number == 0 else 200)) as server:
        report = send(server)
    assert counts(report) == {"delivered": 3}
    assert report.maybe_twice == 3
    assert "may have arrived twice" in str(report)


def test_an_html_page_with_status_200_is_not_the_api() -> None:
    """Nobody knows what a login page took: the run stops, and its rows are unknown."""
    page = b"<html>Please log in</html>"
    with (
        serving(lambda *_: Reply(200, page, {"Content-Type": "text/html"})) as server,
        pytest.raises(cdp.UnexpectedAnswerError, match="Check region and base_url") as caught,
    ):
        send(server, 5)
    assert counts(caught.value.report) == {"unknown": 5}


def test_a_key_that_the_server_repeats() -> None:
    """Neither the key nor its Base64 form shows in the server's reason."""
    body = b"bad credentials: secret-key / Basic c2VjcmV0LWtleTo="
    with (
        serving(lambda *_: Reply(401, body)) as server,
        pytest.raises(cdp.AuthenticationError) as caught,
    ):
        send(server)
    report = caught.value.report
    shown = f"{caught.value} {report} {report.to_dict()} {report.failures['cdp_reason'].tolist()}"
    assert "secret-key" not in shown
    assert "c2VjcmV0" not in shown


def test_a_rejected_key_after_a_lost_answer() -> None:
    """Rows that the server may have accepted are unknown, not unsent."""
    with (
        serving(lambda number, _: Reply(401 if number else None)) as server,
        pytest.raises(cdp.AuthenticationError) as caught,
    ):
        send(server, 5)
    assert counts(caught.value.report) == {"unknown": 5}


def test_an_answer_that_never_comes() -> None:
    """Without any answer, the rows are unknown, not failed."""
    with (
        serving(lambda number, _: Reply(200 if number == 0 else None)) as server,
        pytest.raises(cdp.StoppedError, match="stopped accepting requests") as caught,
    ):
        send(server, 5, max_messages=4, patience=0.05, workers=1)
    report = caught.value.report
    assert counts(report) == {"delivered": 4, "unknown": 1}
    assert report.failures["cdp_code"].tolist() == ["no_answer"]


def test_a_server_that_breaks_during_a_run() -> None:
    """Once patience is over, the run stops and the rest is unsent."""
    with (
        serving(lambda number, _: Reply(503 if number else 200)) as server,
        pytest.raises(cdp.StoppedError, match="stopped accepting requests") as caught,
    ):
        send(server, 100, max_messages=1, patience=0.05, workers=1)
    outcomes = counts(caught.value.report)
    assert outcomes["delivered"] == 1
    assert 1 <= outcomes["unknown"] <= 4  # who answers 503 may have accepted the row
    assert sum(outcomes.values()) == 100
    reasons = set(caught.value.report.failures["cdp_code"])
    assert reasons == {"stopped", "http_503"}


def test_without_strict_mode_nothing_counts_as_delivered() -> None:
    """The API answers 200 even for messages that it drops."""
    with serving(lambda *_: Reply()) as server:
        report = send(server, strict=False)
    assert "x-strict-mode" not in server.requests[0].headers
    assert counts(report) == {"unknown": 3}


def test_without_strict_mode_requests_are_sent_in_parallel() -> None:
    """An accepted answer shows that key and address work, even if it proves no delivery."""
    together = threading.Barrier(2, timeout=20)

    def answer(number: int, request: ReceivedRequest) -> Reply:
        if number in (1, 2) and request.raw:
            together.wait()
        return Reply()

    with serving(answer) as server:
        report = send(server, 20, strict=False, max_messages=1, workers=4)
    assert counts(report) == {"unknown": 20}
    assert report.max_in_flight > 1


def test_a_proxy_is_not_used_for_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sandbox works behind a company's proxy."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with serving(lambda *_: Reply()) as server:
        assert send(server).ok


def test_a_proxy_is_used_for_other_machines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Requests go through the proxy from the environment, except to hosts in ``NO_PROXY``."""
    with serving(lambda *_: Reply()) as server:
        proxy = server.destination().url.removesuffix("/v1")
        monkeypatch.setenv("HTTP_PROXY", proxy.removeprefix("http://"))
        elsewhere = "http://api.example/v1"
        report = send(server, base_url=elsewhere, insecure=True)
        assert report.ok
        assert server.requests[0].path == f"{elsewhere}/batch"
        monkeypatch.setenv("NO_PROXY", "api.example")
        assert environment_proxy(elsewhere) is None


def test_a_server_that_is_busy_at_first() -> None:
    """429 from the first request on gets as many retries as later."""
    with serving(lambda number, _: Reply(429 if number < 5 else 200)) as server:
        assert send(server).ok


def test_workers_send_in_parallel() -> None:
    """Four requests are in flight at the same time."""
    together = threading.Barrier(4, timeout=20)
    released = threading.Event()

    def answer(number: int, request: ReceivedRequest) -> Reply:
        if number and request.raw and not released.is_set():
            together.wait()
            released.set()
        return Reply()

    with serving(answer) as server:
        report = send(server, 9, max_messages=1, workers=4)
    assert counts(report) == {"delivered": 9}


def test_a_run_with_all_faults_adds_up() -> None:
    """With random faults, every row has one outcome that agrees with what the server accepted."""
    rng = random.Random(3)  # noqa: S311
    accepted: list[str] = []
    replies: dict[int, Reply] = {}

    def answer(number: int, request: ReceivedRequest) -> Reply:
        if number not in replies:
            replies[number] = (
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
        reply = replies[number]
        if request.raw:
            users = [message["userId"] for message in request.batch]
            if any(user.endswith("77") for user in users):
                return Reply(400, b"no")
            if reply.status in (200, None):
                accepted.extend(users)  # also if the answer is lost
        return reply

    with serving(answer) as server:
        report = send(server, 1_000, max_messages=50, workers=4)
    assert sum(report.counts.values()) == 1_000
    assert report.counts["delivered"] == 990
    assert report.counts["refused"] + report.counts["unknown"] == 10  # refused after a lost answer
    assert set(accepted) == {f"u{n}" for n in range(1_000) if n % 100 != 77}
    twice = pd.Series(accepted).value_counts()
    assert (twice > 1).sum() <= report.maybe_twice
    assert report.failures["cdp_status"].eq(400).all()

"""A server that is away: how long a run waits for it, how often it asks, and what users see."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.delivery import retry
from cdp_backfill.delivery.sender import Sender
from cdp_backfill.delivery.transport import Answer, NoAnswerError, NotSentError
from cdp_backfill.errors import StoppedError, UnreachableError
from cdp_backfill.messages.encoding import encode
from cdp_backfill.messages.packing import Packer, Request
from cdp_backfill.results.progress.pace import Pace
from cdp_backfill.results.progress.snapshots import Snapshot
from cdp_backfill.results.run_stats import RunStats
from tests.clocks import FakeClock
from tests.rows import OPENED, built, opens
from tests.sending import counts
from tests.servers import ReceivedRequest, Reply, serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.delivery.request_result import RequestResult

AWAY = Answer(503)
TAKEN = Answer(200)


def requests(number: int) -> list[Request]:
    """So many requests of one message each."""
    messages = built({"n": list(range(number))})
    packer = Packer(max_messages=1)
    packed = [
        request
        for part in encode(messages.fields, messages.millis, call="track")
        for request in packer.feed(part)
    ]
    return [*packed, *packer.flush()]


@dataclass
class Run:
    """Sends requests over a fake network at a fake time.

    Attributes:
        answer: Called with the seconds since the start and the number of the attempt; returns the
            answer or raises. Each call takes a tenth of a second.
    """

    answer: Callable[[float, int], Answer]
    clock: FakeClock = field(default_factory=FakeClock)
    results: list[RequestResult] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    away: list[float] = field(default_factory=list)
    together: int = 0

    def send(self, number: int = 40, **options: Any) -> Sender:
        """Send so many requests to the end."""
        options = {"rate_limit": 10.0, "workers": 4} | options
        destination = cdp.Destination(api_key="k", base_url="https://x/v1", **options)
        start = self.clock.now()
        lock, never = threading.Lock(), threading.Event()
        run = self

        class Network:
            def post(self, _: bytes) -> Answer:
                run.clock.sleep(never, 0.1)
                with lock:
                    now = run.clock.now() - start
                    run.times.append(now)
                    run.away.append(sent.seconds_away)
                    return run.answer(now, len(run.times) - 1)

            def close(self) -> None:
                pass

        sent = Sender(
            destination,
            self.results.append,
            make_transport=lambda _: Network(),
            clock=self.clock,
            seed=1,
        )
        for request in requests(number):
            while not sent.offer(request) and not sent.stopped:
                pass
        sent.finish()
        return sent

    def outcomes(self) -> dict[str, int]:
        """Rows by outcome; those without a result were not begun."""
        found: dict[str, int] = {}
        for result in self.results:
            found[str(result.outcome)] = found.get(str(result.outcome), 0) + len(result.request)
        return found


def away_between(begin: float, end: float, failure: Answer | Exception = AWAY) -> Any:
    """A server that is away for some time."""

    def answer(now: float, _: int) -> Answer:
        if not begin <= now < end:
            return TAKEN
        if isinstance(failure, Exception):
            raise failure
        return failure

    return answer


FAILURES = [
    AWAY,
    Answer(429),
    Answer(408),
    Answer(503, retry_after="120"),
    NoAnswerError("ReadTimeout"),
    NotSentError("ConnectTimeout"),
    NotSentError("ConnectError", reached=False),
]


@pytest.mark.parametrize("workers", [1, 4, None])
@pytest.mark.parametrize("seconds", [5, 60, 300, 550])
@pytest.mark.parametrize("failure", FAILURES, ids=repr)
def test_an_outage_is_outlived(
    workers: int | None, seconds: float, failure: Answer | Exception
) -> None:
    """However it shows, whatever the number of workers: everything is delivered in the end."""
    run = Run(away_between(1, 1 + seconds, failure))
    sent = run.send(workers=workers)
    assert sent.error is None
    assert run.outcomes() == {"delivered": 40}


@pytest.mark.parametrize("workers", [1, 4, None])
@pytest.mark.parametrize("failure", FAILURES, ids=repr)
def test_an_outage_for_good(workers: int | None, failure: Answer | Exception) -> None:
    """The run ends once the last success is as old as its patience, and not before."""
    run = Run(away_between(1, 1e9, failure))
    sent = run.send(workers=workers, patience=200.0)
    assert isinstance(sent.error, StoppedError)
    assert "stopped accepting requests" in str(sent.error)
    assert not isinstance(sent.error, UnreachableError)
    assert 200 <= run.times[-1] <= 210
    outcomes = run.outcomes()
    assert outcomes.pop("delivered") <= 10
    outcomes.pop("unsent", None)  # a worker had it, and had not sent it yet
    not_taken = isinstance(failure, NotSentError) or failure == Answer(429)
    assert set(outcomes) == {"failed" if not_taken else "unknown"}
    assert sum(outcomes.values()) <= 8  # the others are not begun


@pytest.mark.parametrize(
    ("failure", "seconds"),
    [
        (AWAY, 600),
        (NoAnswerError("ReadTimeout"), 600),
        (NotSentError("ConnectTimeout"), 600),
        (NotSentError("ConnectError", reached=False), 30),
    ],
)
def test_a_server_that_was_never_there(failure: Answer | Exception, seconds: float) -> None:
    """An unknown host or a refused connection ends the run after 30 s, anything else later."""
    run = Run(away_between(0, 1e9, failure))
    sent = run.send()
    assert isinstance(sent.error, UnreachableError)
    assert seconds <= run.times[-1] <= seconds + 1
    assert sum(run.outcomes().values()) <= 4


def test_a_host_that_was_reached_once_gets_full_patience() -> None:
    """A refused connection after an answer is an outage."""

    def answer(now: float, number: int) -> Answer:
        if number == 0:
            return AWAY
        if now < 500:
            raise NotSentError("ConnectError", reached=False)
        return TAKEN

    run = Run(answer)
    assert run.send().error is None
    assert run.outcomes() == {"delivered": 40}


def test_one_probe_at_a_time() -> None:
    """While the server is away, it gets a request every few seconds, however many workers wait."""
    patient = Run(away_between(0.35, 300))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retry, "BASE_SECONDS", 0.5)
        patient.send(600, workers=64, rate_limit=None)
    during = [now for now in patient.times if 0.35 <= now < 300]
    assert 60 <= len(during) <= 2 * 64 + 130
    gaps = [later - now for now, later in pairwise(during[-50:])]
    assert min(gaps) >= 2.5
    assert max(gaps) <= 5.2


@settings(max_examples=40)
@given(
    periods=st.lists(st.tuples(st.floats(0.5, 20), st.floats(1, 150)), max_size=5),
    workers=st.sampled_from([1, 3, None]),
    failures=st.lists(st.sampled_from(FAILURES), min_size=1, max_size=3),
)
def test_any_outages(
    periods: list[tuple[float, float]],
    workers: int | None,
    failures: list[Answer | Exception],
) -> None:
    """A run ends early exactly if nothing succeeds for so long, whatever fails in any order."""
    outages, now = [], 0.2
    for up, down in periods:
        outages.append((now + up, now + up + down))
        now += up + down

    def answer(now: float, number: int) -> Answer:
        for begin, end in outages:
            if begin <= now < end:
                failure = failures[number % len(failures)]
                if isinstance(failure, Exception):
                    raise failure
                return failure
        return TAKEN

    run = Run(answer)
    sent = run.send(60, workers=workers, patience=100.0)
    successes = [now for now in run.times if not any(a <= now < b for a, b in outages)]
    gaps = [later - now for now, later in pairwise(successes)]
    assert max(gaps, default=0) <= 101
    if sent.error is None:
        assert run.outcomes() == {"delivered": 60}
    else:
        assert "stopped accepting" in str(sent.error)
        assert 99 <= run.times[-1] - successes[-1] <= 102


@pytest.mark.parametrize("header", ["1e300", "inf", "9" * 400, "-5", "0", "soon", "\xff", "nan"])
def test_an_odd_retry_after_is_never_waited_for_longer_than_the_patience(header: str) -> None:
    """Whatever it says, the run asks again within its patience."""
    run = Run(lambda now, _: TAKEN if now < 1 or now > 90 else Answer(503, retry_after=header))
    sent = run.send(patience=100.0)
    assert sent.error is None
    assert run.outcomes() == {"delivered": 40}
    assert max(later - now for now, later in pairwise(run.times)) <= 101


WORDS = st.one_of(
    st.text(max_size=40),
    st.floats().map(str),
    st.integers().map(str),
    st.builds(
        "{}, {} {} {} {}:{}:{} {}".format,
        st.sampled_from(["Fri", "Xyz", ""]),
        st.integers(-1, 40),
        st.sampled_from(["Dec", "Foo", "13"]),
        st.integers(-1, 10**22),
        st.integers(-1, 99),
        st.integers(-1, 99),
        st.integers(-1, 99),
        st.sampled_from(["GMT", "-0000", "+9999", "-2400", "x"]),
    ),
)


@settings(max_examples=400)
@given(WORDS)
def test_any_retry_after(header: str) -> None:
    """It is seconds within limits, or nothing; it never raises."""
    seconds = retry.retry_after(header, 600.0, datetime(2025, 1, 1, tzinfo=UTC))
    assert seconds is None or 0.0 <= seconds <= 600.0


@pytest.mark.parametrize("status", [301, 401, 402, 403, 404, 405, 407, 410, 415, 451])
def test_an_answer_that_no_row_is_to_blame_for(status: int) -> None:
    """In the middle of a run it ends the run at once: the rest is unsent, and nothing refused."""
    with (
        serving(lambda number, _: Reply(200 if number < 3 else status)) as server,
        pytest.raises(StoppedError, match=f"answered {status}") as caught,
    ):
        opens(50).cdp.send(
            OPENED, destination=server.destination(max_messages=1, workers=1), progress=False
        )
    assert counts(caught.value.report) == {"delivered": 3, "unsent": 47}
    assert len(server.requests) == 4


def test_a_request_that_the_server_cannot_take(clock: FakeClock) -> None:
    """If the server takes all others, it ends as unknown and keeps nobody waiting."""

    def answer(_: int, request: ReceivedRequest) -> Reply:
        if not request.raw:
            return Reply()
        clock.advance(1)
        return Reply(500 if request.batch[0]["userId"] == "u3" else 200)

    with serving(answer) as server:
        report = opens(50).cdp.send(
            OPENED, destination=server.destination(max_messages=1, workers=1), progress=False
        )
    assert counts(report) == {"delivered": 49, "unknown": 1}
    assert report.failures["uid"].tolist() == ["u3"]


def test_what_users_see_of_an_outage() -> None:
    """How long the server has been away, in every display; nothing of it once it is back."""
    run = Run(away_between(1, 61))
    sent = run.send()
    assert max(run.away) >= 50
    assert sent.seconds_away == 0.0
    pace = Pace()
    pace.add(Snapshot(5, 10, 0, 1, seconds_away=40.2, stats=RunStats(seconds=50.0, requests=9)))
    assert pace.activity == "the server has been away for 40 s, waiting"
    assert pace.is_slowed


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "600", None])
def test_patience_is_a_number_of_seconds(seconds: Any) -> None:
    """Anything else is one clear error."""
    with pytest.raises(cdp.DestinationError, match="patience must be a number of seconds above 0"):
        cdp.Destination(patience=seconds)

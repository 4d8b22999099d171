"""Whatever happens between two steps of a worker, each request gets one result."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

import cdp_backfill as cdp
from cdp_backfill.delivery.sender import Sender
from cdp_backfill.delivery.transport import Answer, NoAnswerError, NotSentError
from tests.delivery.test_patience import requests

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.delivery.request_result import RequestResult

ANSWERS = [
    Answer(200),
    Answer(400),
    Answer(503),
    Answer(429),
    NoAnswerError("ReadTimeout"),
    NotSentError("ConnectError"),
]


class Lock:
    """A lock that does something whenever a worker has released it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.released: Callable[[], None] = lambda: None

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        is_free = not self._lock._is_owned()  # type: ignore[attr-defined]
        if is_free and threading.current_thread().name == "cdp-backfill":
            self.released()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lock, name)


@pytest.mark.parametrize("answer", ANSWERS, ids=str)
@pytest.mark.parametrize("moment", range(1, 9))
def test_a_run_is_cancelled_between_two_steps(
    answer: Answer | Exception, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled after any step of a worker, at most one result is recorded for each request."""
    results: list[RequestResult] = []
    lock, steps = Lock(), 0
    monkeypatch.setattr("cdp_backfill.delivery.sender.threading.RLock", lambda: lock)

    class Network:
        def post(self, _: bytes) -> Answer:
            if isinstance(answer, Exception):
                raise answer
            return answer

        def close(self) -> None:
            pass

    destination = cdp.Destination(api_key="k", base_url="https://x/v1", workers=2, patience=0.2)
    sender = Sender(destination, results.append, make_transport=lambda _: Network(), seed=1)
    monkeypatch.undo()

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == moment:
            sender.cancel()

    lock.released = step
    for request in requests(3):
        while not sender.offer(request) and not sender.stopped:
            pass
    sender.finish()
    times = Counter(result.request.body() for result in results)
    assert set(times.values()) <= {1}

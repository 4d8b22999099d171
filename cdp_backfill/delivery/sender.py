"""Worker threads that send requests to the server."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cdp_backfill.delivery import retry
from cdp_backfill.delivery.answers import (
    Verdict,
    answer_error,
    answer_verdict,
    answered_result,
    exhausted_result,
)
from cdp_backfill.delivery.bisection import Bisection
from cdp_backfill.delivery.rate_control import RateControl
from cdp_backfill.delivery.request_result import RequestResult
from cdp_backfill.delivery.transport import (
    Answer,
    HttpTransport,
    NoAnswerError,
    NotSentError,
    Transport,
    compress,
    tls_context,
)
from cdp_backfill.errors import StoppedError, UnreachableError
from cdp_backfill.model.outcomes import Outcome
from cdp_backfill.results.run_stats import RunStats

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from cdp_backfill.messages.packing import Request
    from cdp_backfill.model.destination import Destination

_FIRST_ATTEMPTS: Final = 3  # attempts while the server has answered nothing
_MAX_GIVEN_UP: Final = 8  # requests given up in a row before the run stops
_MAX_REFUSED: Final = 20  # messages refused before the run stops, if none was accepted
_QUEUE_SIZE: Final = 16
_TICK: Final = 0.2  # seconds


class Sender:
    """Sends requests to the server with worker threads.

    Until the server accepts a request, only one is in flight: the key or the address may be wrong.

    Args:
        destination: The server, with an API key.
        on_result: Called by the workers with each result, one call at a time.
        on_send: Called before each request is sent, with the number of requests in flight.
        accepted_before: The server accepted rows of this backfill in an earlier run.
        make_transport: Makes the connection of one worker; None for HTTP.
        clock: Monotonic time in seconds.
        seed: Seed for the jitter of retries; None for a random one.
    """

    def __init__(
        self,
        destination: Destination,
        on_result: Callable[[RequestResult], None],
        *,
        on_send: Callable[[int], None] = lambda _: None,
        accepted_before: bool = False,
        make_transport: Callable[[Destination], Transport] | None = None,
        clock: Callable[[], float] = time.monotonic,
        seed: int | None = None,
    ) -> None:
        self._destination = destination
        self._on_result = on_result
        self._on_send = on_send
        self._make_transport = make_transport or self._http_transport
        self._tls: ssl.SSLContext | None = None
        self._rng = random.Random(seed)  # noqa: S311  # jitter is no secret
        self._clock = clock
        self._lock = threading.RLock()
        self._work_changed = threading.Condition(self._lock)  # the workers wait for it
        self._progressed = threading.Condition(self._lock)  # the caller waits for it
        self._stopping = threading.Event()
        self._queue: deque[Request] = deque()
        self._threads: list[threading.Thread] = []
        # The request of each transport, its attempts so far, and whether one got no answer.
        self._current: dict[int, tuple[Request, int, bool]] = {}
        self._closing = False
        self._cancelled = False
        self._idle_workers = 0
        self._busy_workers = 0  # their requests may wait for a retry, so not all are in flight
        self._verified = False  # the server accepted a request, so key and address are right
        self._any_delivered = accepted_before
        self._refused = 0  # messages refused before any was delivered
        self._given_up_in_a_row = 0
        self._rate_control = RateControl(
            destination.rate_limit,
            fixed_concurrency=destination.workers,
            clock=clock,
            sleep=self._stopping.wait,
        )
        self.stats = RunStats()
        """The figures of what was sent so far."""
        self.in_flight = 0
        """Requests in flight now."""
        self.concurrency = 0
        """Requests that may be in flight now."""
        self.error: BaseException | None = None
        """The error that stopped the sender, or None."""

    def offer(self, request: Request, timeout: float = _TICK) -> bool:
        """Put a request into the queue.

        Args:
            request: The request.
            timeout: Seconds to wait while the queue is full.

        Returns:
            Whether it is in the queue. If not, offer it again, unless :attr:`stopped`.
        """
        with self._lock:
            # A fast server needs few workers, and more of them would slow each other down.
            if not self._threads or len(self._queue) >= _QUEUE_SIZE:
                self._start_workers(len(self._queue) + 1)
            if not self._progressed.wait_for(
                lambda: self.stopped or len(self._queue) < _QUEUE_SIZE, timeout
            ):
                return False
            if self.stopped:
                return False
            self._queue.append(request)
            self._work_changed.notify()
            return True

    @property
    def stopped(self) -> bool:
        """Whether the sender accepts no further request."""
        return self._stopping.is_set()

    def wait(self, timeout: float = _TICK) -> bool:
        """Wait until every request has a result. Returns False if that takes longer.

        Args:
            timeout: Seconds to wait.
        """
        with self._lock:
            self._start_workers(len(self._queue))
            return self._progressed.wait_for(
                lambda: (self.stopped or not self._queue) and not self._busy_workers, timeout
            )

    def stop(self, error: BaseException | None = None) -> None:
        """Send no further request or attempt; requests in flight may finish.

        Args:
            error: Why; the first one is kept in :attr:`error`.
        """
        with self._lock:
            if self.error is None:
                self.error = error
            self._stopping.set()
            self._queue.clear()
            self._progressed.notify_all()

    def cancel(self) -> None:
        """Stop without waiting for the requests in flight: their outcome becomes unknown."""
        self.stop()
        with self._lock:
            if self._cancelled:
                return
            self._cancelled = True  # later answers no longer count
            reason = (
                "the run was cancelled while this row's request was in flight; "
                "the server may have accepted it"
            )
            for request, attempts, _ in self._current.values():
                self._on_result(
                    RequestResult(request, Outcome.UNKNOWN, "cancelled", reason, attempts=attempts)
                )

    def finish(self) -> None:
        """Wait for all results and end the workers."""
        while not (self._cancelled or self.wait()):
            pass
        with self._lock:
            self._closing = True
            self._work_changed.notify_all()
        if not self._cancelled:
            for thread in self._threads:
                thread.join()

    def _http_transport(self, destination: Destination) -> Transport:
        if self._tls is None:
            self._tls = tls_context()
        return HttpTransport(destination, self._tls)

    def _start_workers(self, requests: int) -> None:
        """Start workers until there is an idle one for each request, within the concurrency."""
        startable = self._rate_control.concurrency - len(self._threads)
        for _ in range(min(requests - self._idle_workers, startable)):
            transport = self._make_transport(self._destination)
            thread = threading.Thread(
                target=self._work, args=(transport,), name="cdp-backfill", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _work(self, transport: Transport) -> None:
        """Send requests until the sender closes; the main loop of a worker."""
        try:
            while (request := self._next_request()) is not None:
                try:
                    self._send(request, transport)
                except BaseException as error:  # noqa: BLE001  # a bug here must not hang the run
                    self.stop(error)
                finally:
                    with self._lock:
                        self._busy_workers -= 1
                        if self._queue:
                            self._work_changed.notify()
                        self._progressed.notify_all()
        finally:
            transport.close()

    def _next_request(self) -> Request | None:
        """Wait for a request from the queue; None if the sender closes."""
        with self._lock:
            self._idle_workers += 1
            self._work_changed.wait_for(lambda: self._closing or self._can_start())
            self._idle_workers -= 1
            if not self._queue:
                return None
            self._busy_workers += 1
            request = self._queue.popleft()
            if self._can_start():
                self._work_changed.notify()
            self._progressed.notify_all()
            return request

    def _can_start(self) -> bool:
        concurrency = self._rate_control.concurrency if self._verified else 1
        return bool(self._queue) and self._busy_workers < concurrency

    def _send(self, request: Request, transport: Transport) -> None:
        """Send a request; if the server refuses it, send its parts."""
        bisection = Bisection(request, probe=0 if self._any_delivered else _MAX_REFUSED)
        unanswered = False
        while bisection:
            part = bisection.next_part()
            result = self._send_part(part, transport, unanswered=unanswered)
            with self._lock:
                _, _, unanswered = self._current.pop(id(transport), (None, 0, unanswered))
                if self._cancelled:
                    return
                if result is None:
                    bisection.split(part)
                    continue
                bisection.record(accepted=result.outcome is Outcome.DELIVERED)
                if result.outcome is Outcome.DELIVERED:
                    self.stats += RunStats(body_bytes=part.size)
                self._on_result(result)
                self._stop_if_all_refused(result)

    def _stop_if_all_refused(self, result: RequestResult) -> None:
        """Stop if the server refused many messages and accepted none: the mapping is wrong."""
        if result.outcome is Outcome.DELIVERED:
            self._any_delivered = True
        elif result.outcome is Outcome.REFUSED and not self._any_delivered:
            self._refused += len(result.request)
            if self._refused >= _MAX_REFUSED:
                self.stop(
                    StoppedError(
                        f"The server refused each of the first {self._refused} rows and accepted "
                        f"none (it answered {result.status}). Check the mapping; the failures "
                        "have the server's reasons."
                    )
                )

    def _send_part(
        self, request: Request, transport: Transport, *, unanswered: bool
    ) -> RequestResult | None:
        """Send until there is a result; None if the request must be split.

        Args:
            request: The request, or a part of one that was split.
            transport: The connection.
            unanswered: The request that it is a part of got no answer to an attempt.
        """
        body = compress(request.body())
        attempts, answer, failure = 0, None, ""
        give_up = self._clock() + self._destination.retry_seconds
        while (
            attempts < self._max_attempts(answer)
            and not self.stopped
            and self._rate_control.wait_to_send()
        ):
            attempts += 1
            started = self._count_sent(
                transport, request, attempts, len(body), unanswered=unanswered
            )
            try:
                answer = transport.post(body)
            except NotSentError as error:
                answer, failure = None, f"the request could not be sent ({error})"
            except NoAnswerError as error:
                answer, failure, unanswered = None, f"no answer came ({error})", True
            with self._lock:
                self._current[id(transport)] = (request, attempts, unanswered)
                in_flight = self.in_flight
                self.in_flight -= 1
                if answer is not None:
                    seconds = self._clock() - started
                    self.stats += RunStats(answers=1, answer_seconds=seconds)
            if answer is not None and answer_verdict(answer) is not Verdict.RETRY:
                self._rate_control.record_answer(self._clock() - started, in_flight)
                return self._final_result(request, answer, attempts, unanswered=unanswered)
            self._slow_down(answer)
            if self._clock() >= give_up:
                break
            if attempts < self._max_attempts(answer) and self._stopping.wait(
                self._backoff(attempts)
            ):
                break
        if attempts:
            self._stop_if_unavailable(answer, failure, attempts)
        return exhausted_result(request, answer, failure, attempts, unanswered=unanswered)

    def _max_attempts(self, answer: Answer | None) -> int:
        most = self._destination.max_attempts
        # An address at which nothing has ever answered is probably wrong.
        return most if self._verified or answer is not None else min(_FIRST_ATTEMPTS, most)

    def _backoff(self, attempts: int) -> float:
        with self._lock:
            return retry.backoff(attempts, self._rng)

    def _count_sent(
        self,
        transport: Transport,
        request: Request,
        attempts: int,
        size: int,
        *,
        unanswered: bool,
    ) -> float:
        """Count an attempt that is about to be sent; returns the time."""
        with self._lock:
            stats = self.stats
            self._current[id(transport)] = (request, attempts, unanswered)
            self.in_flight += 1
            self.concurrency = self._rate_control.concurrency
            self.stats = replace(
                stats,
                requests=stats.requests + 1,
                retries=stats.retries + (attempts > 1),
                wire_bytes=stats.wire_bytes + size,
                max_in_flight=max(stats.max_in_flight, self.in_flight),
                paused_seconds=self._rate_control.paused_seconds,
            )
            self._on_send(self.in_flight)
        return self._clock()

    def _slow_down(self, answer: Answer | None) -> None:
        """Slow all workers down after no answer, or after one that asks for a retry."""
        pause = None if answer is None else retry.retry_after(answer.retry_after)
        if answer is not None and answer.status == 429:  # noqa: PLR2004  # too many requests
            with self._lock:
                self.stats += RunStats(throttled=1)
            self._rate_control.record_too_many_requests()
            pause = retry.BASE_SECONDS if pause is None else pause
        else:
            self._rate_control.record_failure()
        if pause:
            self._rate_control.pause(pause)

    def _final_result(
        self, request: Request, answer: Answer, attempts: int, *, unanswered: bool
    ) -> RequestResult | None:
        """The result of an answer that further attempts would not change; None to split."""
        verdict = answer_verdict(answer)
        with self._lock:
            self._given_up_in_a_row = 0
            if verdict is Verdict.ACCEPTED:
                self._verified = True
        if verdict is Verdict.SPLIT and len(request) > 1 and not self.stopped:
            return None
        error = answer_error(answer, self._destination.url)
        if error is not None:
            self.stop(error)
        return answered_result(
            request,
            answer,
            attempts,
            strict=self._destination.strict,
            unanswered=unanswered,
        )

    def _stop_if_unavailable(self, answer: Answer | None, failure: str, attempts: int) -> None:
        """Count a request that was given up; stop if the server accepts no requests."""
        if answer is not None:
            failure = f"the server answered {answer.status}"  # its reason can quote a row
        failure += " at the only attempt" if attempts == 1 else f" at each of {attempts} attempts"
        with self._lock:
            self._given_up_in_a_row += 1
            if self.stopped:
                return
            if not self._verified:
                self.stop(
                    UnreachableError(
                        f"No request to {self._destination.url} succeeded: {failure}. No row of "
                        "this run is known to be delivered. Check the network and base_url, or "
                        "try again later."
                    )
                )
            elif self._given_up_in_a_row >= _MAX_GIVEN_UP:
                self.stop(
                    StoppedError(
                        f"The server stopped accepting requests: the last "
                        f"{self._given_up_in_a_row} failed (the latest: {failure}). "
                        "Try again later."
                    )
                )

"""Worker threads that send requests to the server."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import threading
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cdp_backfill.delivery import retry
from cdp_backfill.delivery.answers import (
    RETRIED,
    Verdict,
    answer_error,
    answer_verdict,
    answered_result,
    exhausted_result,
)
from cdp_backfill.delivery.availability import Availability
from cdp_backfill.delivery.bisection import Bisection
from cdp_backfill.delivery.clock import SYSTEM_CLOCK, Clock
from cdp_backfill.delivery.rate_control import MAX_CONCURRENCY, RateControl
from cdp_backfill.delivery.request_result import RequestResult
from cdp_backfill.delivery.task import Task
from cdp_backfill.delivery.transport import (
    Answer,
    HttpTransport,
    NoAnswerError,
    NotSentError,
    Transport,
    tls_context,
)
from cdp_backfill.errors import StoppedError
from cdp_backfill.messages.packing import FIRST_MESSAGES
from cdp_backfill.model.outcomes import Outcome
from cdp_backfill.results.run_stats import RunStats

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from cdp_backfill.messages.packing import Request
    from cdp_backfill.model.destination import Destination

_MAX_REFUSED: Final = FIRST_MESSAGES  # refused before the run stops, if none was accepted
_QUEUE_SIZE: Final = 16
_TICK: Final = 0.2  # seconds
_TOO_MANY_REQUESTS: Final = 429
_MIN_WAITING: Final = 4  # requests that may wait for another attempt while others are sent
_MANY_FAILURES: Final = 3
"""Failed attempts of one request after which the fault may lie in that request."""


class Sender:
    """Sends requests to the server with worker threads.

    Until the server accepts a request, only one is in flight: the key or the address may be wrong.
    The same holds while the server is away. The parts of a refused request are requests of their
    own, which go before those in the queue. A request that waits for another attempt holds no
    worker.

    Args:
        destination: The server, with an API key.
        on_result: Called by the workers with each result, one call at a time.
        on_send: Called before each attempt with the request and its earlier attempts that the
            server may have accepted; returns False if it must not be sent.
        on_split: Called with a request that its parts replace, and its attempts that the server may
            have accepted.
        accepted_before: The server accepted rows of this backfill in an earlier run.
        make_transport: Makes the connection of one worker; None for HTTP.
        clock: Tells the time and waits; None for that of the machine.
        seed: Seed for the jitter of retries; None for a random one.
    """

    def __init__(
        self,
        destination: Destination,
        on_result: Callable[[RequestResult], None],
        *,
        on_send: Callable[[Request, int], bool] = lambda *_: True,
        on_split: Callable[[Request, int], None] = lambda *_: None,
        accepted_before: bool = False,
        make_transport: Callable[[Destination], Transport] | None = None,
        clock: Clock | None = None,
        seed: int | None = None,
    ) -> None:
        self._destination = destination
        self._on_result = on_result
        self._on_send = on_send
        self._on_split = on_split
        self._make_transport = make_transport or self._http_transport
        self._tls: ssl.SSLContext | None = None
        self._rng = random.Random(seed)  # noqa: S311  # jitter is no secret
        self._clock = clock = clock or SYSTEM_CLOCK
        self._lock = threading.RLock()
        self._work_changed = clock.condition(self._lock)  # the workers wait for it
        self._progressed = threading.Condition(self._lock)  # the caller waits for it
        self._stopping = threading.Event()
        self._queue: deque[Request] = deque()
        self._numbers = itertools.count()
        self._waiting: list[tuple[float, int, Task]] = []  # a heap by the time of the next attempt
        self._busy: set[Task] = set()  # with a worker
        self._threads: list[threading.Thread] = []
        self._closing = False
        self._cancelled = False
        self._idle_workers = 0
        self._most_workers = max(
            MAX_CONCURRENCY, destination.workers or 0
        )  # fewer if no more can be started
        self._retired = 0  # workers that ended because they could not connect
        self._verified = False  # the server accepted a request, so key and address are right
        self._any_delivered = accepted_before
        self._refused = 0  # messages refused before any was delivered
        self._availability = Availability(destination.patience, clock.now, self._rng)
        self._rate_control = RateControl(
            destination.rate_limit,
            fixed_concurrency=destination.workers,
            clock=clock.now,
            sleep=lambda seconds: clock.sleep(self._stopping, seconds),
        )
        self.stats = RunStats()
        """The figures of what was sent so far."""
        self.in_flight = 0
        """Requests in flight now."""
        self.concurrency = 0
        """Requests that may be in flight now."""
        self.error: BaseException | None = None
        """The error that stopped the sender, or None."""
        self.unrecorded: list[RequestResult] = []
        """Results at which ``on_result`` raised an error. They may be recorded in part."""

    @property
    def seconds_away(self) -> float:
        """Seconds for which the server has been away, or 0.0 if it is there."""
        with self._lock:
            return self._availability.seconds_away

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
            self._start_workers(len(self._queue) + len(self._waiting))
            return self._progressed.wait_for(
                lambda: not (self._queue or self._waiting or self._busy), timeout
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
            while self._waiting:
                self._give_up(heapq.heappop(self._waiting)[-1])
            self._work_changed.notify_all()
            self._progressed.notify_all()

    def cancel(self) -> None:
        """Stop without waiting for the requests in flight: their outcome becomes unknown."""
        self.stop()
        with self._lock:
            if self._cancelled:
                return
            reason = (
                "the run was cancelled while this row's request was in flight; "
                "the server may have accepted it"
            )
            for task in list(self._busy):
                if task.on_wire:
                    self._record(
                        task,
                        RequestResult(
                            task.request,
                            Outcome.UNKNOWN,
                            "cancelled",
                            reason,
                            attempts=task.attempts,
                            doubts=task.doubts,
                        ),
                    )
                else:
                    self._give_up(task)
            self._cancelled = True  # later answers no longer count
            self._progressed.notify_all()

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
        return HttpTransport(destination, self._tls, self._clock.now)

    # --- Workers ---

    def _start_workers(self, requests: int) -> None:
        """Start workers until there is an idle one for each request, within the concurrency."""
        startable = min(self._rate_control.concurrency, self._most_workers) - len(self._threads)
        for _ in range(min(requests - self._idle_workers, startable)):
            try:
                self._start_worker()
            except Exception as error:  # noqa: BLE001  # no more threads, descriptors or memory
                self._most_workers = len(self._threads)
                if not self._threads:
                    self.stop(_no_worker(error))
                return

    def _start_worker(self) -> None:
        transport = self._make_transport(self._destination)
        thread = threading.Thread(
            target=self._work, args=(transport,), name="cdp-backfill", daemon=True
        )
        try:
            thread.start()
        except BaseException:
            transport.close()
            raise
        self._threads.append(thread)

    def _work(self, transport: Transport) -> None:
        """Send requests until the sender closes; the main loop of a worker."""
        try:
            while (task := self._next_task()) is not None:
                try:
                    if not self._attempt(task, transport):
                        return
                except BaseException as error:  # noqa: BLE001  # a bug here must not hang the run
                    self._abandon(task, error)
                finally:
                    with self._lock:
                        if self._queue or self._waiting:
                            self._work_changed.notify()
                        self._progressed.notify_all()
        finally:
            with contextlib.suppress(Exception):
                transport.close()

    def _abandon(self, task: Task, error: BaseException) -> None:
        """Stop at an unexpected error; the server may have accepted what was sent."""
        with self._lock:
            if task.on_wire:
                task.on_wire = False
                task.unanswered += 1
                self.in_flight -= 1
            if self.error is None:
                self.error = error
            self._busy.discard(task)
            if not self._cancelled:
                with contextlib.suppress(Exception):
                    doubts = task.doubts + (task.answer is not None)
                    outcome = Outcome.UNKNOWN if doubts else Outcome.UNSENT
                    reason = "an unexpected error stopped the run" + (
                        "; the server may have accepted the row" if doubts else ""
                    )
                    result = RequestResult(
                        task.request,
                        outcome,
                        "error",
                        reason,
                        attempts=task.attempts,
                        doubts=doubts,
                    )
                    self._record(task, result)
            with contextlib.suppress(Exception):  # the same error may come again
                self.stop(error)

    def _next_task(self) -> Task | None:
        """Wait for a request to send; None if the sender closes."""
        with self._lock:
            while True:
                task, seconds = self._startable_task()
                if task is not None:
                    self._busy.add(task)
                    if (self._queue or self._waiting) and len(self._busy) < self._limit:
                        self._work_changed.notify()
                    self._progressed.notify_all()
                    return task
                if self._closing:
                    return None
                self._idle_workers += 1
                self._work_changed.wait(
                    None if seconds is None else min(seconds, threading.TIMEOUT_MAX)
                )
                self._idle_workers -= 1

    @property
    def _limit(self) -> int:
        """Requests that may be with workers."""
        if self._availability.away or not self._verified:
            return 1
        return self._rate_control.concurrency

    def _startable_task(self) -> tuple[Task | None, float | None]:
        """The task to go on with, or None and the seconds to wait; None for no limit."""
        if self.stopped or len(self._busy) >= self._limit:
            return None, None
        if self._availability.away and (seconds := self._availability.seconds_to_probe) > 0:
            return None, seconds
        if self._queue and self._may_start_another():
            probe = 0 if self._any_delivered else _MAX_REFUSED
            request = self._queue.popleft()
            return Task(request, Bisection(probe=probe), is_small=request.is_first), None
        if not self._waiting:
            return None, None
        seconds = self._waiting[0][0] - self._clock.now()
        if seconds > 0 and not self._availability.away:
            return None, seconds
        return heapq.heappop(self._waiting)[-1], None

    def _may_start_another(self) -> bool:
        """Whether a request from the queue goes before those that wait for another attempt."""
        if not self._waiting:
            return True
        is_due = self._waiting[0][0] <= self._clock.now()
        if len(self._waiting) >= max(_MIN_WAITING, self._limit):
            return False
        if self._limit > 1:
            return not is_due
        # The fault may lie in the requests that fail: let others look for the server, too.
        tried = all(task.attempts >= _MANY_FAILURES for _, _, task in self._waiting)
        return tried and (self._availability.away or not is_due)

    # --- One attempt ---

    def _attempt(self, task: Task, transport: Transport) -> bool:
        """Send a request once, and decide what becomes of it; False if the worker must end."""
        body = task.body()
        may_send = self._rate_control.wait_to_send()
        with self._lock:
            if self._cancelled:
                return True
            if not may_send or self.stopped or not self._on_send(task.request, task.unanswered):
                self._give_up(task)
                self._busy.discard(task)
                return True
            started = self._count_sent(task, len(body))
        reached, exhausted = True, False
        try:
            task.answer, task.failure = transport.post(body), ""
        except NotSentError as error:
            task.answer, reached, exhausted = None, error.reached, error.exhausted
            task.failure = f"the request could not be sent ({error})"
        except NoAnswerError as error:
            task.answer, task.failure = None, f"no answer came ({error})"
            task.unanswered += 1
        verdict = None if task.answer is None else answer_verdict(task.answer)
        task.unanswered += verdict is Verdict.FAILED
        with self._lock:
            goes_on = self._decide(task, verdict, started, reached=reached, exhausted=exhausted)
            # Before others get the lock: its result is known, or another worker may go on with it.
            self._busy.discard(task)
        return goes_on

    def _decide(
        self, task: Task, verdict: Verdict | None, started: float, *, reached: bool, exhausted: bool
    ) -> bool:
        """Decide what becomes of a request after an attempt; False if the worker must end."""
        task.on_wire = False
        in_flight = self.in_flight
        self.in_flight -= 1
        if self._cancelled:
            return True
        if exhausted and len(self._threads) - self._retired > 1 and not self.stopped:
            self._retired += 1  # the others have the connections that there are
            self._most_workers = len(self._threads)
            self._wait(task, self._clock.now())
            return False
        seconds = self._clock.now() - started
        if task.answer is not None:
            self.stats += RunStats(answers=1, answer_seconds=seconds)
        if task.answer is not None and verdict not in RETRIED:
            self._rate_control.record_answer(seconds, in_flight, is_small=task.is_small)
            if self._availability.record_success():
                self._rate_control.recover()
                self._work_changed.notify_all()
            self._settle(task, task.answer)
        else:
            self._slow_down(task.answer)
            self._retry_later(task, started, reached=reached)
        return True

    def _count_sent(self, task: Task, size: int) -> float:
        """Count an attempt that is about to be sent; returns the time."""
        stats, now = self.stats, self._clock.now()
        if not task.attempts:
            task.begun, task.successes = now, self._availability.successes
        task.attempts += 1
        task.on_wire = True
        self.in_flight += 1
        self.concurrency = self._rate_control.concurrency
        self.stats = replace(
            stats,
            requests=stats.requests + 1,
            retries=stats.retries + (task.attempts > 1),
            wire_bytes=stats.wire_bytes + size,
            max_in_flight=max(stats.max_in_flight, self.in_flight),
            paused_seconds=self._rate_control.paused_seconds,
        )
        return now

    def _slow_down(self, answer: Answer | None) -> None:
        """Slow all workers down after no answer, or after one that asks for a retry."""
        patience = self._destination.patience
        pause = None if answer is None else retry.retry_after(answer.retry_after, patience)
        if answer is not None and answer.status == _TOO_MANY_REQUESTS:
            self.stats += RunStats(throttled=1)
            self._rate_control.record_too_many_requests()
            pause = retry.BASE_SECONDS if pause is None else pause
        else:
            self._rate_control.record_failure()
        if pause:
            self._rate_control.pause(min(pause, max(0.0, self._availability.seconds_left)))

    def _retry_later(self, task: Task, started: float, *, reached: bool) -> None:
        """Let a request wait for another attempt, unless it or the server has had enough."""
        availability, answer = self._availability, task.answer
        task.failed_beside_others += availability.successes > task.successes
        task.successes = availability.successes
        availability.record_failure(
            started,
            reached=reached,
            throttled=answer is not None and answer.status == _TOO_MANY_REQUESTS,
            in_flight=self.in_flight,
        )
        now, seconds_left = self._clock.now(), availability.seconds_left
        own_seconds_left = task.begun + self._destination.patience - now
        takes_others = task.failed_beside_others >= _MANY_FAILURES
        if self.stopped or (takes_others and min(seconds_left, own_seconds_left) <= 0):
            self._give_up(task)
        elif seconds_left <= 0:
            self.stop(availability.error(self._destination.url, task.last_failure))
            self._give_up(task)
        else:
            self._wait(task, now + min(retry.backoff(task.attempts, self._rng), seconds_left))

    def _wait(self, task: Task, until: float) -> None:
        heapq.heappush(self._waiting, (until, next(self._numbers), task))

    # --- Results ---

    def _settle(self, task: Task, answer: Answer) -> None:
        """Record the result of an answer that further attempts would not change, or split."""
        request, verdict = task.request, answer_verdict(answer)
        if verdict is Verdict.ACCEPTED and not self._verified:
            self._verified = True
            self._start_workers(len(self._queue) + len(self._waiting))
        if verdict is Verdict.SPLIT and len(request) > 1 and not self.stopped:
            self._on_split(request, task.unanswered)
            for part in task.bisection.split(request):
                # The server may have accepted the attempts without an answer.
                rest = Task(part, task.bisection, is_small=True, inherited=task.doubts)
                self._wait(rest, float("-inf"))
            if self._verified:
                self._start_workers(len(self._waiting))
            return
        error = answer_error(answer, self._destination.url)
        if error is not None:
            self.stop(error)
        result = answered_result(
            request,
            answer,
            task.attempts,
            strict=self._destination.strict,
            doubts=task.doubts,
        )
        task.bisection.record(accepted=result.outcome is Outcome.DELIVERED)
        if result.outcome is Outcome.DELIVERED:
            self.stats += RunStats(body_bytes=request.size)
        self._record(task, result)
        self._stop_if_all_refused(result)

    def _give_up(self, task: Task) -> None:
        """Record that a request gets no further attempt."""
        self._record(
            task,
            exhausted_result(
                task.request, task.answer, task.failure, task.attempts, doubts=task.doubts
            ),
        )
        task.bisection.record(accepted=False)

    def _record(self, task: Task, result: RequestResult) -> None:
        """Report a result. If it cannot be recorded, the run stops and the result is kept."""
        result = replace(result, inherited=task.inherited)
        try:
            self._on_result(result)
        except BaseException as error:  # noqa: BLE001  # a bug here must not hang the run
            self.unrecorded.append(result)
            if self.error is None:
                self.error = error
            if not self.stopped:  # else, whoever stopped it is at it
                self.stop()

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


def _no_worker(error: Exception) -> StoppedError:
    stopped = StoppedError(
        f"No connection to the server could be prepared ({type(error).__name__}: {error}). Nothing "
        "was sent. Close other programs, or raise the limits of this one on threads and open files."
    )
    stopped.__cause__ = error
    return stopped

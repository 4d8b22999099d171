"""The workers that carry requests to the server."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cdp_backfill.delivery import retry
from cdp_backfill.delivery.bisection import Bisection
from cdp_backfill.delivery.rate_control import RateControl
from cdp_backfill.delivery.results import Result
from cdp_backfill.delivery.retry import Verdict
from cdp_backfill.delivery.transport import (
    Answer,
    HttpTransport,
    NoAnswerError,
    NotSentError,
    Transport,
    compress,
    tls_context,
)
from cdp_backfill.errors import (
    AuthenticationError,
    StoppedError,
    UnexpectedAnswerError,
    UnreachableError,
)
from cdp_backfill.model.outcomes import Outcome
from cdp_backfill.results.run_stats import RunStats

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from cdp_backfill.messages.packing import Request
    from cdp_backfill.model.destination import Destination

_FIRST_ATTEMPTS: Final = 3
_BARREN_LIMIT: Final = 8
_REFUSED_LIMIT: Final = 20
_WAITING: Final = 16
_TICK: Final = 0.2


class Sender:
    """Carries requests to the server with a number of worker threads.

    The first request goes alone: until it is answered, nobody knows whether the key and the
    address are right.

    Args:
        destination: Where to, with a key.
        on_result: Called by the workers with each result, one call at a time.
        on_departure: Called before each request leaves with the number then on the wire.
        taken_before: The server took rows of this backfill in an earlier run.
        make_transport: Makes a connection for one worker; None for HTTP.
        clock: Seconds that only go forward.
        seed: Seeds the jitter of the waits; None for a random one.
    """

    def __init__(
        self,
        destination: Destination,
        on_result: Callable[[Result], None],
        *,
        on_departure: Callable[[int], None] = lambda _: None,
        taken_before: bool = False,
        make_transport: Callable[[Destination], Transport] | None = None,
        clock: Callable[[], float] = time.monotonic,
        seed: int | None = None,
    ) -> None:
        self._destination = destination
        self._on_result = on_result
        self._on_departure = on_departure
        self._make_transport = make_transport or self._http
        self._tls: ssl.SSLContext | None = None
        self._rng = random.Random(seed)  # noqa: S311  # jitter is no secret
        self._clock = clock
        self._lock = threading.RLock()
        self._work = threading.Condition(self._lock)  # the workers wait for it
        self._room = threading.Condition(self._lock)  # the caller does
        self._stopping = threading.Event()
        self._waiting: deque[Request] = deque()
        self._threads: list[threading.Thread] = []
        self._under_way: dict[int, tuple[Request, int, bool]] = {}
        self._closing = False
        self._abandoned = False
        self._idle = 0
        self._busy = 0  # requests that a worker has; in flight are those that are on the wire
        self._proven = False
        self._barren = 0
        self._refused = -1 if taken_before else 0  # below 0: something was taken
        self._rate_control = RateControl(
            destination.rate_limit,
            pinned=destination.workers,
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
        """Why the sender stopped by itself, or None."""

    def offer(self, request: Request, timeout: float = _TICK) -> bool:
        """Hand a request over.

        Args:
            request: The request.
            timeout: Seconds to wait for room.

        Returns:
            Whether it was taken. If not, offer it again, unless :attr:`stopped`.
        """
        with self._lock:
            # A server that keeps up needs few workers, and more would be in each other's way.
            if not self._threads or len(self._waiting) >= _WAITING:
                self._hire(len(self._waiting) + 1)
            if not self._room.wait_for(
                lambda: self.stopped or len(self._waiting) < _WAITING, timeout
            ):
                return False
            if self.stopped:
                return False
            self._waiting.append(request)
            self._work.notify()
            return True

    @property
    def stopped(self) -> bool:
        """Whether no further request is taken."""
        return self._stopping.is_set()

    def done(self, timeout: float = _TICK) -> bool:
        """Wait until everything handed over has a result; False where that takes longer."""
        with self._lock:
            self._hire(len(self._waiting))
            return self._room.wait_for(
                lambda: (self.stopped or not self._waiting) and not self._busy, timeout
            )

    def stop(self, error: BaseException | None = None) -> None:
        """Begin nothing new; requests under way may finish, without further attempts."""
        with self._lock:
            if self.error is None:
                self.error = error
            self._stopping.set()
            self._waiting.clear()
            self._room.notify_all()

    def cancel(self) -> None:
        """Stop, and wait no longer for the requests under way: they may have been taken."""
        self.stop()
        with self._lock:
            if self._abandoned:
                return
            self._abandoned = True  # what still comes back is too late to count
            for request, attempts, _ in self._under_way.values():
                reason = "the run was cancelled while this was under way; it may have been taken"
                result = Result(request, Outcome.UNKNOWN, "cancelled", reason, attempts=attempts)
                self._on_result(result)

    def finish(self) -> None:
        """Wait for all results and let the workers go."""
        while not (self._abandoned or self.done()):
            pass
        with self._lock:
            self._closing = True
            self._work.notify_all()
        if not self._abandoned:
            for thread in self._threads:
                thread.join()

    def _http(self, destination: Destination) -> Transport:
        if self._tls is None:
            self._tls = tls_context()
        return HttpTransport(destination, self._tls)

    def _hire(self, requests: int) -> None:
        """Have a worker for each request that waits, as far as the level allows."""
        room = self._rate_control.level - len(self._threads)
        for _ in range(min(requests - self._idle, room)):
            transport = self._make_transport(self._destination)
            thread = threading.Thread(
                target=self._serve, args=(transport,), name="cdp-backfill", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _serve(self, transport: Transport) -> None:
        try:
            while (request := self._take()) is not None:
                try:
                    self._carry(request, transport)
                except BaseException as error:  # noqa: BLE001  # a bug here must not hang the run
                    self.stop(error)
                finally:
                    with self._lock:
                        self._busy -= 1
                        if self._waiting:
                            self._work.notify()
                        self._room.notify_all()
        finally:
            transport.close()

    def _take(self) -> Request | None:
        with self._lock:
            self._idle += 1
            self._work.wait_for(lambda: self._closing or self._may_go())
            self._idle -= 1
            if not self._waiting:
                return None
            self._busy += 1
            request = self._waiting.popleft()
            if self._may_go():
                self._work.notify()
            self._room.notify_all()
            return request

    def _may_go(self) -> bool:
        level = self._rate_control.level if self._proven else 1
        return bool(self._waiting) and self._busy < level

    def _carry(self, request: Request, transport: Transport) -> None:
        """Send a request, and the parts of it where it is refused."""
        bisection = Bisection(request, probe=_REFUSED_LIMIT if self._refused >= 0 else 0)
        unanswered = False
        while bisection:
            part = bisection.next()
            result = self._attempts(part, transport, unanswered=unanswered)
            with self._lock:
                _, _, unanswered = self._under_way.pop(id(transport), (None, 0, unanswered))
                if self._abandoned:
                    return
                if result is None:
                    bisection.take_apart(part)
                    continue
                bisection.settled(accepted=result.outcome is Outcome.DELIVERED)
                if result.outcome is Outcome.DELIVERED:
                    self.stats += RunStats(body_bytes=part.size)
                self._on_result(result)
                self._heed(result)

    def _heed(self, result: Result) -> None:
        """Stop where nothing was ever taken: then it is not the rows that are wrong."""
        if result.outcome is Outcome.DELIVERED:
            self._refused = -1
        elif result.outcome is Outcome.REFUSED and self._refused >= 0:
            self._refused += len(result.request)
            if self._refused >= _REFUSED_LIMIT:
                self.stop(
                    StoppedError(
                        f"The server refused each of the first {self._refused} rows, and took "
                        f"none: it answered {result.status}. The mapping may be wrong; the "
                        "server's words are in the failures."
                    )
                )

    def _attempts(
        self, request: Request, transport: Transport, *, unanswered: bool
    ) -> Result | None:
        """Send until there is a result; None where the request must be split.

        Args:
            request: The request.
            transport: The connection.
            unanswered: The whole that this is a part of got no answer once.
        """
        body = compress(request.body())
        attempts, answer, trouble = 0, None, ""
        give_up = self._clock() + self._destination.retry_seconds
        while attempts < self._allowed(answer) and not self.stopped and self._rate_control.turn():
            attempts += 1
            started = self._departed(transport, request, attempts, len(body), unanswered=unanswered)
            try:
                answer = transport.post(body)
            except NotSentError as error:
                answer, trouble = None, f"could not be sent ({error})"
            except NoAnswerError as error:
                answer, trouble, unanswered = None, f"no answer came ({error})", True
            found = None if answer is None else self._verdict(answer)
            final = found is not None and found is not Verdict.RETRY
            with self._lock:
                self._under_way[id(transport)] = (request, attempts, unanswered)
                on_wire = self.in_flight
                self.in_flight -= 1
                if answer is not None:
                    took = self._clock() - started
                    self.stats += RunStats(answers=1, answer_seconds=took)
            if answer is not None and found is not None and final:
                self._rate_control.answered(self._clock() - started, on_wire)
                return self._final(request, answer, found, attempts, unanswered=unanswered)
            self._strained(answer)
            if self._clock() >= give_up:
                break
            if attempts < self._allowed(answer) and self._stopping.wait(self._wait(attempts)):
                break
        if not attempts:
            fate = Outcome.UNKNOWN if unanswered else Outcome.UNSENT
            return Result(request, fate, "stopped", "the run stopped before this row's turn")
        return self._spent(request, answer, trouble, attempts, unanswered=unanswered)

    @staticmethod
    def _verdict(answer: Answer) -> Verdict:
        return Verdict.FOREIGN if answer.foreign else retry.verdict(answer.status)

    def _allowed(self, answer: Answer | None) -> int:
        most = self._destination.max_attempts
        # An address at which nobody ever answered is soon believed to be wrong.
        return most if self._proven or answer is not None else min(_FIRST_ATTEMPTS, most)

    def _wait(self, attempts: int) -> float:
        with self._lock:
            return retry.backoff(attempts, self._rng)

    def _departed(
        self,
        transport: Transport,
        request: Request,
        attempts: int,
        size: int,
        *,
        unanswered: bool,
    ) -> float:
        """Note that a request is on the wire; gives the time."""
        with self._lock:
            stats = self.stats
            self._under_way[id(transport)] = (request, attempts, unanswered)
            self.in_flight += 1
            self.concurrency = self._rate_control.level
            self.stats = replace(
                stats,
                requests=stats.requests + 1,
                retries=stats.retries + (attempts > 1),
                wire_bytes=stats.wire_bytes + size,
                max_in_flight=max(stats.max_in_flight, self.in_flight),
                paused_seconds=self._rate_control.paused_seconds,
            )
            self._on_departure(self.in_flight)
        return self._clock()

    def _strained(self, answer: Answer | None) -> None:
        """Slow down after no answer, or one that asks for it."""
        pause = None if answer is None else retry.retry_after(answer.retry_after)
        if answer is not None and answer.status == 429:  # noqa: PLR2004  # too many requests
            with self._lock:
                self.stats += RunStats(throttled=1)
            self._rate_control.throttled()
            pause = retry.BASE_SECONDS if pause is None else pause
        else:
            self._rate_control.strained()
        if pause:
            self._rate_control.pause(pause)

    def _final(
        self,
        request: Request,
        answer: Answer,
        found: Verdict,
        attempts: int,
        *,
        unanswered: bool,
    ) -> Result | None:
        """The result of an answer that further attempts would not change."""
        status, words = answer.status, answer.words
        with self._lock:
            self._barren = 0
        if found is Verdict.ACCEPTED:
            with self._lock:
                self._proven = True
            if self._destination.strict:
                return Result(
                    request,
                    Outcome.DELIVERED,
                    status=status,
                    attempts=attempts,
                    doubtful=unanswered,
                )
            reason = "without strict mode the API answers 200 even to what it drops"
            return Result(request, Outcome.UNKNOWN, "permissive", reason, status, attempts)
        fate, doubt = Outcome.UNSENT, ""
        if unanswered:
            fate, doubt = Outcome.UNKNOWN, "; an earlier attempt may have been taken"
        said = f"the server answered {status}" + (f": {words}" if words else "")
        if found is Verdict.SPLIT and len(request) > 1 and not self.stopped:
            return None
        if found is Verdict.UNAUTHORIZED:
            self.stop(
                AuthenticationError(f"The API key was turned down (the server answered {status}).")
            )
        if found is Verdict.FOREIGN:
            self.stop(
                UnexpectedAnswerError(
                    f"{self._destination.url} does not answer as the Pipelines API does "
                    f"(it answered {status}). "
                    "Check region and base_url."
                )
            )
        if found in (Verdict.UNAUTHORIZED, Verdict.FOREIGN):
            return Result(request, fate, f"http_{status}", said + doubt, status, attempts)
        if len(request) > 1 and found is Verdict.SPLIT:
            reason = f"the run stopped while this row's request was being split; {said}{doubt}"
            return Result(request, fate, "stopped", reason, status, attempts)
        return Result(request, Outcome.REFUSED, f"http_{status}", said, status, attempts)

    def _spent(
        self,
        request: Request,
        answer: Answer | None,
        trouble: str,
        attempts: int,
        *,
        unanswered: bool,
    ) -> Result:
        """The result where no attempt brought one."""
        status, code, reason = 0, "connection", trouble
        if answer is not None:
            status, code = answer.status, f"http_{answer.status}"
            trouble = f"the server answered {status}"
            reason = f"the server answered {status}" + (f": {answer.words}" if answer.words else "")
        tried = "at the only attempt" if attempts == 1 else f"at each of {attempts} attempts"
        with self._lock:
            self._barren += 1
            if self.stopped:
                pass
            elif not self._proven:
                self.stop(
                    UnreachableError(
                        f"{self._destination.url} cannot be used: {trouble}, {tried}. No row of "
                        "this run is known to be delivered."
                    )
                )
            elif self._barren >= _BARREN_LIMIT:
                self.stop(
                    StoppedError(
                        f"The server stopped taking requests: the last {self._barren} were given "
                        f"up ({trouble}, {tried}). Try again later."
                    )
                )
        if unanswered:
            reason += "; an attempt may have been taken"
            return Result(request, Outcome.UNKNOWN, "no_answer", reason, status, attempts)
        return Result(request, Outcome.FAILED, code, reason, status, attempts)

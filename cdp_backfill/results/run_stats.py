"""The figures of a run: requests, bytes and seconds."""

from __future__ import annotations

from dataclasses import dataclass

from cdp_backfill.model import api_facts


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStats:
    """The figures of a run, or of the part of it that is over.

    Two runs, one after the other, have the figures of both added up:

    >>> both = RunStats(requests=3, max_in_flight=2) + RunStats(requests=4, max_in_flight=1)
    >>> both.requests, both.max_in_flight
    (7, 2)

    Attributes:
        requests: Requests sent, retries included.
        retries: Retries among them.
        throttled: Responses with status 429, "too many requests".
        body_bytes: Bytes of the requests that were delivered, before compression.
        wire_bytes: Bytes of all requests sent, compressed.
        max_in_flight: Most requests in flight at a time.
        paused_seconds: Seconds for which sending paused because the server asked for it.
        answers: Responses received, whatever their status.
        answer_seconds: Seconds from request to response, added up over all responses.
        packed_requests: Requests that were filled with messages, before any were split; without
            the first one, which is small on purpose.
        packed_bytes: Bytes of these, before compression.
        seconds: Seconds since the run began to read.
        delivered_before: Delivered rows that an earlier run with the same journal delivered.
        maybe_twice: Rows that may have arrived more than once.
    """

    requests: int = 0
    retries: int = 0
    throttled: int = 0
    body_bytes: int = 0
    wire_bytes: int = 0
    max_in_flight: int = 0
    paused_seconds: float = 0.0
    answers: int = 0
    answer_seconds: float = 0.0
    packed_requests: int = 0
    packed_bytes: int = 0
    seconds: float = 0.0
    delivered_before: int = 0
    maybe_twice: int = 0

    @property
    def fill(self) -> float:
        """How full the requests were on average, as a share of the limit on bytes; 0.0 to 1.0."""
        limit = self.packed_requests * api_facts.MAX_REQUEST_BYTES
        return self.packed_bytes / limit if limit else 0.0

    def __add__(self, other: RunStats) -> RunStats:
        return RunStats(
            requests=self.requests + other.requests,
            retries=self.retries + other.retries,
            throttled=self.throttled + other.throttled,
            body_bytes=self.body_bytes + other.body_bytes,
            wire_bytes=self.wire_bytes + other.wire_bytes,
            max_in_flight=max(self.max_in_flight, other.max_in_flight),
            paused_seconds=self.paused_seconds + other.paused_seconds,
            answers=self.answers + other.answers,
            answer_seconds=self.answer_seconds + other.answer_seconds,
            packed_requests=self.packed_requests + other.packed_requests,
            packed_bytes=self.packed_bytes + other.packed_bytes,
            seconds=self.seconds + other.seconds,
            delivered_before=self.delivered_before + other.delivered_before,
            maybe_twice=self.maybe_twice + other.maybe_twice,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WithStats:
    """Something with the figures of a run as attributes.

    Attributes:
        stats: All figures of the run.
    """

    stats: RunStats

    @property
    def requests(self) -> int:
        """Requests sent, retries included."""
        return self.stats.requests

    @property
    def retries(self) -> int:
        """Retries among the requests."""
        return self.stats.retries

    @property
    def throttled(self) -> int:
        """Responses with status 429, "too many requests"."""
        return self.stats.throttled

    @property
    def body_bytes(self) -> int:
        """Bytes delivered, before compression."""
        return self.stats.body_bytes

    @property
    def wire_bytes(self) -> int:
        """Bytes sent, compressed."""
        return self.stats.wire_bytes

    @property
    def fill(self) -> float:
        """How full the requests were on average, as a share of the limit on bytes; 0.0 to 1.0."""
        return self.stats.fill

    @property
    def seconds(self) -> float:
        """Seconds since the run began to read."""
        return self.stats.seconds

    @property
    def delivered_before(self) -> int:
        """Delivered rows that an earlier run delivered, according to the journal."""
        return self.stats.delivered_before

    @property
    def maybe_twice(self) -> int:
        """Rows that may have arrived more than once.

        An attempt got no response, in this run or in an earlier one with the same journal, or an
        earlier run crashed while they were under way.
        """
        return self.stats.maybe_twice

    @property
    def max_in_flight(self) -> int:
        """Most requests in flight at a time."""
        return self.stats.max_in_flight

    @property
    def paused_seconds(self) -> float:
        """Seconds for which sending paused because the server asked for it."""
        return self.stats.paused_seconds

    @property
    def answers(self) -> int:
        """Responses received, whatever their status."""
        return self.stats.answers

    @property
    def answer_seconds(self) -> float:
        """Seconds from request to response, added up over all responses."""
        return self.stats.answer_seconds

"""What the workers report: the result of each request, and the traffic so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cdp_backfill.messages.packing import Request
    from cdp_backfill.model.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class RequestResult:
    """The outcome of a request. All of its messages share it.

    Attributes:
        request: The request, or a part of a request that was split.
        outcome: The outcome of its messages.
        code: Short name of the reason.
        reason: The reason as text, with the server's own reason where it gave one.
        status: HTTP status of the last answer, or 0.
        attempts: Number of attempts.
        doubtful: It was delivered, but an earlier attempt got no answer, so that the server may
            have accepted it twice.
    """

    request: Request
    outcome: Outcome
    code: str = ""
    reason: str = ""
    status: int = 0
    attempts: int = 0
    doubtful: bool = False


@dataclass(slots=True)
class Stats:
    """What went over the wire so far.

    Attributes:
        requests: Requests sent, further attempts included.
        retries: Further attempts among them.
        throttled: Answers of 429.
        body_bytes: Bytes of the bodies before compression, of requests that were delivered.
        wire_bytes: Bytes of the compressed bodies, of all attempts.
        in_flight: Requests under way.
        max_in_flight: Most of them at a time.
        level: Requests that may be under way.
        paused_seconds: How long the server made everyone wait.
        answers: Answers that came, whatever they said.
        answer_seconds: How long all of these took together.
    """

    requests: int = 0
    retries: int = 0
    throttled: int = 0
    body_bytes: int = 0
    wire_bytes: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    level: int = 0
    paused_seconds: float = 0.0
    answers: int = 0
    answer_seconds: float = 0.0

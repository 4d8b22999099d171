"""A request on its way through the sender."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cdp_backfill.delivery.transport import compress

if TYPE_CHECKING:
    from cdp_backfill.delivery.bisection import Bisection
    from cdp_backfill.delivery.transport import Answer
    from cdp_backfill.messages.packing import Request


@dataclass(slots=True, eq=False)
class Task:
    """A request with its attempts so far. If the server refuses it, its parts take its place.

    Attributes:
        request: The request, or the part of one.
        bisection: How to split it; shared by all parts of a request.
        is_small: It is not filled as a whole request is.
        inherited: Attempts of requests that it is a part of which the server may have accepted.
        attempts: Number of attempts.
        unanswered: Those among them that the server may have accepted: they got no answer, or one
            that tells of a failure.
        answer: The answer to the last attempt, or None if there was none.
        failure: Why the last attempt got no answer.
        begun: When the first attempt began.
        on_wire: An attempt is in flight.
        failed_beside_others: Failed attempts before which another request succeeded.
        successes: Successes of all requests at the last attempt.
    """

    request: Request
    bisection: Bisection
    is_small: bool = False
    inherited: int = 0
    attempts: int = 0
    unanswered: int = 0
    answer: Answer | None = None
    failure: str = ""
    begun: float = 0.0
    on_wire: bool = False
    failed_beside_others: int = 0
    successes: int = 0
    _body: bytes | None = None

    @property
    def doubts(self) -> int:
        """Attempts that the server may have accepted, though no success was answered."""
        return self.inherited + self.unanswered + self.on_wire

    @property
    def last_failure(self) -> str:
        """Why the last attempt failed, without the server's reason, which can quote a row."""
        return self.failure if self.answer is None else f"the server answered {self.answer.status}"

    def body(self) -> bytes:
        """The compressed body."""
        if self._body is None:
            self._body = compress(self.request.body())
        return self._body

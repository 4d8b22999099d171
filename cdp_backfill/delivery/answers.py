"""What an answer of the server means for the messages of a request."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from cdp_backfill.delivery.request_result import RequestResult
from cdp_backfill.errors import AuthenticationError, StoppedError, UnexpectedAnswerError
from cdp_backfill.model.outcomes import Outcome

if TYPE_CHECKING:
    from cdp_backfill.delivery.transport import Answer
    from cdp_backfill.messages.packing import Request


class Verdict(Enum):
    """What an answer means for the request."""

    ACCEPTED = "the server accepted it"
    SPLIT = "a message in it is wrong, or the request is too large"
    REFUSED = "no further attempt can succeed"
    RETRY = "another attempt may succeed"
    UNAUTHORIZED = "the API key is wrong"
    UNEXPECTED = "the server is not the Pipelines API"


_BY_STATUS: Final = {
    400: Verdict.SPLIT,
    413: Verdict.SPLIT,
    422: Verdict.SPLIT,
    401: Verdict.UNAUTHORIZED,
    403: Verdict.UNAUTHORIZED,
    404: Verdict.UNEXPECTED,
    405: Verdict.UNEXPECTED,
    408: Verdict.RETRY,
    425: Verdict.RETRY,
    429: Verdict.RETRY,
}
_BY_STATUS_CLASS: Final = {
    1: Verdict.UNEXPECTED,
    2: Verdict.ACCEPTED,
    3: Verdict.UNEXPECTED,
    4: Verdict.REFUSED,
    5: Verdict.RETRY,
}


def status_verdict(status: int) -> Verdict:
    """The verdict of an HTTP status."""
    return _BY_STATUS.get(status) or _BY_STATUS_CLASS.get(status // 100, Verdict.UNEXPECTED)


def answer_verdict(answer: Answer) -> Verdict:
    """The verdict of an answer."""
    return Verdict.UNEXPECTED if answer.unexpected_body else status_verdict(answer.status)


def answer_error(answer: Answer, url: str) -> StoppedError | None:
    """The error that an answer ends the run with, or None."""
    verdict = answer_verdict(answer)
    if verdict is Verdict.UNAUTHORIZED:
        return AuthenticationError(
            f"The server rejected the API key (it answered {answer.status}). Check the key and "
            "the region."
        )
    if verdict is Verdict.UNEXPECTED:
        return UnexpectedAnswerError(
            f"The server at {url} is not the Pipelines API (it answered {answer.status}). Check "
            "region and base_url."
        )
    return None


def answered_result(
    request: Request,
    answer: Answer,
    attempts: int,
    *,
    strict: bool,
    unanswered: bool,
) -> RequestResult:
    """The result of an answer that further attempts would not change.

    An answer that asks for a split of several messages gives the result of a run that stops first.

    Args:
        request: The request.
        answer: The answer to its last attempt.
        attempts: Number of attempts.
        strict: The request asked for strict mode.
        unanswered: An earlier attempt got no answer, so that the server may have accepted it.
    """
    verdict, status = answer_verdict(answer), answer.status
    if verdict is Verdict.ACCEPTED:
        if strict:
            return RequestResult(
                request, Outcome.DELIVERED, status=status, attempts=attempts, doubtful=unanswered
            )
        reason = "without strict mode the API answers 200 even for messages that it drops"
        return RequestResult(request, Outcome.UNKNOWN, "permissive", reason, status, attempts)
    reason = answer_text(answer)
    splittable = verdict is Verdict.SPLIT and len(request) > 1
    if not splittable and verdict not in (Verdict.UNAUTHORIZED, Verdict.UNEXPECTED):
        return RequestResult(request, Outcome.REFUSED, f"http_{status}", reason, status, attempts)
    outcome = Outcome.UNSENT
    if unanswered:
        outcome = Outcome.UNKNOWN
        reason += "; the server may have accepted an earlier attempt"
    if splittable:
        reason = f"the run stopped while this row's request was being split; {reason}"
        return RequestResult(request, outcome, "stopped", reason, status, attempts)
    return RequestResult(request, outcome, f"http_{status}", reason, status, attempts)


def exhausted_result(
    request: Request,
    answer: Answer | None,
    failure: str,
    attempts: int,
    *,
    unanswered: bool,
) -> RequestResult:
    """The result of a request whose attempts all failed.

    Args:
        request: The request.
        answer: The answer to its last attempt, or None if there was none.
        failure: Why the last attempt got no answer.
        attempts: Number of attempts; 0 if the run stopped before the first.
        unanswered: An attempt got no answer, so that the server may have accepted it.
    """
    if not attempts:
        outcome = Outcome.UNKNOWN if unanswered else Outcome.UNSENT
        return RequestResult(
            request, outcome, "stopped", "the run stopped before this row was sent"
        )
    status, code, reason = 0, "connection", failure
    if answer is not None:
        status, code, reason = answer.status, f"http_{answer.status}", answer_text(answer)
    if unanswered:
        reason += "; the server may have accepted an attempt"
        return RequestResult(request, Outcome.UNKNOWN, "no_answer", reason, status, attempts)
    return RequestResult(request, Outcome.FAILED, code, reason, status, attempts)


def answer_text(answer: Answer) -> str:
    """The status of an answer and the server's own reason."""
    return f"the server answered {answer.status}" + (f": {answer.reason}" if answer.reason else "")

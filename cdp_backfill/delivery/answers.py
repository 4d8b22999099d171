"""What an answer of the server means for the messages of a request."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from cdp_backfill.delivery.request_result import RequestResult
from cdp_backfill.errors import AuthenticationError, StoppedError, UnexpectedAnswerError
from cdp_backfill.model import api_facts
from cdp_backfill.model.outcomes import Outcome

if TYPE_CHECKING:
    from cdp_backfill.delivery.transport import Answer
    from cdp_backfill.messages.packing import Request


class Verdict(Enum):
    """What an answer means for the request."""

    ACCEPTED = "the server accepted it"
    SPLIT = "a message in it is wrong, or the request is too large"
    RETRY = "the server did not accept it; another attempt may succeed"
    FAILED = "the server, or a gateway to it, failed, perhaps after it accepted the request"
    UNAUTHORIZED = "the API key is wrong"
    UNPAID = "the account has to be paid for"
    PROXY = "the proxy asks for a user and a password"
    UNWANTED = "the server takes no such request, whatever its rows"
    UNEXPECTED = "the server is not the Pipelines API"
    UNCLEAR = "a success in words that the Pipelines API does not use"


RETRIED: Final = (Verdict.RETRY, Verdict.FAILED)
"""Verdicts after which the same request is sent again."""

_BY_STATUS: Final = {
    400: Verdict.SPLIT,
    409: Verdict.SPLIT,
    413: Verdict.SPLIT,
    422: Verdict.SPLIT,
    401: Verdict.UNAUTHORIZED,
    402: Verdict.UNPAID,
    403: Verdict.UNAUTHORIZED,
    404: Verdict.UNEXPECTED,
    405: Verdict.UNEXPECTED,
    407: Verdict.PROXY,
    408: Verdict.FAILED,
    425: Verdict.RETRY,
    429: Verdict.RETRY,
}
_BY_STATUS_CLASS: Final = {
    1: Verdict.UNEXPECTED,
    2: Verdict.ACCEPTED,
    3: Verdict.UNEXPECTED,
    4: Verdict.UNWANTED,
    5: Verdict.FAILED,
}


def status_verdict(status: int) -> Verdict:
    """The verdict of an HTTP status."""
    return _BY_STATUS.get(status) or _BY_STATUS_CLASS.get(status // 100, Verdict.UNEXPECTED)


def answer_verdict(answer: Answer) -> Verdict:
    """The verdict of an answer."""
    return Verdict.UNCLEAR if answer.unclear else status_verdict(answer.status)


def answer_error(answer: Answer, url: str) -> StoppedError | None:
    """The error that an answer ends the run with, or None."""
    verdict, status = answer_verdict(answer), answer.status
    if verdict is Verdict.UNAUTHORIZED:
        return AuthenticationError(_rejected(url, status))
    if verdict is Verdict.UNPAID:
        return StoppedError(
            f"The server wants a payment first (it answered {status}). Check the plan and the "
            "limits of the account in Customer.io, then send the rest."
        )
    if verdict is Verdict.PROXY:
        return UnexpectedAnswerError(
            f"The proxy on the way to {url} wants a user name and a password (it answered "
            f"{status}). Put them into the address in HTTPS_PROXY or HTTP_PROXY, or name the "
            "server in NO_PROXY."
        )
    if verdict is Verdict.UNWANTED:
        return UnexpectedAnswerError(
            f"The server at {url} takes no request like this, whatever its rows (it answered "
            f"{status}). Check region and base_url, or try again later."
        )
    if verdict is Verdict.UNCLEAR:
        return UnexpectedAnswerError(
            f"The server at {url} answered {status}, but not with a JSON object as the Pipelines "
            "API does, so it may have accepted the rows or not. Check region and base_url."
        )
    if verdict is Verdict.UNEXPECTED:
        return UnexpectedAnswerError(
            f"The server at {url} is not the Pipelines API (it answered {status}). Check region "
            "and base_url."
        )
    return None


def _rejected(url: str, status: int) -> str:
    """What to check where the server rejects the key."""
    which = "It must be the API key of a Pipelines source (the write key), not of the Track API"
    region = next((name for name, address in api_facts.REGIONS.items() if address == url), None)
    if region is None:
        return f"The server at {url} rejected the API key (it answered {status}). {which}."
    other = next(name for name in api_facts.REGIONS if name != region)
    return (
        f"The server of the region {region!r} ({url}) rejected the API key (it answered {status}). "
        f"{which}, and of the same region. If your account is in the other one, pass "
        f"region={other!r}."
    )


def answered_result(
    request: Request, answer: Answer, attempts: int, *, strict: bool, doubts: int
) -> RequestResult:
    """The result of an answer that further attempts would not change.

    An answer that asks for a split of several messages gives the result of a run that stops first.

    Args:
        request: The request.
        answer: The answer to its last attempt.
        attempts: Number of attempts.
        strict: The request asked for strict mode.
        doubts: Earlier attempts that the server may have accepted.
    """
    verdict, status = answer_verdict(answer), answer.status
    if verdict is Verdict.ACCEPTED:
        if strict:
            return RequestResult(
                request, Outcome.DELIVERED, status=status, attempts=attempts, doubts=doubts
            )
        reason = "without strict mode the API answers 200 even for messages that it drops"
        return RequestResult(
            request, Outcome.UNKNOWN, "permissive", reason, status, attempts, doubts + 1
        )
    code, reason = f"http_{status}", answer_text(answer)
    if verdict is Verdict.UNCLEAR:
        reason += ", but not with a JSON object; it may have accepted the row"
        return RequestResult(request, Outcome.UNKNOWN, code, reason, status, attempts, doubts + 1)
    outcome = Outcome.UNSENT
    if verdict is Verdict.SPLIT:
        if len(request) > 1:
            code = "stopped"
            reason = f"the run stopped while this row's request was being split; {reason}"
        else:
            outcome = Outcome.REFUSED
    if doubts:
        outcome = Outcome.UNKNOWN
        reason += "; the server may have accepted an earlier attempt"
    return RequestResult(request, outcome, code, reason, status, attempts, doubts)


def exhausted_result(
    request: Request,
    answer: Answer | None,
    failure: str,
    attempts: int,
    *,
    doubts: int,
) -> RequestResult:
    """The result of a request whose attempts all failed.

    Args:
        request: The request.
        answer: The answer to its last attempt, or None if there was none.
        failure: Why the last attempt got no answer.
        attempts: Number of attempts; 0 if the run stopped before the first.
        doubts: Attempts that the server may have accepted.
    """
    if not attempts:
        outcome, reason = Outcome.UNSENT, "the run stopped before this row's turn"
        if doubts:
            outcome = Outcome.UNKNOWN
            reason = (
                "the run stopped while this row's request was being split; "
                "the server may have accepted an earlier attempt"
            )
        return RequestResult(request, outcome, "stopped", reason, doubts=doubts)
    status, code, reason = 0, "connection", failure
    if answer is not None:
        status, code, reason = answer.status, f"http_{answer.status}", answer_text(answer)
    if doubts:
        reason += "; the server may have accepted an attempt"
        if answer is not None and answer_verdict(answer) is Verdict.FAILED:
            return RequestResult(request, Outcome.UNKNOWN, code, reason, status, attempts, doubts)
        return RequestResult(
            request, Outcome.UNKNOWN, "no_answer", reason, status, attempts, doubts
        )
    return RequestResult(request, Outcome.FAILED, code, reason, status, attempts)


def answer_text(answer: Answer) -> str:
    """The status of an answer and the server's own reason."""
    return f"the server answered {answer.status}" + (f": {answer.reason}" if answer.reason else "")

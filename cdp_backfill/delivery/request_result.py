"""What the workers report: the result of each request."""

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
        doubts: Attempts without a conclusive answer, also to requests that it is a part of. The
            server may have accepted each of them.
        inherited: Those among them to requests that it is a part of.
    """

    request: Request
    outcome: Outcome
    code: str = ""
    reason: str = ""
    status: int = 0
    attempts: int = 0
    doubts: int = 0
    inherited: int = 0

"""What became of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cdp_backfill.messages.packing import Request
    from cdp_backfill.model.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class Result:
    """What became of the messages of a request; all of them the same.

    Attributes:
        request: The request, or a part of one that was split.
        outcome: What became of it.
        code: Short name of the reason.
        reason: In words; the server's own where it gave any.
        status: HTTP status of the last answer, or 0.
        attempts: How often it was sent.
        doubtful: It was delivered, and an earlier attempt may have been taken too.
    """

    request: Request
    outcome: Outcome
    code: str = ""
    reason: str = ""
    status: int = 0
    attempts: int = 0
    doubtful: bool = False

"""What can become of a row, and what can be wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Outcome(StrEnum):
    """What became of an input row. Every row has exactly one.

    >>> Outcome.DELIVERED
    <Outcome.DELIVERED: 'delivered'>
    """

    DELIVERED = "delivered"
    """Answered with 2xx under strict mode."""
    INVALID = "invalid"
    """Failed a check here; never sent."""
    REFUSED = "refused"
    """The server turned down this very row."""
    FAILED = "failed"
    """Retries are spent, and the server is known not to have taken it."""
    UNKNOWN = "unknown"
    """It left and no answer came, or none that says anything: it may have been taken."""
    HELD = "held"
    """Too recent, and the run was told to hold such rows back."""
    SKIPPED = "skipped"
    """The mapping leaves this event out on purpose."""
    UNSENT = "unsent"
    """The run stopped before its turn."""

    @property
    def code(self) -> int:
        """Small number that stands for the outcome in arrays."""
        return _CODES[self]

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do for such a row."""
        return self in (Outcome.DELIVERED, Outcome.SKIPPED)


OUTCOMES: Final = tuple(Outcome)
_CODES: Final = {outcome: number for number, outcome in enumerate(OUTCOMES)}


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a row cannot be sent.

    Attributes:
        code: Short fixed name, one of :data:`PROBLEMS`.
        column: The column to blame, or None where it is not one column.
        reason: In words, without any value of the row.
    """

    code: str
    column: str | None
    reason: str


PROBLEMS: Final[dict[str, str]] = {
    "missing_user": "Fill the user id or the anonymous id; one of them is required.",
    "bad_user": "Give ids as text or whole numbers; larger whole numbers than 2^53 only as text.",
    "bad_message_id": "Give message ids as text or whole numbers, or leave them empty.",
    "missing_event": "Fill the event column, or give a constant with lit().",
    "unknown_event": "Translate the value with events={...}, or choose other_events.",
    "missing_time": "Fill the time column: without it the API would record the time of receipt.",
    "bad_time": "Give ISO 8601 text, a time type, or numbers with the right timestamp_unit.",
    "nonexistent_time": "The clock of the stated time zone skipped this time of day.",
    "bad_boolean": "Give true or false.",
    "bad_device_type": "Give android or ios.",
    "bad_text": "The text is not valid UTF-8; decode it with its own encoding first.",
    "not_finite": "JSON has no infinity; replace it or leave it empty.",
    "oversize": "A message may have 32,000 bytes; shorten or drop the column named.",
    "recent": "recent='send' sends such rows.",
}
"""Codes of what is found wrong here, with what to do about each."""

FAILURE_COLUMNS: Final = (
    "cdp_outcome",
    "cdp_code",
    "cdp_reason",
    "cdp_status",
    "cdp_attempts",
    "cdp_message_id",
    "cdp_source",
    "cdp_row",
)
"""What a report adds to the columns of a failed row; never sent, so that it can be sent again."""

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
    """It left and no answer came, or none that says anything; it may have been taken."""
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
        code: Short fixed name, one of ``PROBLEMS``.
        column: The column to blame, or None where it is not one column.
        reason: In words, without any value of the row.
    """

    code: str
    column: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Fix:
    """What was mended in a cell on its way.

    Attributes:
        code: One of ``FIXES``.
        column: The column.
    """

    code: str
    column: str


FIXES: Final[dict[str, str]] = {
    "trimmed": "white space around it was taken away",
    "null_word": "a word for nothing, such as NULL or (not set), was read as an empty cell",
    "zero_id": "an id of zeros only was read as an empty cell",
    "whole_float": "a whole number kept as a float was written without its .0",
    "integer_float": "whole numbers that empty cells had made floats were written as integers",
    "version_float": "a version kept as a float was written as text: 1.10 and 1.1 are one number",
    "epoch_s": "a number was read as seconds since 1970, by its size",
    "epoch_ms": "a number was read as milliseconds since 1970, by its size",
    "epoch_us": "a number was read as microseconds since 1970, by its size",
    "epoch_ns": "a number was read as nanoseconds since 1970, by its size",
    "shown_twice": "a local time that the clock showed twice was read as the first of the two",
    "boolean_word": "a word or a number was read as true or false",
    "bytes_text": "bytes were read as UTF-8 text",
    "json_text": "text that holds JSON was sent as what it says",
    "not_json": "text that holds no JSON was sent as text",
    "mixed_list": "a list of values of different kinds was sent as JSON text",
    "expanded": "its parts became properties under their own names",
    "name_taken": "a part was left out, since a property of its name is there already",
    "dropped": "it was left out, since the message was too large",
}
"""Codes of what is mended here, in words. All are counted; none is done silently."""

PROBLEMS: Final[dict[str, str]] = {
    "missing_user": "Fill the user id or the anonymous id; one of them is required.",
    "bad_user": "Give ids as text or whole numbers; larger whole numbers than 2^53 only as text. A "
    "float that large, or text such as 1.2E+15, has lost its last digits: read the source anew.",
    "bad_message_id": "Give message ids as text or whole numbers, or leave them empty.",
    "missing_event": "Fill the event column, or give a constant with lit().",
    "unknown_event": "Translate the value with events={...}, or choose other_events.",
    "missing_time": "Fill the time column: without it the API would record the time of receipt.",
    "bad_time": "Give ISO 8601 text, a time type, or numbers with the right timestamp_unit. Other "
    "formats: derive={'when': \"strptime(col, '%m/%d/%Y %H:%M')\"}, timestamp='when'.",
    "unclear_time": "A number could be of two units, or of none: say timestamp_unit.",
    "too_early": "There were no app stores then: a wrong unit, a reset clock or a placeholder. "
    "If it is right, set earliest to a day before it.",
    "in_future": "An event cannot lie ahead: a wrong unit, a wrong clock or a placeholder.",
    "nonexistent_time": "The clock of the stated time zone skipped this time of day.",
    "bad_boolean": "Give true or false.",
    "bad_device_type": "Give android or ios.",
    "bad_text": "The text is not valid UTF-8; decode it with its own encoding first.",
    "derive_failed": "The expression in derive fails here; TRY_CAST gives an empty cell instead.",
    "not_finite": "JSON has no infinity; replace it or leave it empty.",
    "oversize": "A message may have 32,000 bytes; shorten or drop the column named, or name it in "
    "droppable with oversize='drop_largest'.",
    "recent": "recent='send' sends such rows.",
    "duplicate": "duplicates='send' sends such rows too.",
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
    "cdp_run",
)
"""What a report adds to the columns of a failed row; never sent, so that it can be sent again."""

MAPPING_ATTRIBUTE: Final = "cdp_mapping"
"""Entry of ``DataFrame.attrs`` in which failures carry their mapping, as TOML."""

URL_ATTRIBUTE: Final = "cdp_url"
"""Entry of ``DataFrame.attrs`` in which failures carry the address that they were sent to."""

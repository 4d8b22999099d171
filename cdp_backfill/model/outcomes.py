"""Outcomes of rows, problems with rows, and fixes of cells."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Outcome(StrEnum):
    """What became of an input row. Every row has exactly one outcome.

    >>> Outcome.DELIVERED
    <Outcome.DELIVERED: 'delivered'>
    """

    DELIVERED = "delivered"
    """The server answered 2xx in strict mode."""
    INVALID = "invalid"
    """The row failed a check here and was never sent."""
    REFUSED = "refused"
    """The server refused this very row."""
    FAILED = "failed"
    """All retries failed, and the server certainly did not accept the row."""
    UNKNOWN = "unknown"
    """The row was sent without a conclusive answer; the server may have accepted it."""
    HELD = "held"
    """The row is recent, and the run holds such rows back."""
    SKIPPED = "skipped"
    """The row is left out; on purpose, unless its code is ``unmapped_event``."""
    UNSENT = "unsent"
    """The run stopped before it sent the row."""

    @property
    def code(self) -> int:
        """The number of the outcome in arrays."""
        return _CODES[self]

    @property
    def settled(self) -> bool:
        """Whether such a row needs nothing more, because it is delivered or skipped."""
        return self in (Outcome.DELIVERED, Outcome.SKIPPED)

    @property
    def wanted(self) -> bool:
        """Whether such a row is delivered, or left out or held on request."""
        return self in (Outcome.DELIVERED, Outcome.SKIPPED, Outcome.HELD)


OUTCOMES: Final = tuple(Outcome)
_CODES: Final = {outcome: number for number, outcome in enumerate(OUTCOMES)}


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a row cannot be sent.

    Attributes:
        code: Short fixed name, one of ``PROBLEMS``.
        column: The column that causes it, or None if it is not one column.
        reason: The reason in words, without any cell.
    """

    code: str
    column: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Fix:
    """A change that reading makes to cells of a column.

    Attributes:
        code: One of ``FIXES``.
        column: The column.
    """

    code: str
    column: str


FIXES: Final[dict[str, str]] = {
    "trimmed": "white space around the value was removed",
    "null_word": "a null word, such as NULL or (not set), was read as an empty cell",
    "zero_id": "an id of zeros only was read as an empty cell",
    "whole_float": "a whole number stored as a float was written without .0",
    "integer_float": "whole numbers that empty cells made floats were written as integers",
    "version_float": "a version stored as a float was written as text; 1.10 and 1.1 are one float",
    "epoch_s": "a number was read as seconds since 1970, because of its size",
    "epoch_ms": "a number was read as milliseconds since 1970, because of its size",
    "epoch_us": "a number was read as microseconds since 1970, because of its size",
    "epoch_ns": "a number was read as nanoseconds since 1970, because of its size",
    "sdk_spelling": "a value was written as the vendor's SDKs write it, such as iOS or en-US",
    "shown_twice": "a local time that occurred twice was read as ambiguous= says",
    "shifted_forward": "a local time that the zone skipped was read as the moment after the gap",
    "day_number": "a number such as 20230915 was read as a date",
    "midnight": "a date without a time of day was read as 00:00 of that day",
    "boolean_word": "a word or a number was read as true or false",
    "bytes_text": "bytes were read as UTF-8 text",
    "json_text": "text that holds JSON was sent as its value",
    "not_json": "text that is not JSON was sent as text",
    "mixed_list": "a list of values of different types was sent as JSON text",
    "expanded": "its parts became properties under their own names",
    "name_taken": "a part was left out, because another property has its name",
    "dropped": "the value was left out, because the message was too large",
}
"""Fix codes, and what each does. Every fix is counted, and none is silent."""

AMBIGUOUS: Final = "ambiguous_identity"
"""Code of an anonymous id that has more than one user id."""

UNMAPPED: Final = "unmapped_event"
"""Code of rows that are skipped although nobody chose so: their event value is not mapped."""

NOT_WHERE: Final = "not_where"
"""Code of rows that are skipped because ``where=`` is not true for them."""

EXCLUDED: Final = "excluded"
"""Code of rows that are skipped because ``exclude=`` names one of their ids."""

PROBLEMS: Final[dict[str, str]] = {
    "unreadable": "Correct the line in the file: cdp_line has its number, and cdp_text its text. "
    "Or fill the other columns of the failures, empty cdp_unreadable, and send them again.",
    "missing_user": "Fill the user id or the anonymous id; every event needs one of them, and an "
    "identity both.",
    "bad_user": "Pass ids as text or whole numbers, and whole numbers above 2^53 as text. A float "
    "that large, or text such as 1.2E+15, has lost its last digits: read the source again.",
    AMBIGUOUS: "The anonymous id has more than one user id, and nothing tells which of "
    "them is right. Keep one of these rows, or none.",
    "bad_message_id": "Pass message ids as text or whole numbers, or leave them empty.",
    "missing_event": "Fill the event column, or pass a constant with lit().",
    "unknown_event": "Translate the value with events={...}, or choose other_events.",
    UNMAPPED: "Translate the value with events={...}, or choose what becomes of such rows: "
    "other_events='skip' leaves them out on purpose, other_events='send' sends them.",
    "command": "Such an event deletes or changes people, devices or objects. To send it all the "
    "same, name it in allow_commands=[...].",
    "missing_time": "Fill the time column. Without it, the API would record the time of receipt.",
    "bad_time": "Use ISO 8601 text, a time type, or numbers with the right timestamp_unit. For "
    "dates in another order, date_order='MDY'; for other formats, "
    "derive={'when': \"strptime(col, '%H:%M %m/%d/%Y')\"}, timestamp='when'.",
    "unclear_time": "A number can have two units, or a date two orders. For numbers, pass "
    "timestamp_unit='s', 'ms', 'us' or 'ns'; for dates, date_order='DMY' or 'MDY'.",
    "too_early": "There were no app stores then: the unit is wrong, a clock was reset, or the time "
    "is a placeholder. If it is right, set earliest to a day before it.",
    "in_future": "The time is in the future: the unit or a clock is wrong, or the time is a "
    "placeholder.",
    "nonexistent_time": "The time zone skipped this local time when the clocks went forward. To "
    "take the first moment after the gap, pass nonexistent='shift_forward'.",
    "ambiguous_time": "The time zone had this local time twice when the clocks went back. To take "
    "the first of the two, pass ambiguous='earliest'; for the second, ambiguous='latest'.",
    "bad_boolean": "Use true or false.",
    "bad_device_type": "Use android or ios, or the name of a system of theirs.",
    "bad_text": "The text is not valid UTF-8. Decode it with its own encoding first.",
    "derive_failed": "The expression in derive fails for this row. Write TRY(...) around it for an "
    "empty cell instead.",
    "where_failed": "The expression in where= fails for this row. Write TRY(...) around the part "
    "that fails, for an empty value instead.",
    "not_finite": "JSON has no infinity. Replace the value or leave it empty.",
    "oversize": "A message may have 32,000 bytes. Shorten or drop the column, or name it in "
    "droppable with oversize='drop_largest'.",
    "recent": "recent='send' sends such rows.",
    "duplicate": "duplicates='send' sends such rows too.",
    NOT_WHERE: "Nothing, if the row is to stay out. To send it, change where=.",
    EXCLUDED: "Nothing, if the person is to stay out. To send the row, leave the id out of "
    "exclude=.",
}
"""Problem codes, and what to do about each."""

UNREADABLE: Final = "cdp_unreadable"
"""Column that says why a row cannot be read; empty for all other rows."""

LINE: Final = "cdp_line"
"""Column with the number of the line of a row that cannot be read, from 1."""

TEXT: Final = "cdp_text"
"""Column with the text of a row that cannot be read, as it stands in its file."""

READING_COLUMNS: Final = (UNREADABLE, LINE, TEXT)
"""Columns that a file has if rows of it cannot be read and are to be skipped. Never sent."""

RUN_CODES: Final = (
    "connection",
    "no_answer",
    "cancelled",
    "permissive",
    "stopped",
    "error",
    "canary",
)
"""Codes that a run gives to rows, beside those of HTTP, which are made from the status."""

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
"""Columns that a report adds to failed rows. They are never sent, so failures can be sent again."""

MAPPING_ATTRIBUTE: Final = "cdp_mapping"
"""Entry of ``DataFrame.attrs`` in which failures carry their mapping, as TOML."""

LEFT_OUT_ATTRIBUTE: Final = "cdp_left_out"
"""Entry of ``DataFrame.attrs`` in which failures carry what their run left out on request."""

JSON_ATTRIBUTE: Final = "cdp_json"
"""Entry of ``DataFrame.attrs`` that names the columns whose text is JSON of cells of several types;
pandas reads it from the parquet file of saved failures."""

URL_ATTRIBUTE: Final = "cdp_url"
"""Entry of ``DataFrame.attrs`` in which failures carry the address that they were sent to."""

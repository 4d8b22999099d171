"""Rows of text files that cannot be read, and why: rows of their own that have no cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec
import pyarrow as pa

from cdp_backfill.model.outcomes import LINE, READING_COLUMNS, TEXT, UNREADABLE
from cdp_backfill.sources.texts.quoting import ESCAPED
from cdp_backfill.sources.texts.reading import UNDECODED

UNDECODED_BYTES: Final = UNDECODED.encode()

READING_SCHEMA: Final = pa.schema(
    [(UNREADABLE, pa.string()), (LINE, pa.int64()), (TEXT, pa.string())]
)
"""The columns that say which rows cannot be read, and why."""

NO_TEXT: Final = "some of its bytes are no text"
NO_JSON: Final = "it is not valid JSON"
NO_OBJECT: Final = "it is not a JSON object"
CUT: Final = "the file ends inside it"
QUOTES: Final = "a quote in it is not closed, or text follows a closing quote"
FEWER: Final = "it has fewer fields than the header"
MORE: Final = "it has more fields than the header"
NO_ROW: Final = "it is not a row of CSV"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that cannot be read.

    Attributes:
        reason: Why, in words.
        line: Number of its first line in the file, from 1.
        text: It, as UTF-8.
    """

    reason: str
    line: int
    text: bytes

    @property
    def shown(self) -> str:
        """The text, as far as it is text."""
        text = self.text.decode("utf-8", "replace")
        return text.replace(UNDECODED, "\ufffd").replace(ESCAPED, '\\"').rstrip("\r\n")

    def as_object(self) -> dict[str, msgspec.Raw]:
        """The row as a JSON object of the columns that say so."""
        values = (self.reason, self.line, self.shown)
        return {
            name: msgspec.Raw(msgspec.json.encode(value))
            for name, value in zip(READING_COLUMNS, values, strict=True)
        }

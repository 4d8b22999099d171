"""Rows to try things on."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pyarrow as pa
from hypothesis import strategies as st

from cdp_backfill import Mapping, lit
from cdp_backfill.messages import MessageBatch, bind, build
from cdp_backfill.messages.encoding import ContextScope, encode

OPENED = Mapping(user_id="uid", event=lit("Application Opened"), timestamp="ts")

# Every kind of trouble that text can make in JSON.
texts = st.text(
    st.characters(codec="utf-8") | st.sampled_from('"\\/\b\f\n\r\t\x00\x1f\x7f\u2028é€😀'),
    max_size=20,
)


def batch(columns: dict[str, Any], rows: int | None = None) -> Any:
    """A record batch with an id and a time for each row, and these columns."""
    rows = rows if rows is not None else len(next(iter(columns.values())))
    whole = {
        "uid": [f"u{number}" for number in range(rows)],
        "ts": ["2023-05-01T10:00:00Z"] * rows,
    } | columns
    arrays = [value if isinstance(value, pa.Array) else pa.array(value) for value in whole.values()]
    return pa.RecordBatch.from_arrays(arrays, list(whole))


def built(columns: dict[str, Any], mapping: Mapping = OPENED, **change: Any) -> MessageBatch:
    """The message fields of a table with these columns."""
    table = batch(columns)
    chosen = Mapping.from_dict(mapping.to_dict() | change) if change else mapping
    return build(bind(chosen, table.schema), table)


def payloads(messages: MessageBatch, scope: ContextScope = "message") -> list[dict[str, Any]]:
    """The messages as whoever receives them reads them, in the order of the rows."""
    result: dict[int, dict[str, Any]] = {}
    for part in encode(
        messages.fields,
        messages.millis,
        call="identify" if messages.event_names is None else "track",
        message_id=messages.message_id,
        context_scope=scope,
    ):
        top = json.loads(b"{" + part.head.rstrip(b",") + b"}")
        for number, row in enumerate(part.rows):
            result[int(row)] = top | json.loads(part.message(number))
    return [result[row] for row in sorted(result)]


def properties(columns: dict[str, Any], **change: Any) -> list[dict[str, Any]]:
    """The properties of each row."""
    return [payload.get("properties", {}) for payload in payloads(built(columns, **change))]


def codes(messages: MessageBatch) -> dict[int, list[str]]:
    """The problems of each row."""
    return {
        int(row): [problem.code for problem in problems]
        for rows, problems in messages.problems.groups()
        for row in rows
    }


def opens(rows: int = 3, **columns: Any) -> pd.DataFrame:
    """A frame of app opens, for sending."""
    return pd.DataFrame(
        {
            "uid": [f"u{number}" for number in range(rows)],
            "ts": pd.date_range("2023-05-01T10:00:00Z", periods=rows, freq="s"),
        }
        | columns
    )

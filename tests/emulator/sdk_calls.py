"""What tests of SDKs share: the calls that they make, and how to look at what was stored."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final

import httpx
import pandas as pd

from cdp_backfill.emulator.store import FIELDS
from cdp_backfill.model import api_facts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cdp_backfill.local_sandbox import Sandbox

Message = dict[str, Any]

VALUES: Final[Message] = {
    "text": 'Zoë 🐈 \u0000 "quoted" \\',
    "empty": "",
    "number": 0.1,
    "whole": 2**70,
    "yes": True,
    "nothing": None,
    "list": [1, "two", [3, {"four": None}]],
    "deep": {"deeper": {"deepest": {}}},
}

COMMON: Final[Message] = {
    "timestamp": datetime(2023, 5, 1, 12, 30, 15, 250_000, timezone(timedelta(hours=2))),
    "context": {"app": {"name": "Tidbits", "build": "421"}, "locale": "pt-BR"},
    "integrations": {"All": False, "Mixpanel": True, "Amplitude": {"sessionId": 3}},
}

CALLS: Final[dict[str, Message]] = {
    "identify": {"user_id": "ada", "traits": VALUES},
    "track": {"user_id": "ada", "event": "Application Opened", "properties": VALUES},
    "page": {"anonymous_id": "a-1", "name": "Home", "category": "Docs", "properties": VALUES},
    "screen": {"user_id": "ada", "anonymous_id": "a-1", "name": "Start", "properties": VALUES},
    "group": {"user_id": "ada", "group_id": "g-1", "traits": VALUES},
    "alias": {"user_id": "ada", "previous_id": "a-1"},
}
"""The arguments of each call of the SDK for Python, without :data:`COMMON`."""


def stored(box: Sandbox) -> list[Message]:
    """The stored messages in the order of arrival: fields that are not null, times as text."""
    messages = []
    for record in box.events()[list(FIELDS)].to_dict("records"):
        filled = {k: v for k, v in record.items() if isinstance(v, dict) or not pd.isna(v)}
        messages.append({str(k): v for k, v in filled.items()})
        if "timestamp" in filled:
            messages[-1]["timestamp"] = filled["timestamp"].isoformat(timespec="milliseconds")
    return messages


def assert_same(actual: list[Message], expected: list[Message]) -> None:
    """Assert that messages are the same, including types that compare equal, such as 1 and True."""
    assert actual == expected
    assert json.dumps(actual, sort_keys=True) == json.dumps(expected, sort_keys=True)


def assert_all_accepted(box: Sandbox, messages: int) -> pd.DataFrame:
    """Assert that every request was a batch that was stored in full; returns the requests."""
    log = box.requests()
    assert set(log["path"]) == {api_facts.BATCH_PATH}
    assert set(log["status"]) == {200}
    assert log["reason"].isna().all()
    assert log["messages"].tolist() == log["stored"].tolist()
    assert log["stored"].sum() == messages
    assert len(box.rejected()) == 0
    return log


def resend_in_strict_mode(
    url: str, body: bytes | str, headers: Mapping[str, str | bytes]
) -> httpx.Response:
    """Post an SDK's request again, with the header for strict mode, which no SDK sends."""
    assert api_facts.STRICT_HEADER[0].lower() not in map(str.lower, headers)
    sent = dict([api_facts.STRICT_HEADER])
    for name in ("Authorization", "Content-Type", "Content-Encoding", "User-Agent"):
        if name in headers:
            sent[name] = str(headers[name])
    assert {"Authorization", "Content-Type", "User-Agent"} <= set(sent)
    return httpx.post(url, content=body, headers=sent)

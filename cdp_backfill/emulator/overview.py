"""A web page about the stored messages, and the data that it shows."""

from __future__ import annotations

import heapq
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.responses import HTMLResponse, JSONResponse, Response

from cdp_backfill.emulator.store import FIELDS, MESSAGE_COLUMNS, OBJECTS, PERSON, SENDER_FIELDS

if TYPE_CHECKING:
    from starlette.requests import Request

    from cdp_backfill.emulator.faults import FaultInjector
    from cdp_backfill.emulator.store import Store

_LIMIT: Final = 12
_MAX_EVENTS: Final = 50  # events that the page lists by name

_MONTHS: Final = "SELECT event, month, messages FROM months ORDER BY month, event"

_LATEST: Final = f"""
SELECT seq, receivedAt, type, coalesce(event, name) AS event, {PERSON} AS who, timestamp,
    warnings IS NOT NULL AS warned FROM messages ORDER BY seq DESC LIMIT {_LIMIT}
"""  # noqa: S608  # fixed names and a number

_REJECTED: Final = f"""
SELECT receivedAt, reason, position FROM rejected ORDER BY seq DESC LIMIT {_LIMIT}
"""  # noqa: S608

_WARNINGS: Final = f"""
SELECT warning, messages, latest FROM warnings ORDER BY messages DESC, warning LIMIT {_MAX_EVENTS}
"""  # noqa: S608

_REQUESTS: Final = """
SELECT count(*) AS requests, coalesce(sum(stored), 0) AS stored,
    coalesce(sum(messages) - sum(stored), 0) AS not_stored, coalesce(sum(bytes), 0) AS bytes
FROM requests
"""

_MESSAGE: Final = f"""
SELECT seq, receivedAt, request, {", ".join(MESSAGE_COLUMNS)} FROM messages WHERE seq = ?
"""  # noqa: S608

_MAX_NUMBER: Final = 2**63 - 1  # of SQLite

# Names and values come from clients: no browser may take them for anything but data.
_HEADERS: Final = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


class Overview:
    """The page and its data.

    Args:
        store: The stored requests and messages.
        injector: The injected faults.
    """

    def __init__(self, store: Store, injector: FaultInjector) -> None:
        self._store, self._injector = store, injector
        self._html = (resources.files(__package__) / "page.html").read_text("utf-8")

    async def page(self, _: Request) -> Response:
        """Serve the page."""
        return HTMLResponse(self._html)

    async def data(self, _: Request) -> Response:
        """Serve the figures as JSON. The time that it takes hardly depends on the messages."""
        records = self._store.records
        faults: dict[str, Any] = msgspec.to_builtins(self._injector.faults)
        defaults = msgspec.to_builtins(type(self._injector.faults)())
        figures = {
            "requests": records(_REQUESTS)[0],
            **self._events(),
            "latest": records(_LATEST),
            "rejected": records(_REJECTED),
            "warnings": records(_WARNINGS),
            "faults": {name: value for name, value in faults.items() if value != defaults[name]},
        }
        return _json(figures)

    async def message(self, request: Request) -> Response:
        """Serve a message as indented JSON, with its warnings."""
        number = min(request.path_params["number"], _MAX_NUMBER)
        found = self._store.records(_MESSAGE, (number,))
        if not found:
            return JSONResponse({"meta": {"errors": ["there is no such message"]}}, 404)
        (record,) = found
        return _json(
            {
                **{name: record[name] for name in ("seq", "receivedAt", "request")},
                "warnings": msgspec.json.decode(record["warnings"] or "[]"),
                "json": _message_json(record),
            }
        )

    def _events(self) -> dict[str, list[dict[str, Any]]]:
        """Messages and people by event, and messages by month, of the most frequent events."""
        months = self._store.records(_MONTHS)
        messages: dict[str, int] = {}
        for each in months:
            messages[each["event"]] = messages.get(each["event"], 0) + each["messages"]
        people = self._store.people_by_event()
        most = heapq.nsmallest(_MAX_EVENTS, messages, key=lambda event: (-messages[event], event))
        events = [
            {"event": event, "messages": messages[event], "people": people.get(event, 0)}
            for event in most
        ]
        if more := len(messages) - len(most):
            rest = sum(messages.values()) - sum(messages[event] for event in most)
            events.append({"event": None, "more": more, "messages": rest, "people": None})
        shown = set(most)
        by_month: dict[tuple[str, str | None], int] = {}
        for each in months:
            key = each["month"], each["event"] if each["event"] in shown else None
            by_month[key] = by_month.get(key, 0) + each["messages"]
        return {
            "events": events,
            "months": [
                {"month": month, "event": event, "messages": count}
                for (month, event), count in by_month.items()
                if month
            ],
        }


def _message_json(record: dict[str, Any]) -> str:
    """The message as it came: all fields but the API key, with numbers as they were written."""
    fields: dict[str, Any] = {
        name: msgspec.Raw(record[name].encode()) if name in OBJECTS else record[name]
        for name in (*FIELDS, *SENDER_FIELDS)
        if record[name] is not None
    }
    try:
        if record["otherFields"] is not None:
            fields |= msgspec.json.decode(record["otherFields"], type=dict[str, msgspec.Raw])
        return msgspec.json.format(msgspec.json.encode(fields), indent=2).decode()
    except RecursionError:
        return "The message is nested too deeply to be shown. box.sql() returns its text."


def _json(data: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(data), media_type="application/json", headers=_HEADERS)

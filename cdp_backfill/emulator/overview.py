"""A web page about the stored messages, and the figures that it shows."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.responses import HTMLResponse, Response

if TYPE_CHECKING:
    from starlette.requests import Request

    from cdp_backfill.emulator.faults import FaultInjector
    from cdp_backfill.emulator.store import Store

_LIMIT: Final = 12

_BY_MONTH: Final = """
SELECT substr(timestamp, 1, 7) AS month, coalesce(event, type) AS event, count(*) AS messages
FROM messages WHERE timestamp IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2
"""

_LATEST: Final = f"""
SELECT receivedAt, type, coalesce(event, name) AS event, coalesce(userId, anonymousId) AS who,
    timestamp FROM messages ORDER BY seq DESC LIMIT {_LIMIT}
"""  # noqa: S608  # a number

_BY_EVENT: Final = """
SELECT coalesce(event, type) AS event, count(*) AS messages,
    count(DISTINCT coalesce(userId, anonymousId)) AS people FROM messages GROUP BY 1 ORDER BY 2 DESC
"""

_REJECTED: Final = f"""
SELECT receivedAt, reason, position FROM rejected ORDER BY seq DESC LIMIT {_LIMIT}
"""  # noqa: S608

_REQUESTS: Final = """
SELECT count(*) AS requests, coalesce(sum(stored), 0) AS stored,
    coalesce(sum(messages) - sum(stored), 0) AS not_stored, coalesce(sum(bytes), 0) AS bytes
FROM requests
"""


class Overview:
    """The page and its figures.

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
        """Serve the figures as JSON."""
        faults: dict[str, Any] = msgspec.to_builtins(self._injector.faults)
        defaults = msgspec.to_builtins(type(self._injector.faults)())
        figures = {
            "requests": self._rows(_REQUESTS)[0],
            "events": self._rows(_BY_EVENT),
            "months": self._rows(_BY_MONTH),
            "latest": self._rows(_LATEST),
            "rejected": self._rows(_REJECTED),
            "faults": {name: value for name, value in faults.items() if value != defaults[name]},
        }
        return Response(json.dumps(figures), media_type="application/json")

    def _rows(self, query: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self._store.sql(query).to_json(orient="records"))
        return rows

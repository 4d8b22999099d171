"""What the box took in, for people: a page, and the figures on it."""

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

_LATEST: Final = 12

_OVER_TIME: Final = """
SELECT substr(timestamp, 1, 7) AS month, coalesce(event, type) AS event, count(*) AS messages
FROM messages WHERE timestamp IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2
"""

_NEWEST: Final = f"""
SELECT receivedAt, type, coalesce(event, name) AS event, coalesce(userId, anonymousId) AS who,
    timestamp FROM messages ORDER BY seq DESC LIMIT {_LATEST}
"""  # noqa: S608  # a number

_COUNTED: Final = """
SELECT coalesce(event, type) AS event, count(*) AS messages,
    count(DISTINCT coalesce(userId, anonymousId)) AS people FROM messages GROUP BY 1 ORDER BY 2 DESC
"""

_REFUSED: Final = f"""
SELECT receivedAt, reason, position FROM rejected ORDER BY seq DESC LIMIT {_LATEST}
"""  # noqa: S608

_REQUESTS: Final = """
SELECT count(*) AS requests, coalesce(sum(stored), 0) AS stored,
    coalesce(sum(messages) - sum(stored), 0) AS not_stored, coalesce(sum(bytes), 0) AS bytes
FROM requests
"""


class Overview:
    """The page and its figures.

    Args:
        store: What was taken in.
        injector: What is done wrong on purpose.
    """

    def __init__(self, store: Store, injector: FaultInjector) -> None:
        self._store, self._injector = store, injector
        self._html = (resources.files(__package__) / "page.html").read_text("utf-8")

    async def page(self, _: Request) -> Response:
        """The page."""
        return HTMLResponse(self._html)

    async def data(self, _: Request) -> Response:
        """Its figures."""
        faults: dict[str, Any] = msgspec.to_builtins(self._injector.faults)
        usual = msgspec.to_builtins(type(self._injector.faults)())
        figures = {
            "requests": self._rows(_REQUESTS)[0],
            "events": self._rows(_COUNTED),
            "months": self._rows(_OVER_TIME),
            "latest": self._rows(_NEWEST),
            "rejected": self._rows(_REFUSED),
            "faults": {name: value for name, value in faults.items() if value != usual[name]},
        }
        return Response(json.dumps(figures), media_type="application/json")

    def _rows(self, query: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self._store.sql(query).to_json(orient="records"))
        return rows

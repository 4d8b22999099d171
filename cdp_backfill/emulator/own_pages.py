"""Keeps the emulator's page and controls from web pages of others."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Receive, Scope, Send


class OwnPagesOnly:
    """Answers 403 to what a web page of somebody else asks for in the browser of a user.

    Such a page can call this machine by a name of its own, which then stands in ``Host``, or call
    it from its own address, which stands in ``Origin``. The calls of the API need a key.

    Args:
        app: The application.
        hosts: Names that ``Host`` may have, besides ``localhost`` and addresses.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = frozenset({"localhost", *(host.casefold() for host in hosts)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        app = self._app
        if scope["type"] == "http" and not scope["path"].startswith("/v1/"):
            headers = Headers(scope=scope)
            if not self._is_own(headers.get("host", ""), headers.get("origin")):
                text = "this page is only for the address that the sandbox shows"
                app = JSONResponse({"meta": {"errors": [text]}}, 403)
        await app(scope, receive, send)

    def _is_own(self, host: str, origin: str | None) -> bool:
        if origin is not None and origin.partition("://")[2].casefold() != host.casefold():
            return False
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self._hosts or bool(ipaddress.ip_address(name))
        except ValueError:
            return False

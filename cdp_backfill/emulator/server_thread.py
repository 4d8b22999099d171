"""The emulator as a server on its own thread, with access to what it stored."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Final, Self

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from cdp_backfill.emulator.application import Connections, Policy, application
from cdp_backfill.emulator.faults import FaultInjector, Faults
from cdp_backfill.emulator.store import Store

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    import pandas as pd

DEFAULT_KEY = "sandbox"
_TICK: Final = 0.2  # seconds


def _protocol(connections: Connections) -> type[H11Protocol]:
    """Uvicorn's protocol, which also records the open connections."""

    class RecordingProtocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            connections[tuple(self.client or ())] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            connections.pop(tuple(self.client or ()), None)
            super().connection_lost(exc)

    return RecordingProtocol


class ApiServer:
    """The Pipelines API on this machine.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.
        api_key: The key that it accepts.
        store: Database file for requests and messages; None keeps them in memory.
        faults: Faults to inject; they can change while it runs.
        policy: What to do where the API is not documented.

    Raises:
        OSError: The port is in use.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str = DEFAULT_KEY,
        store: str | Path | None = None,
        faults: Faults | None = None,
        policy: Policy | None = None,
    ) -> None:
        self.api_key = api_key
        self._socket = socket.create_server((host, port), backlog=2048)
        self.url = f"http://{host}:{self._socket.getsockname()[1]}/v1"
        """The address to send to, for ``base_url``; it ends in ``/v1``."""
        self.page = f"{self.url.removesuffix('/v1')}/"
        """Address of the web page that shows the stored messages."""
        self._store = Store(store)
        self._injector = FaultInjector(faults or Faults())
        connections: Connections = {}
        config = uvicorn.Config(
            application(self._store, api_key, self._injector, connections, policy or Policy()),
            http=_protocol(connections),
            log_level="error",
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run,
            kwargs={"sockets": [self._socket]},
            name="cdp-backfill-sandbox",
            daemon=True,
        )

    @property
    def faults(self) -> Faults:
        """The faults that are injected now."""
        return self._injector.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._injector.faults = faults

    def start(self) -> Self:
        """Start to answer. Connections made before that wait."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop the server. Data in memory is lost."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()
        self._store.close()

    @property
    def stopped(self) -> bool:
        """Whether it has been stopped."""
        return self._server.should_exit

    @property
    def store_path(self) -> str | Path | None:
        """The database file, or None if the data is in memory."""
        return self._store.path

    def wait(self) -> None:
        """Wait until the server stops."""
        # A join without a timeout ignores Ctrl-C once a library such as polars is imported.
        while self._thread.is_alive():
            self._thread.join(_TICK)

    def events(self) -> pd.DataFrame:
        """The stored messages, one row each, in the order of arrival.

        The columns are the API's fields (``type``, ``messageId``, ``userId``, ``anonymousId``,
        ``event``, ``timestamp`` in UTC, and ``properties``, ``context``, ``integrations`` and
        ``traits`` as dicts, ``name``, ``category``, ``groupId`` and ``previousId``),
        ``receivedAt``, the number of the ``request``, and ``repeated``: whether an earlier message
        has the same id.
        """
        return self._store.events()

    def people(self) -> pd.DataFrame:
        """The people of the messages: ``id``, ``anonymous``, ``messages``, ``first``, ``last``."""
        return self._store.sql("SELECT * FROM people ORDER BY messages DESC, id")

    def duplicates(self) -> pd.DataFrame:
        """Message ids that arrived several times: ``messageId``, ``times``, ``first``, ``last``."""
        return self._store.sql("SELECT * FROM duplicates ORDER BY times DESC, messageId")

    def rejected(self) -> pd.DataFrame:
        """Invalid messages: ``request``, ``position`` in it, ``reason``, and how they begin."""
        return self._store.sql("SELECT * FROM rejected ORDER BY seq")

    def sql(self, query: str) -> pd.DataFrame:
        """The result of a query. It can read, but not change, the data.

        Args:
            query: SQL for SQLite, over the tables ``messages``, ``requests`` and ``rejected`` and
                the views ``events``, ``duplicates`` and ``people``.

        Raises:
            pandas.errors.DatabaseError: The query is wrong.
        """
        return self._store.sql(query)

    def requests(self) -> pd.DataFrame:
        """All requests with their status, size, number of messages and the reason of a refusal."""
        return self._store.requests()

    def totals(self) -> pd.DataFrame:
        """Messages, distinct message ids and people by event."""
        return self._store.totals()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(url={self.url!r})"

"""The emulator as a server on its own thread, with access to what it stored."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from cdp_backfill.emulator.application import Connections, application
from cdp_backfill.emulator.faults import FaultInjector, Faults
from cdp_backfill.emulator.policy import Policy
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


@dataclass(frozen=True, slots=True)
class _Running:
    listener: socket.socket
    port: int
    store: Store
    server: uvicorn.Server
    thread: threading.Thread


class ApiServer:
    """The Pipelines API on this machine, from :meth:`start` to :meth:`stop` or in a ``with`` block.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.
        api_key: The key that it accepts.
        store: Database file for requests and messages; None keeps them in memory.
        faults: Faults to inject; they can change while it runs.
        policy: What to do where the API is not documented.
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
        self._host, self._port = host, port
        self._store_path = store
        self._policy = policy or Policy()
        self._injector = FaultInjector(faults or Faults())
        self._running: _Running | None = None
        self._stopped = False

    @property
    def url(self) -> str:
        """The address to send to, for ``base_url``; it ends in ``/v1``."""
        return f"http://{self._host}:{self._started().port}/v1"

    @property
    def page(self) -> str:
        """Address of the web page that shows the stored messages."""
        return f"{self.url.removesuffix('/v1')}/"

    @property
    def faults(self) -> Faults:
        """The faults that are injected now."""
        return self._injector.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._injector.faults = faults

    def start(self) -> Self:
        """Start to answer. If it runs already, nothing happens.

        Returns:
            The server itself.

        Raises:
            RuntimeError: It has been stopped.
            OSError: The address or port cannot be used.
            sqlite3.Error: The store is no database that can be written.
        """
        if self._stopped:
            raise RuntimeError("The sandbox has stopped. Make a new one: box = sandbox(...).")
        if self._running is None:
            listener = socket.create_server((self._host, self._port), backlog=2048)
            try:
                self._running = self._run(listener)
            except BaseException:
                listener.close()
                raise
        return self

    def _run(self, listener: socket.socket) -> _Running:
        store = Store(self._store_path)
        connections: Connections = {}
        config = uvicorn.Config(
            application(
                store,
                self.api_key,
                self._injector,
                connections,
                self._policy,
                hosts=[self._host],
            ),
            http=_protocol(connections),
            log_level="error",
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(
            target=server.run,
            kwargs={"sockets": [listener]},
            name="cdp-backfill-sandbox",
            daemon=True,
        )
        thread.start()
        return _Running(listener, listener.getsockname()[1], store, server, thread)

    def stop(self) -> None:
        """Stop the server. Data in memory is lost. If it does not run, nothing happens."""
        if self._running is None or self._stopped:
            return
        self._stopped = True
        self._running.server.should_exit = True
        self._running.thread.join()
        self._running.listener.close()
        self._running.store.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _started(self) -> _Running:
        if self._running is None:
            raise RuntimeError("The sandbox has not started. Start it with `with` or start().")
        return self._running

    @property
    def _store(self) -> Store:
        return self._started().store

    @property
    def running(self) -> bool:
        """Whether it has started and not stopped."""
        return self._running is not None and not self._stopped

    @property
    def stopped(self) -> bool:
        """Whether it has been stopped."""
        return self._stopped

    @property
    def store_path(self) -> str | Path | None:
        """The database file, or None if the data is in memory."""
        return self._store_path

    def wait(self) -> None:
        """Wait until the server stops."""
        # A join without a timeout ignores Ctrl-C once a library such as polars is imported.
        thread = self._started().thread
        while thread.is_alive():
            thread.join(_TICK)

    def events(self) -> pd.DataFrame:
        """The stored messages, one row each, in the order of arrival.

        The columns are the API's fields (``type``, ``messageId``, ``userId``, ``anonymousId``,
        ``event``, ``timestamp`` in UTC, and ``properties``, ``context``, ``integrations`` and
        ``traits`` as dicts, ``name``, ``category``, ``groupId`` and ``previousId``),
        ``receivedAt``, the number of the ``request``, and ``repeated``: whether an earlier message
        has the same id.

        Then come the fields that SDKs add, which change nothing here: ``originalTimestamp``,
        ``sentAt`` (of the message or else of its batch) and ``channel`` as text, and ``_metadata``.
        ``otherFields`` is a dict of all further fields. ``warnings`` is a list of texts: see
        :meth:`warnings`.
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

    def warnings(self) -> pd.DataFrame:
        """What a sender should look at in stored messages: ``warning`` and number of ``messages``.

        There are warnings about values in ``context`` whose type differs from the documented one, a
        ``sentAt`` by which a receiver that corrects clocks would shift times, ``integrations`` at
        the top of a batch, ids that are numbers, and messages without a person. A warning about a
        value names it but does not show it.
        """
        query = "SELECT warning, messages FROM warnings ORDER BY messages DESC, warning"
        return self._store.sql(query)

    def sql(self, query: str) -> pd.DataFrame:
        """The result of a query. It can read, but not change, the data.

        Args:
            query: SQL for SQLite, over the tables ``messages``, ``requests``, ``rejected`` and
                ``warnings`` and the views ``events``, ``duplicates`` and ``people``.

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
        url = "not started" if self._running is None else f"url={self.url!r}"
        return f"{type(self).__name__}({url})"

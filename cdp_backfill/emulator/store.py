"""Stores requests and messages in an SQLite database, in memory or in a file."""

from __future__ import annotations

import json
import sqlite3
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

if TYPE_CHECKING:
    from pathlib import Path

FIELDS: Final = (
    *("type", "messageId", "userId", "anonymousId", "event", "timestamp", "properties"),
    *("context", "integrations", "traits", "name", "category", "groupId", "previousId"),
)
"""The fields of all calls, which are the columns of the stored messages."""

_OBJECTS: Final = ("properties", "context", "integrations", "traits")

_TABLES: Final = f"""
CREATE TABLE IF NOT EXISTS requests (
    request INTEGER PRIMARY KEY, receivedAt TEXT, path TEXT, strict INTEGER, status INTEGER,
    bytes INTEGER, messages INTEGER, stored INTEGER, reason TEXT
);
CREATE TABLE IF NOT EXISTS messages (
    seq INTEGER PRIMARY KEY, request INTEGER, receivedAt TEXT,
    {", ".join(f"{name} TEXT" for name in FIELDS)}
);
CREATE TABLE IF NOT EXISTS rejected (
    seq INTEGER PRIMARY KEY, request INTEGER, receivedAt TEXT, position INTEGER, reason TEXT,
    message TEXT
);
CREATE VIEW IF NOT EXISTS events AS SELECT *, row_number() OVER (
    PARTITION BY coalesce(messageId, 'none ' || seq) ORDER BY seq) > 1 AS repeated FROM messages;
CREATE VIEW IF NOT EXISTS duplicates AS SELECT messageId, count(*) AS times,
    min(receivedAt) AS first, max(receivedAt) AS last FROM messages
    WHERE messageId IS NOT NULL GROUP BY messageId HAVING count(*) > 1;
CREATE VIEW IF NOT EXISTS people AS SELECT coalesce(userId, anonymousId) AS id,
    userId IS NULL AS anonymous, count(*) AS messages, min(timestamp) AS first,
    max(timestamp) AS last FROM messages GROUP BY 1, 2;
"""  # noqa: S608  # fixed names

_EXCERPT_LENGTH: Final = 500  # characters of a rejected message that are stored


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request that the server received.

    Attributes:
        received: Time of arrival, ISO 8601 in UTC.
        path: Path of the call, without ``/v1``.
        strict: Whether it asked for strict mode.
        status: HTTP status of the answer.
        size: Bytes of the decompressed body.
        messages: Number of messages.
        reason: Why messages were not stored, or None.
    """

    received: str
    path: str
    strict: bool
    status: int
    size: int
    messages: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class RejectedMessage:
    """An invalid message.

    Attributes:
        position: Its position in the request, from 0.
        reason: Why it is invalid.
        message: Its first characters.
    """

    position: int
    reason: str
    message: str


class Store:
    """Stores requests, accepted messages and rejected messages.

    Args:
        path: Database file, created or continued; None keeps the data in memory.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self.path = path
        self._database = sqlite3.connect(str(path or ":memory:"), check_same_thread=False)
        self._database.executescript(_TABLES)
        # A rehearsal can be repeated, so speed matters more than surviving a power cut.
        self._database.execute("PRAGMA synchronous = OFF")

    def add(
        self,
        request: ReceivedRequest,
        messages: list[tuple[Any, ...]],
        rejected: list[RejectedMessage],
    ) -> None:
        """Store a request with its messages.

        Args:
            request: The request.
            messages: The accepted messages, each as the values of :data:`FIELDS`.
            rejected: The invalid messages.
        """
        with self._lock, self._database:
            cursor = self._database.execute(
                "INSERT INTO requests (receivedAt, path, strict, status, bytes, messages, stored, "
                "reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    request.received,
                    request.path,
                    request.strict,
                    request.status,
                    request.size,
                    request.messages,
                    len(messages),
                    request.reason,
                ),
            )
            number = cursor.lastrowid
            self._database.executemany(
                f"INSERT INTO messages (request, receivedAt, {', '.join(FIELDS)}) "  # noqa: S608
                f"VALUES (?, ?{', ?' * len(FIELDS)})",
                ((number, request.received, *message) for message in messages),
            )
            self._database.executemany(
                "INSERT INTO rejected (request, receivedAt, position, reason, message) "
                "VALUES (?, ?, ?, ?, ?)",
                (
                    (
                        number,
                        request.received,
                        item.position,
                        item.reason,
                        item.message[:_EXCERPT_LENGTH],
                    )
                    for item in rejected
                ),
            )

    def events(self) -> pd.DataFrame:
        """All accepted messages; see :meth:`ApiServer.events`."""
        columns = ", ".join(FIELDS)
        query = f"SELECT {columns}, receivedAt, request, repeated FROM events ORDER BY seq"  # noqa: S608
        frame = self.sql(query)
        for name in ("timestamp", "receivedAt"):
            frame[name] = pd.to_datetime(frame[name], format="ISO8601", utc=True)
        for name in _OBJECTS:
            cells = [json.loads(text) if isinstance(text, str) else None for text in frame[name]]
            frame[name] = pd.Series(cells, index=frame.index, dtype=object)
        frame["repeated"] = frame["repeated"].astype(bool)
        return frame

    def requests(self) -> pd.DataFrame:
        """All requests; see :meth:`ApiServer.requests`."""
        frame = self.sql("SELECT * FROM requests ORDER BY request")
        frame["receivedAt"] = pd.to_datetime(frame["receivedAt"], format="ISO8601", utc=True)
        frame["strict"] = frame["strict"].astype(bool)
        return frame

    def totals(self) -> pd.DataFrame:
        """Messages, distinct message ids and people by event."""
        return self.sql(
            "SELECT event, count(*) AS messages, count(DISTINCT messageId) AS ids, "
            "count(DISTINCT coalesce(userId, anonymousId)) AS people "
            "FROM messages WHERE event IS NOT NULL GROUP BY event ORDER BY event"
        ).set_index("event")

    def sql(self, query: str, parameters: tuple[Any, ...] = ()) -> pd.DataFrame:
        """The result of a query; see :meth:`ApiServer.sql`."""
        with self._lock:
            if self._closed:
                raise RuntimeError(
                    "The sandbox has stopped and its data is closed. Query it before it stops. "
                    "sandbox(store='box.db') keeps the data in a file."
                )
            self._database.execute("PRAGMA query_only = ON")
            try:
                return pd.read_sql_query(query, self._database, params=parameters)
            finally:
                self._database.execute("PRAGMA query_only = OFF")

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._closed = True
            self._database.close()

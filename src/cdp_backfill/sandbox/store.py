"""What the box keeps: an SQLite database, in memory or in a file."""

from __future__ import annotations

import json
import sqlite3
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

if TYPE_CHECKING:
    from pathlib import Path

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS requests (
    request INTEGER PRIMARY KEY, receivedAt TEXT, path TEXT, strict INTEGER, status INTEGER,
    bytes INTEGER, messages INTEGER, stored INTEGER, reason TEXT
);
CREATE TABLE IF NOT EXISTS messages (
    seq INTEGER PRIMARY KEY, request INTEGER, receivedAt TEXT, type TEXT, messageId TEXT,
    userId TEXT, anonymousId TEXT, event TEXT, timestamp TEXT,
    properties TEXT, context TEXT, integrations TEXT
);
"""

_FIELDS: Final = (
    "type, messageId, userId, anonymousId, event, timestamp, properties, context, integrations, "
    "receivedAt, request"
)


@dataclass(frozen=True, slots=True)
class Call:
    """A request that came in.

    Attributes:
        received: When, ISO 8601 in UTC.
        path: Which call.
        strict: Whether strict mode was asked for.
        status: What it was answered.
        size: Bytes of the body, inflated.
        messages: Messages in it.
        reason: Why nothing was kept, or None.
    """

    received: str
    path: str
    strict: bool
    status: int
    size: int
    messages: int
    reason: str | None


class Store:
    """Keeps calls and the messages that were accepted.

    Args:
        path: A database file, made or gone on with; None keeps all in memory.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._database = sqlite3.connect(str(path or ":memory:"), check_same_thread=False)
        self._database.executescript(_TABLES)
        # A rehearsal can be repeated: speed counts for more than surviving a power cut.
        self._database.execute("PRAGMA synchronous = OFF")

    def add(self, call: Call, messages: list[tuple[Any, ...]]) -> None:
        """Keep a call and its messages, each as the values from ``type`` to ``integrations``."""
        with self._lock, self._database:
            cursor = self._database.execute(
                "INSERT INTO requests (receivedAt, path, strict, status, bytes, messages, stored, "
                "reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    call.received,
                    call.path,
                    call.strict,
                    call.status,
                    call.size,
                    call.messages,
                    len(messages),
                    call.reason,
                ),
            )
            number = cursor.lastrowid
            self._database.executemany(
                "INSERT INTO messages (request, receivedAt, type, messageId, userId, anonymousId, "
                "event, timestamp, properties, context, integrations) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                ((number, call.received, *message) for message in messages),
            )

    def events(self) -> pd.DataFrame:
        """All messages; see :meth:`Box.events`."""
        frame = self._read(f"SELECT {_FIELDS} FROM messages ORDER BY seq")  # noqa: S608  # fixed
        for name in ("timestamp", "receivedAt"):
            frame[name] = pd.to_datetime(frame[name], format="ISO8601", utc=True)
        for name in ("properties", "context", "integrations"):
            cells = [json.loads(text) if isinstance(text, str) else None for text in frame[name]]
            frame[name] = pd.Series(cells, index=frame.index, dtype=object)
        return frame

    def requests(self) -> pd.DataFrame:
        """All calls; see :meth:`Box.requests`."""
        frame = self._read("SELECT * FROM requests ORDER BY request")
        frame["receivedAt"] = pd.to_datetime(frame["receivedAt"], format="ISO8601", utc=True)
        frame["strict"] = frame["strict"].astype(bool)
        return frame

    def totals(self) -> pd.DataFrame:
        """Messages, distinct ids and people by event."""
        return self._read(
            "SELECT event, count(*) AS messages, count(DISTINCT messageId) AS ids, "
            "count(DISTINCT coalesce(userId, anonymousId)) AS people "
            "FROM messages GROUP BY event ORDER BY event"
        ).set_index("event")

    def _read(self, query: str) -> pd.DataFrame:
        with self._lock:
            if self._closed:
                raise RuntimeError(
                    "The sandbox is closed and what it held is gone. Ask it before it ends, or "
                    "give it a file to keep things in: sandbox(store='box.db')."
                )
            return pd.read_sql_query(query, self._database)

    def close(self) -> None:
        """Give the database up."""
        with self._lock:
            self._closed = True
            self._database.close()

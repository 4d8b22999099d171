"""Stores requests and messages in an SQLite database, in memory or in a file."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from cdp_backfill.emulator import figures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIELDS: Final = (
    *("type", "messageId", "userId", "anonymousId", "event", "timestamp", "properties"),
    *("context", "integrations", "traits", "name", "category", "groupId", "previousId"),
)
"""The fields of all calls, which are the columns of the stored messages."""

SENDER_FIELDS: Final = ("originalTimestamp", "sentAt", "channel", "_metadata")
"""Fields that SDKs and receivers add, stored to be seen; they change nothing here. [K]"""

MESSAGE_COLUMNS: Final = (*FIELDS, *SENDER_FIELDS, "otherFields", "warnings")
"""The columns of a stored message: all fields by name, the other fields, and warnings."""

OBJECTS: Final = ("properties", "context", "integrations", "traits", "_metadata", "otherFields")
"""The columns that hold JSON."""

PERSON: Final = "coalesce(nullif(userId, ''), nullif(anonymousId, ''))"
"""The id of the person of a message: an empty id is nobody's."""

_REFUSED: Final = ("not authorized", "authorization denied", "readonly database")
"""What SQLite says of a query that does not only read."""

_READS: Final = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)

_TABLES: Final = f"""
CREATE TABLE IF NOT EXISTS requests (
    request INTEGER PRIMARY KEY, receivedAt TEXT, path TEXT, strict INTEGER, status INTEGER,
    bytes INTEGER, messages INTEGER, stored INTEGER, reason TEXT
);
CREATE TABLE IF NOT EXISTS messages (
    seq INTEGER PRIMARY KEY, request INTEGER, receivedAt TEXT,
    {", ".join(f"{name} TEXT" for name in MESSAGE_COLUMNS)}
);
CREATE TABLE IF NOT EXISTS rejected (
    seq INTEGER PRIMARY KEY, request INTEGER, receivedAt TEXT, position INTEGER, reason TEXT,
    message TEXT
);
"""  # fixed names

_VIEWS: Final = f"""
DROP VIEW IF EXISTS events;
CREATE VIEW events AS SELECT *, row_number() OVER (
    PARTITION BY coalesce(messageId, 'none ' || seq) ORDER BY seq) > 1 AS repeated FROM messages;
DROP VIEW IF EXISTS duplicates;
CREATE VIEW duplicates AS SELECT messageId, count(*) AS times,
    min(receivedAt) AS first, max(receivedAt) AS last FROM messages
    WHERE messageId IS NOT NULL GROUP BY messageId HAVING count(*) > 1;
DROP VIEW IF EXISTS people;
CREATE VIEW people AS SELECT {PERSON} AS id,
    nullif(userId, '') IS NULL AS anonymous, count(*) AS messages, min(timestamp) AS first,
    max(timestamp) AS last FROM messages WHERE id IS NOT NULL GROUP BY 1, 2;
"""  # noqa: S608  # fixed names

_COUNTED: Final = (
    f"coalesce(event, type), coalesce(substr(timestamp, 1, 7), ''), {PERSON}, warnings"
)
"""The columns of :class:`figures.Counted` in SQL."""

_EXCERPT_LENGTH: Final = 500  # characters of a rejected message that are stored
_CHUNK: Final = 10_000  # messages that are read at a time


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


_INSERT_MESSAGE: Final = (
    f"INSERT INTO messages (seq, request, receivedAt, {', '.join(MESSAGE_COLUMNS)}) "  # noqa: S608
    f"VALUES (?, ?, ?{', ?' * len(MESSAGE_COLUMNS)})"
)

_TYPE, _USER, _ANONYMOUS, _EVENT, _TIMESTAMP, _WARNINGS = (
    MESSAGE_COLUMNS.index(name)
    for name in ("type", "userId", "anonymousId", "event", "timestamp", "warnings")
)


def _counted(messages: list[tuple[Any, ...]]) -> figures.Counted:
    """What the figures need of messages; the same as :data:`_COUNTED`."""
    return figures.Counted(
        [each[_TYPE] if each[_EVENT] is None else each[_EVENT] for each in messages],
        [each[_TIMESTAMP][:7] if each[_TIMESTAMP] else "" for each in messages],
        [each[_USER] or each[_ANONYMOUS] or None for each in messages],
        [each[_WARNINGS] for each in messages],
    )


def _only_reads(action: int, table: str | None, name: str | None, *__: str | None) -> int:
    """What a query may do: read the data, and no other file."""
    allowed = action in _READS and name != "load_extension"
    # SQLite asks for this where a query has a function like json_each; nothing is written.
    is_declaration = action == sqlite3.SQLITE_UPDATE and table == "sqlite_master"
    return sqlite3.SQLITE_OK if allowed or is_declaration else sqlite3.SQLITE_DENY


class Store:
    """Stores requests, accepted messages and rejected messages.

    Args:
        path: Database file, created or continued; None keeps the data in memory.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self.path = path
        self._people = figures.PeopleCounter()
        if (
            path is not None and str(path) != ":memory:"
        ):  # messages have ids of people: a new file is for its owner alone
            with suppress(OSError):  # SQLite says better what is wrong
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._database = sqlite3.connect(str(path or ":memory:"), check_same_thread=False)
        try:
            self._prepare()
        except sqlite3.Error:
            self._database.close()
            raise

    def _prepare(self) -> None:
        """Make the tables, or bring those of an earlier version up to date."""
        database = self._database
        # A rehearsal can be repeated, so speed matters more than surviving a power cut.
        database.execute("PRAGMA synchronous = OFF")
        database.executescript(_TABLES)
        names = {row[1] for row in database.execute("PRAGMA table_info(messages)")}
        for name in (name for name in MESSAGE_COLUMNS if name not in names):
            database.execute(f"ALTER TABLE messages ADD COLUMN {name} TEXT")
        database.executescript(_VIEWS)
        query = "SELECT name FROM sqlite_master WHERE name = 'months'"
        counted = database.execute(query).fetchone()
        database.executescript(figures.TABLES)
        if counted is None:
            with database:
                self._count_all()

    def _count_all(self) -> None:
        query = f"SELECT seq, {_COUNTED} FROM messages ORDER BY seq"  # noqa: S608
        messages = self._database.execute(query)
        while chunk := messages.fetchmany(_CHUNK):
            numbers, *columns = zip(*chunk, strict=True)
            figures.add(self._database, numbers[0], figures.Counted(*columns))

    def add(
        self,
        request: ReceivedRequest,
        messages: list[tuple[Any, ...]],
        rejected: list[RejectedMessage],
    ) -> None:
        """Store a request with its messages.

        Args:
            request: The request.
            messages: The accepted messages, each as the values of :data:`MESSAGE_COLUMNS`.
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
            first = self._database.execute("SELECT coalesce(max(seq), 0) + 1 FROM messages")
            (seq,) = first.fetchone()
            self._database.executemany(
                _INSERT_MESSAGE,
                (
                    (position, number, request.received, *message)
                    for position, message in enumerate(messages, seq)
                ),
            )
            figures.add(self._database, seq, _counted(messages))
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
        last = ", ".join(MESSAGE_COLUMNS[len(FIELDS) :])
        columns = f"{', '.join(FIELDS)}, receivedAt, request, repeated, {last}"
        frame = self.sql(f"SELECT {columns} FROM events ORDER BY seq")  # noqa: S608
        # All are UTC and of one form; numpy reads the years from 1 to 9999.
        moments = [text[:-1] if isinstance(text, str) else None for text in frame["timestamp"]]
        timestamps = pd.Series(np.array(moments, "datetime64[us]"), index=frame.index)
        frame["timestamp"] = timestamps.dt.tz_localize("UTC")
        frame["receivedAt"] = pd.to_datetime(frame["receivedAt"], format="ISO8601", utc=True)
        for name in OBJECTS:
            cells = [_decoded(text) if isinstance(text, str) else None for text in frame[name]]
            frame[name] = pd.Series(cells, index=frame.index, dtype=object)
        lists = [json.loads(text) if isinstance(text, str) else [] for text in frame["warnings"]]
        frame["warnings"] = pd.Series(lists, index=frame.index, dtype=object)
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
        query = (  # of fixed names
            "SELECT event, count(*) AS messages, count(DISTINCT messageId) AS ids, "  # noqa: S608
            f"count(DISTINCT {PERSON}) AS people FROM messages "  # fixed names
            "WHERE event IS NOT NULL GROUP BY event ORDER BY event"
        )
        return self.sql(query).set_index("event")

    def sql(self, query: str, parameters: tuple[Any, ...] = ()) -> pd.DataFrame:
        """The result of a query; see :meth:`ApiServer.sql`."""
        with self._reading() as database:
            try:
                return pd.read_sql_query(query, database, params=parameters)
            except pd.errors.DatabaseError as error:
                if not any(words in str(error) for words in _REFUSED):
                    raise
        raise pd.errors.DatabaseError("The data of a sandbox can only be read: pass a SELECT.")

    def records(self, query: str, parameters: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
        """The rows of a query by the names of its columns."""
        with self._reading() as database:
            cursor = database.execute(query, parameters)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def warned(self) -> int:
        """The number of messages with warnings."""
        (only,) = self.records("SELECT count(*) AS n FROM messages WHERE warnings IS NOT NULL")
        return int(only["n"])

    def people_by_event(self) -> dict[str, int]:
        """The number of different people of each event, or type of other calls."""
        with self._reading() as database:
            return self._people.read(database)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._closed:
                raise RuntimeError(
                    "The sandbox has stopped and its data is closed. Query it before it stops. "
                    "sandbox(store='box.db') keeps the data in a file."
                )
            self._database.execute("PRAGMA query_only = ON")
            self._database.set_authorizer(_only_reads)
            try:
                yield self._database
            finally:
                self._database.set_authorizer(None)
                self._database.execute("PRAGMA query_only = OFF")

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._closed = True
            self._database.close()


def _decoded(text: str) -> Any:
    """The value of JSON that was accepted; whatever a client sends, it is no error here."""
    for parse_int in (None, Decimal):  # Python converts no integer of thousands of digits
        try:
            return json.loads(text, parse_int=parse_int)
        except RecursionError:
            break
        except ValueError:
            continue
    return text

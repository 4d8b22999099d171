"""The figures of the web page, counted as messages arrive.

So the page needs no pass over the messages, however many are stored. What each request adds is a
few rows: messages by event and month, messages by warning, and hashes of the people of each event.
"""

from __future__ import annotations

from array import array
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np
import xxhash

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

TABLES: Final = """
CREATE TABLE IF NOT EXISTS months (
    event TEXT, month TEXT, messages INTEGER, PRIMARY KEY (event, month)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS warnings (
    warning TEXT PRIMARY KEY, messages INTEGER, latest INTEGER
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS people_hashes (seq INTEGER PRIMARY KEY, event TEXT, hashes BLOB);
"""

_ADD_MONTHS: Final = (
    "INSERT INTO months VALUES (?, ?, ?) "
    "ON CONFLICT DO UPDATE SET messages = messages + excluded.messages"
)
_ADD_WARNINGS: Final = (
    "INSERT INTO warnings VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET "
    "messages = messages + excluded.messages, latest = max(latest, excluded.latest)"
)
_ADD_PEOPLE: Final = "INSERT INTO people_hashes (event, hashes) VALUES (?, ?)"


class Counted(NamedTuple):
    """What the figures need of messages, one item each.

    Attributes:
        events: The event, or else the type.
        months: Year and month of the time, or an empty text.
        people: The id of the person, or None.
        warnings: The warnings as a JSON list, or None.
    """

    events: Sequence[str]
    months: Sequence[str]
    people: Sequence[str | None]
    warnings: Sequence[str | None]


def add(database: sqlite3.Connection, first_seq: int, messages: Counted) -> None:
    """Count messages that are stored one after another.

    Args:
        database: The database of the store.
        first_seq: Number of the first of the messages.
        messages: The messages.
    """
    months = Counter(zip(messages.events, messages.months, strict=True))
    database.executemany(_ADD_MONTHS, ((*key, count) for key, count in months.items()))
    hashes: dict[str, array[int]] = {}
    for event, person in set(zip(messages.events, messages.people, strict=True)):
        if person is not None:
            of_event = hashes.setdefault(event, array("Q"))
            of_event.append(xxhash.xxh3_64_intdigest(person.encode()))
    database.executemany(_ADD_PEOPLE, ((event, of.tobytes()) for event, of in hashes.items()))
    if not any(messages.warnings):
        return
    warnings: Counter[str] = Counter()
    latest: dict[str, int] = {}
    for seq, texts in enumerate(messages.warnings, first_seq):
        for warning in msgspec.json.decode(texts) if texts else ():
            warnings[warning] += 1
            latest[warning] = seq
    database.executemany(
        _ADD_WARNINGS, ((text, count, latest[text]) for text, count in warnings.items())
    )


class PeopleCounter:
    """Counts the different people of each event; it reads only what is new.

    That two of 10 million people have the same hash of 64 bits has a probability of 3 in a million.
    """

    def __init__(self) -> None:
        self._seen: dict[str, np.ndarray[Any, np.dtype[np.uint64]]] = {}
        self._read = 0

    def read(self, database: sqlite3.Connection) -> dict[str, int]:
        """The number of people by event."""
        new: dict[str, list[bytes]] = {}
        query = "SELECT seq, event, hashes FROM people_hashes WHERE seq > ? ORDER BY seq"
        for seq, event, hashes in database.execute(query, (self._read,)):
            self._read = seq
            new.setdefault(event, []).append(hashes)
        for event, parts in new.items():
            added = np.unique(np.frombuffer(b"".join(parts), np.uint64))
            seen = self._seen.get(event)
            if seen is not None:
                places = np.searchsorted(seen, added)
                places[places == len(seen)] = 0
                added = np.concatenate([seen, added[seen[places] != added]])
                added.sort(kind="stable")  # two sorted runs: this only merges them
            self._seen[event] = added
        return {event: len(hashes) for event, hashes in self._seen.items()}

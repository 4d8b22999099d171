"""The journal: a file that records delivered messages and survives a crash.

It is an SQLite database in write-ahead mode. It holds the mapping and the address (no key), the
paths of file sources, the counts of each run by outcome and code, and 12 bytes for each delivered
row: the first 96 bits of the XXH3 hash of its message. It holds no payload and no cell.

Two different messages share 96 bits with a probability of 1 in 8e28. In a backfill of 100 million
rows of which half are delivered, the probability that one row is taken for another is
50e6 * 50e6 / 8e28, about 3e-14.

Rows that are equal in everything are one message: once one of them is delivered, a later run counts
all of them as delivered.

It costs 12 bytes for each delivered row on disk, and as much memory in a run that goes on from it.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from filelock import FileLock, Timeout

from cdp_backfill.errors import JournalError
from cdp_backfill.messages.ids import ID_RECIPE
from cdp_backfill.model.distinct import DIGEST_BYTES, contains, split
from cdp_backfill.model.mapping import Mapping

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cdp_backfill.model.arrays import Digests, Mask


FORMAT: Final = "cdp-backfill journal 1"
_FIRST_RECIPE: Final = "cdp1"  # of journals that do not name one
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS delivered (run INTEGER, rows INTEGER, digests BLOB);
CREATE TABLE IF NOT EXISTS runs (
    run INTEGER PRIMARY KEY, started TEXT, ended TEXT, under_way INTEGER, counts TEXT, reasons TEXT
);
"""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The record of a run in a journal.

    Attributes:
        started: When the run began, ISO 8601 in UTC.
        ended: When it ended, or None if it crashed or still runs.
        counts: Rows by outcome; empty for a run that did not end.
        reasons: Rows by outcome and code.
    """

    started: str
    ended: str | None
    counts: dict[str, int]
    reasons: dict[str, int]


@dataclass(frozen=True, slots=True)
class JournalContents:
    """The contents of a journal.

    Attributes:
        mapping: The mapping of the backfill.
        url: The address that it sends to.
        paths: Paths of the source, or None for an in-memory table.
        identify: The identities that are sent first: ``{"column": name}``, or ``{"paths": [...]}``
            with None for an in-memory table; None if there are none.
        delivered: Number of rows known to be delivered.
        runs: The runs so far.
    """

    mapping: Mapping
    url: str
    paths: list[str] | None
    identify: dict[str, Any] | None
    delivered: int
    runs: list[RunRecord]


class Journal:
    """An open journal; one run at a time.

    Args:
        path: The file; created if it does not exist.
        mapping: The mapping of the backfill.
        url: The address that it sends to.
        paths: Paths of the source, or None for an in-memory table.
        types: Column types that were settled by reading all cells.
        identify: The identities that are sent first; see :class:`JournalContents`.

    Raises:
        JournalError: It cannot be opened or written, is in use, or belongs to another backfill.
    """

    def __init__(
        self,
        path: Path,
        *,
        mapping: Mapping,
        url: str,
        paths: Sequence[str] | None = None,
        types: dict[str, str] | None = None,
        identify: dict[str, Any] | None = None,
    ) -> None:
        self.path = path
        self._lock = _locked(path)
        try:
            self._database = _opened(path)
            self._begin(mapping, url, paths, types or {})
            if identify is not None:  # resume goes on with the identities of the last run
                self._database.execute(
                    "INSERT OR REPLACE INTO about VALUES ('identify', ?)", (json.dumps(identify),)
                )
            self.in_flight_at_crashes = self._in_flight_at_crashes()
            """Most rows that crashed runs can have had in flight; these may have arrived twice."""
            self._high, self._low = self._load()
            self._run = self._database.execute(
                "INSERT INTO runs (started, under_way) VALUES (?, 0)", (_now(),)
            ).lastrowid
        except BaseException as error:
            self._lock.release()
            if isinstance(error, sqlite3.Error | ValueError | KeyError):
                raise JournalError(
                    f"The journal {path} is damaged, or is not a journal ({type(error).__name__}). "
                    "Pass the path of another file."
                ) from error
            raise

    def _begin(
        self, mapping: Mapping, url: str, paths: Sequence[str] | None, types: dict[str, str]
    ) -> None:
        about = {
            "format": FORMAT,
            "recipe": ID_RECIPE,
            "mapping": mapping.to_toml(),
            "url": url,
            "paths": json.dumps(list(paths) if paths is not None else None),
            "types": json.dumps(types),
        }
        try:
            with self._database:
                self._database.execute("BEGIN IMMEDIATE")
                stored = dict(self._database.execute("SELECT name, value FROM about"))
                if not stored:
                    self._database.executemany("INSERT INTO about VALUES (?, ?)", about.items())
                    return
        except sqlite3.Error as error:
            raise JournalError(f"The journal {self.path} cannot be written: {error}.") from error
        _check_version(self.path, stored)
        if stored["url"] != url:
            raise JournalError(
                f"The journal {self.path} belongs to a backfill to {stored['url']}, not to {url}. "
                "Pass another journal."
            )
        old_types = json.loads(stored.get("types", "{}"))
        changed = sorted(
            name for name in {*old_types, *types} if old_types.get(name) != types.get(name)
        )
        if changed:
            column = changed[0]
            raise JournalError(
                f"Column {column!r} was {old_types.get(column, 'text')} when the journal "
                f"{self.path} was created and is now {types.get(column, 'text')}. Message ids "
                "would change and every row would be sent again. Correct the cells that differ, "
                "or pass another journal."
            )
        if paths is not None:  # resume goes on with the files of the last run
            self._database.execute(
                "UPDATE about SET value = ? WHERE name = 'paths'", (about["paths"],)
            )
        before = Mapping.from_toml(stored["mapping"]).to_dict()
        now = mapping.to_dict()
        if before != now:
            names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
            raise JournalError(
                f"The journal {self.path} belongs to a backfill with another mapping: "
                f"{', '.join(names)} {'differs' if len(names) == 1 else 'differ'}. Under another "
                "mapping the same rows become other messages. Use the mapping of the journal, or "
                "pass another journal."
            )

    def _in_flight_at_crashes(self) -> int:
        query = "SELECT coalesce(sum(under_way), 0) FROM runs WHERE ended IS NULL"
        return int(self._database.execute(query).fetchone()[0])

    def _load(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
        blobs = [blob for (blob,) in self._database.execute("SELECT digests FROM delivered")]
        return _sorted(split(np.frombuffer(b"".join(blobs), np.uint8).reshape(-1, DIGEST_BYTES)))

    @property
    def delivered_before(self) -> int:
        """Number of rows that earlier runs delivered."""
        return len(self._high)

    def is_delivered(self, digests: Digests) -> Mask:
        """True for each message that an earlier run delivered.

        Args:
            digests: An array with 12 or more bytes for each message.
        """
        return contains((self._high, self._low), *split(digests))

    def add(self, digests: Sequence[Digests]) -> None:
        """Record messages as delivered; the record is in the file when this returns.

        Raises:
            sqlite3.Error: The file cannot be written, for example because the disk is full.
        """
        data = b"".join(part[:, :DIGEST_BYTES].tobytes() for part in digests)
        self._database.execute(
            "INSERT INTO delivered VALUES (?, ?, ?)", (self._run, len(data) // DIGEST_BYTES, data)
        )

    def note_in_flight(self, rows: int) -> None:
        """Record how many rows are in doubt if the process crashes from now on.

        Raises:
            sqlite3.Error: The file cannot be written, for example because the disk is full.
        """
        self._database.execute("UPDATE runs SET under_way = ? WHERE run = ?", (rows, self._run))

    def close(self, counts: dict[str, int], reasons: dict[str, int]) -> None:
        """Record how the run ended, and release the journal.

        Args:
            counts: Rows by outcome.
            reasons: Rows by outcome and code.

        Raises:
            sqlite3.Error: The file cannot be written, for example because the disk is full.
        """
        try:
            self._database.execute(
                "UPDATE runs SET ended = ?, counts = ?, reasons = ? WHERE run = ?",
                (_now(), json.dumps(counts), json.dumps(reasons), self._run),
            )
        finally:
            self.release()

    def release(self) -> None:
        """Let other runs use the journal, without a record of how this one ended."""
        self._database.close()
        self._lock.release()


def identities_path(path: Path) -> Path:
    """The journal of the identities that belongs to a journal of events.

    >>> identities_path(Path("opens.cdp-journal")).name
    'opens-identities.cdp-journal'
    """
    return path.with_name(f"{path.stem}-identities{path.suffix}")


def read_journal(path: str | Path) -> JournalContents:
    """Read a journal without changing it.

    Raises:
        JournalError: There is no journal at this path, or it cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise JournalError(f"There is no journal {path}. Check the path.")
    database = sqlite3.connect(path)
    try:
        stored = dict(database.execute("SELECT name, value FROM about"))
        _check_version(path, stored)
        (delivered,) = database.execute("SELECT coalesce(sum(rows), 0) FROM delivered").fetchone()
        runs = [
            RunRecord(started, ended, json.loads(counts or "{}"), json.loads(reasons or "{}"))
            for started, ended, counts, reasons in database.execute(
                "SELECT started, ended, counts, reasons FROM runs ORDER BY run"
            )
        ]
    except sqlite3.Error as error:
        raise JournalError(f"The journal {path} cannot be read: {error}.") from error
    finally:
        database.close()
    return JournalContents(
        mapping=Mapping.from_toml(stored["mapping"]),
        url=stored["url"],
        paths=json.loads(stored["paths"]),
        identify=json.loads(stored.get("identify", "null")),
        delivered=delivered,
        runs=runs,
    )


def _check_version(path: Path, stored: dict[str, str]) -> None:
    if stored.get("format") != FORMAT:
        raise JournalError(
            f"{path} is not a journal of this version. Pass the path of another file."
        )
    recipe = stored.get("recipe", _FIRST_RECIPE)
    if recipe != ID_RECIPE:
        raise JournalError(
            f"The journal {path} belongs to a version that made message ids by the recipe "
            f"{recipe!r}, and this version makes them by {ID_RECIPE!r}: every row would be sent "
            "again under another id. Finish the backfill with the version that began it, or pass "
            "another journal."
        )


def _locked(path: Path) -> FileLock:
    lock = FileLock(f"{path}.lock", blocking=False, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        if not Path(lock.lock_file).exists():  # it retries whatever is wrong
            raise _not_writable(path, "the folder is not writable") from error
        raise JournalError(
            f"The journal {path} is in use by another run. Wait for that run to end."
        ) from error
    except OSError as error:
        raise _not_writable(path, str(error)) from error
    return lock


def _not_writable(path: Path, why: str) -> JournalError:
    return JournalError(
        f"The journal {path} cannot be written: {why}. Pass a path in a writable folder, or "
        "journal=False for no journal."
    )


def _opened(path: Path) -> sqlite3.Connection:
    try:
        # Each statement is a transaction of its own.
        database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        # Every commit survives the end of the process. A power cut can cost the last few commits,
        # whose rows would be sent again.
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(_TABLES)
    except sqlite3.Error as error:
        raise JournalError(f"The journal {path} cannot be opened: {error}.") from error
    return database


def _sorted(
    pair: tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]],
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
    high, low = pair
    order = np.argsort(high, kind="stable")
    return high[order], low[order]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

"""What is known to be delivered, kept in a file that survives a crash.

An SQLite database in write-ahead mode. It holds the mapping and the address (no key), the paths of
a file source, for each run its counts by outcome and code, and 12 bytes for each delivered row: the
first 96 bits of the XXH3 hash of its message. No payload and no value of a row is in it.

Two different messages share 96 bits with a chance of 1 in 8e28. Of 100 million rows, half of them
delivered, one is taken for another with a chance of 50e6 * 50e6 / 8e28, about 3e-14.

Rows that are alike in everything are one message: where one of them was delivered, a later run
takes all of them for delivered.

It costs 12 bytes a delivered row on disk, and as much in memory in a run that goes on from it.
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
from cdp_backfill.model.distinct import DIGEST_BYTES, contains, split
from cdp_backfill.model.mapping import Mapping

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Digests = npt.NDArray[np.uint8]
    Mask = npt.NDArray[np.bool_]

FORMAT: Final = "cdp-backfill journal 1"
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS delivered (run INTEGER, rows INTEGER, digests BLOB);
CREATE TABLE IF NOT EXISTS runs (
    run INTEGER PRIMARY KEY, started TEXT, ended TEXT, under_way INTEGER, counts TEXT, reasons TEXT
);
"""


@dataclass(frozen=True, slots=True)
class RunNote:
    """What a journal says of a run.

    Attributes:
        started: When it began, ISO 8601 in UTC.
        ended: When it ended, or None if it never said so.
        counts: Rows by outcome; empty for a run that never said.
        reasons: Rows by outcome and code.
    """

    started: str
    ended: str | None
    counts: dict[str, int]
    reasons: dict[str, int]


@dataclass(frozen=True, slots=True)
class About:
    """What a journal says of its backfill.

    Attributes:
        mapping: What goes where.
        url: Where to.
        paths: Files of the source, or None if it was no file.
        delivered: Rows known to be delivered.
        runs: The runs so far.
    """

    mapping: Mapping
    url: str
    paths: list[str] | None
    delivered: int
    runs: list[RunNote]


class Journal:
    """An open journal; one run at a time.

    Args:
        path: The file; made if it is not there.
        mapping: The mapping of the backfill.
        url: Its address.
        paths: Files of its source, or None.
        types: Types of columns that were found by looking at all of their cells.

    Raises:
        JournalError: It cannot be opened or written, is in use, or is another backfill's.
    """

    def __init__(
        self,
        path: Path,
        *,
        mapping: Mapping,
        url: str,
        paths: Sequence[str] | None = None,
        types: dict[str, str] | None = None,
    ) -> None:
        self.path = path
        self._lock = _locked(path)
        try:
            self._database = _opened(path)
            self._begin(mapping, url, paths, types or {})
            self.lost_sight_of = self._lost_sight_of()
            """Rows that runs which never ended may have had under way: they may be there twice."""
            self._high, self._low = self._load()
            self._run = self._database.execute(
                "INSERT INTO runs (started, under_way) VALUES (?, 0)", (_now(),)
            ).lastrowid
        except BaseException as error:
            self._lock.release()
            if isinstance(error, sqlite3.Error | ValueError | KeyError):
                raise JournalError(
                    f"The journal {path} is damaged, or not a journal ({type(error).__name__})."
                ) from error
            raise

    def _begin(
        self, mapping: Mapping, url: str, paths: Sequence[str] | None, types: dict[str, str]
    ) -> None:
        about = {
            "format": FORMAT,
            "mapping": mapping.to_toml(),
            "url": url,
            "paths": json.dumps(list(paths) if paths is not None else None),
            "types": json.dumps(types),
        }
        try:
            with self._database:
                self._database.execute("BEGIN IMMEDIATE")
                found = dict(self._database.execute("SELECT name, value FROM about"))
                if not found:
                    self._database.executemany("INSERT INTO about VALUES (?, ?)", about.items())
                    return
        except sqlite3.Error as error:
            raise JournalError(f"The journal {self.path} cannot be written: {error}.") from error
        if found.get("format") != FORMAT:
            raise JournalError(f"{self.path} is not a journal of this version.")
        if found["url"] != url:
            raise JournalError(
                f"The journal {self.path} belongs to a backfill to {found['url']}, not to {url}. "
                "Give another journal."
            )
        before = json.loads(found.get("types", "{}"))
        changed = sorted(name for name in {*before, *types} if before.get(name) != types.get(name))
        if changed:
            was = before.get(changed[0], "text")
            raise JournalError(
                f"The journal {self.path} is of a table whose column {changed[0]!r} was of type "
                f"{was}, as all of its cells were; now it is {types.get(changed[0], 'text')}. All "
                "rows would be other messages and be sent again. Mend the cells that differ, or "
                "give another journal."
            )
        if paths is not None:  # what resume goes on with is what was sent last
            self._database.execute(
                "UPDATE about SET value = ? WHERE name = 'paths'", (about["paths"],)
            )
        then = Mapping.from_toml(found["mapping"]).to_dict()
        if then != (given := mapping.to_dict()):
            names = sorted(name for name in {*then, *given} if then.get(name) != given.get(name))
            raise JournalError(
                f"The journal {self.path} belongs to a backfill with another mapping: "
                f"{', '.join(names)} {'differs' if len(names) == 1 else 'differ'}. "
                "With another mapping the same rows are other "
                "messages. Use the mapping of the journal, or give another journal."
            )

    def _lost_sight_of(self) -> int:
        query = "SELECT coalesce(sum(under_way), 0) FROM runs WHERE ended IS NULL"
        return int(self._database.execute(query).fetchone()[0])

    def _load(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
        blobs = [blob for (blob,) in self._database.execute("SELECT digests FROM delivered")]
        return _sorted(split(np.frombuffer(b"".join(blobs), np.uint8).reshape(-1, DIGEST_BYTES)))

    @property
    def known(self) -> int:
        """Rows that were delivered before this run."""
        return len(self._high)

    def knows(self, digests: Digests) -> Mask:
        """True for each message that was delivered before this run.

        Args:
            digests: An array with 12 or more bytes for each message.
        """
        return contains((self._high, self._low), *split(digests))

    def add(self, digests: Sequence[Digests]) -> None:
        """Note that messages are delivered; it is in the file when this returns.

        Raises:
            sqlite3.Error: The disk is full, say.
        """
        data = b"".join(part[:, :DIGEST_BYTES].tobytes() for part in digests)
        self._database.execute(
            "INSERT INTO delivered VALUES (?, ?, ?)", (self._run, len(data) // DIGEST_BYTES, data)
        )

    def doubt(self, rows: int) -> None:
        """Note how many rows a crash from now on would leave in doubt.

        Raises:
            sqlite3.Error: The disk is full, say.
        """
        self._database.execute("UPDATE runs SET under_way = ? WHERE run = ?", (rows, self._run))

    def close(self, counts: dict[str, int], reasons: dict[str, int]) -> None:
        """Note how the run ended, and let others use the journal.

        Args:
            counts: Rows by outcome.
            reasons: Rows by outcome and code.

        Raises:
            sqlite3.Error: The disk is full, say.
        """
        try:
            self._database.execute(
                "UPDATE runs SET ended = ?, counts = ?, reasons = ? WHERE run = ?",
                (_now(), json.dumps(counts), json.dumps(reasons), self._run),
            )
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let others use the journal, as a crash would."""
        self._database.close()
        self._lock.release()


def read_about(path: str | Path) -> About:
    """What a journal says, without changing it.

    Raises:
        JournalError: There is no journal at that path.
    """
    path = Path(path)
    if not path.is_file():
        raise JournalError(f"There is no journal {path}.")
    database = sqlite3.connect(path)
    try:
        found = dict(database.execute("SELECT name, value FROM about"))
        if found.get("format") != FORMAT:
            raise JournalError(f"{path} is not a journal of this version.")
        (delivered,) = database.execute("SELECT coalesce(sum(rows), 0) FROM delivered").fetchone()
        runs = [
            RunNote(started, ended, json.loads(counts or "{}"), json.loads(reasons or "{}"))
            for started, ended, counts, reasons in database.execute(
                "SELECT started, ended, counts, reasons FROM runs ORDER BY run"
            )
        ]
    except sqlite3.Error as error:
        raise JournalError(f"The journal {path} cannot be read: {error}.") from error
    finally:
        database.close()
    paths: Any = json.loads(found["paths"])
    return About(Mapping.from_toml(found["mapping"]), found["url"], paths, delivered, runs)


def _locked(path: Path) -> FileLock:
    lock = FileLock(f"{path}.lock", blocking=False, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        if not Path(lock.lock_file).exists():  # it tries again whatever is wrong
            raise _not_writable(path, "the folder does not take it") from error
        raise JournalError(
            f"The journal {path} is in use by another run; wait for it to end."
        ) from error
    except OSError as error:
        raise _not_writable(path, str(error)) from error
    return lock


def _not_writable(path: Path, why: str) -> JournalError:
    return JournalError(
        f"The journal {path} cannot be written: {why}. Give a path in a folder that can be "
        "written to, or journal=False to do without."
    )


def _opened(path: Path) -> sqlite3.Connection:
    try:
        # Each statement is a transaction of its own unless one is begun.
        database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        # Every commit survives the end of the process; a power cut can cost the last few, whose
        # rows would be sent again.
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

"""The journal: a file that records what was sent and delivered, and survives a crash.

It is an SQLite database in write-ahead mode. It holds the mapping and the address (no key), the
paths of file sources, the counts of each run by outcome and code, and 12 bytes for each row that
was sent: the first 96 bits of the XXH3 hash of its message. It holds no payload and no cell.

A request is recorded before it leaves. So whatever the server may have accepted is in the file
until it is known, even if the process is killed in between.

Two different messages share 96 bits with a probability of 1 in 8e28. In a backfill of 100 million
rows of which half are delivered, the probability that one row is taken for another is
50e6 * 50e6 / 8e28, about 3e-14.

Rows that are equal in everything are one message: once one of them is delivered, a later run counts
all of them as delivered.

It costs 12 bytes for each delivered row on disk, and as much memory in a run that goes on from it.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cdp_backfill.errors import JournalError
from cdp_backfill.messages.ids import ID_RECIPE
from cdp_backfill.model.distinct import DIGEST_BYTES
from cdp_backfill.model.mapping import Mapping
from cdp_backfill.pipeline.journal_file import (
    check_is_journal,
    journal_path,
    locked,
    one_clear_error,
    opened,
    unlock,
)
from cdp_backfill.pipeline.known_digests import KnownDigests
from cdp_backfill.pipeline.run_journal import State
from cdp_backfill.pipeline.same_backfill import changed_about, check_recipe, check_same_backfill

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cdp_backfill.model.arrays import Digests, Mask
    from cdp_backfill.sources import Unreadable


FORMAT: Final = "cdp-backfill journal 2"
SYNC_SECONDS = 0.1
"""A power cut costs at most the entries of this time before the last one."""


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
        options: What else the call said about which rows go, and how their messages are written.
        columns: The columns that the tables of its runs had; empty if it does not name them.
        preset: The preset that the call named, or None.
        unreadable: What to do with rows that cannot be read, ``"raise"`` or ``"skip"``.
        delivered: Number of rows known to be delivered.
        runs: The runs so far.
    """

    mapping: Mapping
    url: str
    paths: list[str] | None
    identify: dict[str, Any] | None
    options: dict[str, Any]
    columns: frozenset[str]
    preset: str | None
    unreadable: Unreadable
    delivered: int
    runs: list[RunRecord]


class Journal:
    """An open journal; one run at a time. Nothing in it changes before :meth:`begin`.

    Args:
        path: The file; :meth:`begin` creates it if it does not exist.
        mapping: The mapping of the backfill.
        url: The address that it sends to.
        paths: Paths of the source, or None for an in-memory table.
        identify: The identities that are sent first; see :class:`JournalContents`.
        options: See there, as for the next two.
        columns: See there.
        preset: See there.
        keeps_table: The run goes on with the table of an earlier run, or with a part of it: paths,
            identities and options stay as they are.
        unreadable: What to do with rows that cannot be read; see there.

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
        identify: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        columns: Sequence[str] = (),
        preset: str | None = None,
        keeps_table: bool = False,
        unreadable: Unreadable = "raise",
    ) -> None:
        self.path = path
        self._about = {
            "format": FORMAT,
            "recipe": ID_RECIPE,
            "mapping": mapping.to_toml(),
            "url": url,
            "paths": json.dumps(list(paths) if paths is not None else None),
            "options": json.dumps(options or {}),
            "columns": json.dumps(sorted(columns)),
            "unreadable": unreadable,
        }
        if identify is not None:
            self._about["identify"] = json.dumps(identify)
        if preset is not None:
            self._about["preset"] = preset
        self._keeps_table = keeps_table
        self._run: int | None = None
        self._before: dict[str, str] = {}  # what it held about the backfill before this run
        self._connection: sqlite3.Connection | None = None
        self._synced = -SYNC_SECONDS  # the first entry waits for the disk
        self._lock = locked(path)
        try:
            self._creates = not path.exists()
            self._is_new = self._creates or not path.stat().st_size
            with one_clear_error(path):
                if not self._is_new:
                    self._connection = opened(path)
                    self._check(mapping, url)
                self._load()
        except BaseException:
            self.release()
            raise

    @property
    def _database(self) -> sqlite3.Connection:
        """The connection; a journal that does not exist is created for it."""
        if self._connection is None:
            self._connection = opened(self.path)
        return self._connection

    def _check(self, mapping: Mapping, url: str) -> None:
        """Refuse the journal of another backfill."""
        stored = dict(self._database.execute("SELECT name, value FROM about"))
        if not stored:
            return
        self._before = stored
        _check_version(self.path, stored)
        check_same_backfill(self.path, stored, mapping, url, keeps_table=self._keeps_table)

    def _load(self) -> None:
        """Read which messages were delivered, and which the server may have accepted."""
        entries: Iterable[tuple[str, bytes]] = ()
        if not self._is_new:
            entries = self._database.execute("SELECT state, digests FROM requests")
        self._known = KnownDigests(
            (State(state).delivered, State(state).doubts, _digests(blob)) for state, blob in entries
        )

    @property
    def maybe_twice(self) -> int:
        """Messages that the server may have accepted more than once in earlier runs."""
        return self._known.maybe_twice

    @property
    def delivered_before(self) -> int:
        """Number of rows that earlier runs delivered."""
        return self._known.delivered

    def is_delivered(self, digests: Digests) -> Mask:
        """True for each message that an earlier run delivered.

        Args:
            digests: An array with 12 or more bytes for each message.
        """
        return self._known.is_delivered(digests)

    def doubts(self, digests: Digests) -> npt.NDArray[np.uint8]:
        """Attempts of earlier runs without an answer, for each message: 0, 1, or 2 for more.

        Args:
            digests: An array with 12 or more bytes for each message.
        """
        return self._known.doubts(digests)

    # --- Changes ---

    def begin(self) -> None:
        """Record that a run begins; resume goes on with its files, identities and options.

        Raises:
            JournalError: The file cannot be written, for example because the disk is full. It is as
                it was before.
        """
        if self._run is not None:
            return
        try:
            with one_clear_error(self.path), self._database:
                self._database.execute("BEGIN IMMEDIATE")
                self._write_about(
                    changed_about(self._before, self._about, keeps_table=self._keeps_table)
                )
                self._run = self._database.execute(
                    "INSERT INTO runs (started) VALUES (?)", (_now(),)
                ).lastrowid
        except BaseException:
            self._remove_new()
            raise

    def _write_about(self, about: dict[str, str]) -> None:
        self._database.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", about.items())

    def undo_begin(self) -> None:
        """Make the journal what it was before :meth:`begin`, because the run is refused after all.

        Raises:
            JournalError: The file cannot be written.
        """
        if self._run is None:
            return
        if self._is_new:
            self._remove_new()
            return
        with one_clear_error(self.path), self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("DELETE FROM about")
            self._write_about(self._before)
            self._database.execute("DELETE FROM runs WHERE run = ?", (self._run,))
        self._run = None

    def _remove_new(self) -> None:
        """Remove the file, if this run created it."""
        self._run = None
        if self._creates and self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
            for end in ("", "-wal", "-shm"):
                with contextlib.suppress(OSError):
                    self.path.with_name(self.path.name + end).unlink()

    def add(self, digests: Sequence[Digests], state: State) -> int:
        """Record the messages of a request; the record is in the file when this returns.

        Returns:
            The number of the request.

        Raises:
            sqlite3.Error: The file cannot be written, for example because the disk is full.
        """
        data = b"".join(part[:, :DIGEST_BYTES].tobytes() for part in digests)
        number = self._write(
            "INSERT INTO requests (run, state, rows, digests) VALUES (?, ?, ?, ?)",
            (self._run, state.value, len(data) // DIGEST_BYTES, data),
        )
        return int(number or 0)

    def change(self, request: int, state: State | None) -> None:
        """Change the state of a request; None forgets it.

        Raises:
            sqlite3.Error: The file cannot be written, for example because the disk is full.
        """
        if state is None:
            self._write("DELETE FROM requests WHERE id = ?", (request,))
        else:  # a state of the same length is written in place, without the digests
            self._write("UPDATE requests SET state = ? WHERE id = ?", (state.value, request))

    def split(self, request: int, *, in_doubt: bool) -> None:
        """Record that parts take the place of a request; each gets an entry of its own.

        Args:
            request: The number of the request.
            in_doubt: The server may have accepted it.

        Raises:
            sqlite3.Error: The file cannot be written, for example because the disk is full.
        """
        if not in_doubt:
            self.change(request, None)

    def _write(self, statement: str, values: Sequence[Any]) -> int | None:
        """Write an entry, and from time to time all entries through to the disk."""
        is_due = time.monotonic() - self._synced >= SYNC_SECONDS
        if is_due:  # this commit waits for the disk, and so takes those before it along
            self._database.execute("PRAGMA synchronous = FULL")
        try:
            return self._database.execute(statement, values).lastrowid
        finally:
            if is_due:
                self._database.execute("PRAGMA synchronous = NORMAL")
                self._synced = time.monotonic()

    def close(self, counts: dict[str, int], reasons: dict[str, int]) -> None:
        """Record how the run ended, and release the journal.

        Args:
            counts: Rows by outcome.
            reasons: Rows by outcome and code.

        Raises:
            sqlite3.Error: The file cannot be written, for example because the disk is full.
        """
        try:
            if self._run is not None:
                self._database.execute(
                    "UPDATE runs SET ended = ?, counts = ?, reasons = ? WHERE run = ?",
                    (_now(), json.dumps(counts), json.dumps(reasons), self._run),
                )
        finally:
            self.release()

    def release(self) -> None:
        """Let other runs use the journal, without a record of how this one ended."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):  # such as a disk that is full
                self._connection.close()
        unlock(self._lock)


def identities_path(path: Path) -> Path:
    """The journal of the identities that belongs to a journal of events.

    >>> from pathlib import Path
    >>> identities_path(Path("opens.cdp-journal")).name
    'opens-identities.cdp-journal'
    """
    return path.with_name(f"{path.stem}-identities{path.suffix}")


def read_journal(path: str | Path) -> JournalContents:
    """Read a journal without changing it.

    Raises:
        JournalError: There is no journal at this path, or it cannot be read.
    """
    path = journal_path(path)
    if not path.is_file():
        raise JournalError(f"There is no journal {path}. Check the path.")
    check_is_journal(path)
    with one_clear_error(path), closing(sqlite3.connect(path)) as database:
        is_new = not path.stat().st_size
        stored = {} if is_new else dict(database.execute("SELECT name, value FROM about"))
        if not stored:
            raise JournalError(
                f"The journal {path} is empty: the run that created it ended before it sent a row. "
                "Call send() again with this journal."
            )
        _check_version(path, stored)
        query = "SELECT coalesce(sum(rows), 0) FROM requests WHERE state IN (?, ?)"
        states = (State.DELIVERED.value, State.DELIVERED_AGAIN.value)
        (delivered,) = database.execute(query, states).fetchone()
        runs = [
            RunRecord(started, ended, json.loads(counts or "{}"), json.loads(reasons or "{}"))
            for started, ended, counts, reasons in database.execute(
                "SELECT started, ended, counts, reasons FROM runs ORDER BY run"
            )
        ]
        return JournalContents(
            mapping=Mapping.from_toml(stored["mapping"]),
            url=stored["url"],
            paths=json.loads(stored["paths"]),
            identify=json.loads(stored.get("identify", "null")),
            options=dict(json.loads(stored.get("options", "{}"))),
            columns=frozenset(json.loads(stored.get("columns", "[]"))),
            preset=stored.get("preset"),
            unreadable="skip" if stored.get("unreadable") == "skip" else "raise",
            delivered=delivered,
            runs=runs,
        )


def _check_version(path: Path, stored: dict[str, str]) -> None:
    if stored.get("format") != FORMAT:
        raise JournalError(
            f"{path} is not a journal of this version. Pass the path of another file."
        )
    check_recipe(path, stored)


def _digests(blob: bytes) -> Digests:
    return np.frombuffer(blob, np.uint8).reshape(-1, DIGEST_BYTES)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

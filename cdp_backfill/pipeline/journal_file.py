"""The file of a journal: its path, its lock, and whether it is a journal at all."""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from filelock import FileLock, Timeout

from cdp_backfill.errors import BackfillError, JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAGIC: Final = b"SQLite format 3\x00"
_APPLICATION_ID: Final = 0x6364706A  # "cdpj"
_APPLICATION_ID_OFFSET: Final = 68  # in the header of an SQLite database

_CREATION: Final = (
    "BEGIN IMMEDIATE",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    "CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT)",
    """CREATE TABLE requests (
        id INTEGER PRIMARY KEY, run INTEGER, state TEXT, rows INTEGER, digests BLOB
    )""",
    """CREATE TABLE runs (
        run INTEGER PRIMARY KEY, started TEXT, ended TEXT, counts TEXT, reasons TEXT
    )""",
    "COMMIT",
)

_NOT_DAMAGED: Final = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
)


def journal_path(path: str | Path) -> Path:
    """The path of a journal, with ``~`` for the home folder.

    Raises:
        JournalError: It names no file.
    """
    if str(path).strip() in ("", ":memory:"):
        raise JournalError(
            f"A journal is a file, so {str(path)!r} cannot be one. Pass a path, or journal=False "
            "for no journal."
        )
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # there is no such user
        raise JournalError(f"The journal {path} has no path: {error}") from error


@contextmanager
def one_clear_error(path: Path) -> Iterator[None]:
    """Turn whatever reading a journal raises into one error.

    Raises:
        JournalError: The file cannot be read or written, or is damaged.
    """
    try:
        yield
    except JournalError:
        raise
    except (
        sqlite3.Error,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        BackfillError,
    ) as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _NOT_DAMAGED:
            raise _not_writable(path, why(error)) from error
        raise JournalError(
            f"The journal {path} is damaged, or is not a journal ({type(error).__name__}). Pass "
            "the path of another file."
        ) from error


def why(error: Exception) -> str:
    """What is wrong, in words."""
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return "the disk is full"
    return str(error)


def check_is_journal(path: Path) -> None:
    """Look at the first bytes of a file, without changing it.

    Raises:
        JournalError: It is no journal, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError as error:
        raise JournalError(
            f"The journal {path} cannot be opened: {error.strerror or error}. Pass the path of "
            "another file."
        ) from error
    if not head:
        return
    number = head[_APPLICATION_ID_OFFSET : _APPLICATION_ID_OFFSET + 4]
    if not head.startswith(_MAGIC) or int.from_bytes(number, "big") != _APPLICATION_ID:
        raise JournalError(
            f"{path} cannot be opened as a journal: it is another file, or a journal of another "
            "version of cdp-backfill. It was not changed. Pass the path of another file."
        )


def locked(path: Path) -> FileLock:
    """Create a journal that does not exist, and lock it; the lock is the same under all names.

    Args:
        path: The file.

    Raises:
        JournalError: Another run uses it, or it cannot be written.
    """
    try:
        if not path.exists():
            # Nobody else may read it. SQLite gives the files beside it the same mode.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        check_is_journal(path)
        lock = FileLock(f"{_real_path(path)}.lock", blocking=False, thread_local=False, mode=0o600)
        lock.acquire()
    except Timeout as error:
        if not Path(lock.lock_file).exists():  # it retries whatever is wrong
            raise _not_writable(path, "the folder is not writable") from error
        raise JournalError(
            f"The journal {path} is in use by another run. Wait for that run to end."
        ) from error
    except OSError as error:
        raise _not_writable(path, error.strerror or str(error)) from error
    return lock


def _real_path(path: Path) -> Path:
    """The file as its folder lists it: one path, however links and case are used."""
    real = path.resolve()
    names = os.listdir(real.parent)  # noqa: PTH208  # names alone
    if real.name in names:
        return real
    same = (real.with_name(name) for name in names if name.casefold() == real.name.casefold())
    return next((each for each in same if each.samefile(real)), real)


def _not_writable(path: Path, reason: str) -> JournalError:
    return JournalError(
        f"The journal {path} cannot be written: {reason}. Pass a path in a writable folder, or "
        "journal=False for no journal."
    )


def opened(path: Path) -> sqlite3.Connection:
    """Open a journal; a new one gets its tables."""
    # Each statement is a transaction of its own.
    database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    try:
        if not path.stat().st_size:
            # Before the write-ahead mode, so that the first bytes of the file name it at once.
            for statement in _CREATION:
                database.execute(statement)
        # Every commit survives the end of the process. To survive a power cut, entries must be
        # written through to the disk, which the journal does from time to time.
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        database.close()
        raise
    return database

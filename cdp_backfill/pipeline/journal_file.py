"""The file of a journal: its path, its lock, and whether it is a journal at all."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
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

_LOCK_ATTEMPTS: Final = 5
"""How often to try again where another run deletes the lock file at the same moment."""

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
    """Lock a journal, which need not exist; the lock is the same under all names.

    The lock file beside the journal is gone once :func:`unlock` has been called.

    Args:
        path: The file.

    Raises:
        JournalError: Another run uses it, or it cannot be written.
    """
    try:
        if path.exists():
            check_is_journal(path)
        lock = FileLock(f"{_real_path(path)}.lock", blocking=False, thread_local=False, mode=0o600)
        for _ in range(_LOCK_ATTEMPTS):
            if _try_to_lock(lock):
                return lock
    except OSError as error:
        raise _not_writable(path, error.strerror or str(error)) from error
    if not Path(lock.lock_file).exists():  # the library retries whatever is wrong
        raise _not_writable(path, "the folder is not writable")
    raise JournalError(f"The journal {path} is in use by another run. Wait for that run to end.")


def _try_to_lock(lock: FileLock) -> bool:
    """Lock the file that has the name of the lock file now.

    A run that ends deletes its lock file. Whoever had opened that file before can lock it all the
    same, while the next run makes another file of this name: such a lock is worth nothing.
    """
    try:
        lock.acquire()
    except Timeout:
        return False
    descriptor = lock._context.lock_file_fd  # noqa: SLF001  # nothing public tells which file it is
    try:
        if descriptor is None or os.path.samestat(
            os.fstat(descriptor), Path(lock.lock_file).stat()
        ):
            return True
    except FileNotFoundError:
        pass
    lock.release()
    return False


def unlock(lock: FileLock) -> None:
    """Release the lock of a journal, and delete its file; once."""
    if not lock.is_locked:
        return
    file = Path(lock.lock_file)
    if sys.platform != "win32":  # while it is locked: nobody else can have made a file of this name
        with contextlib.suppress(OSError):
            file.unlink()
    lock.release()
    if sys.platform == "win32":  # an open file cannot be deleted there, so none that is in use is
        with contextlib.suppress(OSError):
            file.unlink()


def _real_path(path: Path) -> Path:
    """The file as its folder lists it: one path, however links and case are used."""
    real = path.resolve()
    names = os.listdir(real.parent)  # noqa: PTH208  # names alone
    if real.name in names or not real.exists():
        return real
    same = (real.with_name(name) for name in names if name.casefold() == real.name.casefold())
    return next((each for each in same if each.samefile(real)), real)


def _not_writable(path: Path, reason: str) -> JournalError:
    return JournalError(
        f"The journal {path} cannot be written: {reason}. Pass a path in a writable folder, or "
        "journal=False for no journal."
    )


def opened(path: Path) -> sqlite3.Connection:
    """Open a journal; a new one is created, and gets its tables.

    Raises:
        JournalError: It cannot be created.
        sqlite3.Error: It cannot be opened.
    """
    if not path.exists():
        try:  # Nobody else may read it. SQLite gives the files beside it the same mode.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise _not_writable(path, error.strerror or str(error)) from error
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

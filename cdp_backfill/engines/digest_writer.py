"""Writes the files of digests of one attempt, on a thread of its own."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from cdp_backfill.engines.digest_files import Kind, to_bytes, together

if TYPE_CHECKING:
    from cdp_backfill.engines.digest_files import Records
    from cdp_backfill.engines.store import Store
    from cdp_backfill.model.arrays import Digests

FLUSH_DIGESTS: Final = 100_000
"""Delivered messages that are written at once."""

FLUSH_SECONDS: Final = 2.0
"""How long a delivered message waits to be written: a crash sends these messages again."""

COMPACT_DIGESTS: Final = 2**24
"""Most digests of an attempt that are kept, 200 MB, to replace its files by one at its end."""

DIGESTS: Final = ".digests"
ALL: Final = f"all{DIGESTS}"


class DigestWriter:
    """Collects what is recorded, and writes it to files that are numbered.

    Args:
        store: The folder.
        folder: Folder in it for the files.
    """

    def __init__(self, store: Store, folder: str) -> None:
        self._store, self._folder = store, folder
        self._changed = threading.Condition()
        self._waiting: list[Records] = []
        self._waiting_digests = 0
        self._since: float | None = None  # when the oldest of them came
        self._asked = self._written = 0  # how often somebody asked for a flush, and got it
        self._error: OSError | None = None
        self._ended = False
        self._files: list[str] = []
        self._settled: list[Records] | None = []  # what the one file at the end will hold
        self._settled_digests = 0
        self._thread = threading.Thread(target=self._run, name="cdp-backfill-digests", daemon=True)
        self._thread.start()

    def record(self, kind: Kind, digests: Digests, *, soon: bool = False) -> int:
        """Record messages; they are in a file after some time.

        Args:
            kind: What to record of them.
            digests: The messages.
            soon: Write them at once, and do not wait for it.

        Returns:
            What to pass to :meth:`wait` to wait for it.

        Raises:
            OSError: Files cannot be written.
        """
        with self._changed:
            self._check()
            self._waiting.append({kind: digests})
            self._waiting_digests += len(digests)
            if self._since is None:
                self._since = time.monotonic()
            if kind in ("delivered", "delivered_again") and self._settled is not None:
                self._settled.append({kind: digests})
                self._settled_digests += len(digests)
                if self._settled_digests > COMPACT_DIGESTS:
                    self._settled = None
            if soon:
                self._asked += 1
            if soon or self._waiting_digests >= FLUSH_DIGESTS or len(self._waiting) == 1:
                self._changed.notify_all()
            return self._asked

    def wait(self, asked: int) -> None:
        """Wait until what was recorded is in a file.

        Args:
            asked: What :meth:`record` returned.

        Raises:
            OSError: Files cannot be written.
        """
        with self._changed:
            while self._written < asked:
                self._check()
                self._changed.wait()

    def end(self, doubts: Records) -> None:
        """Write what is left, and replace all files by one if they are not too large.

        Args:
            doubts: What stays in doubt for good.

        Raises:
            OSError: Files cannot be written.
        """
        self._stop()
        self._check()
        if self._settled is None or not (self._files or self._waiting or doubts):
            self._flush()
            return
        records = together(self._settled)
        if "delivered_again" in records:  # an attempt before has had no answer
            doubts = together([doubts, {"sent": records["delivered_again"]}])
        records = together([records, doubts])
        self._store.write(f"{self._folder}/{ALL}", to_bytes(records))
        self._waiting = []
        for name in self._files:
            self._store.delete(name)

    def abandon(self) -> None:
        """Write what is left if possible, and end."""
        self._stop()
        if self._error is None:
            self._flush_or_fail()

    def _stop(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    # --- On its thread ---

    def _run(self) -> None:
        while self._await_work():
            self._flush_or_fail()

    def _await_work(self) -> bool:
        """Wait until something must be written; False at the end."""
        with self._changed:
            while not self._ended and self._error is None:
                left = None
                if self._since is not None:
                    left = self._since + FLUSH_SECONDS - time.monotonic()
                    is_due = left <= 0 or self._waiting_digests >= FLUSH_DIGESTS
                    if is_due or self._asked > self._written:
                        return True
                self._changed.wait(left)
            return False

    def _flush_or_fail(self) -> None:
        try:
            self._flush()
        except Exception as error:  # noqa: BLE001  # whoever waits must know
            with self._changed:
                self._error = error if isinstance(error, OSError) else OSError(str(error))
                self._changed.notify_all()

    def _flush(self) -> None:
        with self._changed:
            waiting, asked = self._waiting, self._asked
            self._waiting, self._waiting_digests, self._since = [], 0, None
        if waiting:
            name = f"{self._folder}/{len(self._files) + 1:06d}{DIGESTS}"
            self._store.write(name, to_bytes(together(waiting)))
            self._files.append(name)
        with self._changed:
            self._written = asked
            self._changed.notify_all()

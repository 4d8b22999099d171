"""Signs of life: who works on what, in a folder that offers nothing but whole files.

Whoever wants a place writes a file with the state ``starting`` first, and then looks for others. Of
two who start at the same time, the one with the lesser name goes first; the other steps back. The
file is written again every other second. Once it is older than the limit, by the clock of the file
system, its writer counts as dead.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from cdp_backfill.engines.this_process import is_gone, this_process
from cdp_backfill.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.engines.store import Store

BEAT_SECONDS: Final = 2.0
"""Time between two signs of life."""

STALE_SECONDS: Final = 30.0
"""Age at which the last sign of life is that of somebody dead."""

CLAIM: Final = "claim.json"
"""Name of the file."""

_POLL_SECONDS: Final = 0.1
_MAX_POLL_SECONDS: Final = 2.0

State = Literal["starting", "waiting", "running"]


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign of life of somebody else.

    Attributes:
        name: Their file.
        holder: Their name.
        state: What they do.
        age: Seconds since it was written.
    """

    name: str
    holder: str
    state: State
    age: float


class Claim:
    """A place that one at a time may have.

    Args:
        store: The folder.
        folder: Folder in it for this claim; its last part is the name of whoever claims.
        place: Folder of all claims to the same place.
    """

    def __init__(self, store: Store, folder: str, place: str) -> None:
        self._store, self._folder, self._place = store, folder, place
        self._name = f"{folder}/{CLAIM}"
        self.holder = folder.rpartition("/")[2]
        self._state: State = "starting"
        self._beat = 0.0
        self._wakes = threading.Event()
        self._lock = threading.Lock()  # one at a time writes the file
        self._thread: threading.Thread | None = None
        self._released = False
        self.on_beat: Callable[[], None] = lambda: None
        """Called after each sign of life, on a thread of its own."""

    def try_to_take(self) -> Sign | None:
        """Take the place, unless somebody alive has it: then, return their sign of life.

        Raises:
            OSError: The folder cannot be read or written.
        """
        return self._take(wait=False)

    def take(self) -> None:
        """Wait for the place, and take it.

        Raises:
            OSError: The folder cannot be read or written.
        """
        self._take(wait=True)

    def _take(self, *, wait: bool) -> Sign | None:
        pause = _POLL_SECONDS
        # Where a sign of life is gone for a moment while it is replaced, one look is not enough.
        looks = 1 if self._store.replaces_at_once else 3
        try:
            self._write("starting")
            self._start()
            while True:
                others = self._others()
                first = [
                    each
                    for each in others
                    if each.state == "running"
                    or (each.state == "starting" and each.holder < self.holder)
                ]
                if first and not wait:
                    self.release()
                    return first[0]
                if first:
                    self._write("waiting")
                elif self._state == "waiting":
                    self._write("starting")
                    continue  # look again: somebody may have started in between
                elif all(each.state == "waiting" for each in others):
                    looks -= 1
                    if not looks:
                        self._write("running")
                        return None
                # Whoever starts at the same time steps back as soon as they see this one.
                self._wakes.wait(pause)
                pause = min(2 * pause, _MAX_POLL_SECONDS)
        except BaseException:
            self.release()
            raise

    def _others(self) -> list[Sign]:
        """Everybody else who is alive."""
        self._write(self._state)  # its time is the present by the clock of the file system
        names = self._store.names(self._place)
        now = names.get(self._name)
        found = []
        for name, changed in names.items():
            if not name.endswith(f"/{CLAIM}") or name.startswith(f"{self._folder}/"):
                continue
            content = _content(self._store.read(name))
            if content is None or is_gone(content):
                continue
            if now is None or changed is None:
                age = time.time() - float(content["time"])
            else:
                age = (now - changed) / 1e9
            if age < STALE_SECONDS:
                found.append(Sign(name, name.split("/")[-2], content["state"], max(0.0, age)))
        return found

    def check(self) -> None:
        """Make sure that nobody takes this one for dead.

        Raises:
            OSError: No sign of life could be written for too long.
        """
        age = time.time() - self._beat
        if age > STALE_SECONDS / 2:
            raise OSError(f"no sign of life could be written for {age:.0f} seconds")

    def release(self) -> None:
        """Give the place up."""
        self._released = True
        self._wakes.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        with self._lock:
            try:
                self._store.delete(self._name)
            except OSError:
                return  # it will be too old soon

    # --- Signs of life ---

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._go_on, name="cdp-backfill-claim", daemon=True)
        self._thread.start()

    def _go_on(self) -> None:
        while not self._wakes.wait(BEAT_SECONDS):
            try:
                self._write()
                self.on_beat()
            except (OSError, JournalError):  # check() tells if this goes on
                continue

    def _write(self, state: State | None = None) -> None:
        with self._lock:
            if self._released:
                return
            self._state = state or self._state
            now = time.time()
            content = {"state": self._state, "time": now, **this_process()}
            self._store.write(self._name, json.dumps(content).encode(), lasts=False)
            self._beat = now  # of before it was written: whoever reads it counts from later on


def new_holder() -> str:
    """A name for whoever claims; names made later are greater.

    >>> len(new_holder())
    23
    """
    return f"{time.time_ns() // 1_000_000:014d}-{uuid.uuid4().hex[:8]}"


def _content(data: bytes | None) -> dict[str, Any] | None:
    """What a sign of life says, or None if it is gone or is none."""
    if data is None:
        return None
    try:
        content = json.loads(data)
        return content if content["state"] in ("starting", "waiting", "running") else None
    except (ValueError, KeyError, TypeError):
        return None

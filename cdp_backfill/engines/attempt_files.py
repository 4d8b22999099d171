"""The files of attempts in a shared journal: their names, and what they say together."""

from __future__ import annotations

import re
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

import xxhash

from cdp_backfill.engines import digest_files
from cdp_backfill.engines.digest_writer import ALL, DIGESTS
from cdp_backfill.errors import JournalError
from cdp_backfill.model.distinct import DIGEST_BYTES
from cdp_backfill.pipeline.known_digests import KnownDigests

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.engines.store import Store
    from cdp_backfill.pipeline.known_digests import Entry

RUNS: Final = "runs"
SUMMARY: Final = "summary.bin"

_PREFIX: Final = "part-"  # no name can be that of a folder above

_READERS: Final = 8
_ATTEMPTS: Final = 5
_LONGEST_NAME: Final = 100
_FILE: Final = re.compile(rf"{RUNS}/([^/]+)/parts/([^/]+)/([^/]+)/([^/]+)")


def part_folder(run: str, part: str) -> str:
    """The folder of all attempts of a part."""
    name = quote(part, safe="")
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}-{xxhash.xxh3_64_hexdigest(part.encode())}"
    return f"{RUNS}/{run}/parts/{_PREFIX}{name}"


@dataclass(slots=True)
class AttemptFiles:
    """The files of one attempt of a part.

    Attributes:
        run: The run.
        part: Name of the part in the folder.
        holder: Name of the attempt; names made later are greater.
        files: Their names in the folder of the attempt.
    """

    run: str
    part: str
    holder: str
    files: set[str] = field(default_factory=set)

    @property
    def folder(self) -> str:
        """Its folder."""
        return f"{RUNS}/{self.run}/parts/{self.part}/{self.holder}"

    @property
    def has_ended(self) -> bool:
        """Whether it wrote a summary."""
        return SUMMARY in self.files

    @property
    def part_name(self) -> str:
        """The part, as the engine names it."""
        return unquote(self.part.removeprefix(_PREFIX))

    @property
    def digest_files(self) -> list[str]:
        """The files with its digests; the one of its end has all."""
        names = [ALL] if ALL in self.files else [n for n in self.files if n.endswith(DIGESTS)]
        return [f"{self.folder}/{name}" for name in sorted(names)]


def attempts_in(store: Store, run: str | None = None) -> list[AttemptFiles]:
    """All attempts of a run, or of all runs, in the order of their names.

    Raises:
        OSError: The folder cannot be read.
    """
    found: dict[tuple[str, str, str], AttemptFiles] = {}
    for name in store.names(RUNS if run is None else f"{RUNS}/{run}"):
        if match := _FILE.fullmatch(name):
            run, part, holder, file = match.groups()
            key = (run, part, holder)
            found.setdefault(key, AttemptFiles(run, part, holder)).files.add(file)
    return [found[key] for key in sorted(found)]


def digests_in(store: Store, *, without: str | None = None) -> int:
    """How many digests the files of all runs hold, including those that are there twice.

    Args:
        store: The folder.
        without: A run that does not count.

    Raises:
        OSError: The folder cannot be read.
    """
    sizes = store.sizes().items()
    counted = [
        size
        for name, size in sizes
        if (m := _FILE.fullmatch(name)) and m[1] != without and m[4].endswith(DIGESTS)
    ]
    return sum(counted) // DIGEST_BYTES


def load(
    store: Store,
    choose: Callable[[AttemptFiles], bool],
    keep: Callable[[Entry], Entry] = lambda entry: entry,
    *,
    run: str | None = None,
) -> list[Entry]:
    """What the attempts of some kind say of messages.

    Args:
        store: The folder.
        choose: Chooses attempts.
        keep: Keeps what is needed of the digests of an entry.
        run: Look at the attempts of this run only; None for all.

    Raises:
        OSError: The folder cannot be read.
        JournalError: A file is damaged.
    """
    found: list[Entry] = []

    def begin() -> Callable[[list[Entry]], None]:
        found.clear()
        return lambda entries: found.extend(map(keep, entries))

    for_each(store, choose, begin, run=run)
    return found


def for_each(
    store: Store,
    choose: Callable[[AttemptFiles], bool],
    begin: Callable[[], Callable[[list[Entry]], None]],
    *,
    run: str | None = None,
) -> None:
    """Do something with what each attempt of some kind says of messages.

    Args:
        store: The folder.
        choose: Chooses attempts.
        begin: Returns what to do with the entries of an attempt. It is called again, to start
            anew, if the folder changes in between.
        run: Look at the attempts of this run only; None for all.

    Raises:
        OSError: The folder cannot be read.
        JournalError: A file is damaged.
    """
    for _ in range(_ATTEMPTS):
        chosen = [each for each in attempts_in(store, run) if choose(each)]
        use, lock = begin(), threading.Lock()

        def read(attempt: AttemptFiles, use: Any = use, lock: Any = lock) -> None:
            entries = _entries(store, attempt)
            with lock:
                use(entries)

        try:
            with ThreadPoolExecutor(_READERS, thread_name_prefix="cdp-backfill-load") as pool:
                deque(pool.map(read, chosen), maxlen=0)
        except FileNotFoundError:  # an attempt has just replaced its files by one
            continue
        return
    raise JournalError(
        f"The journal {store.location} changes while it is read. Wait for its other runs to end."
    )


def _entries(store: Store, attempt: AttemptFiles) -> list[Entry]:
    records = []
    for name in attempt.digest_files:
        content = store.read(name)
        if content is None:
            raise FileNotFoundError(name)
        try:
            records.append(digest_files.from_bytes(content))
        except digest_files.NotDigestsError:
            raise JournalError(
                f"The journal {store.location} is damaged: {name} is no file of digests. Restore "
                "the folder, or pass another journal."
            ) from None
    return digest_files.entries(digest_files.together(records))


class KnownBefore:
    """What the runs before a run did, loaded once for all parts that one process sends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: tuple[str, ...] | None = None
        self._known = KnownDigests()

    def get(self, key: tuple[str, ...], read: Callable[[], KnownDigests]) -> KnownDigests:
        """What is known, read if the key is another than the last time."""
        with self._lock:
            if key != self._key:
                self._key, self._known = None, KnownDigests()  # not two of them in memory
                self._known, self._key = read(), key
            return self._known

    def forget(self) -> None:
        """Free the memory."""
        with self._lock:
            self._key, self._known = None, KnownDigests()

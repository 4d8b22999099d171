"""The files of attempts in a shared journal: their names, and what they say together."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

import xxhash

from cdp_backfill.engines import digest_files
from cdp_backfill.engines.digest_writer import ALL, DIGESTS
from cdp_backfill.errors import JournalError
from cdp_backfill.pipeline.known_digests import KnownDigests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
    for _ in range(_ATTEMPTS):
        chosen = [each for each in attempts_in(store, run) if choose(each)]
        try:
            with ThreadPoolExecutor(_READERS, thread_name_prefix="cdp-backfill-load") as pool:
                parts = list(pool.map(partial(_entries, store, keep), chosen))
        except FileNotFoundError:  # an attempt has just replaced its files by one
            continue
        return [entry for part in parts for entry in part]
    raise JournalError(
        f"The journal {store.location} changes while it is read. Wait for its other runs to end."
    )


def _entries(store: Store, keep: Callable[[Entry], Entry], attempt: AttemptFiles) -> list[Entry]:
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
    return [keep(entry) for entry in digest_files.entries(digest_files.together(records))]


class KnownBefore:
    """What the runs before a run did, loaded once for all parts that one process sends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: tuple[str, ...] | None = None
        self._known = KnownDigests()

    def get(self, key: Iterable[str], entries: Callable[[], list[Entry]]) -> KnownDigests:
        """What is known, loaded if the key is another than the last time."""
        with self._lock:
            key = tuple(key)
            if key != self._key:
                self._key, self._known = None, KnownDigests()  # not two of them in memory
                self._known, self._key = KnownDigests(entries()), key
            return self._known

    def forget(self) -> None:
        """Free the memory."""
        with self._lock:
            self._key, self._known = None, KnownDigests()

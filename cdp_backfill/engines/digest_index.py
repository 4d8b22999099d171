"""What earlier runs of a shared journal did: in memory, or in an index on the disk of a machine.

Each row is looked up among all messages that were delivered before, because a later run can have
other parts, another order or another engine. A few million of them are read into the memory of each
worker process. More of them become files, once on each machine: sorted arrays, which all processes
of the machine map into their memory. The system keeps of them what there is room for.

The files lie in the folder for temporary files, where only their owner can read them: 12 bytes for
each message, and twice that while they are made. The driver deletes those of its own machine at the
end of a run; on other machines, the next run of the journal does.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import xxhash
from filelock import FileLock

from cdp_backfill.engines.attempt_files import digests_in, for_each, load
from cdp_backfill.engines.store import one_clear_error
from cdp_backfill.errors import JournalError
from cdp_backfill.model.distinct import DIGEST_BYTES
from cdp_backfill.pipeline.known_digests import KnownDigests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from cdp_backfill.engines.attempt_files import AttemptFiles
    from cdp_backfill.engines.store import Store
    from cdp_backfill.pipeline.known_digests import Entry, Keys

IN_MEMORY: Final = 2**22
"""Most digests that each process keeps in memory: 50 MB, and 200 MB while they are read."""

_SHARES: Final = 256  # by the first byte of a digest; of a billion digests, one takes 200 MB
_ARRAYS: Final = ("delivered", "doubted", "doubted_twice")
_ABOUT: Final = "about.json"


def known_before(store: Store, run: str) -> KnownDigests:
    """What the runs before a run did.

    Args:
        store: The folder of the journal.
        run: The run.

    Raises:
        OSError: The journal cannot be read.
        JournalError: It is damaged, or the index cannot be written.
    """

    def is_before(attempt: AttemptFiles) -> bool:
        return attempt.run != run

    digests = digests_in(store, without=run)
    if digests <= IN_MEMORY:
        return KnownDigests(load(store, is_before))
    with _error_of_disk(store, digests):
        folder = _folder(store) / run
        with FileLock(folder.parent / "lock", mode=0o600):
            if not (folder / _ABOUT).exists():
                _build(store, is_before, folder, digests)
        return _mapped(folder)


def remove_index(store: Store, run: str) -> None:
    """Delete the index of a run on this machine, if there is one."""
    with suppress(OSError):
        shutil.rmtree(_folder(store) / run, ignore_errors=True)


def _folder(store: Store) -> Path:
    """The folder of all indexes of a journal on this machine.

    Raises:
        OSError: It cannot be written, or belongs to somebody else.
    """
    user = os.getuid() if hasattr(os, "getuid") else None
    ours = Path(tempfile.gettempdir()) / f"cdp-backfill-{'digests' if user is None else user}"
    ours.mkdir(mode=0o700, exist_ok=True)
    if user is not None and (ours.is_symlink() or ours.stat().st_uid != user):
        raise OSError(f"{ours} belongs to somebody else")
    folder = ours / xxhash.xxh3_64_hexdigest(store.location.encode())
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _build(
    store: Store, choose: Callable[[AttemptFiles], bool], folder: Path, digests: int
) -> None:
    """Write the index of some attempts; its description comes last."""
    for before in folder.parent.iterdir():
        if before.is_dir():  # of a run that is over, or of a process that was killed
            shutil.rmtree(before, ignore_errors=True)
    folder.mkdir(mode=0o700)
    with _Spill(folder / "spill") as spill:

        def begin() -> Callable[[list[Entry]], None]:
            spill.clear()
            return add

        def add(entries: list[Entry]) -> None:
            with _error_of_disk(store, digests):
                spill.add(entries)

        with one_clear_error(store.location):  # as opposed to errors of this disk
            for_each(store, choose, begin)
        maybe_twice = 0
        with ExitStack() as opened:
            files = [
                [opened.enter_context(path.open("wb")) for path in _paths(folder, name)]
                for name in _ARRAYS
            ]
            for entries in spill.shares():
                known = KnownDigests(entries)
                maybe_twice += known.maybe_twice
                for keys, pair in zip(known.keys, files, strict=True):
                    for array, file in zip(keys, pair, strict=True):
                        file.write(np.asarray(array).tobytes())
    (folder / _ABOUT).write_text(json.dumps({"maybe_twice": maybe_twice}), "utf-8")


def _mapped(folder: Path) -> KnownDigests:
    """The index, whose arrays stay on the disk."""
    about: dict[str, Any] = json.loads((folder / _ABOUT).read_text("utf-8"))
    keys: list[Keys] = []
    for name in _ARRAYS:
        high, low = _paths(folder, name)
        keys.append((_array(high, np.uint64), _array(low, np.uint32)))
    return KnownDigests.of_keys(keys, about["maybe_twice"])


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.high", folder / f"{name}.low"


def _array(path: Path, kind: Any) -> Any:
    # Nothing can be mapped of an empty file.
    return np.memmap(path, kind, "r") if path.stat().st_size else np.zeros(0, kind)


class _Spill:
    """Digests on the disk, in shares that fit into memory.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, path.open("wb")
        self._parts: list[tuple[bool, int, npt.NDArray[np.int64]]] = []
        self._digests = 0

    def clear(self) -> None:
        """Start anew."""
        self._file.seek(0)
        self._file.truncate()
        self._parts, self._digests = [], 0

    def add(self, entries: list[Entry]) -> None:
        """Write entries."""
        for is_delivered, times, digests in entries:
            first = digests[:, 0]
            self._file.write(digests[np.argsort(first, kind="stable")].tobytes())
            sizes = np.bincount(first, minlength=_SHARES)
            bounds = self._digests + np.concatenate([[0], np.cumsum(sizes)])
            self._parts.append((is_delivered, times, bounds))
            self._digests += len(digests)

    def shares(self) -> Iterator[list[Entry]]:
        """The entries of one share of the digests after the other, in the order of digests."""
        self._file.close()
        digests = _array(self._path, np.uint8).reshape(-1, DIGEST_BYTES)
        for share in range(_SHARES):
            yield [
                (is_delivered, times, digests[bounds[share] : bounds[share + 1]])
                for is_delivered, times, bounds in self._parts
            ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        with suppress(OSError):
            self._path.unlink()


@contextmanager
def _error_of_disk(store: Store, digests: int) -> Iterator[None]:
    """Turn what the disk of this machine raises into one error."""
    try:
        yield
    except OSError as error:
        size = 2 * DIGEST_BYTES * digests / 1e9
        raise JournalError(
            f"The index of the journal {store.location} cannot be written to "
            f"{tempfile.gettempdir()} ({error.strerror or error}), where it needs up to "
            f"{size:.1f} GB. Set $TMPDIR to a folder with enough space on each machine."
        ) from error

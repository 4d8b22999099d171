"""A shared journal as the workers have it: what earlier attempts did, and the journal of one."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from cdp_backfill.engines.attempt_files import (
    RUNS,
    SUMMARY,
    AttemptFiles,
    KnownBefore,
    attempts_in,
    load,
    part_folder,
)
from cdp_backfill.engines.claims import Claim, new_holder
from cdp_backfill.engines.digest_index import known_before
from cdp_backfill.engines.digest_writer import DigestWriter
from cdp_backfill.model.distinct import DIGEST_BYTES
from cdp_backfill.pipeline.known_digests import KnownDigests
from cdp_backfill.pipeline.run_journal import State

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    import numpy.typing as npt

    from cdp_backfill.engines.digest_files import Kind, Records
    from cdp_backfill.engines.store import Store
    from cdp_backfill.model.arrays import Digests, Mask
    from cdp_backfill.pipeline.known_digests import Entry

KNOWN_BEFORE: Final = KnownBefore()
"""What this process knows of earlier runs."""


@dataclass(frozen=True)
class SharedRun:
    """A run with a shared journal, for its workers; it can be pickled and holds no key.

    Args:
        store: The folder.
        run: Name of the run.
    """

    store: Store
    run: str

    def attempt(self, part: str) -> AttemptJournal:
        """Begin an attempt of a part; wait for attempts of the same part that are alive.

        Raises:
            OSError: The folder cannot be read or written.
            JournalError: It is damaged.
        """
        return AttemptJournal(self, part)

    def should_stop(self) -> bool:
        """Whether the driver asked its parts to stop.

        Raises:
            OSError: The folder cannot be read.
        """
        return self.store.read(f"{RUNS}/{self.run}/stop") is not None

    def known(self) -> KnownDigests:
        """What runs before this one did, read once in this process.

        Raises:
            OSError: The folder cannot be read.
            JournalError: It is damaged, or there is no space for an index of it.
        """
        key = self.store.location, self.run
        return KNOWN_BEFORE.get(key, lambda: known_before(self.store, self.run))

    def known_siblings(self, part: str, holder: str) -> tuple[list[Entry], bytes | None]:
        """What other attempts of this run did, and the summary of one of the same part."""
        folder = part_folder(self.run, part).rpartition("/")[2]
        mine = attempts_in(self.store, self.run)
        siblings = [each for each in mine if each.part == folder and each.holder != holder]
        ended = [each for each in siblings if each.has_ended]
        summary = self.store.read(f"{ended[-1].folder}/{SUMMARY}") if ended else None

        def is_wanted(attempt: AttemptFiles) -> bool:
            if attempt.holder == holder:
                return False
            # An engine that lost a worker may put rows into other parts when it runs them again.
            return attempt.part == folder or bool(siblings) or not attempt.has_ended

        return load(self.store, is_wanted, run=self.run), summary


class AttemptJournal:
    """The journal of one attempt of a part, as its run needs it.

    Args:
        shared: The run.
        part: Name of the part.

    Raises:
        OSError: The folder cannot be read or written.
        JournalError: It is damaged.
    """

    def __init__(self, shared: SharedRun, part: str) -> None:
        self._store, self.path = shared.store, shared.store.place
        place = part_folder(shared.run, part)
        holder = new_holder()
        self._folder = f"{place}/{holder}"
        self._claim = Claim(self._store, self._folder, place)
        self._claim.take()
        try:
            self._before = shared.known()
            siblings, self.earlier_summary = shared.known_siblings(part, holder)
            """The summary of an attempt of this part that ended before, or None."""
            self._siblings = KnownDigests(siblings)
            self._writer = DigestWriter(self._store, self._folder)
        except BaseException:
            self._claim.release()
            raise
        self.is_stopped = False
        """Whether the driver asked its parts to stop; looked up with each sign of life."""
        self._claim.on_beat = lambda: self._look(shared)
        self._known = [each for each in (self._before, self._siblings) if not each.is_empty]
        self._entries: dict[int, tuple[list[Digests], State]] = {}
        self._number = 0
        self._begun = 0
        self._closed = self._finished = False
        self.maybe_twice = 0
        """Known only once the part has stopped: the rows that it did not read may be among them."""

    def _look(self, shared: SharedRun) -> None:
        self.is_stopped = self.is_stopped or shared.should_stop()

    @property
    def delivered_before(self) -> int:
        """Messages that earlier attempts delivered, of this part and others."""
        return sum(known.delivered for known in self._known)

    def is_delivered(self, digests: Digests) -> Mask:
        """True for each message that an earlier attempt delivered; the others may be added soon."""
        mask = np.zeros(len(digests), dtype=bool)
        for known in self._known:
            mask |= known.is_delivered(digests)
        if not mask.all():
            self._begun = self._writer.record("begun", digests[~mask, :DIGEST_BYTES], soon=True)
        return mask

    def doubts(self, digests: Digests) -> npt.NDArray[np.uint8]:
        """Attempts before without an answer, for each message: 0, 1, or 2 for more."""
        times = np.zeros(len(digests), dtype=np.uint8)
        for known in self._known:
            times += known.doubts(digests)
        return np.minimum(times, 2)

    def add(self, digests: Sequence[Digests], state: State) -> int:
        """Record the messages of a request, all of which were asked about before."""
        self._claim.check()
        self._writer.wait(self._begun)
        self._number += 1
        self._entries[self._number] = list(digests), state
        return self._number

    def change(self, request: int, state: State | None) -> None:
        """Change the state of a request; None forgets it."""
        digests, before = self._entries.pop(request)
        if state is State.SENT_AGAIN and before is not State.SENT_AGAIN:
            self._claim.check()
            self._record("again", digests, wait=True)
        elif state is None:
            self._record("withdrawn", digests)
        elif state.delivered:
            kind: Kind = "delivered" if state is State.DELIVERED else "delivered_again"
            self._record(kind, digests)
            return
        if state is not None:
            self._entries[request] = digests, state

    def split(self, request: int, *, in_doubt: bool) -> None:
        """Record that parts take the place of a request; what was begun is theirs now."""
        if in_doubt:
            self._record("again", self._entries[request][0], wait=True)
        else:
            del self._entries[request]

    def _record(self, kind: Kind, digests: list[Digests], *, wait: bool = False) -> None:
        asked = self._writer.record(kind, _kept(digests), soon=wait)
        if wait:
            self._writer.wait(asked)

    def close(self, counts: dict[str, int], reasons: dict[str, int]) -> None:
        """Record what the run left in doubt."""
        del reasons
        if counts.get("unsent"):
            self.maybe_twice = sum(known.maybe_twice for known in self._known)
        doubts: Records = {}
        kinds: dict[Kind, State] = {"sent": State.SENT, "sent_again": State.SENT_AGAIN}
        for kind, state in kinds.items():
            found = [
                part for digests, now in self._entries.values() if now is state for part in digests
            ]
            if found:
                doubts[kind] = _kept(found)
        self._closed = True
        self._writer.end(doubts)

    def release(self) -> None:
        """Nothing: :meth:`finish` lets others go on, once the summary is there."""

    def finish(self, summary: bytes | None = None) -> None:
        """End the attempt, and let others of the same part go on; once.

        Args:
            summary: What became of the rows, or None if that is not known.
        """
        if self._finished:
            return
        self._finished = True
        try:
            if not self._closed:
                self._writer.abandon()
            elif summary is not None:
                self._store.write(f"{self._folder}/{SUMMARY}", summary)
        finally:
            self._claim.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self.finish()


def _kept(digests: Sequence[Digests]) -> Digests:
    return np.concatenate([part[:, :DIGEST_BYTES] for part in digests])

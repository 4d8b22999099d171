"""What a part knows of its earlier attempts, as the journal of its run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cdp_backfill.model.arrays import Digests, Mask
    from cdp_backfill.pipeline.run_journal import State


class SharedJournal(Protocol):
    """A journal that the workers of an engine share.

    The seam asks for each message before it sends it, and adds it once it is delivered; both from
    one thread at a time. A digest is the first 12 bytes or more of the hash of a message; each row
    of the array is one.

    Two further methods are used if they exist. ``doubts(digests)`` returns as ``uint8`` how often
    the server may have accepted each message in attempts that nobody finished: 0, 1, or 2 for more.
    ``close()`` is called when the part ends, after the last ``add``.
    """

    def skip(self, digests: Digests) -> Mask:
        """Which messages are delivered and must not be sent again."""
        ...

    def add(self, digests: Digests) -> None:
        """Record messages as delivered.

        Raises:
            OSError: They cannot be recorded. The part stops.
        """
        ...


class PartJournal:
    """The journal of the run of a part; see :class:`cdp_backfill.pipeline.run_journal.RunJournal`.

    Without a shared journal, an earlier attempt may have sent any row of the part.

    Args:
        shared: The journal that all parts share, or None.
        earlier: Earlier attempts of this part: 0, 1, or 2 for more.
    """

    path: Path | None = None
    maybe_twice = 0

    def __init__(self, shared: SharedJournal | None, earlier: int) -> None:
        self._shared, self._earlier = shared, earlier
        self._requests: dict[int, list[Digests]] = {}
        self._number = 0
        self.delivered_before = 0

    def is_delivered(self, digests: Digests) -> Mask:
        """Which messages are delivered, according to the shared journal."""
        if self._shared is None:
            return np.zeros(len(digests), dtype=bool)
        mask = np.asarray(self._shared.skip(digests), dtype=bool)
        self.delivered_before += int(np.count_nonzero(mask))
        return mask

    def doubts(self, digests: Digests) -> npt.NDArray[np.uint8]:
        """How often an earlier attempt may have sent each message."""
        asked: Callable[[Digests], npt.NDArray[np.uint8]] | None = getattr(
            self._shared, "doubts", None
        )
        if asked is not None:
            return asked(digests)
        times = np.full(len(digests), self._earlier, dtype=np.uint8)
        if self._shared is not None and self._earlier:
            # The attempt that delivered a message is one of the earlier ones.
            times -= np.asarray(self._shared.skip(digests), dtype=np.uint8)
        return times

    def add(self, digests: Sequence[Digests], state: State) -> int:
        """Remember a request until it has an answer."""
        del state
        self._number += 1
        self._requests[self._number] = list(digests)
        return self._number

    def change(self, request: int, state: State | None) -> None:
        """Record the messages of a request in the shared journal, once they are delivered."""
        if state is not None and state.delivered:
            digests = self._requests.pop(request, [])
            if self._shared is not None and digests:
                self._shared.add(np.concatenate(digests))
        elif state is None:
            self._requests.pop(request, None)

    def split(self, request: int, *, in_doubt: bool) -> None:
        """Forget a request, in whose place its parts are added."""
        del in_doubt
        self._requests.pop(request, None)

    def close(self, counts: dict[str, int], reasons: dict[str, int]) -> None:
        """End."""
        del counts, reasons
        close = getattr(self._shared, "close", None)
        if close is not None:
            close()

    def release(self) -> None:
        """Nothing is held."""

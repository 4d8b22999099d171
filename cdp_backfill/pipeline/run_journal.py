"""What a run needs of its journal, whichever kind of journal that is."""

from __future__ import annotations

import sqlite3
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from cdp_backfill.model.arrays import Digests, Mask

WRITE_ERRORS: Final = (sqlite3.Error, OSError)
"""What a journal raises that cannot be written any more, for example because a disk is full."""


class State(Enum):
    """What is known of a request. All names have one length: see :meth:`.Journal.change`."""

    SENT = "s"
    """The server may have accepted it: it is on the wire, or got no answer."""
    SENT_AGAIN = "a"
    """The server may have accepted it more than once."""
    DELIVERED = "d"
    """The server accepted it."""
    DELIVERED_AGAIN = "t"
    """The server accepted it, and may have accepted an earlier attempt, too."""

    @property
    def delivered(self) -> bool:
        """Whether the server certainly accepted it."""
        return self in (State.DELIVERED, State.DELIVERED_AGAIN)

    @property
    def doubts(self) -> int:
        """Attempts without an answer: 0, 1, or 2 for more."""
        return {State.DELIVERED: 0, State.SENT_AGAIN: 2}.get(self, 1)


class RunJournal(Protocol):
    """Knows the messages that were delivered, and records those of a run.

    Whatever changes it raises one of :data:`WRITE_ERRORS` if it cannot be written.
    """

    @property
    def path(self) -> Path | str | None:
        """Where it is, a path or a URI; None if it has no place of its own."""

    @property
    def maybe_twice(self) -> int:
        """Messages that the server may have accepted more than once in earlier runs."""

    @property
    def delivered_before(self) -> int:
        """Number of rows that earlier runs delivered."""

    def is_delivered(self, digests: Digests) -> Mask:
        """True for each message that an earlier run delivered; the others may be added soon."""

    def doubts(self, digests: Digests) -> npt.NDArray[np.uint8]:
        """Attempts of earlier runs without an answer, for each message: 0, 1, or 2 for more."""

    def add(self, digests: Sequence[Digests], state: State) -> int:
        """Record the messages of a request, and return its number.

        A crash after this forgets nothing of it.
        """

    def change(self, request: int, state: State | None) -> None:
        """Change the state of a request; None forgets it."""

    def split(self, request: int, *, in_doubt: bool) -> None:
        """Record that parts take the place of a request, which may have been accepted."""

    def close(self, counts: dict[str, int], reasons: dict[str, int]) -> None:
        """Record how the run ended, and release the journal."""

    def release(self) -> None:
        """Let other runs use the journal, without a record of how this one ended."""

"""What a run needs of a journal, wherever that keeps its entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from cdp_backfill.model.arrays import Digests, Mask
    from cdp_backfill.pipeline.journal import State


class RunJournal(Protocol):
    """Knows the messages that were delivered, and records those of a run.

    Each method that writes raises ``sqlite3.Error`` or ``OSError`` if it cannot.
    """

    @property
    def path(self) -> Path | None:
        """Where it is, or None if it has no place of its own."""
        ...

    @property
    def maybe_twice(self) -> int:
        """Rows of earlier runs that may have arrived more than once."""
        ...

    @property
    def delivered_before(self) -> int:
        """Messages that earlier runs delivered."""
        ...

    def is_delivered(self, digests: Digests) -> Mask:
        """Which messages an earlier run delivered."""
        ...

    def doubts(self, digests: Digests) -> npt.NDArray[np.uint8]:
        """How often an earlier run sent each message without an answer: 0, 1, or 2 for more."""
        ...

    def add(self, digests: Sequence[Digests], state: State) -> int:
        """Record a request, and return its number; see :class:`State`."""
        ...

    def change(self, request: int, state: State | None) -> None:
        """Change the state of a request; None if the server certainly did not accept it."""
        ...

    def close(self, counts: dict[str, int], reasons: dict[str, int]) -> None:
        """Record the end of the run."""
        ...

    def release(self) -> None:
        """Let go of it; again and again does no harm."""
        ...

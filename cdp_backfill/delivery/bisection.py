"""Splits a refused request until each bad row is alone in a request."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cdp_backfill.messages.packing import Request

_MIN_REFUSED: Final = 31  # all parts of five levels of halving: 1 + 2 + 4 + 8 + 16
_REFUSED_PER_ACCEPTED: Final = 8
_GROUP_SIZE: Final = 8


class Bisection:
    """The parts of one refused request that are still to be sent.

    Halving finds one bad row among n with about 2·log2(n) requests. If nearly all rows are bad, it
    would cost 2n. So once five levels of halving have brought almost only refusals, the remaining
    parts are sent in small groups.

    Args:
        request: The request.
        probe: Number of messages that are sent one by one first, or 0. If the server refuses each
            of them, the fault is not in single rows.
    """

    def __init__(self, request: Request, *, probe: int = 0) -> None:
        # First in, first out: both halves are sent before either is split further.
        self._pending = deque([(request, 0)])
        self._probe = probe
        self._refused = 0
        self._accepted = 0

    def __bool__(self) -> bool:
        return bool(self._pending)

    def next_part(self) -> tuple[Request, int]:
        """Remove and return the next part to send, with the doubts that it inherits."""
        return self._pending.popleft()

    def record(self, *, accepted: bool) -> None:
        """Count a part that has a result."""
        self._accepted += accepted
        self._refused += not accepted

    def split(self, part: Request, doubts: int) -> None:
        """Replace a refused part of several messages by smaller parts.

        Args:
            part: The part.
            doubts: Attempts without an answer to it, or to a request that it is a part of. The
                server may have accepted them, so the smaller parts inherit them.
        """
        self._refused += 1
        probe, self._probe = self._probe, 0
        mostly_bad = self._refused >= max(_MIN_REFUSED, _REFUSED_PER_ACCEPTED * self._accepted)
        if probe and len(part) > probe:
            parts = part.cut([*range(1, probe + 1), len(part)])
        elif mostly_bad and len(part) > 2:  # noqa: PLR2004  # two are halved either way
            size = _GROUP_SIZE if len(part) > _GROUP_SIZE else 1
            parts = part.split(-(-len(part) // size))
        else:
            parts = part.split(2)
        self._pending.extend((each, doubts) for each in parts)

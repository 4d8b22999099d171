"""How a refused request is taken apart until the bad rows stand alone."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cdp_backfill.messages.packing import Request

_MOSTLY_BAD: Final = 31  # all of five levels of halving
_PER_ACCEPTED: Final = 8
_SMALL: Final = 8


class Bisection:
    """The parts of one refused request that are still to be sent.

    Halving finds one bad row among n with about 2·log2(n) requests. Where nothing but refusals
    come, it would cost 2n: once five levels of halves brought next to nothing else, what is left
    goes in small groups.

    Args:
        request: The request.
        probe: So many messages go alone first, where nothing was ever taken: if none of them is
            taken either, it is not the rows that are wrong.
    """

    def __init__(self, request: Request, *, probe: int = 0) -> None:
        # First in, first out: both halves are tried before either is taken apart further.
        self._todo = deque([request])
        self._probe = probe
        self._refused = 0
        self._accepted = 0

    def __bool__(self) -> bool:
        return bool(self._todo)

    def next(self) -> Request:
        """The next part to send."""
        return self._todo.popleft()

    def settled(self, *, accepted: bool) -> None:
        """Learn what became of a part that need not be taken apart."""
        self._accepted += accepted
        self._refused += not accepted

    def take_apart(self, part: Request) -> None:
        """A part of several messages was refused: send smaller ones."""
        self._refused += 1
        probe, self._probe = self._probe, 0
        hopeless = self._refused >= max(_MOSTLY_BAD, _PER_ACCEPTED * self._accepted)
        if probe and len(part) > probe:
            parts = part.cut([*range(1, probe + 1), len(part)])
        elif hopeless and len(part) > 2:  # noqa: PLR2004  # two are halved either way
            size = _SMALL if len(part) > _SMALL else 1
            parts = part.split(-(-len(part) // size))
        else:
            parts = part.split(2)
        self._todo.extend(parts)

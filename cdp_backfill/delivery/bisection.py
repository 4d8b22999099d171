"""Splits a refused request until each bad row is alone in a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cdp_backfill.messages.packing import Request

_MIN_REFUSED: Final = 31  # all parts of five levels of halving: 1 + 2 + 4 + 8 + 16
_REFUSED_PER_ACCEPTED: Final = 8
_GROUP_SIZE: Final = 8


class Bisection:
    """Decides how to split one refused request, from what became of its parts so far.

    Halving finds one bad row among n with about 2·log2(n) requests, in log2(n) round trips, since
    both halves are sent at the same time. If nearly all rows are bad, it would cost 2n. So once
    five levels of halving have brought almost only refusals, the remaining parts are sent in small
    groups.

    Args:
        probe: Number of messages that are sent one by one first, or 0, if there are so many. If
            the server refuses each of them, the fault is not in single rows.
    """

    def __init__(self, *, probe: int = 0) -> None:
        self._probe = probe
        self._refused = 0
        self._accepted = 0

    def record(self, *, accepted: bool) -> None:
        """Count a part that has a result."""
        self._accepted += accepted
        self._refused += not accepted

    def split(self, part: Request) -> list[Request]:
        """Split a refused part of several messages into smaller parts, to be sent in this order."""
        self._refused += 1
        probe, self._probe = self._probe, 0
        mostly_bad = self._refused >= max(_MIN_REFUSED, _REFUSED_PER_ACCEPTED * self._accepted)
        if probe and len(part) >= probe:
            return part.cut(sorted({*range(1, probe + 1), len(part)}))
        if mostly_bad and len(part) > 2:  # noqa: PLR2004  # two are halved either way
            size = _GROUP_SIZE if len(part) > _GROUP_SIZE else 1
            return part.split(-(-len(part) // size))
        return part.split(2)

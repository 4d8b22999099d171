"""What a journal knows of messages: which were delivered, and which may have arrived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np

from cdp_backfill.model.distinct import DIGEST_BYTES, contains, split

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from cdp_backfill.model.arrays import Digests, Hashes, Ints, Mask

    Keys = tuple[Hashes, npt.NDArray[np.uint32]]
    """Digests as their first 64 bits and the next 32."""

    Entry = tuple[bool, int, Digests]
    """Whether messages were delivered, their attempts without an answer, and their digests."""

NO_DIGESTS = np.zeros((0, DIGEST_BYTES), dtype=np.uint8)


class KnownDigests:
    """What earlier runs did with messages, in 12 bytes for each, and as much for each doubt.

    Args:
        entries: What was recorded. A message may be in several entries: their doubts add up.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        delivered, doubted, doubts = [NO_DIGESTS], [NO_DIGESTS], [np.zeros(0, dtype=np.int64)]
        for is_delivered, times, digests in entries:
            if is_delivered:
                delivered.append(digests)
            if times:
                doubted.append(digests)
                doubts.append(np.full(len(digests), times, dtype=np.int64))
        self._delivered = _sorted(split(np.concatenate(delivered)))
        self._doubted, sums = summed(np.concatenate(doubted), np.concatenate(doubts))
        twice = sums > 1
        self._doubted_twice = self._doubted[0][twice], self._doubted[1][twice]
        again = contains(self._delivered, *self._doubted)
        self.maybe_twice = int(np.count_nonzero(again | twice))
        """Messages that the server may have accepted more than once."""

    @classmethod
    def of_keys(cls, keys: Sequence[Keys], maybe_twice: int) -> Self:
        """What is known already, such as arrays that stay on the disk.

        Args:
            keys: What :attr:`keys` has, in order.
            maybe_twice: Messages that the server may have accepted more than once.
        """
        known = cls()
        known._delivered, known._doubted, known._doubted_twice = keys
        known.maybe_twice = maybe_twice
        return known

    @property
    def keys(self) -> tuple[Keys, Keys, Keys]:
        """The messages that were delivered, that are in doubt, and that are so more than once."""
        return self._delivered, self._doubted, self._doubted_twice

    @property
    def is_empty(self) -> bool:
        """Whether it knows of no message."""
        return not len(self._delivered[0]) and not len(self._doubted[0])

    @property
    def delivered(self) -> int:
        """Number of messages that were delivered."""
        return len(self._delivered[0])

    def is_delivered(self, digests: Digests) -> Mask:
        """True for each message that was delivered.

        Args:
            digests: An array with 12 or more bytes for each message.
        """
        return contains(self._delivered, *split(digests))

    def doubts(self, digests: Digests) -> npt.NDArray[np.uint8]:
        """Attempts without an answer, for each message: 0, 1, or 2 for more.

        Args:
            digests: An array with 12 or more bytes for each message.
        """
        high, low = split(digests)
        times = np.zeros(len(high), dtype=np.uint8)
        for known in (self._doubted, self._doubted_twice):
            times += contains(known, high, low)
        return times


def summed(digests: Digests, numbers: Ints) -> tuple[Keys, Ints]:
    """The distinct digests in order, and for each the sum of its numbers."""
    high, low = split(digests)
    order = np.lexsort((low, high))
    high, low, numbers = high[order], low[order], numbers[order]
    starts = np.ones(len(high), dtype=bool)
    starts[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    sums = np.add.reduceat(numbers, np.flatnonzero(starts)) if len(numbers) else numbers
    return (high[starts], low[starts]), sums


def joined(keys: Keys) -> Digests:
    """Digests from their first 64 bits and the next 32.

    >>> digests = np.arange(24, dtype=np.uint8).reshape(2, 12)
    >>> bool((joined(split(digests)) == digests).all())
    True
    """
    high, low = keys
    result = np.empty((len(high), DIGEST_BYTES), dtype=np.uint8)
    result[:, :8] = high.astype(">u8").view(np.uint8).reshape(-1, 8)
    result[:, 8:] = low.astype(">u4").view(np.uint8).reshape(-1, 4)
    return result


def _sorted(keys: Keys) -> Keys:
    high, low = keys
    order = np.argsort(high, kind="stable")
    return high[order], low[order]

"""Counts distinct keys, and remembers which keys came before, in little memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import xxhash

from cdp_backfill.model.plurals import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from cdp_backfill.model.arrays import Digests, Hashes, Mask


LIMIT: Final = 2**21
"""Distinct keys that a counter counts exactly; beyond, it estimates from a sample."""

DIGEST_BYTES: Final = 12
"""Bytes of a 128-bit digest that are kept, enough for any number of rows."""

_WAITING: Final = 2**18


def hashes(texts: Any) -> Hashes:
    """64-bit hashes of the texts of an Arrow array, without nulls."""
    digest = xxhash.xxh3_64_intdigest
    return np.array([digest(text) for text in _bytes(texts.drop_null())], dtype=np.uint64)


def _bytes(texts: Any) -> list[bytes]:
    cells: list[bytes] = texts.cast(pa.binary()).to_pylist()
    return cells


class DistinctCounter:
    """Counts distinct keys, and how often keys repeat.

    Up to ``limit`` distinct keys, the counts are exact. Beyond, the counter keeps only keys whose
    hash is below a bound, which it halves whenever they become too many, and estimates the counts
    from this sample. With two million keys, the estimates are right to about 0.1 %.

    Args:
        limit: Most keys to keep.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._halvings = 0
        self._kept: Hashes = np.zeros(0, dtype=np.uint64)
        self._times = np.zeros(0, dtype=np.int64)
        self._waiting: list[Hashes] = []

    def add(self, keys: Hashes) -> None:
        """Count keys by their 64-bit hashes."""
        if self._halvings:
            keys = keys[keys < self._bound]
        if len(keys):
            self._waiting.append(keys)
        if sum(map(len, self._waiting)) >= _WAITING:
            self._merge()

    def merge(self, other: DistinctCounter) -> None:
        """Count what another counter has counted, too.

        >>> one, other = DistinctCounter(), DistinctCounter()
        >>> one.add(np.array([1, 2], dtype=np.uint64))
        >>> other.add(np.array([2, 3], dtype=np.uint64))
        >>> one.merge(other)
        >>> one.different, one.repeated
        (3, 1)
        """
        other._merge()  # of this class
        self._merge()
        self._halvings = max(self._halvings, other._halvings)
        self._join(other._kept, other._times)
        self._shrink()
        self._limit_kept()

    @property
    def exact(self) -> bool:
        """Whether the counts are exact."""
        self._merge()
        return not self._halvings

    @property
    def different(self) -> int:
        """Number of distinct keys."""
        self._merge()
        return len(self._kept) << self._halvings

    @property
    def repeated(self) -> int:
        """Number of times that a key repeated an earlier one."""
        self._merge()
        return int(self._times.sum() - len(self._times)) << self._halvings

    def describe(self, noun: str, plural: str) -> str:
        """How many there are, for sentences; an estimate is marked as one."""
        return f"{'' if self.exact else 'about '}{count(self.different, noun, plural)}"

    @property
    def _bound(self) -> np.uint64:
        return np.uint64(2 ** (64 - self._halvings) - 1)

    def _merge(self) -> None:
        if not self._waiting:
            return
        new, times = np.unique(np.concatenate(self._waiting), return_counts=True)
        self._waiting = []
        self._join(new, times)
        self._limit_kept()

    def _limit_kept(self) -> None:
        while len(self._kept) > self._limit:
            self._halvings += 1
            self._shrink()

    def _join(self, keys: Hashes, times: npt.NDArray[np.int64]) -> None:
        both = np.concatenate([self._kept, keys])
        counts = np.concatenate([self._times, times])
        order = np.argsort(both, kind="stable")
        both, counts = both[order], counts[order]
        starts = np.flatnonzero(np.concatenate([[True], both[1:] != both[:-1]]))
        if len(both):
            self._kept, self._times = both[starts], np.add.reduceat(counts, starts)

    def _shrink(self) -> None:
        """Keep the keys below the bound."""
        if self._halvings:
            below = self._kept < self._bound
            self._kept, self._times = self._kept[below], self._times[below]


class DigestSet:
    """Remembers every key, exactly, in 12 bytes each."""

    def __init__(self) -> None:
        # Sorted runs, each longer than all after it together: there are few to search, and each key
        # is moved only a few times.
        self._runs: list[tuple[Hashes, npt.NDArray[np.uint32]]] = []

    def before(self, digests: Digests) -> Mask:
        """True for each key that came before, in this or an earlier call; remembers all keys.

        Args:
            digests: An array with 12 or more bytes for each key.
        """
        high, low = split(digests)
        order = np.lexsort((low, high))
        high, low = high[order], low[order]
        # lexsort is stable: the first of equal keys is the first in the table.
        equal = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
        again = np.concatenate([[False], equal])[: len(high)]
        # In their order, keys are found many times faster in a large run.
        again |= self._found(high, low)
        self._add(high[~again], low[~again])
        seen = np.empty(len(order), dtype=bool)
        seen[order] = again
        return seen

    def has(self, digests: Digests) -> Mask:
        """True for each key that came before; remembers none."""
        return self._found(*split(digests))

    def _found(self, high: Hashes, low: npt.NDArray[np.uint32]) -> Mask:
        seen = np.zeros(len(high), dtype=bool)
        for run in self._runs:
            seen |= contains(run, high, low)
        return seen

    def keys(self) -> Iterator[tuple[Hashes, npt.NDArray[np.uint32]]]:
        """The first 64 bits of all keys and the next 32, in parts."""
        yield from self._runs

    def firsts(self) -> Iterator[Hashes]:
        """The first 64 bits of all keys, in parts."""
        for high, _ in self._runs:
            for start in range(0, len(high), _WAITING):
                yield high[start : start + _WAITING]

    def _add(self, high: Hashes, low: npt.NDArray[np.uint32]) -> None:
        while self._runs and len(self._runs[-1][0]) <= len(high):
            before, after = self._runs.pop(), (high, low)
            high = np.concatenate([before[0], after[0]])
            low = np.concatenate([before[1], after[1]])
            order = np.argsort(high, kind="stable")
            high, low = high[order], low[order]
        self._runs.append((high, low))


def split(digests: Digests) -> tuple[Hashes, npt.NDArray[np.uint32]]:
    """The first 64 bits and the next 32 of each digest."""
    high = np.ascontiguousarray(digests[:, :8]).view(">u8").reshape(-1).astype(np.uint64)
    low = np.ascontiguousarray(digests[:, 8:DIGEST_BYTES]).view(">u4").reshape(-1)
    return high, low.astype(np.uint32)


def contains(
    run: tuple[Hashes, npt.NDArray[np.uint32]], high: Hashes, low: npt.NDArray[np.uint32]
) -> Mask:
    """True for each key that is in a sorted run.

    If two keys of a run share their first 64 bits, one of them may be missed. Its row would be
    sent again, and not be lost.
    """
    if not len(run[0]):
        return np.zeros(len(high), dtype=bool)
    at = np.minimum(np.searchsorted(run[0], high), len(run[0]) - 1)
    return np.asarray((run[0][at] == high) & (run[1][at] == low))


def key_digests(ids: Any) -> Digests:
    """A digest for each text of an Arrow array."""
    joined = b"".join(map(xxhash.xxh3_128_digest, _bytes(ids)))
    return np.frombuffer(joined, np.uint8).reshape(-1, 16)

"""Collects the distinct pairs of an anonymous id and a user id in a table, with bounded memory.

A filter drops pairs that came shortly before. What passes it goes to temporary files, together with
its digests; these are compared in parts that fit in memory, so that no pair is there twice.
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.errors import SourceError
from cdp_backfill.messages import build
from cdp_backfill.model.distinct import DIGEST_BYTES, DigestSet, key_digests, split
from cdp_backfill.results.spill import TableStore
from cdp_backfill.sources.chunks import CHUNK_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from cdp_backfill.messages import Binding, MessageBatch
    from cdp_backfill.model.arrays import Digests, Ints, Mask
    from cdp_backfill.sources import Source

_FILTER_KEYS: Final = 2**20
"""Pairs that the filter remembers before it begins anew."""

_PART_KEYS: Final = 2**20
"""Digests that are compared at a time."""

_BLOCK_ROWS: Final = 2**18
"""Digests that are read at a time."""

_SPILL_BYTES: Final = 16 * 2**20
"""Bytes of pairs that stay in memory."""

_FIELDS: Final = ("anonymousId", "userId")


class _PairDigests:
    """The digests of pairs and of their anonymous ids, in a temporary file."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="cdp-backfill-")  # noqa: SIM115  # see close
        self._rows = 0
        self._filter, self._filtered = DigestSet(), 0

    def add(self, anonymous: Any, person: Any) -> Mask:
        """Add pairs; True for each that counts, because the filter does not know it.

        Args:
            anonymous: Arrow array of text, without nulls.
            person: The user id of each.
        """
        ids = [array.cast(pa.binary()) for array in (anonymous, person)]
        # No two pairs give the same bytes: UTF-8 has no such byte.
        pairs = key_digests(pc.binary_join_element_wise(*ids, b"\xff"))
        new = ~self._filter.before(pairs)
        both = [pairs[new], key_digests(anonymous.filter(pa.array(new)))]
        self._file.write(np.hstack([each[:, :DIGEST_BYTES] for each in both]).tobytes())
        self._rows += len(both[0])
        self._filtered += len(both[0])
        if self._filtered > _FILTER_KEYS:
            self._filter, self._filtered = DigestSet(), 0
        return new

    def finish(self) -> tuple[Mask, DigestSet]:
        """Compare the pairs that count.

        Returns:
            True for each of them that is no repetition, and the anonymous ids that have more than
            one user id.
        """
        ambiguous = DigestSet()
        first = np.ones(self._rows, dtype=bool)
        for rows, _ in self._repeated(0, first):
            first[rows] = False
        for _, digests in self._repeated(1, first):
            ambiguous.before(digests)
        return first, ambiguous

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def _repeated(self, column: int, chosen: Mask) -> Iterator[tuple[Ints, Digests]]:
        """The rows whose digest an earlier row has, and the digests; a part of all at a time.

        Args:
            column: 0 for pairs, 1 for anonymous ids.
            chosen: The rows that count.
        """
        parts = self._rows // _PART_KEYS + 1
        for part in range(parts):
            found: list[tuple[Ints, Digests]] = []
            for start, digests in self._blocks(column):
                leading = digests[:, 0].astype(np.int64) << 8 | digests[:, 1]
                here = leading * parts >> 16 == part
                here &= chosen[start : start + len(here)]
                found.append((start + np.flatnonzero(here), digests[here]))
            if found:
                rows, digests = (np.concatenate(each) for each in zip(*found, strict=True))
                high, low = split(digests)
                order = np.lexsort((low, high))  # stable: an earlier row comes first
                equal = (np.diff(high[order]) == 0) & (np.diff(low[order]) == 0)
                again = order[1:][equal]
                yield rows[again], digests[again]

    def _blocks(self, column: int) -> Iterator[tuple[int, Digests]]:
        """The digests of a column, with the number of their first row."""
        self._file.seek(0)
        start, width = 0, 2 * DIGEST_BYTES
        while data := self._file.read(_BLOCK_ROWS * width):
            both = np.frombuffer(data, np.uint8).reshape(-1, 2, DIGEST_BYTES)
            yield start, both[:, column]
            start += len(both)


class PairTable:
    """Distinct pairs, in the order in which they first occur.

    Attributes:
        schema: The columns: the anonymous id and the user id.
        rows: Number of pairs.
        ambiguous_ids: The anonymous ids that have more than one user id.
    """

    def __init__(self, names: tuple[str, str]) -> None:
        self.schema = pa.schema([(name, pa.string()) for name in names])
        self.rows = 0
        self.ambiguous_ids = DigestSet()
        self._store = TableStore(_SPILL_BYTES)
        self._waiting: list[Any] = []

    def append(self, columns: list[Any]) -> None:
        """Add pairs; those of one chunk alone can be few."""
        self._waiting.append(pa.table(columns, schema=self.schema))
        if sum(table.num_rows for table in self._waiting) >= CHUNK_ROWS:
            self.flush()

    def flush(self) -> None:
        """Store the pairs that wait for others."""
        if self._waiting:
            table = pa.concat_tables(self._waiting).combine_chunks()
            self._store.append(self.rows, table)
            self.rows += table.num_rows
            self._waiting = []

    def select(self, keep: Mask) -> PairTable:
        """A table of the pairs at which ``keep`` is true."""
        names = self.schema.names
        result, start = PairTable((names[0], names[1])), 0
        for table in self._store.tables():
            stop = start + table.num_rows
            result.append(table.filter(pa.array(keep[start:stop])).columns)
            start = stop
        result.flush()
        return result

    def batches(self, columns: list[str]) -> Generator[Any]:
        """The pairs as record batches."""
        for table in self._store.tables():
            yield from table.select(columns).to_batches()


def collect_pairs(
    source: Source,
    binding: Binding,
    names: tuple[str, str],
    note: Callable[[MessageBatch], None],
) -> PairTable:
    """The distinct pairs of all rows that have both ids.

    Args:
        source: The table.
        binding: A mapping of identify calls, bound to the table.
        names: Name of the column of the anonymous id and of that of the user id.
        note: Called with what was read of each chunk.

    Raises:
        SourceError: The table cannot be read, or there is no room for the pairs.
    """
    pairs = PairTable(names)

    def keep(batch: MessageBatch, ids: list[Any], new: Mask) -> None:
        note(batch)
        pairs.append([array.filter(pa.array(new)) for array in ids])

    first, ambiguous = _compare(source, binding, keep)
    pairs.flush()
    pairs = pairs if first.all() else pairs.select(first)
    pairs.ambiguous_ids = ambiguous
    return pairs


def find_ambiguous(source: Source, binding: Binding) -> DigestSet:
    """The anonymous ids of a table that have more than one user id.

    Args:
        source: The table.
        binding: A mapping of identify calls, bound to the table.

    Raises:
        SourceError: The table cannot be read, or there is no room for the digests.
    """
    return _compare(source, binding, lambda *_: None)[1]


def _compare(
    source: Source, binding: Binding, keep: Callable[[MessageBatch, list[Any], Mask], None]
) -> tuple[Mask, DigestSet]:
    """Read all pairs, pass those of each chunk to ``keep``, and compare them."""
    try:
        with closing(_PairDigests()) as digests:
            with closing(source.chunks(binding.guard_columns)) as chunks:
                for chunk in chunks:
                    batch = build(binding, chunk.batch, who_what_when=True)
                    good = pa.array(~batch.problems.mask())
                    ids = [batch.fields[name].filter(good) for name in _FIELDS]
                    keep(batch, ids, digests.add(*ids))
            return digests.finish()
    except OSError as error:
        raise SourceError(
            f"The identities of {source.name} could not be collected: {error}. They need room in "
            f"the folder for temporary files, {tempfile.gettempdir()}."
        ) from error


def anonymous_ids(source: Source, binding: Binding, rows: int) -> DigestSet:
    """The anonymous ids of the first rows of a table of events.

    Args:
        source: The table.
        binding: Its mapping, bound to it.
        rows: Number of rows.
    """
    found = DigestSet()
    with closing(source.chunks(binding.guard_columns)) as chunks:
        for chunk in chunks:
            batch = build(binding, chunk.batch.slice(0, rows - chunk.start), who_what_when=True)
            if "anonymousId" in batch.fields:
                found.before(key_digests(batch.fields["anonymousId"].drop_null()))
            if chunk.start + chunk.batch.num_rows >= rows:
                break
    return found

"""A part of a table as a source: whatever an engine iterates over, read once and to its end."""

from __future__ import annotations

from collections import deque
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cdp_backfill.sources.streams import Stream, StreamSource

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from cdp_backfill.sources import Chunk


class PartSource(StreamSource):
    """A part of a table.

    The iterator of the engine is never closed. What a run does not take from it can be read
    afterwards with :meth:`rest`, so that no row of the part is lost.

    Args:
        name: The part, in words; failures name it as their source.
        batches: Record batches or tables of one schema; at least one, which may be empty.
    """

    def __init__(self, name: str, batches: Iterable[Any]) -> None:
        self._pieces_left = _record_batches(batches)
        self._held: deque[tuple[int, Any]] = deque()
        """The last batches that were handed out, each with the number of its first row."""
        self._taken = self._begun = 0
        self.needless: Callable[[], int] = self._end_of_last
        """How many rows :meth:`rest` will not be asked for, as far as that is known by now. A run
        reads ahead, so whoever asks for the rest must set it."""
        self.error: Exception | None = None
        """The error of the engine that broke off the reading, or None."""
        first = next(self._pieces_left, None)
        self.is_empty = first is None
        schema = pa.schema([]) if first is None else first.schema
        self._first = [] if first is None else [first]
        stream = Stream(
            name=name,
            schema=schema,
            batches=lambda _: self._hand_out(),
            instead="the batches of the part again",
        )
        super().__init__(stream)

    def chunks(self, columns: Sequence[str], *, start: int = 0) -> Generator[Chunk]:
        """Read the rows in order; see :class:`StreamSource`."""
        with closing(super().chunks(columns, start=start)) as chunks:
            for chunk in chunks:
                self._begun = chunk.start
                while self._held and self._end(0) <= self.needless():
                    self._held.popleft()
                yield replace(chunk, origin=self.name)
        self.rows = None  # a run that stops behind the end leaves the last rows to rest()

    def rest(self, start: int) -> Iterator[Chunk]:
        """Read the rows that nobody has read, whatever ended the reading before.

        Args:
            start: Number of the first row to read.
        """
        again = [batch.slice(max(0, start - first)) for first, batch in self._held]
        left = PartSource(self.name, [self.schema.empty_table(), *again, *self._first])
        left._pieces_left = _chained(left._pieces_left, self._pieces_left)
        for chunk in left.chunks(self.schema.names):
            here = chunk.start + start
            yield replace(chunk, start=here, origin_start=here)
        self._taken = start + left.rows_taken
        self.error = self.error or left.error

    @property
    def rows_taken(self) -> int:
        """Rows that were taken from the iterator of the engine so far."""
        return self._taken

    def _end_of_last(self) -> int:
        """The rows before the chunk that was handed out last."""
        return self._begun

    def _end(self, at: int) -> int:
        first, batch = self._held[at]
        return first + int(batch.num_rows)

    def _hand_out(self) -> Generator[Any]:
        """The batches; what is handed out is kept until its rows are with the run."""
        while True:
            try:
                batch = self._first.pop() if self._first else next(self._pieces_left, None)
            except Exception as error:
                self.error = error
                raise
            if batch is None:
                return
            self._held.append((self._taken, batch))
            self._taken += batch.num_rows
            yield batch


def _record_batches(batches: Iterable[Any]) -> Iterator[Any]:
    for item in batches:
        yield from item.to_batches() or [_empty(item)] if isinstance(item, pa.Table) else [item]


def _empty(table: Any) -> Any:
    arrays = [pa.nulls(0, item.type) for item in table.schema]
    return pa.RecordBatch.from_arrays(arrays, schema=table.schema)


def _chained(*parts: Iterator[Any]) -> Iterator[Any]:
    """One after the other, without closing any of them."""
    for part in parts:
        while (item := next(part, None)) is not None:
            yield item

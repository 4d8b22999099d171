"""Tables that come as a stream of Arrow batches, whoever makes it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.errors import SourceError
from cdp_backfill.model.arrow_types import viewless_type
from cdp_backfill.sources.chunks import CHUNK_ROWS, Chunk, Source, check_names, gathered, slices
from cdp_backfill.sources.views import viewless

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """How a table is read.

    Attributes:
        name: What it is, for messages to people.
        schema: Arrow schema.
        batches: Begins a reading: gives record batches that have at least the named columns.
        rows: Number of rows, or None where only reading tells.
        ordered: Whether every reading gives the rows in the same order.
        instead: If it can be read only once: what to give where it must be read again.
    """

    name: str
    schema: Any
    batches: Callable[[list[str]], Generator[Any]]
    rows: int | None = None
    ordered: bool = True
    instead: str = ""


class StreamSource(Source):
    """A table that is read as a stream of batches.

    Args:
        stream: How.

    Raises:
        SourceError: Two columns share a name.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.name = stream.name
        self.replayable = not stream.instead
        self.instead = stream.instead
        self.ordered = stream.ordered
        self.rows = stream.rows
        self._spent = False
        check_names(stream.schema.names, self.name)
        self.schema = pa.schema([(item.name, viewless_type(item.type)) for item in stream.schema])

    def chunks(self, columns: Sequence[str], *, start: int = 0) -> Generator[Chunk]:
        """Read the rows in order.

        Raises:
            SourceError: The stream was read before and cannot be read again, or it breaks off.
        """
        if self._spent:
            raise SourceError(f"{self.title} can be read only once, and has been read.")
        self._spent = not self.replayable
        # With no column at all, one is read all the same: it carries the number of rows.
        wanted = list(columns) or list(self.schema.names[:1])
        position = 0
        with closing(self._stream.batches(wanted)) as batches:  # even if nobody reads to the end
            for batch in gathered(self._pieces(batches, wanted)):
                stop = position + batch.num_rows
                if stop > start:
                    skip = max(0, start - position)
                    for first, piece in slices(batch.slice(skip)):
                        here = position + skip + first
                        yield Chunk(piece, here, None, here)
                position = stop
        if self.rows is not None and position != self.rows:
            raise SourceError(
                f"{self.title} gave {self.rows:,} rows at first and {position:,} when it was read "
                "again: it can be read only once, or it has changed. Give it as a "
                "pyarrow.RecordBatchReader, or read it into a table first."
            )
        self.rows = position

    def _pieces(self, batches: Iterator[Any], columns: list[str]) -> Iterator[Any]:
        """The batches cut to at most a chunk, with these columns as the schema has them."""
        schema = pa.schema([self.schema.field(name) for name in columns])
        position = 0
        while True:
            try:
                batch = next(batches, None)
            except SourceError:
                raise
            except Exception as error:  # noqa: BLE001  # whatever the maker of the stream raises
                raise SourceError(
                    f"{self.title} cannot be read beyond row {position:,} "
                    f"({type(error).__name__}). Read it without this package to see why."
                ) from None  # what engines say can show a cell
            if batch is None:
                return
            # Cut first: to convert a frame that is a single batch would copy all of it.
            for start in range(0, batch.num_rows, CHUNK_ROWS):
                part = batch.slice(start, CHUNK_ROWS)
                arrays = [
                    self._fitted(part.column(item.name), item, position + start) for item in schema
                ]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)
            position += batch.num_rows

    def _fitted(self, array: Any, item: Any, row: int) -> Any:
        array = viewless(array)
        if array.type.equals(item.type):
            return array
        try:
            return pc.cast(array, item.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise SourceError(
                f"Column {item.name!r} of {self.name} is {array.type} from row {row:,} on and "
                f"{item.type} before. Cast it to one type in the query."
            ) from None  # the cause can show a cell


def of_reader(name: str, reader: Any, instead: str) -> StreamSource:
    """A reader of record batches, which is spent by reading it."""

    def batches(_: list[str]) -> Generator[Any]:
        with reader:
            yield from reader

    return StreamSource(Stream(name=name, schema=reader.schema, batches=batches, instead=instead))


def of_readers(
    name: str,
    schema: Any,
    opened: Callable[[list[str]], Any],
    *,
    rows: int | None = None,
    ordered: bool = True,
) -> StreamSource:
    """A table that gives a new reader of some of its columns whenever it is asked."""

    def batches(columns: list[str]) -> Generator[Any]:
        with opened(columns) as reader:
            yield from reader

    stream = Stream(name=name, schema=schema, batches=batches, rows=rows, ordered=ordered)
    return StreamSource(stream)

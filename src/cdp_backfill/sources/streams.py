"""Anything that offers an Arrow stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cdp_backfill.errors import SourceError
from cdp_backfill.sources.chunks import Chunk, Source, check_names, slices
from cdp_backfill.sources.views import viewless, viewless_type

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence


class StreamSource(Source):
    """A table or a reader with ``__arrow_c_stream__``.

    Args:
        table: A pyarrow table or reader, a polars frame, a DuckDB relation, ...

    Raises:
        SourceError: Two columns share a name, or the stream cannot be opened.
    """

    def __init__(self, table: Any) -> None:
        self.name = f"the {type(table).__name__}"
        # What is an iterator itself is spent by reading it.
        self.replayable = not any(
            hasattr(table, name) for name in ("__next__", "read_next_batch", "read_next")
        )
        # Only where it is known already: to ask a query for its length would run it.
        rows = getattr(table, "num_rows", getattr(table, "height", None))
        self.rows: int | None = rows if self.replayable and isinstance(rows, int) else None
        self._read: int | None = None  # rows at the last reading
        self._table = table
        self._reader: Any = self._open()
        given = self._reader.schema
        check_names(given.names, self.name)
        self.schema = pa.schema([(item.name, viewless_type(item.type)) for item in given])

    def _open(self) -> Any:
        try:
            return pa.RecordBatchReader.from_stream(self._table)
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise SourceError(f"The Arrow stream of {self.name} cannot be opened.") from error

    def chunks(self, columns: Sequence[str], *, start: int = 0) -> Generator[Chunk]:
        """Read the rows in order.

        Raises:
            SourceError: The stream was read before and cannot be read again.
        """
        reader, self._reader = self._reader, None
        if reader is None:
            if not self.replayable:
                raise SourceError(
                    f"{self.name.capitalize()} can be read only once, and has been read."
                )
            reader = self._open()
        # With no column at all, one is read all the same: it carries the number of rows.
        wanted = list(columns) or list(self.schema.names[:1])
        position = 0
        with reader:  # closed even if nobody reads to the end
            for batch in reader:
                stop = position + batch.num_rows
                if stop > start:
                    arrays = [viewless(batch.column(name)) for name in wanted]
                    chosen = pa.RecordBatch.from_arrays(arrays, wanted)
                    if position < start:
                        chosen, position = chosen.slice(start - position), start
                    for first, piece in slices(chosen):
                        yield Chunk(piece, position + first, None, position + first)
                position = stop
        if self._read is not None and position != self._read:
            raise SourceError(
                f"{self.name.capitalize()} gave {self._read:,} rows at first and {position:,} when "
                "it was read again: it can be read only once, or it has changed. Give it as a "
                "pyarrow.RecordBatchReader, or read it into a table first."
            )
        self._read = position

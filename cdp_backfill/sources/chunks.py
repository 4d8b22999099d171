"""The interface of every source of rows."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.errors import SourceError
from cdp_backfill.model.arrow_types import is_text
from cdp_backfill.sources.views import viewless

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
    from datetime import date

    import numpy.typing as npt
    import pandas as pd

CHUNK_ROWS: Final = 16_384
"""Rows of a chunk: enough for columnar work to pay off, few enough to let other threads run."""

CHUNK_BYTES: Final = 8 * 2**20
"""Approximate bytes of a chunk; wide rows make shorter chunks."""

MAX_COLUMNS: Final = 20_000
"""Most columns of a table; each costs time and memory in every chunk."""

MAX_CHUNK_CELLS: Final = 4 * 2**20
"""Most cells of a batch of JSON objects; where they have few of many keys, most are empty."""


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Some rows of a source.

    Attributes:
        batch: Arrow record batch.
        start: Number of its first row in the whole source, from 0.
        origin: The file it comes from, or None.
        origin_start: Number of its first row in that file, from 0.
    """

    batch: Any
    start: int
    origin: str | None = None
    origin_start: int = 0


class Source:
    """A table to read.

    Attributes:
        name: The table, in words.
        schema: Arrow schema, without duplicate names.
        rows: Number of rows, or None where only reading reveals it.
        replayable: Whether it can be read more than once.
        instead: If it cannot: what to pass where it must be read again.
        ordered: Whether every reading gives the rows in the same order.
        keeps_rows: Whether :meth:`original` can return rows by their number alone.
        types_vary: Whether chunks can have columns of other types than the schema, because only
            these keep the meaning of all cells.
        notes: What people should know about it, in sentences.
        found_types: Columns that got another type than text because all of their cells fit it; None
            where columns have types of their own.
        index_names: Names in an index, which are no columns, and whether they hold times.
        paths: Absolute paths and globs that it was opened from, or None if it is no file.
        earlier_mapping: For failures of an earlier run: its mapping as TOML, else None.
        earlier_left_out: For failures of an earlier run: what it left out on request, as JSON.
        earlier_url: For failures of an earlier run: the address they were sent to, else None.
    """

    name: str
    schema: Any
    rows: int | None
    replayable: bool = True
    instead: str = ""
    ordered: bool = True
    keeps_rows: bool = False
    types_vary: bool = False
    notes: tuple[str, ...] = ()
    found_types: Mapping[str, str] | None = None
    index_names: Mapping[str, bool] = MappingProxyType({})
    paths: list[str] | None = None
    earlier_mapping: str | None = None
    earlier_left_out: str | None = None
    earlier_url: str | None = None
    _reopen: Callable[[], Source]

    def reopen(self) -> Source:
        """Open the table again, as it is now."""
        return self._reopen()

    @property
    def title(self) -> str:
        """The name at the beginning of a sentence; that of a file stays as it is."""
        return titled(self.name) if self.paths is None else self.name

    def chunks(self, columns: Sequence[str], *, start: int = 0) -> Generator[Chunk]:
        """Read the rows in order.

        Args:
            columns: Names of the columns to read.
            start: Number of the first row to read.
        """
        raise NotImplementedError

    def parts(self, count: int) -> list[Source]:
        """The table in at most ``count`` parts, each of which another process can read."""
        del count
        return [self]

    def settled(self, text: Collection[str], types: Mapping[str, str] | None = None) -> Source:
        """The same table with final column types, where only reading all cells reveals them.

        Args:
            text: Columns that stay text.
            types: The ``found_types`` of another table, to read this one in the same way: all
                columns that are not in it stay text, too. None finds the types.
        """
        del text, types
        return self

    def newest_day(self, column: str) -> date | None:
        """The newest day in a column of times, as written, in whatever zone.

        None if it is not certain without another reading.
        """
        del column
        return None

    def fingerprint(self) -> tuple[Any, ...] | None:
        """Values that change when the table changes and need no reading; None if there are none."""
        return None

    def typed(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Some of the rows, each column in one type; only if ``keeps_rows``."""
        raise NotImplementedError

    def label(self, name: str) -> Any:
        """The label of a column in the original table."""
        return name

    def original(self, rows: npt.NDArray[Any]) -> pd.DataFrame:
        """The rows with these numbers, as in the original table; only if ``keeps_rows``."""
        raise NotImplementedError


def titled(name: str) -> str:
    """A name at the beginning of a sentence."""
    return name[:1].upper() + name[1:]


def check_names(names: Sequence[str], where: str) -> None:
    """Refuse a table with two columns of one name, a name that Arrow does not keep, or too many.

    Raises:
        SourceError: The table has such a name.
    """
    if len(names) > MAX_COLUMNS:
        raise SourceError(
            f"{where} has more than {MAX_COLUMNS:,} columns. Pass a table with only the columns to "
            'send. If keys are ids, such as {"u1": 5}, put them into one object, such as '
            '{"scores": {"u1": 5}}.'
        )
    seen: set[str] = set()
    for name in names:
        if "\0" in name:
            raise SourceError(
                f"{where} has a column whose name contains a NUL character, which would cut the "
                "name short. Rename the column."
            )
        if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
            raise SourceError(
                f"{where} has a column whose name contains half a character (a lone surrogate). "
                "Rename the column."
            )
        if name in seen:
            raise SourceError(
                f"{where} has more than one column named {name!r}. Rename or drop one of them."
            )
        seen.add(name)


def compact(batch: Any) -> Any:
    """The same rows, where no dictionary is larger than its column.

    A dictionary is shared by all rows of a table. In a batch of a few of them, it would count, and
    be read, with each.
    """
    arrays, changed = batch.columns, False
    for number, array in enumerate(arrays):
        if pa.types.is_dictionary(array.type) and len(array.dictionary) > len(array):
            used = pc.unique(array.indices.drop_null())
            place = pc.index_in(array.indices, used).cast(array.type.index_type)
            smaller = pa.DictionaryArray.from_arrays(
                place, array.dictionary.take(used), ordered=array.type.ordered
            )
            arrays[number] = smaller
            changed = True
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema) if changed else batch


def slices(batch: Any) -> Iterator[tuple[int, Any]]:
    """A batch in slices of chunk size, each with the number of its first row."""
    rows = batch.num_rows
    if not rows:
        return
    batch = compact(batch)
    shared = sum(
        array.dictionary.nbytes for array in batch.columns if pa.types.is_dictionary(array.type)
    )
    step = min(CHUNK_ROWS, max(1, CHUNK_BYTES // max(1, (batch.nbytes - shared) // rows)))
    ends = _ends_of_categories(batch)
    start = 0
    while start < rows:
        stop = min(start + step, rows)
        if ends is not None:
            before = ends[start - 1] if start else 0
            full = int(np.searchsorted(ends, before + CHUNK_BYTES, side="right"))
            stop = min(stop, max(start + 1, full))
        yield start, batch.slice(start, stop - start)
        start = stop


def _ends_of_categories(batch: Any) -> Any:
    """Bytes that the categories of all rows up to each one take when each row has its own.

    None where that is no more than a chunk. A long category takes its room only once in a batch.
    """
    sizes = None
    for array in batch.columns:
        kind = array.type
        if not pa.types.is_dictionary(kind) or not (
            is_text(kind.value_type) or pa.types.is_binary(kind.value_type)
        ):
            continue
        lengths = pc.binary_length(viewless(array.dictionary))
        if (pc.max(lengths).as_py() or 0) * len(array) <= CHUNK_BYTES:
            continue
        own = lengths.take(array.indices).fill_null(0).to_numpy(zero_copy_only=False)
        sizes = own.astype(np.int64) if sizes is None else sizes + own
    return None if sizes is None else np.cumsum(sizes)


def gathered(batches: Iterator[Any]) -> Iterator[Any]:
    """The same rows in batches of chunk size, wherever the original batches end.

    Many small batches cost more than a few large ones, and a message must not depend on how the
    table was divided.

    Args:
        batches: Record batches of one schema, none larger than a chunk.
    """
    waiting: list[Any] = []
    rows = size = 0
    try:
        for batch in batches:
            room = CHUNK_ROWS - rows
            waiting.append(batch.slice(0, room))
            rows, size = rows + waiting[-1].num_rows, size + waiting[-1].nbytes
            if rows >= CHUNK_ROWS or size >= CHUNK_BYTES:
                yield from _joined(waiting)
                rest = batch.slice(min(room, batch.num_rows))
                waiting = [rest] if rest.num_rows else []
                rows, size = rest.num_rows, rest.nbytes if rest.num_rows else 0
    except SourceError:
        yield from _joined(waiting)  # the rows before the error are not lost
        raise
    yield from _joined(waiting)


def _joined(batches: list[Any]) -> list[Any]:
    if len(batches) < 2:  # noqa: PLR2004
        return batches
    try:
        return [pa.concat_batches(batches)]
    except pa.ArrowException:  # such as categories within structs
        return batches

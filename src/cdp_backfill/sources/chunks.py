"""What every source of rows gives."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from cdp_backfill.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Mapping, Sequence

    import numpy.typing as npt
    import pandas as pd

CHUNK_ROWS: Final = 8_192
"""Rows of a chunk: enough for columns to pay off, few enough that other threads get their turn."""

CHUNK_BYTES: Final = 8 * 2**20
"""Bytes of a chunk, about; wide rows make shorter chunks."""


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
        name: What it is, for messages to people.
        schema: Arrow schema, without duplicate names.
        rows: Number of rows, or None where only reading tells.
        replayable: Whether it can be read more than once.
        keeps_rows: Whether :meth:`original` can give rows back by their number alone.
        notes: What should be known about it, in sentences.
        found_types: Columns that got another type than text because all of their cells fit it.
    """

    name: str
    schema: Any
    rows: int | None
    replayable: bool = True
    keeps_rows: bool = False
    notes: tuple[str, ...] = ()
    found_types: Mapping[str, str] = MappingProxyType({})

    def chunks(self, columns: Sequence[str], *, start: int = 0) -> Generator[Chunk]:
        """Read the rows in order.

        Args:
            columns: Names of the columns to read.
            start: Number of the first row to read.
        """
        raise NotImplementedError

    def settled(self, text: Collection[str]) -> Source:
        """The same table with the types that its cells have, where only reading them all tells.

        Args:
            text: Columns that are to stay text.
        """
        del text
        return self

    def stamp(self) -> tuple[Any, ...] | None:
        """What changes with the table and costs no reading, or None where nothing does."""
        return None

    def typed(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A part of the rows with each column of one type; only if ``keeps_rows``."""
        raise NotImplementedError

    def label(self, name: str) -> Any:
        """What its column is called in the table as it was given."""
        return name

    def original(self, rows: npt.NDArray[Any]) -> pd.DataFrame:
        """The rows of these numbers, as they were given; only if ``keeps_rows``."""
        raise NotImplementedError


def check_names(names: Sequence[str], where: str) -> None:
    """Refuse a table that has two columns of one name.

    Raises:
        SourceError: It has.
    """
    seen: set[str] = set()
    for name in names:
        if "\0" in name:
            raise SourceError(
                f"{where} has a column whose name holds the character 0, at which it would be cut. "
                "Rename it."
            )
        if name in seen:
            raise SourceError(
                f"{where} has more than one column named {name!r}. Rename or drop one: "
                "which of them was meant cannot be told."
            )
        seen.add(name)


def slices(batch: Any) -> Iterator[tuple[int, Any]]:
    """A batch in pieces of chunk size, each with the number of its first row."""
    if not batch.num_rows:
        return
    row_bytes = max(1, batch.nbytes // batch.num_rows)
    step = min(CHUNK_ROWS, max(1, CHUNK_BYTES // row_bytes))
    for start in range(0, batch.num_rows, step):
        yield start, batch.slice(start, step)

"""Text files: CSV and similar formats, and JSON in its usual layouts."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cdp_backfill.model.outcomes import READING_COLUMNS
from cdp_backfill.sources.ahead import ahead
from cdp_backfill.sources.chunks import Chunk, Source, slices
from cdp_backfill.sources.texts.delimited import Delimited
from cdp_backfill.sources.texts.objects import Objects
from cdp_backfill.sources.texts.reading import TextFile

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
    from datetime import date

    from cdp_backfill.sources.paths import File

__all__ = ["TextSource"]

Kind = Literal["CSV", "JSON"]


class TextSource(Source):
    """CSV files or JSON files, read one after another.

    The cells of CSV files are text until :meth:`settled` is called. JSON files are read once when
    they are opened, because only that reveals all keys.

    Args:
        files: The files.
        kind: What they are: CSV stands for all delimited text.
        notes: Sentences about how the files were found.
        skip: Whether a row that cannot be read is a row of its own, and no error.

    Attributes:
        notes: These, and sentences about what is read differently from the files.

    Raises:
        SourceError: A file is missing or cannot be read.
    """

    def __init__(
        self, files: Sequence[File], kind: Kind, notes: Sequence[str] = (), *, skip: bool = False
    ) -> None:
        self._files = [TextFile.open(file) for file in files]
        self._own_notes = (
            *notes,
            *(
                f"The file {file.name!r} is UTF-16 without a byte order mark, and is read as such."
                for file in files
                if file.encoding != "utf-8" and not file.mark
            ),
        )
        self.name = self._files[0].name if len(files) == 1 else f"{len(files)} {kind} files"
        open_ = Delimited.open if kind == "CSV" else Objects
        reader: Delimited | Objects = open_(self._files, skip=skip)
        self._numbers: frozenset[int] | None = None  # of the files to read, or None for all
        self._take(reader)

    def _take(self, reader: Delimited | Objects) -> None:
        self._reader = reader
        self.schema: Any = reader.schema
        self.notes = (*self._own_notes, *reader.notes)
        known = [rows for rows in reader.rows if rows is not None]
        self.rows: int | None = sum(known) if len(known) == len(reader.rows) else None

    def settled(self, text: Collection[str], types: Mapping[str, str] | None = None) -> TextSource:
        """The same files with column types, for which CSV files are read once.

        A column of a CSV file has whole numbers, decimal numbers or booleans only if each of its
        cells is one. A cell that would lose something as a number, such as a leading zero, keeps
        the column text.

        Args:
            text: Columns that stay text.
            types: The types of another table. A cell that does not fit stays text, alone.

        Raises:
            SourceError: A file cannot be read.
        """
        if isinstance(self._reader, Delimited) and self.rows is not None:
            return self
        settled = self._reader.settled(text, types)
        if settled.schema.equals(self.schema) and isinstance(settled, Objects):
            return self
        result = copy.copy(self)
        result._take(settled)  # noqa: SLF001
        if isinstance(self._reader, Delimited):
            kinds = {
                item.name: str(item.type)
                for item in result.schema
                if item.name not in READING_COLUMNS
            }
            found = {name: kind for name, kind in kinds.items() if kind != "string"}
            result.found_types = found if types is None else types
        return result

    def newest_day(self, column: str) -> date | None:
        """The newest day in a column of times, if the files were read in full."""
        return self._reader.days.of(column) if self.rows is not None else None

    def parts(self, count: int) -> list[Source]:
        """Parts of whole files of about equally many rows."""
        if self.rows is None:
            return [self]
        rows = [rows or 0 for rows in self._reader.rows]
        which = np.clip((np.cumsum(rows) - 1) * count // max(1, self.rows), 0, count - 1)
        return [self._part(np.flatnonzero(which == number).tolist()) for number in np.unique(which)]

    def _part(self, numbers: Iterable[int]) -> TextSource:
        part = copy.copy(self)
        part._only(frozenset(int(number) for number in numbers))  # noqa: SLF001
        return part

    def _only(self, numbers: frozenset[int]) -> None:
        self._numbers = numbers
        self.rows = sum(self._reader.rows[number] or 0 for number in numbers)

    def fingerprint(self) -> tuple[tuple[str, int, int | None], ...]:
        """Name, size and modification time of each file."""
        return tuple((file.name, file.size, file.mtime_ns) for file in self._files)

    def chunks(self, columns: Sequence[str], *, start: int = 0) -> Generator[Chunk]:
        """Read the rows in order, file by file.

        Raises:
            SourceError: A file cannot be read, or changed.
        """
        wanted = list(columns) or list(self.schema.names[:1])
        position = 0
        for number, (file, rows) in enumerate(zip(self._files, self._reader.rows, strict=True)):
            here = self._numbers is None or number in self._numbers
            if rows is not None and (position + rows <= start or not here):
                position += rows
                continue
            offset = 0
            for batch in ahead(self._reader.batches(number, wanted)):
                skip = min(batch.num_rows, max(0, start - position - offset))
                for first, part in slices(batch.slice(skip)):
                    row = offset + skip + first
                    yield Chunk(part, position + row, file.name, row)
                offset += batch.num_rows
            position += offset

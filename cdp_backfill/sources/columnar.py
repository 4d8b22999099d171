"""Opens parquet, Arrow and ORC files, which hold their rows in groups."""

from __future__ import annotations

from contextlib import closing, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
from pyarrow import orc

from cdp_backfill.errors import SourceError
from cdp_backfill.model.arrow_types import viewless_type
from cdp_backfill.model.plurals import with_article
from cdp_backfill.sources.batch_sizes import MAGIC, check_file, check_stream
from cdp_backfill.sources.chunks import CHUNK_BYTES, compact
from cdp_backfill.sources.depths import check_depths
from cdp_backfill.sources.earlier_runs import carried
from cdp_backfill.sources.orc_footers import check_footer
from cdp_backfill.sources.unpacking import READ_ERRORS, random_access

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from cdp_backfill.sources.paths import File

_FIRST_ROWS: Final = 64
"""Rows of a group that are read to find out how large its rows are."""

_SMALL_ROWS: Final = 2_048
"""Rows that are read at once whatever their size, and the largest group for which that is so."""

MAX_ROW_BYTES: Final = 2**28
"""Most bytes of a row of a parquet file, on average of a row group; a row is held as a whole."""

_ITEM_BYTES: Final = 4
"""Least bytes of an item of a list in memory."""

_CHECKED_COLUMNS: Final = 16
"""Columns whose cells are compared with the number of rows, in each row group of a file."""


class Columnar(Protocol):
    """An open file.

    Attributes:
        schema: Arrow schema.
    """

    schema: Any

    @property
    def carried(self) -> dict[str, str]:
        """What it carries of an earlier run."""

    @property
    def group_rows(self) -> tuple[int, ...]:
        """Number of rows of each group, which can cost a reading."""

    @property
    def row_bytes(self) -> int:
        """Approximate bytes of a row, or 0 where it is not known."""

    def batches(self, groups: Sequence[int], columns: list[str], rows: int) -> Iterator[Any]:
        """The rows of some groups.

        Args:
            groups: Numbers of the groups.
            columns: Columns to read; at least one.
            rows: Number of rows of a batch, where the format lets readers choose.
        """


@contextmanager
def open_columnar(file: File, format_: str) -> Iterator[Columnar]:
    """Open a file.

    Args:
        file: The file.
        format_: Its format: ``"parquet"``, ``"Arrow"`` or ``"ORC"``.

    Raises:
        SourceError: The file is missing or damaged.
    """
    try:
        opened = _OPENERS[format_](file)
    except FileNotFoundError as error:
        raise SourceError(f"There is no file {file.name!r}. Check the path.") from error
    except (*READ_ERRORS, UnicodeDecodeError) as error:  # names of columns are not text
        raise SourceError(
            f"{file.name!r} cannot be read as {with_article(format_)} file: {error}."
        ) from error
    with closing(opened.stream):
        yield opened


class _Parquet:
    def __init__(self, file: File) -> None:
        self.stream = random_access(file)
        # Buffering a whole row group ahead would keep all of them until the file is closed.
        self._file = pq.ParquetFile(self.stream, pre_buffer=False, buffer_size=2**20)
        schema = self._file.schema_arrow
        self._metadata = schema.metadata
        self.schema = schema.remove_metadata()
        check_depths(self.schema)
        self._check_rows()
        self._check_sizes()

    @property
    def carried(self) -> dict[str, str]:
        return carried(self._metadata)

    def _check_sizes(self) -> None:
        """Refuse rows that would not fit into memory, before they are unpacked."""
        schema = self._file.schema
        nested = [
            place
            for place in range(self._file.metadata.num_columns)
            if schema.column(place).max_repetition_level
        ]
        for group in self._groups:
            # Items of a list take hardly any room in the file if they are equal.
            items = max((group.column(place).num_values for place in nested), default=0)
            size = max(group.total_byte_size, items * _ITEM_BYTES)
            if size > MAX_ROW_BYTES * max(1, group.num_rows):
                raise pa.ArrowInvalid(
                    f"its rows have more than {MAX_ROW_BYTES:,} bytes, on average of a row group"
                )

    def _check_rows(self) -> None:
        """Refuse a footer that contradicts itself: rows would be left out in silence."""
        metadata = self._file.metadata
        rows = [group.num_rows for group in self._groups]
        schema = self._file.schema
        flat = [
            place
            for place in range(min(metadata.num_columns, _CHECKED_COLUMNS))
            if schema.column(place).max_repetition_level == 0
        ]
        if (
            any(number < 0 for number in rows)
            or sum(rows) != metadata.num_rows
            or any(
                group.column(place).num_values != group.num_rows
                for group in self._groups
                for place in flat
            )
        ):
            raise pa.ArrowInvalid("the footer contradicts itself about the number of rows")

    @property
    def _groups(self) -> Iterator[Any]:
        metadata = self._file.metadata
        return (metadata.row_group(number) for number in range(metadata.num_row_groups))

    @property
    def group_rows(self) -> tuple[int, ...]:
        return tuple(group.num_rows for group in self._groups)

    @property
    def row_bytes(self) -> int:
        size = sum(group.total_byte_size for group in self._groups)
        return int(size // max(1, self._file.metadata.num_rows))

    def batches(self, groups: Sequence[int], columns: list[str], rows: int) -> Iterator[Any]:
        def read(groups: Sequence[int], rows: int) -> Generator[Any]:
            yield from self._file.iter_batches(
                batch_size=rows, row_groups=list(groups), columns=columns
            )

        small: list[int] = []
        for group in groups:
            if self._file.metadata.row_group(group).num_rows <= _SMALL_ROWS:
                small.append(group)
                continue
            if small:
                yield from read(small, min(rows, _SMALL_ROWS))
                small = []
            # A long cell that repeats takes no room in the file, but in each row of a batch.
            with closing(read([group], _FIRST_ROWS)) as first:
                # A dictionary of all rows says nothing about the size of these.
                some = map(compact, islice(first, 1))
                size = max(batch.nbytes // max(1, batch.num_rows) for batch in some)
            yield from read([group], min(rows, max(1, CHUNK_BYTES // max(1, size))))
        if small:
            yield from read(small, min(rows, _SMALL_ROWS))


class _WithoutRowBytes:
    @property
    def carried(self) -> dict[str, str]:
        return {}

    @property
    def row_bytes(self) -> int:
        return 0


class _Arrow(_WithoutRowBytes):
    """A file of record batches, as Feather is; each is read as a whole."""

    def __init__(self, file: File) -> None:
        is_local = isinstance(file.system, pa.fs.LocalFileSystem) and not file.layers
        # Of a mapped file, the system keeps only what is used.
        self.stream = pa.memory_map(file.path) if is_local else random_access(file)
        reader = pa.ipc.open_file(self.stream)
        check_depths(reader.schema)
        check_file(self.stream)
        self._names = {name: place for place, name in enumerate(reader.schema.names)}
        self.schema = _viewless_schema(reader.schema)
        self._count = reader.num_record_batches

    @property
    def group_rows(self) -> tuple[int, ...]:
        reader = self._reader([*self._names][:1])
        return tuple(reader.get_batch(number).num_rows for number in range(self._count))

    def _reader(self, columns: list[str]) -> Any:
        fields = [self._names[name] for name in columns]
        options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)
        return pa.ipc.open_file(self.stream, options=options)

    def batches(self, groups: Sequence[int], columns: list[str], rows: int) -> Iterator[Any]:
        del rows
        reader = self._reader(columns)
        for number in groups:
            yield reader.get_batch(number)


class _ArrowStream(_WithoutRowBytes):
    """Record batches one after another, without a table of contents."""

    def __init__(self, file: File) -> None:
        self._file = file
        self.stream = random_access(file)
        with pa.ipc.open_stream(self.stream) as reader:
            check_depths(reader.schema)
            self.schema = _viewless_schema(reader.schema)
        check_stream(self.stream)

    @property
    def group_rows(self) -> tuple[int, ...]:
        self.stream.seek(0)
        with pa.ipc.open_stream(self.stream) as reader:
            return tuple(batch.num_rows for batch in reader)

    def batches(self, groups: Sequence[int], columns: list[str], rows: int) -> Iterator[Any]:
        del rows
        wanted = set(groups)
        self.stream.seek(0)
        with pa.ipc.open_stream(self.stream) as reader:
            for number, batch in enumerate(reader):
                if number in wanted:
                    yield batch.select(columns)


class _Orc(_WithoutRowBytes):
    """A file of stripes; each is read as a whole."""

    def __init__(self, file: File) -> None:
        self.stream = random_access(file)
        check_footer(self.stream)  # before the reader goes down the types
        self._file = orc.ORCFile(self.stream)
        self.schema = self._file.schema.remove_metadata()
        check_depths(self.schema)

    @property
    def group_rows(self) -> tuple[int, ...]:
        first = self.schema.names[:1]
        stripes = range(self._file.nstripes)
        return tuple(self._file.read_stripe(number, columns=first).num_rows for number in stripes)

    def batches(self, groups: Sequence[int], columns: list[str], rows: int) -> Iterator[Any]:
        del rows
        for number in groups:
            yield self._file.read_stripe(number, columns=columns)


def _viewless_schema(schema: Any) -> Any:
    return pa.schema([(field.name, viewless_type(field.type)) for field in schema])


def _open_arrow(file: File) -> Any:
    with random_access(file) as stream:
        has_footer = stream.read(len(MAGIC)) == MAGIC
    return _Arrow(file) if has_footer else _ArrowStream(file)


_OPENERS: Final[dict[str, Callable[[File], Any]]] = {
    "parquet": _Parquet,
    "Arrow": _open_arrow,
    "ORC": _Orc,
}

"""Tables of other libraries, each through the interface in its own documentation.

Only pyarrow and DuckDB are imported; the tables of all others are recognised by their methods. A
query (a relation, a lazy frame, an expression) runs again for each reading.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from cdp_backfill.errors import SourceError
from cdp_backfill.model.arrow_types import MAX_DEPTH
from cdp_backfill.model.interrupts import interruptible
from cdp_backfill.sources.chunks import CHUNK_ROWS, titled
from cdp_backfill.sources.streams import Stream, StreamSource, reader_source, reopening_source

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from cdp_backfill.sources.chunks import Source


def duckdb_relation(table: Any) -> Source | None:
    """A DuckDB relation; the connection must be free while it is read."""
    if not isinstance(table, duckdb.DuckDBPyRelation):
        return None
    return _relation("the DuckDB relation", table)


def _relation(name: str, relation: Any) -> Source:
    def open_reader(columns: list[str]) -> Any:
        selection = relation.select(*map(duckdb.ColumnExpression, columns))
        return selection.to_arrow_reader(CHUNK_ROWS)

    # DuckDB ignores letter case, and renames columns in Arrow that differ only in it.
    folded = [column.lower() for column in relation.columns]
    twice = next((column for column in relation.columns if folded.count(column.lower()) > 1), None)
    if twice is not None:
        raise SourceError(
            f"{titled(name)} has more than one column named {twice!r}, in any letter case. "
            "Rename one of them."
        )
    schema = _open(name, lambda: relation.limit(0).to_arrow_table().schema)
    return reopening_source(name, schema, open_reader, ordered=False)


def polars_frame(table: Any) -> Source | None:
    """A polars frame, eager or lazy; a lazy one is run by the streaming engine."""
    if not hasattr(table, "collect_schema") or not hasattr(table, "lazy"):
        return None
    is_lazy = hasattr(table, "collect")
    name = f"the polars {type(table).__name__}"
    kinds = _open(name, table.collect_schema)
    for column, kind in kinds.items():
        if str(kind.base_type()) in _POLARS_ALONE:  # not of the inner types, which can be deep
            raise SourceError(
                f"Column {column!r} of {name} is {kind}, which has no counterpart in Arrow. Cast "
                "it, for example to text with .cast(pl.String), or drop it."
            )
    if is_lazy and not hasattr(table, "collect_batches"):
        raise SourceError(f"{titled(name)} needs a newer polars, with collect_batches().")

    def open_reader(columns: list[str]) -> Any:
        # polars would read such names as patterns.
        as_pattern = any(each == "*" or (each[:1], each[-1:]) == ("^", "$") for each in columns)
        selection = table if as_pattern else table.select(columns)
        if is_lazy:
            selection = selection.collect_batches(chunk_size=CHUNK_ROWS, lazy=True)
        return pa.RecordBatchReader.from_stream(selection)

    schema = _open(name, lambda: pa.RecordBatchReader.from_stream(kinds.to_frame()).schema)
    rows = None if is_lazy else table.height
    return reopening_source(name, schema, open_reader, rows=rows, ordered=not is_lazy)


# Objects would arrive as memory addresses.
_POLARS_ALONE: Final = ("Object", "Int128", "UInt128")


def ibis_table(table: Any) -> Source | None:
    """An ibis table expression, read by its backend."""
    if not hasattr(table, "to_pyarrow_batches") or not hasattr(table, "columns"):
        return None
    name = "the ibis table"
    backend = _open(name, table.get_backend)
    if backend.name == "duckdb":
        # ibis 12 calls a method that DuckDB 2 no longer has, so the relation is made here. The
        # query for no rows registers tables that exist in this process only.
        _open(name, table.limit(0).to_pyarrow)
        return _relation(name, _open(name, lambda: backend.con.sql(backend.compile(table))))

    def open_reader(columns: list[str]) -> Any:
        return table.select(columns).to_pyarrow_batches(chunk_size=CHUNK_ROWS)

    schema = _open(name, lambda: table.schema().to_pyarrow())
    return reopening_source(name, schema, open_reader, ordered=False)


def arrow_dataset(table: Any) -> Source | None:
    """A pyarrow dataset, or a scanner of one."""
    if isinstance(table, ds.Scanner):
        return reopening_source("the Scanner", table.projected_schema, lambda _: table.to_reader())
    if not isinstance(table, ds.Dataset):
        return None

    options: dict[str, Any] = {"batch_size": CHUNK_ROWS, "batch_readahead": 4}
    if isinstance(getattr(table, "format", None), ds.ParquetFileFormat):
        # Buffering a whole row group ahead would keep all of them until the file is closed.
        options["fragment_scan_options"] = ds.ParquetFragmentScanOptions(
            pre_buffer=False, use_buffered_stream=True
        )

    def open_reader(columns: list[str]) -> Any:
        return table.scanner(columns=columns, fragment_readahead=1, **options).to_reader()

    return reopening_source("the dataset", table.schema, open_reader)


def spark_frame(table: Any) -> Source | None:
    """A DataFrame of Spark with times, whose Arrow stream lacks the time zone of the session.

    All rows are collected for it. Without such columns, the stream is read.
    """
    if not hasattr(table, "toArrow") or not hasattr(table, "dtypes"):
        return None
    times = [name for name, kind in table.dtypes if _SPARK_TIME.search(str(kind))]
    if hasattr(table, "__arrow_c_stream__") and not times:
        return None
    try:
        collected = table.toArrow()
    except Exception as error:  # noqa: BLE001  # whatever Spark raises
        cast = f"Cast {', '.join(map(repr, times))} to text. " if times else ""
        raise SourceError(
            f"The Spark DataFrame cannot be collected ({type(error).__name__}). {cast}Or write it "
            "with df.write.parquet(folder) and pass the folder."
        ) from None  # errors of engines can show a cell
    return reopening_source(
        "the Spark DataFrame",
        collected.schema,
        lambda columns: collected.select(columns).to_reader(CHUNK_ROWS),
        rows=collected.num_rows,
    )


_SPARK_TIME: Final = re.compile(r"\btimestamp(_ltz)?\b")


def arrow_stream(table: Any) -> Source | None:
    """An object with ``__arrow_c_stream__``, such as a pyarrow table or reader."""
    if not hasattr(table, "__arrow_c_stream__"):
        return None
    name = f"the {type(table).__name__}"

    def open_reader() -> Any:
        return _open(name, lambda: pa.RecordBatchReader.from_stream(table))

    first = open_reader()
    # An iterator can only be read once.
    if any(hasattr(table, name) for name in ("__next__", "read_next_batch", "read_next")):
        return reader_source(name, first, "a table, as from reader.read_all()")
    # It is open already, perhaps at the cost of a query, so the first reading uses it.
    first_readers = [first]
    # Only if it is known already: the length of a query would run it.
    rows = getattr(table, "num_rows", getattr(table, "height", None))
    return reopening_source(
        name,
        first.schema,
        lambda _: first_readers.pop() if first_readers else open_reader(),
        rows=rows if isinstance(rows, int) else None,
        ordered=isinstance(rows, int),
    )


def adbc_cursor(table: Any) -> Source | None:
    """An ADBC cursor on which a query was executed."""
    if not hasattr(table, "fetch_record_batch") or not hasattr(table, "description"):
        return None
    name = "the ADBC cursor"
    reader = _open(name, table.fetch_record_batch)
    return reader_source(name, reader, "a table, as from cursor.fetch_arrow_table()")


def bigquery_rows(table: Any) -> Source | None:
    """The result of a query of ``google.cloud.bigquery``, a ``RowIterator``.

    Written after its documentation (``to_arrow_iterable``, ``schema``), and not tried against
    the service.
    """
    if not hasattr(table, "to_arrow_iterable"):
        return None
    name = "the BigQuery result"
    names = [item.name for item in table.schema]
    batches = _open(name, table.to_arrow_iterable)
    return _batches_source(name, names, batches, "a table, as from rows.to_arrow()")


def snowflake_cursor(table: Any) -> Source | None:
    """A cursor of ``snowflake.connector`` on which a query was executed.

    Written after its documentation (``fetch_arrow_batches``, ``description``), and not tried
    against the service.
    """
    if not hasattr(table, "fetch_arrow_batches"):
        return None
    name = "the Snowflake cursor"
    names = [item[0] for item in table.description or ()]
    batches = _open(name, table.fetch_arrow_batches)
    return _batches_source(name, names, batches, "a table, as from cursor.fetch_arrow_all()")


def _batches_source(
    name: str, names: list[str], tables: Iterable[Any] | None, instead: str
) -> StreamSource:
    """A source of tables or record batches that can only be read once; the first has the types.

    Args:
        name: What it is.
        names: Columns of a result without rows.
        tables: The batches; None for none.
        instead: See :class:`Stream`.
    """
    rest = iter(tables or ())
    first = _open(name, lambda: next(rest, None))
    if first is None:
        schema = pa.schema([(column, pa.null()) for column in names])
    else:
        schema = pa.schema([(item.name, _widest(item.type)) for item in first.schema])

    def batches(_: list[str]) -> Generator[Any]:
        for table in chain(() if first is None else (first,), rest):
            yield from table.to_batches() if isinstance(table, pa.Table) else [table]

    return StreamSource(Stream(name=name, schema=schema, batches=batches, instead=instead))


def _widest(kind: Any) -> Any:
    """A type that also fits larger numbers in later batches."""
    if pa.types.is_signed_integer(kind):
        return pa.int64()
    if pa.types.is_decimal128(kind):
        return pa.decimal128(38, kind.scale)
    return kind


def _open(name: str, action: Callable[[], Any]) -> Any:
    """Open a table; an error names it."""
    try:
        with interruptible():
            return action()
    except Exception as error:  # whatever the library of the table raises
        is_deep = isinstance(error, RecursionError) or "Recursion level" in str(error)
        if is_deep and isinstance(error, pa.ArrowInvalid | RecursionError):
            raise SourceError(
                f"{titled(name)} has a column that is nested more than {MAX_DEPTH} levels deep. "
                "Convert it to text, or drop it."
            ) from error
        raise SourceError(f"{titled(name)} cannot be opened ({type(error).__name__}).") from error

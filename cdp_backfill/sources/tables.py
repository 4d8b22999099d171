"""Tables of other libraries, each by the interface that its own documentation gives.

None of these libraries is needed here but pyarrow and DuckDB: the others are known by their
methods. A query (a relation, a lazy frame, an expression) is run anew for each reading.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from cdp_backfill.errors import SourceError
from cdp_backfill.sources.chunks import CHUNK_ROWS, titled
from cdp_backfill.sources.streams import Stream, StreamSource, of_reader, of_readers

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from cdp_backfill.sources.chunks import Source


def duckdb_relation(table: Any) -> Source | None:
    """A DuckDB relation; the connection must be free while it is read."""
    if not isinstance(table, duckdb.DuckDBPyRelation):
        return None
    return _relation("the DuckDB relation", table)


def _relation(name: str, relation: Any) -> Source:
    def opened(columns: list[str]) -> Any:
        chosen = relation.select(*map(duckdb.ColumnExpression, columns))
        return chosen.to_arrow_reader(CHUNK_ROWS)

    # DuckDB takes no notice of case, and renames in Arrow what it cannot tell apart.
    folded = [column.lower() for column in relation.columns]
    twice = next((column for column in relation.columns if folded.count(column.lower()) > 1), None)
    if twice is not None:
        raise SourceError(
            f"{titled(name)} has more than one column named {twice!r}, whether in capitals or not. "
            "Rename one of them: which of them was meant cannot be told."
        )
    schema = _told(name, lambda: relation.limit(0).to_arrow_table().schema)
    return of_readers(name, schema, opened, ordered=False)


def polars_frame(table: Any) -> Source | None:
    """A polars frame, eager or lazy; a lazy one is run by the streaming engine."""
    if not hasattr(table, "collect_schema") or not hasattr(table, "lazy"):
        return None
    is_lazy = hasattr(table, "collect")
    name = f"the polars {type(table).__name__}"
    kinds = _told(name, table.collect_schema)
    for column, kind in kinds.items():
        if str(kind) in _POLARS_ALONE:
            raise SourceError(
                f"Column {column!r} of {name} is {kind}, which has no counterpart in Arrow. Cast "
                "it, for example to text with .cast(pl.String), or drop it."
            )
    if is_lazy and not hasattr(table, "collect_batches"):
        raise SourceError(f"{titled(name)} needs a newer polars, with collect_batches().")

    def opened(columns: list[str]) -> Any:
        # Such names would be taken for patterns.
        as_pattern = any(each == "*" or (each[:1], each[-1:]) == ("^", "$") for each in columns)
        chosen = table if as_pattern else table.select(columns)
        if is_lazy:
            chosen = chosen.collect_batches(chunk_size=CHUNK_ROWS, lazy=True)
        return pa.RecordBatchReader.from_stream(chosen)

    schema = _told(name, lambda: pa.RecordBatchReader.from_stream(kinds.to_frame()).schema)
    rows = None if is_lazy else table.height
    return of_readers(name, schema, opened, rows=rows, ordered=not is_lazy)


# Objects would arrive as addresses in memory.
_POLARS_ALONE: Final = ("Object", "Int128", "UInt128")


def ibis_table(table: Any) -> Source | None:
    """An ibis table expression, read by its backend."""
    if not hasattr(table, "to_pyarrow_batches") or not hasattr(table, "columns"):
        return None
    name = "the ibis table"
    backend = _told(name, table.get_backend)
    if backend.name == "duckdb":
        # ibis 12 asks DuckDB 2 for a method that is gone, so the relation is made here. To ask
        # for no rows first makes the tables known that live in this process only.
        _told(name, table.limit(0).to_pyarrow)
        return _relation(name, _told(name, lambda: backend.con.sql(backend.compile(table))))

    def opened(columns: list[str]) -> Any:
        return table.select(columns).to_pyarrow_batches(chunk_size=CHUNK_ROWS)

    schema = _told(name, lambda: table.schema().to_pyarrow())
    return of_readers(name, schema, opened, ordered=False)


def arrow_dataset(table: Any) -> Source | None:
    """A pyarrow dataset, or a scanner of one."""
    if isinstance(table, ds.Scanner):
        return of_readers("the Scanner", table.projected_schema, lambda _: table.to_reader())
    if not isinstance(table, ds.Dataset):
        return None

    options: dict[str, Any] = {"batch_size": CHUNK_ROWS, "batch_readahead": 4}
    if isinstance(getattr(table, "format", None), ds.ParquetFileFormat):
        # Buffering a whole row group ahead would keep all of them until the file is closed.
        options["fragment_scan_options"] = ds.ParquetFragmentScanOptions(
            pre_buffer=False, use_buffered_stream=True
        )

    def opened(columns: list[str]) -> Any:
        return table.scanner(columns=columns, fragment_readahead=1, **options).to_reader()

    return of_readers("the dataset", table.schema, opened)


def arrow_stream(table: Any) -> Source | None:
    """Anything with ``__arrow_c_stream__``, such as a pyarrow table or reader."""
    if not hasattr(table, "__arrow_c_stream__"):
        return None
    name = f"the {type(table).__name__}"

    def opened() -> Any:
        return _told(name, lambda: pa.RecordBatchReader.from_stream(table))

    first = opened()
    # What is an iterator itself is spent by reading it.
    if any(hasattr(table, name) for name in ("__next__", "read_next_batch", "read_next")):
        return of_reader(name, first, "a table, as from reader.read_all()")
    # Opened already, and maybe at the cost of a query: the first reading takes it.
    held = [first]
    # Only where it is known already: to ask a query for its length would run it.
    rows = getattr(table, "num_rows", getattr(table, "height", None))
    return of_readers(
        name,
        first.schema,
        lambda _: held.pop() if held else opened(),
        rows=rows if isinstance(rows, int) else None,
        ordered=isinstance(rows, int),
    )


def adbc_cursor(table: Any) -> Source | None:
    """An ADBC cursor on which a query was executed."""
    if not hasattr(table, "fetch_record_batch") or not hasattr(table, "description"):
        return None
    name = "the ADBC cursor"
    reader = _told(name, table.fetch_record_batch)
    return of_reader(name, reader, "a table, as from cursor.fetch_arrow_table()")


def bigquery_rows(table: Any) -> Source | None:
    """What ``google.cloud.bigquery`` gives as the result of a query, a ``RowIterator``.

    Written after its documentation (``to_arrow_iterable``, ``schema``), and not tried against
    the service.
    """
    if not hasattr(table, "to_arrow_iterable"):
        return None
    name = "the BigQuery result"
    names = [item.name for item in table.schema]
    batches = _told(name, table.to_arrow_iterable)
    return _of_batches(name, names, batches, "a table, as from rows.to_arrow()")


def snowflake_cursor(table: Any) -> Source | None:
    """A cursor of ``snowflake.connector`` on which a query was executed.

    Written after its documentation (``fetch_arrow_batches``, ``description``), and not tried
    against the service.
    """
    if not hasattr(table, "fetch_arrow_batches"):
        return None
    name = "the Snowflake cursor"
    names = [item[0] for item in table.description or ()]
    batches = _told(name, table.fetch_arrow_batches)
    return _of_batches(name, names, batches, "a table, as from cursor.fetch_arrow_all()")


def _of_batches(
    name: str, names: list[str], tables: Iterable[Any] | None, instead: str
) -> StreamSource:
    """Tables or record batches, which can be read once; the first of them tells the types.

    Args:
        name: What it is.
        names: Columns of a result without rows.
        tables: The batches; None for none.
        instead: See :class:`Stream`.
    """
    rest = iter(tables or ())
    first = _told(name, lambda: next(rest, None))
    if first is None:
        schema = pa.schema([(column, pa.null()) for column in names])
    else:
        schema = pa.schema([(item.name, _widest(item.type)) for item in first.schema])

    def batches(_: list[str]) -> Generator[Any]:
        for table in chain(() if first is None else (first,), rest):
            yield from table.to_batches() if isinstance(table, pa.Table) else [table]

    return StreamSource(Stream(name=name, schema=schema, batches=batches, instead=instead))


def _widest(kind: Any) -> Any:
    """A type that later batches fit too, whose numbers may take more room."""
    if pa.types.is_signed_integer(kind):
        return pa.int64()
    if pa.types.is_decimal128(kind):
        return pa.decimal128(38, kind.scale)
    return kind


def _told(name: str, action: Callable[[], Any]) -> Any:
    """Do what opens a table; if it fails, say which table."""
    try:
        return action()
    except Exception as error:  # whatever the maker of the table raises
        raise SourceError(f"{titled(name)} cannot be opened ({type(error).__name__}).") from error

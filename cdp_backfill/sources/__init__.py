"""Reads tables of every kind as chunks of Arrow record batches, with bounded memory."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import pandas as pd

from cdp_backfill.errors import BadInputError, SourceError
from cdp_backfill.sources.chunks import Chunk, Source
from cdp_backfill.sources.cursors import database_cursor
from cdp_backfill.sources.files import ColumnarSource
from cdp_backfill.sources.frames import FrameSource
from cdp_backfill.sources.no_tables import refuse_other_objects
from cdp_backfill.sources.opening import open_files
from cdp_backfill.sources.tables import (
    adbc_cursor,
    arrow_dataset,
    arrow_stream,
    bigquery_rows,
    duckdb_relation,
    ibis_table,
    polars_frame,
    snowflake_cursor,
    spark_frame,
)
from cdp_backfill.sources.texts import TextSource

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Chunk", "ColumnarSource", "Source", "TextSource", "Unreadable", "open_source"]

Unreadable = Literal["raise", "skip"]
"""What to do with rows of files that cannot be read."""


def open_source(table: Any, *, unreadable: Unreadable = "raise") -> Source:
    """Open a table without reading more than its first rows.

    Args:
        table: A pandas DataFrame; a path, a glob or a list of them; or a frame, table, query or
            cursor of another library (see ``_OPENERS``).
        unreadable: What to do with rows of CSV and JSON files that cannot be read: see
            :func:`cdp_backfill.send`.

    Raises:
        SourceError: The table is none of these, or cannot be read.
    """
    if unreadable not in ("raise", "skip"):
        raise BadInputError(f"unreadable must be 'raise' or 'skip', not {unreadable!r}.")
    refuse_other_objects(table)
    for opener in _OPENERS:
        source = opener(table, unreadable) if opener is _files else opener(table)
        if source is not None:
            source._reopen = partial(open_source, table, unreadable=unreadable)  # noqa: SLF001  # set once, here
            return source
    maker = type(table).__module__.partition(".")[0]
    raise SourceError(
        f"A table of type {type(table).__name__} cannot be read.{_HINTS.get(maker, '')} "
        "Pass a DataFrame of pandas or polars; a LazyFrame; a table, reader or dataset of pyarrow; "
        "a relation of DuckDB; a table of ibis; any other object with an Arrow stream; a cursor "
        "after execute(); or a path, a glob or a list of paths to parquet, CSV, JSON, Arrow or ORC "
        "files."
    )


def _pandas_frame(table: Any) -> Source | None:
    return FrameSource(table) if isinstance(table, pd.DataFrame) else None


def _files(table: Any, unreadable: Unreadable = "raise") -> Source | None:
    skip = unreadable == "skip"
    if isinstance(table, str | Path):
        return open_files([table], skip=skip)
    if isinstance(table, list | tuple):
        if not table:
            raise SourceError("The list of paths is empty.")
        if all(isinstance(item, str | Path) for item in table):
            return open_files(list(table), skip=skip)
    return None


# The first opener that accepts a table is used: the most exact and best streaming ones come first.
_OPENERS: Final[tuple[Callable[[Any], Source | None], ...]] = (
    _pandas_frame,
    _files,
    polars_frame,
    duckdb_relation,
    ibis_table,
    arrow_dataset,
    spark_frame,
    arrow_stream,
    bigquery_rows,
    snowflake_cursor,
    adbc_cursor,
    database_cursor,
)

_HINTS: Final = {
    "pyspark": " Write it with df.write.parquet(folder) and pass the folder.",
    "dask": " Write it with df.to_parquet(folder) and pass the folder.",
    "modin": " Pass df.modin.to_pandas().",
}

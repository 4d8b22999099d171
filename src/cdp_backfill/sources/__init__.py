"""Tables of every kind as chunks of Arrow record batches, read with bounded memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from cdp_backfill.errors import SourceError
from cdp_backfill.sources.chunks import Chunk, Source
from cdp_backfill.sources.files import ParquetSource
from cdp_backfill.sources.frames import FrameSource
from cdp_backfill.sources.paths import files_of
from cdp_backfill.sources.streams import StreamSource
from cdp_backfill.sources.texts import TextSource, is_text_file

__all__ = ["Chunk", "ParquetSource", "Source", "TextSource", "open_source"]


def open_source(table: Any) -> Source:
    """Look at a table without reading it.

    Args:
        table: A pandas DataFrame; anything with ``__arrow_c_stream__``, such as a pyarrow table
            or reader, a polars frame or a DuckDB relation; or a path, a glob or a list of them.

    Raises:
        SourceError: It is none of these, or cannot be read.
    """
    if isinstance(table, pd.DataFrame):
        return FrameSource(table)
    if isinstance(table, str | Path):
        return _open_files([table])
    if isinstance(table, list | tuple):
        if not table:
            raise SourceError("The list of paths is empty.")
        if all(isinstance(item, str | Path) for item in table):
            return _open_files(list(table))
    if hasattr(table, "__arrow_c_stream__"):
        return StreamSource(table)
    raise SourceError(
        f"A table of type {type(table).__name__} cannot be read. Give a pandas DataFrame, "
        "something that offers an Arrow stream (pyarrow, polars, DuckDB), or a path, a glob or "
        "a list of paths to parquet, CSV or JSON files."
    )


def _open_files(paths: list[str | Path]) -> Source:
    """Files of one kind, which their names tell; what tells nothing is taken for parquet."""
    files = files_of(paths)
    texts = [is_text_file(name) for name, _, _ in files]
    if all(texts):
        return TextSource(files)
    if any(texts):
        text, other = files[texts.index(True)][0], files[texts.index(False)][0]
        raise SourceError(
            f"{text!r} is a text file and {other!r} is none. Send them in separate runs."
        )
    return ParquetSource(files)

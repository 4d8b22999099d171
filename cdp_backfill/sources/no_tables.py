"""Refuses objects that are often passed as a table and are none, each in a sentence."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd

from cdp_backfill.errors import SourceError

_PASS: Final = {
    "Series": "A Series is one column, not a table. Pass the DataFrame, or series.to_frame().",
    "Index": "An index is no table. Pass the DataFrame, after df.reset_index().",
    "array": "An array has no names of columns. Pass pandas.DataFrame(array, columns=[...]).",
    "records": "A list of dicts is no table. Pass pandas.DataFrame(rows).",
    "lists": "A list of rows has no names of columns. Pass pandas.DataFrame(rows, columns=[...]).",
    "dict": "A dict is no table. Pass pandas.DataFrame(table).",
    "generator": "A generator is no table. Pass pandas.DataFrame(list(rows)).",
    "file": "An open file is no table. Pass its path.",
    "bytes": "These are bytes, not a table. Write them to a file and pass its path.",
    "None": "None is no table. Pass a DataFrame or a path.",
    "groups": "This is a DataFrame in groups. Pass the DataFrame itself.",
}


def refuse_other_objects(table: Any) -> None:
    """Refuse what is no table, with what to pass instead.

    Raises:
        SourceError: It is none.

    >>> refuse_other_objects({"uid": ["a"]})
    Traceback (most recent call last):
        ...
    cdp_backfill.SourceError: A dict is no table. Pass pandas.DataFrame(table).
    """
    kind = _kind(table)
    if kind is not None:
        raise SourceError(_PASS[kind])


def _kind(table: Any) -> str | None:
    if table is None:
        return "None"
    if isinstance(table, pd.Series) or type(table).__name__ == "Series":  # of polars, too
        return "Series"
    if isinstance(table, pd.Index):
        return "Index"
    if isinstance(table, np.ndarray):
        return "array"
    if isinstance(table, dict):
        return "dict"
    if isinstance(table, bytes | bytearray | memoryview | io.BytesIO | io.StringIO):
        return "bytes"
    if isinstance(table, io.IOBase):
        return "file"
    if isinstance(table, list | tuple) and table:
        if isinstance(table[0], dict):
            return "records"
        return "lists" if isinstance(table[0], list | tuple) else None
    if type(table).__name__ == "DataFrameGroupBy":
        return "groups"
    is_plain = type(table).__module__ == "builtins"
    return "generator" if is_plain and isinstance(table, Iterator) else None

"""Writes Arrow columns as JSON, one object on each line."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

import arro3.io
import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from cdp_backfill.model.arrays import Offsets

_NEWLINE: Final = ord("\n")


def lines_of(fields: dict[str, Any]) -> tuple[Any, Offsets]:
    """One JSON object on each line, without nulls; and the end of each line and its break.

    Args:
        fields: Arrow arrays of one length, by name.
    """
    # Arrow's own stream would leave the interpreter to other threads for every few kilobytes.
    out = io.BytesIO()
    batch = pa.RecordBatch.from_arrays(list(fields.values()), list(fields))
    arro3.io.write_ndjson(batch, out)
    lines = pa.py_buffer(out.getbuffer())
    # A line break inside a value is escaped, so that each of these ends a row.
    return lines, np.flatnonzero(np.frombuffer(lines, np.uint8) == _NEWLINE) + 1


def lengths(array: Any) -> Offsets:
    """Bytes of each value of an array as JSON, plus a constant."""
    return np.diff(lines_of({"": array})[1], prepend=0)

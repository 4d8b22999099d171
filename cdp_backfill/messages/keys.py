"""Reads the cells of a column of a key as text that is the same in every format of table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.messages.text import as_identifier
from cdp_backfill.messages.times import format_times, read_times
from cdp_backfill.model.arrow_types import is_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.model.arrays import Mask


def as_key(array: Any, note: Callable[[str, Any], None], *, is_time: bool) -> tuple[Any, Mask]:
    """A column as cells of a key; null where there is none, and True where a cell cannot be one.

    A time is written in UTC with milliseconds, and one without a zone as if it were UTC: a mapping
    whose ``timezone`` is corrected must give the same key.

    Args:
        array: Text, bytes, numbers, booleans or times, decoded.
        note: Called with the code of each fix and where it was made.
        is_time: Whether text in this column holds times.
    """
    kind, types = array.type, pa.types
    if types.is_timestamp(kind) or types.is_date(kind):
        return _times(array, None)
    if types.is_boolean(kind) or types.is_temporal(kind):
        return array.cast(pa.string()), np.zeros(len(array), dtype=bool)
    text, bad = as_identifier(array, note)
    if is_time and is_text(kind):
        return _times(text, text)[0], bad
    return text, bad


def _times(array: Any, text: Any | None) -> tuple[Any, Mask]:
    """Times as text; a cell that is none, or a number, stays as it is in ``text``."""
    times = read_times(array, unit=None, timezone=None)
    bad = times.bad | times.unclear
    for mask in times.units.values():
        bad = bad | mask
    written = pc.if_else(pa.array(times.missing | bad), None, format_times(times.millis))
    return (written, bad) if text is None else (pc.coalesce(written, text), bad)

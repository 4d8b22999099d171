"""Partitions that are frames of pandas, as Arrow batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cdp_backfill.sources.frames import FrameSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd


def batches_of(frame: pd.DataFrame, schema: Any) -> Iterator[Any]:
    """The rows as Arrow batches, read as any frame of pandas.

    Args:
        frame: The partition.
        schema: Columns to read, with the types that the table has as a whole. A column whose cells
            are of another kind in this partition keeps the type that it has there.
    """
    source = FrameSource(frame)
    for chunk in source.chunks(schema.names):
        arrays = [_fitted(chunk.batch.column(item.name), item.type) for item in schema]
        yield pa.RecordBatch.from_arrays(arrays, schema.names)


def _fitted(array: Any, kind: Any) -> Any:
    is_number = pa.types.is_integer(array.type) and pa.types.is_floating(kind)
    return array.cast(kind) if is_number or pa.types.is_null(array.type) else array


def labels_of(frame: Any, columns: list[str]) -> list[Any]:
    """The columns as a frame names them, which need not be text.

    >>> import pandas as pd
    >>> labels_of(pd.DataFrame({1: ["a"], "b": ["c"]}), ["b", "1"])
    ['b', 1]
    """
    labels = {str(label): label for label in frame.columns}
    return [labels[name] for name in columns]

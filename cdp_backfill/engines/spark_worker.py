"""What runs in the Python workers of Spark: hands batches to work, and what it gives to Spark."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark import AccumulatorParam, TaskContext

from cdp_backfill.results.tracker import failure_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp_backfill.engines.engine import PartWork


class Account(AccumulatorParam[list[Any]]):
    """Collects on the driver what each part gave at its end, whatever becomes of its worker."""

    def zero(self, value: list[Any]) -> list[Any]:
        """Nothing yet."""
        del value
        return []

    def addInPlace(self, value1: list[Any], value2: list[Any]) -> list[Any]:  # noqa: N802
        """Both."""
        value1.extend(value2)
        return value1


@dataclass(frozen=True, slots=True)
class OnPart:
    """Work as a function for ``mapInArrow``.

    Args:
        work: The work.
        schema: Arrow schema of the columns, with times in UTC.
        names: Columns of the failures.
        fields: All columns of the result.
        account: An accumulator for the stage and the summary of each part, or None under Connect.
    """

    work: PartWork
    schema: Any
    names: tuple[str, ...]
    fields: tuple[str, ...]
    account: Any = None

    def __call__(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yield failures, and at last the summary."""
        context = TaskContext.get()
        assert context is not None  # noqa: S101  # only tasks call it
        part, attempt = f"{context.partitionId():06}", str(context.attemptNumber())
        working = self.work(map(partial(typed, self.schema), batches), part, attempt)
        schema = failure_schema(self.schema)
        kinds = [schema.field(name).type for name in self.names]
        summary = None
        while summary is None:
            try:
                table, rows = next(working), 0
                arrays = [table.column(name).combine_chunks() for name in self.names]
                rows = table.num_rows
            except StopIteration as end:
                arrays, rows, summary = [pa.nulls(1, kind) for kind in kinds], 1, end.value
            arrays = [array.cast(kind) for array, kind in zip(arrays, kinds, strict=True)]
            own = [pa.array([summary] * rows, pa.binary())]
            own.append(pa.array([context.stageId()] * rows, pa.int32()))
            if summary is not None and self.account is not None:
                self.account.add([(context.stageId(), summary)])
            yield pa.RecordBatch.from_arrays([*arrays, *own], list(self.fields))


def typed(schema: Any, batch: Any) -> Any:
    """A batch with the names and types of the table: times in UTC, whatever the session's zone."""
    columns = zip(batch.columns, schema, strict=True)
    arrays = [array if array.type == f.type else array.cast(f.type) for array, f in columns]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def as_bytes(schema: Any, batches: Iterator[Any]) -> Iterator[Any]:
    """Each batch as one cell, which keeps types that rows of Python would lose."""
    for batch in batches:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write_batch(typed(schema, batch))
        yield pa.RecordBatch.from_arrays(
            [pa.array([sink.getvalue().to_pybytes()], pa.binary())], ["batch"]
        )

"""Runs work on each partition of a DataFrame of Spark, classic or Connect."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import functions as sf
from pyspark.sql.types import (
    BinaryType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
    StructField,
    StructType,
)

from cdp_backfill.engines.engine import MappedParts
from cdp_backfill.engines.spark_tables import (
    check_key_setting,
    check_types,
    has_exchange,
    slots_of,
)
from cdp_backfill.model.outcomes import FAILURE_COLUMNS
from cdp_backfill.results.tracker import failure_schema
from cdp_backfill.sources.streams import Stream, StreamSource

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from cdp_backfill.engines.engine import PartWork
    from cdp_backfill.model.destination import Destination
    from cdp_backfill.sources import Source

_SUMMARY: Final = "cdp_summary"
_STAGE: Final = "cdp_stage"
_KINDS: Final = {"cdp_status": ShortType(), "cdp_attempts": IntegerType(), "cdp_row": LongType()}


class SparkEngine:
    """A DataFrame of Spark, which stays where it is.

    Args:
        frame: The DataFrame.

    Raises:
        SourceError: A column has no form as JSON.
    """

    name = "Spark"

    def __init__(self, frame: Any) -> None:
        check_types(frame.schema)
        self._frame, self._session = frame, frame.sparkSession

    @cached_property
    def source(self) -> Source:
        """The table, to be read on the driver, a partition at a time."""
        schema = self._frame.limit(0).toArrow().schema
        stream = Stream(
            name="the Spark DataFrame", schema=schema, batches=self._batches, ordered=False
        )
        source = StreamSource(stream)
        source._reopen = lambda: SparkEngine(self._frame).source  # noqa: SLF001  # set once, here
        return source

    @property
    def slots(self) -> int | None:
        """Tasks that run at a time; None if the settings do not tell."""
        return slots_of(self._session)

    @property
    def shares_files(self) -> bool:
        """Whether the workers are on this machine."""
        return self._context is not None and self._context.master.startswith("local")

    @property
    def _context(self) -> Any:
        """The context of a classic session; None under Connect."""
        return getattr(self._session, "_sc", None)

    def check(self, destination: Destination) -> None:
        """Refuse settings that show the key."""
        del destination
        check_key_setting(self._session)

    def map_parts(
        self, work: PartWork, columns: list[str], *, with_failures: bool = False
    ) -> MappedParts:
        """Run work on each partition in one job; what it gave is kept where it was made."""
        columns = columns or self.source.schema.names[:1]  # without any, Spark gives no rows
        names = [name for name in columns if name not in FAILURE_COLUMNS] if with_failures else []
        failed = list(FAILURE_COLUMNS) if with_failures else []
        kinds = {field.name: field.dataType for field in self._frame.schema}
        given = [StructField(f"c{number}", kinds[name]) for number, name in enumerate(names)]
        made = [StructField(name, _KINDS.get(name, StringType())) for name in failed]
        own = [StructField(_SUMMARY, BinaryType()), StructField(_STAGE, IntegerType())]
        schema = StructType([*given, *made, *own])
        on_part = _OnPart(work, self._schema(columns), (*names, *failed), tuple(schema.names))
        # Kept, and never computed a second time: another action would send everything again.
        result = self._select(columns).mapInArrow(on_part, schema).localCheckpoint(eager=True)
        rows = result.where(sf.col(_SUMMARY).isNotNull()).select(_SUMMARY, _STAGE).collect()
        failures = result.where(sf.col(_SUMMARY).isNull()).drop(_SUMMARY, _STAGE)
        failures = failures.toDF(*names, *failed) if with_failures else None
        return MappedParts(
            summaries=[bytes(row[0]) for row in rows],
            uncounted=self._may_repeat({row[1] for row in rows}),
            frame=failures,
            load=None if failures is None else lambda: [failures.toArrow()],
        )

    def _may_repeat(self, stages: set[int]) -> bool:
        """Whether tasks may have run that no attempt number counts."""
        if self._session.conf.get("spark.speculation", None) == "true":
            return True
        if self._context is None:
            return has_exchange(self._frame)
        infos = [self._context.statusTracker().getStageInfo(stage) for stage in stages]
        return any(info is None or info.currentAttemptId > 0 for info in infos)

    def _schema(self, columns: list[str]) -> Any:
        return pa.schema([self.source.schema.field(name) for name in columns])

    def _select(self, columns: list[str]) -> Any:
        """Columns under plain names: Spark reads a dot in a name as a path."""
        numbered = self._frame.toDF(*(f"c{n}" for n in range(len(self._frame.columns))))
        at = {name: f"c{number}" for number, name in enumerate(self._frame.columns)}
        return numbered.select(*(at[name] for name in columns))

    def _batches(self, columns: list[str]) -> Generator[Any]:
        """The rows on the driver, a partition at a time."""
        schema = self._schema(columns)
        blobs = self._select(columns).mapInArrow(partial(_as_bytes, schema), "batch binary")
        for row in blobs.toLocalIterator():
            with pa.ipc.open_stream(row.batch) as reader:
                yield from reader


@dataclass(frozen=True, slots=True)
class _OnPart:
    """Work as a function for ``mapInArrow``.

    Args:
        work: The work.
        schema: Arrow schema of the columns, with times in UTC.
        names: Columns of the failures.
        fields: All columns of the result.
    """

    work: PartWork
    schema: Any
    names: tuple[str, ...]
    fields: tuple[str, ...]

    def __call__(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yield failures, and at last the summary."""
        context = TaskContext.get()
        assert context is not None  # noqa: S101  # only tasks call it
        part, attempt = f"{context.partitionId():06}", str(context.attemptNumber())
        working = self.work(map(partial(_typed, self.schema), batches), part, attempt)
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
            yield pa.RecordBatch.from_arrays([*arrays, *own], list(self.fields))


def _typed(schema: Any, batch: Any) -> Any:
    """A batch with the names and types of the table: times in UTC, whatever the session's zone."""
    columns = zip(batch.columns, schema, strict=True)
    arrays = [array if array.type == f.type else array.cast(f.type) for array, f in columns]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _as_bytes(schema: Any, batches: Iterator[Any]) -> Iterator[Any]:
    """Each batch as one cell, which keeps types that rows of Python would lose."""
    for batch in batches:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write_batch(_typed(schema, batch))
        yield pa.RecordBatch.from_arrays(
            [pa.array([sink.getvalue().to_pybytes()], pa.binary())], ["batch"]
        )

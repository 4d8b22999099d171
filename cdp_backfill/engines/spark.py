"""Runs work on each partition of a DataFrame of Spark, classic or Connect."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
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
from cdp_backfill.engines.engine_errors import with_clear_errors
from cdp_backfill.engines.spark_tables import (
    check_key_setting,
    check_types,
    has_exchange,
    is_local,
    slots_of,
)
from cdp_backfill.engines.spark_tasks import watched_tasks
from cdp_backfill.engines.spark_worker import OnPart, as_bytes
from cdp_backfill.model.outcomes import FAILURE_COLUMNS
from cdp_backfill.sources.streams import Stream, StreamSource

if TYPE_CHECKING:
    from collections.abc import Generator

    from cdp_backfill.engines.engine import OnTasks, PartWork
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
    failures_name = "report.distributed_failures"

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
        self,
        work: PartWork,
        columns: list[str],
        *,
        with_failures: bool = False,
        on_tasks: OnTasks | None = None,
    ) -> MappedParts:
        """Run work on each partition in one job; what it gave is kept where it was made."""
        action = partial(self._map_parts, work, columns, with_failures=with_failures)
        with watched_tasks(self._session, on_tasks):
            return with_clear_errors(self.name, action, sends=with_failures)

    def _map_parts(self, work: PartWork, columns: list[str], *, with_failures: bool) -> MappedParts:
        columns = columns or self.source.schema.names[:1]  # without any, Spark gives no rows
        names = [name for name in columns if name not in FAILURE_COLUMNS] if with_failures else []
        failed = list(FAILURE_COLUMNS) if with_failures else []
        kinds = {field.name: field.dataType for field in self._frame.schema}
        given = [StructField(f"c{number}", kinds[name]) for number, name in enumerate(names)]
        made = [StructField(name, _KINDS.get(name, StringType())) for name in failed]
        own = [StructField(_SUMMARY, BinaryType()), StructField(_STAGE, IntegerType())]
        schema = StructType([*given, *made, *own])
        on_part = OnPart(work, self._schema(columns), (*names, *failed), tuple(schema.names))
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
            # Connect does not show attempts of stages. A stage runs again if rows that were
            # shuffled are lost with their executor; in local mode, there is none to lose.
            return has_exchange(self._frame) and not is_local(self._session)
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
        blobs = self._select(columns).mapInArrow(partial(as_bytes, schema), "batch binary")
        for row in blobs.toLocalIterator():
            with pa.ipc.open_stream(row.batch) as reader:
                yield from reader

"""Runs work on each partition of a DataFrame of Spark, classic or Connect."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import functions as sf

from cdp_backfill.engines.engine import MappedParts
from cdp_backfill.engines.engine_errors import with_clear_errors
from cdp_backfill.engines.spark_tables import (
    STAGE,
    SUMMARY,
    check_key_setting,
    check_types,
    may_repeat,
    numbered,
    result_schema,
    slots_of,
    summaries_in,
)
from cdp_backfill.engines.spark_tasks import ended_by_interrupts, watched_tasks
from cdp_backfill.engines.spark_worker import Account, OnPart, as_bytes
from cdp_backfill.model.outcomes import FAILURE_COLUMNS
from cdp_backfill.sources.streams import Stream, StreamSource

if TYPE_CHECKING:
    from collections.abc import Generator

    from cdp_backfill.engines.engine import OnTasks, PartWork
    from cdp_backfill.model.destination import Destination
    from cdp_backfill.sources import Source

_TWO_COPIES: Final = StorageLevel.MEMORY_AND_DISK_2


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
        schema = result_schema(self._frame, names, failed)
        context = self._context
        account = None if context is None else context.accumulator([], Account())
        on_part = OnPart(
            work, self._schema(columns), (*names, *failed), tuple(schema.names), account
        )
        parts = numbered(self._frame, columns).mapInArrow(on_part, schema)
        # Kept, and never computed a second time: another action would send everything again. On a
        # cluster, each block is on two executors, as one of them may be lost before it is read.
        level = StorageLevel.MEMORY_AND_DISK if self.shares_files else _TWO_COPIES
        lost: list[str] = []
        try:
            with ended_by_interrupts(self._session):
                result = parts.localCheckpoint(eager=True, storageLevel=level)
        except (Exception, KeyboardInterrupt) as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            if not with_failures or not (interrupted or (account and account.value)):
                raise  # there is no account of any part
            lost, result = [type(error).__name__], None
        if account is None:
            ended = [] if result is None else summaries_in(result)
        else:
            ended, account.value = list(account.value), []  # Spark never forgets an accumulator
        failures = None
        if result is not None and with_failures:
            rows = result.where(sf.col(SUMMARY).isNull()).drop(SUMMARY, STAGE)
            failures = rows.toDF(*names, *failed)
        return MappedParts(
            summaries=[summary for _, summary in ended],
            lost=lost,
            uncounted=may_repeat(self._frame, {stage for stage, _ in ended}),
            frame=failures,
            load=None if failures is None else lambda: [failures.toArrow()],
        )

    def _schema(self, columns: list[str]) -> Any:
        return pa.schema([self.source.schema.field(name) for name in columns])

    def _batches(self, columns: list[str]) -> Generator[Any]:
        """The rows on the driver, a partition at a time."""
        schema = self._schema(columns)
        blobs = numbered(self._frame, columns).mapInArrow(partial(as_bytes, schema), "batch binary")
        for row in blobs.toLocalIterator():
            with pa.ipc.open_stream(row.batch) as reader:
                yield from reader

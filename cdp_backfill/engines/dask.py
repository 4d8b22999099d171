"""Runs work on each partition of a DataFrame of Dask, with threads or on workers of distributed."""

from __future__ import annotations

import uuid
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final

import dask
import pyarrow as pa

from cdp_backfill.engines.dask_worker import run_part
from cdp_backfill.engines.engine import MappedParts
from cdp_backfill.engines.engine_errors import with_clear_errors
from cdp_backfill.engines.frame_parts import batches_of, labels_of
from cdp_backfill.results.spill import TableStore
from cdp_backfill.sources.frames import FrameSource
from cdp_backfill.sources.streams import Stream, StreamSource

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from cdp_backfill.engines.engine import OnTasks, PartWork
    from cdp_backfill.model.destination import Destination
    from cdp_backfill.sources import Source

_SPILL_BYTES: Final = 64 * 2**20
"""Bytes of failures that stay in memory here; more go to a temporary file."""


class DaskEngine:
    """A DataFrame of Dask, whose partitions stay where they are.

    Args:
        frame: The DataFrame.
    """

    name = "Dask"
    failures_name = "report.failures"

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    @cached_property
    def source(self) -> Source:
        """The table, to be read on the driver, a partition at a time."""
        first = self._frame._meta  # noqa: SLF001  # the types, as Dask states them
        if "object" in map(str, first.dtypes):  # only cells tell what these are
            first = self._frame.get_partition(0).compute()
        schema = FrameSource(first).schema
        stream = Stream(name="the Dask DataFrame", schema=schema, batches=self._batches)
        source = StreamSource(stream)
        source._reopen = lambda: DaskEngine(self._frame).source  # noqa: SLF001  # set once, here
        return source

    @cached_property
    def _client(self) -> Any:
        """The client of distributed that would compute the frame, or None."""
        owner = getattr(dask.base.get_scheduler(collections=[self._frame]), "__self__", None)
        return owner if hasattr(owner, "scheduler_info") else None

    @property
    def slots(self) -> int | None:
        """Threads that run parts."""
        if self._client is not None:
            return max(1, sum(map(int, self._client.nthreads().values())))
        if dask.config.get("scheduler", None) in ("sync", "synchronous", "single-threaded"):
            return 1
        return int(dask.config.get("num_workers", None) or dask.system.CPU_COUNT)

    @property
    def shares_files(self) -> bool:
        """Whether the workers are on this machine."""
        if self._client is None:
            return True
        workers = self._client.nthreads()  # by address
        return all("://127.0.0.1" in each or each.startswith("inproc") for each in workers)

    def check(self, destination: Destination) -> None:
        """Nothing: Dask shows no environment of its workers."""

    def map_parts(
        self,
        work: PartWork,
        columns: list[str],
        *,
        with_failures: bool = False,
        on_tasks: OnTasks | None = None,
    ) -> MappedParts:
        """Run work on each partition, once for each call, and bring home what it gave."""
        action = partial(
            self._map_parts, work, columns, with_failures=with_failures, on_tasks=on_tasks
        )
        return with_clear_errors(self.name, action, sends=with_failures)

    def _map_parts(
        self,
        work: PartWork,
        columns: list[str],
        *,
        with_failures: bool,
        on_tasks: OnTasks | None,
    ) -> MappedParts:
        schema = self._schema(columns or self.source.schema.names[:1])  # without any, no rows
        run = uuid.uuid4().hex if self._client is not None else None
        on_part = partial(run_part, work=work, schema=schema, run=run)
        # Impure: a result of an equal call before must not stand in for this one.
        call = dask.delayed(on_part, pure=False, traverse=False)
        parts = enumerate(self._frame[labels_of(self._frame, schema.names)].to_delayed())
        summaries, lost, failures = [], list[str](), TableStore(_SPILL_BYTES)
        tasks = [call(frame, part=f"{n:06}") for n, frame in parts]
        for ended, result in enumerate(self._results(tasks), 1):
            if on_tasks is not None:
                on_tasks(ended, len(tasks))
            if isinstance(result, BaseException):
                if not with_failures:
                    raise result
                lost.append(type(result).__name__)
                continue
            part, tables, summary = result
            summaries.append(summary)
            for table in tables:
                failures.append(int(part), table)
        return MappedParts(summaries=summaries, lost=lost, load=failures.tables)

    def _results(self, tasks: list[Any]) -> Iterator[Any]:
        """What the tasks return, each as soon as it is there.

        A result that stays on a worker would be computed again, and so be sent again, when that
        worker is lost.
        """
        if self._client is None:
            yield from dask.compute(*tasks)
            return
        from distributed import as_completed  # noqa: PLC0415  # an extra

        waiting = as_completed(self._client.compute(tasks), with_results=True, raise_errors=False)
        for future, result in waiting:
            yield result if future.status == "finished" else future.exception()

    def _schema(self, columns: list[str]) -> Any:
        return pa.schema([self.source.schema.field(name) for name in columns])

    def _batches(self, columns: list[str]) -> Generator[Any]:
        """The rows on the driver, a partition at a time."""
        schema = self._schema(columns)
        for number in range(self._frame.npartitions):
            part = self._frame[labels_of(self._frame, columns)].get_partition(number)
            yield from batches_of(part.compute(), schema)

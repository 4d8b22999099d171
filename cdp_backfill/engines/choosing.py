"""Finds the engine of a table, without importing any engine that is not in use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cdp_backfill.engines.jobs import EngineJob
from cdp_backfill.pipeline.job import Job
from cdp_backfill.pipeline.planner import make_plan
from cdp_backfill.sources import Source, Unreadable, open_source

if TYPE_CHECKING:
    from cdp_backfill.engines.engine import Engine
    from cdp_backfill.pipeline.plans import Plan


def open_table(table: Any, *, unreadable: Unreadable) -> tuple[Source, Engine | None]:
    """Open a table; one of an engine stays where it is.

    Args:
        table: The table.
        unreadable: See :func:`cdp_backfill.send`.

    Returns:
        The table as a source, and its engine or None.

    Raises:
        SourceError: The table cannot be read.
    """
    engine = _engine_of(table)
    if engine is None:
        return open_source(table, unreadable=unreadable), None
    return engine.source, engine


def job_on(engine: Engine | None, **parts: Any) -> Job:
    """A job, for an engine or for this machine.

    Args:
        engine: The engine, or None.
        **parts: See :class:`Job`.
    """
    return Job(**parts) if engine is None else EngineJob(engine=engine, **parts)


def plan_of(job: Job) -> Plan:
    """The plan of a job, made where its table lies."""
    return job.plan() if isinstance(job, EngineJob) else make_plan(job)


def _engine_of(table: Any) -> Engine | None:
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(table).__mro__}
    if ("pyspark", "DataFrame") in kinds and hasattr(table, "mapInArrow"):
        from cdp_backfill.engines.spark import SparkEngine  # noqa: PLC0415  # needs pyspark

        return SparkEngine(table)
    if ("dask", "DataFrame") in kinds and hasattr(table, "to_delayed"):
        from cdp_backfill.engines.dask import DaskEngine  # noqa: PLC0415  # needs dask

        return DaskEngine(table)
    return None

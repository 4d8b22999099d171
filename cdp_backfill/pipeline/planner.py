"""Reads a table to its end and makes a plan of it."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from cdp_backfill.messages.packing import FIRST_MESSAGES, Packer
from cdp_backfill.model.arrow_types import describe_type
from cdp_backfill.model.destination import choose_destination
from cdp_backfill.model.mapping import Lit
from cdp_backfill.pipeline.doubts import assumptions_of
from cdp_backfill.pipeline.leaving_out import left_out_notes
from cdp_backfill.pipeline.notes import mapping_notes
from cdp_backfill.pipeline.plan_parts import Column, as_moment
from cdp_backfill.pipeline.plan_statistics import PlanStatistics, sample, shorten
from cdp_backfill.pipeline.plan_time import expected_seconds
from cdp_backfill.pipeline.plans import Plan
from cdp_backfill.results.progress import Reason
from cdp_backfill.sources.fingerprint import ContentFingerprint

if TYPE_CHECKING:
    from typing import Any

    from cdp_backfill.model.destination import Destination
    from cdp_backfill.pipeline.job import Job
    from cdp_backfill.pipeline.prepared_source import PreparedSource
    from cdp_backfill.results.reasons import FailureReasons
    from cdp_backfill.sources import Chunk


def make_plan(job: Job) -> Plan:
    """Read the whole table once and count what a run would do with it.

    The identities come first, and for a column of identities the table is read once more. Where a
    question is open, only the first rows are read and nothing is counted.

    Args:
        job: What the plan is about and, later, sends.
    """
    destination = choose_destination(job.options.destination)
    if not job.proposal.complete:
        return plan_with_questions(job, destination)
    prepared_source = job.prepare()
    job = replace(job.with_identities(), proposal=prepared_source.proposal)
    identities = None if job.identities is None else make_plan(job.identities)
    source, binding = prepared_source.source, prepared_source.binding
    packer = Packer(max_messages=destination.max_messages, first_messages=FIRST_MESSAGES)
    statistics = PlanStatistics(packer, binding.schema.names, prepared_source.limits)
    fingerprint = source.fingerprint()
    content = ContentFingerprint(source.schema) if fingerprint is None else None
    started = time.monotonic()
    for chunk, prepared in prepared_source.chunks(source.schema.names):
        statistics.add(prepared, chunk.batch.num_rows)
        if content is not None:
            content.add(chunk.batch)
    statistics.finish()
    job = replace(
        job,
        fingerprint=fingerprint if content is None else content.value,
        identities=None if identities is None else identities._job,  # noqa: SLF001  # our own
    )
    return plan_from(
        job,
        prepared_source,
        statistics,
        seconds=time.monotonic() - started,
        identities=identities,
    )


def plan_from(
    job: Job,
    prepared_source: PreparedSource,
    statistics: PlanStatistics,
    *,
    seconds: float,
    identities: Plan | None = None,
) -> Plan:
    """Make a plan of what was counted.

    Args:
        job: What the plan is about and, later, sends.
        prepared_source: Its table and mapping.
        statistics: The counts.
        seconds: Seconds that it took to read, check and encode the table.
        identities: The plan of the identities, or None.
    """
    source = prepared_source.source
    destination = choose_destination(job.options.destination)
    sent, skipped = statistics.to_send, _reasons(statistics.skipped_reasons)
    expected = expected_seconds(statistics.requests, seconds, destination)
    return Plan(
        source=source.name,
        proposal=job.proposal,
        rows=statistics.rows,
        to_send=sent,
        invalid=statistics.invalid,
        held=statistics.held,
        skipped=statistics.skipped,
        events=statistics.events,
        days=statistics.days,
        unknown_events=statistics.unknown_events,
        problems=statistics.problems,
        reasons=_reasons(statistics.reasons),
        skipped_reasons=skipped,
        fixes=statistics.fixes,
        columns=_columns(prepared_source, statistics),
        first=None if statistics.first is None else as_moment(statistics.first),
        last=None if statistics.last is None else as_moment(statistics.last),
        recent=statistics.recent,
        recent_people=statistics.recent_people.different,
        people=statistics.people.different,
        people_exact=statistics.people.exact,
        **statistics.identity,
        duplicates=statistics.duplicates or statistics.ids.repeated,
        mean=statistics.message_bytes / sent if sent else 0.0,
        largest=statistics.largest,
        body_bytes=statistics.body_bytes,
        requests=statistics.requests,
        fill=statistics.fill,
        wire_bytes=statistics.wire_bytes,
        seconds=_seconds(statistics.requests, destination),
        expected_seconds=expected,
        samples=tuple(statistics.samples),
        assumptions=assumptions_of(
            job.proposal, statistics.naive, statistics.fixes, _unnamed(prepared_source)
        ),
        notes=(
            *left_out_notes(skipped, statistics.rows, job.options.where, job.options.exclude),
            *source.notes,
            # Without a zone in the mapping, the same is among the assumptions.
            *mapping_notes(
                job.proposal,
                statistics.naive if job.proposal.mapping.timezone else 0,
                statistics.event_keys,
            ),
        ),
        url=destination.url,
        identities=identities,
        _job=replace(job, planned_seconds=expected),
    )


def _reasons(reasons: FailureReasons) -> tuple[Reason, ...]:
    return tuple(Reason(item.code, item.reason, item.rows) for item in reasons)


def plan_with_questions(job: Job, destination: Destination) -> Plan:
    """A plan that asks: nothing is counted."""
    source = job.source
    personal = {each.column for each in job.proposal.left_out}
    with closing(source.chunks(source.schema.names)) as chunks:
        first = next(chunks, None)
    return Plan(
        source=source.name,
        proposal=job.proposal,
        rows=source.rows or 0,
        columns=tuple(_describe(field, first, personal) for field in source.schema),
        assumptions=job.proposal.assumptions,
        notes=source.notes,
        url=destination.url,
        _job=job,
    )


def _describe(field: Any, first: Chunk | None, personal: set[str]) -> Column:
    """A column, as its first rows show it; without a cell if it is personal."""
    filled, cell = 0.0, ""
    if first is not None:
        array = first.batch.column(field.name)
        filled = 1 - array.null_count / len(array)
        cell = "" if field.name in personal else sample(array)
    return Column(field.name, describe_type(field.type), filled, cell, (), "")


def _unnamed(prepared_source: PreparedSource) -> list[str]:
    """The columns that become properties although the mapping does not name them."""
    binding = prepared_source.binding
    named = set(binding.mapping.sources())
    return [
        name for name in binding.schema.names if name in binding.properties and name not in named
    ]


def _seconds(requests: int, destination: Destination) -> float | None:
    return None if destination.rate_limit is None else requests / destination.rate_limit


def _columns(prepared_source: PreparedSource, statistics: PlanStatistics) -> tuple[Column, ...]:
    binding = prepared_source.binding
    fields: dict[str, list[str]] = {name: [] for name in binding.schema.names}
    constants: list[Column] = []
    for path, source in binding.leaves():
        if isinstance(source, Lit):
            constants.append(
                Column(None, "constant", 1.0, shorten(source.value), (".".join(path),), "")
            )
        else:
            fields[source].append(".".join(path))
    for name in binding.mapping.expand:
        fields[name].append("properties.*")
    feeds = binding.deriver.reads if binding.deriver else ()
    inside, dropped = binding.paths.taken, set(binding.mapping.drop)
    found = _remarks(statistics)
    columns = []
    for item in binding.schema:
        name = item.name
        remarks = found.get(name, [])
        is_used = name in feeds or bool(fields[name])
        if name in feeds:
            remarks.insert(0, "feeds derive")
        elif name in inside and name not in dropped:
            remarks.insert(0, "parts go elsewhere")
        elif not is_used:
            remarks.insert(0, "left out")
        if name in binding.mapping.derive:
            remarks.insert(0, "derived")
        columns.append(
            Column(
                name,
                describe_type(item.type),
                statistics.filled[name] / statistics.rows if statistics.rows else 0.0,
                statistics.cells.get(name, "") if is_used else "",
                tuple(fields[name]),
                "; ".join(remarks),
            )
        )
    return (*columns, *constants)


def _remarks(statistics: PlanStatistics) -> dict[str | None, list[str]]:
    """The problems of each column, and then the fixes to its cells, in words."""
    remarks: dict[str | None, list[str]] = {}
    for problem, rows in statistics.problems.items():
        remarks.setdefault(problem.column, []).append(f"{rows:,} {problem.code}")
    for fix, cells in statistics.fixes.items():
        remarks.setdefault(fix.column, []).append(f"{cells:,} {fix.code}")
    return remarks

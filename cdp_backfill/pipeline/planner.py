"""Reads a table to its end and makes the plan of it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from cdp_backfill.messages.packing import Packer
from cdp_backfill.model.mapping import Lit
from cdp_backfill.pipeline.plan_statistics import PlanStatistics, sample, shown
from cdp_backfill.pipeline.plans import Column, Plan, as_moment
from cdp_backfill.pipeline.prepared_source import PreparedSource, notes, type_in_words
from cdp_backfill.sources.fingerprint import ContentFingerprint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cdp_backfill.inference.proposal import Proposal
    from cdp_backfill.model.destination import Destination
    from cdp_backfill.results.progress import Progress
    from cdp_backfill.results.reports import Report
    from cdp_backfill.sources import Chunk, Source

    SendFunction = Callable[
        [bool | Progress, str | Path | bool | None, int | None, Destination | None, int], Report
    ]


def plan_of(
    prepared_source: PreparedSource,
    destination: Destination,
    send_function: Callable[[tuple[Any, ...]], SendFunction],
) -> Plan:
    """Read the whole table once and say what a run would do with it.

    Args:
        prepared_source: The table, the mapping and the options.
        destination: Where it would go.
        send_function: Makes what sends the table, given its fingerprint.
    """
    table, binding = prepared_source.source, prepared_source.binding
    statistics = PlanStatistics(Packer(max_messages=destination.max_messages), binding.schema.names)
    cheap = table.fingerprint()
    content = ContentFingerprint(table.schema) if cheap is None else None
    for chunk, prepared in prepared_source.prepared(table.schema.names):
        statistics.add(prepared, chunk.batch.num_rows)
        if content is not None:
            content.add(chunk.batch)
    statistics.finish()
    fingerprint = cheap if content is None else content.value
    return Plan(
        source=table.name,
        proposal=prepared_source.proposal,
        rows=statistics.rows,
        to_send=statistics.to_send,
        invalid=statistics.invalid,
        held=statistics.held,
        skipped=statistics.skipped,
        events=statistics.events,
        days=statistics.days,
        unknown_events=statistics.unknown_events,
        problems=statistics.problems,
        fixes=statistics.fixes,
        columns=_columns(prepared_source, statistics),
        first=None if statistics.first is None else as_moment(statistics.first),
        last=None if statistics.last is None else as_moment(statistics.last),
        recent=statistics.recent,
        recent_people=statistics.recent_people.different,
        people=statistics.people.different,
        people_exact=statistics.people.exact,
        duplicates=statistics.duplicates or statistics.ids.repeated,
        mean=statistics.message_bytes / statistics.to_send if statistics.to_send else 0.0,
        largest=statistics.largest,
        body_bytes=statistics.body_bytes,
        requests=statistics.requests,
        fill=statistics.fill,
        seconds=_seconds(statistics.requests, destination),
        samples=tuple(statistics.samples),
        notes=(
            *table.notes,
            *notes(prepared_source.proposal, statistics.naive, statistics.event_keys),
        ),
        url=destination.url,
        _send=send_function(fingerprint or ()),
    )


def undecided(
    table: Source, proposal: Proposal, destination: Destination, send_function: SendFunction
) -> Plan:
    """The plan of a table whose mapping has an open question: nothing is counted."""
    with closing(table.chunks(table.schema.names)) as chunks:
        first = next(chunks, None)
    lines = [_glance(item, first) for item in table.schema]
    return Plan(
        source=table.name,
        proposal=proposal,
        rows=table.rows or 0,
        to_send=0,
        invalid=0,
        held=0,
        skipped=0,
        events={},
        days={},
        unknown_events={},
        problems={},
        fixes={},
        columns=tuple(lines),
        first=None,
        last=None,
        recent=0,
        recent_people=0,
        people=0,
        people_exact=True,
        duplicates=0,
        mean=0.0,
        largest=0,
        body_bytes=0,
        requests=0,
        fill=0.0,
        seconds=None,
        samples=(),
        notes=table.notes,
        url=destination.url,
        _send=send_function,
    )


def _glance(item: Any, first: Chunk | None) -> Column:
    """A column as its first rows show it."""
    filled, cell = 0.0, ""
    if first is not None:
        array = first.batch.column(item.name)
        filled = 1 - array.null_count / len(array)
        cell = sample(array)
    return Column(item.name, type_in_words(item.type), filled, cell, (), "")


def _seconds(requests: int, destination: Destination) -> float | None:
    return None if destination.rate_limit is None else requests / destination.rate_limit


def _columns(prepared_source: PreparedSource, statistics: PlanStatistics) -> tuple[Column, ...]:
    binding = prepared_source.binding
    fields: dict[str, list[str]] = {name: [] for name in binding.schema.names}
    constants: list[Column] = []
    for path, source in binding.leaves():
        if isinstance(source, Lit):
            constants.append(
                Column(None, "constant", 1.0, shown(source.value), (".".join(path),), "")
            )
        else:
            fields[source].append(".".join(path))
    for name in binding.mapping.expand:
        fields[name].append("properties.*")
    feeds = binding.deriver.reads if binding.deriver else ()
    found = []
    for item in binding.schema:
        name = item.name
        remarks = _remarks(statistics, name)
        if name in feeds:
            remarks.insert(0, "feeds derive")
        elif not fields[name]:
            remarks.insert(0, "left out")
        if name in binding.mapping.derive:
            remarks.insert(0, "derived")
        found.append(
            Column(
                name,
                type_in_words(item.type),
                statistics.filled[name] / statistics.rows if statistics.rows else 0.0,
                statistics.cells.get(name, ""),
                tuple(fields[name]),
                "; ".join(remarks),
            )
        )
    return (*found, *constants)


def _remarks(statistics: PlanStatistics, name: str) -> list[str]:
    wrong = [
        f"{rows:,} {problem.code}"
        for problem, rows in statistics.problems.items()
        if problem.column == name
    ]
    mended = [
        f"{cells:,} {fix.code}" for fix, cells in statistics.fixes.items() if fix.column == name
    ]
    return wrong + mended

"""Reads a table to its end and makes the plan of it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from cdp_backfill.messages.packing import Packer
from cdp_backfill.model.mapping import Lit
from cdp_backfill.pipeline.plan_statistics import Census, sample, shown
from cdp_backfill.pipeline.plans import Column, Plan, as_moment
from cdp_backfill.pipeline.prepared_source import Road, notes, type_in_words
from cdp_backfill.sources.fingerprint import ContentStamp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cdp_backfill.inference.proposal import Proposal
    from cdp_backfill.model.destination import Destination
    from cdp_backfill.results.progress import Progress
    from cdp_backfill.results.reports import Report
    from cdp_backfill.sources import Chunk, Source

    Sender = Callable[
        [bool | Progress, str | Path | bool | None, int | None, Destination | None, int], Report
    ]


def plan_of(
    road: Road,
    destination: Destination,
    sender: Callable[[tuple[Any, ...]], Sender],
) -> Plan:
    """Read the whole table once and say what a run would do with it.

    Args:
        road: The table, the mapping and the options.
        destination: Where it would go.
        sender: Makes what sends the table, given its stamp.
    """
    table, binding = road.source, road.binding
    census = Census(Packer(max_messages=destination.max_messages), binding.schema.names)
    cheap = table.stamp()
    content = ContentStamp(table.schema) if cheap is None else None
    for chunk, prepared in road.prepared(table.schema.names):
        census.add(prepared, chunk.batch.num_rows)
        if content is not None:
            content.add(chunk.batch)
    census.finish()
    stamp = cheap if content is None else content.value
    return Plan(
        source=table.name,
        proposal=road.proposal,
        rows=census.rows,
        to_send=census.to_send,
        invalid=census.invalid,
        held=census.held,
        skipped=census.skipped,
        events=census.events,
        days=census.days,
        unknown_events=census.unknown_events,
        problems=census.problems,
        fixes=census.fixes,
        columns=_columns(road, census),
        first=None if census.first is None else as_moment(census.first),
        last=None if census.last is None else as_moment(census.last),
        recent=census.recent,
        recent_people=census.recent_people.different,
        people=census.people.different,
        people_exact=census.people.exact,
        duplicates=census.duplicates or census.ids.repeated,
        mean=census.message_bytes / census.to_send if census.to_send else 0.0,
        largest=census.largest,
        body_bytes=census.body_bytes,
        requests=census.requests,
        fill=census.fill,
        seconds=_seconds(census.requests, destination),
        samples=tuple(census.samples),
        notes=(*table.notes, *notes(road.proposal, census.naive, census.event_keys)),
        url=destination.url,
        _send=sender(stamp or ()),
    )


def undecided(table: Source, proposal: Proposal, destination: Destination, sender: Sender) -> Plan:
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
        _send=sender,
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


def _columns(road: Road, census: Census) -> tuple[Column, ...]:
    binding = road.binding
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
        remarks = _remarks(census, name)
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
                census.filled[name] / census.rows if census.rows else 0.0,
                census.cells.get(name, ""),
                tuple(fields[name]),
                "; ".join(remarks),
            )
        )
    return (*found, *constants)


def _remarks(census: Census, name: str) -> list[str]:
    wrong = [
        f"{rows:,} {problem.code}"
        for problem, rows in census.problems.items()
        if problem.column == name
    ]
    mended = [f"{cells:,} {fix.code}" for fix, cells in census.fixes.items() if fix.column == name]
    return wrong + mended

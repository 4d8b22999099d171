"""Proposes the mapping of a preset for a table, and checks it against the first rows."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.errors import MappingError
from cdp_backfill.inference import presets
from cdp_backfill.inference.presets.inner_records import inner_names, with_inner_columns
from cdp_backfill.inference.presets.merging import in_order
from cdp_backfill.inference.proposal import Choice, Proposal, Question
from cdp_backfill.inference.zone_evidence import zone_evidence
from cdp_backfill.messages.deriving import Deriver
from cdp_backfill.messages.expressions import quote
from cdp_backfill.messages.text import as_text, clean_text, decode
from cdp_backfill.messages.times import read_times
from cdp_backfill.model import api_facts
from cdp_backfill.model.arrow_types import is_json, is_text, is_time_like
from cdp_backfill.model.mapping import Mapping

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from cdp_backfill.inference.presets import Preset
    from cdp_backfill.messages.times import Times
    from cdp_backfill.sources import Source

_FIRST: Final = int(
    datetime.fromisoformat(api_facts.APP_STORES).replace(tzinfo=UTC).timestamp() * 1000
)
"""Earlier times of processing are placeholders; milliseconds since 1970 UTC."""

_EMPTY: Final = pa.array(["null", '""'])
"""How an empty cell looks as JSON."""


def detect_preset(table: Source) -> Preset | None:
    """The preset whose export a table is, according to its columns and first cells; or None.

    Args:
        table: The table; it can be read more than once.
    """
    preset = presets.detect(list(table.schema.names))
    if preset is None:
        return None
    for name in table.schema.names:
        pattern = preset.cells.get(name.casefold())
        if pattern is None:
            continue
        derive = {"found_cells": f"to_json({quote(name)})::VARCHAR"}
        cells = _first_cells(table, derive, ["found_cells"])["found_cells"].fill_null("null")
        fits = pc.or_(pc.match_substring_regex(cells, pattern), pc.is_in(cells, value_set=_EMPTY))
        if not pc.all(fits).as_py():
            return None
    return preset


def propose_preset(table: Source, preset: Preset, given: dict[str, Any], reason: str) -> Proposal:
    """Propose the mapping of a preset for a table.

    Args:
        table: The table. Its first rows are read only if it can be read more than once.
        preset: The preset.
        given: Fields of the caller, which add to the preset's or replace them.
        reason: The reason of the proposal.

    Raises:
        MappingError: The preset does not fit the table, a field of the caller has the wrong type,
            or ``timezone`` or ``timestamp_unit`` would change nothing.
    """
    names = list(table.schema.names)
    column = _column_of_records(preset, names)
    if column is not None and not (preset.inside is None and preset.matches(names)):
        return _propose_inside(table, column, preset, given, reason)
    proposal = preset.proposal(names, given, reason)
    return _checked(table, proposal, preset, given)


def _column_of_records(preset: Preset, names: list[str]) -> str | None:
    """The column that holds the records of another export, or None."""
    inside = {preset.inside} if preset.inside else {each.inside for each in _wrappers()}
    return next((name for name in names if name.casefold() in inside), None)


def _wrappers() -> list[Preset]:
    return [each for each in map(presets.load, presets.names()) if each.inside is not None]


def _propose_inside(
    table: Source, column: str, preset: Preset, given: dict[str, Any], reason: str
) -> Proposal:
    """Propose the mapping for the records in a column."""
    first = _first_cells(table, {}, [column])
    names = inner_names(first[column])
    inner = preset if preset.inside is None else presets.detect(names)
    if inner is None or inner.inside is not None:
        return _ask_for_inner(table, column, preset, given, names)
    proposal = inner.proposal(names, given, reason)
    mapping = with_inner_columns(proposal.mapping, column, names, list(table.schema.names))
    proposal = replace(
        proposal,
        mapping=mapping,
        choices=(
            Choice("records", f"column {column!r}", 1.0, f"read by the preset {inner.name!r}"),
            *proposal.choices,
        ),
        preset=preset.name,
        facts=preset.facts if inner is preset else (*preset.facts, *inner.facts),
    )
    return _checked(table, proposal, inner, given, (column, names))


def _ask_for_inner(
    table: Source, column: str, preset: Preset, given: dict[str, Any], names: list[str]
) -> Proposal:
    mapping = replace(Mapping(), **given)
    listed = ", ".join(map(repr, names[:12])) or "none"
    example = names[0] if names else "key"
    text = (
        f"The records of {table.name} are inside the column {column!r}, with the keys {listed}. "
        "No preset fits them. Make columns of the keys that you need, as in "
        f"derive={{'{example}': \"{column}::JSON->>'$.{example}'\"}}, and pass user_id=, event= "
        "and timestamp= with these names."
    )
    questions = () if mapping.complete else (Question("records", (column,), text, needed=True),)
    return Proposal(mapping, (), questions, preset.name, preset.facts)


def _checked(
    table: Source,
    proposal: Proposal,
    preset: Preset,
    given: dict[str, Any],
    inside: tuple[str, list[str]] | None = None,
) -> Proposal:
    """The proposal, if the zone and the unit of its times fit; with a question if they may not.

    Args:
        table: The table.
        proposal: The proposal.
        preset: The preset that it comes from.
        given: Fields of the caller.
        inside: The column that holds the records, and their keys; None for a plain table.
    """
    mapping, time = proposal.mapping, proposal.mapping.timestamp
    columns = list(table.schema.names)
    compared: dict[str, str] = {}
    if not given.keys() & {"timezone", "timestamp"}:
        compared = preset.processing_time(inside[1] if inside else columns)
        if compared and inside is not None:
            compared = with_inner_columns(Mapping(derive=compared), *inside, columns).derive
    if not (compared or given.keys() & {"timezone", "timestamp_unit"}):
        return proposal
    if not isinstance(time, str) or time not in {*columns, *mapping.derive}:
        return proposal  # binding the mapping reports it
    wanted = [time, *([preset.processed] if compared and preset.processed else [])]
    cells = _first_cells(table, in_order(compared | mapping.derive), wanted)
    if not is_time_like(cells[time].type) and not is_json(cells[time].type):
        return proposal  # as above
    times = _read(cells[time], mapping.timestamp_unit)
    if "timezone" in given:
        _check_zone(table, mapping, cells[time].type, times)
    if "timestamp_unit" in given:
        _check_unit(mapping, cells[time], times)
    if not compared:
        return proposal
    processed = _read(cells[str(preset.processed)], "ms")
    return replace(proposal, questions=(*proposal.questions, *_zone_questions(times, processed)))


def _first_cells(table: Source, derive: dict[str, str], columns: Sequence[str]) -> dict[str, Any]:
    """The first cells of some columns, new ones included; none of a table to read only once."""
    deriver = Deriver(derive, table.schema, only=columns)
    own = set(table.schema.names)
    read = dict.fromkeys([*deriver.reads, *(n for n in columns if n in own)])
    batch = None
    if table.replayable:
        with closing(table.chunks(list(read))) as chunks:
            first = next(chunks, None)
            batch = first.batch if first is not None else None
    if batch is None:
        schema = pa.schema([table.schema.field(name) for name in read])
        batch = pa.RecordBatch.from_pylist([], schema=schema)
    arrays, _ = deriver.apply(batch)
    new = dict(zip([item.name for item in deriver.fields], arrays, strict=True))
    return {name: decode(new[name] if name in new else batch.column(name)) for name in columns}


def _read(array: Any, unit: str | None) -> Times:
    return read_times(_plain(array), unit=unit, timezone=None, earliest=_FIRST)


def _plain(array: Any) -> Any:
    if is_json(array.type):
        array, _ = as_text(array)
    return clean_text(array, lambda _code, _where: None) if is_text(array.type) else array


def _check_zone(table: Source, mapping: Mapping, kind: Any, times: Times) -> None:
    """Refuse a time zone that would change nothing."""
    good = ~(times.missing | times.bad | times.unclear)
    has_zone = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    has_zone |= pa.types.is_timestamp(kind) and kind.tz is not None
    if good.any():
        has_zone = not times.naive[good].any()
    others = (item.type for item in table.schema if item.name != mapping.timestamp)
    if has_zone and not any(pa.types.is_timestamp(each) and each.tz is None for each in others):
        raise MappingError(
            f"timezone={mapping.timezone!r} would change nothing: the times in column "
            f"{mapping.timestamp!r} carry a zone, or count from 1970 in UTC. Leave timezone= out."
        )


def _check_unit(mapping: Mapping, array: Any, times: Times) -> None:
    """Refuse a unit of numbers where there are none."""
    text = _plain(array)
    if not is_text(text.type) or not (~times.missing).any():
        return  # numbers; of times with a type of their own, binding the mapping reports it
    if not pc.any(pc.match_substring_regex(text, r"^[+-]?\d+(\.\d+)?$")).as_py():
        raise MappingError(
            f"timestamp_unit={mapping.timestamp_unit!r} is for numbers, but column "
            f"{mapping.timestamp!r} holds dates and times as text. Leave timestamp_unit= out."
        )


def _zone_questions(times: Times, processed: Times) -> Collection[Question]:
    """A question, if the times are after the processing of their own events."""
    unusable = times.missing | times.bad | times.unclear | processed.missing | processed.bad
    usable = ~unusable & (processed.millis > _FIRST)
    evidence = zone_evidence(times.millis, processed.millis, np.asarray(usable))
    if evidence is None:
        return ()
    late = "after" if evidence.minutes > 0 else "before"
    text = (
        f"In {evidence.rows:,} of {evidence.of:,} rows, the time of the event lies {late} the "
        "moment, in UTC, at which the vendor processed the event. So the times seem to be in the "
        f"time zone of the project, {evidence.offset} UTC. Pass timezone='...' with the name of "
        "that zone, such as 'Europe/Berlin', or timezone='UTC' to keep the times as they are."
    )
    return (Question("timezone", (), text, needed=True),)

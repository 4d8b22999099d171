"""Completes the mapping of a table: from a preset, or from its columns."""

from __future__ import annotations

from contextlib import closing
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.errors import MappingError
from cdp_backfill.inference.column_names import is_version_name
from cdp_backfill.inference.columns import NEEDED, Inference, without_personal_data
from cdp_backfill.inference.draft import listed
from cdp_backfill.inference.event_columns import MANY_VALUES
from cdp_backfill.inference.nested_columns import flattened, with_nested
from cdp_backfill.inference.order_questions import with_date_order
from cdp_backfill.inference.preset_proposals import detect_preset, propose_preset
from cdp_backfill.inference.proposal import Proposal
from cdp_backfill.inference.samples import Sample
from cdp_backfill.messages.deriving import Deriver
from cdp_backfill.messages.paths import Paths, find_path, json_texts, paths_of, why_no_path
from cdp_backfill.messages.text import as_text, decode
from cdp_backfill.model.arrow_types import can_be_text
from cdp_backfill.model.mapping import Mapping
from cdp_backfill.model.mapping_checks import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from collections.abc import Mapping as Dict
    from datetime import datetime

    from cdp_backfill.sources import Source

    IndexNames = Dict[str, bool]


def propose(
    table: Source,
    given: Mapping,
    passed: Collection[str] = (),
    now: datetime | None = None,
) -> Proposal:
    """Propose the fields that a mapping leaves out: from a preset, or from the table.

    Args:
        table: The table. One that can be read only once is not read: then only the names of its
            columns are judged, and nothing is proposed but what stays out.
        given: The mapping of the caller.
        passed: Fields that the caller passed, even if they are at their default.
        now: The current time; None reads the clock.

    Raises:
        MappingError: The mapping names a column that the table lacks, or has a new column that
            cannot be computed.
    """
    check_index(table, given)
    check_columns(table.schema, given)
    if not table.replayable:
        return leave_out_personal_data(table, Proposal(given))
    preset = detect_preset(table)
    if preset is not None:
        values = {item.name: getattr(given, item.name) for item in fields(Mapping)}
        fields_of_caller = {
            item.name: values[item.name]
            for item in fields(Mapping)
            if item.name in passed or values[item.name] not in (item.default, {}, None)
        }
        proposal = propose_preset(table, preset, fields_of_caller, "its columns match")
        if proposal.mapping.other_events == "skip" and "other_events" not in fields_of_caller:
            # Who names a preset chooses what it leaves out; nobody has named this one.
            mapping = replace(proposal.mapping, other_events="unmapped")
            proposal = replace(proposal, mapping=mapping)
        return with_date_order(table, leave_out_personal_data(table, proposal), now)
    deriver = Deriver(given.derive, table.schema) if given.derive else None
    sample = _first_rows(table)
    if deriver is not None:
        sample = _with_new_columns(sample, deriver)
    whole, paths = sample, paths_of(given, sample.schema)
    sample = _with_fields_inside(sample, paths)
    feeds = deriver.reads if deriver is not None else ()
    counter = _counter(table, deriver, paths)
    proposal = Inference(sample, counter, now, feeds).propose(given, passed)
    flat, inside = flattened(whole, proposal.mapping)
    if inside:
        named = {name: sample.column(name) for name in paths.paths if name not in flat.schema.names}
        flat = pa.RecordBatch.from_arrays(
            [*flat.columns, *named.values()], [*flat.schema.names, *named]
        )
        counter = _counter(table, deriver, Paths({**paths.paths, **inside}))
        inner = Inference(flat, counter, now, feeds).propose(proposal.mapping, passed)
        nested = {path.column for path in inside.values()}
        proposal = with_nested(proposal, inner, inside.keys(), nested)
    return with_date_order(table, _with_index(proposal, table.index_names), now, sample)


def leave_out_personal_data(table: Source, proposal: Proposal) -> Proposal:
    """A proposal without the personal data that nobody named.

    Args:
        table: The table. One that can be read only once is judged by the names of its columns.
        proposal: The proposal.
    """
    batch = _first_rows(table) if table.replayable else _empty(table)
    paths = paths_of(proposal.mapping, batch.schema)
    return without_personal_data(proposal, Sample(_with_fields_inside(batch, paths)))


def check_index(table: Source, mapping: Mapping) -> None:
    """Refuse a mapping that names the index of a DataFrame, whose cells are in no column.

    Args:
        table: The table.
        mapping: The mapping.

    Raises:
        MappingError: It does.
    """
    own = {*table.schema.names, *mapping.derive}
    for name in mapping.columns():
        if name in table.index_names and name not in own:
            raise MappingError(
                f"{name!r} is in the index of the DataFrame, not among its columns. Pass "
                "df.reset_index(), which makes columns of an index."
            )


def version_columns(names: Collection[str]) -> frozenset[str]:
    """Columns whose name ends in version or build: 1.10 and 1.1 are two versions and one number."""
    return frozenset(name for name in names if is_version_name(name))


def _with_index(proposal: Proposal, index: IndexNames) -> Proposal:
    """A proposal whose questions name the levels of the index, which may be the answer."""
    questions = []
    for question in proposal.questions:
        is_time = question.field == "timestamp"
        names = [name for name, holds_times in index.items() if holds_times == is_time]
        text = question.text
        if names and question.needed and question.field in NEEDED:
            text += f" The index holds {listed(names)}: df.reset_index() makes columns of an index."
        questions.append(replace(question, text=text))
    return replace(proposal, questions=tuple(questions))


def check_columns(schema: Any, given: Mapping) -> None:
    """Report an unknown column before any question is asked.

    Args:
        schema: The columns of the table.
        given: The mapping of the caller.

    Raises:
        MappingError: The table has no such column.
    """
    names, texts = list(schema.names), json_texts(given)
    known = {*names, *given.derive}
    for name in given.columns():
        inside_new = any(name.startswith(f"{new}.") for new in given.derive)
        if name in known or inside_new or find_path(name, schema, texts):
            continue
        if reason := why_no_path(name, schema):
            raise MappingError(f"There is no column {name!r}, and {reason}")
        raise MappingError(
            f"There is no column {name!r}.{did_you_mean(name, names)} The table has "
            f"{', '.join(map(repr, names[:12]))}. For a constant, pass lit({name!r})."
        )


def _first_rows(table: Source) -> Any:
    # Closed before the next reading: some tables have only one reader at a time.
    with closing(table.chunks(list(table.schema.names))) as chunks:
        first = next(chunks, None)
    return _empty(table) if first is None else first.batch


def _empty(table: Source) -> Any:
    arrays = [pa.nulls(0, item.type) for item in table.schema]
    return pa.RecordBatch.from_arrays(arrays, list(table.schema.names))


def _with_new_columns(batch: Any, deriver: Deriver) -> Any:
    arrays, _ = deriver.apply(batch)
    names = [*batch.schema.names, *(item.name for item in deriver.fields)]
    return pa.RecordBatch.from_arrays([*batch.columns, *arrays], names)


def _with_fields_inside(batch: Any, paths: Paths) -> Any:
    columns = paths.apply(dict(zip(batch.schema.names, batch.columns, strict=True)))
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


def _counter(
    table: Source, deriver: Deriver | None, paths: Paths
) -> Callable[[str], dict[str, int] | None]:
    """A function that counts the values of a column, once for each column."""
    cache: dict[str, dict[str, int] | None] = {}

    def values_of(column: str) -> dict[str, int] | None:
        if column not in cache:
            cache[column] = _values(table, column, deriver, paths)
        return cache[column]

    return values_of


def _values(
    table: Source, name: str, deriver: Deriver | None, paths: Paths
) -> dict[str, int] | None:
    """The values of a column or path with their counts; None if there are too many."""
    column = paths.column_of(name)
    new = [item.name for item in deriver.fields] if deriver is not None else []
    is_new = column in new
    counts: dict[str, int] = {}
    only = Paths({name: paths.paths[name]} if name in paths.paths else {})
    for chunk in table.chunks(list(deriver.reads) if deriver and is_new else [column]):
        array = chunk.batch.column(0) if not is_new else None
        if deriver is not None and is_new:
            array = deriver.apply(chunk.batch)[0][new.index(column)]
        array = decode(only.apply({column: array})[name])
        if not (can_be_text(array.type) or pa.types.is_boolean(array.type)):
            return None
        text, _ = as_text(array)
        for item in pc.value_counts(text.drop_null()).to_pylist():
            value: Any = item["values"]
            counts[value] = counts.get(value, 0) + item["counts"]
        if len(counts) > MANY_VALUES:
            return None
    return counts

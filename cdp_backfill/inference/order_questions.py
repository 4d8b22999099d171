"""Decides over all cells of the time column in which order its dates are, or asks."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from cdp_backfill.inference.date_orders import NAMES, DateOrders
from cdp_backfill.inference.proposal import Assumption, Choice, Question
from cdp_backfill.inference.samples import ignore
from cdp_backfill.messages.deriving import Deriver
from cdp_backfill.messages.paths import paths_of
from cdp_backfill.messages.text import as_text, as_utf8, clean_text, decode
from cdp_backfill.model import api_facts
from cdp_backfill.model.arrow_types import is_json, is_text
from cdp_backfill.model.plurals import count

if TYPE_CHECKING:
    from collections.abc import Generator

    from cdp_backfill.inference.proposal import Proposal
    from cdp_backfill.model.mapping import DateOrder, Mapping
    from cdp_backfill.sources import Source

_FIELD: Final = "date_order"


def with_date_order(
    table: Source, proposal: Proposal, now: datetime | None = None, sample: Any = None
) -> Proposal:
    """A proposal with the order of its dates, if all cells of the time column allow one only.

    Where they allow several, or contradict each other, the proposal has a question. A table that
    can be read only once is not read; neither is one whose first rows have no such dates.

    Args:
        table: The table.
        proposal: The proposal.
        now: The current time; None reads the clock.
        sample: Record batch of the first rows, new columns included, if they were read already.
    """
    mapping = proposal.mapping
    name = mapping.timestamp
    if mapping.date_order or mapping.timestamp_unit or not isinstance(name, str):
        return proposal
    if not table.replayable:
        return proposal
    latest = (now or datetime.now(UTC)) + timedelta(hours=api_facts.FUTURE_HOURS)
    earliest = datetime.fromisoformat(mapping.earliest).replace(tzinfo=UTC)
    orders = DateOrders(_millis(earliest), _millis(latest))
    if sample is not None and name in sample.schema.names:
        first = _as_dates(decode(sample.column(name)))
        if first is not None:
            orders.add(first)
        if not orders.dates:
            return proposal
        orders = DateOrders(orders.earliest, orders.latest)
    with closing(_texts(table, mapping, name)) as texts:
        for number, text in enumerate(texts):
            orders.add(text)
            if number == 0 and not orders.dates:
                return proposal
    possible = orders.possible
    if not orders.dates:
        return proposal
    if len(possible) != 1:
        question = _question(name, orders)
        return replace(proposal, questions=(*proposal.questions, question))
    (order,) = possible
    others = [each for each in orders.fits if each != order and orders.fits[each]]
    why = "the only order that they all allow"
    if not orders.is_certain:
        why = "since in another order many would be in the future, or before there were apps"
    return replace(
        proposal,
        mapping=replace(mapping, date_order=order),
        choices=(*proposal.choices, Choice(_FIELD, repr(order), 1.0, f"dates in {name!r}: {why}")),
        assumptions=(
            *proposal.assumptions,
            Assumption(
                _FIELD,
                f"{count(orders.dates, 'date')} in {name!r} {'is' if orders.dates == 1 else 'are'} "
                f"read with {NAMES[order]} ({order}), {why}.",
                " or ".join(f"date_order={each!r}" for each in others or _others(order)),
            ),
        ),
    )


def _others(order: DateOrder) -> list[DateOrder]:
    return [each for each in ("DMY", "MDY") if each != order]


def _question(name: str, orders: DateOrders) -> Question:
    if orders.contradict:
        found = [each for each in orders.fits if orders.fits[each]]
        counts = ", ".join(f"{orders.fits[each]:,} with {NAMES[each]} ({each})" for each in found)
        text = (
            f"No order of day, month and year fits all {orders.dates:,} dates in {name!r}: "
            f"{counts}. Rows whose date does not fit the order that you pass are invalid."
        )
    else:
        found = orders.possible
        firsts = " or ".join(NAMES[each] for each in found).replace(" first or", " or")
        text = f"No date in {name!r} tells whether it has {firsts}."
    answers = tuple(f"date_order={each!r}" for each in found)
    return Question(_FIELD, (name,), text, needed=True, answers=answers, example=orders.readings())


def _texts(table: Source, mapping: Mapping, name: str) -> Generator[Any]:
    """The cells of a column of text, new columns and paths included; nothing for other types."""
    deriver = Deriver(mapping.derive, table.schema) if mapping.derive else None
    new = [item.name for item in deriver.fields] if deriver is not None else []
    schema = table.schema
    for item in deriver.fields if deriver is not None else ():
        schema = schema.append(item)
    paths = paths_of(mapping, schema)
    column = paths.column_of(name)
    is_new = column in new
    if not is_new and column not in table.schema.names:
        return  # binding the mapping reports it
    if not is_new and not _may_be_text(table.schema.field(column).type):
        return
    columns = list(deriver.reads) if deriver is not None and is_new else [column]
    for chunk in table.chunks(columns):
        if deriver is not None and is_new:
            array = deriver.apply(chunk.batch)[0][new.index(column)]
        else:
            array = chunk.batch.column(0)
        array = decode(paths.apply({column: array})[name])
        text = _as_dates(array)
        if text is None:
            return
        yield text


def _may_be_text(kind: Any) -> bool:
    """Whether a column holds text, or has parts that may be text."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _may_be_text(kind.value_type)
    return (
        is_text(kind) or is_json(kind) or pa.types.is_nested(kind) or pa.types.is_string_view(kind)
    )


def _as_dates(array: Any) -> Any | None:
    """Cells as text without white space around it; None if they are neither text nor JSON."""
    if is_json(array.type):
        array, _ = as_text(array)
    return clean_text(as_utf8(array)[0], ignore) if is_text(array.type) else None


def _millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)

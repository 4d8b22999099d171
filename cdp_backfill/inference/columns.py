"""Proposes a mapping from the names, the types and some cells of the columns of a table."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.inference.draft import Draft
from cdp_backfill.inference.event_columns import ask_event, choose_event, translate
from cdp_backfill.inference.event_times import assume_forms, choose_time
from cdp_backfill.inference.paths import (
    choose_expanded,
    choose_message_id,
    choose_paths,
    personal_columns,
)
from cdp_backfill.inference.people import choose_people
from cdp_backfill.inference.proposal import Choice, Proposal
from cdp_backfill.inference.samples import Sample
from cdp_backfill.model.arrow_types import is_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cdp_backfill.model.mapping import Mapping

NEEDED: Final = ("user_id", "anonymous_id", "event", "timestamp")
"""Fields of which every message needs some."""

_NULL_TEXTS: Final = ("NULL", "null", "None", "N/A", "(not set)", "<NA>", "nan", "NaN")


class Inference:
    """Proposes a mapping for a table.

    Args:
        sample: Record batch of the first rows, with all columns, new ones included.
        values: Returns the values of a column in the whole table with their counts, or None if
            there are too many.
        now: The current time; events lie before it. None reads the clock.
        feeds: Columns that the expressions of new columns read; they are for nothing else.
    """

    def __init__(
        self,
        sample: Any,
        values: Callable[[str], dict[str, int] | None],
        now: datetime | None = None,
        feeds: Collection[str] = (),
    ) -> None:
        self._batch, self._values, self._feeds = sample, values, feeds
        self._now = now or datetime.now(UTC)

    def propose(self, given: Mapping, passed: Collection[str] = ()) -> Proposal:
        """Fill in the fields that a mapping leaves out.

        Args:
            given: The mapping of the caller; its fields stay as they are.
            passed: Fields that the caller passed, even if they are at their default.
        """
        sample = Sample(self._batch, tuple(given.nulls))
        found, choices = null_texts(sample)  # what the caller names is empty there
        if found:
            found = (*given.nulls, *found)
            sample = Sample(self._batch, found)
        draft = Draft(sample, given, self._values, self._now)
        draft.used = {*given.sources(), *given.drop, *self._feeds}
        if choices:
            draft.fields["nulls"] = found
            draft.choices += choices
        decided = "other_events" in passed
        choose_event(draft, others_are_decided=decided)
        choose_people(draft)
        if not draft.are_sums:
            choose_time(draft)
            ask_event(draft)
        translate(draft, others_are_decided=decided)
        choose_message_id(draft)
        choose_paths(draft)
        choose_expanded(draft)
        passed_time = sample.get(given.timestamp)
        if passed_time is not None:
            assume_forms(draft, passed_time)
        return _finished(draft, {*self._feeds, *draft.feeds})


def _finished(draft: Draft, feeds: Collection[str]) -> Proposal:
    """The proposal of a draft, without the personal data that nobody named."""
    proposed = {name: value for name, value in draft.fields.items() if value not in (None, {}, ())}
    mapping = replace(draft.given, **proposed)
    order = {name: place for place, name in enumerate(NEEDED)}
    draft.questions.sort(key=lambda question: order.get(question.field, len(order)))
    proposal = Proposal(
        mapping,
        tuple(draft.choices),
        tuple(draft.questions),
        assumptions=tuple(draft.assumptions),
    )
    return without_personal_data(proposal, draft.sample, feeds)


def without_personal_data(
    proposal: Proposal, sample: Sample, feeds: Collection[str] = ()
) -> Proposal:
    """A proposal that leaves out the personal data that nobody named, and lists it.

    Args:
        proposal: The proposal.
        sample: The first rows.
        feeds: Columns that the expressions of new columns read; they become no property.
    """
    mapping = proposal.mapping
    if mapping.rest != "properties":
        return proposal
    left_out = personal_columns(sample, [*mapping.columns(), *feeds])
    if not left_out:
        return proposal
    drop = (*mapping.drop, *(each.column for each in left_out))
    return replace(proposal, mapping=replace(mapping, drop=drop), left_out=left_out)


def null_texts(sample: Sample) -> tuple[tuple[str, ...], list[Choice]]:
    """Null words that occur in several columns of text, with the reasons."""
    words, choices = [], []
    texts = [column.array for column in sample if is_text(column.kind)]
    words_of_type = {array.type: pa.array(_NULL_TEXTS, array.type) for array in texts}
    held = [pc.is_in(array, value_set=words_of_type[array.type]) for array in texts]
    texts = [each for each, found in zip(texts, held, strict=True) if pc.any(found).as_py()]
    for word in _NULL_TEXTS:
        columns = sum(bool(pc.any(pc.equal(array, word)).as_py()) for array in texts)
        if columns > 1:
            words.append(word)
            choices.append(
                Choice("nulls", repr(word), 1.0, f"it occurs in {columns} columns of text")
            )
    return tuple(words), choices

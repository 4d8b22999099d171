"""Turns the rows of one batch into columns of message fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cdp_backfill.messages.batches import MessageBatch
from cdp_backfill.messages.epochs import FAR
from cdp_backfill.messages.event_names import commands, read_events, why_skipped
from cdp_backfill.messages.field_builder import FieldBuilder
from cdp_backfill.messages.json_cells import MAX_CELLS
from cdp_backfill.messages.leaving_out import left_out
from cdp_backfill.messages.recency import may_be_recent, old_texts
from cdp_backfill.messages.text import decode, json_as_text
from cdp_backfill.messages.times import format_times
from cdp_backfill.messages.unreadable import report_unreadable, unreadable_reasons
from cdp_backfill.model import api_facts
from cdp_backfill.model.arrow_types import is_text
from cdp_backfill.model.outcomes import Problem

if TYPE_CHECKING:
    from cdp_backfill.messages.binding import Binding
    from cdp_backfill.model.arrays import Mask, Rows


def build(
    binding: Binding,
    batch: Any,
    *,
    latest: int = FAR,
    who_what_when: bool = False,
    without: dict[str, Mask] | None = None,
    max_cells: int | None = MAX_CELLS,
) -> MessageBatch:
    """Turn rows into message fields.

    Args:
        binding: The mapping, bound to the schema of the batch.
        batch: Arrow record batch that has at least the columns of the binding.
        latest: Later times lie in the future; milliseconds since 1970 UTC.
        who_what_when: Leave out properties, traits, context and integrations.
        without: Cells to leave empty, by column.
        max_cells: Most cells that the arrays of JSON names may have; None for no limit.

    Raises:
        TooWideError: They would have more; fewer rows at a time have fewer.
    """
    columns, problems = _columns(binding, batch, who_what_when=who_what_when)
    for name, mask in (without or {}).items():
        # Not if_else, which does not know JSON.
        columns[name] = decode(columns[name]).take(pa.array(np.arange(len(mask)), mask=mask))
    rows = _ChosenRows(binding, batch, columns, problems)
    make = _identities if binding.mapping.call == "identify" else _events
    return make(
        binding,
        rows,
        latest=latest,
        who_what_when=who_what_when,
        max_cells=max_cells,
    )


class _ChosenRows:
    """The rows of a batch that are left, the columns of these, and why the others are not.

    Args:
        binding: The mapping, bound to the schema of the batch.
        batch: Arrow record batch.
        columns: The columns that the mapping reads, by name.
        problems: Where columns could not be derived.
    """

    def __init__(
        self,
        binding: Binding,
        batch: Any,
        columns: dict[str, Any],
        problems: dict[Problem, Mask],
    ) -> None:
        self.all_columns = self.columns = columns
        self.problems = problems
        self.numbers = np.arange(batch.num_rows)
        self.skipped: dict[Problem, Rows] = {}
        self.reasons, self.unreadable = unreadable_reasons(columns, batch.num_rows)
        left = left_out(binding, batch, columns, self.unreadable)
        if left is not None:
            self.problems = self.problems | left.problems
            self.skip(left.skipped)

    def __len__(self) -> int:
        return len(self.numbers)

    def skip(self, reasons: dict[Problem, Mask]) -> None:
        """Leave out the rows at which a mask is true.

        Args:
            reasons: The masks, by reason; no row has two.
        """
        keep = np.ones(len(self), dtype=bool)
        for reason, mask in reasons.items():
            if mask.any():
                self.skipped[reason] = self.numbers[mask]
                keep &= ~mask
        if keep.all():
            return
        selection = pa.array(keep)
        self.reasons, self.unreadable = self.reasons.filter(selection), self.unreadable[keep]
        self.numbers = self.numbers[keep]
        self.columns = {name: array.filter(selection) for name, array in self.columns.items()}
        self.problems = {problem: mask[keep] for problem, mask in self.problems.items()}


def _events(
    binding: Binding,
    rows: _ChosenRows,
    *,
    latest: int,
    who_what_when: bool,
    max_cells: int | None,
) -> MessageBatch:
    """The fields of track messages."""
    events = read_events(binding.mapping, rows.columns, len(rows))
    names = events.names
    rows.problems = rows.problems | events.problems
    skipped = events.skipped & ~rows.unreadable
    if skipped.any():
        names = names.filter(pa.array(~skipped))
        rows.skip({why_skipped(binding.mapping): skipped})
    builder = FieldBuilder(binding, rows.columns, len(rows), latest, max_cells)
    for problem, mask in rows.problems.items():
        builder.problems.add(mask, problem)
    for problem, mask in commands(binding.mapping, names):
        builder.problems.add(mask, problem)
    if events.trimmed:
        builder.problems.record_fix("trimmed", str(binding.mapping.event), events.trimmed)
    fields: dict[str, Any | None] = dict(builder.identity())
    fields["event"] = names
    times = builder.times()
    fields["timestamp"] = format_times(times.millis)
    message_id = None
    if not who_what_when:
        fields["properties"] = builder.properties()
        fields["context"] = builder.tree(binding.context)
        fields["integrations"] = builder.tree(binding.integrations)
        message_id = builder.message_id()
    report_unreadable(builder.problems, rows.reasons, rows.unreadable)
    return MessageBatch(
        rows=rows.numbers,
        fields=_in_order(fields, api_facts.MESSAGE_FIELDS),
        event_names=names,
        message_id=message_id,
        millis=times.millis,
        naive=int(np.count_nonzero(times.naive)),
        problems=builder.problems,
        skipped=rows.skipped,
        event_keys=events.keys,
        unknown_events=events.unknown,
        _columns=rows.all_columns,
    )


def _identities(
    binding: Binding,
    rows: _ChosenRows,
    *,
    latest: int,
    who_what_when: bool,
    max_cells: int | None,
) -> MessageBatch:
    """The fields of identify messages, which happen when they are sent and have no time."""
    builder = FieldBuilder(binding, rows.columns, len(rows), latest, max_cells)
    for problem, mask in rows.problems.items():
        builder.problems.add(mask, problem)
    fields: dict[str, Any | None] = dict(builder.both_ids())
    message_id = None
    if not who_what_when:
        fields["traits"] = builder.tree(binding.traits)
        fields["integrations"] = builder.tree(binding.integrations)
        message_id = builder.message_id()
    report_unreadable(builder.problems, rows.reasons, rows.unreadable)
    return MessageBatch(
        rows=rows.numbers,
        fields=_in_order(fields, api_facts.IDENTIFY_FIELDS),
        event_names=None,
        message_id=message_id,
        millis=np.zeros(len(rows), dtype=np.int64),
        problems=builder.problems,
        skipped=rows.skipped,
        _columns=rows.all_columns,
    )


def _in_order(fields: dict[str, Any | None], names: tuple[str, ...]) -> dict[str, Any]:
    """The fields that there are, in this order."""
    return {name: array for name in names if (array := fields.get(name)) is not None}


def any_recent(binding: Binding, batch: Any, *, recent: int, latest: int) -> bool:
    """Whether a batch that has the time column holds a recent time.

    Args:
        binding: The mapping, bound to the schema; it derives no times.
        batch: Arrow record batch.
        recent: Times from here on are recent; milliseconds since 1970 UTC.
        latest: Later times lie in the future; milliseconds since 1970 UTC.
    """
    column = str(binding.mapping.timestamp)
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    array = json_as_text(decode(binding.paths.apply(columns, only_paths=True)[column]))
    if not may_be_recent(array, unit=binding.mapping.timestamp_unit, recent=recent, latest=latest):
        return False
    if is_text(array.type):
        array = array.filter(pa.array(~old_texts(array, recent)))
    times = FieldBuilder(binding, {column: array}, len(array), latest, None).times()
    return bool(((times.millis >= recent) & (times.millis <= latest)).any())


def _columns(
    binding: Binding, batch: Any, *, who_what_when: bool
) -> tuple[dict[str, Any], dict[Problem, Mask]]:
    """The columns that the mapping reads, derived ones included; and where these failed."""
    deriver = binding.guard_deriver if who_what_when else binding.deriver
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    if deriver is None:
        return binding.paths.apply(columns, only_paths=who_what_when), {}
    arrays, failed = deriver.apply(batch)
    derived = {field.name: array for field, array in zip(deriver.fields, arrays, strict=True)}
    problems = {
        Problem("derive_failed", name, f"the expression in derive[{name!r}] fails"): mask
        for name, mask in failed.items()
        if who_what_when or name in binding.needed  # a column in no message troubles no row
    }
    return binding.paths.apply(columns | derived, only_paths=who_what_when), problems

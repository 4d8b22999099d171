"""The rows of one batch as columns of message fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill import spec
from cdp_backfill.mapping import Lit
from cdp_backfill.messages.problems import Problems
from cdp_backfill.messages.text import as_boolean, as_text, decoded
from cdp_backfill.messages.times import format_times, read_times
from cdp_backfill.messages.values import ValueReader, bad_text, nonexistent_time, not_finite, struct
from cdp_backfill.outcomes import Problem

if TYPE_CHECKING:
    import numpy.typing as npt

    from cdp_backfill.messages.binding import Binding, Branch, Leaf

    Mask = npt.NDArray[np.bool_]
    Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class MessageBatch:
    """Message fields of the rows of a batch that the mapping does not leave out.

    Attributes:
        rows: Position in the batch of each row here; what is not here is skipped.
        fields: Arrays by field name, in the order of :data:`cdp_backfill.spec.MESSAGE_FIELDS`.
        message_id: Ids that a column gives, or None.
        millis: Time of each row, milliseconds since 1970 UTC.
        naive: Number of times that carried no zone.
        problems: What is wrong, by position here.
        event_keys: Keys of the mapping's ``events`` that occur.
    """

    rows: Rows
    fields: dict[str, Any]
    message_id: Any | None
    millis: Rows
    naive: int
    problems: Problems
    event_keys: frozenset[str]

    def people(self, mask: Mask) -> Any:
        """Who the rows at which ``mask`` is true are about: user ids, or else anonymous ids."""
        names = [name for name in ("userId", "anonymousId") if name in self.fields]
        return pc.coalesce(*(self.fields[name] for name in names)).filter(pa.array(mask))


def build(binding: Binding, batch: Any, *, who_what_when: bool = False) -> MessageBatch:
    """Turn rows into message fields.

    Args:
        binding: The mapping, held against the schema of the batch.
        batch: Arrow record batch that has at least the columns of the binding.
        who_what_when: Leave out properties, context and integrations, which is enough to tell
            who is touched and when.
    """
    rows = np.arange(batch.num_rows)
    names, wrong, skipped, keys = _events(binding, batch)
    if skipped.any():
        kept = ~skipped
        rows = rows[kept]
        batch = batch.filter(pa.array(kept))
        names = names.filter(pa.array(kept))
        wrong = {problem: mask[kept] for problem, mask in wrong.items()}
    builder = _Builder(binding, batch)
    for problem, mask in wrong.items():
        builder.problems.add(mask, problem)
    fields: dict[str, Any | None] = dict(builder.identity())
    fields["event"] = names
    times = builder.times()
    fields["timestamp"] = format_times(times.millis)
    message_id = None
    if not who_what_when:
        fields["properties"] = builder.tree(binding.properties)
        fields["context"] = builder.tree(binding.context)
        fields["integrations"] = builder.tree(binding.integrations)
        message_id = builder.message_id()
    return MessageBatch(
        rows=rows,
        fields={
            name: array for name in spec.MESSAGE_FIELDS if (array := fields.get(name)) is not None
        },
        message_id=message_id,
        millis=times.millis,
        naive=int(np.count_nonzero(times.naive)),
        problems=builder.problems,
        event_keys=keys,
    )


def _events(binding: Binding, batch: Any) -> tuple[Any, dict[Problem, Mask], Mask, frozenset[str]]:
    """Event names; what is wrong with them; which rows are left out; which keys occur."""
    mapping, size = binding.mapping, batch.num_rows
    none = np.zeros(size, dtype=bool)
    if isinstance(mapping.event, Lit):
        return pa.repeat(mapping.event.value, size), {}, none, frozenset()
    column = str(mapping.event)
    text, bad = as_text(decoded(batch.column(column)))
    text = text.cast(pa.string())
    known = dict(mapping.events)
    for name in spec.EVENTS:
        known.setdefault(name, name)
    found = pc.index_in(text, value_set=pa.array(list(known), pa.string()))
    names = pa.array(list(known.values()), pa.string()).take(found)
    keys = frozenset(pa.array(list(known)).take(pc.unique(found.drop_null())).to_pylist())
    # A value that the mapping names is known, even if it is blank.
    unknown = names.is_null().to_numpy(zero_copy_only=False)
    missing = unknown & ~bad & _blank(text)
    unknown &= ~bad & ~missing
    wrong = {
        bad_text(column): bad,
        Problem("missing_event", column, f"column {column!r} is empty"): missing,
    }
    if mapping.other_events == "skip":
        return names, wrong, unknown, keys
    if mapping.other_events == "send":
        return pc.coalesce(names, text), wrong, none, keys
    wrong[
        Problem(
            "unknown_event",
            column,
            f"column {column!r} holds a name that is neither in events={{...}} nor one of the "
            "seven mobile-app events",
        )
    ] = unknown
    return names, wrong, none, keys


class _Builder:
    def __init__(self, binding: Binding, batch: Any) -> None:
        self._mapping = binding.mapping
        self._batch = batch
        self.problems = Problems(batch.num_rows)
        self._values = ValueReader(self.problems, binding.mapping.timezone)

    def _array(self, source: str | Lit) -> Any:
        if isinstance(source, Lit):
            first = pa.array(np.zeros(self._batch.num_rows, dtype=np.int64))
            return pa.array([source.value]).take(first)
        return decoded(self._batch.column(source))

    def identity(self) -> dict[str, Any]:
        """``userId`` and ``anonymousId``; one of them must be there."""
        result, lacking, columns = {}, np.ones(self._batch.num_rows, dtype=bool), []
        for field, source in (
            ("userId", self._mapping.user_id),
            ("anonymousId", self._mapping.anonymous_id),
        ):
            if source is not None:
                column = _shown(source)
                ids = self._identifier(source, "bad_user", field)
                result[field] = ids
                lacking &= ids.is_null().to_numpy(zero_copy_only=False)
                columns.append(column)
        lacking &= ~self.problems.mask_of("bad_user")
        reason = f"column {columns[0]!r} is empty"
        if len(columns) > 1:
            reason = f"columns {columns[0]!r} and {columns[1]!r} are both empty"
        self.problems.add(lacking, Problem("missing_user", columns[0], reason))
        return result

    def message_id(self) -> Any | None:
        """Ids that a column gives."""
        source = self._mapping.message_id
        return source and self._identifier(source, "bad_message_id", "messageId")

    def _identifier(self, source: str | Lit, code: str, field: str) -> Any:
        text, bad = as_text(self._array(source))
        text = text.cast(pa.string())
        self.problems.add(
            bad,
            Problem(
                code,
                _shown(source),
                f"column {_shown(source)!r} holds something that cannot be a {field}: "
                "a fraction, a whole number beyond 2^53 kept as a float, or text that is "
                "not UTF-8",
            ),
        )
        return pc.if_else(pa.array(_blank(text)), None, text)

    def times(self) -> Any:
        """When it happened; a row without a good time has a problem."""
        source = self._mapping.timestamp or ""
        column = _shown(source)
        times = read_times(
            self._array(source),
            unit=self._mapping.timestamp_unit,
            timezone=self._mapping.timezone,
        )
        self.problems.add(
            times.missing, Problem("missing_time", column, f"column {column!r} is empty")
        )
        self.problems.add(
            times.bad,
            Problem(
                "bad_time", column, f"column {column!r} holds something that is not a usable time"
            ),
        )
        self.problems.add(times.nonexistent, nonexistent_time(column))
        return times

    def tree(self, branch: Branch) -> Any | None:
        """A struct of the fields below, or None where there are none."""
        children = {}
        for name, value in branch.items():
            array = self.tree(value) if isinstance(value, dict) else self._leaf(value)
            if array is not None:
                children[name] = array
        return struct(children)

    def _leaf(self, leaf: Leaf) -> Any | None:
        array, column = self._array(leaf.source), _shown(leaf.source)
        if leaf.kind == "any":
            return self._values.read(array, column)
        if leaf.kind == "boolean":
            array, bad = as_boolean(array)
            reason = f"column {column!r} holds something that is neither true nor false"
            self.problems.add(bad, Problem("bad_boolean", column, reason))
            return array
        number = pa.types.is_floating(array.type)
        array, bad = as_text(array, floats="version" if leaf.kind == "version" else "number")
        self.problems.add(bad, not_finite(column) if number else bad_text(column))
        if leaf.kind == "device_type":
            array = pc.utf8_lower(pc.utf8_trim_whitespace(array))
            array = pc.if_else(pc.equal(array, ""), None, array)
            known = pc.is_in(array, value_set=pa.array(spec.DEVICE_TYPES).cast(array.type))
            odd = pc.and_(pc.is_valid(array), pc.invert(known)).to_numpy(zero_copy_only=False)
            reason = f"column {column!r} holds neither android nor ios"
            self.problems.add(odd, Problem("bad_device_type", column, reason))
        return array


def _shown(source: str | Lit) -> str:
    return source if isinstance(source, str) else "lit()"


def _blank(text: Any) -> Mask:
    """Null, or white space only."""
    blank = pc.equal(pc.utf8_trim_whitespace(text), "")
    return np.asarray(blank.fill_null(True).to_numpy(zero_copy_only=False))

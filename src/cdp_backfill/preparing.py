"""One chunk of rows on its way: checked, encoded, ready to be packed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cdp_backfill import spec
from cdp_backfill.encoding import ContextScope, Encoded, encode, lengths
from cdp_backfill.mapping import Lit
from cdp_backfill.messages import Binding, MessageBatch, build
from cdp_backfill.outcomes import Problem

if TYPE_CHECKING:
    import numpy.typing as npt

    from cdp_backfill.sources import Chunk

    Mask = npt.NDArray[np.bool_]
    Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Prepared:
    """The rows of a chunk, told apart.

    Attributes:
        messages: Their message fields, and what is wrong with them.
        skipped: Rows of the chunk that the mapping leaves out.
        recent: Among the messages, those that are young and have no problem.
        held: Those of them that are not to be sent.
        encoded: The messages to send, each with its rows in the chunk.
    """

    messages: MessageBatch
    skipped: Rows
    recent: Mask
    held: Mask
    encoded: list[tuple[Encoded, Rows]]


def prepare(
    binding: Binding,
    chunk: Chunk,
    *,
    cutoff: int,
    hold: bool,
    context_scope: ContextScope,
) -> Prepared:
    """Check and encode the rows of a chunk.

    Args:
        binding: The mapping.
        chunk: The rows.
        cutoff: Rows from this time on are recent; milliseconds since 1970 UTC.
        hold: Leave recent rows out.
        context_scope: See :func:`cdp_backfill.encoding.encode`.
    """
    messages = build(binding, chunk.batch)
    encoded, chosen = _encoded(messages, cutoff if hold else None, context_scope)
    if any((part.sizes > spec.MAX_MESSAGE_BYTES).any() for part in encoded):
        over = np.zeros(len(messages.rows), dtype=bool)
        for part in encoded:
            over[chosen[part.rows[part.sizes > spec.MAX_MESSAGE_BYTES]]] = True
        _blame(binding, messages, over)
        encoded, chosen = _encoded(messages, cutoff if hold else None, context_scope)
    skipped = np.ones(chunk.batch.num_rows, dtype=bool)
    skipped[messages.rows] = False
    recent = (messages.millis >= cutoff) & ~messages.problems.mask()
    return Prepared(
        messages=messages,
        skipped=np.flatnonzero(skipped),
        recent=recent,
        held=recent if hold else np.zeros(len(recent), dtype=bool),
        encoded=[(part, messages.rows[chosen[part.rows]]) for part in encoded],
    )


def _encoded(
    messages: MessageBatch, cutoff: int | None, context_scope: ContextScope
) -> tuple[list[Encoded], Rows]:
    """What can be sent as JSON; and the position of each message given to the encoder."""
    good = ~messages.problems.mask()
    if cutoff is not None:
        good &= messages.millis < cutoff
    chosen = np.flatnonzero(good)
    fields, ids = messages.fields, messages.message_id
    if len(chosen) < len(good):
        positions = pa.array(chosen)
        fields = {name: array.take(positions) for name, array in fields.items()}
        ids = None if ids is None else ids.take(positions)
    return list(encode(fields, message_id=ids, context_scope=context_scope)), chosen


def _blame(binding: Binding, messages: MessageBatch, over: Mask) -> None:
    """Note for each oversize message which column makes most of it."""
    positions = pa.array(np.flatnonzero(over))
    sizes: dict[str, Any] = {}
    for path, source in binding.leaves():
        if (array := _at(messages.fields, path)) is not None:
            shown = "lit()" if isinstance(source, Lit) else source
            sizes[shown] = lengths(array.take(positions))
    names = list(sizes)
    largest = np.argmax(np.stack(list(sizes.values())), axis=0)
    for number in np.unique(largest):
        mask = np.zeros(len(over), dtype=bool)
        mask[np.flatnonzero(over)[largest == number]] = True
        reason = (
            f"the message is larger than {spec.MAX_MESSAGE_BYTES:,} bytes, "
            f"most of it from column {names[number]!r}"
        )
        messages.problems.add(mask, Problem("oversize", names[number], reason))


def _at(fields: dict[str, Any], path: tuple[str, ...]) -> Any | None:
    """The array at a path, or None where nothing is written there in any row."""
    array = fields.get(path[0])
    for name in path[1:]:
        if array is None or name not in array.type.names:
            return None
        array = array.field(name)
    return array

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
    from collections.abc import Callable

    import numpy.typing as npt

    from cdp_backfill.sources import Chunk

    Mask = npt.NDArray[np.bool_]
    Rows = npt.NDArray[np.int64]
    Digests = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Prepared:
    """The rows of a chunk, told apart.

    Attributes:
        messages: Their message fields, and what is wrong with them.
        skipped: Rows of the chunk that the mapping leaves out.
        recent: Among the messages, those that are young and have no problem.
        held: Those of them that are not to be sent.
        known: Rows of the chunk that were delivered before.
        encoded: The messages to send, each with its rows in the chunk.
    """

    messages: MessageBatch
    skipped: Rows
    recent: Mask
    held: Mask
    known: Rows
    encoded: list[tuple[Encoded, Rows]]


def prepare(
    binding: Binding,
    chunk: Chunk,
    *,
    cutoff: int,
    hold: bool,
    context_scope: ContextScope,
    knows: Callable[[Digests], Mask] | None = None,
) -> Prepared:
    """Check and encode the rows of a chunk.

    Args:
        binding: The mapping.
        chunk: The rows.
        cutoff: Rows from this time on are recent; milliseconds since 1970 UTC.
        hold: Leave recent rows out.
        context_scope: See :func:`cdp_backfill.encoding.encode`.
        knows: Tells which messages were delivered before, or None.
    """
    messages = build(binding, chunk.batch)
    good = ~messages.problems.mask()
    recent = (messages.millis >= cutoff) & good
    held = recent if hold else np.zeros(len(recent), dtype=bool)
    good &= ~held

    def encoded_now() -> tuple[list[Encoded], Rows]:
        return _encoded(messages, good, context_scope, with_digests=knows is not None)

    encoded, chosen = encoded_now()
    if any((part.sizes > spec.MAX_MESSAGE_BYTES).any() for part in encoded):
        over = np.zeros(len(messages.rows), dtype=bool)
        for part in encoded:
            over[chosen[part.rows[part.sizes > spec.MAX_MESSAGE_BYTES]]] = True
        _blame(binding, messages, over)
        good &= ~over
        encoded, chosen = encoded_now()
    known = np.zeros(len(messages.rows), dtype=bool)
    if knows is not None:
        for part in encoded:
            known[chosen[part.rows[knows(part.digests)]]] = True
        if known.any():
            good &= ~known
            encoded, chosen = encoded_now()
    skipped = np.ones(chunk.batch.num_rows, dtype=bool)
    skipped[messages.rows] = False
    # What was delivered before cannot message anybody again.
    recent = recent & ~messages.problems.mask() & ~known
    return Prepared(
        messages=messages,
        skipped=np.flatnonzero(skipped),
        recent=recent,
        held=held & ~messages.problems.mask(),
        known=messages.rows[known],
        encoded=[(part, messages.rows[chosen[part.rows]]) for part in encoded],
    )


def _encoded(
    messages: MessageBatch, good: Mask, context_scope: ContextScope, *, with_digests: bool
) -> tuple[list[Encoded], Rows]:
    """Messages as JSON; and the position of each one given to the encoder."""
    chosen = np.flatnonzero(good)
    fields, ids = messages.fields, messages.message_id
    if len(chosen) < len(good):
        positions = pa.array(chosen)
        fields = {name: array.take(positions) for name, array in fields.items()}
        ids = None if ids is None else ids.take(positions)
    encoded = encode(fields, message_id=ids, context_scope=context_scope, with_digests=with_digests)
    return list(encoded), chosen


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

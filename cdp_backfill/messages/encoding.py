"""Writes message fields as JSON, many messages in one buffer, with a stable id for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.messages.ids import ID_LENGTH, NO_DIGESTS, Ids, content_digests
from cdp_backfill.messages.lines import lengths, lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp_backfill.model.arrays import Digests, Mask, Millis, Offsets
    from cdp_backfill.model.mapping import Call

__all__ = ["ContextScope", "Encoded", "encode", "lengths"]

ContextScope = Literal["message", "batch"]

_SHARED: Final = "context"


@dataclass(frozen=True, eq=False)
class Encoded:
    """JSON messages one after another, each followed by a comma.

    Attributes:
        data: ``{...},{...},`` as UTF-8.
        offsets: Where each message begins, and where the comma of the last one ends.
        head: What requests with these messages hold at the top beside ``batch``, such as
            ``"context":{...},``, or nothing.
        rows: For each message, its position among the arguments of :func:`encode`.
        sizes: Bytes of each message alone, including what moved to ``head``.
        ids: The message ids.
    """

    data: memoryview
    offsets: Offsets
    head: bytes
    rows: Offsets
    sizes: Offsets
    ids: Ids

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def digests(self) -> Digests:
        """16 bytes for each message; see :class:`Ids`."""
        return self.ids.digests

    def message(self, number: int) -> bytes:
        """One message without its comma."""
        return bytes(self.data[self.offsets[number] : self.offsets[number + 1] - 1])

    def __reduce__(self) -> tuple[Any, ...]:  # a memoryview cannot be pickled
        parts = (bytes(self.data), self.offsets, self.head, self.rows, self.sizes, self.ids)
        return _unpickle, parts

    def select(self, keep: Mask) -> Encoded:
        """The messages at which ``keep`` is true."""
        buffers = [None, pa.py_buffer(self.offsets), pa.py_buffer(self.data)]
        texts = pa.Array.from_buffers(pa.large_binary(), len(self), buffers)
        data, offsets = _texts_of(texts.filter(pa.array(keep)))
        rows, sizes, ids = self.rows[keep], self.sizes[keep], self.ids.select(keep)
        return Encoded(data, offsets, self.head, rows, sizes, ids)


def _unpickle(data: bytes, *others: Any) -> Encoded:
    return Encoded(memoryview(data), *others)


def encode(
    fields: dict[str, Any],
    millis: Millis,
    *,
    call: Call = "track",
    message_id: Any | None = None,
    keep: Mask | None = None,
    context_scope: ContextScope = "message",
    with_digests: bool = False,
) -> Iterator[Encoded]:
    """Write messages as JSON.

    Args:
        fields: Arrow arrays by field name, of one length; each message has one that is not null.
        millis: Time of each message, for its id; milliseconds since 1970 UTC.
        call: The ``type`` of each message.
        message_id: Ids from a column; where they are null, ids are made from the content.
        keep: True for each message to write, or None for all.
        context_scope: ``"message"`` writes ``context`` into each message; ``"batch"`` moves it into
            ``head``, and gives one result for each different head.
        with_digests: Compute the digests even if all ids come from a column.

    Yields:
        One result, or with ``"batch"`` one for each distinct context; none without messages.
    """
    size = len(next(iter(fields.values())))
    keep = np.ones(size, dtype=bool) if keep is None else keep
    rows = np.flatnonzero(keep)
    if not len(rows):
        return
    id_column = message_id
    if id_column is not None and len(rows) < size:
        id_column = id_column.filter(pa.array(keep))
    lines, ends = lines_of(fields)
    digests = NO_DIGESTS
    if with_digests or id_column is None or id_column.null_count:
        digests = content_digests(fields, lines, ends, id_column, keep)
    ids = Ids(digests, millis[rows], id_column)
    start = f'{{"type":"{call}","messageId":"'.encode()
    if context_scope == "message" or _SHARED not in fields:
        data, offsets = _join(lines, ends, ids, keep, start)
        yield Encoded(data, offsets, b"", rows, np.diff(offsets) - len(","), ids)
        return
    # Bytes of each message alone; the join turns the brace of a line into a comma.
    sizes = np.diff(ends, prepend=0)[rows] + len(start) + _lengths(ids) + len('"') - len("\n")
    own = {name: array for name, array in fields.items() if name != _SHARED}
    for head, places in _groups(fields[_SHARED].take(pa.array(rows))):
        selection = pa.array(rows[places])
        lines, ends = lines_of({name: array.take(selection) for name, array in own.items()})
        part, every = ids.select(places), np.ones(len(places), dtype=bool)
        data, offsets = _join(lines, ends, part, every, start)
        yield Encoded(data, offsets, head, rows[places], sizes[places], part)


def _join(
    lines: Any, ends: Offsets, ids: Ids, keep: Mask, start: bytes
) -> tuple[memoryview, Offsets]:
    """Put type and id in front of each message and a comma behind it, whole columns at a time."""
    view = np.frombuffer(lines, np.uint8)
    starts = np.zeros(len(ends) + 1, dtype=np.int32)
    starts[1:] = ends
    # The opening brace goes before the id, and a comma follows the id.
    view[starts[:-1]] = view[ends - 1] = ord(",")
    rest = pa.Array.from_buffers(pa.binary(), len(ends), [None, pa.py_buffer(starts), lines])
    every = len(ids) == len(keep)
    names = ids.array() if ids.column is None else _escaped(ids.array())
    if not every:
        names = names.take(pa.array(np.cumsum(keep) - 1, mask=~keep))
    # Joining with null leaves a message out.
    joined = pc.binary_join_element_wise(start, names.cast(pa.binary()), b'"', rest, b"")
    data, offsets = _texts_of(joined)
    return data, offsets if every else np.append(offsets[:-1][keep], offsets[-1])


def _texts_of(texts: Any) -> tuple[memoryview, Offsets]:
    """The bytes of an array of texts, and where each begins."""
    width = np.int64 if pa.types.is_large_binary(texts.type) else np.int32
    offsets = np.frombuffer(texts.buffers()[1], width)[: len(texts) + 1].astype(np.int64)
    return memoryview(texts.buffers()[2] or b"")[: offsets[-1]], offsets


def _escaped(ids: Any) -> Any:
    """Ids as they stand between the quotes of a JSON string."""
    needs_escape = pc.any(pc.match_substring_regex(ids, r'["\\\x00-\x1f]')).as_py()
    if not needs_escape:
        return ids
    lines, ends = lines_of({"": ids})
    starts = np.concatenate([[0], ends[:-1]])
    text = lines.to_pybytes()
    before, after = len('{"":"'), len('"}\n')
    return pa.array(
        [text[a + before : b - after].decode() for a, b in zip(starts, ends, strict=True)]
    )


def _lengths(ids: Ids) -> Offsets:
    """Bytes of each id."""
    if ids.column is None:
        return np.full(len(ids), ID_LENGTH)
    lengths: Offsets = pc.binary_length(_escaped(ids.array())).to_numpy()
    return lengths


def _groups(context: Any) -> Iterator[tuple[bytes, Offsets]]:
    """Groups of rows that share a context, each with the top of its requests."""
    lines, ends = lines_of({_SHARED: context})
    texts = pa.Array.from_buffers(
        pa.binary(),
        len(ends),
        [None, pa.py_buffer(np.r_[0, ends].astype(np.int32)), lines],
    ).dictionary_encode()
    which = texts.indices.to_numpy()
    order = np.argsort(which, kind="stable")
    bounds = np.searchsorted(which[order], np.arange(len(texts.dictionary) + 1))
    for number, text in enumerate(texts.dictionary.to_pylist()):
        head = text[len(b"{") : -len(b"}\n")]
        yield head + b"," if head else b"", order[bounds[number] : bounds[number + 1]]

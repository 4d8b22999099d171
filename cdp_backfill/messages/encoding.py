r"""Writes message fields as JSON, many messages in one buffer, with a stable id for each.

A message id made here is ``cdp1-`` and 32 hexadecimal digits: the 128-bit XXH3 hash (seed 0) of
the message's canonical JSON. That is the message without ``type`` and ``messageId``, its fields in
the order of :data:`cdp_backfill.model.api_facts.MESSAGE_FIELDS`, names inside objects sorted,
nothing that is null, no white space, UTF-8 with only ``"``, the backslash and control characters
escaped (``\b \f \n \r \t``, else ``\u00xx``). Whole numbers are written as such whatever their
type; other floats as ``"f64:"`` and the signed decimal value of their 64 bits; other decimals, and
whole ones that are no signed 64-bit integers, as text without trailing zeros. Inside lists
and maps a whole number is ``"i:"`` and its digits. The ``1`` in ``cdp1`` is the number of this
recipe: another recipe gets another number.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress, islice
from typing import TYPE_CHECKING, Any, Final, Literal

import arro3.io
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from cdp_backfill.messages.values import canonical, needs_canonical
from cdp_backfill.model import api_facts
from cdp_backfill.model.distinct import key_digests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp_backfill.model.arrays import Digests, Mask, Offsets


ContextScope = Literal["message", "batch"]

ID_RECIPE: Final = "cdp1"
_SHARED: Final = ("context", "integrations")
_WIDTH: Final = 16  # bytes of a digest
_PART: Final = 512  # messages that are hashed at a time
NO_DIGESTS: Final[Digests] = np.zeros((0, _WIDTH), dtype=np.uint8)
_NEWLINE: Final = ord("\n")
_HEAD: Final = f'{{"type":"{api_facts.MESSAGE_TYPE}","messageId":'


@dataclass(frozen=True, slots=True, eq=False)
class Ids:
    """The ids of messages: from a column, or else made from their digests.

    Attributes:
        digests: 16 bytes for each message, which identify its content; empty if all ids come from a
            column and the caller needs no digests.
        column: Arrow array of ids from a column, null where a cell is empty; or None.
    """

    digests: Digests
    column: Any | None

    def array(self) -> Any:
        """The ids as an Arrow array of text."""
        if self.column is not None and not self.column.null_count:
            return self.column
        made = pc.binary_join_element_wise(f"{ID_RECIPE}-", _hexadecimal(self.digests), "")
        return made if self.column is None else pc.coalesce(self.column, made)

    def __len__(self) -> int:
        return len(self.digests) if self.column is None else len(self.column)

    def keys(self) -> Digests:
        """16 bytes for each id, the same for equal ids."""
        return self.digests if self.column is None else key_digests(self.array())

    def select(self, rows: Any) -> Ids:
        """The ids at some positions, or where a mask is true."""
        digests = self.digests[rows] if len(self.digests) else self.digests
        if self.column is None:
            return Ids(digests, None)
        return Ids(digests, self.column.take(pa.array(np.arange(len(self.column))[rows])))


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
    *,
    message_id: Any | None = None,
    keep: Mask | None = None,
    context_scope: ContextScope = "message",
    with_digests: bool = False,
) -> Iterator[Encoded]:
    """Write messages as JSON.

    Args:
        fields: Arrow arrays by field name, of one length; each message has one that is not null.
        message_id: Ids from a column; where they are null, ids are made from the content.
        keep: True for each message to write, or None for all.
        context_scope: ``"message"`` writes ``context`` and ``integrations`` into each message;
            ``"batch"`` moves them into ``head``, and gives one result for each different head.
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
    lines, ends = _lines(fields)
    digests = NO_DIGESTS
    if with_digests or id_column is None or id_column.null_count:
        digests = _digests(fields, lines, ends, id_column, keep)
    ids = Ids(digests, id_column)
    shared = {name: array for name, array in fields.items() if name in _SHARED}
    if context_scope == "message" or not shared:
        data, offsets = _join(lines, ends, ids, keep)
        yield Encoded(data, offsets, b"", rows, np.diff(offsets) - len(","), ids)
        return
    # Bytes of each message alone; the join turns the brace of a line into a comma.
    sizes = np.diff(ends, prepend=0)[rows] + len(_HEAD) + _quoted_lengths(ids) - len("\n")
    own = {name: array for name, array in fields.items() if name not in shared}
    selection = pa.array(rows)
    for head, places in _groups({name: array.take(selection) for name, array in shared.items()}):
        selection = pa.array(rows[places])
        lines, ends = _lines({name: array.take(selection) for name, array in own.items()})
        part, every = ids.select(places), np.ones(len(places), dtype=bool)
        data, offsets = _join(lines, ends, part, every)
        yield Encoded(data, offsets, head, rows[places], sizes[places], part)


def lengths(array: Any) -> Offsets:
    """Bytes of each value of an array as JSON, plus a constant."""
    return np.diff(_lines({"": array})[1], prepend=0)


def _lines(fields: dict[str, Any]) -> tuple[Any, Offsets]:
    """One JSON object on each line, without nulls; and the end of each line and its break."""
    # In Arrow's memory, here and below: such large and short-lived objects would fragment Python's,
    # and the process would keep growing.
    out = pa.BufferOutputStream()
    batch = pa.RecordBatch.from_arrays(list(fields.values()), list(fields))
    arro3.io.write_ndjson(batch, out)
    lines = out.getvalue()
    # A line break inside a value is escaped, so that each of these ends a row.
    return lines, np.flatnonzero(np.frombuffer(lines, np.uint8) == _NEWLINE) + 1


def _digests(
    fields: dict[str, Any], lines: Any, ends: Offsets, id_column: Any | None, keep: Mask
) -> Digests:
    """The hash of each message's canonical JSON, together with its id from a column."""
    if any(needs_canonical(array.type) for array in fields.values()):
        columns = {name: canonical(array)[0] for name, array in fields.items()}
        lines, ends = _lines(columns)
    view, digests = memoryview(lines), list[bytes]()
    names = iter(() if id_column is None else id_column.to_pylist())
    # In parts: the memory of one part serves the next, and stays in the cache.
    for start in range(0, len(ends), _PART):
        stop = min(start + _PART, len(ends))
        texts = bytes(view[ends[start - 1] if start else 0 : ends[stop - 1]]).split(b"\n")
        texts = list(compress(texts, keep[start:stop].tolist()))
        if id_column is not None:
            # Different messages with the same id must not count as one.
            pairs = zip(texts, islice(names, len(texts)), strict=True)
            texts = [text if name is None else text + name.encode() for text, name in pairs]
        digests.extend(map(xxhash.xxh3_128_digest, texts))
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, _WIDTH)


def _hexadecimal(digests: Digests, keep: Mask | None = None) -> Any:
    """Digests as text; null where ``keep`` is false."""
    digits, step = pa.py_buffer(digests.tobytes().hex().encode()), 2 * _WIDTH
    if keep is None:
        ends = np.arange(0, step * len(digests) + 1, step, dtype=np.int32)
        return pa.Array.from_buffers(pa.string(), len(digests), [None, pa.py_buffer(ends), digits])
    ends = np.zeros(len(keep) + 1, dtype=np.int32)
    np.cumsum(keep, out=ends[1:])
    valid = pa.py_buffer(np.packbits(keep, bitorder="little"))
    return pa.Array.from_buffers(pa.string(), len(keep), [valid, pa.py_buffer(ends * step), digits])


def _join(lines: Any, ends: Offsets, ids: Ids, keep: Mask) -> tuple[memoryview, Offsets]:
    """Put type and id in front of each message and a comma behind it, whole columns at a time."""
    view = np.frombuffer(lines, np.uint8)
    starts = np.zeros(len(ends) + 1, dtype=np.int32)
    starts[1:] = ends
    # The opening brace goes before the id, and a comma follows the id.
    view[starts[:-1]] = view[ends - 1] = ord(",")
    rest = pa.Array.from_buffers(pa.binary(), len(ends), [None, pa.py_buffer(starts), lines])
    every = len(ids) == len(keep)
    if ids.column is None:
        head, names = f'{_HEAD}"{ID_RECIPE}-', _hexadecimal(ids.digests, None if every else keep)
    else:
        head, names = f'{_HEAD}"', _escaped(ids.array())
        if not every:
            places = np.cumsum(keep) - 1
            names = names.take(pa.array(places, mask=~keep))
    # Joining with null leaves a message out.
    joined = pc.binary_join_element_wise(head.encode(), names.cast(pa.binary()), b'"', rest, b"")
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
    lines, ends = _lines({"": ids})
    starts = np.concatenate([[0], ends[:-1]])
    text = lines.to_pybytes()
    before, after = len('{"":"'), len('"}\n')
    return pa.array(
        [text[a + before : b - after].decode() for a, b in zip(starts, ends, strict=True)]
    )


def _quoted_lengths(ids: Ids) -> Offsets:
    """Bytes of each id with its quotes."""
    if ids.column is None:
        return np.full(len(ids), len(f'"{ID_RECIPE}-"') + 2 * _WIDTH)
    lengths: Offsets = pc.binary_length(_escaped(ids.array())).to_numpy() + len('""')
    return lengths


def _groups(shared: dict[str, Any]) -> Iterator[tuple[bytes, Offsets]]:
    """Groups of rows that share context and integrations, each with the top of its requests."""
    lines, ends = _lines(shared)
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

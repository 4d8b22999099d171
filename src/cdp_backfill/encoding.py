r"""From message fields to JSON: one buffer for many messages, and a stable id for each.

A message id made here is ``cdp1-`` and 32 hexadecimal digits: the 128-bit XXH3 hash (seed 0) of
the message's canonical JSON. That is the message without ``type`` and ``messageId``, its fields in
the order of :data:`cdp_backfill.spec.MESSAGE_FIELDS`, names inside objects sorted, nothing that is
null, no white space, UTF-8 with only ``"``, the backslash and control characters escaped (``\b \f
\n \r \t``, else ``\u00xx``). Whole numbers are written as such whatever their type; other floats
as ``"f64:"`` and the signed decimal value of their 64 bits; other decimals, and whole ones that
are no signed 64-bit integers, as text without trailing zeros. Inside lists and maps a whole number
is ``"i:"`` and its digits. The ``1`` in ``cdp1`` is the number of this recipe: another recipe gets
another number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import arro3.io
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from cdp_backfill import spec
from cdp_backfill.messages.values import canonical, needs_canonical

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    Offsets = npt.NDArray[np.int64]
    Digests = npt.NDArray[np.uint8]

ContextScope = Literal["message", "batch"]

ID_RECIPE: Final = "cdp1"
_SHARED: Final = ("context", "integrations")
_NO_DIGESTS: Final[Digests] = np.zeros((0, 16), dtype=np.uint8)
_NEWLINE: Final = ord("\n")
_HEAD: Final = f'"type":"{spec.MESSAGE_TYPE}","messageId":'


@dataclass(frozen=True, eq=False)
class Encoded:
    """JSON messages one after another, each followed by a comma.

    Attributes:
        data: ``{...},{...},`` as UTF-8.
        offsets: Where each message begins, and where the last one's comma ends.
        head: What requests with these messages carry at the top beside ``batch``, as
            ``"context":{...},`` or nothing.
        rows: For each message, its position among what was given to :func:`encode`.
        sizes: Bytes of each message alone, with what ``head`` moved out of it counted in.
        ids: Arrow array of the message ids.
        digests: 16 bytes for each message that no other content has, as an array of that width;
            without rows unless asked for.
    """

    data: memoryview
    offsets: Offsets
    head: bytes
    rows: Offsets
    sizes: Offsets
    ids: Any
    digests: Digests

    def __len__(self) -> int:
        return len(self.rows)

    def message(self, number: int) -> bytes:
        """One message without its comma."""
        return bytes(self.data[self.offsets[number] : self.offsets[number + 1] - 1])


def encode(
    fields: dict[str, Any],
    *,
    message_id: Any | None = None,
    context_scope: ContextScope = "message",
    with_digests: bool = False,
) -> Iterator[Encoded]:
    """Write messages as JSON.

    Args:
        fields: Arrow arrays by field name, of one length.
        message_id: Ids to use where they are not null; all others are made of the content.
        context_scope: ``"message"`` writes ``context`` and ``integrations`` into each message;
            ``"batch"`` moves them into ``head``, and gives one result for each different head.
        with_digests: Compute the digests even where a column gives the ids.

    Yields:
        One result, or with ``"batch"`` one for each distinct context; none without rows.
    """
    size = len(next(iter(fields.values())))
    if not size:
        return
    lines, ends = _lines(fields)
    digests = _NO_DIGESTS
    if with_digests or message_id is None or message_id.null_count:
        digests = _digests(fields, lines, message_id)
    ids = _ids(digests, message_id)
    every = np.arange(size)
    quoted = pc.binary_join_element_wise('"', _escaped(ids), '",', "")
    sizes = np.diff(ends, prepend=0) - len("\n") + len(_HEAD) + pc.binary_length(quoted).to_numpy()
    shared = {name: array for name, array in fields.items() if name in _SHARED}
    if context_scope == "message" or not shared:
        yield Encoded(*_joined(lines, ends, quoted), b"", every, sizes, ids, digests)
        return
    own = {name: array for name, array in fields.items() if name not in shared}
    for head, rows in _groups(shared):
        chosen = pa.array(rows)
        lines, ends = _lines({name: array.take(chosen) for name, array in own.items()})
        data, offsets = _joined(lines, ends, quoted.take(chosen))
        part = digests[rows] if len(digests) else digests
        yield Encoded(data, offsets, head, rows, sizes[rows], ids.take(chosen), part)


def lengths(array: Any) -> Offsets:
    """Bytes that each value of an array takes as JSON, give or take a constant."""
    return np.diff(_lines({"": array})[1], prepend=0)


def _lines(fields: dict[str, Any]) -> tuple[Any, Offsets]:
    """One JSON object a line, nulls left out; and where each line ends, its break included."""
    # Arrow's memory, here and below: what is this large and this short-lived leaves holes in
    # Python's, and the process would grow for a long time.
    out = pa.BufferOutputStream()
    batch = pa.RecordBatch.from_arrays(list(fields.values()), list(fields))
    arro3.io.write_ndjson(batch, out)
    lines = out.getvalue()
    # A line break inside a value is escaped, so that each of these ends a row.
    return lines, np.flatnonzero(np.frombuffer(lines, np.uint8) == _NEWLINE) + 1


def _digests(fields: dict[str, Any], lines: Any, given: Any | None) -> Digests:
    """The hash of each message's canonical JSON, and of the id that is given with it."""
    if any(needs_canonical(array.type) for array in fields.values()):
        columns = {name: canonical(array)[0] for name, array in fields.items()}
        lines, _ = _lines(columns)
    texts = lines.to_pybytes().splitlines()
    if given is not None:
        # Whoever gives the same id to different messages must not have one taken for the other.
        pairs = zip(texts, given.to_pylist(), strict=True)
        texts = [text if name is None else text + name.encode() for text, name in pairs]
    digest = xxhash.xxh3_128_digest
    joined = b"".join([digest(text) for text in texts])
    return np.frombuffer(joined, np.uint8).reshape(-1, 16)


def _ids(digests: Digests, given: Any | None) -> Any:
    """Given ids, and for all others the digest in hexadecimal digits."""
    if given is not None and given.null_count == 0:
        return given
    size = len(digests)
    digits = digests.tobytes().hex().encode()
    hexadecimal = pa.Array.from_buffers(
        pa.string(),
        size,
        [None, pa.py_buffer(np.arange(0, 32 * size + 1, 32, dtype=np.int32)), pa.py_buffer(digits)],
    )
    made = pc.binary_join_element_wise(ID_RECIPE, hexadecimal, "-")
    return made if given is None else pc.coalesce(given, made)


def _escaped(ids: Any) -> Any:
    """Ids as they stand between the quotes of a JSON string."""
    odd = pc.any(pc.match_substring_regex(ids, r'["\\\x00-\x1f]')).as_py()
    if not odd:
        return ids
    lines, ends = _lines({"": ids})
    starts = np.concatenate([[0], ends[:-1]])
    text = lines.to_pybytes()
    before, after = len('{"":"'), len('"}\n')
    return pa.array(
        [text[a + before : b - after].decode() for a, b in zip(starts, ends, strict=True)]
    )


def _joined(lines: Any, ends: Offsets, ids: Any) -> tuple[memoryview, Offsets]:
    """Put type and id in front of each message, and a comma behind it, without touching rows."""
    view = np.frombuffer(lines, np.uint8)
    view[ends - 1] = ord(",")
    # Row by row from behind one opening brace to behind the next, which is where the id goes.
    offsets = np.empty(len(ends) + 1, dtype=np.int32)
    offsets[0] = 1
    offsets[1:-1] = ends[:-1] + 1
    offsets[-1] = ends[-1]
    rest = pa.Array.from_buffers(pa.binary(), len(ends), [None, pa.py_buffer(offsets), lines])
    joined = pc.binary_join_element_wise(_HEAD.encode(), ids.cast(pa.binary()), rest, b"")
    starts = np.frombuffer(joined.buffers()[1], np.int32)[: len(ends) + 1].astype(np.int64)
    data = pa.allocate_buffer(int(starts[-1]) + len("{"))
    view = np.frombuffer(data, np.uint8)
    view[0] = ord("{")
    view[1:] = np.frombuffer(joined.buffers()[2], np.uint8)[: starts[-1]]
    # Each row's brace is the last byte of the row before; the last row has none behind it.
    starts[-1] += 1
    return memoryview(data), starts


def _groups(shared: dict[str, Any]) -> Iterator[tuple[bytes, Offsets]]:
    """Rows that share context and integrations, with these as the top of a request."""
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

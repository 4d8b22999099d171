r"""Makes message ids that are the same for the same record, a whole column at a time.

Recipe ``cdp2``. An id is a ULID: 26 characters of Crockford's base 32 for 128 bits, which are the
time of the event (48 bits; milliseconds since 1970, 0 before) and the first 80 bits of the XXH3-128
hash (seed 0) of the message's *canonical JSON*. An identify message has no time: its 48 bits are 0.

Canonical JSON is the message as it is sent, without ``type`` and ``messageId``: its fields in the
order of :data:`cdp_backfill.model.api_facts.MESSAGE_FIELDS` (of an identify message, in that of
``IDENTIFY_FIELDS`` there), the names inside objects sorted, nothing that is null, no white space,
UTF-8 with only ``"``, the backslash and control characters escaped (``\b \f \n \r \t``, else
``\u00xx``), and each number as its plain digits: the shortest ones that mean the same number,
without an exponent and without zeros at the end of a fraction. So 7, 7.0 and 7.00 are ``7``,
whatever column, file or library they come from.

An id of a key (:func:`cdp_backfill.key`) has all 128 bits from the hash of the key: the JSON object
of the cells as text under their positions, ``{"1":"A-7","2":"de"}``, without empty cells.

The number in ``cdp2`` counts recipes: another recipe gets another number, and a journal refuses to
go on under another one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from itertools import compress, islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from cdp_backfill.messages.lines import lines_of
from cdp_backfill.model.arrow_types import is_list
from cdp_backfill.model.distinct import key_digests

if TYPE_CHECKING:
    from cdp_backfill.model.arrays import Digests, Mask, Millis, Offsets

ID_RECIPE: Final = "cdp2"
"""Name of the recipe; see above."""

ID_LENGTH: Final = 26
"""Characters of an id that is made here."""

NO_DIGESTS: Final[Digests] = np.zeros((0, 16), dtype=np.uint8)

_WIDTH: Final = 16  # bytes of a digest
_TIME: Final = 6  # bytes of an id that hold the time
_PART: Final = 512  # messages that are hashed at a time
_LETTERS: Final = np.frombuffer(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ", np.uint8)
_PAIRS: Final = (
    np.stack([_LETTERS.repeat(32), np.tile(_LETTERS, 32)], axis=1).view(np.uint16).reshape(-1)
)  # the two letters of each 10 bits

_SMALLEST: Final = 1e-4
_LARGEST: Final = 1e10
"""Between these, every library writes a fraction with the same plain digits."""

_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?')


@dataclass(frozen=True, slots=True, eq=False)
class Ids:
    """The ids of messages: from a column, or else made from their time and their digest.

    Attributes:
        digests: 16 bytes for each message, which identify its content; empty if all ids come from a
            column and the caller needs no digests.
        millis: Time of each message; milliseconds since 1970 UTC.
        column: Arrow array of ids from a column, null where a cell is empty; or None.
    """

    digests: Digests
    millis: Millis
    column: Any | None

    @classmethod
    def of_column(cls, column: Any) -> Ids:
        """Ids that are all in an Arrow array of text, without the content of the messages."""
        return cls(NO_DIGESTS, np.zeros(len(column), dtype=np.int64), column)

    def array(self) -> Any:
        """The ids as an Arrow array of text."""
        if self.column is not None and not self.column.null_count:
            return self.column
        made = content_ids(self.digests, self.millis)
        return made if self.column is None else pc.coalesce(self.column, made)

    def __len__(self) -> int:
        return len(self.millis)

    def keys(self) -> Digests:
        """16 bytes for each id, the same for equal ids."""
        return self.digests if self.column is None else key_digests(self.array())

    def select(self, rows: Any) -> Ids:
        """The ids at some positions, or where a mask is true."""
        digests = self.digests[rows] if len(self.digests) else self.digests
        column = self.column
        if column is not None:
            column = column.take(pa.array(np.arange(len(column))[rows]))
        return Ids(digests, self.millis[rows], column)


def content_ids(digests: Digests, millis: Millis) -> Any:
    """The ids of messages without an id of their own, as an Arrow array of text.

    Args:
        digests: 16 bytes for each message, from :func:`content_digests`.
        millis: Time of each message; milliseconds since 1970 UTC.
    """
    data = np.empty((len(digests), _WIDTH), dtype=np.uint8)
    times = np.maximum(millis, 0).astype(">u8").view(np.uint8).reshape(-1, 8)
    data[:, :_TIME] = times[:, 8 - _TIME :]
    data[:, _TIME:] = digests[:, : _WIDTH - _TIME]
    return _ulids(data)


def key_ids(cells: list[Any]) -> Any:
    """The ids of a key, as an Arrow array of text; null where all its cells are empty.

    Args:
        cells: For each column of the key, an Arrow array of text.
    """
    lines, ends = lines_of({str(number): array for number, array in enumerate(cells, 1)})
    ids = _ulids(_hashes(lines, ends))
    empty = np.ones(len(cells[0]), dtype=bool)
    for array in cells:
        empty &= array.is_null().to_numpy(zero_copy_only=False)
    return pc.if_else(pa.array(empty), None, ids) if empty.any() else ids


def content_digests(
    fields: dict[str, Any], lines: Any, ends: Offsets, id_column: Any | None, keep: Mask
) -> Digests:
    """The hash of the canonical JSON of messages, together with their ids from a column.

    Args:
        fields: Arrow arrays by field name.
        lines: The messages as JSON, one on each line.
        ends: The end of each line.
        id_column: Ids from a column for the messages to keep, or None.
        keep: True for each message to hash.
    """
    odd = np.zeros(len(ends), dtype=bool)
    for array in fields.values():
        odd |= _odd_numbers(array)
    return _hashes(lines, ends, odd if odd.any() else None, id_column, keep)


def _hashes(
    lines: Any,
    ends: Offsets,
    odd: Mask | None = None,
    id_column: Any | None = None,
    keep: Mask | None = None,
) -> Digests:
    view, digests = memoryview(lines), list[bytes]()
    names = iter(() if id_column is None else id_column.to_pylist())
    # In parts: the memory of one part serves the next, and stays in the cache.
    for start in range(0, len(ends), _PART):
        stop = min(start + _PART, len(ends))
        texts = bytes(view[ends[start - 1] if start else 0 : ends[stop - 1]]).split(b"\n")
        if odd is not None:
            for number in np.flatnonzero(odd[start:stop]).tolist():
                texts[number] = with_plain_numbers(texts[number])
        texts = texts[:-1] if keep is None else list(compress(texts, keep[start:stop].tolist()))
        if id_column is not None:
            # Different messages with the same id must not count as one.
            pairs = zip(texts, islice(names, len(texts)), strict=True)
            texts = [text if name is None else text + name.encode() for text, name in pairs]
        digests.extend(map(xxhash.xxh3_128_digest, texts))
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, _WIDTH)


def with_plain_numbers(line: bytes) -> bytes:
    """JSON with each number as its plain digits.

    >>> with_plain_numbers(b'{"a":[1.50,2.0e3,7],"b":"1.0"}')
    b'{"a":[1.5,2000,7],"b":"1.0"}'
    """
    return _TOKEN.sub(lambda match: _plain(match[0]), line)


def _plain(token: bytes) -> bytes:
    if token.startswith(b'"') or token.isdigit():
        return token
    digits = f"{Decimal(token.decode()):f}"
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return b"0" if digits == "-0" else digits.encode()


def _odd_numbers(array: Any) -> Mask:
    """True for each row whose JSON may hold a number that is not written with its plain digits."""
    kind, types = array.type, pa.types
    none = np.zeros(len(array), dtype=bool)
    if not _may_be_odd(kind):
        return none
    if types.is_decimal(kind):
        return np.asarray(array.is_valid().to_numpy(zero_copy_only=False))
    if types.is_floating(kind):
        values = array.to_numpy(zero_copy_only=False)
        size = np.abs(values)
        with np.errstate(invalid="ignore"):
            plain = (size >= _SMALLEST) & (size < _LARGEST) & (np.floor(values) != values)
        return np.asarray(~(plain | np.isnan(values)))
    if types.is_struct(kind):
        for child in array.flatten():
            none |= _odd_numbers(child)
        return none
    # A list or a map: the rows in which an item is odd.
    items = _odd_numbers(array.items if types.is_map(kind) else array.values)
    before = np.concatenate([[0], np.cumsum(items)])
    offsets = array.offsets.to_numpy()
    return np.asarray(before[offsets[1:]] > before[offsets[:-1]])


def _may_be_odd(kind: Any) -> bool:
    types = pa.types
    if types.is_floating(kind) or types.is_decimal(kind):
        return True
    if types.is_map(kind):
        return _may_be_odd(kind.item_type)
    if is_list(kind):
        return _may_be_odd(kind.value_type)
    return bool(types.is_struct(kind)) and any(
        _may_be_odd(kind.field(number).type) for number in range(kind.num_fields)
    )


def _ulids(data: Digests) -> Any:
    """128 bits for each id as an Arrow array of text."""
    wide = np.zeros((len(data), 3, 8), dtype=np.uint8)  # 48, 40 and 40 bits
    wide[:, 0, 2:], wide[:, 1, 3:], wide[:, 2, 3:] = data[:, :6], data[:, 6:11], data[:, 11:]
    numbers = wide.view(">u8").reshape(-1, 3).astype(np.uint64)
    letters = np.empty((len(data), ID_LENGTH // 2), dtype=np.uint16)
    at = 0
    for column, pairs in enumerate((5, 4, 4)):
        for left in range(pairs - 1, -1, -1):
            letters[:, at] = _PAIRS[(numbers[:, column] >> np.uint64(10 * left)) & np.uint64(1023)]
            at += 1
    ends = np.arange(0, ID_LENGTH * len(data) + 1, ID_LENGTH, dtype=np.int32)
    return pa.Array.from_buffers(
        pa.string(), len(data), [None, pa.py_buffer(ends), pa.py_buffer(letters)]
    )

"""Reads blocks of JSON objects whose keys and types are known, without an object for each value.

What does not fit exactly is left to the slower way, which knows all that JSON files hold.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Annotated, Any, Final

import arro3.io
import msgspec
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_MAX_KEYS: Final = 500
"""A row takes the space of all keys, whether it has them or not."""

_RARE_PAIR: Final = re.compile(rb"\\u[dD](?:8[4-9a-fA-F]|[9abAB])")
"""The escape of a letter beyond U+1FFFF, which arro3 0.9 reads as another letter."""

_TEXT: Final = str | None
_TYPES: Final[dict[Any, Any]] = {pa.string(): _TEXT, pa.bool_(): bool | None, pa.null(): None}

_VALUES: Final[dict[Any, Any]] = {
    pa.string(): _TEXT,
    pa.bool_(): bool | None,
    pa.int64(): int | None,
    pa.uint64(): int | None,
    pa.float64(): float | None,
}

PARSED: Final = frozenset(_VALUES)
"""Types of columns that Arrow parses with the same results."""

FEW: Final = 4
"""Of so many keys, the values are decoded in less time than Arrow takes to parse whole objects."""


def range_of(low: float, high: float) -> tuple[int, int]:
    """Whole numbers that tell nothing new of a column that has numbers from low to high.

    Its type depends on whether there are numbers below zero, and some beyond what floats hold.

    >>> range_of(0, 7) == (0, 2**53)
    True
    """
    least = 0 if low >= 0 else -(2**53) if low >= -(2**53) else -(2**63)
    return least, 2**53 if high <= 2**53 else 2**63 - 1


def checker(kinds: Mapping[str, tuple[Any, tuple[int, int]]]) -> msgspec.json.Decoder[Any] | None:
    """A decoder that accepts objects only if they change nothing in what is known of the keys.

    Args:
        kinds: The Arrow type of each key, and the :func:`range_of` its numbers.

    Returns:
        The decoder, or None if it cannot know the keys.
    """
    return _decoder({key: _accepted(*kind) for key, kind in kinds.items()}, only=True)


def _accepted(kind: Any, numbers: tuple[int, int]) -> Any:
    least, most = numbers
    if kind in (pa.int64(), pa.uint64()):
        return Annotated[int, msgspec.Meta(ge=least, le=most)] | None
    if kind == pa.float64():  # a whole number must be one that a float holds: 2**53 may be rounded
        return Annotated[float, msgspec.Meta(gt=-(2**53), lt=2**53)] | None
    return _TYPES.get(kind, msgspec.Raw)


def decoder(kinds: Mapping[str, Any], raw: Iterable[str]) -> msgspec.json.Decoder[Any] | None:
    """A decoder that gives some keys of objects as attributes, and null where a key is missing.

    Args:
        kinds: Keys whose values are wanted, with types of :data:`PARSED`; they come first.
        raw: Keys whose JSON is wanted.

    Returns:
        The decoder, or None if it cannot know the keys.
    """
    return _decoder(
        {key: _VALUES[kind] for key, kind in kinds.items()} | dict.fromkeys(raw, msgspec.Raw),
        only=False,
    )


def attribute(number: int) -> str:
    """The attribute with the value of a key, by the number of the key."""
    return f"key{number}"


def _decoder(types: Mapping[str, Any], *, only: bool) -> msgspec.json.Decoder[Any] | None:
    if len(types) > _MAX_KEYS:
        return None
    fields = [
        (attribute(number), kind, msgspec.field(default=_default(kind), name=key))
        for number, (key, kind) in enumerate(types.items())
    ]
    try:
        row = msgspec.defstruct("Row", fields, forbid_unknown_fields=only, gc=False)
    except ValueError:  # a key that needs an escape in JSON
        return None
    return msgspec.json.Decoder(row)


def _default(kind: Any) -> Any:
    return msgspec.Raw(b"null") if kind is msgspec.Raw else None


def parse(text: bytes, schema: Any, most: int) -> Any | None:
    """The values of some keys of valid objects as a record batch; None if they are not parsed.

    Args:
        text: JSON objects one after another.
        schema: The keys, with types of :data:`PARSED`.
        most: Largest number of objects that it can be.
    """
    if _RARE_PAIR.search(text):
        return None
    try:
        reader = arro3.io.read_json(io.BytesIO(text), schema, batch_size=most)  # one batch
        batches = list(pa.RecordBatchReader.from_stream(reader))  # without the GIL
    except Exception:  # noqa: BLE001  # what the parser raises is documented nowhere
        return None
    return batches[0] if len(batches) == 1 else None

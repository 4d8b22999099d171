"""The short way for batches of valid track messages, which is what a backfill sends.

It says the same as the long way in :mod:`cdp_backfill.emulator.application`, or nothing at all:
whatever is not plainly valid is left to that one, which also knows why.
"""

from __future__ import annotations

import functools
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from cdp_backfill.emulator.store import FIELDS
from cdp_backfill.model import api_facts

_NOTHING: Final = msgspec.Raw(b"null")


class _Track(msgspec.Struct, rename="camel", gc=False):
    """A track message whose objects are kept as they were written."""

    type: Literal["track"]
    event: str
    message_id: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    timestamp: str | None = None
    properties: msgspec.Raw = _NOTHING
    context: msgspec.Raw = _NOTHING
    integrations: msgspec.Raw = _NOTHING


class _Batch(msgspec.Struct):
    batch: list[_Track]
    context: msgspec.Raw = _NOTHING
    integrations: msgspec.Raw = _NOTHING


class _Sizes(msgspec.Struct):
    batch: list[msgspec.Raw]


def _checker(properties: api_facts.Tree) -> Any:
    """A decoder that objects to properties of another type than documented."""
    types = {"boolean": bool | None}
    named = [
        (name, types.get(str(kind), str | None), None)
        for name, kind in properties.items()
        if kind != "any"
    ]
    return msgspec.json.Decoder(msgspec.defstruct("Properties", named)).decode


_decode: Final = msgspec.json.Decoder(_Batch).decode
_sizes: Final = msgspec.json.Decoder(_Sizes).decode
_check: Final = {event: _checker(tree) for event, tree in api_facts.EVENTS.items()}
_any_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_integrations: Final = msgspec.json.Decoder(
    dict[str, bool | dict[str, msgspec.Raw] | None] | None
).decode
_ORDER: Final = (
    *("type", "messageId", "userId", "anonymousId", "event", "timestamp", "properties"),
    *("context", "integrations"),
)
_REST: Final = (None,) * (len(FIELDS) - len(_ORDER))
_UTC_LENGTH: Final = len("2024-01-15T10:30:00.000Z")

if FIELDS[: len(_ORDER)] != _ORDER:  # pragma: no cover
    raise AssertionError("The store has its fields in another order.")


def rows_of(body: bytes, refused: frozenset[str]) -> list[tuple[Any, ...]] | None:
    """The messages of a batch as the store takes them; None if the long way must decide.

    Args:
        body: The body of ``/batch``, within the limit of a request.
        refused: User ids that are to be refused.
    """
    try:
        batch = _decode(body)
        if len(body) > api_facts.MAX_MESSAGE_BYTES:
            largest = max((len(memoryview(raw)) for raw in _sizes(body).batch), default=0)
            if largest > api_facts.MAX_MESSAGE_BYTES:
                return None
        shared = _object(bytes(batch.context)), _permissions(bytes(batch.integrations))
        return [_row(message, shared, refused) for message in batch.batch]
    except (ValueError, RecursionError):
        return None


def _row(
    message: _Track, shared: tuple[str | None, str | None], refused: frozenset[str]
) -> tuple[Any, ...]:
    user, event, moment = message.user_id, message.event, message.timestamp
    if not event or not (user or message.anonymous_id) or user in refused:
        raise ValueError
    if moment is not None:
        parsed = msgspec.convert(moment, datetime)
        if parsed.tzinfo is None or len(moment) != _UTC_LENGTH or moment[-1] != "Z":
            raise ValueError
    properties = bytes(message.properties)
    text: str | None = None
    if properties != b"null":
        _check.get(event, _any_object)(properties)
        text = properties.decode()
    context, integrations = bytes(message.context), bytes(message.integrations)
    return (
        api_facts.MESSAGE_TYPE,
        message.message_id,
        user,
        message.anonymous_id,
        event,
        moment,
        text,
        shared[0] if context == b"null" else _object(context),
        shared[1] if integrations == b"null" else _permissions(integrations),
        *_REST,
    )


@functools.lru_cache(maxsize=4_096)
def _object(raw: bytes) -> str | None:
    if raw == b"null":
        return None
    _any_object(raw)
    return raw.decode()


@functools.lru_cache(maxsize=4_096)
def _permissions(raw: bytes) -> str | None:
    if raw == b"null":
        return None
    _integrations(raw)
    return raw.decode()

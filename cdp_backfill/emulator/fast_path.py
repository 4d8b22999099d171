"""A fast parser for batches of valid track messages, which is what a backfill sends.

It gives the same rows as the full parser in :mod:`cdp_backfill.emulator.application`. If a message
may be invalid, it gives None, and the full parser decides and finds the reason.
"""

from __future__ import annotations

import functools
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from cdp_backfill.emulator.store import FIELDS
from cdp_backfill.model import api_facts

_NULL: Final = msgspec.Raw(b"null")


class _Track(msgspec.Struct, rename="camel", gc=False):
    """A track message whose objects stay JSON text."""

    type: Literal["track"]
    event: str
    message_id: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    timestamp: str | None = None
    properties: msgspec.Raw = _NULL
    context: msgspec.Raw = _NULL
    integrations: msgspec.Raw = _NULL


class _Batch(msgspec.Struct):
    batch: list[_Track]
    context: msgspec.Raw = _NULL
    integrations: msgspec.Raw = _NULL


class _RawBatch(msgspec.Struct):
    batch: list[msgspec.Raw]


def _checker(properties: api_facts.Tree) -> Any:
    """A decoder that fails on a property whose type differs from the documentation."""
    types = {"boolean": bool | None}
    fields = [
        (name, types.get(str(kind), str | None), None)
        for name, kind in properties.items()
        if kind != "any"
    ]
    return msgspec.json.Decoder(msgspec.defstruct("Properties", fields)).decode


_decode: Final = msgspec.json.Decoder(_Batch).decode
_decode_raw: Final = msgspec.json.Decoder(_RawBatch).decode
_check_properties: Final = {event: _checker(tree) for event, tree in api_facts.EVENTS.items()}
_check_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_check_integrations: Final = msgspec.json.Decoder(
    dict[str, bool | dict[str, msgspec.Raw] | None] | None
).decode
_ORDER: Final = (
    *("type", "messageId", "userId", "anonymousId", "event", "timestamp", "properties"),
    *("context", "integrations"),
)
_OTHER_FIELDS: Final = (None,) * (len(FIELDS) - len(_ORDER))
_UTC_LENGTH: Final = len("2024-01-15T10:30:00.000Z")

if FIELDS[: len(_ORDER)] != _ORDER:  # pragma: no cover
    raise AssertionError("The store's fields have another order.")


def read_rows(body: bytes, refused_users: frozenset[str]) -> list[tuple[Any, ...]] | None:
    """The messages of a batch as values of :data:`FIELDS`; None if the full parser must decide.

    Args:
        body: The body of ``/batch``, no larger than a request may be.
        refused_users: User ids that the emulator refuses.
    """
    try:
        batch = _decode(body)
        if len(body) > api_facts.MAX_MESSAGE_BYTES:
            largest = max((len(memoryview(raw)) for raw in _decode_raw(body).batch), default=0)
            if largest > api_facts.MAX_MESSAGE_BYTES:
                return None
        defaults = _object(bytes(batch.context)), _integrations(bytes(batch.integrations))
        return [_row(message, defaults, refused_users) for message in batch.batch]
    except (ValueError, RecursionError):
        return None


def _row(
    message: _Track, defaults: tuple[str | None, str | None], refused_users: frozenset[str]
) -> tuple[Any, ...]:
    user, event, moment = message.user_id, message.event, message.timestamp
    if not event or not (user or message.anonymous_id) or user in refused_users:
        raise ValueError
    if moment is not None:
        parsed = msgspec.convert(moment, datetime)
        if parsed.tzinfo is None or len(moment) != _UTC_LENGTH or moment[-1] != "Z":
            raise ValueError
    properties = bytes(message.properties)
    text: str | None = None
    if properties != b"null":
        _check_properties.get(event, _check_object)(properties)
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
        defaults[0] if context == b"null" else _object(context),
        defaults[1] if integrations == b"null" else _integrations(integrations),
        *_OTHER_FIELDS,
    )


@functools.lru_cache(maxsize=4_096)
def _object(raw: bytes) -> str | None:
    if raw == b"null":
        return None
    _check_object(raw)
    return raw.decode()


@functools.lru_cache(maxsize=4_096)
def _integrations(raw: bytes) -> str | None:
    if raw == b"null":
        return None
    _check_integrations(raw)
    return raw.decode()

"""A fast parser for batches of valid track messages, which is what a backfill sends.

It gives the same rows as the full parser in :mod:`cdp_backfill.emulator.parsing`. If a message may
be invalid, or is out of the ordinary, it gives None, and the full parser decides and finds the
reason.
"""

from __future__ import annotations

import functools
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from cdp_backfill.emulator.context_types import context_warnings
from cdp_backfill.emulator.models import NULL
from cdp_backfill.emulator.store import FIELDS, MESSAGE_COLUMNS
from cdp_backfill.model import api_facts

_ContextCell = tuple[str | None, str | None]  # its JSON and its warnings


class _Track(msgspec.Struct, rename="camel", gc=False, forbid_unknown_fields=True):
    """A track message whose objects stay JSON text."""

    type: Literal["track"]
    event: str
    message_id: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    timestamp: str | None = None
    properties: msgspec.Raw = NULL
    context: msgspec.Raw = NULL
    integrations: msgspec.Raw = NULL


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    batch: list[_Track]
    context: msgspec.Raw = NULL


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
_OTHER_COLUMNS: Final = (None,) * (len(MESSAGE_COLUMNS) - len(_ORDER) - 1)
_UTC_LENGTH: Final = len("2024-01-15T10:30:00.000Z")
_T: Final = _UTC_LENGTH - len("T10:30:00.000Z")

if FIELDS[: len(_ORDER)] != _ORDER or MESSAGE_COLUMNS[-1] != "warnings":  # pragma: no cover
    raise AssertionError("The store's columns have another order.")


def read_rows(body: bytes, refused_users: frozenset[str]) -> list[tuple[Any, ...]] | None:
    """The messages of a batch as rows of the store; None if the full parser must decide.

    Args:
        body: The body of ``/batch``: UTF-8, and no larger than a request may be.
        refused_users: User ids that the emulator refuses.
    """
    try:
        batch = _decode(body)
        if len(body) > api_facts.MAX_MESSAGE_BYTES:
            largest = max((len(memoryview(raw)) for raw in _decode_raw(body).batch), default=0)
            if largest > api_facts.MAX_MESSAGE_BYTES:
                return None
        context = _context(bytes(batch.context))
        return [_row(message, context, refused_users) for message in batch.batch]
    except (ValueError, RecursionError):
        return None


def _row(
    message: _Track, default_context: _ContextCell, refused_users: frozenset[str]
) -> tuple[Any, ...]:
    user, event, moment = message.user_id, message.event, message.timestamp
    if not event or not (user or message.anonymous_id) or user in refused_users:
        raise ValueError
    if moment is not None:
        msgspec.convert(moment, datetime)
        # Of the forms of a valid time, only the store's own has this length and these letters.
        if len(moment) != _UTC_LENGTH or moment[_T] != "T" or moment[-1] != "Z":
            raise ValueError
    properties = bytes(message.properties)
    text: str | None = None
    if properties != b"null":
        _check_properties.get(event, _check_object)(properties)
        text = properties.decode()
    context = bytes(message.context)
    context_text, warnings = default_context if context == b"null" else _context(context)
    return (
        api_facts.MESSAGE_TYPE,
        message.message_id,
        user,
        message.anonymous_id,
        event,
        moment,
        text,
        context_text,
        _integrations(bytes(message.integrations)),
        *_OTHER_COLUMNS,
        warnings,
    )


@functools.lru_cache(maxsize=4_096)
def _context(raw: bytes) -> _ContextCell:
    if raw == b"null":
        return None, None
    warnings = context_warnings(raw)
    return raw.decode(), msgspec.json.encode(warnings).decode() if warnings else None


@functools.lru_cache(maxsize=4_096)
def _integrations(raw: bytes) -> str | None:
    if raw == b"null":
        return None
    _check_integrations(raw)
    return raw.decode()

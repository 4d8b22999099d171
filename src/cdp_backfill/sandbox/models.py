"""What the box takes for a valid call."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # msgspec reads the annotations
from typing import Any

import msgspec

from cdp_backfill import spec


class Message(msgspec.Struct, rename="camel"):
    """A message of any call; only ``track`` is known here so far."""

    type: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    event: str | None = None
    timestamp: datetime | None = None
    properties: dict[str, msgspec.Raw] | None = None
    context: dict[str, msgspec.Raw] | None = None
    integrations: dict[str, Any] | None = None
    message_id: str | None = None


class Batch(msgspec.Struct):
    """The body of ``/batch``; the messages are looked at one by one."""

    batch: list[msgspec.Raw]
    context: dict[str, msgspec.Raw] | None = None
    integrations: dict[str, Any] | None = None


_decode_message = msgspec.json.Decoder(Message).decode
_decode_batch = msgspec.json.Decoder(Batch).decode


def read_batch(body: bytes) -> Batch:
    """Read the body of ``/batch``.

    Raises:
        ValueError: It is not JSON, or no batch; says why.
    """
    return _decode_batch(body)


def read_message(body: bytes | msgspec.Raw) -> Message:
    """Read a message and check it.

    Raises:
        ValueError: It is not valid; says why.
    """
    message = _decode_message(body)
    if message.type not in (None, spec.MESSAGE_TYPE):
        raise ValueError(f"type must be {spec.MESSAGE_TYPE}")
    if not (message.user_id or message.anonymous_id):
        raise ValueError("userId or anonymousId is required")
    if not message.event:
        raise ValueError("event is required")
    if message.timestamp is not None and message.timestamp.tzinfo is None:
        raise ValueError("timestamp must carry a time zone")
    for name, value in (message.integrations or {}).items():
        if not isinstance(value, bool | dict):
            raise ValueError(f"integrations.{name} must be a boolean")  # noqa: TRY004
    return message

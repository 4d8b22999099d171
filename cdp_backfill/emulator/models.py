"""What the box takes for a valid call: typed models of the documented fields.

Fields that are not documented pass, as the API allows. [D] What is required is what the vendor's
pages say; where they say nothing, what the open SDKs always send is not required. [?]
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # msgspec reads the annotations
from typing import Any, ClassVar, Final

import msgspec

from cdp_backfill.model import api_facts

Values = dict[str, msgspec.Raw]


class Message(msgspec.Struct, rename="camel", kw_only=True):
    """What the messages of all calls have."""

    call: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]] = ()

    type: str | None = None
    message_id: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    timestamp: datetime | None = None
    context: Values | None = None
    integrations: Values | None = None

    def check(self) -> None:
        """Check what types alone do not say.

        Raises:
            ValueError: It is not valid; says why.
        """
        for name in self.needs:
            if getattr(self, name) in (None, ""):
                raise ValueError(f"{_CAMEL[name]} is required")
        if not self.identified:
            raise ValueError("userId or anonymousId is required")
        if self.timestamp is not None and self.timestamp.tzinfo is None:
            raise ValueError("timestamp must carry a time zone")
        for name, value in (self.integrations or {}).items():
            if bytes(value).strip()[:1] not in (b"t", b"f", b"{", b"n"):
                raise ValueError(f"integrations.{name} must be a boolean or an object")

    @property
    def identified(self) -> bool:
        """Whether it says who it is about."""
        return bool(self.user_id or self.anonymous_id)


class Identify(Message, rename="camel", kw_only=True):
    """Who a person is: ``traits``."""

    call: ClassVar[str] = "identify"
    traits: Values | None = None


class Track(Message, rename="camel", kw_only=True):
    """What a person did: ``event`` and ``properties``."""

    call: ClassVar[str] = "track"
    needs: ClassVar[tuple[str, ...]] = ("event",)
    event: str | None = None
    properties: Values | None = None

    def check(self) -> None:
        """Check, and the types of the properties of the seven mobile-app events."""
        super().check()
        known = api_facts.EVENTS.get(self.event or "", {})
        for name, value in (self.properties or {}).items():
            kind, first = known.get(name), bytes(value).strip()[:1]
            if first == b"n":  # null
                continue
            if kind == "boolean" and first not in (b"t", b"f"):
                raise ValueError(f"properties.{name} must be a boolean")
            if kind not in (None, "boolean", "any") and first != b'"':
                raise ValueError(f"properties.{name} must be a string")


class Page(Message, rename="camel", kw_only=True):
    """A page of a website that a person saw."""

    call: ClassVar[str] = "page"
    name: str | None = None
    category: str | None = None
    properties: Values | None = None


class Screen(Message, rename="camel", kw_only=True):
    """A screen of an app that a person saw."""

    call: ClassVar[str] = "screen"
    name: str | None = None
    category: str | None = None
    properties: Values | None = None


class Group(Message, rename="camel", kw_only=True):
    """A group, ``groupId`` with its ``traits``, and the person that belongs to it, if one is named.

    Without a person it only says what the group is. [D] The SDKs let its id be a number. [K]
    """

    call: ClassVar[str] = "group"
    needs: ClassVar[tuple[str, ...]] = ("group_id",)
    group_id: str | int | None = None
    traits: Values | None = None

    @property
    def identified(self) -> bool:
        """It need not name a person."""
        return True


class Alias(Message, rename="camel", kw_only=True):
    """Two ids of one person: ``userId`` and ``previousId``."""

    call: ClassVar[str] = "alias"
    needs: ClassVar[tuple[str, ...]] = ("user_id", "previous_id")
    previous_id: str | int | None = None


class Batch(msgspec.Struct, kw_only=True):
    """The body of ``/batch``; the messages are looked at one by one."""

    batch: list[msgspec.Raw]
    context: Values | None = None
    integrations: Values | None = None


class _Typed(msgspec.Struct):
    type: str | None = None


_CAMEL: Final = {
    "event": "event",
    "user_id": "userId",
    "group_id": "groupId",
    "previous_id": "previousId",
}

CALLS: Final[dict[str, type[Message]]] = {
    kind.call: kind for kind in (Identify, Track, Page, Screen, Group, Alias)
}
"""The calls that carry one message, by name. [D]"""

TYPED: Final = ("track",)
"""Calls that need a ``type`` though their address says it: the vendor's page has it so. [S]"""

_decoders: Final = {name: msgspec.json.Decoder(kind).decode for name, kind in CALLS.items()}
_decode_type: Final = msgspec.json.Decoder(_Typed).decode
_decode_batch: Final = msgspec.json.Decoder(Batch).decode


def read_batch(body: bytes) -> Batch:
    """Read the body of ``/batch``.

    Raises:
        ValueError: It is not JSON, or no batch; says why.
    """
    return _decode_batch(body)


def read_message(body: bytes | msgspec.Raw, call: str | None = None) -> Message:
    """Read a message and check it.

    Args:
        body: The message.
        call: The call it came by, or None for a message of a batch, whose ``type`` says it.

    Raises:
        ValueError: It is not valid; says why.
    """
    kind = call or _decode_type(body).type
    if kind is None:
        raise ValueError("type is required")
    if kind not in _decoders:
        raise ValueError(f"type must be one of {', '.join(CALLS)}")
    message = _decoders[kind](body)
    if message.type is None and kind in TYPED:
        raise ValueError("type is required")
    if message.type not in (None, kind):
        raise ValueError(f"type must be {kind}")
    message.check()
    return message


def values(message: Message) -> dict[str, Any]:
    """The fields of a message by their names in the API; ``type`` is that of its call."""
    found = {name: getattr(message, name) for name in message.__struct_fields__}
    camel = dict(zip(message.__struct_fields__, message.__struct_encode_fields__, strict=True))
    return {camel[name]: value for name, value in found.items()} | {"type": message.call}

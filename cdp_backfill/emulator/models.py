"""Typed models of the documented calls; a message that fits its model is valid.

Undocumented fields are allowed, as in the API. [D] A field is required if the vendor's pages
require it. If they do not say, it is optional, even if the vendor's SDKs always send it. [?]
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # msgspec reads the annotations
from typing import Any, ClassVar, Final

import msgspec

from cdp_backfill.model import api_facts

Object = dict[str, msgspec.Raw]


class Message(msgspec.Struct, rename="camel", kw_only=True):
    """The fields of the messages of all calls."""

    call: ClassVar[str] = ""
    required: ClassVar[tuple[str, ...]] = ()

    type: str | None = None
    message_id: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    timestamp: datetime | None = None
    context: Object | None = None
    integrations: Object | None = None

    def check(self) -> None:
        """Check the rules that types do not express.

        Raises:
            ValueError: The message is invalid; the text is the reason.
        """
        for name in self.required:
            if getattr(self, name) in (None, ""):
                raise ValueError(f"{_API_NAMES[name]} is required")
        if not self.has_identity:
            raise ValueError("userId or anonymousId is required")
        if self.timestamp is not None and self.timestamp.tzinfo is None:
            raise ValueError("timestamp must carry a time zone")
        for name, value in (self.integrations or {}).items():
            if bytes(value).strip()[:1] not in (b"t", b"f", b"{", b"n"):
                raise ValueError(f"integrations.{name} must be a boolean or an object")

    @property
    def has_identity(self) -> bool:
        """Whether it has the id that it needs: a user id or an anonymous id."""
        return bool(self.user_id or self.anonymous_id)


class Identify(Message, rename="camel", kw_only=True):
    """Attributes of a person: ``traits``."""

    call: ClassVar[str] = "identify"
    traits: Object | None = None


class Track(Message, rename="camel", kw_only=True):
    """An action of a person: ``event`` and ``properties``."""

    call: ClassVar[str] = "track"
    required: ClassVar[tuple[str, ...]] = ("event",)
    event: str | None = None
    properties: Object | None = None

    def check(self) -> None:
        """Check the types of properties of the seven mobile-app events as well."""
        super().check()
        kinds = api_facts.EVENTS.get(self.event or "", {})
        for name, value in (self.properties or {}).items():
            kind, first = kinds.get(name), bytes(value).strip()[:1]
            if first == b"n":  # null
                continue
            if kind == "boolean" and first not in (b"t", b"f"):
                raise ValueError(f"properties.{name} must be a boolean")
            if kind not in (None, "boolean", "any") and first != b'"':
                raise ValueError(f"properties.{name} must be a string")


class Page(Message, rename="camel", kw_only=True):
    """A page of a website that a person viewed."""

    call: ClassVar[str] = "page"
    name: str | None = None
    category: str | None = None
    properties: Object | None = None


class Screen(Message, rename="camel", kw_only=True):
    """A screen of an app that a person viewed."""

    call: ClassVar[str] = "screen"
    name: str | None = None
    category: str | None = None
    properties: Object | None = None


class Group(Message, rename="camel", kw_only=True):
    """A group, ``groupId`` and ``traits``, and optionally a person who belongs to it.

    Without a person, it only describes the group. [D] The SDKs allow a number as its id. [K]
    """

    call: ClassVar[str] = "group"
    required: ClassVar[tuple[str, ...]] = ("group_id",)
    group_id: str | int | None = None
    traits: Object | None = None

    @property
    def has_identity(self) -> bool:
        """Always true: a group needs no person."""
        return True


class Alias(Message, rename="camel", kw_only=True):
    """Two ids of one person: ``userId`` and ``previousId``."""

    call: ClassVar[str] = "alias"
    required: ClassVar[tuple[str, ...]] = ("user_id", "previous_id")
    previous_id: str | int | None = None


class Batch(msgspec.Struct, kw_only=True):
    """The body of ``/batch``; its messages are read one by one."""

    batch: list[msgspec.Raw]
    context: Object | None = None
    integrations: Object | None = None


class _MessageType(msgspec.Struct):
    type: str | None = None


_API_NAMES: Final = {
    "event": "event",
    "user_id": "userId",
    "group_id": "groupId",
    "previous_id": "previousId",
}

CALLS: Final[dict[str, type[Message]]] = {
    kind.call: kind for kind in (Identify, Track, Page, Screen, Group, Alias)
}
"""The calls that carry one message, by name. [D]"""

TYPE_REQUIRED: Final = ("track",)
"""Calls that need a ``type`` although their address implies it, as on the vendor's page. [S]"""

_decoders: Final = {name: msgspec.json.Decoder(kind).decode for name, kind in CALLS.items()}
_decode_type: Final = msgspec.json.Decoder(_MessageType).decode
_decode_batch: Final = msgspec.json.Decoder(Batch).decode


def read_batch(body: bytes) -> Batch:
    """Read the body of ``/batch``.

    Raises:
        ValueError: It is not a JSON batch; the text is the reason.
    """
    return _decode_batch(body)


def read_message(body: bytes | msgspec.Raw, call: str | None = None) -> Message:
    """Read a message and check it.

    Args:
        body: The message.
        call: Name of the call, or None for a message of a batch, whose ``type`` names it.

    Raises:
        ValueError: The message is invalid; the text is the reason.
    """
    kind = call or _decode_type(body).type
    if kind is None:
        raise ValueError("type is required")
    if kind not in _decoders:
        raise ValueError(f"type must be one of {', '.join(CALLS)}")
    message = _decoders[kind](body)
    if message.type is None and kind in TYPE_REQUIRED:
        raise ValueError("type is required")
    if message.type not in (None, kind):
        raise ValueError(f"type must be {kind}")
    message.check()
    return message


def message_fields(message: Message) -> dict[str, Any]:
    """The fields of a message by their names in the API; ``type`` is the name of its call."""
    names = zip(message.__struct_fields__, message.__struct_encode_fields__, strict=True)
    return {api_name: getattr(message, name) for name, api_name in names} | {"type": message.call}

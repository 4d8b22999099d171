"""Typed models of the documented calls; a message that fits its model is valid.

Undocumented fields are allowed, as in the API. [D] A field is required if the vendor's pages
require it. If they do not say, it is optional, even if the vendor's SDKs always send it. [?] Only
the messages of a batch need a ``type``: a single call sets it itself. [N]
"""

from __future__ import annotations

import re
from datetime import datetime  # noqa: TC003  # msgspec reads the annotations
from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec

from cdp_backfill.model import api_facts

if TYPE_CHECKING:
    from cdp_backfill.emulator.policy import Policy

Object = dict[str, msgspec.Raw]
Id = str | int | None

NULL: Final = msgspec.Raw(b"null")

WRITE_KEY: Final = "writeKey"
"""Field of a body that holds the API key if there is no Authorization header. [K]"""


def _raw_null() -> Any:
    return msgspec.field(default_factory=lambda: NULL)  # a default must fit into a JSON schema


class Message(msgspec.Struct, rename="camel", kw_only=True):
    """The fields of the messages of all calls.

    The last four come from SDKs and from receivers like this one. [K] The API documents no type for
    them, so they may have any.
    """

    call: ClassVar[str] = ""
    required: ClassVar[tuple[str, ...]] = ()
    ids: ClassVar[tuple[str, ...]] = ("user_id", "anonymous_id")
    needs_person: ClassVar[bool] = True

    type: str | None = None
    message_id: str | None = None
    user_id: Id = None
    anonymous_id: Id = None
    timestamp: datetime | None = None
    context: Object | None = None
    integrations: Object | None = None
    original_timestamp: msgspec.Raw = _raw_null()
    sent_at: msgspec.Raw = _raw_null()
    channel: msgspec.Raw = _raw_null()
    _metadata: msgspec.Raw = _raw_null()

    def check(self, policy: Policy) -> None:
        """Check the rules that types do not express.

        Raises:
            ValueError: The message is invalid; the text is the reason.
        """
        for name in self.required:
            if getattr(self, name) in (None, ""):
                raise ValueError(f"{_API_NAMES[name]} is required")
        if not policy.numeric_ids:
            for name in self.numeric_ids:
                raise ValueError(f"{_API_NAMES[name]} must be a string")
        if self.needs_person and not policy.without_person and not self.has_person:
            raise ValueError("userId or anonymousId is required")
        if self.timestamp is not None and self.timestamp.tzinfo is None:
            raise ValueError("timestamp must carry a time zone")
        for name, value in (self.integrations or {}).items():
            if bytes(value).strip()[:1] not in (b"t", b"f", b"{", b"n"):
                raise ValueError(f"integrations.{name} must be a boolean or an object")

    @property
    def has_person(self) -> bool:
        """Whether it has a user id or an anonymous id."""
        return any(each not in (None, "") for each in (self.user_id, self.anonymous_id))

    @property
    def numeric_ids(self) -> list[str]:
        """The names of the ids that are numbers."""
        return [name for name in self.ids if isinstance(getattr(self, name), int)]


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

    def check(self, policy: Policy) -> None:
        """Check the types of properties of the seven mobile-app events as well."""
        super().check(policy)
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

    Without a person, it only describes the group. [D]
    """

    call: ClassVar[str] = "group"
    required: ClassVar[tuple[str, ...]] = ("group_id",)
    ids: ClassVar[tuple[str, ...]] = (*Message.ids, "group_id")
    needs_person: ClassVar[bool] = False
    group_id: Id = None
    traits: Object | None = None


class Alias(Message, rename="camel", kw_only=True):
    """Two ids of one person: ``userId`` and ``previousId``."""

    call: ClassVar[str] = "alias"
    required: ClassVar[tuple[str, ...]] = ("user_id", "previous_id")
    ids: ClassVar[tuple[str, ...]] = (*Message.ids, "previous_id")
    previous_id: Id = None


class Batch(msgspec.Struct, rename="camel", kw_only=True):
    """The body of ``/batch``; its messages are read one by one.

    Its ``context`` is the default for messages without one, and its ``integrations`` have no
    effect. [N] Its ``sentAt`` holds for all its messages. [K]
    """

    batch: list[msgspec.Raw]
    context: Object | None = None
    integrations: Object | None = None
    sent_at: msgspec.Raw = _raw_null()


class _MessageType(msgspec.Struct):
    type: str | None = None


_API_NAMES: Final = {
    "event": "event",
    "user_id": "userId",
    "anonymous_id": "anonymousId",
    "group_id": "groupId",
    "previous_id": "previousId",
}

CALLS: Final[dict[str, type[Message]]] = {
    kind.call: kind for kind in (Identify, Track, Page, Screen, Group, Alias)
}
"""The calls that carry one message, by name. [D]"""

_decoders: Final = {name: msgspec.json.Decoder(kind).decode for name, kind in CALLS.items()}
_decode_type: Final = msgspec.json.Decoder(_MessageType).decode
_decode_batch: Final = msgspec.json.Decoder(Batch).decode
_decode_fields: Final = msgspec.json.Decoder(Object).decode


def read_batch(body: bytes) -> Batch:
    """Read the body of ``/batch``.

    Raises:
        ValueError: It is not a JSON batch; the text is the reason.
    """
    return _decode_batch(msgspec.json.encode(_decode_fields(body)))


def read_message(
    body: bytes | msgspec.Raw, call: str | None, policy: Policy
) -> tuple[Message, Object]:
    """Read a message and check it.

    Of a field that occurs several times, the last counts, as usual in JSON.

    Args:
        body: The message.
        call: Name of the call, or None for a message of a batch, whose ``type`` names it.
        policy: What to do where the API is not documented.

    Returns:
        The message, and the fields that its model does not have, but never the API key.

    Raises:
        ValueError: The message is invalid; the text is the reason.
    """
    fields = _decode_fields(body)
    body = msgspec.json.encode(fields)
    kind = call or _decode_type(body).type
    if kind is None:
        raise ValueError("type is required")
    if kind not in _decoders:
        raise ValueError(f"type must be one of {', '.join(CALLS)}")
    message = _decoders[kind](body)
    if message.type not in (None, kind):
        raise ValueError(f"type must be {kind}")
    message.check(policy)
    known = {*message.__struct_encode_fields__, WRITE_KEY}
    return message, {name: value for name, value in fields.items() if name not in known}


def message_fields(message: Message) -> dict[str, Any]:
    """The fields of a message by their names in the API; ``type`` is the name of its call."""
    names = zip(message.__struct_fields__, message.__struct_encode_fields__, strict=True)
    return {api_name: getattr(message, name) for name, api_name in names} | {"type": message.call}


def without_key(body: bytes) -> bytes:
    """A message without the API key, to be shown; text that is no JSON object is searched for it.

    >>> without_key(b'{"writeKey": "k", "event": ""}')
    b'{"event":""}'
    >>> without_key(b'{"writeKey": "k", ')
    b'{"writeKey": "...", '
    """
    try:
        fields = _decode_fields(body)
    except (ValueError, RecursionError):
        return _KEY_TEXT.sub(rb'\1"..."', body)
    return msgspec.json.encode(fields) if fields.pop(WRITE_KEY, None) is not None else body


_KEY_TEXT: Final = re.compile(
    rb'("%s"\s*:\s*)(?:"(?:[^"\\]|\\.)*"?|[^\s,}]*)' % WRITE_KEY.encode(), re.DOTALL
)

"""Reads the messages in a body, and says which are valid and how each is stored."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cdp_backfill.emulator.context_types import context_warnings
from cdp_backfill.emulator.fast_path import read_rows
from cdp_backfill.emulator.models import (
    NULL,
    message_fields,
    read_batch,
    read_message,
    without_key,
)
from cdp_backfill.emulator.store import MESSAGE_COLUMNS, RejectedMessage
from cdp_backfill.model import api_facts

if TYPE_CHECKING:
    from cdp_backfill.emulator.models import Batch, Message, Object
    from cdp_backfill.emulator.policy import Policy

BATCH: Final = api_facts.BATCH_PATH.removeprefix("/")
"""Name of the call with many messages."""

CLOCK_SECONDS: Final = 60
"""Seconds by which ``sentAt`` may differ from the time of receipt without a warning. [?]"""

_EXCERPT_BYTES: Final = 500  # bytes of a rejected message that are stored

_encode = msgspec.json.encode
_decode_raw: Final = msgspec.json.Decoder(msgspec.Raw).decode


class UnreadableBodyError(Exception):
    """The body holds no messages; the text is the reason."""


@dataclass(slots=True)
class ParsedBody:
    """The messages in a body.

    Attributes:
        count: Number of messages.
        rows: The valid messages, as values of :data:`MESSAGE_COLUMNS`.
        rejected: The invalid messages.
        dropped: Why messages were dropped although the answer is 200, or None.
    """

    count: int = 0
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    rejected: list[RejectedMessage] = field(default_factory=list)
    dropped: str | None = None


def parse(
    call: str, body: bytes, refused_users: frozenset[str], policy: Policy, received: datetime
) -> ParsedBody:
    """Read a body.

    Args:
        call: Name of the call.
        body: The body, decompressed.
        refused_users: User ids whose messages are invalid.
        policy: What to do where the API is not documented.
        received: The time of receipt.

    Raises:
        UnreadableBodyError: It is not the JSON that the call needs.
    """
    if len(body) > api_facts.MAX_REQUEST_BYTES:
        reason = f"the body has {len(body)} bytes, more than {api_facts.MAX_REQUEST_BYTES}"
        return ParsedBody(dropped=reason)
    try:
        body.decode()  # what is stored as it came must be text
        if call != BATCH:
            return _parse_messages(
                [msgspec.Raw(body)], call, refused_users, policy, received=received
            )
        if (rows := read_rows(body, refused_users)) is not None:
            return ParsedBody(count=len(rows), rows=rows)
        batch = read_batch(body)
    except UnicodeDecodeError as error:
        raise UnreadableBodyError("the body is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise UnreadableBodyError(str(error)) from error
    return _parse_messages(batch.batch, None, refused_users, policy, received=received, batch=batch)


def _parse_messages(
    messages: list[msgspec.Raw],
    call: str | None,
    refused_users: frozenset[str],
    policy: Policy,
    *,
    received: datetime,
    batch: Batch | None = None,
) -> ParsedBody:
    parsed = ParsedBody(count=len(messages))
    oversize = _oversize(messages, in_batch=batch is not None)
    if oversize:
        parsed.dropped = "; ".join(oversize.values())
        if policy.oversize == "request":
            return parsed
    for position, raw in enumerate(messages):
        if position in oversize:
            continue
        try:
            message, others = read_message(raw, call, policy)
            if message.user_id is not None and str(message.user_id) in refused_users:
                raise ValueError("userId is refused")  # noqa: TRY301
            parsed.rows.append(_row(message, others, batch, received))
        except (ValueError, RecursionError) as error:
            excerpt = without_key(bytes(raw))[:_EXCERPT_BYTES].decode(errors="replace")
            parsed.rejected.append(RejectedMessage(position, str(error), excerpt))
    return parsed


def _oversize(messages: list[msgspec.Raw], *, in_batch: bool) -> dict[int, str]:
    """The positions of messages that are too large, with the reason."""
    if not in_batch and not _is_json(messages[0]):
        return {}  # which is an error, whatever its size
    sizes = ((position, memoryview(raw).nbytes) for position, raw in enumerate(messages))
    return {
        position: f"{f'batch[{position}]' if in_batch else 'the message'} has {size} bytes, "
        f"more than {api_facts.MAX_MESSAGE_BYTES}"
        for position, size in sizes
        if size > api_facts.MAX_MESSAGE_BYTES
    }


def _is_json(text: msgspec.Raw) -> bool:
    try:
        _decode_raw(text)
    except (ValueError, RecursionError):
        return False
    return True


def _row(
    message: Message, others: Object, batch: Batch | None, received: datetime
) -> tuple[Any, ...]:
    """The values that are stored, with what a sender should look at."""
    warnings: list[str] = []
    if batch is not None:
        message.context = batch.context if message.context is None else message.context
        if message.sent_at == NULL:
            message.sent_at = batch.sent_at
        if message.integrations is None and batch.integrations:
            warnings.append("the integrations at the top of the batch have no effect")
    if message.context is not None:
        warnings += context_warnings(_encode(message.context))
    fields = message_fields(message)
    warnings += [
        f"{name} is a number and is stored as text"
        for name in ("userId", "anonymousId", "groupId", "previousId")
        if isinstance(fields.get(name), int)
    ]
    if message.needs_person and not message.has_person:
        warnings.append("the message has neither a userId nor an anonymousId")
    if fields["timestamp"] is not None or message.original_timestamp != NULL:
        warnings += _clock_warnings(fields["sentAt"], received)
    for name in _SENDER_TEXTS:
        if bytes(fields[name])[:1] not in (b'"', b"n"):  # kept to be seen as it came
            others[name], fields[name] = fields[name], NULL
    if fields["timestamp"] is not None:
        fields["timestamp"] = _utc(fields["timestamp"])
    fields["otherFields"] = others or None
    fields["warnings"] = warnings or None
    return tuple(map(_cell, MESSAGE_COLUMNS, map(fields.get, MESSAGE_COLUMNS)))


_SENDER_TEXTS: Final = ("originalTimestamp", "sentAt", "channel")


def _cell(name: str, value: Any) -> str | None:
    if value is None or value == NULL:
        return None
    if name in _SENDER_TEXTS:
        return msgspec.json.decode(value, type=str)
    return value if isinstance(value, str) else _encode(value).decode()


def _clock_warnings(sent_at: msgspec.Raw, received: datetime) -> tuple[str, ...]:
    """Whether a receiver that corrects clocks would shift the time of the event."""
    if sent_at == NULL:
        return ()
    sent = _moment(bytes(sent_at))
    if sent is None:
        return ("sentAt is no time with a time zone",)
    if abs(received - sent) <= timedelta(seconds=CLOCK_SECONDS):
        return ()
    warning = (
        f"sentAt is more than {CLOCK_SECONDS} s from the time of receipt: a receiver that corrects "
        "clocks shifts timestamp by the difference"
    )
    return (warning,)


@functools.lru_cache(maxsize=64)
def _moment(text: bytes) -> datetime | None:
    try:
        moment = msgspec.json.decode(text, type=datetime)
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def _utc(moment: datetime) -> str:
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:  # within hours of the year 1 or 9999
        moment = moment.replace(tzinfo=UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"

"""The calls of the Pipelines API, as a Starlette application."""

from __future__ import annotations

import base64
import binascii
import hmac
import zlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cdp_backfill import spec
from cdp_backfill.sandbox.models import Message, read_batch, read_message
from cdp_backfill.sandbox.store import Call, Store

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_BODY_BYTES: Final = 16 * spec.MAX_REQUEST_BYTES
"""Bytes of a body that the box reads at all, compressed or inflated."""

_encode = msgspec.json.encode


class _Refused(Exception):  # noqa: N818  # an answer, not an error
    def __init__(self, status: int, reason: str, messages: int = 0) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.messages = messages


def application(store: Store, api_key: str) -> Starlette:
    """Make the application.

    Args:
        store: Where accepted messages go.
        api_key: The key that it takes.
    """

    async def call(request: Request) -> Response:
        path = request.url.path.removeprefix("/v1")
        strict = request.headers.get(spec.STRICT_HEADER[0]) == spec.STRICT_HEADER[1]
        size, reason, status, count = 0, None, 200, 0
        kept: list[tuple[Any, ...]] = []
        try:
            _check_key(request, api_key)
            body = await _body(request)
            size = len(body)
            if size > spec.MAX_REQUEST_BYTES:
                reason = f"the body has {size} bytes, more than {spec.MAX_REQUEST_BYTES}"
            else:
                parts = _parts(path, body)
                count = len(parts)
                kept, reason = _accepted(parts)
        except _Refused as refused:
            reason, count = refused.reason, refused.messages
            # What cannot be read at all is an error in both modes.
            status = refused.status if strict or refused.status not in (400, 401) else 200
        received = datetime.now(UTC).isoformat(timespec="milliseconds")
        store.add(Call(received, path, strict, status, size, count, reason), kept)
        if status != 200:  # noqa: PLR2004
            return JSONResponse({"meta": {"errors": [reason]}}, status)
        return JSONResponse({})

    async def missing(_: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 404)
        return JSONResponse({"meta": {"errors": ["there is no such call"]}}, status)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(
        routes=[
            Route("/v1" + spec.TRACK_PATH, call, methods=["POST"]),
            Route("/v1" + spec.BATCH_PATH, call, methods=["POST"]),
            Route("/health", health),
        ],
        exception_handlers={404: missing, 405: missing},
    )


def _check_key(request: Request, api_key: str) -> None:
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    try:
        user, _, password = base64.b64decode(credentials, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        user = password = b""
    if scheme.lower() != "basic" or password or not hmac.compare_digest(user, api_key.encode()):
        raise _Refused(401, "the API key is not valid")


async def _body(request: Request) -> bytes:
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise _Refused(415, "Content-Encoding must be gzip or nothing")
    inflate = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
    parts: list[bytes] = []
    size = 0
    async for piece in request.stream():
        try:
            part = inflate.decompress(piece, MAX_BODY_BYTES) if inflate else piece
        except zlib.error as error:
            raise _Refused(400, "the body is not gzip") from error
        parts.append(part)
        size += len(part)
        if size >= MAX_BODY_BYTES or (inflate and inflate.unconsumed_tail):
            raise _Refused(413, "the body is too large to be read")
    if inflate and not inflate.eof:
        raise _Refused(400, "the body is not gzip")
    return b"".join(parts)


def _parts(path: str, body: bytes) -> list[tuple[msgspec.Raw, Message]]:
    """The messages of a body with their own bytes; all of them valid."""
    try:
        if path == spec.TRACK_PATH:
            return [(msgspec.Raw(body), read_message(body))]
        batch = read_batch(body)
    except (ValueError, RecursionError) as error:
        raise _Refused(400, str(error)) from error
    parts = []
    for number, raw in enumerate(batch.batch):
        try:
            message = read_message(raw)
            if message.type is None:
                raise ValueError("type is required")  # noqa: TRY301
        except (ValueError, RecursionError) as error:
            raise _Refused(400, f"batch[{number}]: {error}", len(batch.batch)) from error
        # What stands at the top goes for every message that has none of its own.
        message.context = batch.context if message.context is None else message.context
        if message.integrations is None:
            message.integrations = batch.integrations
        parts.append((raw, message))
    return parts


def _accepted(
    parts: list[tuple[msgspec.Raw, Message]],
) -> tuple[list[tuple[Any, ...]], str | None]:
    """The messages to keep, as the store takes them; and why one was left out, if one was."""
    kept, reason = [], None
    for raw, message in parts:
        if len(bytes(raw)) > spec.MAX_MESSAGE_BYTES:
            reason = f"a message has more than {spec.MAX_MESSAGE_BYTES} bytes"
            continue
        kept.append(
            (
                message.type or spec.MESSAGE_TYPE,
                message.message_id,
                message.user_id,
                message.anonymous_id,
                message.event,
                None if message.timestamp is None else _utc(message.timestamp),
                _json(message.properties),
                _json(message.context),
                _json(message.integrations),
            )
        )
    return kept, reason


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _json(value: Any) -> str | None:
    return None if value is None else _encode(value).decode()

"""The calls of the Pipelines API, as a Starlette application."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import zlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cdp_backfill import spec
from cdp_backfill.sandbox.faults import Faults, Mischief
from cdp_backfill.sandbox.models import Message, read_batch, read_message
from cdp_backfill.sandbox.store import Call, Store

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_BODY_BYTES: Final = 16 * spec.MAX_REQUEST_BYTES
"""Bytes of a body that the box reads at all, compressed or inflated."""

Connections = dict[tuple[Any, ...], asyncio.Transport]

_encode = msgspec.json.encode


class _Refused(Exception):  # noqa: N818  # an answer, not an error
    def __init__(self, status: int, reason: str, messages: int = 0) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.messages = messages


def application(
    store: Store, api_key: str, mischief: Mischief, connections: Connections
) -> Starlette:
    """Make the application.

    Args:
        store: Where accepted messages go.
        api_key: The key that it takes.
        mischief: What it does wrong on purpose.
        connections: The open connections by their client, to be able to break them.
    """
    calls = _Calls(store, api_key, mischief, connections)
    return Starlette(
        routes=[
            Route("/v1" + spec.TRACK_PATH, calls.call, methods=["POST"]),
            Route("/v1" + spec.BATCH_PATH, calls.call, methods=["POST"]),
            Route("/health", calls.health),
            Route("/faults", calls.faults, methods=["GET", "PUT"]),
        ],
        exception_handlers={404: calls.missing, 405: calls.missing},
    )


class _Calls:
    def __init__(
        self, store: Store, api_key: str, mischief: Mischief, connections: Connections
    ) -> None:
        self._store = store
        self._api_key = api_key
        self._mischief = mischief
        self._connections = connections

    async def call(self, request: Request) -> Response:
        """``/track`` and ``/batch``, with whatever goes wrong on purpose."""
        fate = self._mischief.fate()
        client = self._connections.get(tuple(request.client or ()))
        if fate.wait:
            await asyncio.sleep(fate.wait)
        if fate.reset_before:
            return _broken(client)
        if fate.stall:
            while (await request.receive())["type"] != "http.disconnect":
                pass  # until whoever waits has had enough
            return _broken(client)
        try:
            if fate.status:
                return await _turned_away(request, fate.status, self._mischief.faults.retry_after)
            response = await self._answer(request, silent=fate.silent)
        except ClientDisconnect:  # whoever asked has gone
            return Response()
        return _broken(client) if fate.reset_after else response

    async def _answer(self, request: Request, *, silent: bool) -> Response:
        path = request.url.path.removeprefix("/v1")
        strict = request.headers.get(spec.STRICT_HEADER[0]) == spec.STRICT_HEADER[1]
        size, reason, status, count = 0, None, 200, 0
        kept: list[tuple[Any, ...]] = []
        try:
            _check_key(request, self._api_key)
            body = await _body(request)
            size = len(body)
            if size > spec.MAX_REQUEST_BYTES:
                reason = f"the body has {size} bytes, more than {spec.MAX_REQUEST_BYTES}"
            else:
                parts = _parts(path, body)
                count = len(parts)
                _check_users(path, parts, self._mischief.faults.refuse_users)
                kept, reason = ([], "dropped in silence") if silent else _accepted(parts)
        except _Refused as refused:
            reason, count = refused.reason, refused.messages
            # What cannot be read at all is an error in both modes.
            status = refused.status if strict or refused.status not in (400, 401) else 200
        received = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._store.add(Call(received, path, strict, status, size, count, reason), kept)
        if status != 200:  # noqa: PLR2004
            return JSONResponse({"meta": {"errors": [reason]}}, status)
        return JSONResponse({})

    async def faults(self, request: Request) -> Response:
        """What goes wrong on purpose: to be read, and to be set."""
        if request.method == "PUT":
            try:
                self._mischief.faults = msgspec.json.decode(await request.body(), type=Faults)
            except ValueError as error:
                return JSONResponse({"meta": {"errors": [str(error)]}}, 400)
        return Response(_encode(self._mischief.faults), media_type="application/json")

    async def health(self, _: Request) -> Response:
        """That it lives."""
        return JSONResponse({"status": "ok"})

    async def missing(self, _: Request, error: Exception) -> Response:
        """A call that is not there."""
        status = getattr(error, "status_code", 404)
        return JSONResponse({"meta": {"errors": ["there is no such call"]}}, status)


def _broken(client: asyncio.Transport | None) -> Response:
    """Break the connection; the response goes nowhere."""
    if client is not None:
        client.abort()
    return Response()


async def _turned_away(request: Request, status: int, retry_after: float | None) -> Response:
    async for _ in request.stream():
        pass
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    return JSONResponse({"meta": {"errors": ["try again later"]}}, status, headers)


def _check_users(
    path: str, parts: list[tuple[msgspec.Raw, Message]], refused: frozenset[str]
) -> None:
    for number, (_, message) in enumerate(parts):
        if message.user_id in refused:
            where = f"batch[{number}]: " if path == spec.BATCH_PATH else ""
            raise _Refused(400, f"{where}userId is refused", len(parts))


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

"""The endpoints of the Pipelines API, as a Starlette application."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cdp_backfill.emulator.fast_path import read_rows
from cdp_backfill.emulator.faults import FaultInjector, Faults
from cdp_backfill.emulator.models import CALLS, Message, message_fields, read_batch, read_message
from cdp_backfill.emulator.openapi import description
from cdp_backfill.emulator.overview import Overview
from cdp_backfill.emulator.store import FIELDS, ReceivedRequest, RejectedMessage, Store
from cdp_backfill.model import api_facts

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_BODY_BYTES: Final = 16 * api_facts.MAX_REQUEST_BYTES
"""Most bytes of a body that the emulator reads, compressed or decompressed."""

_BATCH: Final = api_facts.BATCH_PATH.removeprefix("/")
_EXCERPT_BYTES: Final = 500  # bytes of a rejected message that are stored

Connections = dict[tuple[Any, ...], asyncio.Transport]

_encode = msgspec.json.encode


class _RequestError(Exception):
    """The request as a whole is wrong: answer with this status and reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Policy:
    """What the emulator does where the API is not documented.

    Attributes:
        name_bad: A 400 for a batch names each invalid message and the reason. If False, it only
            says that some messages are invalid. [?]
        keep_rest: Store the valid messages of a batch with invalid ones. If False, store none, the
            harder case for a sender. [?]
    """

    name_bad: bool = True
    keep_rest: bool = False


def application(
    store: Store,
    api_key: str,
    injector: FaultInjector,
    connections: Connections,
    policy: Policy,
) -> Starlette:
    """Make the application.

    Args:
        store: Stores requests and messages.
        api_key: The key that it accepts.
        injector: Injects faults.
        connections: The open connections by client, so that a fault can break them.
        policy: What to do where the API is not documented.
    """
    endpoints = _Endpoints(store, api_key, injector, connections, policy)
    overview = Overview(store, injector)
    openapi_description = description()

    async def openapi(_: Request) -> Response:
        return JSONResponse(openapi_description)

    return Starlette(
        routes=[
            *(Route(f"/v1/{call}", endpoints.call, methods=["POST"]) for call in (*CALLS, _BATCH)),
            Route("/health", endpoints.health),
            Route("/ready", endpoints.ready),
            Route("/faults", endpoints.faults, methods=["GET", "PUT"]),
            Route("/openapi.json", openapi),
            Route("/overview.json", overview.data),
            Route("/", overview.page),
        ],
        exception_handlers={404: endpoints.missing, 405: endpoints.missing},
    )


class _Endpoints:
    def __init__(
        self,
        store: Store,
        api_key: str,
        injector: FaultInjector,
        connections: Connections,
        policy: Policy,
    ) -> None:
        self._policy = policy
        self._store = store
        self._api_key = api_key
        self._injector = injector
        self._connections = connections

    async def call(self, request: Request) -> Response:
        """Answer any of the seven calls, with injected faults."""
        faults = self._injector.next_request()
        client = self._connections.get(tuple(request.client or ()))
        if faults.wait:
            await asyncio.sleep(faults.wait)
        if faults.reset_before:
            return _break_connection(client)
        if faults.stall:
            while (await request.receive())["type"] != "http.disconnect":
                pass  # wait until the client gives up
            return _break_connection(client)
        try:
            if faults.status:
                return await _faulty_response(
                    request, faults.status, self._injector.faults.retry_after
                )
            response = await self._answer(request, silent=faults.silent)
        except ClientDisconnect:
            return Response()
        return _break_connection(client) if faults.reset_after else response

    async def _answer(self, request: Request, *, silent: bool) -> Response:
        path = request.url.path.removeprefix("/v1")
        strict = request.headers.get(api_facts.STRICT_HEADER[0]) == api_facts.STRICT_HEADER[1]
        size, status, errors = 0, 200, list[str]()
        parsed = _ParsedBody()
        try:
            _check_key(request, self._api_key)
            _check_type(request)
            body = await _read_body(request)
            size = len(body)
            parsed = _parse(path, body, self._injector.faults.refuse_users)
            if silent:
                parsed = _ParsedBody(count=parsed.count, dropped="dropped by the fault 'silent'")
            elif parsed.rejected:
                status, errors = 400, _errors(path, parsed, self._policy)
                if not self._policy.keep_rest:
                    parsed.rows = []
        except _RequestError as error:
            status, errors = error.status, [str(error)]
        # An unreadable body is an error in both modes.
        answer = status if strict or status not in (400, 401) else 200
        reason = parsed.dropped or "; ".join(errors) or None
        received = datetime.now(UTC).isoformat(timespec="milliseconds")
        record = ReceivedRequest(received, path, strict, answer, size, parsed.count, reason)
        self._store.add(record, parsed.rows, parsed.rejected)
        if answer != 200:  # noqa: PLR2004
            return JSONResponse({"meta": {"errors": errors}}, answer)
        return JSONResponse({})

    async def faults(self, request: Request) -> Response:
        """Return the injected faults, or set them with PUT."""
        if request.method == "PUT":
            try:
                self._injector.faults = msgspec.json.decode(await request.body(), type=Faults)
            except ValueError as error:
                return JSONResponse({"meta": {"errors": [str(error)]}}, 400)
        return Response(_encode(self._injector.faults), media_type="application/json")

    async def health(self, _: Request) -> Response:
        """Report that the server runs."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """Report that the server can accept calls, because its database answers."""
        self._store.sql("SELECT 1")
        return JSONResponse({"status": "ready"})

    async def missing(self, _: Request, error: Exception) -> Response:
        """Answer a call that does not exist."""
        status = getattr(error, "status_code", 404)
        return JSONResponse({"meta": {"errors": ["there is no such call"]}}, status)


def _break_connection(client: asyncio.Transport | None) -> Response:
    """Break the connection. The returned response is never sent."""
    if client is not None:
        client.abort()
    return Response()


async def _faulty_response(request: Request, status: int, retry_after: float | None) -> Response:
    async for _ in request.stream():  # read the body first, as a real server does
        pass
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    return JSONResponse({"meta": {"errors": ["try again later"]}}, status, headers)


def _check_key(request: Request, api_key: str) -> None:
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    # The vendor's Python SDK sends one form of key this way. [K]
    if scheme.lower() == "bearer" and hmac.compare_digest(credentials.encode(), api_key.encode()):
        return
    try:
        user, _, password = base64.b64decode(credentials, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        user = password = b""
    if scheme.lower() != "basic" or password or not hmac.compare_digest(user, api_key.encode()):
        raise _RequestError(401, "the API key is not valid")


def _check_type(request: Request) -> None:
    kind = request.headers.get("Content-Type", "application/json").partition(";")[0].strip()
    if kind.lower() not in ("application/json", "text/plain"):
        raise _RequestError(415, "Content-Type must be application/json")


async def _read_body(request: Request) -> bytes:
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise _RequestError(415, "Content-Encoding must be gzip or nothing")
    decompressor = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
    parts: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        try:
            part = decompressor.decompress(chunk, MAX_BODY_BYTES) if decompressor else chunk
        except zlib.error as error:
            raise _RequestError(400, "the body is not gzip") from error
        parts.append(part)
        size += len(part)
        if size >= MAX_BODY_BYTES or (decompressor and decompressor.unconsumed_tail):
            raise _RequestError(413, "the body is too large to be read")
    if decompressor and not decompressor.eof:
        raise _RequestError(400, "the body is not gzip")
    return b"".join(parts)


@dataclass(slots=True)
class _ParsedBody:
    """The messages in a body.

    Attributes:
        count: Number of messages.
        rows: The valid messages, as values of :data:`FIELDS`.
        rejected: The invalid messages.
        dropped: Why messages were dropped although the answer is 200, or None.
    """

    count: int = 0
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    rejected: list[RejectedMessage] = field(default_factory=list)
    dropped: str | None = None


def _parse(path: str, body: bytes, refused_users: frozenset[str]) -> _ParsedBody:
    parsed = _ParsedBody()
    if len(body) > api_facts.MAX_REQUEST_BYTES:
        parsed.dropped = f"the body has {len(body)} bytes, more than {api_facts.MAX_REQUEST_BYTES}"
        return parsed
    call, raw_messages, batch = path.removeprefix("/"), [msgspec.Raw(body)], None
    if call == _BATCH:
        if (rows := read_rows(body, refused_users)) is not None:
            return _ParsedBody(count=len(rows), rows=rows)
        try:
            batch = read_batch(body)
        except (ValueError, RecursionError) as error:
            raise _RequestError(400, str(error)) from error
        raw_messages = batch.batch
    parsed.count = len(raw_messages)
    for position, raw in enumerate(raw_messages):
        try:
            message = read_message(raw, None if batch else call)
            if message.user_id in refused_users:
                raise ValueError("userId is refused")  # noqa: TRY301
        except (ValueError, RecursionError) as error:
            excerpt = bytes(raw)[:_EXCERPT_BYTES].decode(errors="replace")
            parsed.rejected.append(RejectedMessage(position, str(error), excerpt))
            continue
        if memoryview(raw).nbytes > api_facts.MAX_MESSAGE_BYTES:
            parsed.dropped = f"a message has more than {api_facts.MAX_MESSAGE_BYTES} bytes"
            continue
        if batch is not None:
            # The batch's own fields apply to every message that does not set them.
            message.context = batch.context if message.context is None else message.context
            if message.integrations is None:
                message.integrations = batch.integrations
        parsed.rows.append(_row(message))
    return parsed


def _errors(path: str, parsed: _ParsedBody, policy: Policy) -> list[str]:
    if path != f"/{_BATCH}":
        return [item.reason for item in parsed.rejected]
    if not policy.name_bad:
        return ["the batch contains invalid messages"]
    return [f"batch[{item.position}]: {item.reason}" for item in parsed.rejected]


def _row(message: Message) -> tuple[Any, ...]:
    fields = message_fields(message)
    moment = fields["timestamp"]
    fields["timestamp"] = None if moment is None else _utc(moment)
    return tuple(
        value if value is None or isinstance(value, str) else _to_json(value)
        for value in map(fields.get, FIELDS)
    )


def _utc(moment: datetime) -> str:
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:  # within hours of the year 1 or 9999
        moment = moment.replace(tzinfo=UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _to_json(value: Any) -> str:
    return _encode(value).decode()

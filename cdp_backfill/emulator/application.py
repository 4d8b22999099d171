"""The calls of the Pipelines API, as a Starlette application."""

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

from cdp_backfill.emulator.fast_path import rows_of
from cdp_backfill.emulator.faults import FaultInjector, Faults
from cdp_backfill.emulator.models import CALLS, Message, read_batch, read_message, values
from cdp_backfill.emulator.openapi import description
from cdp_backfill.emulator.overview import Overview
from cdp_backfill.emulator.store import FIELDS, Call, Rejected, Store
from cdp_backfill.model import api_facts

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_BODY_BYTES: Final = 16 * api_facts.MAX_REQUEST_BYTES
"""Bytes of a body that the box reads at all, compressed or inflated."""

_BATCH: Final = api_facts.BATCH_PATH.removeprefix("/")
_BEGINNING: Final = 500  # bytes of a rejected message that are kept, to know it by

Connections = dict[tuple[Any, ...], asyncio.Transport]

_encode = msgspec.json.encode


class _Refused(Exception):  # noqa: N818  # an answer, not an error
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Policy:
    """What the box does where nothing is documented.

    Attributes:
        name_bad: A 400 for a batch says which of its messages are bad, and why; else only that
            some are. True by default. [?]
        keep_rest: The good messages of a batch with bad ones are kept; else none. False by
            default, which a sender must be able to cope with. [?]
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
        store: Where accepted messages go.
        api_key: The key that it takes.
        injector: What it does wrong on purpose.
        connections: The open connections by their client, to be able to break them.
        policy: What it does where nothing is documented.
    """
    calls = _Calls(store, api_key, injector, connections, policy)
    overview = Overview(store, injector)
    described = description()

    async def openapi(_: Request) -> Response:
        return JSONResponse(described)

    return Starlette(
        routes=[
            *(Route(f"/v1/{call}", calls.call, methods=["POST"]) for call in (*CALLS, _BATCH)),
            Route("/health", calls.health),
            Route("/ready", calls.ready),
            Route("/faults", calls.faults, methods=["GET", "PUT"]),
            Route("/openapi.json", openapi),
            Route("/overview.json", overview.data),
            Route("/", overview.page),
        ],
        exception_handlers={404: calls.missing, 405: calls.missing},
    )


class _Calls:
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
        """Any of the seven calls, with whatever goes wrong on purpose."""
        fate = self._injector.fate()
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
                return await _turned_away(request, fate.status, self._injector.faults.retry_after)
            response = await self._answer(request, silent=fate.silent)
        except ClientDisconnect:  # whoever asked has gone
            return Response()
        return _broken(client) if fate.reset_after else response

    async def _answer(self, request: Request, *, silent: bool) -> Response:
        path = request.url.path.removeprefix("/v1")
        strict = request.headers.get(api_facts.STRICT_HEADER[0]) == api_facts.STRICT_HEADER[1]
        size, status, errors = 0, 200, list[str]()
        found = _Found()
        try:
            _check_key(request, self._api_key)
            _check_type(request)
            body = await _body(request)
            size = len(body)
            found = _read(path, body, self._injector.faults.refuse_users)
            if silent:
                found = _Found(count=found.count, dropped="dropped in silence")
            elif found.bad:
                status, errors = 400, _errors(path, found, self._policy)
                if not self._policy.keep_rest:
                    found.kept = []
        except _Refused as refused:
            status, errors = refused.status, [str(refused)]
        # What cannot be read at all is an error in both modes.
        answer = status if strict or status not in (400, 401) else 200
        reason = found.dropped or "; ".join(errors) or None
        received = datetime.now(UTC).isoformat(timespec="milliseconds")
        call = Call(received, path, strict, answer, size, found.count, reason)
        self._store.add(call, found.kept, found.bad)
        if answer != 200:  # noqa: PLR2004
            return JSONResponse({"meta": {"errors": errors}}, answer)
        return JSONResponse({})

    async def faults(self, request: Request) -> Response:
        """What goes wrong on purpose: to be read, and to be set."""
        if request.method == "PUT":
            try:
                self._injector.faults = msgspec.json.decode(await request.body(), type=Faults)
            except ValueError as error:
                return JSONResponse({"meta": {"errors": [str(error)]}}, 400)
        return Response(_encode(self._injector.faults), media_type="application/json")

    async def health(self, _: Request) -> Response:
        """That it lives."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """That it can take calls: its database answers."""
        self._store.sql("SELECT 1")
        return JSONResponse({"status": "ready"})

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


def _check_key(request: Request, api_key: str) -> None:
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    # The vendor's Python SDK sends keys of one form in this way. [K]
    if scheme.lower() == "bearer" and hmac.compare_digest(credentials.encode(), api_key.encode()):
        return
    try:
        user, _, password = base64.b64decode(credentials, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        user = password = b""
    if scheme.lower() != "basic" or password or not hmac.compare_digest(user, api_key.encode()):
        raise _Refused(401, "the API key is not valid")


def _check_type(request: Request) -> None:
    kind = request.headers.get("Content-Type", "application/json").partition(";")[0].strip()
    if kind.lower() not in ("application/json", "text/plain"):
        raise _Refused(415, "Content-Type must be application/json")


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


@dataclass(slots=True)
class _Found:
    """What is in a body.

    Attributes:
        count: Messages in it.
        kept: Those that are valid, as the store takes them.
        bad: Those that are not.
        dropped: Why something was left out that is answered 200 all the same.
    """

    count: int = 0
    kept: list[tuple[Any, ...]] = field(default_factory=list)
    bad: list[Rejected] = field(default_factory=list)
    dropped: str | None = None


def _read(path: str, body: bytes, refused: frozenset[str]) -> _Found:
    found = _Found()
    if len(body) > api_facts.MAX_REQUEST_BYTES:
        found.dropped = f"the body has {len(body)} bytes, more than {api_facts.MAX_REQUEST_BYTES}"
        return found
    call, parts, shared = path.removeprefix("/"), [msgspec.Raw(body)], None
    if call == _BATCH:
        if (kept := rows_of(body, refused)) is not None:
            return _Found(count=len(kept), kept=kept)
        try:
            shared = read_batch(body)
        except (ValueError, RecursionError) as error:
            raise _Refused(400, str(error)) from error
        parts = shared.batch
    found.count = len(parts)
    for position, raw in enumerate(parts):
        try:
            message = read_message(raw, None if shared else call)
            if message.user_id in refused:
                raise ValueError("userId is refused")  # noqa: TRY301
        except (ValueError, RecursionError) as error:
            beginning = bytes(raw)[:_BEGINNING].decode(errors="replace")
            found.bad.append(Rejected(position, str(error), beginning))
            continue
        if memoryview(raw).nbytes > api_facts.MAX_MESSAGE_BYTES:
            found.dropped = f"a message has more than {api_facts.MAX_MESSAGE_BYTES} bytes"
            continue
        if shared is not None:
            # What stands at the top goes for every message that has none of its own.
            message.context = shared.context if message.context is None else message.context
            if message.integrations is None:
                message.integrations = shared.integrations
        found.kept.append(_row(message))
    return found


def _errors(path: str, found: _Found, policy: Policy) -> list[str]:
    if path != f"/{_BATCH}":
        return [item.reason for item in found.bad]
    if not policy.name_bad:
        return ["the batch holds messages that are not valid"]
    return [f"batch[{item.position}]: {item.reason}" for item in found.bad]


def _row(message: Message) -> tuple[Any, ...]:
    given = values(message)
    moment = given["timestamp"]
    given["timestamp"] = None if moment is None else _utc(moment)
    return tuple(
        value if value is None or isinstance(value, str) else _text(value)
        for value in map(given.get, FIELDS)
    )


def _utc(moment: datetime) -> str:
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:  # within hours of the first or last year there is
        moment = moment.replace(tzinfo=UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _text(value: Any) -> str:
    return _encode(value).decode()

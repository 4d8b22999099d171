"""The endpoints of the Pipelines API, as a Starlette application."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cdp_backfill.emulator.faults import FaultInjector, Faults
from cdp_backfill.emulator.models import CALLS
from cdp_backfill.emulator.openapi import description
from cdp_backfill.emulator.overview import Overview
from cdp_backfill.emulator.own_pages import OwnPagesOnly
from cdp_backfill.emulator.parsing import BATCH, ParsedBody, UnreadableBodyError, parse
from cdp_backfill.emulator.request_body import RefusedRequestError, read_body
from cdp_backfill.emulator.store import ReceivedRequest, Store
from cdp_backfill.model import api_facts

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.requests import Request

    from cdp_backfill.emulator.policy import Policy

PATHS: Final = {
    **{call: call for call in (*CALLS, BATCH)},
    **{short.strip("/"): path.strip("/") for short, path in api_facts.SHORT_PATHS.items()},
}
"""The call at each path below ``/v1``."""

Connections = dict[tuple[Any, ...], asyncio.Transport]

_encode = msgspec.json.encode


def application(
    store: Store,
    api_key: str,
    injector: FaultInjector,
    connections: Connections,
    policy: Policy,
    *,
    hosts: Collection[str] = (),
) -> Starlette:
    """Make the application.

    Args:
        store: Stores requests and messages.
        api_key: The key that it accepts.
        injector: Injects faults.
        connections: The open connections by client, so that a fault can break them.
        policy: What to do where the API is not documented.
        hosts: Names under which its page may be opened, besides ``localhost`` and addresses.
    """
    endpoints = _Endpoints(store, api_key, injector, connections, policy)
    overview = Overview(store, injector)
    openapi_description = description(policy)

    async def openapi(_: Request) -> Response:
        return JSONResponse(openapi_description)

    return Starlette(
        middleware=[Middleware(OwnPagesOnly, hosts=hosts)],
        routes=[
            *(Route(f"/v1/{path}", endpoints.call, methods=["POST"]) for path in PATHS),
            Route("/health", endpoints.health),
            Route("/ready", endpoints.ready),
            Route("/faults", endpoints.faults, methods=["GET", "PUT"]),
            Route("/openapi.json", openapi),
            Route("/overview.json", overview.data),
            Route("/messages/{number:int}", overview.message),
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
        """Answer any of the seven calls, at either of its paths, with injected faults."""
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
        call = PATHS[path.removeprefix("/")]
        strict = request.headers.get(api_facts.STRICT_HEADER[0]) == api_facts.STRICT_HEADER[1]
        size, status, errors = 0, 200, list[str]()
        parsed = ParsedBody()
        received = datetime.now(UTC)
        try:
            body = await read_body(request, self._api_key)
            size, received = len(body), datetime.now(UTC)
            refused_users = self._injector.faults.refuse_users
            parsed = parse(call, body, refused_users, self._policy, received)
            if silent:
                parsed = ParsedBody(count=parsed.count, dropped="dropped by the fault 'silent'")
            elif parsed.rejected:
                status, errors = 400, _errors(call, parsed, self._policy)
                if not self._policy.keep_rest:
                    parsed.rows = []
        except RefusedRequestError as error:
            status, errors = error.status, [str(error)]
        except UnreadableBodyError as error:
            status, errors = 400, [str(error)]
        # An unreadable body is an error in both modes.
        answer = status if strict or status not in (400, 401) else 200
        reason = parsed.dropped or "; ".join(errors) or None
        moment = received.isoformat(timespec="milliseconds")
        record = ReceivedRequest(moment, path, strict, answer, size, parsed.count, reason)
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


def _errors(call: str, parsed: ParsedBody, policy: Policy) -> list[str]:
    if call != BATCH:
        return [item.reason for item in parsed.rejected]
    if not policy.name_bad:
        return ["the batch contains invalid messages"]
    return [f"batch[{item.position}]: {item.reason}" for item in parsed.rejected]

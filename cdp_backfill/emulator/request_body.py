"""Reads the body of a request whose key is right."""

from __future__ import annotations

import base64
import binascii
import hmac
import zlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cdp_backfill.emulator.models import WRITE_KEY
from cdp_backfill.model import api_facts

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_BODY_BYTES: Final = 16 * api_facts.MAX_REQUEST_BYTES
"""Most bytes of a body that the emulator reads, compressed or decompressed."""


BODY_TYPES: Final = ("application/json", "text/plain")
"""Content types of a body; the browser's SDK sends the second. [K]"""


class RefusedRequestError(Exception):
    """The request as a whole is wrong: answer with this status and reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


async def read_body(request: Request, api_key: str) -> bytes:
    """Check the key and the headers, and read the body.

    The key is in the Authorization header. If there is none, it is in the body, as ``writeKey``.

    Args:
        request: The request.
        api_key: The key that is right.

    Returns:
        The body, decompressed.

    Raises:
        RefusedRequestError: The key is wrong, or the body is not as the headers say.
    """
    authorization = request.headers.get("Authorization")
    if authorization and not _is_key_in_header(authorization, api_key):
        raise RefusedRequestError(401, _WRONG_KEY)
    _check_type(request)
    body = await _decompressed(request)
    if not authorization and not _is_key_in_body(body, api_key):
        raise RefusedRequestError(401, _WRONG_KEY)
    return body


_WRONG_KEY: Final = "the API key is not valid"


class _Body(msgspec.Struct):
    key: Any = msgspec.field(default=None, name=WRITE_KEY)


_decode: Final = msgspec.json.Decoder(_Body).decode


def _is_key_in_header(authorization: str, api_key: str) -> bool:
    scheme, _, credentials = authorization.partition(" ")
    # The vendor's Python SDK sends one form of key this way. [K]
    if scheme.lower() == "bearer" and hmac.compare_digest(credentials.encode(), api_key.encode()):
        return True
    try:
        user, _, password = base64.b64decode(credentials, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return False
    right = hmac.compare_digest(user, api_key.encode())
    return scheme.lower() == "basic" and not password and right


def _is_key_in_body(body: bytes, api_key: str) -> bool:
    try:
        key = _decode(body).key
    except (ValueError, RecursionError):
        return False
    return isinstance(key, str) and hmac.compare_digest(key.encode(), api_key.encode())


def _check_type(request: Request) -> None:
    kind = request.headers.get("Content-Type", "application/json").partition(";")[0].strip()
    if kind.lower() not in BODY_TYPES:
        raise RefusedRequestError(415, "Content-Type must be application/json")


async def _decompressed(request: Request) -> bytes:
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise RefusedRequestError(415, "Content-Encoding must be gzip or nothing")
    decompressor = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
    parts: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        try:
            part = decompressor.decompress(chunk, MAX_BODY_BYTES) if decompressor else chunk
        except zlib.error as error:
            raise RefusedRequestError(400, "the body is not gzip") from error
        parts.append(part)
        size += len(part)
        if size >= MAX_BODY_BYTES or (decompressor and decompressor.unconsumed_tail):
            raise RefusedRequestError(413, "the body is too large to be read")
    if decompressor and not decompressor.eof:
        raise RefusedRequestError(400, "the body is not gzip")
    return b"".join(parts)

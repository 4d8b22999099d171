"""One connection to the server, and the answers that it gives."""

from __future__ import annotations

import base64
import errno
import html
import json
import re
import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx
from isal import igzip

from cdp_backfill.delivery.masking import KeyMask
from cdp_backfill.delivery.wire import Wire, WireBackend, is_one_answer
from cdp_backfill.model import api_facts
from cdp_backfill.model.environment import package_version
from cdp_backfill.model.secret import Secret
from cdp_backfill.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cdp_backfill.model.destination import Destination

_MAX_BODY_BYTES: Final = 65_536
_KEEPALIVE_SECONDS: Final = 5.0  # without a request, before a connection is closed
_MAX_REASON: Final = 300
_TAGS: Final = re.compile(
    r"<(script|style)\b(?:(?!</\1>).)*+(?:</\1>)?|<[^<>]*+>", re.DOTALL | re.IGNORECASE
)
"""Scripts, styles and tags. No text makes it look at a part of it more than once."""

_CUT: Final = 4_096
"""Bytes at the end of a body beyond the limit that may be a part of a key."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the server.

    Attributes:
        status: HTTP status.
        reason: The server's reason for an error, at most 300 characters, or empty.
        retry_after: The header ``Retry-After``, or None.
        unclear: The status is a success, but the body is not a JSON object: a login page, say.
    """

    status: int
    reason: str = ""
    retry_after: str | None = None
    unclear: bool = False


class NotSentError(Exception):
    """The server cannot have received the whole request.

    Args:
        text: What happened.
        reached: False if there is no such host, or nothing accepts connections at its address.
        exhausted: This process can open no further connection.
    """

    def __init__(self, text: str, *, reached: bool = True, exhausted: bool = False) -> None:
        super().__init__(text)
        self.reached = reached
        self.exhausted = exhausted


class NoAnswerError(Exception):
    """The request was sent and no answer came: the server may have accepted it."""


class Transport(Protocol):
    """A connection to the server; used by one thread at a time."""

    def post(self, body: bytes) -> Answer:
        """Send a compressed body and return the answer.

        Raises:
            NotSentError: The server cannot have received the whole request.
            NoAnswerError: The server may have accepted the request.
        """
        ...

    def close(self) -> None:
        """Close the connection, even while a request is in flight."""
        ...


def compress(body: bytes) -> bytes:
    """Compress with gzip at the fastest level, which reaches about 7:1 on such JSON."""
    return igzip.compress(body, compresslevel=1)


class _BasicAuth:
    """Basic authentication that keeps the key out of every variable that a traceback can show.

    Args:
        key: The key, or None for none.
    """

    def __init__(self, key: Secret | None) -> None:
        self._key = key or Secret("")

    def sign(self, request: httpcore.Request) -> None:
        """Add the ``Authorization`` header to a request."""
        request.headers.append((b"Authorization", f"Basic {self._encoded()}".encode()))

    def _encoded(self) -> str:
        return base64.b64encode(f"{self._key.reveal()}:".encode()).decode()


class HttpTransport:
    """HTTP through httpcore, with one connection that stays open.

    Args:
        destination: The server, with an API key.
        tls: Shared by all transports of a run, since making one takes milliseconds.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self,
        destination: Destination,
        tls: ssl.SSLContext,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._auth = _BasicAuth(destination.api_key)
        self._mask = KeyMask(destination.api_key)
        url = httpx.URL(destination.url + api_facts.BATCH_PATH)
        self._url = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        self._headers = [
            ("Host", url.netloc.decode()),
            ("Accept", "application/json"),
            ("Accept-Encoding", "identity"),
            ("Content-Type", "application/json"),
            ("Content-Encoding", "gzip"),
            ("User-Agent", f"cdp-backfill/{package_version()}"),
        ]
        if destination.strict:
            self._headers.append(api_facts.STRICT_HEADER)
        self._connect_timeout = min(10.0, destination.answer_timeout)
        self._wire = Wire(destination.answer_timeout, clock)
        # A proxy from the environment cannot reach a server on this machine.
        proxy = None if destination.is_local else environment_proxy(destination.url)
        # No httpx.Client: its cookies, redirects and models are of no use here and double the cost.
        self._pool = _pool(proxy, tls, WireBackend(self._wire))

    def post(self, body: bytes) -> Answer:
        """Send a compressed body and return the answer."""
        self._wire.start(self._connect_timeout)
        answer = self._exchange(body)
        if isinstance(answer, Exception):
            # Raised here, outside the handler of httpcore's error: its traceback holds the headers.
            raise answer
        return answer

    def _exchange(self, body: bytes) -> Answer | Exception:
        """The answer, or the error to raise."""
        wire, content = self._wire, b""
        request = httpcore.Request(
            "POST",
            self._url,
            headers=[*self._headers, ("Content-Length", str(len(body)))],
            content=body,
            extensions={"timeout": {"connect": self._connect_timeout, "pool": 0.0}},
        )
        self._auth.sign(request)
        try:
            response = self._pool.handle_request(request)
            try:
                content, is_whole = _read(response)
            finally:
                response.close()
        except Exception as error:  # noqa: BLE001  # after any error but these it may have arrived
            # Such as RuntimeError: another thread closed the connection meanwhile.
            return self._failure(error)
        status = response.status
        succeeded = status // 100 == 2  # noqa: PLR2004
        if is_whole and not is_one_answer(bytes(wire.received), content):
            self._drop_connection()
            return NoAnswerError("bytes behind the answer")
        if succeeded and (wire.early or wire.broken):
            self._drop_connection()
            return NoAnswerError("an answer before the end of the request")
        retry_after = [value for name, value in response.headers if name.lower() == b"retry-after"]
        return Answer(
            status,
            "" if succeeded else error_reason(content if is_whole else content[:-_CUT], self._mask),
            retry_after[0].decode("latin-1") if retry_after else None,
            unclear=succeeded and not _is_json_object(content),
        )

    def _failure(self, error: Exception) -> Answer | Exception:
        """What an error means: the answer of a proxy, or the error to raise."""
        kinds = (*_NOT_SENT, httpcore.ProxyError)
        if not (isinstance(error, kinds) or self._wire.broken):
            return NoAnswerError(_error_name(error))
        # The text of a failed connection is about the network, never about a row.
        told = isinstance(error, httpcore.ConnectError | httpcore.ProxyError) and str(error)
        if isinstance(error, httpcore.ProxyError) and str(error).startswith("407"):
            return Answer(407)
        text = _error_name(error) + (f": {printable(str(error))[:_MAX_REASON]}" if told else "")
        return NotSentError(
            text,
            reached=not _is_unreachable(error),
            exhausted=any(getattr(cause, "errno", 0) in _EXHAUSTED for cause in _causes(error)),
        )

    def _drop_connection(self) -> None:
        """Close the connection: what is left on it would pass for the next answer."""
        for connection in self._pool.connections:
            connection.close()

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()


_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)

_NOT_SENT: Final = (
    httpcore.ConnectError,
    httpcore.ConnectTimeout,
    httpcore.PoolTimeout,
    httpcore.WriteError,  # the server lacks the end of the body
    httpcore.WriteTimeout,
    httpcore.UnsupportedProtocol,
    httpcore.LocalProtocolError,
)


def _pool(
    proxy_url: str | None, tls: ssl.SSLContext, backend: httpcore.NetworkBackend
) -> httpcore.ConnectionPool:
    """A pool with one connection."""
    options: dict[str, Any] = {
        "ssl_context": tls,
        "max_connections": 1,
        "keepalive_expiry": _KEEPALIVE_SECONDS,
        "network_backend": backend,
    }
    if proxy_url is None:
        return httpcore.ConnectionPool(**options)
    proxy = httpx.Proxy(proxy_url)
    parts = proxy.url
    url = httpcore.URL(
        scheme=parts.raw_scheme, host=parts.raw_host, port=parts.port, target=parts.raw_path
    )
    options |= {"proxy_url": url, "proxy_auth": proxy.raw_auth}
    if parts.scheme.startswith("socks"):
        return httpcore.SOCKSProxy(**options)
    return httpcore.HTTPProxy(**options)


def environment_proxy(url: str) -> str | None:
    """The proxy that the environment or the system sets for an address, or None."""
    parts = urlsplit(url)
    if not parts.hostname or proxy_bypass(parts.hostname):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def tls_context() -> ssl.SSLContext:
    """The TLS settings that all connections of a run share."""
    return httpx.create_ssl_context()


def error_reason(body: bytes, mask: KeyMask | None = None) -> str:
    """The reason in the body of an error, on one line and at most 300 characters long.

    Args:
        body: JSON, HTML or plain text.
        mask: Replaces the key, which some servers repeat.

    >>> error_reason(b'{"meta": {"errors": ["userId is required"]}}')
    'userId is required'
    """
    text = body.decode(json.detect_encoding(body), "replace")
    try:
        text = "; ".join(_texts(json.loads(text)))
    except (ValueError, RecursionError):
        text = html.unescape(_TAGS.sub(" ", text))
    if mask is not None:
        text = mask.apply(text)
    text = printable(" ".join(text.split()))
    return text if len(text) <= _MAX_REASON else text[: _MAX_REASON - 1] + "…"


def _texts(value: Any) -> list[str]:
    """The texts in ``meta.errors``, as documented, or else all texts."""
    if isinstance(value, dict):
        meta = value.get("meta")
        if isinstance(meta, dict) and meta.get("errors"):
            return _texts(meta["errors"])
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


def _read(response: httpcore.Response) -> tuple[bytes, bool]:
    """The body up to a limit, and whether it ends there."""
    content = b""
    for part in response.iter_stream():
        content += part
        if len(content) > _MAX_BODY_BYTES:
            return content[:_MAX_BODY_BYTES], False
    return content, True


def _is_json_object(content: bytes) -> bool:
    try:
        return isinstance(json.loads(content), dict)
    except (ValueError, RecursionError):
        return False


def _is_unreachable(error: BaseException | None) -> bool:
    """Whether a host is unknown, refuses connections, or is not the one of its certificate."""
    kinds = (socket.gaierror, ConnectionRefusedError, ssl.SSLCertVerificationError)
    return any(isinstance(cause, kinds) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what it comes from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _error_name(error: Exception) -> str:
    """The type of an error, without its text, which can hold addresses."""
    return type(error).__name__

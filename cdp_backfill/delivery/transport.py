"""One connection to the server, and the answers that it gives."""

from __future__ import annotations

import base64
import html
import json
import re
import socket
import ssl
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
from isal import igzip

from cdp_backfill.model import api_facts
from cdp_backfill.model.secret import Secret

if TYPE_CHECKING:
    from cdp_backfill.model.destination import Destination

_MAX_ANSWER_BYTES: Final = 65_536
_MAX_REASON: Final = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the server.

    Attributes:
        status: HTTP status.
        reason: The server's reason for an error, at most 300 characters, or empty.
        retry_after: The header ``Retry-After``, or None.
        unexpected_body: The status is a success, but the body is not JSON: a login page, say.
    """

    status: int
    reason: str = ""
    retry_after: str | None = None
    unexpected_body: bool = False


class NotSentError(Exception):
    """The server cannot have received the whole request.

    Args:
        text: What happened.
        reached: False if there is no such host, or nothing accepts connections at its address.
    """

    def __init__(self, text: str, *, reached: bool = True) -> None:
        super().__init__(text)
        self.reached = reached


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

    def sign(self, request: httpx.Request) -> None:
        """Add the ``Authorization`` header to a request."""
        request.headers["Authorization"] = f"Basic {self._encoded()}"

    def _encoded(self) -> str:
        return base64.b64encode(f"{self._key.reveal()}:".encode()).decode()

    def secrets(self) -> tuple[Secret, ...]:
        """All forms of the key that a server could send back."""
        if not self._key:
            return ()
        return Secret(self._encoded()), Secret(self._encoded().rstrip("=")), self._key


class HttpTransport:
    """HTTP through httpx, with one connection that stays open.

    Args:
        destination: The server, with an API key.
        tls: Shared by all transports of a run, since making one takes milliseconds.
    """

    def __init__(self, destination: Destination, tls: ssl.SSLContext) -> None:
        self._auth = _BasicAuth(destination.api_key)
        self._secrets = self._auth.secrets()
        self._url = httpx.URL(destination.url + api_facts.BATCH_PATH)
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
            "User-Agent": f"cdp-backfill/{version('cdp-backfill')}",
        }
        if destination.strict:
            headers[api_facts.STRICT_HEADER[0]] = api_facts.STRICT_HEADER[1]
        self._headers = httpx.Headers(headers)
        timeout = httpx.Timeout(destination.timeout, connect=min(10.0, destination.timeout))
        self._extensions = {"timeout": timeout.as_dict()}
        # No httpx.Client: its cookies and redirects are of no use here and double the cost.
        self._transport = httpx.HTTPTransport(
            verify=tls,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
            # A proxy from the environment cannot reach a server on this machine.
            proxy=None if destination.is_local else environment_proxy(destination.url),
        )

    def post(self, body: bytes) -> Answer:
        """Send a compressed body and return the answer."""
        response = self._request(body)
        if isinstance(response, Exception):
            # Raised here, outside the handler of httpx's error: its traceback holds the headers.
            raise response
        try:
            content = _read(response)
        finally:
            response.close()
        return Answer(
            response.status_code,
            "" if response.is_success else error_reason(content, self._secrets),
            response.headers.get("Retry-After"),
            unexpected_body=response.is_success and content.strip()[:1] not in (b"", b"{", b"["),
        )

    def _request(self, body: bytes) -> httpx.Response | Exception:
        """The response, or the error to raise."""
        request = httpx.Request(
            "POST", self._url, headers=self._headers, content=body, extensions=self._extensions
        )
        self._auth.sign(request)
        try:
            return self._transport.handle_request(request)
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.WriteError,  # the server lacks the end of the body
            httpx.WriteTimeout,
            httpx.ProxyError,
            httpx.UnsupportedProtocol,
            httpx.LocalProtocolError,
        ) as error:
            # The text of a failed connection is about the network, never about a row.
            cause = f": {error}" if isinstance(error, httpx.ConnectError) and str(error) else ""
            return NotSentError(_error_name(error) + cause, reached=not _is_unreachable(error))
        except Exception as error:  # noqa: BLE001  # after any other error it may have arrived
            # Such as RuntimeError: another thread closed the connection meanwhile.
            return NoAnswerError(_error_name(error))

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


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


def error_reason(body: bytes, secrets: tuple[Secret, ...] = ()) -> str:
    """The reason in the body of an error, on one line and at most 300 characters long.

    Args:
        body: JSON, HTML or plain text.
        secrets: Texts that are replaced by ``***``.

    >>> error_reason(b'{"meta": {"errors": ["userId is required"]}}')
    'userId is required'
    """
    text = body.decode("utf-8", "replace")
    for secret in secrets:  # some servers repeat the key
        text = text.replace(secret.reveal(), "***")
    try:
        text = "; ".join(_texts(json.loads(text)))
    except (ValueError, RecursionError):
        text = html.unescape(re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL))
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
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


def _read(response: httpx.Response) -> bytes:
    parts, size = [], 0
    try:
        for part in response.iter_bytes():
            parts.append(part)
            size += len(part)
            if size >= _MAX_ANSWER_BYTES:
                break
    except (httpx.HTTPError, RuntimeError, OSError):
        pass  # the status has arrived, and the body is optional
    return b"".join(parts)[:_MAX_ANSWER_BYTES]


def _is_unreachable(error: BaseException | None) -> bool:
    """Whether a host is unknown, refuses connections, or is not the one of its certificate."""
    kinds = (socket.gaierror, ConnectionRefusedError, ssl.SSLCertVerificationError)
    while error is not None:
        if isinstance(error, kinds):
            return True
        error = error.__cause__ or error.__context__
    return False


def _error_name(error: Exception) -> str:
    """The type of an error, without its text, which can hold addresses."""
    return type(error).__name__

"""One connection to the server, and what can come back over it."""

from __future__ import annotations

import base64
import html
import json
import re
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
    import ssl

    from cdp_backfill.model.destination import Destination

_MAX_ANSWER_BYTES: Final = 65_536
_MAX_WORDS: Final = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said.

    Attributes:
        status: HTTP status.
        words: Its reason, shortened, or nothing.
        retry_after: The header of that name, or None.
        foreign: It is a success with a body that the API would not send, such as a login page.
    """

    status: int
    words: str = ""
    retry_after: str | None = None
    foreign: bool = False


class NotSentError(Exception):
    """The server cannot have the whole request."""


class NoAnswerError(Exception):
    """The request left, and no answer came: the server may have it."""


class Transport(Protocol):
    """A way to the server; used by one thread at a time."""

    def post(self, body: bytes) -> Answer:
        """Send a compressed body.

        Raises:
            NotSentError: The server cannot have it.
            NoAnswerError: The server may have it.
        """
        ...

    def close(self) -> None:
        """Give the connection up, even while a request is under way."""
        ...


def compress(body: bytes) -> bytes:
    """Gzip at the level that costs least time; it is about 7:1 on such JSON."""
    return igzip.compress(body, compresslevel=1)


class _Key:
    """Basic authentication whose key is in no variable that a traceback could show.

    Args:
        key: The key, or None for none.
    """

    def __init__(self, key: Secret | None) -> None:
        self._key = key or Secret("")

    def sign(self, request: httpx.Request) -> None:
        """Put the key on a request."""
        request.headers["Authorization"] = f"Basic {self._encoded()}"

    def _encoded(self) -> str:
        return base64.b64encode(f"{self._key.reveal()}:".encode()).decode()

    def secrets(self) -> tuple[Secret, ...]:
        """All forms in which it could come back."""
        if not self._key:
            return ()
        return Secret(self._encoded()), Secret(self._encoded().rstrip("=")), self._key


class HttpTransport:
    """HTTP through httpx, with one connection that is kept open.

    Args:
        destination: Where to, with a key.
        tls: Shared by all transports of a run: making one takes milliseconds.
    """

    def __init__(self, destination: Destination, tls: ssl.SSLContext) -> None:
        self._key = _Key(destination.api_key)
        self._secrets = self._key.secrets()
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
        # Without a client around it: cookies, redirects and the like are not for an API, and
        # cost as much again.
        self._transport = httpx.HTTPTransport(
            verify=tls,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
            # A proxy that the environment names does not lead to this machine.
            proxy=None if destination.is_local else environment_proxy(destination.url),
        )

    def post(self, body: bytes) -> Answer:
        """Send a compressed body."""
        response = self._sent(body)
        if isinstance(response, Exception):
            # Not while the error of the library is handled: its traceback holds the headers.
            raise response
        try:
            text = _read(response)
        finally:
            response.close()
        return Answer(
            response.status_code,
            "" if response.is_success else words(text, self._secrets),
            response.headers.get("Retry-After"),
            foreign=response.is_success and text.strip()[:1] not in (b"", b"{", b"["),
        )

    def _sent(self, body: bytes) -> httpx.Response | Exception:
        """The response, or what went wrong."""
        request = httpx.Request(
            "POST", self._url, headers=self._headers, content=body, extensions=self._extensions
        )
        self._key.sign(request)
        try:
            return self._transport.handle_request(request)
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.WriteError,  # the end of the body never left, so it cannot be read as a whole
            httpx.WriteTimeout,
            httpx.ProxyError,
            httpx.UnsupportedProtocol,
            httpx.LocalProtocolError,
        ) as error:
            # What a failed connection says is of the network, not of a row.
            cause = f": {error}" if isinstance(error, httpx.ConnectError) and str(error) else ""
            return NotSentError(_named(error) + cause)
        except Exception as error:  # noqa: BLE001  # whatever the library raises, it may have left
            # RuntimeError, for one: closed by another thread while the request was under way.
            return NoAnswerError(_named(error))

    def close(self) -> None:
        """Give the connection up."""
        self._transport.close()


def environment_proxy(url: str) -> str | None:
    """The proxy that the environment, or the system, names for an address."""
    parts = urlsplit(url)
    if not parts.hostname or proxy_bypass(parts.hostname):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def tls_context() -> ssl.SSLContext:
    """What all connections of a run share."""
    return httpx.create_ssl_context()


def words(body: bytes, secrets: tuple[Secret, ...] = ()) -> str:
    """The reason that a server gives in the body of an error, whatever shape it has.

    >>> words(b'{"meta": {"errors": ["userId is required"]}}')
    'userId is required'
    """
    text = body.decode("utf-8", "replace")
    for secret in secrets:  # some servers repeat what they were sent
        text = text.replace(secret.reveal(), "***")
    try:
        text = "; ".join(_texts(json.loads(text)))
    except (ValueError, RecursionError):
        text = html.unescape(re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL))
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _MAX_WORDS else text[: _MAX_WORDS - 1] + "…"


def _texts(value: Any) -> list[str]:
    """``meta.errors`` of the documented shape, or else every text in it."""
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
        pass  # the status has come, and that is what counts
    return b"".join(parts)[:_MAX_ANSWER_BYTES]


def _named(error: Exception) -> str:
    """The kind of an error; its text could hold addresses."""
    return type(error).__name__

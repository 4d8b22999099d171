"""What goes over a connection: within a deadline and a size, and recorded to be checked."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any, Final

import h11
import httpcore

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

MAX_ANSWER_BYTES: Final = 262_144
"""Most bytes of an answer, head included; the API's has two."""

_PIECE: Final = 65_536  # bytes that are written before the time is looked at again


class Wire:
    """The bytes of one connection: sends in time, and records what comes back.

    The time for an answer begins anew with each write, so it counts from the end of the request.

    Args:
        answer_timeout: Seconds for sending a request, and again for the whole answer.
        clock: Monotonic time in seconds.
    """

    def __init__(self, answer_timeout: float, clock: Callable[[], float]) -> None:
        self._answer_timeout = answer_timeout
        self._clock = clock
        self._send_by = self._answer_by = 0.0
        self.received = bytearray()
        """Bytes that came since the last write."""
        self.begun = False
        """Whether a part of the request was written."""
        self.early = False
        """Whether something came before the whole request was written."""
        self.broken = False
        """Whether the request could not be written to its end."""

    def start(self, connect_timeout: float) -> None:
        """Begin a request.

        Args:
            connect_timeout: Seconds that making a connection may take in addition.
        """
        self._send_by = self._clock() + connect_timeout + self._answer_timeout
        self.received.clear()
        self.begun = self.early = self.broken = False

    def write(self, stream: httpcore.NetworkStream, data: bytes) -> None:
        """Write a part of the request."""
        if _has_data(stream):
            if not self.begun:  # it answers no request, but would pass for an answer to this one
                raise httpcore.ConnectError("the server sent something without a request")
            self.early = True
        self.begun = True
        self.broken = True
        for start in range(0, len(data), _PIECE):
            left = self._send_by - self._clock()
            if left <= 0:
                raise httpcore.WriteTimeout("sending took too long")
            stream.write(data[start : start + _PIECE], timeout=left)
        self.broken = False
        self.received.clear()
        self._answer_by = self._clock() + self._answer_timeout

    def read(self, stream: httpcore.NetworkStream, max_bytes: int) -> bytes:
        """Read a part of the answer."""
        left = self._answer_by - self._clock()
        if left <= 0:
            raise httpcore.ReadTimeout("the answer took too long")
        data = stream.read(max_bytes, timeout=left)
        self.received += data
        if len(self.received) > MAX_ANSWER_BYTES:
            raise httpcore.ReadError("the answer is too long")
        return data


class WireBackend(httpcore.NetworkBackend):
    """Makes connections whose bytes go over a wire."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to a host."""
        stream = self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        return _WireStream(stream, self._wire)


class _WireStream(httpcore.NetworkStream):
    """A connection whose bytes go over a wire."""

    def __init__(self, stream: httpcore.NetworkStream, wire: Wire) -> None:
        self._stream = stream
        self._wire = wire

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._wire.read(self._stream, max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        if buffer:
            self._wire.write(self._stream, buffer)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, timeout)
        return _WireStream(stream, self._wire)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _has_data(stream: httpcore.NetworkStream) -> bool:
    """Whether data can be read now; the end of a connection is none."""
    encrypted = stream.get_extra_info("ssl_object")
    if encrypted is not None:  # below it, there may be messages of TLS itself
        return bool(getattr(encrypted, "pending", int)())
    plain = stream.get_extra_info("socket")
    if not isinstance(plain, socket.socket) or not stream.get_extra_info("is_readable"):
        return False
    with contextlib.suppress(OSError):
        return bool(plain.recv(1, socket.MSG_PEEK))
    return False


def is_one_answer(received: bytes, body: bytes) -> bool:
    r"""Whether the bytes that came are one answer with this body, and nothing else.

    Args:
        received: All bytes, from the first one of the head on.
        body: The body that was read from them.

    >>> is_one_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"{}")
    True
    >>> is_one_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}{}", b"{}")
    False
    """
    if received.partition(b"\r\n\r\n")[2] == body:
        return True
    # With chunks, or behind an answer of 1xx, it takes a parser.
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_ANSWER_BYTES)
    parser.send(h11.Request(method="POST", target="/", headers=[("Host", "x")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(received)
    ended = False
    try:
        while not isinstance(event := parser.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA and not ended:
                parser.receive_data(b"")  # its end is that of the connection
                ended = True
            elif event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
                return False
    except h11.RemoteProtocolError:
        return False
    return not parser.trailing_data[0]

"""What a server, or the way to it, can do wrong with a request."""

from __future__ import annotations

import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import threading

GOOD: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
WHENS: Final = ("before", "after")
"""Whether the server accepts the request before the fault."""
PLACES: Final = ("first", "middle", "last")
"""The row of the table whose request has the fault."""

_DRIP_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault.

    Attributes:
        name: What it is.
        kind: Its kind, for the table of faults.
        data: Bytes that are sent.
        end: What follows: ``keep`` the connection, ``close`` or ``reset`` it, say nothing more
            until the client goes (``silence``), or the bytes one at a time (``drip``).
        denies: The answer says that the request was not accepted.
    """

    name: str
    kind: str
    data: bytes = b""
    end: str = "keep"
    denies: bool = False

    def do(self, connection: socket.socket, closing: threading.Event) -> bool:
        """Do it. Returns whether the connection goes on."""
        if self.end == "drip":
            _drip(connection, self.data, closing)
            return False
        if self.data:
            connection.sendall(self.data)
        if self.end == "silence":
            _wait_for_end(connection, closing)
        elif self.end == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return self.end == "keep"


def _gone(connection: socket.socket) -> bool:
    """Whether the client has closed its end; waits for a moment."""
    connection.settimeout(_DRIP_SECONDS)
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return False
    except OSError:
        return True


def _wait_for_end(connection: socket.socket, closing: threading.Event) -> None:
    while not (closing.is_set() or _gone(connection)):
        pass


def _drip(connection: socket.socket, data: bytes, closing: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while not (closing.is_set() or _gone(connection)):
            connection.sendall(data[:1] or b" ")  # a body that never ends is blank
            data = data[1:]


def head(status: str, *lines: str) -> bytes:
    """The head of an answer."""
    return "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *lines, "")).encode("latin-1")


def answer(status: str, body: bytes = b"{}", *lines: str) -> bytes:
    """An answer with a length."""
    return head(status, f"Content-Length: {len(body)}", *lines) + body


_ERRORS: Final = b'{"meta": {"errors": ["no"]}}'

_STATUSES: Final = {
    "400": ("400 Bad Request",),
    "401, 403": ("401 Unauthorized", "403 Forbidden"),
    "402": ("402 Payment Required",),
    "404, 405, 407": ("404 Not Found", "405 Not Allowed", "407 Proxy Authentication Required"),
    "408": ("408 Request Timeout",),
    "409, 413, 422": ("409 Conflict", "413 Too Large", "422 Unprocessable"),
    "425": ("425 Too Early",),
    "429": ("429 Too Many Requests",),
    "other 4xx": ("406 Not Acceptable", "410 Gone", "418 Teapot", "451 Law", "499 Odd"),
    "500": ("500 Error",),
    "502": ("502 Bad Gateway",),
    "503": ("503 Unavailable",),
    "504": ("504 Gateway Timeout",),
    "other 5xx": ("501 Not Implemented", "507 Full", "520 Odd", "599 Odd"),
    "3xx": ("301 Moved", "302 Found", "304 Not Modified", "307 Elsewhere", "308 Elsewhere"),
}
_RETRY_AFTER: Final = (
    *("0", "0.05", "-5", "nan", "inf", "1e9", "86400", "soon", "", "1, 2", "9" * 400),
    "Fri, 31 Dec 99999999999999999999 23:59:59 GMT",
    "Wed, 21 Oct 2015 07:28:00 GMT",
    "Wed, 21 Oct 2099 07:28:00 GMT",
    "\xff\xfe",
)


def _faults() -> list[Fault]:
    faults = [
        Fault(status, kind, answer(status, _ERRORS), denies=status[0] in "34" and kind != "408")
        for kind, statuses in _STATUSES.items()
        for status in statuses
    ]
    faults += [
        Fault(
            f"429 Retry-After {value[:12]!r}",
            "429",
            answer("429 Slow", b"{}", f"Retry-After: {value}"),
            denies=True,
        )
        for value in _RETRY_AFTER
    ]
    faults.append(Fault("503 Retry-After", "503", answer("503 Busy", b"{}", "Retry-After: 0.02")))
    odd = {
        "html": answer("200 OK", b"<html>Sign in</html>"),
        "empty": answer("200 OK", b""),
        "a list": answer("200 OK", b"[{}]"),
        "null": answer("200 OK", b"null"),
        "half of JSON": answer("200 OK", b'{"a":'),
        "not UTF-8": answer("200 OK", b'{"a": "\xff"'),
        "202 text": answer("202 Accepted", b"queued"),
        "204": head("204 No Content"),
        "206": answer("206 Partial", b"{"),
    }
    faults += [Fault(f"200 {name}", "odd 200", data) for name, data in odd.items()]
    chunked = head("200 OK", "Transfer-Encoding: chunked")
    framing = {
        "short body": head("200 OK", "Content-Length: 10") + b"{}",
        "short error": head("400 Bad Request", "Content-Length: 99") + b"{}",
        "long body": head("200 OK", "Content-Length: 2") + b"{} and more",
        "bytes behind": GOOD + b"\r\n",
        "two answers": GOOD + GOOD,
        "a refusal behind": GOOD + answer("400 Bad Request"),
        "1xx alone": head("102 Processing") * 3,
        "1xx and a rest": head("103 Early Hints") + GOOD + b"x",
        "no chunk size": chunked + b"x\r\n{}\r\n0\r\n\r\n",
        "negative chunk": chunked + b"-2\r\n{}\r\n0\r\n\r\n",
        "no last chunk": chunked + b"2\r\n{}\r\n",
        "rest behind chunks": chunked + b"2\r\n{}\r\n0\r\n\r\nmore",
        "two lengths": head("200 OK", "Content-Length: 2", "Content-Length: 3") + b"{}",
        "length and chunks": head("200 OK", "Content-Length: 2", "Transfer-Encoding: chunked")
        + b"{}",
        "negative length": head("200 OK", "Content-Length: -1") + b"{}",
        "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
        "no head": b"{}",
        "status in words": b"HTTP/1.1 OK\r\n\r\n{}",
        "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
        "zeros": bytes(64),
        "101": head("101 Switching Protocols", "Upgrade: x", "Connection: upgrade"),
    }
    faults += [Fault(name, "framing", data, "close") for name, data in framing.items()]
    kept = ("bytes behind", "two answers", "a refusal behind", "long body", "rest behind chunks")
    faults += [Fault(f"{name}, kept", "framing", framing[name]) for name in kept]
    faults += [
        Fault("1xx for ever", "drip", head("102 Processing") * 4_000, "drip"),
        Fault("head drips", "drip", head("200 OK", "X: " + "y" * 9_000), "drip"),
        Fault("body drips", "drip", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", "drip"),
        Fault("silence", "silence", end="silence"),
        Fault("silence in the head", "silence", b"HTTP/1.1 200 OK\r\nConte", "silence"),
        Fault("silence in the body", "silence", head("200 OK", "Content-Length: 2"), "silence"),
        Fault("reset", "reset", end="reset"),
        Fault("reset in the body", "reset", head("200 OK", "Content-Length: 9") + b"{}", "reset"),
        Fault("closed", "reset", end="close"),
    ]
    return faults


FAULTS: Final = {fault.name: fault for fault in _faults()}
KINDS: Final = tuple(dict.fromkeys(fault.kind for fault in FAULTS.values()))

"""A real HTTP server that answers as a test tells it to."""

from __future__ import annotations

import gzip
import json
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from cdp_backfill import Destination

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class Reply:
    """What to do with a request.

    Attributes:
        status: HTTP status; None hangs up without an answer once the body is read.
        body: Body of the answer.
        headers: Headers of the answer.
        reset: Break the connection before the body is read.
        wait_for: Wait for this before anything else.
    """

    status: int | None = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    reset: bool = False
    wait_for: threading.Event | None = None


@dataclass
class Seen:
    """A request that came in."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> bytes:
        """The body, inflated."""
        return gzip.decompress(self.raw)

    @property
    def batch(self) -> list[dict[str, Any]]:
        """The messages in it."""
        messages: list[dict[str, Any]] = json.loads(self.body)["batch"]
        return messages


class Server:
    """A server; ``answer`` gets the number of the request, from 0, and the request."""

    def __init__(self, answer: Callable[[int, Seen], Reply]) -> None:
        self.seen: list[Seen] = []
        self.arrived = threading.Semaphore(0)
        self._answer = answer
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # an answer in one piece: two would wait for each other's ACK

            def do_POST(self) -> None:
                outer.handle(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        headers = {name.lower(): value for name, value in handler.headers.items()}
        size = int(headers.get("content-length", "0"))
        with self._lock:
            number = len(self.seen)
            seen = Seen(handler.path, headers, b"")
            self.seen.append(seen)
        early = self._answer(number, seen)
        if early.reset:
            linger = struct.pack("ii", 1, 0)  # a close that resets
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.close_connection = True
            return
        seen.raw = handler.rfile.read(size)
        self.arrived.release()
        reply = self._answer(number, seen)
        if reply.wait_for is not None:
            reply.wait_for.wait(30)
        if reply.status is None:
            handler.close_connection = True
            return
        handler.send_response(reply.status)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(reply.body)))
        handler.end_headers()
        handler.wfile.write(reply.body)
        handler.wfile.flush()

    def destination(self, **options: Any) -> Destination:
        """Where to send to reach it."""
        return Destination(**{"api_key": "secret-key", "base_url": self.url} | options)


@contextmanager
def serving(answer: Callable[[int, Seen], Reply]) -> Iterator[Server]:
    """Run a server that answers so."""
    server = Server(answer)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join()


def interrupted(code: str) -> str:
    """Run code in a process of its own, send it a real SIGINT once it says so; its last line."""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "under way\n"
        run.send_signal(signal.SIGINT)
        last: str = run.stdout.read().splitlines()[-1]
    assert run.returncode == 0
    return last

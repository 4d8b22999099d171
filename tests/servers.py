"""An HTTP server whose answers a test chooses."""

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
    """How the server answers a request.

    Attributes:
        status: HTTP status; None reads the body and closes the connection without an answer.
        body: Body of the answer.
        headers: Headers of the answer.
        reset: Break the connection before the body is read.
        wait_for: Event to wait for before answering.
    """

    status: int | None = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    reset: bool = False
    wait_for: threading.Event | None = None


@dataclass
class ReceivedRequest:
    """A request that the server received."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> bytes:
        """The decompressed body."""
        return gzip.decompress(self.raw)

    @property
    def batch(self) -> list[dict[str, Any]]:
        """The messages in the body."""
        messages: list[dict[str, Any]] = json.loads(self.body)["batch"]
        return messages


class Server:
    """A server.

    Args:
        answer: Called twice for each request, before and after its body is read, with the number
            of the request, from 0, and the request. Returns the reply.
    """

    def __init__(self, answer: Callable[[int, ReceivedRequest], Reply]) -> None:
        self.requests: list[ReceivedRequest] = []
        self.arrived = threading.Semaphore(0)
        self._answer = answer
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one packet: two would wait for each other's ACK

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
            number = len(self.requests)
            request = ReceivedRequest(handler.path, headers, b"")
            self.requests.append(request)
        early = self._answer(number, request)
        if early.reset:
            linger = struct.pack("ii", 1, 0)  # close with a reset
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.close_connection = True
            return
        request.raw = handler.rfile.read(size)
        self.arrived.release()
        reply = self._answer(number, request)
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
        """A destination for this server."""
        return Destination(**{"api_key": "secret-key", "base_url": self.url} | options)


@contextmanager
def serving(answer: Callable[[int, ReceivedRequest], Reply]) -> Iterator[Server]:
    """Run a server with these answers."""
    server = Server(answer)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join()


def run_interrupted(code: str) -> str:
    """Run code in a process, send SIGINT when it prints "under way", return its last line."""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "under way\n"
        process.send_signal(signal.SIGINT)
        last_line: str = process.stdout.read().splitlines()[-1]
    assert process.returncode == 0
    return last_line

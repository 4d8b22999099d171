"""A server that sends bytes that a test chooses, and remembers what it took."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from cdp_backfill import Destination

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Reply = Callable[[int, socket.socket], bool]
    """Answers a request, given its number and the connection; returns whether to keep that."""

BAD = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class RawServer:
    """A server of bytes.

    Args:
        reply: Called with each whole request.
        takes: Whether the server accepts the request with this number; it accepts before it
            answers.
    """

    def __init__(self, reply: Reply, takes: Callable[[int], bool] = lambda _: True) -> None:
        self.taken: Counter[str] = Counter()
        self.refuses: set[str] = set()
        """Users whose requests it refuses with 400, if it would accept them otherwise."""
        self.requests = 0
        self.connections = 0
        self._reply, self._takes = reply, takes
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def serve(self) -> None:
        """Accept connections until the listener closes."""
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.add(connection)
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with suppress(OSError), connection, connection.makefile("rb") as stream:
            while head := _head(stream):
                body = stream.read(int(head.get("content-length", "0")))
                with self._lock:
                    number = self.requests
                    self.requests += 1
                    refused = False
                    if body and self._takes(number):
                        batch = json.loads(gzip.decompress(body))["batch"]
                        users = [message["userId"] for message in batch]
                        refused = not self.refuses.isdisjoint(users)
                        if not refused:
                            self.taken.update(users)
                if refused:
                    connection.sendall(BAD)
                elif not self._reply(number, connection):
                    return

    def close(self) -> None:
        """Close everything."""
        with suppress(OSError):  # wakes the thread that accepts
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def twice(self) -> int:
        """Rows that it took more than once."""
        return sum(times > 1 for times in self.taken.values())

    def destination(self, **options: Any) -> Destination:
        """A destination for this server."""
        return Destination(**{"api_key": "secret-key", "base_url": self.url} | options)


def _head(stream: Any) -> dict[str, str]:
    lines = []
    while (line := stream.readline()) not in (b"", b"\r\n"):
        lines.append(line.decode("latin-1").strip())
    return {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }


@contextmanager
def raw_serving(reply: Reply, takes: Callable[[int], bool] = lambda _: True) -> Iterator[RawServer]:
    """Run a server of bytes."""
    server = RawServer(reply, takes)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


def sends(data: bytes, *, keep: bool = True) -> Reply:
    """Always the same bytes."""

    def reply(_: int, connection: socket.socket) -> bool:
        connection.sendall(data)
        return keep

    return reply


def first(odd: Reply) -> Reply:
    """An odd answer to the first request, and a good one to each other."""

    def reply(number: int, connection: socket.socket) -> bool:
        return (odd if number == 0 else sends(GOOD))(number, connection)

    return reply

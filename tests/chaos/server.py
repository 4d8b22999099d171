"""The server of the chaos: plain sockets, which record what was truly accepted."""

from __future__ import annotations

import copy
import gzip
import json
import socket
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.chaos.faults import FAULTS, GOOD, Fault, answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(slots=True)
class Planned:
    """A fault that will happen.

    Attributes:
        fault: What happens.
        when: ``before`` the server accepts the request or ``after`` it.
        place: ``first``, ``middle`` or ``last``; for the table of faults.
        row: The row in whose request it happens.
        times: How often it will still happen.
    """

    fault: Fault
    when: str
    place: str
    row: int
    times: int = 1


@dataclass
class Record:
    """What was truly accepted, by row of the table.

    Attributes:
        ids: The message ids that a row came with.
        accepted: How often a row was accepted.
        now: The same since the current run began.
        denied: Acceptances after which the server said that it accepted nothing.
        requests: Requests that arrived since the current run began.
        faults: Faults that happened, by kind, when and place.
    """

    ids: dict[int, set[str]] = field(default_factory=dict)
    accepted: Counter[int] = field(default_factory=Counter)
    now: Counter[int] = field(default_factory=Counter)
    denied: Counter[int] = field(default_factory=Counter)
    requests: int = 0
    faults: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    @property
    def twice(self) -> int:
        """Rows accepted more than once; what the server itself denied does not count."""
        return sum(times - self.denied[row] > 1 for row, times in self.accepted.items())


class ChaosServer:
    """A server that does what is planned, and otherwise accepts and answers properly."""

    def __init__(self) -> None:
        self.record = Record()
        self.planned: list[Planned] = []
        self.refused_rows: set[int] = set()
        """Rows that it never accepts: it answers 400 to their requests."""
        self.most_messages = 10**9
        """Most messages in a request; it answers 413 to more."""
        self.on_stage: Callable[[str, int], None] = lambda *_: None
        """Called with a stage (arrived, accepted, answered) and the number of the request."""
        self.silent = False
        """Whether it reads requests and does nothing with them."""
        self._condition = threading.Condition()
        self._active: set[socket.socket] = set()
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._address = self._listener.getsockname()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.url = f"http://127.0.0.1:{self._address[1]}/v1"

    def forget(self) -> None:
        """Begin another table."""
        self.record = Record()

    def truth(self) -> Record:
        """What is recorded now."""
        with self._condition:
            return copy.deepcopy(self.record)

    def begin(self, planned: list[Planned]) -> None:
        """Begin a run."""
        with self._condition:
            self.planned = planned
            self.record.now = Counter()
            self.record.requests = 0

    def start(self) -> None:
        """Accept connections, for the first time or after :meth:`close`."""
        if self._closing.is_set():
            self._closing.clear()
            self._listener = socket.create_server(self._address, backlog=256)
            self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._condition:
                    self._active.add(connection)
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        try:
            with suppress(OSError, ValueError, EOFError), connection.makefile("rb") as stream:
                while body := _request(stream):
                    if not self._handle(body, connection):
                        break
        finally:
            connection.close()
            with self._condition:
                self._active.discard(connection)
                self._condition.notify_all()

    def _handle(self, body: bytes, connection: socket.socket) -> bool:
        messages = json.loads(gzip.decompress(body))["batch"]
        rows = [message["properties"]["n"] for message in messages]
        with self._condition:
            number = self.record.requests
            self.record.requests += 1
        self.on_stage("arrived", number)
        if self.silent:
            return FAULTS["silence"].do(connection, self._closing)
        with self._condition:
            planned = self._next_fault(rows)
            status = ""
            if not self.refused_rows.isdisjoint(rows):
                status = "400 Bad Request"
            elif len(rows) > self.most_messages:
                status = "413 Too Large"
            if not status and (planned is None or planned.when == "after"):
                self._accept(messages, denied=planned is not None and planned.fault.denies)
        self.on_stage("accepted", number)
        if planned is not None:
            keep = planned.fault.do(connection, self._closing)
        else:
            keep = True
            connection.sendall(answer(status) if status else GOOD)
        self.on_stage("answered", number)
        return keep

    def _next_fault(self, rows: list[int]) -> Planned | None:
        for planned in self.planned:
            if planned.times and planned.row in rows:
                planned.times -= 1
                self.record.faults[planned.fault.kind, planned.when, planned.place] += 1
                return planned
        return None

    def _accept(self, messages: list[dict[str, Any]], *, denied: bool) -> None:
        for message in messages:
            row = message["properties"]["n"]
            self.record.ids.setdefault(row, set()).add(message["messageId"])
            self.record.accepted[row] += 1
            self.record.now[row] += 1
            self.record.denied[row] += denied

    def wait_until_idle(self) -> None:
        """Wait until every connection of a sender that is gone has ended."""
        # Connections are accepted in turn: those that wait for it come before this one.
        with socket.create_connection(self._listener.getsockname()) as last, suppress(OSError):
            last.shutdown(socket.SHUT_WR)
            last.recv(1)
        with self._condition:
            if not self._condition.wait_for(lambda: not self._active, 60):
                raise TimeoutError("a connection did not end")

    def close(self) -> None:
        """Close all connections, and refuse others."""
        self._closing.set()
        with suppress(OSError):  # wakes the thread that accepts
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._active):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()


def _request(stream: Any) -> bytes:
    """The body of the next request; empty at the end of the connection."""
    length = 0
    while (line := stream.readline()) not in (b"", b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    body: bytes = stream.read(length)
    return body if len(body) == length else b""  # a part of a request is none


@contextmanager
def chaos_serving() -> Iterator[ChaosServer]:
    """Run a server."""
    server = ChaosServer()
    server.start()
    try:
        yield server
    finally:
        server.close()

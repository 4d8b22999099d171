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
from tests.chaos.inputs import identity_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.chaos.inputs import Key


@dataclass(slots=True)
class Planned:
    """A fault that will happen.

    Attributes:
        fault: What happens.
        when: ``before`` the server accepts the request or ``after`` it.
        place: ``first``, ``middle`` or ``last``; for the table of faults.
        row: The row or the identity in whose request it happens.
        times: How often it will still happen.
    """

    fault: Fault
    when: str
    place: str
    row: Key
    times: int = 1


@dataclass
class Record:
    """What was truly accepted, by row of the table or of the identities.

    Attributes:
        arrived: The rows that came, accepted or not.
        ids: The message ids that a row came with.
        accepted: How often a row was accepted.
        now: The same since the current run began.
        denied: Acceptances after which the server said that it accepted nothing.
    """

    arrived: set[Key] = field(default_factory=set)
    ids: dict[Key, set[str]] = field(default_factory=dict)
    accepted: Counter[Key] = field(default_factory=Counter)
    now: Counter[Key] = field(default_factory=Counter)
    denied: Counter[Key] = field(default_factory=Counter)

    @property
    def twice(self) -> int:
        """Rows accepted more than once; what the server itself denied does not count."""
        return sum(times - self.denied[row] > 1 for row, times in self.accepted.items())


class ChaosServer:
    """A server that does what is planned, and otherwise accepts and answers properly."""

    def __init__(self) -> None:
        self.record = Record()
        """What it accepted of the events."""
        self.identities = Record()
        """What it accepted of the identities."""
        self.owners: dict[str, Key] = {}
        """The identity that must come before the events with an anonymous id."""
        self.early: set[Key] = set()
        """Events that came before their identity."""
        self.requests = 0
        """Requests that arrived since the current run began."""
        self.faults: Counter[tuple[str, str, str]] = Counter()
        """Faults that happened, by kind, when and place."""
        self.planned: list[Planned] = []
        self.refused_rows: set[Key] = set()
        """Rows and identities that it never accepts: it answers 400 to their requests."""
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
        self.record, self.identities = Record(), Record()
        self.owners, self.early = {}, set()

    def truth(self, *, identities: bool = False) -> Record:
        """What is recorded now."""
        with self._condition:
            return copy.deepcopy(self.identities if identities else self.record)

    def begin(self, planned: list[Planned]) -> None:
        """Begin a run."""
        with self._condition:
            self.planned = planned
            self.record.now, self.identities.now = Counter(), Counter()
            self.requests = 0

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
        rows = [_key_of(message) for message in messages]
        with self._condition:
            number = self.requests
            self.requests += 1
            self._arrive(messages, rows)
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

    def _record_of(self, messages: list[dict[str, Any]]) -> Record:
        return self.identities if messages[0]["type"] == "identify" else self.record

    def _arrive(self, messages: list[dict[str, Any]], rows: list[Key]) -> None:
        self._record_of(messages).arrived.update(rows)
        for message, row in zip(messages, rows, strict=True):
            owner = self.owners.get(message.get("anonymousId", ""))
            if owner is not None and owner not in self.identities.arrived:
                self.early.add(row)

    def _next_fault(self, rows: list[Key]) -> Planned | None:
        for planned in self.planned:
            if planned.times and planned.row in rows:
                planned.times -= 1
                self.faults[planned.fault.kind, planned.when, planned.place] += 1
                return planned
        return None

    def _accept(self, messages: list[dict[str, Any]], *, denied: bool) -> None:
        record = self._record_of(messages)
        for message in messages:
            row = _key_of(message)
            record.ids.setdefault(row, set()).add(message["messageId"])
            record.accepted[row] += 1
            record.now[row] += 1
            record.denied[row] += denied

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


def _key_of(message: dict[str, Any]) -> Key:
    """The row that a message is."""
    if message["type"] == "identify":
        return identity_key(message["anonymousId"], message["userId"])
    row: int = message["properties"]["n"]
    return row


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

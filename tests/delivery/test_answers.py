"""An answer is one answer: whole, in time, in the API's words, and with nothing behind it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import httpcore
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.delivery.transport import (
    Answer,
    HttpTransport,
    NoAnswerError,
    NotSentError,
    compress,
    tls_context,
)
from cdp_backfill.delivery.wire import MAX_ANSWER_BYTES, Wire, is_one_answer
from tests.clocks import FakeClock
from tests.raw_servers import GOOD, RawServer, first, raw_serving, sends
from tests.rows import OPENED, opens
from tests.sending import counts

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator


def send(server: RawServer, rows: int = 6, **options: Any) -> cdp.Report:
    """Send rows, three in a request, one request at a time."""
    destination = server.destination(**{"max_messages": 3, "workers": 1} | options)
    return cdp.send(opens(rows), OPENED, destination=destination, progress=False)


def head(*lines: str, status: str = "200 OK") -> bytes:
    """The head of an answer."""
    return "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *lines, "")).encode("latin-1")


ODD = {
    "a second answer behind it": GOOD + GOOD,
    "a refusal behind it": GOOD + head("Content-Length: 0", status="400 Bad Request"),
    "a body that is too long": head("Content-Length: 2") + b"{} and more",
    "a body that is too short": head("Content-Length: 10") + b"{}",
    "white space behind it": GOOD + b"\r\n",
    "a body of a body-less status": head(status="204 No Content") + b"{}",
    "chunks and a rest": head("Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n\r\nmore",
    "a chunk without an end": head("Transfer-Encoding: chunked") + b"2\r\n{}\r\n",
    "a chunk without a size": head("Transfer-Encoding: chunked") + b"x\r\n{}\r\n0\r\n\r\n",
    "two lengths": head("Content-Length: 2", "Content-Length: 3") + b"{}",
    "a length in words": head("Content-Length: two") + b"{}",
    "a negative length": head("Content-Length: -1") + b"{}",
    "a huge length": head(f"Content-Length: {10**30}") + b"{}",
    "an unknown coding": head("Transfer-Encoding: odd") + b"{}",
    "no answer": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "no head": b"{}",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a line that is no header": b"HTTP/1.1 200 OK\r\n\x00\xff\r\n\r\n{}",
    "only 1xx": head(status="102 Processing") * 3,
    "1xx and a rest": head(status="103 Early Hints") + GOOD + b"x",
    "too much 1xx": head(status="102 Processing") * (MAX_ANSWER_BYTES // 20),
    "too much head": head(*["X: " + "y" * 1_000] * 300),
    "a refusal that is too short": head("Content-Length: 99", status="400 Bad Request") + b"{}",
    "a wrong key that is too short": head("Content-Length: 99", status="401 No") + b"{}",
}


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("odd", list(ODD))
def test_an_odd_answer_is_none(odd: str, taken: bool) -> None:
    """The connection is dropped and the request sent again; the report counts it as doubtful."""
    with raw_serving(first(sends(ODD[odd], keep=False)), lambda n: n > 0 or taken) as server:
        report = send(server)
    assert counts(report) == {"delivered": 6}
    assert len(server.taken) == 6
    assert report.requests == server.requests == 3
    assert report.maybe_twice == 3
    assert server.twice == (3 if taken else 0)


@pytest.mark.parametrize("odd", ["a second answer behind it", "a refusal behind it"])
def test_what_is_left_behind_is_no_answer_to_the_next_request(odd: str) -> None:
    """A server that keeps the connection and loses the next request: no row of it is lost."""

    def reply(number: int, connection: socket.socket) -> bool:
        if number != 1:
            connection.sendall(ODD[odd] if number == 0 else GOOD)
        return number != 1

    with raw_serving(reply, lambda number: number != 1) as server:
        report = send(server, 9)
    assert counts(report) == {"delivered": 9}
    assert len(server.taken) == 9
    assert report.maybe_twice >= server.twice


@pytest.mark.parametrize(
    "whole",
    [
        GOOD,
        head(status="100 Continue") + head(status="103 Early Hints") + GOOD,
        head("Transfer-Encoding: chunked") + b"1;x=y\r\n{\r\n1\r\n}\r\n0\r\nTrailer: x\r\n\r\n",
        head("Content-Length: 9") + b' {"a":1}\n',
        b"HTTP/1.1 200\r\ncontent-length:2\r\n\r\n{}",
        head("Content-Length: 2", "Odd: \xff\xfe", status="202 Accepted") + b"{}",
    ],
)
def test_a_whole_answer_counts(whole: bytes) -> None:
    """Everything that HTTP allows and that is one answer, over one connection."""
    with raw_serving(sends(whole)) as server:
        report = send(server)
    assert counts(report) == {"delivered": 6}
    assert (report.retries, report.maybe_twice, server.connections) == (0, 0, 1)


def test_an_answer_that_ends_with_its_connection() -> None:
    """Without a length, the end of the connection is the end of the answer."""
    with raw_serving(sends(head() + b"{}", keep=False)) as server:
        report = send(server)
    assert counts(report) == {"delivered": 6}
    assert report.maybe_twice == 0


BODIES = [
    b"",
    b"OK",
    b"[]",
    b"[{}]",
    b"1",
    b'"{}"',
    b"null",
    b"true",
    b"{",
    b"{}{}",
    b"<html></html>",
    b"\xff\xfe",
    b'{"a":' * 9_000,
    b'{"a": "' + b"x" * 70_000 + b'"}',
]


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "202 Accepted"])
@pytest.mark.parametrize("body", BODIES, ids=lambda body: str(body[:9]))
def test_a_success_in_other_words(body: bytes, status: str) -> None:
    """The API answers a JSON object: after anything else, the rows are unknown, not unsent."""
    whole = head(f"Content-Length: {len(body)}", status=status) + body
    with raw_serving(sends(whole)) as server, pytest.raises(cdp.UnexpectedAnswerError) as caught:
        send(server)
    report = caught.value.report
    assert counts(report) == {"unknown": 3, "unsent": 3}
    assert server.requests == 1
    assert "may have accepted the rows or not. Check region and base_url" in str(caught.value)


def test_other_words_stop_a_run_after_the_requests_in_flight() -> None:
    """What is in flight is answered and counts."""
    in_flight = threading.Barrier(3, timeout=20)

    def reply(number: int, connection: socket.socket) -> bool:
        if 1 <= number <= 3:
            in_flight.wait()
        connection.sendall(head("Content-Length: 2") + b"OK" if number == 2 else GOOD)
        return True

    with raw_serving(reply) as server, pytest.raises(cdp.UnexpectedAnswerError) as caught:
        send(server, 300, workers=3)
    outcomes = counts(caught.value.report)
    assert outcomes["unknown"] == 3
    assert outcomes["delivered"] == len(server.taken) - 3
    assert sum(outcomes.values()) == 300


def drip(connection: socket.socket, data: Iterator[bytes]) -> bool:
    """Send a little again and again, until the other side has had enough."""
    gone = threading.Event()
    for part in data:
        try:
            connection.sendall(part)
        except OSError:
            return False
        gone.wait(0.01)
    return False


def _body() -> Iterator[bytes]:
    yield head("Content-Length: 1000000")
    while True:
        yield b" "


def _chunks() -> Iterator[bytes]:
    yield head("Transfer-Encoding: chunked")
    while True:
        yield b"1\r\n \r\n"


def _head() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nX: "
    while True:
        yield b"y"


def _interim() -> Iterator[bytes]:
    while True:
        yield head(status="102 Processing")


@pytest.mark.parametrize("dripping", [_body, _chunks, _head, _interim])
def test_an_answer_that_drips(dripping: Any) -> None:
    """The whole answer has a deadline, however little of it comes at a time."""
    with raw_serving(first(lambda _, connection: drip(connection, dripping()))) as server:
        report = send(server, answer_timeout=0.2)
    assert counts(report) == {"delivered": 6}
    assert report.maybe_twice == server.twice == 3


class Stream(httpcore.NetworkStream):
    """A connection over which each byte takes a second."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.written = clock, 0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        """One byte."""
        assert timeout is not None
        if timeout < 1:
            raise httpcore.ReadTimeout
        self.clock.advance(1)
        return b"x"

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """A second for each piece."""
        assert timeout is not None
        self.clock.advance(1)
        self.written += len(buffer)

    def get_extra_info(self, _: str) -> Any:
        """Nothing."""
        return None


def test_the_deadline_is_that_of_the_whole_answer() -> None:
    """It counts from the end of the request, and each read has what is left of it."""
    clock = FakeClock()
    stream, wire = Stream(clock), Wire(60.0, clock.now)
    wire.start(10.0)
    wire.write(stream, b"x" * 200_000)
    for _ in range(60):
        wire.read(stream, 10)
    with pytest.raises(httpcore.ReadTimeout):
        wire.read(stream, 10)
    wire.start(10.0)
    with pytest.raises(httpcore.WriteTimeout):
        wire.write(stream, b"x" * 10_000_000)
    assert wire.broken
    assert stream.written <= 200_000 + 71 * 65_536


HEADERS = st.sampled_from(
    ["Server: x", "Content-Type: application/json", "X: \t y", "Retry-After: 1"]
)


@given(
    interim=st.lists(st.sampled_from(["100 Continue", "102 Processing", "103 x"]), max_size=2),
    status=st.sampled_from(["200 OK", "202", "400 Bad Request", "503 x"]),
    headers=st.lists(HEADERS, max_size=2),
    body=st.binary(max_size=40) | st.sampled_from([b"{}", b"\r\n\r\n", b"{}\r\n\r\n{}", GOOD]),
    sizes=st.none() | st.lists(st.integers(1, 9), max_size=4),
    rest=st.binary(max_size=3) | st.sampled_from([GOOD, b"\r\n\r\n", b"{}"]),
)
def test_any_framing(  # noqa: PLR0917
    interim: list[str],
    status: str,
    headers: list[str],
    body: bytes,
    sizes: list[int] | None,
    rest: bytes,
) -> None:
    """One whole answer is one, in each framing; with anything behind it, it is none."""
    whole = b"".join(head(status=each) for each in interim)
    if sizes is None:
        whole += head(f"Content-Length: {len(body)}", *headers, status=status) + body
    else:
        whole += head("Transfer-Encoding: chunked", *headers, status=status)
        left = body
        for size in [*sizes, len(body)]:
            part, left = left[:size], left[size:]
            whole += f"{len(part):x}\r\n".encode() + part + b"\r\n" if part else b""
        whole += b"0\r\n\r\n"
    assert is_one_answer(whole, body)
    assert is_one_answer(whole + rest, body) == (not rest)


def test_bytes_that_come_between_two_requests() -> None:
    """They answer nothing, so the next request goes over a new connection."""
    connections: list[socket.socket] = []

    def reply(_: int, connection: socket.socket) -> bool:
        connections.append(connection)
        connection.sendall(GOOD)
        return True

    with raw_serving(reply) as server:
        transport = HttpTransport(server.destination(), tls_context())
        body = compress(b'{"batch":[{"userId":"a"}]}')
        assert transport.post(body) == Answer(200)
        connections[0].sendall(head("Content-Length: 0", status="401 No"))
        try:
            answer: Answer | None = transport.post(body)
        except NotSentError:  # noticed in the last moment
            answer = transport.post(body)
        transport.close()
    assert answer == Answer(200)
    assert server.connections == 2


@pytest.mark.parametrize(("status", "stops"), [(407, True), (503, False), (403, False)])
def test_a_proxy_that_refuses(status: int, stops: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that wants a password stops the run; one that cannot connect is waited for."""
    with raw_serving(sends(head("Content-Length: 0", status=f"{status} x"))) as proxy:
        address = proxy.url.removesuffix("/v1")
        monkeypatch.setenv("HTTPS_PROXY", address)
        expected = cdp.UnexpectedAnswerError if stops else cdp.UnreachableError
        with pytest.raises(expected, match=str(status)) as caught:
            send(proxy, base_url="https://api.example/v1", patience=0.05)
        assert proxy.requests == 1 or not stops
    assert counts(caught.value.report).get("unsent", 0) == (6 if stops else 0)


def test_what_is_not_sent_to_its_end_is_not_taken() -> None:
    """If the rest of a request cannot be written, the server cannot have accepted it."""

    class Broken(Stream):
        def write(self, buffer: bytes, timeout: float | None = None) -> None:
            super().write(buffer, timeout)
            if self.written > 65_536:
                raise httpcore.WriteError

    wire = Wire(60.0, FakeClock().now)
    wire.start(1.0)
    with pytest.raises(httpcore.WriteError):
        wire.write(Broken(FakeClock()), b"x" * 200_000)
    assert wire.broken


def test_an_answer_that_came_before_the_request_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A success cannot answer a request whose end has not been written yet."""
    with raw_serving(sends(GOOD)) as server:
        transport = HttpTransport(server.destination(), tls_context())
        write = Wire.write

        def early(wire: Wire, stream: httpcore.NetworkStream, data: bytes) -> None:
            write(wire, stream, data)
            wire.early = True

        monkeypatch.setattr(Wire, "write", early)
        with pytest.raises(NoAnswerError, match="before the end"):
            transport.post(compress(b'{"batch":[{"userId":"a"}]}'))
        transport.close()

"""The floor: the same requests made by libraries alone, in one thread, without any check."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import arro3.io
import isal.igzip
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK: Final = 32_768
_BODY: Final = 490_000  # bytes of a request, below the API's 500 KB
_PROPERTIES: Final = ("build", "seconds", "level", "paid", "price", "city")


def send(path: Path | str, url: str) -> int:
    """Read the standard table from parquet, write each row once as JSON, hash, pack, post it.

    Args:
        path: The parquet file.
        url: Address of the sink.

    Returns:
        The number of rows.
    """
    address = urlsplit(url)
    rows = 0
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for batch in pq.ParquetFile(path).iter_batches(_CHUNK):
            for body in _bodies(batch):
                _post(connection, address.path, isal.igzip.compress(body, 1))
            rows += len(batch)
    return rows


def _bodies(batch: Any) -> Iterator[bytes]:
    column = batch.column
    struct = pa.StructArray.from_arrays
    message = pa.RecordBatch.from_pydict(
        {
            "userId": column("user"),
            "event": column("event"),
            "timestamp": column("at").cast(pa.timestamp("ms", "UTC"), safe=False),
            "properties": struct([column(name) for name in _PROPERTIES], names=_PROPERTIES),
            "context": struct(
                [
                    struct([column("app_version")], names=["version"]),
                    struct([column("phone")], names=["model"]),
                    column("locale"),
                    struct([column("os"), column("os_version")], names=["name", "version"]),
                ],
                names=["app", "device", "locale", "os"],
            ),
        }
    )
    out = pa.BufferOutputStream()
    arro3.io.write_ndjson(message, out)
    lines, size = list[bytes](), 0
    for line in out.getvalue().to_pybytes().splitlines():
        text = (
            b'{"type":"track","messageId":"%s",' % xxhash.xxh3_128_hexdigest(line).encode()
            + line[1:]
        )
        if size + len(text) >= _BODY:
            yield b'{"batch":[' + b",".join(lines) + b"]}"
            lines, size = [], 0
        lines.append(text)
        size += len(text) + 1
    if lines:
        yield b'{"batch":[' + b",".join(lines) + b"]}"


def _post(connection: socket.socket, path: str, body: bytes) -> None:
    head = (
        f"POST {path}/batch HTTP/1.1\r\nHost: sink\r\nContent-Type: application/json\r\n"
        f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    answer = b""
    while not answer.endswith(b"\r\n\r\n{}"):
        part = connection.recv(4_096)
        if not part:
            raise SystemExit("The sink closed the connection.")
        answer += part

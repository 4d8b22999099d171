"""Benchmarks of single stages of a backfill, in this process; ``speed.py`` runs them."""

from __future__ import annotations

import gzip
import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from isal import igzip

import cdp_backfill as cdp
from cdp_backfill.delivery.transport import HttpTransport, compress, tls_context
from cdp_backfill.messages import build, ids
from cdp_backfill.messages.encoding import encode
from cdp_backfill.messages.lines import lines_of
from cdp_backfill.messages.packing import Packer
from cdp_backfill.pipeline.recency_guard import refuse_recent
from common import demo_records, prepare
from sinks import python_sink

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.pipeline.prepared_source import PreparedSource


def stages(rows: int = 400_000, repeats: int = 5) -> list[dict[str, Any]]:
    """CPU of each stage alone, over the same chunks, in one thread."""
    with demo_records(rows) as path:
        prepared = prepare(path)
        source, binding, latest = prepared.source, prepared.binding, prepared.limits.latest
        chunks = list(source.chunks(binding.columns))
        valid_fields, millis = [], []
        for chunk in chunks:
            messages = build(binding, chunk.batch, latest=latest)
            valid = pa.array(np.flatnonzero(~messages.problems.mask()))
            valid_fields.append(
                {name: array.take(valid) for name, array in messages.fields.items()}
            )
            millis.append(messages.millis[valid.to_numpy()])
        encoded = [
            part
            for fields, times in zip(valid_fields, millis, strict=True)
            for part in encode(fields, times)
        ]
        texts = [lines_of(fields) for fields in valid_fields]
        packer = Packer(max_messages=2_500)
        requests = [request for part in encoded for request in packer.feed(part)]
        requests += packer.flush()
        bodies = [request.body() for request in requests]
        compressed = [compress(body) for body in bodies]

        def pack() -> None:
            packer = Packer(max_messages=2_500)
            for part in encoded:
                for request in packer.feed(part):
                    request.body()
            for request in packer.flush():
                request.body()

        def hash_messages() -> None:
            for fields, (text, ends) in zip(valid_fields, texts, strict=True):
                ids.content_digests(fields, text, ends, None, np.ones(len(ends), dtype=bool))

        with python_sink() as url:
            transport = HttpTransport(cdp.Destination(api_key="k", base_url=url), tls_context())
            jobs: dict[str, Callable[[], Any]] = {
                "read": lambda: [None for _ in source.chunks(binding.columns)],
                "look for recent rows": lambda: refuse_recent(prepared),
                "map and check": lambda: [
                    None for chunk in chunks if build(binding, chunk.batch) is None
                ],
                "write JSON": lambda: [None for fields in valid_fields if not lines_of(fields)],
                "ids": hash_messages,
                "JSON, ids, together": lambda: [
                    None
                    for fields, times in zip(valid_fields, millis, strict=True)
                    for _ in encode(fields, times)
                ],
                "pack": pack,
                "gzip": lambda: [None for body in bodies if not compress(body)],
                "send": lambda: [transport.post(body) for body in compressed],
            }
            return [_measure(name, job, rows, repeats) for name, job in jobs.items()]


def scaling(rows: int = 40_000) -> list[dict[str, Any]]:
    """CPU a row of mapping, ids and encoding, by the shape of the table."""
    base = {
        "uid": pa.array(np.arange(rows)).cast(pa.string()),
        "ts": pa.repeat("2023-05-01T10:00:00.000Z", rows),
    }
    words = pa.repeat("a value of some length", rows)
    nested = pa.array([{"a": {"b": number, "c": ["x", "y"]}} for number in range(rows)])
    tables = {f"{n} columns": {f"c{i}": words for i in range(n - 2)} for n in (10, 50, 200)}
    tables |= {
        "nested": {"n": nested},
        "numbers": {f"c{i}": pa.array(np.arange(rows) * 1.5) for i in range(8)},
        "JSON text": {"j": pa.repeat('{"a": 1, "b": "x", "c": [1, 2]}', rows)},
        "2 KB of text": {"t": pa.repeat("x" * 2_000, rows)},
    }
    lines = []
    for name, columns in tables.items():
        mapping = cdp.Mapping(
            user_id="uid",
            timestamp="ts",
            event=cdp.lit("Application Opened"),
            json=["j"] if "j" in columns else [],
        )
        prepared = prepare(pa.table(base | columns), mapping)
        size = 0

        def run(prepared: PreparedSource = prepared) -> None:
            nonlocal size
            chunks = prepared.chunks(prepared.binding.columns)
            size = sum(int(part.sizes.sum()) for _, chunk in chunks for part, _ in chunk.encoded)

        line = _measure(name, run, rows, 3)
        line["bytes_per_message"] = round(size / rows)
        line["cpu_ns_per_byte"] = round(1_000 * line["cpu_us_per_row"] * rows / size, 2)
        lines.append(line)
    return lines


def compression(rows: int = 200_000) -> list[dict[str, Any]]:
    """Gzip of the demo's requests, by library and level."""
    with demo_records(rows) as path:
        prepared = prepare(path)
        packer = Packer()
        bodies = [
            request.body()
            for _, chunk in prepared.chunks(prepared.binding.columns)
            for part, _ in chunk.encoded
            for request in packer.feed(part)
        ]
    size, lines = sum(map(len, bodies)), []
    libraries = [
        *(("isal", igzip.compress, level) for level in range(4)),
        *(("zlib", gzip.compress, level) for level in (1, 6)),
    ]
    for library, compress_body, level in libraries:

        def run(compress_body: Callable[..., bytes] = compress_body, level: int = level) -> None:
            for body in bodies:
                compress_body(body, compresslevel=level)

        line = _measure(f"{library} {level}", run, rows, 3)
        compressed_size = sum(len(compress_body(body, compresslevel=level)) for body in bodies)
        lines.append(
            {
                "gzip": line["stage"],
                "cpu_us_per_row": line["cpu_us_per_row"],
                "ratio": round(size / compressed_size, 2),
                "bytes_per_row": round(compressed_size / rows, 1),
            }
        )
    return lines


def _measure(name: str, job: Callable[[], Any], rows: int, repeats: int) -> dict[str, Any]:
    """Run a job repeatedly: medians of rate and CPU, and the spread of the CPU."""
    wall_times, cpu_times = [], []
    for _ in range(repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        job()
        wall_times.append(time.perf_counter() - start)
        cpu_times.append(time.process_time() - cpu_start)
    cpu = statistics.median(cpu_times)
    return {
        "stage": name,
        "rows_per_second": round(rows / statistics.median(wall_times)),
        "cpu_us_per_row": round(1e6 * cpu / rows, 3),
        "spread": round((max(cpu_times) - min(cpu_times)) / cpu, 2),
    }

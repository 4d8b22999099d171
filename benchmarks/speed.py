"""How fast a backfill is, and what it costs.

One command each, with a table and, with ``--json FILE``, JSON; the machine and versions are noted::

    python benchmarks/speed.py stages         # CPU a row of each stage, in one thread
    python benchmarks/speed.py end-to-end     # to a sink that reads and answers, beside the SDK
    python benchmarks/speed.py memory         # peak memory at 0.2, 2 and 20 million rows
    python benchmarks/speed.py waiting        # servers that take their time, at two rate limits
    python benchmarks/speed.py scaling        # cost by columns, nesting and width
    python benchmarks/speed.py first-request  # from the call to the first byte, 2 GB of parquet
    python benchmarks/speed.py compression    # gzip by library and level
    python benchmarks/speed.py request-size   # end to end by messages in a request
    python benchmarks/speed.py processes      # end to end by processes

Rows are those of the demo: eleven columns, text in many scripts, some rows spoilt. The sink runs in
a process of its own on the same cores, so the rates hold for both together; ``--nginx`` takes nginx
for it, where that is installed.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from isal import igzip

import cdp_backfill as cdp
from cdp_backfill.cli import sample_data
from cdp_backfill.delivery.transport import HttpTransport, compress, tls_context
from cdp_backfill.inference.proposal import Proposal
from cdp_backfill.messages import build, encoding
from cdp_backfill.messages.encoding import encode
from cdp_backfill.messages.packing import Packer
from cdp_backfill.pipeline.prepared_source import PreparedSource
from cdp_backfill.pipeline.recency_guard import refuse_recent
from cdp_backfill.sources import open_source
from sinks import first_arrival, machine, nginx, sink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def records(rows: int) -> Iterator[Path]:
    """A parquet file of the demo's records."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.parquet"
        sample_data.write(path, rows)
        yield path


def prepared_source_of(table: Any, mapping: cdp.Mapping = sample_data.MAPPING) -> PreparedSource:
    """A table with its mapping, and the usual options."""
    source = open_source(table)
    return PreparedSource(
        source, Proposal(mapping), recent="send", context_scope="message", now=None
    )


# --- (a) stages ---------------------------------------------------------------------------------


def stages(rows: int = 400_000, repeats: int = 5) -> list[dict[str, Any]]:
    """CPU of each stage by itself, over the same chunks, in one thread."""
    with records(rows) as path:
        prepared_source = prepared_source_of(path)
        source = prepared_source.source
        binding = prepared_source.binding
        chunks = list(source.chunks(binding.columns))
        built = [
            build(binding, chunk.batch, latest=prepared_source.limits.latest) for chunk in chunks
        ]
        good = []
        for messages in built:
            chosen = pa.array(np.flatnonzero(~messages.problems.mask()))
            good.append({name: array.take(chosen) for name, array in messages.fields.items()})
        encoded = [part for fields in good for part in encode(fields)]
        packer = Packer(max_messages=2_500)
        requests = [request for part in encoded for request in packer.feed(part)]
        requests += packer.flush()
        bodies = [request.body() for request in requests]

        def pack() -> None:
            again = Packer(max_messages=2_500)
            for part in encoded:
                for request in again.feed(part):
                    request.body()
            for request in again.flush():
                request.body()

        def digest() -> None:
            for fields, (text, ends) in zip(good, texts, strict=True):
                encoding._digests(fields, text, ends, None, np.ones(len(ends), dtype=bool))

        texts = [encoding._lines(fields) for fields in good]
        packed = [compress(body) for body in bodies]
        with sink() as url:
            transport = HttpTransport(cdp.Destination(api_key="k", base_url=url), tls_context())
            jobs: dict[str, Callable[[], Any]] = {
                "read": lambda: [None for _ in source.chunks(binding.columns)],
                "look for recent rows": lambda: refuse_recent(prepared_source),
                "map and check": lambda: [
                    None for chunk in chunks if build(binding, chunk.batch) is None
                ],
                "write JSON": lambda: [None for fields in good if not encoding._lines(fields)],
                "ids": digest,
                "JSON, ids, together": lambda: [None for fields in good for _ in encode(fields)],
                "pack": pack,
                "gzip": lambda: [None for body in bodies if not compress(body)],
                "send": lambda: [transport.post(body) for body in packed],
            }
            return [_timed(name, job, rows, repeats) for name, job in jobs.items()]


def _timed(name: str, job: Callable[[], Any], rows: int, repeats: int) -> dict[str, Any]:
    found = []
    for _ in range(repeats):
        before, cpu = time.perf_counter(), time.process_time()
        job()
        found.append((time.perf_counter() - before, time.process_time() - cpu))
    seconds, used = statistics.median(f[0] for f in found), statistics.median(f[1] for f in found)
    spread = (max(f[1] for f in found) - min(f[1] for f in found)) / used
    return {
        "stage": name,
        "rows_per_second": round(rows / seconds),
        "cpu_us_per_row": round(1e6 * used / rows, 3),
        "spread": round(spread, 2),
    }


# --- (b) and (c) end to end, beside the SDK -----------------------------------------------------


def end_to_end(rows: int = 2_000_000, repeats: int = 5) -> list[dict[str, Any]]:
    """Parquet and DataFrame to a sink, with journal and report; and the SDK on the same rows."""
    with records(rows) as path, server() as url:
        found = [_runs(job, path, url, repeats) for job in ("parquet", "frame")]
        found.append(_runs("sdk", path, url, 1))
    sdk = found[-1]["rows_per_second"]
    for line in found:
        line["times_the_sdk"] = round(line["rows_per_second"] / sdk, 1)
    return found


def server() -> Any:
    """The sink that was asked for."""
    return nginx() if "--nginx" in sys.argv else sink()


def _runs(job: str, path: Path, url: str, repeats: int, **more: Any) -> dict[str, Any]:
    """Medians over runs in processes of their own, and the spread of their CPU."""
    runs = [_child(job, str(path), url, **more) for _ in range(repeats)]
    used = [1e6 * run["cpu"] / run["rows"] for run in runs]
    return more | {
        "job": job,
        "rows": runs[0]["rows"],
        "rows_per_second": round(statistics.median(run["rows"] / run["seconds"] for run in runs)),
        "cpu_us_per_row": round(statistics.median(used), 2),
        "spread": round((max(used) - min(used)) / statistics.median(used), 2),
        "fill": runs[0].get("fill"),
        "dropped": runs[0].get("dropped", 0),
        "peak_mb": round(max(run["peak_mb"] for run in runs)),
    }


def _child(job: str, path: str, url: str, **more: Any) -> dict[str, Any]:
    command = [sys.executable, __file__, "child", "--job", job, "--path", path, "--url", url]
    command += [word for name, value in more.items() for word in (f"--{name}", str(value))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def child(job: str, path: str, url: str, processes: int, messages: int) -> dict[str, Any]:
    """One run, in this process."""
    destination = cdp.Destination(api_key="sandbox", base_url=url, max_messages=messages)
    extra: dict[str, Any] = {}
    if job == "sdk":
        before, cpu = time.perf_counter(), time.process_time()
        rows, extra["dropped"] = _sdk(path, url)
    else:
        source: Any = pd.read_parquet(path) if job == "frame" else path
        before, cpu = time.perf_counter(), time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            report = cdp.send(
                source,
                sample_data.MAPPING,
                destination=destination,
                progress=False,
                journal=Path(folder) / "journal",
                processes=processes,
            )
        rows, extra["fill"] = report.rows, round(report.fill, 3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds, used = time.perf_counter() - before, time.process_time() - cpu
    others = resource.getrusage(resource.RUSAGE_CHILDREN)
    extra["cpu_of_helpers"] = others.ru_utime + others.ru_stime
    return {"rows": rows, "seconds": seconds, "cpu": used, "peak_mb": peak} | extra


def _sdk(path: str, url: str, rows: int = 40_000) -> tuple[int, int]:
    """The vendor's SDK as its page shows it, row by row; gives rows sent and rows dropped."""
    from customerio.analytics import Client  # type: ignore[import-untyped]  # noqa: PLC0415

    client = Client("sandbox", host=url.removesuffix("/v1"), gzip=True)
    dropped = 0
    batches = pq.ParquetFile(path).iter_batches(8_192)
    taken = itertools.islice((row for batch in batches for row in batch.to_pylist()), rows)
    for row in taken:
        ok, _ = client.track(
            user_id=row["customer"] or "nobody",
            event=row["action"],
            properties={"version": row["app_version"], "build": row["app_build"]},
            context={
                "device": {"model": row["phone"], "type": row["platform"]},
                "os": {"version": row["os_version"]},
                "locale": row["locale"],
            },
        )
        dropped += not ok
    client.flush()
    client.join()
    return rows - dropped, dropped


# --- (d) memory ---------------------------------------------------------------------------------


def memory(largest: int = 20_000_000) -> list[dict[str, Any]]:
    """Peak memory of a run by rows."""
    found = []
    with sink() as url:
        for rows in (200_000, 2_000_000, largest):
            with records(rows) as path:
                run = _child("parquet", str(path), url)
            found.append({"rows": rows, "peak_mb": round(run["peak_mb"])})
    return found


# --- (e) servers that take their time -----------------------------------------------------------


def waiting(rows: int = 2_000_000) -> list[dict[str, Any]]:
    """Requests per second reached, by latency and rate limit, with small requests."""
    found = []
    with records(rows) as large, records(rows // 5) as small:
        for latency in (0.02, 0.1, 0.3):
            for limit in (100.0, 1_000.0):
                path = small if limit == 100.0 else large  # noqa: PLR2004  # else it takes minutes
                with sink(latency) as url:
                    destination = cdp.Destination(
                        api_key="sandbox", base_url=url, rate_limit=limit, max_messages=200
                    )
                    report = cdp.send(
                        path,
                        sample_data.MAPPING,
                        destination=destination,
                        progress=False,
                        journal=False,
                    )
                found.append(
                    {
                        "latency_ms": round(latency * 1_000),
                        "rate_limit": limit,
                        "requests_per_second": round(report.requests / report.seconds, 1),
                        "of_the_limit": round(report.requests / report.seconds / limit, 3),
                        "in_flight": report.max_in_flight,
                        "seconds": round(report.seconds, 1),
                    }
                )
    return found


# --- (f) scaling --------------------------------------------------------------------------------


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
    found = []
    for name, columns in tables.items():
        mapping = cdp.Mapping(
            user_id="uid",
            timestamp="ts",
            event=cdp.lit("Application Opened"),
            json=["j"] if "j" in columns else [],
        )
        prepared_source = prepared_source_of(pa.table(base | columns), mapping)
        size = 0

        def run(prepared_source: PreparedSource = prepared_source) -> None:
            nonlocal size
            parts = prepared_source.chunks(prepared_source.binding.columns)
            size = sum(int(e.sizes.sum()) for _, prepared in parts for e, _ in prepared.encoded)

        line = _timed(name, run, rows, 3)
        line["bytes_per_message"] = round(size / rows)
        line["cpu_ns_per_byte"] = round(1_000 * line["cpu_us_per_row"] * rows / size, 2)
        found.append(line)
    return found


# --- the first request --------------------------------------------------------------------------


def first_request(gigabytes: float = 2.0) -> list[dict[str, Any]]:
    """Seconds from the call to the first byte of the first request, and without the import."""
    found = []
    with records(1_000_000) as small, tempfile.TemporaryDirectory() as folder:
        text = pq.read_table(small)
        moments = pd.to_datetime(text["happened_at"].to_pandas(), errors="coerce", utc=True)
        at = text.schema.get_field_index("happened_at")
        typed = text.set_column(at, "happened_at", pa.array(moments))
        for name, table in (("times", typed), ("text, some of it no time", text)):
            path = Path(folder) / "large.parquet"
            with pq.ParquetWriter(path, table.schema) as writer:
                while path.stat().st_size < gigabytes * 1e9:
                    writer.write_table(table, row_group_size=100_000)
            with first_arrival() as (url, arrived):
                command = [sys.executable, __file__, "call", "--path", str(path), "--url", url]
                with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
                    assert run.stdout is not None
                    called = float(run.stdout.readline())
                    seconds = arrived.get() - called
                    run.kill()
            size = round(path.stat().st_size / 1e9, 2)
            rows = pq.read_metadata(path).num_rows
            found.append(
                {"happened_at": name, "gigabytes": size, "rows": rows, "seconds": round(seconds, 2)}
            )
    return found


def call(path: str, url: str) -> None:
    """Say when, and send."""
    destination = cdp.Destination(api_key="sandbox", base_url=url)
    with tempfile.TemporaryDirectory() as folder:
        print(time.time(), flush=True)
        cdp.send(
            path,
            sample_data.MAPPING,
            destination=destination,
            progress=False,
            journal=Path(folder) / "journal",
        )


# --- choices ------------------------------------------------------------------------------------


def compression(rows: int = 200_000) -> list[dict[str, Any]]:
    """Gzip of the demo's requests by library and level."""
    with records(rows) as path:
        prepared_source = prepared_source_of(path)
        packer = Packer()
        bodies = [
            request.body()
            for _, prepared in prepared_source.chunks(prepared_source.binding.columns)
            for part, _ in prepared.encoded
            for request in packer.feed(part)
        ]
    size, found = sum(map(len, bodies)), []
    libraries = [("isal", igzip.compress, level) for level in range(4)]
    for library, squeeze, level in [
        *libraries,
        ("zlib", gzip.compress, 1),
        ("zlib", gzip.compress, 6),
    ]:
        line = _timed(
            f"{library} {level}",
            lambda squeeze=squeeze, level=level: [  # type: ignore[misc]
                None for body in bodies if not squeeze(body, compresslevel=level)
            ],
            rows,
            3,
        )
        packed = sum(len(squeeze(body, compresslevel=level)) for body in bodies)
        found.append(
            {
                "gzip": line["stage"],
                "cpu_us_per_row": line["cpu_us_per_row"],
                "ratio": round(size / packed, 2),
                "bytes_per_row": round(packed / rows, 1),
            }
        )
    return found


def request_size(rows: int = 1_000_000, repeats: int = 3) -> list[dict[str, Any]]:
    """End to end by the messages of a request; 2,500 is where bytes are the limit."""
    with records(rows) as path, server() as url:
        return [
            _runs("parquet", path, url, repeats, messages=messages)
            for messages in (100, 300, 600, 1_200, 2_500)
        ]


def processes(rows: int = 2_000_000, repeats: int = 3) -> list[dict[str, Any]]:
    """End to end by processes; CPU is that of the one that sends."""
    with records(rows) as path, server() as url:
        return [
            _runs("parquet", path, url, repeats, processes=number)
            for number in (1, 2, os.cpu_count() or 2)
        ]


def main() -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser()
    jobs: dict[str, Callable[..., list[dict[str, Any]]]] = {
        "stages": stages,
        "end-to-end": end_to_end,
        "memory": memory,
        "waiting": waiting,
        "scaling": scaling,
        "first-request": first_request,
        "compression": compression,
        "request-size": request_size,
        "processes": processes,
    }
    parser.add_argument("what", choices=[*jobs, "child", "call"])
    parser.add_argument("--rows", type=int, help="rows, or the most rows for memory")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--nginx", action="store_true", help="nginx as the sink")
    parser.add_argument("--processes", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--messages", type=int, default=2_500, help=argparse.SUPPRESS)
    for name in ("--job", "--path", "--url"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.what == "child":
        found = child(options.job, options.path, options.url, options.processes, options.messages)
        print(json.dumps(found))
        return
    if options.what == "call":
        call(options.path, options.url)
        return
    lines = jobs[options.what](*([options.rows] if options.rows else []))
    about = machine()
    print(f"{about['machine']}, {about['cores']} cores, Python {about['python']}")
    print(pd.DataFrame(lines).to_string(index=False))
    if options.json:
        options.json.write_text(json.dumps(about | {options.what: lines}, indent=1), "utf-8")


if __name__ == "__main__":
    threading.stack_size(512 * 1024)
    main()

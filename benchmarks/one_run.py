"""One run to a sink, in this process, so that CPU and memory are its own; ``speed.py`` starts it.

It prints its figures as JSON. ``first-request`` prints the time of the call instead, and then sends
until it is killed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow.parquet as pq

import cdp_backfill as cdp
import floor
from cdp_backfill.cli import sample_data
from common import peak_mb
from standard_table import MAPPING

_SDK_ROWS: Final = 40_000

JOBS: Final = ("file", "frame", "polars", "duckdb", "floor", "sdk")
"""What can be measured: the file itself, other tables with its rows, the floor and the SDK."""


def table_of(job: str, path: str) -> Any:
    """The table that a job sends, in memory but for files and relations."""
    if job == "frame":
        return pd.read_parquet(path)
    if job == "polars":
        import polars as pl  # noqa: PLC0415

        return pl.read_parquet(path)
    if job == "duckdb":
        import duckdb  # noqa: PLC0415

        return duckdb.read_parquet(path)
    return path


def measure(job: str, path: str, destination: cdp.Destination, processes: int) -> dict[str, Any]:
    """Send the standard table, and measure the run.

    Args:
        job: One of :data:`JOBS`.
        path: The file; a parquet file unless the job is ``"file"``.
        destination: The sink.
        processes: See :func:`cdp_backfill.send`.
    """
    source = table_of(job, path)
    figures: dict[str, Any] = {}
    start, cpu_start = time.perf_counter(), time.process_time()
    if job == "sdk":
        dropped = send_with_sdk(path, destination.url)
        figures |= {"rows": _SDK_ROWS - dropped, "dropped": dropped}
    elif job == "floor":
        figures |= {"rows": floor.send(path, destination.url)}
    else:
        report = send(source, destination, processes)
        figures |= {"rows": report.rows, "fill": round(report.fill, 3)}
    return figures | {
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu_start,
        "peak_mb": peak_mb(),
    }


def send(
    source: Any,
    destination: cdp.Destination,
    processes: int = 1,
    mapping: cdp.Mapping = MAPPING,
) -> cdp.Report:
    """Send a table with a journal."""
    with tempfile.TemporaryDirectory() as folder:
        return cdp.send(
            source,
            mapping,
            destination=destination,
            progress=False,
            journal=Path(folder) / "journal",
            processes=processes,
        )


def send_with_sdk(path: str, url: str) -> int:
    """Send rows one by one with the vendor's SDK, at its best; returns the dropped rows.

    Its queue holds all rows, and its requests as many as it allows, so that it drops and waits for
    nothing.
    """
    from customerio.analytics import Client  # type: ignore[import-untyped]  # noqa: PLC0415

    client = Client(
        "sandbox",
        host=url.removesuffix("/v1"),
        gzip=True,
        max_queue_size=_SDK_ROWS,
        upload_size=1_000,
    )
    dropped = 0
    batches = pq.ParquetFile(path).iter_batches(8_192)
    rows = (row for batch in batches for row in batch.to_pylist())
    for row in itertools.islice(rows, _SDK_ROWS):
        queued, _ = client.track(
            user_id=row["user"],
            event=row["event"],
            timestamp=row["at"],
            properties={
                name: row[name] for name in ("build", "seconds", "level", "paid", "price", "city")
            },
            context={
                "app": {"version": row["app_version"]},
                "device": {"model": row["phone"]},
                "os": {"name": row["os"], "version": row["os_version"]},
                "locale": row["locale"],
            },
        )
        dropped += not queued
    client.flush()
    client.join()
    return dropped


def main() -> None:
    """Run a job."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job", choices=[*JOBS, "first-request"])
    parser.add_argument("--path", required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--messages", type=int, default=2_500)
    options = parser.parse_args()
    destination = cdp.Destination(
        api_key="sandbox",
        base_url=options.url,
        max_messages=options.messages,
        rate_limit=1_000.0,  # the whole documented limit: no live traffic shares the server
    )
    if options.job == "first-request":
        print(time.time(), flush=True)
        send(options.path, destination, mapping=sample_data.MAPPING)
    else:
        print(json.dumps(measure(options.job, options.path, destination, options.processes)))


if __name__ == "__main__":
    threading.stack_size(512 * 1024)
    main()

"""Measures runs in which things go wrong.

``poisoned`` has rows that the server refuses, ``strict`` a slow server with a low rate limit, and
``failing`` a table in which every row fails. Run one of them with
``python benchmarks/bad_days.py poisoned``, or all with ``all``. Each prints what became of the rows
and what it cost. The sandbox runs in a process of its own, so the memory is the sender's alone.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import cdp_backfill as cdp
from cdp_backfill.cli import sample_data
from common import peak_mb, print_machine, running_sandbox

MAPPING: Final = cdp.Mapping(user_id="uid", timestamp="ts", event=cdp.lit("Application Opened"))


def app_opens(rows: int) -> Any:
    """A table of app opens."""
    numbers = pa.array(np.arange(rows))
    return pa.table(
        {
            "uid": numbers.cast(pa.string()),
            "ts": pa.repeat("2023-05-01T10:00:00Z", rows),
            "version": pa.repeat("2.1.0", rows),
            "session": numbers,
        }
    )


def describe_counts(report: cdp.Report) -> str:
    """The outcomes that occur, with their rows."""
    return ", ".join(f"{rows:,} {name}" for name, rows in report.counts.items() if rows)


def poisoned(total: int = 1_000_000, refused: int = 500) -> None:
    """Send 1,000,000 rows, of which the server refuses 500 at random positions."""
    users = {str(user) for user in random.Random(1).sample(range(total), refused)}  # noqa: S311
    table = app_opens(total)
    with running_sandbox() as sandbox:
        faults_url = sandbox.url.removesuffix("/v1") + "/faults"
        httpx.put(faults_url, json={"refuse_users": sorted(users)}).raise_for_status()
        destination = cdp.Destination(api_key="sandbox", base_url=sandbox.url, rate_limit=1_000.0)
        plan = cdp.plan(table, MAPPING, destination=destination)
        report = cdp.send(table, MAPPING, destination=destination, progress=False)
    extra = report.requests - plan.requests
    print(
        f"poisoned: {describe_counts(report)}; {report.requests:,} requests in "
        f"{report.seconds:.0f} s,\n"
        f"  {extra:,} more than the {plan.requests:,} of a run without refusals: "
        f"{extra / refused:.1f} for each refused row"
    )
    assert set(report.failures["uid"]) == users


def strict(total: int = 300_000) -> None:
    """Send to a server that takes 100 ms for an answer and allows 200 requests a second."""
    runs = {}
    with running_sandbox("--latency", "0.1", "--rate-limit", "200") as sandbox:
        for name, rate_limit in (("without a rate limit", None), ("with rate_limit=195", 195)):
            destination = cdp.Destination(
                api_key="sandbox", base_url=sandbox.url, rate_limit=rate_limit, max_messages=100
            )
            runs[name] = cdp.send(
                app_opens(total), MAPPING, destination=destination, progress=False
            )
    for name, report in runs.items():
        accepted = report.requests - report.throttled
        print(
            f"strict, {name}: {describe_counts(report)}; {accepted / report.seconds:.0f} "
            f"requests/s accepted, {report.throttled:,} of {report.requests:,} answered 429"
        )
        step = max(1, len(report.timeline) // 12)
        levels = ", ".join(f"{s.in_flight}/{s.level}" for s in report.timeline[::step])
        print(f"  in flight / allowed over time: {levels}")


def failing(total: int = 5_000_000) -> None:
    """Send parquet files in which every row fails a check: 1,000,000 and 5,000,000 rows."""
    for rows in (total // 5, total):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "records.parquet"
            write_invalid(path, rows)
            # A process of its own for each run, because peak memory never falls.
            pid = os.fork()
            if not pid:
                send_invalid(path, Path(folder) / "report")
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0


def write_invalid(path: Path, rows: int) -> None:
    """Write the demo's records to a parquet file, without the ids of people."""
    writer = None
    for batch in sample_data.batches(rows):
        empty = pa.nulls(batch.num_rows, pa.string())
        invalid = batch.set_column(0, "customer", empty).set_column(1, "install_id", empty)
        writer = writer or pq.ParquetWriter(path, invalid.schema)
        writer.write_batch(invalid)
    assert writer is not None
    writer.close()


def send_invalid(path: Path, folder: Path) -> None:
    """Send such a file, save the report, and print the peak memory of this process."""
    destination = cdp.Destination(api_key="k", base_url="http://127.0.0.1:9/v1")
    report = cdp.send(path, sample_data.MAPPING, destination=destination, progress=False)
    report.save(folder)
    peak = peak_mb()
    saved = pq.read_metadata(folder / "failures.parquet").num_rows
    print(
        f"failing: {describe_counts(report)} in {report.seconds:.0f} s; {saved:,} rows saved; "
        f"peak memory {peak:,.0f} MB",
        flush=True,
    )


def main() -> None:
    """Run the benchmarks that the command line names."""
    print_machine()
    benchmarks = {"poisoned": poisoned, "strict": strict, "failing": failing}
    for name in benchmarks if sys.argv[1:] in ([], ["all"]) else sys.argv[1:]:
        start = time.monotonic()
        benchmarks[name]()
        print(f"  ({time.monotonic() - start:.0f} s in all)")


if __name__ == "__main__":
    main()

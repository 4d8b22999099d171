"""What the bad days cost: poisoned rows, a slow and strict server, a table in which all fails.

Run one with ``python benchmarks/bad_days.py poisoned`` (or ``strict``, ``failing``, ``all``). Each
prints what became of the rows and what it took, with the machine noted. The sandbox runs in a
process of its own, so that the memory is the sender's alone.
"""

from __future__ import annotations

import contextlib
import os
import platform
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import cdp_backfill as cdp
from cdp_backfill.cli import sample_data

if TYPE_CHECKING:
    from collections.abc import Iterator

MAPPING = cdp.Mapping(user_id="uid", timestamp="ts", event=cdp.lit("Application Opened"))


@contextlib.contextmanager
def box(*options: str) -> Iterator[str]:
    """A sandbox in its own process; gives its address."""
    command = [sys.executable, "-m", "cdp_backfill", "sandbox", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+/v1", process.stdout.readline())
        assert found
        try:
            yield found.group()
        finally:
            process.kill()


def rows(count: int) -> Any:
    """A table of app opens."""
    numbers = pa.array(np.arange(count))
    return pa.table(
        {
            "uid": numbers.cast(pa.string()),
            "ts": pa.repeat("2023-05-01T10:00:00Z", count),
            "version": pa.repeat("2.1.0", count),
            "session": numbers,
        }
    )


def counts(report: cdp.Report) -> str:
    """The outcomes that occur."""
    return ", ".join(f"{rows:,} {name}" for name, rows in report.counts.items() if rows)


def poisoned(total: int = 1_000_000, bad: int = 500) -> None:
    """A million rows, 500 of them refused by the server, spread at random."""
    users = random.Random(1).sample(range(total), bad)  # noqa: S311
    with box() as url:
        faults = {"refuse_users": [str(user) for user in users]}
        httpx.put(url.removesuffix("/v1") + "/faults", json=faults).raise_for_status()
        destination = cdp.Destination(api_key="sandbox", base_url=url)
        plain = cdp.plan(rows(total), MAPPING, destination=destination)
        report = cdp.send(rows(total), MAPPING, destination=destination, progress=False)
    extra = report.requests - plain.requests
    print(f"poisoned: {counts(report)}; {report.requests:,} requests in {report.seconds:.0f} s,")
    print(
        f"  {extra:,} more than the {plain.requests:,} of a clean run: {extra / bad:.1f} a bad row"
    )
    assert set(report.failures["uid"]) == {str(user) for user in users}


def strict(total: int = 300_000) -> None:
    """A server that takes 100 ms and allows 200 requests a second."""
    with box("--latency", "0.1", "--rate-limit", "200") as url:
        destination = cdp.Destination(
            api_key="sandbox", base_url=url, rate_limit=None, max_messages=100
        )
        report = cdp.send(rows(total), MAPPING, destination=destination, progress=False)
        told = cdp.Destination(api_key="sandbox", base_url=url, rate_limit=195, max_messages=100)
        second = cdp.send(rows(total), MAPPING, destination=told, progress=False)
    for name, run in (("without a rate limit", report), ("with rate_limit=195", second)):
        sent = run.requests - run.throttled
        print(
            f"strict, {name}: {counts(run)}; {sent / run.seconds:.0f} requests/s taken, "
            f"{run.throttled:,} answers of 429 to {run.requests:,}"
        )
        every = max(1, len(run.timeline) // 12)
        levels = ", ".join(f"{s.in_flight}/{s.level}" for s in run.timeline[::every])
        print(f"  in flight / allowed over time: {levels}")


def failing(total: int = 5_000_000) -> None:
    """A parquet file in which every row fails a check."""
    for share in (5, 1):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "records.parquet"
            writer = None
            for batch in sample_data.batches(total // share):
                nobody = pa.nulls(batch.num_rows, pa.string())
                spoilt = batch.set_column(0, "customer", nobody).set_column(1, "install_id", nobody)
                writer = writer or pq.ParquetWriter(path, spoilt.schema)
                writer.write_batch(spoilt)
            assert writer is not None
            writer.close()
            pid = os.fork()
            if not pid:
                destination = cdp.Destination(api_key="k", base_url="http://127.0.0.1:9/v1")
                report = cdp.send(
                    path, sample_data.MAPPING, destination=destination, progress=False
                )
                report.save(Path(folder) / "out")
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                saved = pq.ParquetFile(Path(folder) / "out" / "failures.parquet")
                print(
                    f"failing: {counts(report)} in {report.seconds:.0f} s; "
                    f"{saved.metadata.num_rows:,} rows saved; peak memory {peak:,.0f} MB",
                    flush=True,
                )
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0


def main() -> None:
    """Run what is named."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    known = {"poisoned": poisoned, "strict": strict, "failing": failing}
    for name in known if sys.argv[1:] in ([], ["all"]) else sys.argv[1:]:
        started = time.monotonic()
        known[name]()
        print(f"  ({time.monotonic() - started:.0f} s in all)")


if __name__ == "__main__":
    main()

"""What a plan costs: rows per second and peak memory, beside reading the same file.

Run it with ``python benchmarks/planning.py`` (``--rows 500000`` for fewer). Each figure comes from
a process of its own. The peer is pyarrow reading the same columns of the same file to its end.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

import cdp_backfill as cdp
from cdp_backfill.cli import sample_data


def read(path: str) -> int:
    """The peer: all columns of the file, batch by batch."""
    batches = pq.ParquetFile(path).iter_batches(8_192)
    return sum(batch.num_rows for batch in batches)


def given(path: str) -> int:
    """A plan with a mapping."""
    return cdp.plan(path, sample_data.MAPPING).rows


def proposed(path: str) -> int:
    """A plan without any argument."""
    return cdp.plan(path).rows


JOBS = {"read": read, "plan": given, "proposed": proposed}


def measured(job: str, path: str) -> dict[str, float]:
    """Seconds, CPU seconds and peak memory of one job, in this process."""
    before, cpu = time.perf_counter(), time.process_time()
    rows = JOBS[job](path)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds, used = time.perf_counter() - before, time.process_time() - cpu
    return {"rows": rows, "seconds": seconds, "cpu": used, "peak_mb": peak}


def main() -> None:
    """Measure each job five times and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--job")
    parser.add_argument("--path")
    options = parser.parse_args()
    if options.job:
        print(json.dumps(measured(options.job, options.path)))
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "records.parquet")
        sample_data.write(Path(path), options.rows)
        reference = 0.0
        for job in JOBS:
            command = [sys.executable, __file__, "--job", job, "--path", path]
            runs = [
                json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
                for _ in range(options.repeats)
            ]
            seconds = statistics.median(run["seconds"] for run in runs)
            reference = reference or seconds
            peak = max(run["peak_mb"] for run in runs)
            print(
                f"{job:9} {options.rows / seconds:12,.0f} rows/s  {seconds / reference:6.1f} x the "
                f"time of reading  {1e6 * runs[0]['cpu'] / options.rows:5.2f} CPU-us a row  peak "
                f"{peak:5.0f} MB"
            )


if __name__ == "__main__":
    main()

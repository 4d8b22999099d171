"""Measures what a plan costs: rows per second and peak memory, relative to reading the same file.

Run it with ``python benchmarks/planning.py``; ``--rows 500000`` plans fewer rows. Each run has a
process of its own. For comparison, pyarrow reads all columns of the same file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import Final

import pyarrow.parquet as pq

import cdp_backfill as cdp
from cdp_backfill.cli import sample_data
from common import demo_records, peak_mb, print_machine


def read(path: str) -> int:
    """Read all columns of the file with pyarrow, batch by batch."""
    batches = pq.ParquetFile(path).iter_batches(8_192)
    return sum(batch.num_rows for batch in batches)


def plan_with_mapping(path: str) -> int:
    """Make a plan with a mapping."""
    return cdp.plan(path, sample_data.MAPPING).rows


def plan_with_proposal(path: str) -> int:
    """Make a plan that proposes the mapping."""
    return cdp.plan(path).rows


JOBS: Final = {"read": read, "plan": plan_with_mapping, "proposed": plan_with_proposal}


def measure(job: str, path: str) -> dict[str, float]:
    """Seconds, CPU seconds and peak memory of one job in this process."""
    start, cpu_start = time.perf_counter(), time.process_time()
    rows = JOBS[job](path)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    return {"rows": rows, "seconds": seconds, "cpu": cpu, "peak_mb": peak_mb()}


def main() -> None:
    """Run each job several times, and print the medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps(measure(options.job, options.path)))
        return
    print_machine()
    with demo_records(options.rows) as path:
        reading_seconds = 0.0
        for job in JOBS:
            command = [sys.executable, __file__, "--job", job, "--path", str(path)]
            runs = [
                json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
                for _ in range(options.repeats)
            ]
            seconds = statistics.median(run["seconds"] for run in runs)
            reading_seconds = reading_seconds or seconds  # the first job reads
            peak = max(run["peak_mb"] for run in runs)
            print(
                f"{job:9} {options.rows / seconds:12,.0f} rows/s  "
                f"{seconds / reading_seconds:6.1f} x the time of reading  "
                f"{1e6 * runs[0]['cpu'] / options.rows:5.2f} CPU-us a row  peak {peak:5.0f} MB"
            )


if __name__ == "__main__":
    main()

"""What a journal costs, by how often it is written through to the disk.

A run records each request before it is sent and when it is answered. Here nothing else happens:
the figures are the time of these records alone, in microseconds a row.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np

import cdp_backfill as cdp
from cdp_backfill.pipeline import journal as journals
from cdp_backfill.pipeline.journal import Journal
from cdp_backfill.pipeline.run_journal import State
from common import print_machine

REQUESTS: Final = 1_000
ROWS: Final = 2_400
"""Rows of a request, as of the demo."""

REPEATS: Final = 5
NEVER: Final = float("inf")


def seconds(folder: Path, sync_seconds: float) -> float:
    """Seconds for the records of all requests."""
    mapping = cdp.Mapping(user_id="uid", timestamp="ts", event=cdp.lit("Application Opened"))
    digests = np.random.default_rng(7).integers(0, 256, (ROWS, 16), np.uint8)
    journals.SYNC_SECONDS = sync_seconds
    journal = Journal(folder / f"{time.monotonic_ns()}.journal", mapping=mapping, url="http://x/v1")
    journal.begin()
    start = time.perf_counter()
    for number in range(REQUESTS):
        digests[:, 0] = number % 256
        request = journal.add([digests], State.SENT)
        journal.change(request, State.DELIVERED)
    journal.close({}, {})
    return time.perf_counter() - start


def main() -> None:
    """Print a line for each way, all in one run."""
    print_machine()
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as name:
        folder = Path(name)
        ways = {"never": NEVER, "once a second": 1.0, "10 times a second": 0.1, "always": 0.0}
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(REPEATS):
            for way, sync_seconds in ways.items():
                taken[way].append(seconds(folder, sync_seconds))
        least = statistics.median(taken["never"])
        for way, times in taken.items():
            median = statistics.median(times)
            row = median / REQUESTS / ROWS * 1e6
            print(f"{way:<18} {row:6.3f} us a row {median / least:6.2f} x never")
        descriptor = os.open(folder / "f", os.O_CREAT | os.O_WRONLY)
        spent = []
        for _ in range(50):
            os.write(descriptor, b"x" * 30_000)
            start = time.perf_counter()
            os.fsync(descriptor)
            spent.append(time.perf_counter() - start)
        os.close(descriptor)
        print(f"one fsync of 30 kB: {statistics.median(spent) * 1e3:.2f} ms")


if __name__ == "__main__":
    main()

"""Shows how a change affects the cost of a row and of a start, independent of the machine.

Run it with ``python benchmarks/guard.py``; CI does. Counts are exact: the same code on the same
rows gives the same counts anywhere, with the same package versions. The other figures are CPU times
relative to what libraries alone need, in the same run, to read, write and compress the same rows.
They hardly depend on the machine. Each figure is printed beside the figure in
``benchmarks/guard.json``; ``--renew`` writes the new figures to that file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import arro3.io
import pyarrow as pa
import pyarrow.parquet as pq

from cdp_backfill.delivery.transport import compress
from cdp_backfill.messages.packing import Packer, Request
from cdp_backfill.pipeline.recency_guard import refuse_recent
from common import demo_records, prepare

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.pipeline.prepared_source import PreparedSource

ROWS: Final = 131_072
BASELINE_FILE: Final = Path(__file__).with_name("guard.json")


def make_requests(prepared: PreparedSource) -> list[Request]:
    """Do everything that is done to rows before they are sent, except compression."""
    packer = Packer()
    requests = [
        request
        for _, chunk in prepared.chunks(prepared.binding.columns)
        for part, _ in chunk.encoded
        for request in packer.feed(part)
    ]
    return requests + list(packer.flush())


def read_and_write(path: Path) -> list[Any]:
    """Do the least that is possible: read the columns, and write them as JSON."""
    outputs = []
    for batch in pq.ParquetFile(path).iter_batches(16_384):
        out = pa.BufferOutputStream()
        arro3.io.write_ndjson(batch, out)
        outputs.append(out.getvalue())
    return outputs


def count_calls(job: Callable[[], Any]) -> int:
    """Count the calls of Python and C functions from Python in this thread."""
    count = 0

    def profile(_frame: Any, event: str, _arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        job()
    finally:
        sys.setprofile(None)
    return count


def measure_cpu(job: Callable[[], Any]) -> float:
    """CPU seconds of a job in all threads, as the median of five runs."""
    cpu_times = []
    for _ in range(5):
        start = time.process_time()
        job()
        cpu_times.append(time.process_time() - start)
    return statistics.median(cpu_times)


def measure_start(*arguments: str) -> float:
    """CPU seconds of a new process of Python, as the least of nine runs."""
    cpu_times = []
    for _ in range(9):
        before = os.times()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        user, system = after.children_user, after.children_system
        cpu_times.append(user + system - before.children_user - before.children_system)
    return min(cpu_times)


def measure() -> dict[str, float]:
    """Measure all figures."""
    with demo_records(ROWS) as path:
        prepared = prepare(path)
        requests = make_requests(prepared)
        bodies = [request.body() for request in requests]
        libraries = measure_cpu(lambda: read_and_write(path))
        libraries += measure_cpu(lambda: [compress(body) for body in bodies])
        package = measure_cpu(lambda: [compress(r.body()) for r in make_requests(prepared)])
        recency = measure_cpu(lambda: refuse_recent(prepared))
        calls = count_calls(lambda: make_requests(prepared))
        return {
            "calls per 1,000 rows": round(1_000 * calls / ROWS, 1),
            "requests": len(requests),
            "bytes per row": round(sum(map(len, bodies)) / ROWS, 1),
            "bytes per row, compressed": round(sum(len(compress(b)) for b in bodies) / ROWS, 1),
            "CPU, relative to the libraries": round(package / libraries, 2),
            "CPU of the recency check, relative": round(recency / libraries, 2),
            "CPU of --help, relative to pandas": round(
                measure_start("-m", "cdp_backfill", "--help")
                / measure_start("-c", "import pandas"),
                2,
            ),
            "CPU of the first use, relative": round(
                measure_start("-c", "import cdp_backfill; cdp_backfill.send")
                / measure_start("-c", "import pandas, pyarrow, httpx"),
                2,
            ),
        }


def main() -> None:
    """Measure, and print the figures beside those of the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--renew", action="store_true", help="write the figures to guard.json")
    options = parser.parse_args()
    figures = measure()
    baseline = json.loads(BASELINE_FILE.read_text("utf-8")) if BASELINE_FILE.exists() else {}
    print(f"{'The cost of a row':40} {'now':>10} {'before':>10} {'change':>8}")
    for name, value in figures.items():
        before = baseline.get(name)
        change = f"{value / before - 1:+.0%}" if before else ""
        print(f"{name:40} {value:>10,} {before or '':>10} {change:>8}")
    if options.renew:
        BASELINE_FILE.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

"""What a change does to the cost of a row, told without a clock of this machine.

Run it with ``python benchmarks/guard.py``; CI does. Counts are exact: the same code on the same
rows gives the same, anywhere with the same versions. Ratios are of CPU times within one run, to
what libraries alone need to read, write and compress the same rows: they hardly depend on the
machine. Beside each figure stands what it was when ``benchmarks/guard.json`` was last renewed
(``--renew``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import arro3.io
import pyarrow as pa
import pyarrow.parquet as pq

from cdp_backfill.cli import sample_data
from cdp_backfill.delivery.transport import compress
from cdp_backfill.messages.packing import Packer, Request
from cdp_backfill.pipeline.recency_guard import refuse_recent
from speed import prepared_source_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.pipeline.prepared_source import PreparedSource

ROWS = 131_072
KEPT = Path(__file__).with_name("guard.json")


def requests_of(rows: PreparedSource) -> list[Request]:
    """All that is done to rows before they are sent, but for compressing."""
    packer = Packer()
    found = [
        request
        for _, chunk in rows.chunks(rows.binding.columns)
        for part, _ in chunk.encoded
        for request in packer.feed(part)
    ]
    return found + list(packer.flush())


def libraries(path: Path) -> list[Any]:
    """What cannot be saved: reading the columns, and writing them as JSON."""
    outputs = []
    for batch in pq.ParquetFile(path).iter_batches(16_384):
        out = pa.BufferOutputStream()
        arro3.io.write_ndjson(batch, out)
        outputs.append(out.getvalue())
    return outputs


def calls(job: Callable[[], Any]) -> int:
    """Calls of functions, of Python and of C, that Python makes in this thread."""
    count = 0

    def note(_frame: Any, event: str, _arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        job()
    finally:
        sys.setprofile(None)
    return count


def cpu(job: Callable[[], Any]) -> float:
    """CPU seconds of a job, all threads: the median of five."""
    found = []
    for _ in range(5):
        before = time.process_time()
        job()
        found.append(time.process_time() - before)
    return statistics.median(found)


def measured() -> dict[str, float]:
    """The figures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.parquet"
        sample_data.write(path, ROWS)
        rows = prepared_source_of(path)
        requests = requests_of(rows)
        bodies = [request.body() for request in requests]
        floor = cpu(lambda: libraries(path)) + cpu(lambda: [compress(body) for body in bodies])
        whole = cpu(lambda: [compress(request.body()) for request in requests_of(rows)])
        return {
            "calls per 1,000 rows": round(1_000 * calls(lambda: requests_of(rows)) / ROWS, 1),
            "requests": len(requests),
            "bytes per row": round(sum(map(len, bodies)) / ROWS, 1),
            "bytes per row, compressed": round(sum(len(compress(b)) for b in bodies) / ROWS, 1),
            "CPU, times that of the libraries alone": round(whole / floor, 2),
            "CPU to look for recent rows, the same": round(
                cpu(lambda: refuse_recent(rows)) / floor, 2
            ),
        }


def main() -> None:
    """Measure, and print it beside what was kept."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--renew", action="store_true", help="keep these figures")
    options = parser.parse_args()
    found = measured()
    kept = json.loads(KEPT.read_text("utf-8")) if KEPT.exists() else {}
    print(f"{'The cost of a row':40} {'now':>10} {'kept':>10} {'change':>8}")
    for name, value in found.items():
        before = kept.get(name)
        change = f"{value / before - 1:+.0%}" if before else ""
        print(f"{name:40} {value:>10,} {before or '':>10} {change:>8}")
    if options.renew:
        KEPT.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

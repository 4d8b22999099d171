"""Benchmarks of whole runs; ``speed.py`` runs them. ``one_run.py`` is the process of a run."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import cdp_backfill as cdp
from cdp_backfill.cli import sample_data
from common import demo_records
from sinks import first_arrival, python_sink
from standard_table import FILES, standard_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    Sink = Callable[[], AbstractContextManager[str]]

_ONE_RUN: Final = str(Path(__file__).with_name("one_run.py"))
_LOW_RATE: Final = 100.0  # requests a second
_HIGH_RATE: Final = 1_000.0


def end_to_end(sink: Sink, rows: int = 1_000_000, repeats: int = 5) -> list[dict[str, Any]]:
    """The standard table in every format to a sink, with journal and report; the floor; the SDK.

    The jobs take turns, so that what else the machine does meets all of them alike.
    """
    with standard_files(rows) as files, sink() as url:
        jobs = [("floor", files["parquet"]), *(("file", files[name]) for name in FILES)]
        jobs += [(job, files["parquet"]) for job in ("frame", "polars", "duckdb", "sdk")]
        runs: list[list[dict[str, Any]]] = [[] for _ in jobs]
        for _ in range(repeats):
            for (job, path), done in zip(jobs, runs, strict=True):
                done.append(_run(job, path, url))
    lines = []
    for (job, path), done in zip(jobs, runs, strict=True):
        name = path.name.removeprefix("standard.") if job == "file" else job
        lines.append({"job": name} | _medians(done))
    by_name = {line["job"]: line for line in lines}
    for line in lines:
        line["cpu_of_floor"] = round(line["cpu_us_per_row"] / by_name["floor"]["cpu_us_per_row"], 2)
        line["rate_of_parquet"] = round(
            line["rows_per_second"] / by_name["parquet"]["rows_per_second"], 2
        )
        line["times_the_sdk"] = round(
            line["rows_per_second"] / by_name["sdk"]["rows_per_second"], 1
        )
    return lines


def request_size(sink: Sink, rows: int = 1_000_000, repeats: int = 3) -> list[dict[str, Any]]:
    """End to end, by messages in a request; at 2,500, the limit on bytes is reached first."""
    with standard_files(rows) as files, sink() as url:
        return [
            _repeat("file", files["parquet"], url, repeats, messages=messages)
            for messages in (100, 300, 600, 1_200, 2_500)
        ]


def processes(sink: Sink, rows: int = 2_000_000, repeats: int = 3) -> list[dict[str, Any]]:
    """End to end, by number of processes; CPU is that of the process that sends."""
    with standard_files(rows) as files, sink() as url:
        return [
            _repeat("file", files["parquet"], url, repeats, processes=number)
            for number in sorted({1, 2, os.cpu_count() or 2})
        ]


def memory(rows: int = 20_000_000) -> list[dict[str, Any]]:
    """Peak memory from each format of files, with 0.2 and 2 million rows and the given number."""
    lines = []
    with python_sink() as url:
        for number in (200_000, 2_000_000, rows):
            with standard_files(number) as files:
                for name, path in files.items():
                    peak = round(_run("file", path, url)["peak_mb"])
                    lines.append({"file": name, "rows": number, "peak_mb": peak})
    return lines


def waiting(rows: int = 2_000_000) -> list[dict[str, Any]]:
    """Requests per second by latency and rate limit, with small requests."""
    lines = []
    with demo_records(rows) as large, demo_records(rows // 5) as small:
        for latency in (0.02, 0.1, 0.3):
            for limit in (_LOW_RATE, _HIGH_RATE):
                with python_sink(latency) as url:
                    destination = cdp.Destination(
                        api_key="sandbox", base_url=url, rate_limit=limit, max_messages=200
                    )
                    report = cdp.send(
                        small if limit == _LOW_RATE else large,  # else it takes minutes
                        sample_data.MAPPING,
                        destination=destination,
                        progress=False,
                        journal=False,
                    )
                lines.append(
                    {
                        "latency_ms": round(latency * 1_000),
                        "rate_limit": limit,
                        "requests_per_second": round(report.requests / report.seconds, 1),
                        "of_the_limit": round(report.requests / report.seconds / limit, 3),
                        "in_flight": report.max_in_flight,
                        "seconds": round(report.seconds, 1),
                    }
                )
    return lines


def first_request(gigabytes: float = 2.0, rows: int = 1_000_000) -> list[dict[str, Any]]:
    """Seconds from the call to the first byte of the first request; imports do not count.

    Args:
        gigabytes: Size of the parquet file.
        rows: Rows of the demo's records, which are repeated up to that size.
    """
    lines = []
    with demo_records(rows) as records, tempfile.TemporaryDirectory() as folder:
        table = pq.read_table(records)
        times = pd.to_datetime(table["happened_at"].to_pandas(), errors="coerce", utc=True)
        position = table.schema.get_field_index("happened_at")
        typed_table = table.set_column(position, "happened_at", pa.array(times))
        kinds = {"times": typed_table, "text, some cells not times": table}
        for kind, content in kinds.items():
            path = Path(folder) / "large.parquet"
            with pq.ParquetWriter(path, content.schema) as writer:
                while path.stat().st_size < gigabytes * 1e9:
                    writer.write_table(content, row_group_size=100_000)
            with first_arrival() as (url, arrivals):
                command = _command("first-request", path, url)
                with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                    assert process.stdout is not None
                    call_time = float(process.stdout.readline())
                    seconds = arrivals.get() - call_time
                    process.kill()
            lines.append(
                {
                    "happened_at": kind,
                    "gigabytes": round(path.stat().st_size / 1e9, 2),
                    "rows": pq.read_metadata(path).num_rows,
                    "seconds": round(seconds, 2),
                }
            )
    return lines


def _repeat(job: str, path: Path, url: str, repeats: int, **options: int) -> dict[str, Any]:
    """Runs in processes of their own."""
    runs = [_run(job, path, url, **options) for _ in range(repeats)]
    return options | {"job": job} | _medians(runs)


def _medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The medians of some runs, and the range of their CPU relative to its median."""
    cpu = [1e6 * run["cpu"] / run["rows"] for run in runs]
    return {
        "rows": runs[0]["rows"],
        "rows_per_second": round(statistics.median(run["rows"] / run["seconds"] for run in runs)),
        "cpu_us_per_row": round(statistics.median(cpu), 2),
        "spread": round((max(cpu) - min(cpu)) / statistics.median(cpu), 2),
        "fill": runs[0].get("fill"),
        "dropped": runs[0].get("dropped", 0),
        "peak_mb": round(max(run["peak_mb"] for run in runs)),
    }


def _run(job: str, path: Path, url: str, **options: int) -> dict[str, Any]:
    command = _command(job, path, url, **options)
    process = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


def _command(job: str, path: Path, url: str, **options: int) -> list[str]:
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [sys.executable, _ONE_RUN, job, "--path", str(path), "--url", url, *words]

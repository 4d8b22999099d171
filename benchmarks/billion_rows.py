"""What a billion rows take, from measurements of a few parts: time, cores, journal, memory.

Each part runs in a process of its own, as on a worker of an engine, and sends the standard table to
a sink. At last, parts at a low rate limit show whether the formulas hold.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import cdp_backfill as cdp
from cdp_backfill.engines import digest_files, digest_index
from cdp_backfill.engines.folder_journal import FolderJournal
from cdp_backfill.engines.store import Store
from cdp_backfill.model.api_facts import REQUESTS_PER_SECOND
from common import peak_mb, print_machine
from sinks import python_sink
from standard_table import MAPPING, batches

if TYPE_CHECKING:
    from collections.abc import Callable

BILLION: Final = 1_000_000_000
DEFAULT_RATE: Final = 500.0
_FILE: Final = 1_000_000  # digests of one part
_LOOKUPS: Final = 50_000


@dataclass(frozen=True)
class Part:
    """What a part took.

    Attributes:
        rows: Its rows.
        requests: Requests sent.
        body_bytes: Bytes of its messages.
        wire_bytes: Bytes sent.
        cpu: Seconds of one core.
        seconds: Seconds from begin to end.
    """

    rows: int
    requests: int
    body_bytes: int
    wire_bytes: int
    cpu: float
    seconds: float


def send_part(number: int, rows: int, job: cdp.PartitionJob, journal: Any = None) -> Part:
    """Send a part of the table, whose rows are those of no other part."""
    table = list(batches(rows, seed=number + 1))
    began, spent = time.perf_counter(), time.process_time()
    sending = cdp.send_partition(table, job, part=str(number), journal=journal)
    while True:
        try:
            next(sending)
        except StopIteration as end:
            summary = end.value
            break
    assert summary.counts["delivered"] == rows, summary.error
    stats = summary.stats
    return Part(
        rows=rows,
        requests=stats.requests,
        body_bytes=stats.body_bytes,
        wire_bytes=stats.wire_bytes,
        cpu=time.process_time() - spent,
        seconds=time.perf_counter() - began,
    )


def look_up(folder: str, *, in_memory: int) -> dict[str, float]:
    """Read what an earlier run delivered, and look messages up."""
    digest_index.IN_MEMORY = in_memory  # type: ignore[misc]
    before, spent = peak_mb(), time.process_time()
    known = digest_index.known_before(Store.at(folder), "now")
    cpu, peak = time.process_time() - spent, peak_mb() - before
    digests = np.random.default_rng(3).integers(0, 256, (20, _LOOKUPS, 12), np.uint8)
    spent = time.process_time()
    for each in digests:
        known.is_delivered(each)
    looked = digests.shape[0] * _LOOKUPS / (time.process_time() - spent)
    return {"cpu": cpu, "peak": peak, "looked": looked, "delivered": known.delivered}


def write_digests(folder: Path, number: int) -> None:
    """An earlier run that delivered this many messages."""
    store, rng = Store.at(folder), np.random.default_rng(1)
    for part in range(number // _FILE):
        digests = rng.integers(0, 256, (_FILE, 12), np.uint8)
        name = f"runs/before/parts/part-{part}/0/all.digests"
        store.write(name, digest_files.to_bytes({"delivered": digests}))


def in_new_processes(function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> list[Any]:
    """Call a function several times at once, each in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(calls), mp_context=context, max_tasks_per_child=1) as pool:
        return [each.result() for each in [pool.submit(function, *call) for call in calls]]


def at_once(number: int, folder: str) -> dict[str, float]:
    """Look up with an index, or in memory."""
    return look_up(folder, in_memory=0 if number else sys.maxsize)


def job_to(url: str, rate: float | None, slots: int) -> cdp.PartitionJob:
    """A job to a sink."""
    destination = cdp.Destination(base_url=url, rate_limit=rate, key_from=_key)
    return cdp.PartitionJob(mapping=MAPPING, destination=destination, slots=slots, recent="send")


def _key() -> str:
    return "none"


def main(rows: int = 500_000, digests: int = 16_000_000) -> None:
    """Measure, and print what follows for a billion rows."""
    print_machine()
    with python_sink() as url, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = job_to(url, None, 1)
        (plain,) = in_new_processes(send_part, [(0, rows, job)])
        with FolderJournal(folder / "journal", mapping=MAPPING, url=url) as journal:
            (part,) = in_new_processes(send_part, [(0, rows, job, journal.shared)])
        size = sum(f.stat().st_size for f in (folder / "journal").rglob("*.digests")) / rows
        print(f"a part of {rows:,} rows: {part.body_bytes / rows:.0f} bytes a message, ", end="")
        print(
            f"{rows / part.requests:,.0f} in a request, {part.wire_bytes / rows:.0f} sent for each"
        )
        print(f"without a journal: {rows / plain.cpu:,.0f} rows a second of one core")
        print(f"with a journal: {rows / part.cpu:,.0f}, {size:.2f} bytes a row on the disk")
        print()

        write_digests(folder / "before", digests)
        (memory,) = in_new_processes(at_once, [(0, str(folder / "before"))])
        (first,) = in_new_processes(at_once, [(1, str(folder / "before"))])
        (second,) = in_new_processes(at_once, [(1, str(folder / "before"))])
        digest_index.remove_index(Store.at(folder / "before"), "now")
        ways = {"in memory": memory, "index, first process": first, "index, others": second}
        for way, found in ways.items():
            print(
                f"{digests:,} rows delivered before, {way}: {found['cpu']:.1f} s of one core, ",
                end="",
            )
            print(f"{found['peak']:,.0f} MB more, {found['looked']:,.0f} looked up a second")
        print()

        print("a billion such rows")
        requests = BILLION * part.requests / rows
        for rate in (DEFAULT_RATE, REQUESTS_PER_SECOND):
            seconds = requests / rate
            cores = BILLION * part.cpu / rows / seconds
            wire = BILLION * part.wire_bytes / rows / seconds / 1e6
            print(
                f"  {rate:,.0f} requests/s: {seconds / 60:,.0f} minutes, {cores:.1f} cores, ",
                end="",
            )
            print(f"{wire:,.0f} MB/s to send")
        print(f"  one core: {BILLION * part.cpu / rows / 3600:.1f} hours")
        print(f"  journal: {BILLION * size / 1e9:.0f} GB, {requests:,.0f} requests")
        print(
            f"  a rerun: {BILLION * first['cpu'] / digests / 60:.0f} minutes for the index on ",
            end="",
        )
        print("each machine, 12 GB of its disk, 24 GB while it is made")
        print()

        rate, slots = 40.0, 2
        at_limit = [(n + 1, rows, job_to(url, rate, slots)) for n in range(slots)]
        parts = in_new_processes(send_part, at_limit)
        expected = sum(each.requests for each in parts) / rate
        took = max(each.seconds for each in parts)
        print(f"check: {slots} parts at {rate:.0f} requests/s together took {took:.1f} s, ", end="")
        print(f"the formula says {expected:.1f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

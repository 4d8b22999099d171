"""Measures how many events the sandbox accepts: per second, per core, and in how much memory.

Run it with ``python benchmarks/sandbox_load.py``; ``--events 1000000`` sends fewer events. The
sandbox runs in a process of its own and stores the events in a file. Four connections send it
gzipped batches of mobile-app events that are prepared beforehand. For comparison, the same batches
go to a sink, which only reads and answers.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import http.client
import json
import os
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cdp_backfill.model import api_facts
from common import print_machine, running_sandbox
from sinks import python_sink

BATCH_EVENTS: Final = 1_200
SINK_EVENTS: Final = 500_000
STEPS: Final = (1_000_000, 2_000_000, 5_000_000, 10_000_000)


def make_bodies(count: int = 40) -> list[bytes]:
    """Gzipped batches as a backfill sends them, just below the limit."""
    bodies = []
    for number in range(count):
        batch = [
            {
                "type": "track",
                "messageId": f"{number:08d}{index:018d}",
                "userId": f"user_{number * BATCH_EVENTS + index}",
                "event": "Application Opened",
                "timestamp": f"2023-05-{index % 28 + 1:02d}T10:00:{index % 60:02d}.000Z",
                "properties": {"version": "2.1.0", "build": "421", "from_background": False},
                "context": {"device": {"model": "Pixel 8"}, "os": {"name": "Android"}},
            }
            for index in range(BATCH_EVENTS)
        ]
        text = json.dumps({"batch": batch}, separators=(",", ":")).encode()
        assert len(text) <= api_facts.MAX_REQUEST_BYTES
        bodies.append(gzip.compress(text, 1))
    return bodies


def send(url: str, bodies: list[bytes], events: int, threads: int = 4) -> float:
    """Send batches with about so many events; returns the seconds that it takes."""
    remaining = events // BATCH_EVENTS
    lock = threading.Lock()
    key = base64.b64encode(b"sandbox:").decode()
    headers = {
        "Authorization": f"Basic {key}",
        "X-Strict-Mode": "1",
        "Content-Type": "application/json",
        "Content-Encoding": "gzip",
    }

    def work() -> None:
        nonlocal remaining
        connection = http.client.HTTPConnection(urlsplit(url).netloc)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            with lock:
                remaining -= 1
                if remaining < 0:
                    return
                body = bodies[remaining % len(bodies)]
            connection.request("POST", "/v1/batch", body, headers)
            answer = connection.getresponse()
            assert json.loads(answer.read()) == {}

    start = time.perf_counter()
    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - start


def process_usage(pid: int) -> tuple[float, float]:
    """CPU seconds and resident memory in MB of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    ticks = int(fields[11]) + int(fields[12])
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Send in steps, and print the figures of each step."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=STEPS[-1])
    options = parser.parse_args()
    bodies = make_bodies()
    print_machine()
    with python_sink() as url:
        sink_rate = SINK_EVENTS / send(url, bodies, SINK_EVENTS)
    print(f"the sender alone: {sink_rate:,.0f} events/s")
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "events.db")
        with running_sandbox("--store", store) as sandbox:
            sent = 0
            for step in (*(step for step in STEPS if step < options.events), options.events):
                cpu_before, _ = process_usage(sandbox.pid)
                seconds = send(sandbox.url, bodies, step - sent)
                cpu_after, memory = process_usage(sandbox.pid)
                rate, cpu = (step - sent) / seconds, (cpu_after - cpu_before) / (step - sent)
                print(
                    f"{step:11,} events: {rate:9,.0f} events/s ({sink_rate / rate:.1f} x the time "
                    f"of the sender alone), {1 / cpu:9,.0f} on one core, {memory:5.0f} MB"
                )
                sent = step


if __name__ == "__main__":
    main()

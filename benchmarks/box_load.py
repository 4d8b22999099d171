"""What the sandbox takes in: events per second on one core, validated and stored, and its memory.

Run it with ``python benchmarks/box_load.py`` (``--events 1000000`` for fewer). The sandbox runs in
a process of its own with a store in a file; four connections send it gzipped batches of mobile-app
events that were made before. The peer is the sender alone: the same bodies to a server that only
reads and answers.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import http.client
import http.server
import json
import multiprocessing
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from cdp_backfill.model import api_facts

BATCH = 1_200
STEPS = (1_000_000, 2_000_000, 5_000_000, 10_000_000)


def bodies(count: int = 40) -> list[bytes]:
    """Gzipped batches as a backfill sends them, just below the limit."""
    made = []
    for number in range(count):
        batch = [
            {
                "type": "track",
                "messageId": f"cdp1-{number:08d}{index:024d}",
                "userId": f"user_{number * BATCH + index}",
                "event": "Application Opened",
                "timestamp": f"2023-05-{index % 28 + 1:02d}T10:00:{index % 60:02d}.000Z",
                "properties": {"version": "2.1.0", "build": "421", "from_background": False},
                "context": {"device": {"model": "Pixel 8"}, "os": {"name": "Android"}},
            }
            for index in range(BATCH)
        ]
        text = json.dumps({"batch": batch}, separators=(",", ":")).encode()
        assert len(text) <= api_facts.MAX_REQUEST_BYTES
        made.append(gzip.compress(text, 1))
    return made


def send(port: int, made: list[bytes], events: int, threads: int = 4) -> float:
    """Send so many events; gives the seconds it took."""
    left = [events // BATCH]
    lock = threading.Lock()
    key = base64.b64encode(b"sandbox:").decode()
    headers = {
        "Authorization": f"Basic {key}",
        "X-Strict-Mode": "1",
        "Content-Type": "application/json",
        "Content-Encoding": "gzip",
    }

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            with lock:
                left[0] -= 1
                if left[0] < 0:
                    return
                body = made[left[0] % len(made)]
            connection.request("POST", "/v1/batch", body, headers)
            answer = connection.getresponse()
            assert json.loads(answer.read()) == {}

    before = time.perf_counter()
    running = [threading.Thread(target=work) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return time.perf_counter() - before


def sink(queue: Any) -> None:
    """A server that reads and answers."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    queue.put(server.server_address[1])
    server.serve_forever()


def usage(pid: int) -> tuple[float, float]:
    """CPU seconds and resident megabytes of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    ticks = int(fields[11]) + int(fields[12])
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Send in steps, and print what each took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=STEPS[-1])
    options = parser.parse_args()
    made = bodies()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    queue: Any = multiprocessing.Queue()
    peer = multiprocessing.Process(target=sink, args=(queue,), daemon=True)
    peer.start()
    alone = 500_000 / send(queue.get(), made, 500_000)
    peer.terminate()
    print(f"the sender alone: {alone:,.0f} events/s")
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "box.db")
        command = [sys.executable, "-m", "cdp_backfill", "sandbox", "--port", "0", "--store", store]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as box:
            assert box.stdout is not None
            found = re.search(r"http://\S+:(\d+)/v1", box.stdout.readline())
            assert found
            sent = 0
            for step in (*(step for step in STEPS if step < options.events), options.events):
                cpu, _ = usage(box.pid)
                seconds = send(int(found.group(1)), made, step - sent)
                after, memory = usage(box.pid)
                rate, cost = (step - sent) / seconds, (after - cpu) / (step - sent)
                print(
                    f"{step:11,} events: {rate:9,.0f} events/s ({alone / rate:.1f} x the time of "
                    f"the sender alone), {1 / cost:9,.0f} on one core, {memory:5.0f} MB"
                )
                sent = step
            box.kill()


if __name__ == "__main__":
    main()

"""Measures how long the sandbox's page waits for its data when many messages are stored.

Run it with ``python benchmarks/sandbox_page.py``; ``--events 5000000`` stores more. The messages
are of 200,000 people and 72 months. The page is asked as they arrive, and again after a restart
with the same file, which has the figures at once.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cdp_backfill.model.api_facts import Event
from common import print_machine, running_sandbox
from sandbox_load import BATCH_EVENTS, send

EVENTS: Final = 500_000
PEOPLE: Final = 200_000
STEPS: Final = 5
MONTHS: Final = [f"{year}-{month:02d}" for year in range(2018, 2024) for month in range(1, 13)]


def make_bodies(count: int) -> list[bytes]:
    """Gzipped batches of different people, events and months."""
    chance = random.Random(1)  # noqa: S311  # no secret
    bodies = []
    for number in range(count):
        batch = [
            {
                "type": "track",
                "messageId": f"{number:08d}{index:018d}",
                "userId": f"user_{chance.randrange(PEOPLE)}",
                "event": chance.choice(list(Event)),
                "timestamp": f"{chance.choice(MONTHS)}-15T10:00:00.000Z",
                "properties": {"version": "2.1.0", "build": "421"},
                "context": {"device": {"model": "Pixel 8"}, "os": {"name": "Android"}},
            }
            for index in range(BATCH_EVENTS)
        ]
        bodies.append(gzip.compress(json.dumps({"batch": batch}).encode(), 1))
    return bodies


def ask(url: str) -> tuple[int, float]:
    """The messages that the page shows, and the seconds until it has its data."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    for path in ("/health", "/overview.json"):
        start = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse().read()
    connection.close()
    return json.loads(answer)["requests"]["stored"], time.perf_counter() - start


def main() -> None:
    """Store the messages in steps, and print how long the page waits after each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=EVENTS)
    bodies = make_bodies(parser.parse_args().events // BATCH_EVENTS + 1)
    print_machine()
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "events.db")
        with running_sandbox("--store", store) as sandbox:
            step = len(bodies) // STEPS + 1
            for first in range(0, len(bodies), step):
                part = bodies[first : first + step]
                send(sandbox.url, part, len(part) * BATCH_EVENTS)
                stored, seconds = ask(sandbox.url)
                print(f"{stored:11,} messages: {seconds:6.3f} s")
        with running_sandbox("--store", store) as sandbox:
            for text in ("first page after a restart", "second page"):
                stored, seconds = ask(sandbox.url)
                print(f"{stored:11,} messages: {seconds:6.3f} s, {text}")


if __name__ == "__main__":
    main()

"""Measures what a user waits for before anything is sent, and what a small send takes.

Run it with ``python benchmarks/starting.py``. Each figure is a ratio within this run: importing the
package to importing pandas, pyarrow and httpx; ``cdp-backfill --help`` to importing pandas; and a
frame of 100 rows, sent and reported, to one POST of the same messages by httpx, connection
included. The turns alternate, and medians count.
"""

from __future__ import annotations

import gzip
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import pandas as pd

import cdp_backfill as cdp
from common import print_machine
from sinks import python_sink
from standard_table import MAPPING, standard_files

if TYPE_CHECKING:
    from collections.abc import Callable

_ROWS: Final = 100
_TURNS: Final = 15


def seconds_of(*actions: Callable[[], object], turns: int = _TURNS) -> list[float]:
    """The median time of each action, after one turn that does not count."""
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(turns + 1):
        for action, own in zip(actions, times, strict=True):
            start = time.perf_counter()
            action()
            own.append(time.perf_counter() - start)
    return [statistics.median(own[1:]) for own in times]


def python(*arguments: str) -> Callable[[], object]:
    """An action that runs Python in the folder of this file."""
    command = [sys.executable, *arguments]
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def starts() -> None:
    """Print what imports and the help page take."""
    nothing, pandas, libraries, package, page = seconds_of(
        python("-c", ""),
        python("-c", "import pandas"),
        python("-c", "import pandas, pyarrow, httpx"),
        python("-c", "import cdp_backfill"),
        python("-m", "cdp_backfill", "--help"),
    )
    show("import cdp_backfill", package, "import pandas, pyarrow, httpx", libraries, nothing)
    show("cdp-backfill --help", page, "import pandas", pandas)


def small_send() -> None:
    """Print what a frame of 100 rows takes."""
    with (
        standard_files(_ROWS) as files,
        python_sink() as url,
        tempfile.TemporaryDirectory() as name,
    ):
        frame = pd.read_parquet(files["parquet"])
        destination = cdp.Destination(base_url=url, api_key="key")
        messages = frame.cdp.messages(_ROWS, MAPPING)
        body = gzip.compress(json.dumps({"batch": messages}).encode(), 1)
        journals = iter(range(2 * _TURNS + 9))

        def send(journal: Path | None = None) -> None:
            report = cdp.send(
                frame,
                MAPPING,
                destination=destination,
                recent="send",
                journal=journal,
                progress=False,
            )
            assert report.counts["delivered"] == _ROWS

        def post() -> None:
            with httpx.Client(trust_env=False) as client:
                headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
                answer = client.post(f"{url}/batch", content=body, headers=headers)
                answer.raise_for_status()

        plain, sent, kept = seconds_of(
            post, send, lambda: send(Path(name) / f"{next(journals)}.journal")
        )
        show(f"{_ROWS} rows of a frame", sent, "one httpx POST", plain)
        show(f"{_ROWS} rows with a journal", kept, "one httpx POST", plain)


def show(name: str, seconds: float, other: str, others: float, nothing: float = 0.0) -> None:
    """Print a figure and its ratio to another, without what both take to do nothing."""
    ratio = (seconds - nothing) / (others - nothing)
    print(f"{name:26} {1e3 * (seconds - nothing):8.1f} ms  {ratio:5.2f} x {other}")


if __name__ == "__main__":
    print_machine()
    starts()
    small_send()

"""Helpers that several benchmarks share."""

from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cdp_backfill.cli import sample_data
from cdp_backfill.inference.proposal import Proposal
from cdp_backfill.pipeline.prepared_source import PreparedSource
from cdp_backfill.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp_backfill.model.mapping import Mapping

_PACKAGES: Final = (
    *("pyarrow", "arro3-io", "httpx", "isal", "pandas", "numpy"),
    "customerio-cdp-analytics",
)


@dataclass(frozen=True)
class RunningSandbox:
    """A sandbox that runs in another process.

    Attributes:
        url: Its address, which ends in ``/v1``.
        pid: Its process.
    """

    url: str
    pid: int


@contextmanager
def running_sandbox(*options: str) -> Iterator[RunningSandbox]:
    """Run a sandbox in a process of its own, so that it uses no memory of the sender.

    Args:
        *options: Options of ``cdp-backfill sandbox``.
    """
    command = [sys.executable, "-m", "cdp_backfill", "sandbox", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        match = re.search(r"http://\S+/v1", process.stdout.readline())
        assert match
        try:
            yield RunningSandbox(match.group(), process.pid)
        finally:
            process.kill()


@contextmanager
def demo_records(rows: int) -> Iterator[Path]:
    """A parquet file of the demo's records."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.parquet"
        sample_data.write(path, rows)
        yield path


def prepare(table: Any, mapping: Mapping = sample_data.MAPPING) -> PreparedSource:
    """A table with its mapping and the usual options."""
    return PreparedSource(
        open_source(table), Proposal(mapping), recent="send", context_scope="message", now=None
    )


def peak_mb() -> float:
    """Peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def environment() -> dict[str, Any]:
    """The machine, Python and package versions of a benchmark."""
    return {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
    }


def print_machine() -> None:
    """Print the line about the machine that begins the output of a benchmark."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")

"""Measures how fast a backfill is, and what it costs.

Each command prints a table; ``--json FILE`` also writes it as JSON, with the machine and versions::

    python benchmarks/speed.py stages         # CPU a row of each stage, in one thread
    python benchmarks/speed.py end-to-end     # each format to a sink that only reads and answers
    python benchmarks/speed.py memory         # by format, at 0.2, 2 and 20 million rows
    python benchmarks/speed.py waiting        # slow servers, at two rate limits
    python benchmarks/speed.py scaling        # cost by columns, nesting and width
    python benchmarks/speed.py first-request  # from the call to the first byte, 2 GB of parquet
    python benchmarks/speed.py compression    # gzip by library and level
    python benchmarks/speed.py request-size   # end to end, by messages in a request
    python benchmarks/speed.py processes      # end to end, by number of processes

Whole runs send the standard table of ``standard_table.py``. The floor is what libraries alone need
for it (``floor.py``), in the same run. Stages are measured on the rows of the demo. The sink runs
in a process of its own on the same cores, so the rates are for both together.
``--nginx`` uses nginx as the sink, if it is installed.
"""

from __future__ import annotations

import argparse
import json
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

import stages
import whole_runs
from common import environment, print_machine
from sinks import nginx, python_sink

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Run one benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, help="rows; for memory, the largest number of rows")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--nginx", action="store_true", help="use nginx as the sink")
    names = (
        *("stages", "end-to-end", "memory", "waiting", "scaling", "first-request"),
        *("compression", "request-size", "processes"),
    )
    parser.add_argument("benchmark", choices=names)
    options = parser.parse_args()
    sink = nginx if options.nginx else python_sink
    benchmarks: dict[str, Callable[..., list[dict[str, Any]]]] = {
        "stages": stages.stages,
        "end-to-end": partial(whole_runs.end_to_end, sink),
        "memory": whole_runs.memory,
        "waiting": whole_runs.waiting,
        "scaling": stages.scaling,
        "first-request": whole_runs.first_request,
        "compression": stages.compression,
        "request-size": partial(whole_runs.request_size, sink),
        "processes": partial(whole_runs.processes, sink),
    }
    lines = benchmarks[options.benchmark](**({"rows": options.rows} if options.rows else {}))
    print_machine()
    print(pd.DataFrame(lines).to_string(index=False))
    if options.json:
        results = environment() | {options.benchmark: lines}
        options.json.write_text(json.dumps(results, indent=1), "utf-8")


if __name__ == "__main__":
    threading.stack_size(512 * 1024)
    main()

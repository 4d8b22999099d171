"""The driver of Spark as a process of its own: an order a line, as JSON, and a result a line.

Its settings are its argument, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cdp_backfill as cdp

if TYPE_CHECKING:
    from collections.abc import Iterator

OPENED = cdp.Mapping(user_id="uid", event=cdp.lit("Application Opened"), timestamp="ts")
MOMENT = "timestamp'2023-05-01 10:00:00'"


@dataclass(frozen=True)
class Late:
    """Holds the first attempt of the first part back, after its first batch.

    Args:
        folder: Where any other attempt creates the file ``begun``, and the first one waits for the
            file ``go``.
    """

    folder: str

    def __call__(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Hand all batches on."""
        from pyspark import TaskContext  # noqa: PLC0415  # an extra

        context: Any = TaskContext.get()
        is_first = context.partitionId() == 0
        is_late = is_first and context.attemptNumber() == 0
        for number, batch in enumerate(batches):
            if is_first and not is_late:
                Path(self.folder, "begun").touch()
            while is_late and number and not Path(self.folder, "go").exists():
                time.sleep(0.01)
            yield batch


def table_of(session: Any, order: dict[str, Any]) -> Any:
    """Rows of opens, in parts; in other parts and another order if ``shuffled`` has a number."""
    who = "case when id % 10 = 0 then null else concat('u', id) end uid"
    table = session.range(0, order["rows"], 1, order["parts"]).selectExpr(who, f"{MOMENT} ts", "id")
    if order.get("shuffled"):
        table = table.repartition(order["shuffled"], "id")
    if order.get("late"):
        table = table.mapInArrow(Late(order["late"]), table.schema)
    return table


def send(session: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Send, and tell what the report has.

    Args:
        session: The session.
        order: ``rows``, ``parts``, ``shuffled`` and ``late`` of the table; ``url``, ``journal`` and
            ``recent``; under ``destination`` the parameters of a destination.
    """
    destination = cdp.Destination(
        base_url=order["url"],
        **{"key_from": partial(str, "sandbox"), **order.get("destination", {})},
    )
    started, error = time.monotonic(), None
    try:
        report = cdp.send(
            table_of(session, order),
            OPENED,
            destination=destination,
            recent=order.get("recent", "send"),
            journal=order.get("journal"),
            progress=False,
        )
    except cdp.BackfillError as raised:
        report, error = getattr(raised, "report", None), f"{type(raised).__name__}: {raised}"
    except KeyboardInterrupt:
        report, error = None, "KeyboardInterrupt"
    result = {"error": error, "seconds": time.monotonic() - started, "pid": os.getpid()}
    if report is None:
        return result
    return result | {
        "counts": {name: rows for name, rows in report.counts.items() if rows},
        "maybe_twice": report.maybe_twice,
        "requests": report.requests,
        "notes": report.notes,
        "interrupted": report.interrupted,
        "failures": order.get("failures") and report.distributed_failures.count(),
    }


def main() -> None:
    """Do as told until the input ends."""
    warnings.simplefilter("ignore")
    from pyspark.sql import SparkSession  # noqa: PLC0415  # an extra

    builder: Any = SparkSession.builder.appName("tests")
    for name, value in json.loads(sys.argv[1]).items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    context = session.sparkContext
    say({"application": context.applicationId, "page": context.uiWebUrl})
    for line in sys.stdin:
        say(send(session, json.loads(line)))
    session.stop()


def say(result: dict[str, Any]) -> None:
    """Print a result."""
    sys.stdout.write(f"{json.dumps(result, default=str)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

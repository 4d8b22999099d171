"""The driver of Spark as a process of its own: an order a line, as JSON, and a result a line.

Its settings are its argument, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from functools import partial
from typing import Any

import cdp_backfill as cdp

OPENED = cdp.Mapping(user_id="uid", event=cdp.lit("Application Opened"), timestamp="ts")
MOMENT = "timestamp'2023-05-01 10:00:00'"


def table_of(session: Any, order: dict[str, Any]) -> Any:
    """Rows of opens, in parts; in other parts and another order if ``shuffled`` has a number.

    ``few`` is the number of rows of each part but one, which has all others.
    """
    who = "case when id % 10 = 0 then null else concat('u', id) end uid"
    few, others = order.get("few"), order["parts"] - 1
    if few:
        numbers = session.range(0, few * others, 1, others)
        numbers = session.range(few * others, order["rows"], 1, 1).union(numbers)
    else:
        numbers = session.range(0, order["rows"], 1, order["parts"])
    broken = ["raise_error('a cell') broken"] if order.get("broken") else []
    table = numbers.selectExpr(who, f"{MOMENT} ts", "id", *broken)
    if order.get("shuffled"):
        table = table.repartition(order["shuffled"], "id")
    return table


def send(session: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Send, and tell what the report has.

    Args:
        session: The session.
        order: ``rows``, ``parts``, ``few``, ``shuffled`` and ``broken`` of the table; ``url``,
            ``journal`` and ``recent``; ``key``, None if workers find one; under ``destination`` the
            parameters of a destination.
    """
    key = order.get("key", "sandbox")
    destination = cdp.Destination(
        base_url=order["url"],
        **{"key_from": key and partial(str, key), **order.get("destination", {})},
    )
    started, error = time.monotonic(), None
    report: cdp.Report | None
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
        "failures": count_of(report.distributed_failures),
    }


def count_of(frame: Any) -> int | None:
    """Rows of a frame of Spark, or None if there is none."""
    return None if frame is None else int(frame.count())


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

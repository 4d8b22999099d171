"""Prints figures of engines that take too long for tests.

python -m tests.engines.figures rate            requests a second of four parts together
python -m tests.engines.figures rerun 500000    requests of reruns in other parts and engines
python -m tests.engines.figures kills 200000    an executor and a driver of a cluster are killed
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

import cdp_backfill as cdp
from tests.engines.clusters import SparkDriver, spark_cluster
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.local_sandbox import Sandbox

OPENED: Final = cdp.Mapping(user_id="uid", event=cdp.lit("Application Opened"), timestamp="ts")
RATE: Final = 100


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def rows_as_in_spark(rows: int) -> pd.DataFrame:
    """The table of a driver, for other engines, in another order."""
    frame = pd.DataFrame({"id": range(rows), "ts": pd.Timestamp("2023-05-01T10:00:00Z")})
    frame.insert(0, "uid", "u" + frame.id.astype(str))
    frame.loc[::10, "uid"] = None
    return frame.iloc[::-1].reset_index(drop=True)


def held(box: Sandbox) -> tuple[int, int]:
    """Ids that the sandbox holds, and those that it took more than once."""
    times = box.events().messageId.value_counts()
    return len(times), int((times > 1).sum())


def fullest_second(times: Any) -> int:
    """Most of the sorted times, in seconds, in any window of one second."""
    ends = np.searchsorted(times, times + 1.0)
    return int(max(ends - np.arange(len(times))))


def rate(seconds: int = 60) -> None:
    """Four parts that share the rate limit, by the receipts of the sandbox."""
    rows = RATE * seconds * 10 * 10 // 9
    with cdp.sandbox() as box, SparkDriver("local[4,4]") as driver:
        options = {"rate_limit": RATE, "max_messages": 10}
        result = driver.send(rows=rows, parts=4, url=box.url, destination=options)
        received = box.requests().receivedAt.sort_values()
    times = (received - received.iloc[0]).dt.total_seconds().to_numpy()
    say(f"{len(times):,} requests of {result['requests']:,} in {times[-1]:.1f} s, 4 parts")
    say(f"mean {len(times) / times[-1]:.1f}/s, fullest second {fullest_second(times)}")


def rerun(rows: int) -> None:
    """Reruns after success: other parts, another order, another engine."""
    import dask.dataframe as dd  # noqa: PLC0415  # an extra

    with tempfile.TemporaryDirectory() as name, cdp.sandbox() as box:
        journal = Path(name) / "journal"
        order: dict[str, Any] = {"rows": rows, "url": box.url, "journal": str(journal)}
        with SparkDriver("local[2,4]") as driver:
            for parts, shuffled in ((4, None), (7, 5), (1, None)):
                result = driver.send(**order, parts=parts, shuffled=shuffled)
                say(
                    f"Spark, {parts} parts, to {shuffled}: {result['requests']:,} requests, "
                    f"{result['counts']['delivered']:,} delivered, {result['seconds']:.1f} s"
                )
        table = dd.from_pandas(rows_as_in_spark(rows), npartitions=6)
        start = time.monotonic()
        report = table.cdp.send(
            OPENED, destination=box.destination, journal=journal, progress=False, recent="send"
        )
        say(
            f"Dask, 6 parts, reversed: {report.requests:,} requests, "
            f"{report.counts['delivered']:,} delivered, {time.monotonic() - start:.1f} s"
        )
        size = sum(each.stat().st_size for each in journal.rglob("*") if each.is_file())
        say(f"held {held(box)[0]:,} ids, {held(box)[1]:,} twice; journal {size / 1e6:.1f} MB")


def kills(rows: int) -> None:
    """An executor and a driver of a cluster, each with and without a journal."""
    with tempfile.TemporaryDirectory() as name, spark_cluster(Path(name)) as cluster:
        for kind in ("executor", "driver"):
            for journal in (None, Path(name) / f"journal {kind}"):
                with cdp.sandbox() as box, SparkDriver(cluster.master) as driver:
                    place = None if journal is None else str(journal)
                    order: dict[str, Any] = {"rows": rows, "parts": 8, "url": box.url}
                    driver.tell(**order, journal=place)
                    until(lambda box=box: int(box.totals().messages.sum()) > 0.6 * rows)  # type: ignore[misc]
                    if kind == "executor":
                        cluster.executors()[0].kill()
                        twice = driver.result()["maybe_twice"]
                    else:
                        driver.kill()
                        until(lambda: not cluster.executors())
                        with SparkDriver(cluster.master) as other:
                            order |= {"shuffled": 5, "journal": place}
                            twice = other.send(**order)["maybe_twice"]
                    found = held(box)
                say(
                    f"{kind} killed, {'no ' if journal is None else ''}journal: held {found[0]:,} "
                    f"ids, {found[1]:,} twice, maybe_twice {twice:,}"
                )


if __name__ == "__main__":
    what, *numbers = sys.argv[1:]
    figures: dict[str, Callable[..., None]] = {"rate": rate, "rerun": rerun, "kills": kills}
    figures[what](*map(int, numbers))

"""A server that is away for a time, or for good: what the user sees, and what is delivered."""

from __future__ import annotations

import re
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

import pandas as pd

import cdp_backfill as cdp
from cdp_backfill.results.progress.pace import Pace
from tests.chaos.inputs import MAPPING
from tests.chaos.server import chaos_serving

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdp_backfill.results.progress import Snapshot

ROWS: Final = 3_000
_PRINTING: Final = threading.Lock()


class Watch:
    """A progress display that prints what a run is doing whenever that changes, and now and then.

    Args:
        name: Of the outage.
        seconds: Seconds between two lines of one kind.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self._name, self._seconds = name, seconds
        self._pace = Pace()
        self._kind, self._said = "", 0.0
        self._started = time.monotonic()

    def update(self, snapshot: Snapshot) -> None:
        """Print a line if there is something new to see."""
        self._pace.add(snapshot)
        text = self._pace.activity or str(snapshot.state)
        kind = re.sub(r"\d+", "", text)
        now = time.monotonic()
        if kind != self._kind or now - self._said >= self._seconds:
            self._kind, self._said = kind, now
            self.say(f"{snapshot.rows:>5,} of {ROWS:,} rows; {text}")

    def close(self) -> None:
        """Nothing to do."""

    def say(self, text: str) -> None:
        """Print a line with the seconds since the beginning."""
        with _PRINTING:
            seconds = time.monotonic() - self._started
            sys.stdout.write(f"[{self._name}] {seconds:6.1f} s  {text}\n")
            sys.stdout.flush()


def outage(seconds: float | None, *, silent: bool, patience: float) -> bool:
    """Send to a server that goes away after a third of the rows; whether all is as it should be.

    Args:
        seconds: How long it is away; None for good.
        silent: It accepts connections and says nothing, instead of refusing them.
        patience: The run's, in seconds.
    """
    period = "for good" if seconds is None else f"for {seconds:g} s"
    watch = Watch(f"{'silent' if silent else 'away'} {period}", max(2.0, (seconds or patience) / 5))
    frame = pd.DataFrame(
        {
            "n": range(ROWS),
            "uid": [f"u{row}" for row in range(ROWS)],
            "ts": pd.date_range("2023-05-01", periods=ROWS, freq="min", tz="UTC"),
        }
    )
    gone = threading.Event()
    with chaos_serving() as server:

        def on_stage(stage: str, number: int) -> None:
            if stage == "arrived" and number >= ROWS // 150 and not gone.is_set():
                gone.set()
                threading.Thread(target=go_away, daemon=True).start()

        def go_away() -> None:
            watch.say("the server goes away")
            if silent:
                server.silent = True
            else:
                server.close()
            if seconds is not None:
                time.sleep(seconds)
                watch.say("the server is back")
                server.silent = False
                if not silent:
                    server.start()

        server.on_stage = on_stage
        destination = cdp.Destination(
            api_key="chaos",
            base_url=server.url,
            max_messages=50,
            rate_limit=20.0,
            patience=patience,
        )
        try:
            report = cdp.send(
                frame, MAPPING, destination=destination, journal=False, progress=watch
            )
        except cdp.StoppedError as error:
            watch.say(f"{type(error).__name__}: {error}")
            report = error.report
        record = server.record
    counts = {str(name): rows for name, rows in report.counts.items() if rows}
    watch.say(
        f"{counts}; maybe twice {report.maybe_twice}; "
        f"the server has {len(record.accepted):,} rows, {record.twice} twice"
    )
    delivered = set(range(ROWS)) - set(report.failures["n"])
    outlived = seconds is not None and seconds < patience
    return (
        delivered <= set(record.accepted)
        and record.twice <= report.maybe_twice
        and sum(counts.values()) == ROWS
        and (not outlived or counts == {"delivered": ROWS})
    )


def main(periods: Sequence[str], patience: float = 600.0) -> int:
    """All outages at once; the number of those that went wrong.

    Args:
        periods: Seconds, or ``good`` for ever.
        patience: Of the runs, in seconds.
    """
    wrong: list[str] = []

    def one(period: str, silent: bool) -> None:
        seconds = None if period == "good" else float(period)
        try:
            right = outage(seconds, silent=silent, patience=patience)
        except BaseException as error:  # noqa: BLE001  # also one that must never come
            sys.stdout.write(f"{error!r}\n")
            right = False
        if not right:
            wrong.append(period)

    threads = [
        threading.Thread(target=one, args=(period, silent))
        for period in periods
        for silent in (False, True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.stdout.write(f"{len(threads)} outages, {len(wrong)} wrong: {' '.join(wrong)}\n")
    return len(wrong)

"""Frames of Dask: the same messages and plans as on one machine, and lost workers counted."""

from __future__ import annotations

import os
import threading
from base64 import b64decode
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import psutil
import pytest

import cdp_backfill as cdp
from cdp_backfill.results import part_reports
from tests.engines.interrupting import interrupted
from tests.rows import OPENED, opens
from tests.sending import counts
from tests.servers import ReceivedRequest, Reply, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

dask = pytest.importorskip("dask", reason="the extra dask is not installed")
dd = pytest.importorskip("dask.dataframe", reason="the extra dask is not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:::distributed"),
]

STORED = ["messageId", "userId", "event", "timestamp", "properties", "context"]
ROWS, PARTS = 2_400, 6


def frame_of(rows: int) -> pd.DataFrame:
    """Rows of many types, some of which lack their user."""
    frame = opens(rows, n=range(rows), price=1.5)
    frame.loc[::10, "uid"] = None
    frame["local"] = frame.ts.dt.tz_localize(None)
    frame["level"] = [n if n % 3 else None for n in range(rows)]  # floats in pandas
    frame["late"] = pd.array([None] * (rows // 2) + [7] * (rows - rows // 2), "Int64")
    frame["device"] = pd.Series([{"os": "ios", "screens": [1, n]} for n in range(rows)])
    return frame


def stored(box: Sandbox) -> pd.DataFrame:
    """What the sandbox has stored, in a fixed order."""
    return box.events().sort_values("messageId", ignore_index=True)[STORED]


def send(table: Any, destination: cdp.Destination, **options: Any) -> cdp.Report:
    """Send without a progress display."""
    return cdp.send(table, OPENED, destination=destination, progress=False, **options)


@contextmanager
def two_workers() -> Iterator[Any]:
    """A client of two worker processes."""
    from distributed import Client, LocalCluster  # noqa: PLC0415  # an extra

    settings = {"distributed.scheduler.allowed-failures": 1, "distributed.nanny.environ": {}}
    with (
        dask.config.set(settings),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two worker processes."""
    with two_workers() as running:
        yield running


@pytest.mark.parametrize("scheduler", ["threads", "sync", "workers"])
def test_the_same_as_with_pandas(scheduler: str, request: pytest.FixtureRequest) -> None:
    """Messages, plan, failures and first payloads are those of the same frame of pandas."""
    frame = frame_of(120)
    with dask.config.set({"dataframe.convert-string": False}):  # else it makes text of structs
        table = dd.from_pandas(frame, npartitions=4)
    with cdp.sandbox() as here, cdp.sandbox() as there:
        expected = send(frame, here.destination)
        if scheduler == "workers":
            with request.getfixturevalue("client").as_current():
                report, plan = send(table, there.destination), table.cdp.plan(OPENED)
        else:
            with dask.config.set(scheduler=scheduler):
                report, plan = send(table, there.destination), table.cdp.plan(OPENED)
        assert report.counts == expected.counts
        pd.testing.assert_frame_equal(stored(there), stored(here))
        assert report.failures["n"].tolist() == expected.failures["n"].tolist()
        assert set(report.failures["cdp_code"]) == {"missing_user"}
        assert report.maybe_twice == 0
        assert plan.counts == frame.cdp.plan(OPENED).counts
        assert plan.send is not None
    assert table.cdp.messages(3, OPENED) == frame.cdp.messages(3, OPENED)


def test_each_call_sends_once(client: Any) -> None:
    """Two equal calls send twice, and looking at what came of one sends nothing."""
    account, frame = Account(), frame_of(40).drop(columns="device")
    table = dd.from_pandas(frame, npartitions=2)
    with serving(account.answer) as server, client.as_current():
        destination = cdp.Destination(base_url=server.destination().base_url, key_from=own_key)
        for calls in (1, 2):
            send(table, destination)
            assert len(account.held) == calls * 36
        report = send(table.persist(), destination)
        assert len(report.failures) == 4
        assert len(table) == len(table.head(40, npartitions=2)) == 40
    assert len(account.held) == 3 * 36


def test_recent_rows_are_refused_before_anything_is_sent(box: Sandbox) -> None:
    """The guard looks at all partitions first."""
    frame = frame_of(40)
    frame.loc[35, "ts"] = pd.Timestamp.now(tz="UTC") - pd.Timedelta(hours=1)
    with pytest.raises(cdp.RecentRowsError, match="1 row of 1 person"):
        send(dd.from_pandas(frame, npartitions=4), box.destination)
    assert box.events().empty


def test_options_that_do_not_work(box: Sandbox) -> None:
    """Each is refused with what to do instead."""
    table = dd.from_pandas(frame_of(10), npartitions=2)
    for option in ({"journal": True}, {"canary": 3}, {"processes": 2}, {"outcomes": "folder"}):
        with pytest.raises(cdp.BadInputError, match="does not work with a table of Dask") as error:
            send(table, box.destination, **option)
        assert "distributed_failures" not in str(error.value)  # a report of Dask has none


def test_many_failures(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come home with their parts, so that there is no limit of how many can be shown."""
    monkeypatch.setattr(part_reports, "MAX_FAILURES", 1)
    report = send(dd.from_pandas(frame_of(40), npartitions=2), box.destination)
    assert len(report.failures) == 4
    assert report.distributed_failures is None


class Account:
    """A server that counts each message id, and can kill a worker.

    Args:
        requests: The request of the first partition that its worker does not survive; 0 for none.
        later: Count instead the requests of workers that have ended a partition. With more
            partitions than workers, there are some.
    """

    def __init__(self, requests: int = 0, *, later: bool = False) -> None:
        self.held: list[str] = []
        self._left, self._later = requests, later
        self._first_parts: dict[int, int] = {}
        self._lock = threading.Lock()

    def answer(self, number: int, request: ReceivedRequest) -> Reply:
        """Take a request."""
        del number
        if not request.raw:  # its body is yet to come
            return Reply()
        with self._lock:
            self.held.extend(each["messageId"] for each in request.batch)
            key = b64decode(request.headers["authorization"].removeprefix("Basic "))
            self._kill_if_due(int(key.rstrip(b":")), request.batch[0]["properties"]["n"])
        return Reply()

    def _kill_if_due(self, process: int, row: int) -> None:
        part = row // (ROWS // PARTS)
        first = self._first_parts.setdefault(process, part)
        if self._left and (part != first if self._later else part == 0):
            self._left -= 1
            if not self._left:
                psutil.Process(process).kill()

    @property
    def twice(self) -> int:
        """Ids that came more than once."""
        return len(self.held) - len(set(self.held))


def own_key() -> str:
    """A key that tells which process sends."""
    return str(os.getpid())


@pytest.mark.parametrize("with_journal", [False, True])
@pytest.mark.parametrize("later", [False, True])
def test_a_killed_worker(tmp_path: Path, with_journal: bool, later: bool) -> None:
    """Every id is held, and no more of them twice than the report admits; also after a part."""
    frame = frame_of(ROWS).drop(columns="device")
    table = dd.from_pandas(frame, npartitions=PARTS)
    account = Account(requests=3, later=later)
    journal = str(tmp_path / "journal") if with_journal else None
    with serving(account.answer) as server, two_workers() as client, client.as_current():
        destination = cdp.Destination(
            base_url=server.destination().base_url, max_messages=20, workers=2, key_from=own_key
        )
        report = send(table, destination, journal=journal)
        assert counts(report) == {"delivered": 2_160, "invalid": 240}
        assert len(set(account.held)) == 2_160
        assert 0 < account.twice <= report.maybe_twice < 2_160
        if journal is None:
            assert "whole parts may have gone twice" in " ".join(report.notes)
        else:
            again = cdp.report(journal)
            assert (again.counts["delivered"], again.maybe_twice) == (2_160, report.maybe_twice)
            table = dd.from_pandas(frame.iloc[::-1].reset_index(drop=True), npartitions=2)
            assert send(table, destination, journal=journal).requests == 0


@pytest.mark.parametrize("scheduler", ["threads", "workers"])
def test_a_rejected_key_ends_the_job_well(scheduler: str, request: pytest.FixtureRequest) -> None:
    """Each part is answered 401: one error, whose report has all rows as unsent."""
    table = dd.from_pandas(opens(60), npartitions=3)
    with ExitStack() as held:
        server = held.enter_context(serving(lambda *_: Reply(401)))
        if scheduler == "workers":
            held.enter_context(request.getfixturevalue("client").as_current())
        destination = cdp.Destination(base_url=server.url, key_from=own_key)
        with pytest.raises(cdp.AuthenticationError, match=r"\(3 parts of 3 stopped\.\)") as stopped:
            send(table, destination)
    report = stopped.value.report
    assert report is not None
    assert counts(report) == {"unsent": 60}
    assert len(report.failures) == 60


@pytest.mark.parametrize("with_journal", [False, True])
@pytest.mark.parametrize("scheduler", ["threads", "workers"])
def test_an_interrupt_stops_the_parts(
    scheduler: str, with_journal: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The report comes all the same, and has every row."""
    table, journal = dd.from_pandas(opens(6_000), npartitions=4), tmp_path / "journal"
    with cdp.sandbox() as box, ExitStack() as held:
        if scheduler == "workers":
            held.enter_context(request.getfixturevalue("client").as_current())
        slow = replace(box.destination, rate_limit=4.0, max_messages=20)
        with interrupted(box):
            report = send(table, slow, journal=journal if with_journal else None)
        assert report.interrupted
        assert 0 < report.counts["delivered"] == len(box.events()) < 6_000
        assert report.counts["delivered"] + report.counts["unsent"] == 6_000
        if with_journal:
            report = send(table, box.destination, journal=journal)
            assert report.counts["delivered"] == len(box.events()) == 6_000

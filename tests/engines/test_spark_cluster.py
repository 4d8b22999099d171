"""A cluster of Spark whose executors and drivers are killed, and whose slow parts run twice."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from base64 import b64decode
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import cdp_backfill as cdp
from tests.engines.clusters import SparkCluster, SparkDriver, spark_cluster
from tests.engines.crawling import crawl
from tests.servers import ReceivedRequest, Reply, serving
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

pytest.importorskip("pyspark", reason="the extra spark is not installed")
pytestmark = [
    pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java on this machine"),
    pytest.mark.skipif(sys.platform != "linux", reason="loopback has one address only elsewhere"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

ROWS, PARTS, SENDABLE = 12_000, 4, 10_800
SLOW: dict[str, Any] = {"rate_limit": 80.0, "max_messages": 100, "workers": 4}
"""So that something is under way for some seconds: 108 full requests."""

SPECULATION = {
    "spark.speculation": "true",
    "spark.speculation.interval": "100ms",
    "spark.speculation.multiplier": "1.1",
    "spark.speculation.quantile": "0.5",
    "spark.speculation.minTaskRuntime": "100ms",
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkCluster]:
    """A master and two workers on two hosts of loopback."""
    with spark_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


class Drivers:
    """One driver for several tests, as it takes long to start; a new one if a test has killed it.

    It holds the cores of its cluster, so a test that starts its own closes it before.

    Args:
        master: The master of its cluster.
    """

    def __init__(self, master: str) -> None:
        self._master = master
        self._driver: SparkDriver | None = None

    def living(self) -> SparkDriver:
        """A driver that is alive."""
        if self._driver is None or not self._driver.is_alive():
            self.close()
            self._driver = SparkDriver(self._master)
        return self._driver

    def close(self) -> None:
        """End the driver."""
        if self._driver is not None:
            self._driver.close()
            self._driver = None


@pytest.fixture(scope="module")
def drivers(cluster: SparkCluster) -> Iterator[Drivers]:
    """The driver of tests that need no settings of their own."""
    drivers = Drivers(cluster.master)
    yield drivers
    drivers.close()


def order(box: Sandbox, journal: Path | None) -> dict[str, Any]:
    """What a driver is to send."""
    place = None if journal is None else str(journal)
    table = {"rows": ROWS, "parts": PARTS}
    return table | {"url": box.url, "journal": place, "destination": SLOW}


def held(box: Sandbox) -> tuple[int, int]:
    """Ids that the sandbox holds, and those that it took more than once."""
    times = box.events().messageId.value_counts()
    return len(times), int((times > 1).sum())


def same_rows() -> pd.DataFrame:
    """The table of a driver, for other engines, in another order."""
    frame = pd.DataFrame({"id": range(ROWS), "ts": pd.Timestamp("2023-05-01T10:00:00Z")})
    frame.insert(0, "uid", "u" + frame.id.astype(str))
    frame.loc[::10, "uid"] = None
    return frame.iloc[::-1].reset_index(drop=True)


def rerun(box: Sandbox, journal: Path | None) -> cdp.Report:
    """Send the same rows with Dask, once nobody of the run before is alive."""
    dask = pytest.importorskip("dask.dataframe", reason="the extra dask is not installed")
    table = dask.from_pandas(same_rows(), npartitions=3)
    reports: list[cdp.Report] = []

    def is_sent() -> bool:
        options: dict[str, Any] = {"destination": box.destination, "journal": journal}
        with suppress(cdp.JournalError):  # in use: those who were killed are not yet gone
            reports.append(table.cdp.send(*OPENED, progress=False, recent="send", **options))
        return bool(reports)

    until(is_sent)
    return reports[0]


OPENED = [cdp.Mapping(user_id="uid", event=cdp.lit("Application Opened"), timestamp="ts")]


@pytest.mark.parametrize("with_journal", [False, True])
def test_a_killed_executor(
    cluster: SparkCluster, drivers: Drivers, tmp_path: Path, with_journal: bool
) -> None:
    """Every id is held, and not more of them twice than the report admits."""
    journal, driver = tmp_path / "journal" if with_journal else None, drivers.living()
    with cdp.sandbox() as box:
        driver.tell(**order(box, journal))
        until(lambda: len(box.requests()) > 65)  # each executor has ended a part by then
        cluster.executors()[0].kill()
        result = driver.result()
        assert result["error"] is None
        assert result["counts"] == {"delivered": SENDABLE, "invalid": ROWS - SENDABLE}
        assert result["failures"] == ROWS - SENDABLE
        ids, twice = held(box)
        assert ids == SENDABLE
        assert twice <= result["maybe_twice"] < SENDABLE
        if journal is not None:
            assert cdp.report(journal).maybe_twice == result["maybe_twice"]
            assert rerun(box, journal).requests == 0
        else:
            assert "whole parts may have gone twice" in " ".join(result["notes"])


def test_a_killed_driver(drivers: Drivers, tmp_path: Path) -> None:
    """The journal tells what it had sent; Dask sends the rest, and then there is nothing to send.

    Without a journal, nobody can know what a dead driver sent.
    """
    journal, driver = tmp_path / "journal", drivers.living()
    with cdp.sandbox() as box:
        driver.tell(**order(box, journal))
        until(lambda: len(box.requests()) > 65)
        driver.kill()
        dead = cdp.report(journal)
        assert 0 < dead.counts["delivered"] <= SENDABLE
        assert "The driver of this run did not end it" in " ".join(dead.notes)
        report = rerun(box, journal)
        assert report.counts["delivered"] == SENDABLE
        assert report.delivered_before >= dead.counts["delivered"]
        ids, twice = held(box)
        assert ids == SENDABLE
        assert twice <= report.maybe_twice < SENDABLE
        assert rerun(box, journal).requests == 0


@pytest.mark.parametrize("with_journal", [False, True])
def test_an_interrupt(drivers: Drivers, tmp_path: Path, with_journal: bool) -> None:
    """With a journal, parts on other hosts stop and are reported; else, Spark cancels them."""
    journal, driver = tmp_path / "journal" if with_journal else None, drivers.living()
    with cdp.sandbox() as box:
        # The workers look for the marker in the journal every two seconds.
        driver.tell(**order(box, journal) | {"destination": {**SLOW, "rate_limit": 20.0}})
        until(lambda: len(box.requests()) > 65)  # of 108: some part has ended by then
        driver.process.send_signal(signal.SIGINT)
        result = driver.result()
        assert result["interrupted"]
        assert 0 < result["counts"]["delivered"] < SENDABLE
        if journal is not None:
            assert result["error"] is None
            assert result["counts"]["delivered"] == held(box)[0]
            assert sum(result["counts"].values()) == ROWS
        else:
            assert "You interrupted the run, and Spark cancelled its parts." in result["error"]
            assert "does not count the rows of these parts" in result["error"]
            assert result["counts"]["delivered"] <= held(box)[0]
            # The slots are free again: nothing goes on sending behind the user's back.
            again = driver.send(rows=40, parts=2, url=box.url)
            assert again["counts"] == {"delivered": 36, "invalid": 4}
            assert held(box)[0] < SENDABLE


def is_begun_again(box: Sandbox, journal: Path | None) -> bool:
    """Whether a second attempt of a part has begun."""
    if journal is None:
        return held(box)[1] > 0
    return len(list(journal.glob("runs/*/parts/part-000000/*/claim.json"))) > 1


def test_speculation(cluster: SparkCluster, drivers: Drivers, tmp_path: Path) -> None:
    """A slow part runs twice at a time: a journal makes one attempt wait, a report warns else."""
    drivers.close()
    with SparkDriver(cluster.master, SPECULATION) as driver:
        for journal in (None, tmp_path / "journal"):
            with cdp.sandbox(latency=1.0) as box:
                driver.tell(**order(box, journal) | {"few": 300})
                # The first part is slow until somebody else has begun it, too.
                until(partial(is_begun_again, box, journal))
                box.set_faults()
                result = driver.result()
                assert result["error"] is None
                assert result["counts"] == {"delivered": SENDABLE, "invalid": ROWS - SENDABLE}
                ids, twice = held(box)
                assert ids == SENDABLE
                assert twice <= result["maybe_twice"]
                warned = "nobody knows which parts the engine ran more than once" in " ".join(
                    result["notes"]
                )
                assert warned is (journal is None)
                if journal is None:
                    assert twice > 0
                else:
                    assert (twice, result["maybe_twice"]) == (0, 0)


KEYS = {
    "function": "key-of-the-function-7f3a",
    "file": "key-of-the-file-91bc",
    "rejected": "key-that-is-rejected-52ee",
}
IN_SETTINGS = "key-of-the-settings-c04d"
SHOWS_ALL = {
    "spark.ui.enabled": "true",
    "spark.ui.port": "0",
    "spark.eventLog.enabled": "true",
    "spark.eventLog.compress": "false",
    "spark.log.level": "INFO",
}
REDACTED = {
    "spark.executorEnv.CUSTOMERIO_CDP_API_KEY": IN_SETTINGS,
    "spark.redaction.regex": "(?i)secret|password|token|access[.]?key|api[._]?key",
}
REST = ("environment", "jobs", "stages", "sql?details=true", "allexecutors", "storage/rdd")


def answer(_: int, request: ReceivedRequest) -> Reply:
    """Take everything, but not under the key that is rejected."""
    given = b64decode(request.headers["authorization"].removeprefix("Basic ")).rstrip(b":")
    return Reply(401 if given.decode() == KEYS["rejected"] else 200)


def pages_of(driver: SparkDriver, *others: str) -> dict[str, bytes]:
    """All pages of a session, its answers of REST, and other pages."""
    page, application = driver.ready["page"], driver.ready["application"]
    rest = [f"{page}/api/v1/applications/{application}/{each}" for each in REST]
    pages = crawl(*rest, page) | crawl(*others, *(f"{each}/json/" for each in others))
    for kind in ("/environment/", "/SQL/execution/", "/stages/stage/", "/executors/"):
        assert any(kind in each for each in pages), kind
    return pages


def files_in(*folders: Path) -> dict[str, bytes]:
    """What each file in some folders has."""
    paths = [each for folder in folders for each in folder.rglob("*") if each.is_file()]
    return {str(each): each.read_bytes() for each in paths}


def test_the_key_is_nowhere(cluster: SparkCluster, drivers: Drivers, tmp_path: Path) -> None:
    """However workers find it: on no page, in no answer of REST, event log, log or exception."""
    drivers.close()
    (tmp_path / "key").write_text(KEYS["file"])
    events, log = tmp_path / "events", tmp_path / "driver.log"
    events.mkdir()
    settings = {**SHOWS_ALL, "spark.eventLog.dir": events.as_uri()}
    with serving(answer) as server, SparkDriver(cluster.master, settings, log=log) as driver:
        few = {"rows": 40, "parts": 2, "url": server.url}
        ways = {
            "function": few | {"key": KEYS["function"], "recent": "raise", "shuffled": 2},
            "file": few | {"key": None, "destination": {"key_from": str(tmp_path / "key")}},
            "rejected": few | {"key": KEYS["rejected"]},
            "broken": few | {"key": KEYS["function"], "broken": True},
        }
        texts = {name: json.dumps(driver.send(**way)).encode() for name, way in ways.items()}
        assert b"AuthenticationError" in texts["rejected"]
        assert b"A job of Spark failed" in texts["broken"]
        texts |= pages_of(driver, *cluster.pages)
    assert any("/logPage" in each for each in texts)
    texts |= files_in(events, cluster.folder, tmp_path)
    assert any(b"SparkListenerTaskEnd" in each for each in texts.values())
    del texts[str(tmp_path / "key")]
    for name, text in texts.items():
        assert not [key for key in KEYS.values() if key.encode() in text], name


def test_a_key_in_settings_that_are_redacted(tmp_path: Path) -> None:
    """Workers have it, and the pages, the event log and the log of Spark have not."""
    log, settings = tmp_path / "driver.log", {**SHOWS_ALL, **REDACTED}
    settings["spark.eventLog.dir"] = tmp_path.as_uri()
    with (
        cdp.sandbox(api_key=IN_SETTINGS) as box,
        SparkDriver("local[2,4]", settings, log=log) as driver,
    ):
        result = driver.send(rows=40, parts=2, url=box.url, key=None, recent="raise")
        assert result["counts"] == {"delivered": 36, "invalid": 4}
        pages = pages_of(driver)
    shown = [text for text in pages.values() if b"executorEnv.CUSTOMERIO_CDP_API_KEY" in text]
    assert shown
    assert all(b"redacted" in text for text in shown)
    for name, text in (pages | files_in(tmp_path)).items():
        assert IN_SETTINGS.encode() not in text, name

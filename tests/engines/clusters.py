"""A cluster of Spark of its own, on loopback, and drivers in processes that a test can kill."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import psutil

from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTS: Final = ("127.0.0.1", "127.0.0.2")
"""Spark runs no second attempt of a slow task on the host that has the first one."""

_ROOT: Final = Path(__file__).parents[2]
_MASTER: Final = re.compile(r"Starting Spark master at (spark://\S+)")
_PAGE: Final = re.compile(r"WebUI to \S+, and started at (http://\S+)")
_REGISTERED: Final = "Successfully registered with master"
_SCALA: Final = "2.13"  # of all Spark from 4.0 on; a pip installation does not show it
_EXECUTOR: Final = "CoarseGrainedExecutorBackend"


@dataclass(frozen=True)
class SparkCluster:
    """A standalone cluster.

    Attributes:
        master: Its address, as in ``spark://127.0.0.1:7077``.
        pages: Addresses of the pages of its master and workers.
        folder: Logs of the daemons, and under ``work`` those of the executors.
        workers: The workers, one on each host.
    """

    master: str
    pages: list[str]
    folder: Path
    workers: list[psutil.Process]

    def executors(self) -> list[psutil.Process]:
        """The executors that run now."""
        found = [each for worker in self.workers for each in worker.children()]
        return [each for each in found if _EXECUTOR in " ".join(_command_of(each))]


def environment(**more: str) -> dict[str, str]:
    """The environment of all processes: this Python, and the package of this folder."""
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": HOSTS[0],
    }
    return {**os.environ, **own, **more}


@contextmanager
def spark_cluster(folder: Path) -> Iterator[SparkCluster]:
    """Run a master and two workers of one core each.

    Args:
        folder: An empty folder, for logs and work.
    """
    started: list[subprocess.Popen[bytes]] = []
    try:
        log = folder / "master.log"
        started.append(_daemon("master.Master", ["--host", HOSTS[0], "--port", "0"], log))
        until(lambda: _MASTER.search(log.read_text()) is not None)
        match = _MASTER.search(log.read_text())
        assert match is not None
        logs = []
        for host in HOSTS:
            logs.append(folder / f"worker {host}.log")
            options = ["--host", host, "--cores", "1", "--memory", "1g"]
            options += ["--work-dir", str(folder / "work" / host), match[1]]
            started.append(_daemon("worker.Worker", options, logs[-1]))
        until(lambda: all(_REGISTERED in each.read_text() for each in logs))
        pages = [page for path in (log, *logs) for page in _PAGE.findall(path.read_text())]
        workers = [psutil.Process(each.pid) for each in started[1:]]
        yield SparkCluster(match[1], pages, folder, workers)
    finally:
        for each in reversed(started):
            end(psutil.Process(each.pid))
            each.wait()


def end(process: psutil.Process) -> None:
    """Kill a process and all that it has started."""
    family = [process, *process.children(recursive=True)] if process.is_running() else []
    for each in family:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue


class SparkDriver:
    """A process with a session of Spark, which does what it is told, one thing at a time.

    Args:
        master: The master, such as that of a cluster, or ``local[2,4]``.
        settings: Settings of Spark.
        log: File for its log; None for that of the tests.
        more: Variables of its environment.
    """

    def __init__(
        self,
        master: str,
        settings: dict[str, str] | None = None,
        *,
        log: Path | None = None,
        **more: str,
    ) -> None:
        own = {
            "spark.master": master,
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.driver.host": HOSTS[0],
            "spark.driver.bindAddress": HOSTS[0],
            "spark.driver.memory": "512m",
            "spark.executor.memory": "512m",
            "spark.log.level": "OFF",
        }
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.engines.spark_driver",
                json.dumps(own | (settings or {})),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if log is None else log.open("wb"),
            text=True,
            env=environment(**more),
            cwd=_ROOT,
        )
        self.process = psutil.Process(self._process.pid)
        self.ready = self.result()
        """What it tells of its session."""

    def tell(self, **order: Any) -> None:
        """Begin what :func:`tests.engines.spark_driver.send` does."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(order)}\n")
        self._process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """Wait for the end of it."""
        assert self._process.stdout is not None
        result: dict[str, Any] = json.loads(self._process.stdout.readline())
        return result

    def send(self, **order: Any) -> dict[str, Any]:
        """Send, and wait for the report."""
        self.tell(**order)
        return self.result()

    def kill(self) -> None:
        """Kill the process itself, and leave what it has started to its fate."""
        self._process.kill()
        self._process.wait()

    def is_alive(self) -> bool:
        """Whether nobody has killed it."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process, and all that it has started."""
        end(self.process)
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _daemon(kind: str, options: list[str], log: Path) -> subprocess.Popen[bytes]:
    import pyspark  # noqa: PLC0415  # an extra

    home = Path(pyspark.__file__).parent
    command = ["java", "-Xmx256m", "-cp", str(home / "jars" / "*")]
    command += [f"org.apache.spark.deploy.{kind}", "--webui-port", "0", *options]
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(SPARK_HOME=str(home), SPARK_SCALA_VERSION=_SCALA),
        )


def _command_of(process: psutil.Process) -> list[str]:
    try:
        command: list[str] = process.cmdline()
    except psutil.Error:
        return []
    return command

"""Worker processes that read, check and encode rows for the one process that sends them.

Each worker takes a part of the table and writes each prepared chunk as a pickle to its standard
output. A worker that is ahead of the others waits, because the queue of prepared chunks is short.
"""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from cdp_backfill.errors import SourceError
from cdp_backfill.model import api_facts

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from datetime import datetime

    from cdp_backfill.inference.proposal import Proposal
    from cdp_backfill.messages.encoding import ContextScope
    from cdp_backfill.model.distinct import DigestSet
    from cdp_backfill.pipeline.preparation import PreparedChunk, Recent
    from cdp_backfill.sources import Chunk, Source

_POLL_SECONDS: Final = 0.2

_QUEUED_CHUNKS: Final = 2  # for each worker

_START: Final = """
import sys
sys.path.append(sys.argv[1])
from cdp_backfill.pipeline.worker_main import main
main()
"""
"""What a worker runs, with the folder of this package, which may not be installed.

The folder comes last, and with ``-P`` the current folder is not searched: a file there, such as
``pandas.py``, must not be run in place of a library.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a worker process does.

    Attributes:
        source: The part of the table to read.
        proposal: The mapping.
        recent: See :func:`cdp_backfill.send`, as for the next two.
        context_scope: See there.
        now: See there.
        where: See :class:`~cdp_backfill.pipeline.prepared_source.PreparedSource`.
        excluded: See there.
        ambiguous_ids: See :class:`cdp_backfill.messages.Binding`.
        columns: Columns to read.
        with_digests: See :func:`cdp_backfill.messages.encoding.encode`.
    """

    source: Source
    proposal: Proposal
    recent: Recent
    context_scope: ContextScope
    now: datetime
    where: str | None
    excluded: DigestSet | None
    ambiguous_ids: DigestSet | None
    columns: Sequence[str]
    with_digests: bool


def prepare_in_processes(tasks: Sequence[Task]) -> Generator[tuple[Chunk, PreparedChunk]]:
    """Run each task in a process of its own, and yield chunks as they are ready.

    Raises:
        SourceError: A process ended early, for example because the system killed it.
        BadInputError: A table cannot be read, or its mapping does not fit.
    """
    results: queue.Queue[Any] = queue.Queue(_QUEUED_CHUNKS * len(tasks))
    workers = [_Worker(task, results) for task in tasks]
    try:
        running = len(workers)
        while running:
            try:  # with a timeout, so that an interrupt gets through
                item = results.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if isinstance(item, BaseException):
                raise item
            if item is None:
                running -= 1
            else:
                chunk, prepared = item
                yield _deserialise(chunk), prepared
    finally:
        for worker in workers:
            worker.kill()
        while any(worker.is_reading for worker in workers):  # its thread may wait for room
            try:
                results.get(timeout=0.01)
            except queue.Empty:
                continue


class _Worker:
    """A process, and the thread that reads its output."""

    def __init__(self, task: Task, results: queue.Queue[Any]) -> None:
        # In a session of its own: an interrupt of the terminal is for the process that reports.
        self._process = subprocess.Popen(  # noqa: S603  # this very package
            [sys.executable, "-P", "-c", _START, str(Path(__file__).parents[2])],
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._task, self._results = task, results
        self._thread = threading.Thread(target=self._read, name="cdp-backfill-worker", daemon=True)
        self._thread.start()

    @property
    def is_reading(self) -> bool:
        """Whether its thread still reads output of the process."""
        return self._thread.is_alive()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        process, item = self._process, None
        assert process.stdin is not None  # noqa: S101  # both are pipes
        assert process.stdout is not None  # noqa: S101
        try:
            with process.stdin as stdin, process.stdout as stdout:
                pickle.dump(self._task, stdin)
                stdin.flush()
                while (item := pickle.load(stdout)) is not None:  # noqa: S301  # our own
                    self._results.put(item)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            item = SourceError(
                "A worker process ended before it had read its part of the table. The system may "
                "have killed it for lack of memory. Pass a smaller processes=."
            )
        except Exception as error:  # noqa: BLE001  # else the run would wait for it forever
            item = SourceError(
                f"The source could not be passed to a worker process ({type(error).__name__}). "
                "Leave processes= out."
            )
        self._results.put(item)


def _environment() -> dict[str, str]:
    """The variables of a worker: without the key, and without the current folder to import from."""
    variables = {**os.environ}
    variables.pop(api_facts.API_KEY_VARIABLE, None)
    if "PYTHONPATH" in variables:
        paths = variables["PYTHONPATH"].split(os.pathsep)
        variables["PYTHONPATH"] = os.pathsep.join(path for path in paths if path not in ("", "."))
    return variables


def _deserialise(chunk: Chunk) -> Chunk:
    return replace(chunk, batch=pa.ipc.open_stream(chunk.batch).read_next_batch())

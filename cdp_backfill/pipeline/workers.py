"""Rows that other processes read, check and encode, for one process to send.

Each helper process takes a part of the table, and gives back what it made of each chunk as a pickle
on its standard output. One that is ahead waits, since the queue of what it made is short.
"""

from __future__ import annotations

import pickle
import queue
import subprocess
import sys
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from cdp_backfill.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from datetime import datetime

    from cdp_backfill.inference.proposal import Proposal
    from cdp_backfill.messages.encoding import ContextScope
    from cdp_backfill.pipeline.preparation import Prepared, Recent
    from cdp_backfill.sources import Chunk, Source

_TICK: Final = 0.2

_AHEAD: Final = 2  # chunks of each helper that wait to be taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a helper process is to do.

    Attributes:
        source: The part of the table that it reads.
        proposal: The mapping.
        recent: See :func:`cdp_backfill.send`, as for the next two.
        context_scope: See there.
        now: See there.
        columns: Columns to read.
        with_digests: See :func:`cdp_backfill.messages.encoding.encode`.
    """

    source: Source
    proposal: Proposal
    recent: Recent
    context_scope: ContextScope
    now: datetime
    columns: Sequence[str]
    with_digests: bool


def prepared_in_processes(tasks: Sequence[Task]) -> Generator[tuple[Chunk, Prepared]]:
    """Do each task in a process of its own; chunks come as they are ready.

    Raises:
        SourceError: A process ended without a word, killed for its memory, say.
        BadInputError: As reading raises it.
    """
    found: queue.Queue[Any] = queue.Queue(_AHEAD * len(tasks))
    helpers = [_Helper(task, found) for task in tasks]
    try:
        working = len(helpers)
        while working:
            try:  # with an end: an interrupt may be held back while it waits
                item = found.get(timeout=_TICK)
            except queue.Empty:
                continue
            if isinstance(item, BaseException):
                raise item
            if item is None:
                working -= 1
            else:
                chunk, prepared = item
                yield _unpacked(chunk), prepared
    finally:
        for helper in helpers:
            helper.end()
        while any(helper.reads for helper in helpers):  # one may wait for room
            try:
                found.get(timeout=0.01)
            except queue.Empty:
                continue


class _Helper:
    """A process, and the thread that reads what it gives."""

    def __init__(self, task: Task, found: queue.Queue[Any]) -> None:
        # A session of its own: an interrupt of the terminal is for the one process that reports.
        self._process = subprocess.Popen(  # this very package
            [sys.executable, "-m", "cdp_backfill.pipeline.worker_main"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._task, self._found = task, found
        self._thread = threading.Thread(target=self._read, name="cdp-backfill-helper", daemon=True)
        self._thread.start()

    @property
    def reads(self) -> bool:
        """Whether something may still come."""
        return self._thread.is_alive()

    def end(self) -> None:
        """Let the process go, at once."""
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
                    self._found.put(item)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            item = SourceError(
                "A process that was reading the table ended without a word; it may have been "
                "killed for its memory. Use fewer processes."
            )
        except Exception as error:  # noqa: BLE001  # else nobody would know, and wait for it
            item = SourceError(
                "A process that was to read the table cannot be told how "
                f"({type(error).__name__}). Leave processes= out."
            )
        self._found.put(item)


def _unpacked(chunk: Chunk) -> Chunk:
    return replace(chunk, batch=pa.ipc.open_stream(chunk.batch).read_next_batch())

"""Looks after a job of Spark: tells how many tasks have ended, and lets an interrupt end it."""

from __future__ import annotations

import threading
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cdp_backfill.engines.engine import OnTasks

_SECONDS: Final = 1.0


@contextmanager
def watched_tasks(session: Any, on_tasks: OnTasks | None) -> Iterator[None]:
    """Tell how many tasks of the stage that runs have ended, of how many.

    A classic session is asked every second, on a thread of its own. Connect tells by itself.

    Args:
        session: The session.
        on_tasks: Told; None for nothing.
    """
    if on_tasks is None:
        yield
        return
    context = getattr(session, "_sc", None)
    if context is None:
        operations: list[str] = []

        def handler(stages: Any, *, operation_id: str, **_: Any) -> None:
            operations.append(operation_id)
            if operation_id == operations[0]:  # those after it only fetch what it kept
                _tell([(s.stage_id, s.num_completed_tasks, s.num_tasks) for s in stages], on_tasks)

        session.registerProgressHandler(handler)
        try:
            yield
        finally:
            session.removeProgressHandler(handler)
        return
    has_ended = threading.Event()
    arguments = (context.statusTracker(), on_tasks, has_ended)
    thread = threading.Thread(
        target=_ask, args=arguments, name="cdp-backfill-progress", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        has_ended.set()
        thread.join()


@contextmanager
def ended_by_interrupts(session: Any) -> Iterator[None]:
    """Let an interrupt end the jobs that are begun within, on all workers.

    PySpark's own handler asks for it on the connection that waits for the job, where it can fail:
    the job would then go on sending behind the user's back.

    Args:
        session: The session.
    """
    tag = f"cdp-backfill-{uuid.uuid4().hex}"
    context = getattr(session, "_sc", None)
    if context is None:
        add, cancel, remove = session.addTag, session.interruptTag, session.removeTag
    else:  # a classic session knows its tags on the thread that gave them only
        add, cancel, remove = context.addJobTag, context.cancelJobsWithTag, context.removeJobTag
    add(tag)
    try:
        yield
    except KeyboardInterrupt:
        thread = threading.Thread(target=_quietly, args=(cancel, tag))  # has its own connection
        thread.start()
        thread.join()
        raise
    finally:
        _quietly(remove, tag)


def _quietly(action: Callable[[str], object], tag: str) -> None:
    with suppress(Exception):  # the session is gone, and its jobs with it
        action(tag)


def _ask(tracker: Any, on_tasks: OnTasks, has_ended: threading.Event) -> None:
    while not has_ended.wait(_SECONDS):
        with suppress(Exception):  # a display is not worth an error
            infos = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
            stages = [(i.stageId, i.numCompletedTasks, i.numTasks) for i in infos if i is not None]
            _tell(stages, on_tasks)


def _tell(stages: list[tuple[int, int, int]], on_tasks: OnTasks) -> None:
    """Tell about the last stage that has tasks: those before it made its rows."""
    _, ended, tasks = max((each for each in stages if each[2]), default=(0, 0, 0))
    if tasks:
        on_tasks(ended, tasks)

"""Tells how many tasks of Spark have ended, while a job runs."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

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

"""Runs what must happen as a whole on a thread that an interrupt does not reach."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


class Recorder:
    """One thread that runs actions, one after the other.

    An interrupt only reaches the main thread. If no thread can be started, the actions run on the
    calling thread: a run without this protection is better than none.
    """

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = ThreadPoolExecutor(
            1, thread_name_prefix="cdp-backfill-recorder"
        )
        try:
            self._executor.submit(int)  # starts the thread
        except RuntimeError:
            self._executor = None

    def submit(self, action: Callable[..., Result], *arguments: object) -> Future[Result]:
        """Begin an action."""
        if self._executor is not None:
            return self._executor.submit(action, *arguments)
        future: Future[Result] = Future()
        try:
            future.set_result(action(*arguments))
        except Exception as error:  # noqa: BLE001  # whoever asks for the result gets it
            future.set_exception(error)
        return future

    def shutdown(self) -> None:
        """End the thread."""
        if self._executor is not None:
            self._executor.shutdown()


def run_in_thread(action: Callable[[], None]) -> None:
    """Run an action on a thread of its own, if there is one, and wait for it."""
    thread = threading.Thread(target=action, name="cdp-backfill-stop", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        action()
    else:
        thread.join()

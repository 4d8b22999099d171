"""Ends the threads that work for a generator.

A generator that nobody closes is closed when Python collects garbage. That can be in the middle of
starting any thread, under a lock of :mod:`threading` that is needed to join one: to wait for the
end of a thread would be to wait for ever. So its end waits for work only, and not for long.
"""

from __future__ import annotations

from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import ThreadPoolExecutor

SECONDS: Final = 5.0
"""The longest wait for work that has begun."""


def end(pool: ThreadPoolExecutor, results: Iterable[Future[Any]] = ()) -> None:
    """Let threads begin nothing more, and wait for what they are doing.

    Args:
        pool: The threads.
        results: What is awaited, if it has begun.
    """
    pool.shutdown(wait=False, cancel_futures=True)
    wait([result for result in results if not result.cancelled()], SECONDS)

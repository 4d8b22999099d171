"""Ends threads that work for a generator."""

from __future__ import annotations

from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import ThreadPoolExecutor

_SECONDS: Final = 5.0


def ended(pool: ThreadPoolExecutor, futures: Iterable[Future[Any]]) -> bool:
    """End the threads of a generator that is closed, and wait for what they are doing.

    A generator that nobody closes is closed when Python collects garbage. That can be in the middle
    of starting any thread, under a lock of :mod:`threading` that is needed to join one: to wait for
    the end of a thread would be to wait for ever. So this waits for results only, and not for long.

    Args:
        pool: The threads. They begin nothing more.
        futures: Results that were asked of them.

    Returns:
        Whether no thread works on a result any more.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> pool = ThreadPoolExecutor(1)
    >>> ended(pool, [pool.submit(str, 1)])
    True
    """
    pool.shutdown(wait=False, cancel_futures=True)
    begun = [future for future in futures if not future.cancelled()]
    return not wait(begun, _SECONDS).not_done

"""Makes results on other threads while the calling one reads and uses them, in order."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from cdp_backfill.model.pools import end

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

T = TypeVar("T")
R = TypeVar("R")


def results_in_order(
    function: Callable[[T], R], items: Iterator[T], *, threads: int
) -> Generator[tuple[T, Future[R]]]:
    """Each item with the result of a function, which other threads make ahead.

    The items are taken on the calling thread: a database cursor knows only its own. So is the first
    result, because a small table needs no thread. An interrupt reaches no other thread.

    Args:
        function: Makes the result of an item; several threads may call it.
        items: The items. What one raises comes after the results of those before it.
        threads: Results that are made, or ready, while the caller uses the one before.

    Yields:
        An item, and its result as a future that is done. If it failed, no thread is at work.

    >>> for number, result in results_in_order(str, iter([1, 2]), threads=1):
    ...     print(number, repr(result.result()))
    1 '1'
    2 '2'
    """
    pool = ThreadPoolExecutor(threads, "cdp-backfill-preparer")
    waiting: deque[tuple[T, Future[R]]] = deque()
    problem: Exception | None = None
    try:
        for item in islice(items, 1):
            yield item, _done(function, item)
        while problem is None or waiting:
            if problem is None and len(waiting) <= threads:
                try:
                    item = next(items)
                except Exception as error:  # noqa: BLE001  # raised below, in its turn
                    problem = error
                else:
                    waiting.append((item, _begun(pool, function, item)))
                continue
            item, result = waiting.popleft()
            if result.exception() is not None:
                wait([other for _, other in waiting])
            yield item, result
        if not isinstance(problem, StopIteration):
            raise problem
    finally:
        end(pool, [result for _, result in waiting])


def _begun(pool: ThreadPoolExecutor, function: Callable[[T], R], item: T) -> Future[R]:
    """The result of an item, on a thread if there is one."""
    try:
        return pool.submit(function, item)
    except RuntimeError:  # there are no more threads
        return _done(function, item)


def _done(function: Callable[[T], R], item: T) -> Future[R]:
    """The result of an item, made here."""
    result = Future[R]()
    try:
        result.set_result(function(item))
    except Exception as error:  # noqa: BLE001  # the caller looks at it
        result.set_exception(error)
    return result

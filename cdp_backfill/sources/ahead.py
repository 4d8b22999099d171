"""Makes the next block or batch of a file while the last one is used."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from cdp_backfill.model.pools import SECONDS, end

if TYPE_CHECKING:
    from collections.abc import Generator

T = TypeVar("T")


def ahead(items: Generator[T]) -> Generator[T]:
    """The same items, each made by another thread while the caller uses the one before.

    Reading, unpacking and parsing leave the interpreter to other threads for most of their time. An
    interrupt does not reach that thread.
    No more than one item is made ahead. The thread begins nothing more when the generator ends.

    Args:
        items: A generator that only this function uses. It is closed at the end.

    >>> list(ahead(letter for letter in "abc"))
    ['a', 'b', 'c']
    """
    last, busy = object(), threading.Lock()

    def make() -> Any:
        with busy:
            return next(items, last)

    pool = ThreadPoolExecutor(1, "cdp-backfill-reader")
    try:
        try:
            waiting = pool.submit(make)
        except RuntimeError:  # there are no more threads
            yield from items
            return
        while (item := waiting.result()) is not last:
            waiting = pool.submit(make)
            yield item
    finally:
        end(pool)
        # An interrupt here leaves the items to their thread, and so does one that takes too long.
        if busy.acquire(timeout=SECONDS):
            try:
                items.close()
            finally:
                busy.release()

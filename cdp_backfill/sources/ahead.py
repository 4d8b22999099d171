"""Makes the next block or batch of a file while the last one is used."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from cdp_backfill.model.pools import ended

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
    end = object()
    pool = ThreadPoolExecutor(1, "cdp-backfill-reader")
    waiting: Future[Any] | None = None
    try:
        try:
            waiting = pool.submit(next, items, end)
        except RuntimeError:  # there are no more threads
            yield from items
            return
        while (item := waiting.result()) is not end:
            waiting = pool.submit(next, items, end)
            yield item
    finally:
        # An interrupt here leaves the items to their thread.
        if waiting is None or ended(pool, [waiting]):
            items.close()
        else:
            waiting.add_done_callback(lambda _: items.close())

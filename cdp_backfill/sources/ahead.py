"""Makes the next block or batch of a file while the last one is used."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator

T = TypeVar("T")


def ahead(items: Generator[T]) -> Generator[T]:
    """The same items, each made by another thread while the caller uses the one before.

    Reading, unpacking and parsing leave the interpreter to other threads for most of their time. An
    interrupt does not reach that thread.
    No more than one item is made ahead. The thread ends with the generator.

    Args:
        items: A generator that only this function uses. It is closed at the end.

    >>> list(ahead(letter for letter in "abc"))
    ['a', 'b', 'c']
    """
    end = object()
    pool = ThreadPoolExecutor(1, "cdp-backfill-reader")
    try:
        try:
            waiting = pool.submit(next, items, end)
        except RuntimeError:  # there are no more threads
            yield from items
            return
        while (item := waiting.result()) is not end:
            waiting = pool.submit(next, items, end)
            yield item  # type: ignore[misc]  # it is not the end
    finally:
        pool.shutdown()  # an interrupt here leaves the generator to its thread
        items.close()

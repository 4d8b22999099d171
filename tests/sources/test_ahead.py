"""Items that are made while the ones before are used."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from cdp_backfill.errors import SourceError
from cdp_backfill.sources.ahead import ahead
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Generator


def readers() -> int:
    """Threads that read ahead."""
    return sum(thread.name.startswith("cdp-backfill-reader") for thread in threading.enumerate())


def test_an_error_comes_after_the_items_before_it() -> None:
    """What was read before a file breaks off is not lost."""

    def items() -> Generator[int]:
        yield 1
        yield 2
        raise SourceError("damaged")

    numbers = ahead(items())
    assert [next(numbers), next(numbers)] == [1, 2]
    with pytest.raises(SourceError, match="damaged"):
        next(numbers)
    until(lambda: not readers())


def test_without_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started, the caller makes the items itself."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert list(ahead(number for number in range(3))) == [0, 1, 2]


def test_whoever_stops_early_ends_the_thread() -> None:
    """One item is made ahead, no more; then the generator is closed, and its thread ends."""
    made, closed = [], []

    def items() -> Generator[int]:
        try:
            for number in range(100):
                made.append(number)
                yield number
        finally:
            closed.append(True)

    numbers = ahead(items())
    assert [next(numbers), next(numbers)] == [0, 1]
    numbers.close()
    assert made in ([0, 1], [0, 1, 2])
    assert closed == [True]
    until(lambda: not readers())


def test_a_second_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted while it waits for the thread to end, it is interrupted, and hides nothing."""
    reading, go_on = threading.Event(), threading.Event()

    def items() -> Generator[int]:
        yield 1
        reading.set()
        go_on.wait(10)
        yield 2

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    numbers = ahead(items())
    assert next(numbers) == 1
    assert reading.wait(10)
    with monkeypatch.context() as patched:
        patched.setattr("cdp_backfill.sources.ahead.ThreadPoolExecutor.shutdown", interrupted)
        with pytest.raises(KeyboardInterrupt):
            numbers.close()
    go_on.set()


def test_an_interrupt_while_an_item_is_ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread may work on it already: the items are closed after that, and nothing is hidden."""
    submit = ThreadPoolExecutor.submit
    working, closed = threading.Event(), threading.Event()

    def items() -> Generator[int]:
        try:
            working.set()
            never.wait(0.2)
            yield 1
        finally:
            closed.set()

    def interrupted(*arguments: Any) -> None:
        submit(*arguments)
        assert working.wait(10)
        raise KeyboardInterrupt

    never = threading.Event()
    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(ahead(items()))
    assert closed.is_set()
    until(lambda: not readers())

"""Results that are made ahead come in order, whatever fails and whenever."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from cdp_backfill.pipeline.in_order import results_in_order
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator


class _ReadError(Exception):
    pass


def _items(count: int, *, then: Exception | None = None) -> Iterator[int]:
    yield from range(count)
    if then is not None:
        raise then


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 20])
def test_each_item_comes_with_its_result_in_order(threads: int, count: int) -> None:
    """Nothing is lost, repeated or moved, with any number of threads."""
    results = results_in_order(lambda number: number * 10, _items(count), threads=threads)
    assert [(item, future.result()) for item, future in results] == [
        (number, number * 10) for number in range(count)
    ]


def test_results_are_made_while_the_caller_uses_one() -> None:
    """With two threads, the next two results are begun before the caller asks for them."""
    begun = {number: threading.Event() for number in range(6)}

    def begin(number: int) -> int:
        begun[number].set()
        return number

    with closing(results_in_order(begin, _items(6), threads=2)) as results:
        assert next(results)[1].result() == 0
        assert next(results)[1].result() == 1
        assert begun[2].wait(10)
        assert begun[3].wait(10)
        assert not begun[4].is_set()


def test_an_error_of_reading_comes_after_the_results_before_it() -> None:
    """What was read before an error is used first."""
    seen: list[str] = []
    results = results_in_order(str, _items(4, then=_ReadError()), threads=2)
    with pytest.raises(_ReadError):
        seen.extend(future.result() for _, future in results)
    assert seen == ["0", "1", "2", "3"]


@pytest.mark.parametrize("place", [0, 1, 4])
def test_a_result_that_fails_stands_in_its_place(place: int) -> None:
    """A failure is seen at its item, with no thread at work, and the others go on."""
    at_work: set[int] = set()

    def fail(number: int) -> int:
        at_work.add(number)
        try:
            if number == place:
                raise ValueError
            return number
        finally:
            at_work.discard(number)

    seen: list[int] = []
    for item, future in results_in_order(fail, _items(6), threads=2):
        if future.exception() is None:
            seen.append(future.result())
        else:
            assert item == place
            assert not at_work
    assert seen == [number for number in range(6) if number != place]


def test_no_thread_is_left_when_the_caller_stops() -> None:
    """Closed early, it waits for its threads and begins nothing more."""
    before = set(threading.enumerate())
    results = results_in_order(str, _items(100), threads=2)
    for _ in range(3):
        next(results)
    results.close()
    until(lambda: set(threading.enumerate()) == before)


def test_a_single_item_needs_no_thread() -> None:
    """A small table is prepared by the calling thread."""
    names = [
        future.result()
        for _, future in results_in_order(
            lambda _: threading.current_thread().name, _items(1), threads=2
        )
    ]
    assert names == [threading.current_thread().name]


def test_without_threads_the_caller_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started, the results are made one after another."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    results = results_in_order(str, _items(5), threads=2)
    assert [future.result() for _, future in results] == ["0", "1", "2", "3", "4"]

"""Start and stop of a sandbox, with and without a ``with`` block."""

from __future__ import annotations

import gc

import httpx
import pytest

import cdp_backfill as cdp
from tests.emulator.test_sandbox import EXAMPLE, post


def test_start_and_stop() -> None:
    """They do what a ``with`` block does, and may be repeated."""
    box = cdp.sandbox()
    assert box.start() is box
    assert box.start() is box
    assert box.running
    assert post(box, "/track", EXAMPLE).status_code == 200
    assert len(box.events()) == 1
    url = box.url
    box.stop()
    box.stop()
    assert (box.running, box.stopped) == (False, True)
    assert box.url == url
    with pytest.raises(httpx.ConnectError):
        httpx.get(box.page)


def test_a_started_sandbox_in_a_block() -> None:
    """A block can take over a sandbox that runs, and stops it."""
    with cdp.sandbox().start() as box:
        assert post(box, "/track", EXAMPLE).status_code == 200
    assert box.stopped


def test_a_stopped_sandbox() -> None:
    """It does not start again, and queries say that its data is closed."""
    with cdp.sandbox() as box:
        pass
    with pytest.raises(cdp.DestinationError, match=r"has stopped\. Make a new one"):
        box.start()
    with pytest.raises(RuntimeError, match="its data is closed"):
        box.events()


def test_a_sandbox_that_has_not_started() -> None:
    """It says so, takes no port and leaves nothing open."""
    box = cdp.sandbox(port=1)
    assert "not started" in repr(box)
    assert "not started" in str(box)
    assert "not started" in box._repr_html_()
    with pytest.raises(RuntimeError, match="has not started"):
        _ = box.destination
    with pytest.raises(RuntimeError, match="has not started"):
        box.events()
    box.set_faults(latency=0.001)
    box.stop()
    assert not box.stopped
    del box
    gc.collect()  # a socket or database left open would be a warning, and so an error


def test_a_fault_out_of_range() -> None:
    """It is an error before anything starts."""
    with pytest.raises(cdp.DestinationError, match="latency must not be negative"):
        cdp.sandbox(latency=-1)

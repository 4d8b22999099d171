"""Waiting until something is so, without taking the processor from what makes it so."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK_AGAIN: Final = 0.01  # seconds
_NEVER_SO: Final = 180.0  # seconds; what is awaited comes within a few, also on a busy machine


def until(is_so: Callable[[], bool]) -> None:
    """Wait until a condition holds; one that never will fails, rather than wait for ever."""
    never, begun = threading.Event(), time.monotonic()
    while not is_so():
        assert time.monotonic() - begun < _NEVER_SO, "what the test waits for does not come"
        never.wait(_LOOK_AGAIN)

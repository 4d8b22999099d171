"""Waiting until something is so, without taking the processor from what makes it so."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK_AGAIN: Final = 0.01  # seconds


def until(is_so: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    never = threading.Event()
    while not is_so():
        never.wait(_LOOK_AGAIN)

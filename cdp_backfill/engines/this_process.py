"""Whether a process that left a sign of life still runs, where that can be known."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


def this_process() -> dict[str, str | int | None]:
    """What names this process: its machine, its number, and when it began."""
    return {"machine": _machine(), "process": os.getpid(), "began": _began(os.getpid())}


def is_gone(process: dict[str, str | int | None]) -> bool:
    """Whether a process of this machine is certainly gone; False if nobody can tell from here.

    Args:
        process: What :func:`this_process` returned there.
    """
    machine, number, began = (process.get(each) for each in ("machine", "process", "began"))
    if machine is None or machine != _machine() or began is None or not isinstance(number, int):
        return False
    return _began(number) != began


@cache
def _machine() -> str | None:
    """The start of this system and the processes that are visible here; None if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        # In another container, the same number is another process.
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _began(number: int) -> str | None:
    """When a process began, or None if there is none, or if it waits to be buried."""
    try:
        text = Path(f"/proc/{number}/stat").read_text("ascii", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before may hold spaces
    return None if fields[0] in "ZX" else fields[19]

"""Threads of generators that nobody closes."""

from __future__ import annotations

import subprocess
import sys

import pytest

ABANDONED = """
import gc, threading
from itertools import count
from cdp_backfill.pipeline.in_order import results_in_order
from cdp_backfill.sources.ahead import ahead

class Holder:
    pass

gc.disable()
for generator in (ahead(n for n in count()), results_in_order(str, count(), threads=2)):
    next(generator), next(generator)
    holder = Holder()
    holder.itself, holder.generator = holder, generator
    del holder, generator

collected = []
plain = getattr(threading, "_maintain_shutdown_locks", lambda: None)

def collecting():
    if not collected:
        collected.append(True)
        gc.collect()
    plain()

threading._maintain_shutdown_locks = collecting
thread = threading.Thread(target=print, args=["begun"])
thread.start()
thread.join()
"""


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python has that lock no more")
def test_garbage_while_a_thread_starts() -> None:
    """Collected in the middle of starting another thread, they do not wait for it for ever."""
    command = [sys.executable, "-c", ABANDONED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "begun\n"
    assert not done.stderr

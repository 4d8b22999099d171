"""An interrupt of this process, as by Ctrl-C, once a run is under way."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp_backfill.local_sandbox import Sandbox


@contextmanager
def interrupted(box: Sandbox) -> Iterator[None]:
    """Interrupt what runs within as soon as the sandbox has a request."""

    def interrupt() -> None:
        until(lambda: len(box.requests()) > 0)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    yield
    thread.join()

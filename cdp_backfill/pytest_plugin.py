"""A fixture for the tests of those who use this package; pytest finds it by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cdp_backfill.local_sandbox import sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp_backfill.local_sandbox import Sandbox


@pytest.fixture
def cdp_sandbox() -> Iterator[Sandbox]:
    """A running Pipelines API on this machine, empty and new for each test.

    ``cdp_sandbox.destination`` is where to send, ``cdp_sandbox.events()`` what has arrived; see
    :func:`cdp_backfill.sandbox`.
    """
    with sandbox() as box:
        yield box

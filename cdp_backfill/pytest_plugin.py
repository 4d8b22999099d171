"""The pytest fixture ``cdp_sandbox``, which pytest finds once this package is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cdp_backfill.local_sandbox import sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp_backfill.local_sandbox import Sandbox


@pytest.fixture
def cdp_sandbox() -> Iterator[Sandbox]:
    """A new, empty sandbox for each test.

    Send to ``cdp_sandbox.destination``; ``cdp_sandbox.events()`` returns the stored messages. See
    :func:`cdp_backfill.sandbox`.
    """
    with sandbox() as running:
        yield running

"""The box as a destination to rehearse with."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from cdp_backfill.destination import Destination
from cdp_backfill.errors import DestinationError
from cdp_backfill.sandbox import Box

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Sandbox(Box):
    """A running box that knows how to be sent to."""

    @property
    def destination(self) -> Destination:
        """Give it to ``send`` or ``plan``."""
        return Destination(api_key=self.api_key, base_url=self.url)


@contextmanager
def sandbox(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    api_key: str = "sandbox",
    store: str | Path | None = None,
) -> Iterator[Sandbox]:
    """Run the Pipelines API on this machine for as long as the ``with`` block lasts.

    Args:
        host: Address to listen at.
        port: Port to listen at; 0 for a free one.
        api_key: The key that it takes.
        store: A database file for what it takes in, kept afterwards; None keeps it in memory.

    Yields:
        The box: ``destination``, ``url``, ``events()``, ``requests()``, ``totals()``.

    Raises:
        DestinationError: The address or port cannot be used.

    >>> import pandas as pd
    >>> from cdp_backfill import lit, sandbox
    >>> frame = pd.DataFrame({"uid": ["a"], "ts": ["2023-05-01T10:00:00Z"], "v": ["1.0"]})
    >>> with sandbox() as box:
    ...     report = frame.cdp.send(
    ...         user_id="uid",
    ...         timestamp="ts",
    ...         event=lit("Application Installed"),
    ...         properties={"version": "v"},
    ...         destination=box.destination,
    ...         progress=False,
    ...     )
    ...     box.events()["event"].tolist()
    ['Application Installed']
    """
    try:
        box = Sandbox(host=host, port=port, api_key=api_key, store=store)
    except OSError as error:
        raise DestinationError(f"The sandbox cannot listen at {host}:{port}: {error}.") from error
    box.start()
    try:
        yield box
    finally:
        box.stop()

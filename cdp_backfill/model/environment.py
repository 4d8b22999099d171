"""The environment that the package runs in."""

from __future__ import annotations

import functools
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any


@functools.cache
def package_version() -> str:
    """The version of this package; ``unknown`` where it runs from its folder, not installed."""
    try:
        return version("cdp-backfill")
    except PackageNotFoundError:
        return "unknown"


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this code."""
    return hasattr(_shell(), "kernel")


def in_marimo() -> bool:
    """Whether a cell of a marimo notebook runs this code."""
    marimo = sys.modules.get("marimo")
    return marimo is not None and bool(marimo.running_in_notebook())


def is_captured() -> bool:
    """Whether displays are captured instead of shown, as ``%%capture`` does.

    Every update of a display would be captured then.
    """
    publisher = getattr(_shell(), "display_pub", None)
    return hasattr(publisher, "outputs")


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None

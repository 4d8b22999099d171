"""Where the package runs."""

from __future__ import annotations

import sys
from typing import Any


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this code."""
    return hasattr(_shell(), "kernel")


def is_captured() -> bool:
    """Whether what is displayed is kept instead of shown, as ``%%capture`` does.

    Each display would be kept then, one after the other.
    """
    publisher = getattr(_shell(), "display_pub", None)
    return hasattr(publisher, "outputs")


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None

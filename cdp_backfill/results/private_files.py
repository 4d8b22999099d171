"""Files that only their owner can read, where there are such modes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def private(path: Path) -> Path:
    """Create a file that only its owner can read, or make it one. Returns the path.

    Raises:
        OSError: The file cannot be created.
    """
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    path.chmod(0o600)
    return path

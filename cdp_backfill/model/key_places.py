"""Places where a process finds an API key for itself: a file, or a function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cdp_backfill.errors import ApiKeyError, DestinationError
from cdp_backfill.model.secret import Secret

KeyPlace = str | Path | Callable[[], str | Secret]
"""The path of a file that holds a key, or a function that returns one."""


def check_place(place: Any) -> None:
    """Refuse what is neither a path nor a function.

    Raises:
        DestinationError: It is something else.
    """
    if place is not None and not isinstance(place, str | Path) and not callable(place):
        raise DestinationError(
            "key_from must be the path of a file that holds the key, or a function that returns "
            f"it, not {type(place).__name__}."
        )


def key_at(place: KeyPlace) -> Secret:
    """The key in a file, without white space around it, or the one that a function returns.

    Raises:
        ApiKeyError: There is none. The text names the place, and no key.
    """
    if isinstance(place, str | Path):
        try:
            return Secret(Path(place).read_text("utf-8").strip())
        except (OSError, ValueError) as error:
            problem = getattr(error, "strerror", None) or type(error).__name__
        raise ApiKeyError(f"The file {place} that key_from= names cannot be read ({problem}).")
    try:
        key = place()
    except Exception as error:  # noqa: BLE001  # its text could show the key
        problem = type(error).__name__
    else:
        if isinstance(key, str | Secret):
            return Secret(key)
        problem = f"it returned {type(key).__name__} instead of text"
    # Not inside an except block: a traceback of the function's error could show the key.
    raise ApiKeyError(f"The function that key_from= names gave no key ({problem}).")

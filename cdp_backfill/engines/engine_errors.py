"""One clear error for whatever an engine raises, without its text, which can show a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from cdp_backfill.errors import BackfillError, SourceError, StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


def with_clear_errors(engine: str, action: Callable[[], Result], *, sends: bool) -> Result:
    """Do what an engine may fail at, and replace its error.

    Args:
        engine: The engine, as in "Spark".
        action: What to do.
        sends: Whether the work sends rows.

    Raises:
        SourceError: The engine failed, and nothing was sent.
        StoppedError: It failed while parts were sent.

    >>> with_clear_errors("Spark", lambda: int("a cell"), sends=False)
    Traceback (most recent call last):
    cdp_backfill.SourceError: A job of Spark failed (ValueError). The log of Spark has the cause; \
if that is ModuleNotFoundError, install cdp-backfill on all workers. Nothing was sent.
    """
    try:
        return action()
    except BackfillError:
        raise
    except Exception as error:  # noqa: BLE001  # whatever an engine raises
        kind = type(error).__name__
    # Not in the except block: a traceback would show the error of the engine.
    cause = (
        f"A job of {engine} failed ({kind}). The log of {engine} has the cause; if that is "
        "ModuleNotFoundError, install cdp-backfill on all workers."
    )
    if not sends:
        raise SourceError(f"{cause} Nothing was sent.")
    raise StoppedError(
        f"{cause} Parts that ran have sent their rows, but the account of them is lost. To send "
        "again gives the same rows the same message ids."
    )

"""Lets an interrupt in a call of DuckDB come through as an interrupt."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import duckdb

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUERY: Final = "Query interrupted"
# DuckDB calls Python to read a registered table, and wraps what is raised there.
_WRAPPED: Final = re.compile(
    r"Invalid Input Error: \w[^']* object registered as '\w+' [\w ]*failed: KeyboardInterrupt"
)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt where DuckDB makes another error of it.

    It belongs around each call of DuckDB, inside of what handles its errors: an interrupt must not
    be taken for a cell or an expression that fails.

    >>> try:
    ...     with interruptible():
    ...         raise RuntimeError("Query interrupted")
    ... except KeyboardInterrupt:
    ...     print("interrupted")
    interrupted
    """
    try:
        yield
    except Exception as error:
        if _is_interrupt(error):
            raise KeyboardInterrupt from None
        raise


def _is_interrupt(error: Exception) -> bool:
    # The text of other errors can quote a cell, so only these are looked at.
    if isinstance(error, duckdb.InvalidInputException):
        return _WRAPPED.match(str(error)) is not None
    is_plain = type(error) is RuntimeError and str(error) == _QUERY
    return is_plain or isinstance(error, duckdb.InterruptException)

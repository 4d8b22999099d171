"""The ``.cdp`` namespace on frames of pandas and polars."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from cdp_backfill import api

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


def _verb(function: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[FrameAccessor, P], R]:
    """A function of a table as a method of a frame, with the same keywords and documentation."""

    @functools.wraps(function)
    def method(self: FrameAccessor, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return function(self.frame, *args, **kwargs)

    return method


class FrameAccessor:
    """What ``df.cdp`` offers: the verbs of the package with the frame as their table.

    Args:
        frame: A DataFrame of pandas, or a DataFrame or LazyFrame of polars.
    """

    def __init__(self, frame: Any) -> None:
        self.frame = frame

    plan = _verb(api.plan)
    send = _verb(api.send)
    messages = _verb(api.messages)

"""The ``df.cdp`` namespace on pandas DataFrames."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import pandas as pd

from cdp_backfill import backfill

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


@pd.api.extensions.register_dataframe_accessor("cdp")
class FrameAccessor:
    """What ``df.cdp`` offers: the verbs of the package with the frame as their table.

    Args:
        frame: The frame.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame

    plan = _verb(backfill.plan)
    send = _verb(backfill.send)
    messages = _verb(backfill.messages)

"""The ``.cdp`` namespace on frames of pandas, and of polars where that is installed."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import pandas as pd
import wrapt

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


@pd.api.extensions.register_dataframe_accessor("cdp")
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


@wrapt.when_imported("polars")
def _register_on_polars(polars: Any) -> None:
    """Offer the same on frames of polars, whichever of the two packages is imported first.

    It is not imported here: it changes how signals are handled, so that an interrupt waits until a
    thread wakes up by itself. That is for those to have who use it.
    """
    polars.api.register_dataframe_namespace("cdp")(FrameAccessor)
    polars.api.register_lazyframe_namespace("cdp")(FrameAccessor)

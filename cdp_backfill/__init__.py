"""Send years of mobile-app records to the Customer.io Pipelines API, and account for every row.

Importing this package registers ``df.cdp`` on pandas DataFrames and, where polars is installed, on
its eager and lazy frames. All else is imported at the first use of any of it.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from cdp_backfill.model.import_hooks import when_imported

if TYPE_CHECKING:
    from cdp_backfill.public import *  # noqa: F403
    from cdp_backfill.public import __all__ as __all__
else:

    def __getattr__(name: str) -> Any:
        """Import what is public, all of it at once, unless the name is that of a module."""
        is_special = name.startswith("__") and name != "__all__"
        if not is_special and importlib.util.find_spec(f"{__name__}.{name}") is None:
            public = importlib.import_module(f"{__name__}.public")
            names = {each: getattr(public, each) for each in ("__all__", *public.__all__)}
            globals().update(names)
            if name in names:
                return names[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Only public names, for completion."""
    return sorted(importlib.import_module(f"{__name__}.public").__all__)


def _namespace(frame: Any) -> Any:
    """What ``df.cdp`` is."""
    return importlib.import_module(f"{__name__}.accessors").FrameAccessor(frame)


def _register_on_pandas(pandas: Any) -> None:
    """Offer it on frames of pandas, whichever of the two packages is imported first."""
    pandas.api.extensions.register_dataframe_accessor("cdp")(_namespace)


def _register_on_polars(polars: Any) -> None:
    """Offer it on frames of polars as well.

    Polars is not imported here: it changes how signals are handled, so that an interrupt waits
    until a thread wakes up by itself. That is for those to have who use it.
    """
    polars.api.register_dataframe_namespace("cdp")(_namespace)
    polars.api.register_lazyframe_namespace("cdp")(_namespace)


def _register_on_dask(frames: Any) -> None:
    """Offer it on frames of Dask as well."""
    frames.extensions.register_dataframe_accessor("cdp")(_namespace)


when_imported("pandas", _register_on_pandas)
when_imported("polars", _register_on_polars)
when_imported("dask.dataframe", _register_on_dask)

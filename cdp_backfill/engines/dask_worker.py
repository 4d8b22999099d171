"""What a worker of Dask does with a partition."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from cdp_backfill.engines.frame_parts import batches_of

if TYPE_CHECKING:
    import pandas as pd

    from cdp_backfill.engines.engine import PartWork

_ATTEMPTS: Final = "cdp-backfill"


def run_part(
    frame: pd.DataFrame, *, part: str, work: PartWork, schema: Any, run: str | None
) -> tuple[str, list[Any], bytes]:
    """Run work on a partition.

    Args:
        frame: The partition.
        part: Its name.
        work: The work.
        schema: Columns to read, with their types.
        run: Name of the run, under which the scheduler counts attempts; None without a scheduler.

    Returns:
        The name, the failures and the summary.
    """
    failures = []
    working = work(batches_of(frame, schema), part, _attempt(run, part))
    while True:
        try:
            failures.append(next(working))
        except StopIteration as end:
            return part, failures, end.value


def _attempt(run: str | None, part: str) -> str:
    """Number of the attempt, as the scheduler counts it before anything is sent."""
    if run is None:  # without workers, nothing is run again
        return "0"
    from distributed import get_client  # noqa: PLC0415  # an extra

    client, keys = get_client(), [_ATTEMPTS, run, part]
    client.set_metadata([*keys, uuid.uuid4().hex], 1)
    # Afterwards: of two attempts at the same time, at least one sees the other.
    return str(len(client.get_metadata(keys)) - 1)

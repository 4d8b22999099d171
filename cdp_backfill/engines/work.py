"""What each worker does with its part: counts it for a plan, looks for recent rows, or sends it."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from cdp_backfill.engines.part_source import PartSource
from cdp_backfill.engines.partition import send_partition
from cdp_backfill.errors import ApiKeyError, BadInputError
from cdp_backfill.messages.packing import FIRST_MESSAGES, Packer
from cdp_backfill.pipeline.plan_statistics import PlanStatistics
from cdp_backfill.pipeline.recency_guard import RecentRows

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from cdp_backfill.engines.attempt_journal import SharedRun
    from cdp_backfill.engines.partition_job import PartitionJob

MAX_KEYS: Final = 2**18
"""Most people, and most message ids, that one part counts exactly."""

_LEVEL: Final = 3  # of zstd


@dataclass(frozen=True, slots=True)
class SendPart:
    """Sends a part.

    Args:
        job: How to send it.
        journal: The journal that all parts share, or None.
    """

    job: PartitionJob
    journal: SharedRun | None = None

    def __call__(
        self, batches: Iterator[Any], part: str, attempt: str
    ) -> Generator[Any, None, bytes]:
        """Send; see :class:`cdp_backfill.engines.engine.PartWork`."""
        summary = yield from send_partition(
            batches, self.job, part=part, attempt=attempt, journal=self.journal
        )
        return summary.to_bytes()


@dataclass(frozen=True, slots=True)
class PartFound:
    """What work on a part found before anything is sent.

    Attributes:
        part: Name of the part.
        found: The counts; None if the part has no rows.
        key_error: Why the worker has no key, or None.
    """

    part: str
    found: Any
    key_error: str | None = None


@dataclass(frozen=True, slots=True)
class GuardPart:
    """Counts the recent rows of a part, and looks for the key.

    Args:
        job: How the part would be sent.
        counts_recent: Whether to read the rows.
    """

    job: PartitionJob
    counts_recent: bool

    def __call__(self, batches: Iterator[Any], part: str, _: str) -> Generator[Any, None, bytes]:
        """Count; see :class:`cdp_backfill.engines.engine.PartWork`."""
        key_error, recent = None, RecentRows()
        try:
            self.job.destination.with_key()
        except ApiKeyError as error:
            key_error = str(error)
        rows = PartSource(f"part {part}", batches)
        if self.counts_recent and not rows.is_empty:
            recent.add_part(self.job.on(rows).prepare())
        return packed(PartFound(part, recent, key_error))
        yield


@dataclass(frozen=True, slots=True)
class PlanPart:
    """Counts what a run would do with the rows of a part.

    Args:
        job: How the part would be sent.
    """

    job: PartitionJob

    def __call__(self, batches: Iterator[Any], part: str, _: str) -> Generator[Any, None, bytes]:
        """Count; see :class:`cdp_backfill.engines.engine.PartWork`."""
        rows = PartSource(f"part {part}", batches)
        if rows.is_empty:
            return packed(PartFound(part, None))
        prepared = self.job.on(rows).prepare()
        packer = Packer(
            max_messages=self.job.destination.max_messages, first_messages=FIRST_MESSAGES
        )
        names = prepared.binding.schema.names
        statistics = PlanStatistics(packer, names, prepared.limits, max_keys=MAX_KEYS)
        for chunk, each in prepared.chunks(rows.schema.names):
            statistics.add(each, chunk.batch.num_rows)
        statistics.finish()
        return packed(PartFound(part, statistics))
        yield


def packed(found: PartFound) -> bytes:
    """What a worker hands to the driver."""
    body = pickle.dumps(found)
    compressed = pa.Codec("zstd", compression_level=_LEVEL).compress(body, asbytes=True)
    return len(body).to_bytes(8, "big") + bytes(compressed)


def unpacked(data: bytes) -> PartFound:
    """What a worker of this very job packed.

    Raises:
        BadInputError: It runs another version of this package.
    """
    size = int.from_bytes(data[:8], "big")
    body = pa.Codec("zstd").decompress(bytes(data[8:]), size, asbytes=True)
    try:
        found = pickle.loads(body)  # noqa: S301  # from our own workers
    except Exception:  # noqa: BLE001  # whatever a foreign class causes
        found = None
    if not isinstance(found, PartFound):
        raise BadInputError(
            "The workers run another version of cdp-backfill. Install the same version everywhere."
        )
    return found

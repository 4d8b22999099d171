"""Adds up what a plan says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from cdp_backfill import spec
from cdp_backfill.road import People

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from cdp_backfill.messages import MessageBatch
    from cdp_backfill.outcomes import Problem
    from cdp_backfill.packing import Packer, Request
    from cdp_backfill.preparing import Prepared


class Census:
    """Counts the rows of a table by what would become of them.

    Args:
        packer: Packs what would be sent, as a run does.
    """

    def __init__(self, packer: Packer) -> None:
        self._packer = packer
        self.rows = self.to_send = self.invalid = self.held = self.skipped = 0
        self.recent = self.naive = self.largest = self.message_bytes = self.body_bytes = (
            self.requests
        ) = 0
        self.events: dict[str, int] = {}
        self.event_keys: set[str] = set()
        self.problems: dict[Problem, int] = {}
        self.first: int | None = None
        self.last: int | None = None
        self.people = People()
        self.recent_people = People()

    def add(self, prepared: Prepared, rows: int) -> None:
        """Count a chunk."""
        batch = prepared.messages
        bad = batch.problems.mask()
        good = ~bad & ~prepared.held
        self.rows += rows
        self.skipped += len(prepared.skipped)
        self.invalid += int(np.count_nonzero(bad))
        self.held += int(np.count_nonzero(prepared.held))
        self.recent += int(np.count_nonzero(prepared.recent))
        self.naive += batch.naive
        self.event_keys |= batch.event_keys
        for problem, count in batch.problems.counts():
            self.problems[problem] = self.problems.get(problem, 0) + count
        self.recent_people.add(batch.people(prepared.recent))
        if good.any():
            self._add_good(batch, good)
        for encoded, _ in prepared.encoded:
            self.largest = max(self.largest, int(encoded.sizes.max()))
            self.message_bytes += int(encoded.sizes.sum())
            self._count(self._packer.feed(encoded))

    def _add_good(self, batch: MessageBatch, good: npt.NDArray[np.bool_]) -> None:
        self.to_send += int(np.count_nonzero(good))
        self.people.add(batch.people(good))
        millis = batch.millis[good]
        first, last = int(millis.min()), int(millis.max())
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)
        names = batch.fields["event"].filter(good)
        for item in pc.value_counts(names).to_pylist():
            name = item["values"]
            self.events[name] = self.events.get(name, 0) + item["counts"]

    def _count(self, requests: Iterator[Request]) -> None:
        for request in requests:
            self.requests += 1
            self.body_bytes += request.size

    def finish(self) -> None:
        """Count what is still being packed."""
        self._count(self._packer.flush())

    @property
    def fill(self) -> float:
        """Share of the limit on bytes that the requests use."""
        return self.body_bytes / (self.requests * spec.MAX_REQUEST_BYTES) if self.requests else 0.0

"""The guard against recent rows: nothing is sent while a row could still message people."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from cdp_backfill.errors import RecentRowsError
from cdp_backfill.messages import any_recent, build, day_is_old
from cdp_backfill.model.api_facts import RECENT_HOURS
from cdp_backfill.model.distinct import DistinctCounter
from cdp_backfill.model.plurals import count

if TYPE_CHECKING:
    from cdp_backfill.pipeline.preparation import PreparedChunk
    from cdp_backfill.pipeline.prepared_source import PreparedSource
    from cdp_backfill.sources import Chunk


def refuse_recent(prepared: PreparedSource) -> None:
    """Read who, what and when of the whole table, and stop if a row to send is recent.

    Raises:
        RecentRowsError: There are recent rows.
    """
    if not _may_have_recent(prepared) or not _has_recent(prepared):
        return
    # A row that fails another check is not sent, so all columns decide, as they do in a plan.
    recent = RecentRows()
    for _, chunk in prepared.chunks(prepared.binding.columns):
        recent.add(chunk)
    recent.refuse()


class RecentRows:
    """Counts recent rows, and the people that they are about."""

    def __init__(self) -> None:
        self.rows = 0
        self.people = DistinctCounter()

    def add(self, chunk: PreparedChunk) -> None:
        """Count those of a chunk."""
        if chunk.recent.any():
            self.rows += int(np.count_nonzero(chunk.recent))
            self.people.add(chunk.messages.people(chunk.recent))

    def add_part(self, prepared: PreparedSource) -> None:
        """Count those of a part of a table, which is read once."""
        with closing(prepared.source.chunks(prepared.binding.columns)) as chunks:
            for chunk in chunks:
                if _recent_in(prepared, chunk):
                    for _, each in prepared.prepare_chunk(chunk, with_digests=False):
                        self.add(each)

    def merge(self, other: RecentRows) -> None:
        """Add those of another part."""
        self.rows += other.rows
        self.people.merge(other.people)

    def refuse(self) -> None:
        """Refuse to send.

        Raises:
            RecentRowsError: There are recent rows.
        """
        rows, people = self.rows, self.people
        if not rows:
            return
        raise RecentRowsError(
            f"Nothing was sent. {count(rows, 'row')} of {people.describe('person', 'people')} "
            f"{'is' if rows == 1 else 'are'} younger than {RECENT_HOURS} hours and can trigger "
            "campaigns that message people. recent='hold' leaves such rows out, recent='send' "
            "sends them."
        )


def _has_recent(prepared: PreparedSource) -> bool:
    """Whether a row is recent that has who, what and when."""
    with closing(prepared.source.chunks(prepared.binding.guard_columns)) as chunks:
        return any(_recent_in(prepared, chunk) for chunk in chunks)


def _recent_in(prepared: PreparedSource, chunk: Chunk) -> bool:
    """The same of a chunk."""
    limits = prepared.limits
    batch = build(prepared.binding, chunk.batch, latest=limits.latest, who_what_when=True)
    return bool(((batch.millis >= limits.recent) & ~batch.problems.mask()).any())


def _may_have_recent(prepared: PreparedSource) -> bool:
    """Whether any time is recent. Reads the times alone, which is quick."""
    mapping, limits = prepared.mapping, prepared.limits
    if mapping.call == "identify":  # it has no time
        return False
    if not isinstance(mapping.timestamp, str):
        return True
    column = prepared.binding.paths.column_of(mapping.timestamp)
    if column in mapping.derive:
        return True

    day = prepared.source.newest_day(column)
    if day is not None and day_is_old(day, limits.recent):
        return False
    # Statistics in a file are no proof: they can be wrong, so the times themselves are read.
    with closing(prepared.source.chunks([column])) as chunks:
        return any(
            any_recent(prepared.binding, chunk.batch, recent=limits.recent, latest=limits.latest)
            for chunk in chunks
        )

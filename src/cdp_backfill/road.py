"""A table, a mapping that fits it and the options of a run; what plan and run share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill import spec
from cdp_backfill.errors import BadInputError, RecentRowsError
from cdp_backfill.messages import Binding, bind, build
from cdp_backfill.messages.times import is_text
from cdp_backfill.plan import as_moment
from cdp_backfill.preparing import Prepared, prepare

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.encoding import ContextScope, Digests
    from cdp_backfill.mapping import Mapping
    from cdp_backfill.outcomes import Problem
    from cdp_backfill.preparing import Mask
    from cdp_backfill.sources import Chunk, Source

Recent = Literal["raise", "hold", "send"]

MAX_PEOPLE: Final = 1_000_000
"""People that are told apart when they are counted: beyond, memory would grow with the input."""

APP_STORES: Final = 1_215_648_000_000
"""10 July 2008, when the first app store opened; earlier times are said aloud. [?]"""

SKIPPED: Final = "the mapping leaves this event out"


def type_in_words(kind: Any) -> str:
    """An Arrow type for people: text is text, however it is stored."""
    if pa.types.is_dictionary(kind):
        return type_in_words(kind.value_type)
    return "text" if is_text(kind) else str(kind)


def in_words(problems: tuple[Problem, ...]) -> str:
    """All reasons of a row."""
    return "; ".join(problem.reason for problem in problems)


def notes(mapping: Mapping, naive: int, event_keys: set[str], first: int | None) -> tuple[str, ...]:
    """What a plan and a report must say aloud.

    Args:
        mapping: The mapping.
        naive: Number of times that carried no zone.
        event_keys: Keys of the mapping's ``events`` that occurred.
        first: Earliest time to send, milliseconds since 1970 UTC, or None.
    """
    found = []
    if first is not None and first < APP_STORES:
        year = as_moment(first).year
        found.append(
            f"The earliest time is of {year}, before there were app stores. If that is wrong, "
            "look at the column of times and at timestamp_unit."
        )
    if naive:
        zone = mapping.timezone or "UTC"
        hint = "" if mapping.timezone else " If that is wrong, set timezone='...'."
        found.append(f"{naive:,} times carry no zone and are read as {zone}.{hint}")
    unused = [repr(key) for key in mapping.events if key not in event_keys]
    if unused and isinstance(mapping.event, str):
        verb = "is" if len(unused) == 1 else "are"
        found.append(
            f"Of the keys of events, {', '.join(unused)} {verb} in no row of column "
            f"{mapping.event!r}. If that is not meant, look for a typing error."
        )
    return tuple(found)


class Road:
    """A table, a mapping that fits it, and the options of a run."""

    def __init__(
        self,
        source: Source,
        mapping: Mapping,
        *,
        recent: Recent,
        context_scope: ContextScope,
        now: datetime | None,
    ) -> None:
        if recent not in ("raise", "hold", "send"):
            raise BadInputError(f"recent must be 'raise', 'hold' or 'send', not {recent!r}.")
        if context_scope not in ("message", "batch"):
            raise BadInputError(
                f"context_scope must be 'message' or 'batch', not {context_scope!r}."
            )
        moment = now or datetime.now(UTC)
        if moment.tzinfo is None:
            raise BadInputError("now must carry a time zone, such as datetime.now(UTC).")
        self.source = source
        self.mapping = mapping
        self.recent: Recent = recent
        self.context_scope: ContextScope = context_scope
        self.binding: Binding = bind(mapping, source.schema)
        self.cutoff = int((moment - timedelta(hours=spec.RECENT_HOURS)).timestamp() * 1000)

    def prepared(self, chunk: Chunk, knows: Callable[[Digests], Mask] | None = None) -> Prepared:
        """Check and encode a chunk.

        Args:
            chunk: The rows.
            knows: Tells which messages were delivered before, or None.
        """
        return prepare(
            self.binding,
            chunk,
            cutoff=self.cutoff,
            hold=self.recent == "hold",
            context_scope=self.context_scope,
            knows=knows,
        )

    def refuse_recent(self) -> None:
        """Read who, what and when of the whole table.

        Raises:
            RecentRowsError: Rows are recent.
        """
        people, rows = People(), 0
        for chunk in self.source.chunks(self.binding.guard_columns):
            batch = build(self.binding, chunk.batch, who_what_when=True)
            young = (batch.millis >= self.cutoff) & ~batch.problems.mask()
            if young.any():
                rows += int(np.count_nonzero(young))
                people.add(batch.people(young))
        if rows:
            raise RecentRowsError(
                f"Nothing was sent: {rows:,} rows, about {people} people, are younger than "
                f"{spec.RECENT_HOURS} hours and can trigger campaigns and messages to them. "
                "recent='hold' leaves these rows out, recent='send' sends them."
            )


class People:
    """Counts distinct people, up to a million: beyond, memory would grow with the input."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self.exact = True

    def add(self, ids: Any) -> None:
        """Count these."""
        if self.exact:
            self._seen.update(pc.unique(ids).to_pylist())
            self.exact = len(self._seen) <= MAX_PEOPLE

    @property
    def count(self) -> int:
        """How many so far."""
        return len(self._seen)

    def __str__(self) -> str:
        return f"{self.count:,}" if self.exact else f"more than {MAX_PEOPLE:,}"

"""Counts rows and cells for a plan."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.delivery.transport import compress
from cdp_backfill.messages.text import decode
from cdp_backfill.model import api_facts
from cdp_backfill.model.arrow_types import is_json
from cdp_backfill.model.distinct import LIMIT, DistinctCounter, split
from cdp_backfill.model.outcomes import EXCLUDED, UNMAPPED, Outcome
from cdp_backfill.pipeline.notes import join_reasons
from cdp_backfill.results.histogram import OTHER_EVENTS
from cdp_backfill.results.reasons import FailureReasons

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from cdp_backfill.messages import MessageBatch
    from cdp_backfill.messages.packing import Packer, Request
    from cdp_backfill.model.arrays import Millis
    from cdp_backfill.model.outcomes import Fix, Problem
    from cdp_backfill.pipeline.preparation import PreparedChunk, TimeLimits

SAMPLES: Final = 3
"""Number of payloads in a plan."""

IDENTITY: Final = (
    "anonymous",
    "anonymous_old",
    "email_ids",
    "internal_ids",
    "long_ids",
    "long_names",
)
"""What is counted about the ids and names of the rows to send; :class:`Plan` describes each."""

_DAY: Final = 86_400_000
_MAX_DAYS: Final = 10_000_000  # more days than the years 1 to 9999 have

_MAX_CELL_LENGTH: Final = 20  # characters of a cell in a plan
MAX_EVENT_NAMES: Final = 1_000
"""Events, and values that are no event, that a plan counts each for itself."""


_SUMS: Final = (
    "rows",
    "to_send",
    "invalid",
    "held",
    "skipped",
    "duplicates",
    "recent",
    "naive",
    "message_bytes",
    "body_bytes",
    "requests",
    "_packed",
    "_packed_bytes",
)


class PlanStatistics:
    """Counts the rows of a table by what a run would do with them.

    Args:
        packer: Packs the messages, as a run does.
        columns: Names of the columns to describe.
        limits: The times that rows are compared with.
        max_keys: Most people, and most message ids, that are counted exactly.
    """

    def __init__(
        self,
        packer: Packer,
        columns: Sequence[str],
        limits: TimeLimits,
        *,
        max_keys: int = LIMIT,
    ) -> None:
        self._packer: Packer | None = packer
        self._limits = limits
        self.identity: dict[str, int] = dict.fromkeys(IDENTITY, 0)
        self.rows = self.to_send = self.invalid = self.held = self.skipped = self.duplicates = 0
        self.recent = self.naive = self.largest = self.message_bytes = self.body_bytes = (
            self.requests
        ) = 0
        self._packed = self._packed_bytes = 0  # requests without the small first one
        self.event_keys: set[str] = set()
        self.unknown_events: dict[str, int] = {}
        self._days: dict[str, dict[int, int]] = {}  # by days since 1970
        self.problems: dict[Problem, int] = {}
        self.reasons = FailureReasons()
        self.skipped_reasons = FailureReasons()
        self._compressed: float | None = None  # bytes of a request for each byte before
        self.fixes: dict[Fix, int] = {}
        self.first: int | None = None
        self.last: int | None = None
        self.people, self.recent_people, self.ids = (DistinctCounter(max_keys) for _ in range(3))
        self.filled: dict[str, int] = dict.fromkeys(columns, 0)
        self.cells: dict[str, str] = {}
        self.samples: list[dict[str, Any]] = []

    def add(self, prepared: PreparedChunk, rows: int) -> None:
        """Count the rows of a chunk."""
        batch = prepared.messages
        bad = batch.problems.mask()
        duplicate = np.isin(batch.rows, prepared.duplicates)
        good = ~bad & ~prepared.held & ~duplicate
        self.rows += rows
        self.duplicates += len(prepared.duplicates)
        for why_not, left_out in prepared.all_skipped.items():
            self._skip(why_not, len(left_out))
        self.invalid += int(np.count_nonzero(bad))
        self.held += int(np.count_nonzero(prepared.held))
        self.recent += int(np.count_nonzero(prepared.recent))
        self.naive += batch.naive
        self.event_keys |= batch.event_keys
        for value, count in batch.unknown_events.items():
            if value in self.unknown_events or len(self.unknown_events) < MAX_EVENT_NAMES:
                self.unknown_events[value] = self.unknown_events.get(value, 0) + count
        for problem, count in batch.problems.counts():
            self.problems[problem] = self.problems.get(problem, 0) + count
        for rows_of_reason, problems in batch.problems.groups():
            self.reasons.count(
                Outcome.INVALID, problems[0].code, join_reasons(problems), len(rows_of_reason)
            )
        for fix, count in batch.problems.fixes.items():
            self.fixes[fix] = self.fixes.get(fix, 0) + count
        self.recent_people.add(batch.people(prepared.recent))
        self._describe(batch, rows)
        if good.any():
            self._add_good(batch, good)
        for encoded, _ in prepared.encoded:
            self.largest = max(self.largest, int(encoded.sizes.max()))
            self.message_bytes += int(encoded.sizes.sum())
            self.ids.add(split(encoded.ids.keys())[0])
            for number in range(min(len(encoded), SAMPLES - len(self.samples))):
                top = json.loads(b"{" + encoded.head.rstrip(b",") + b"}")
                self.samples.append(top | json.loads(encoded.message(number)))
            if self._packer is not None:
                self._count(self._packer.feed(encoded))

    def _skip(self, reason: Problem, rows: int) -> None:
        """Count rows that are left out."""
        if not rows:
            return
        self.skipped += rows
        self.skipped_reasons.count(Outcome.SKIPPED, reason.code, reason.reason, rows)
        if reason.code == UNMAPPED:
            self.problems[reason] = self.problems.get(reason, 0) + rows

    def _describe(self, batch: MessageBatch, rows: int) -> None:
        """Count filled cells, and keep one cell of each column for the plan, of nobody excluded."""
        shown = np.ones(rows, dtype=bool)
        for reason, where in batch.skipped.items():
            if reason.code == EXCLUDED:
                shown[where] = False
        shown = pa.array(shown)
        for name in self.filled:
            array = batch.raw(name)
            filled = len(array) - array.null_count
            self.filled[name] += filled
            if filled and name not in self.cells and (cell := sample(array.filter(shown))):
                self.cells[name] = cell

    def _add_good(self, batch: MessageBatch, good: npt.NDArray[np.bool_]) -> None:
        self.to_send += int(np.count_nonzero(good))
        self.people.add(batch.people(good))
        millis = batch.millis[good]
        self._add_identity(batch, good, millis)
        if batch.event_names is not None:
            self._add_events(batch.event_names.filter(pa.array(good)), millis)

    def _add_events(self, event_names: Any, millis: Millis) -> None:
        """Count rows by event and day."""
        first, last = int(millis.min()), int(millis.max())
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)
        names = event_names.dictionary_encode()
        codes = names.indices.to_numpy()
        first_day = int(millis.min()) // _DAY
        event_days = codes.astype(np.int64) * _MAX_DAYS + (millis // _DAY - first_day)
        keys, counts = np.unique(event_days, return_counts=True)
        events = names.dictionary.to_pylist()
        for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
            number, day = divmod(key, _MAX_DAYS)
            name = events[number]
            if name not in self._days and len(self._days) >= MAX_EVENT_NAMES:
                name = OTHER_EVENTS
            days = self._days.setdefault(name, {})
            days[day + first_day] = days.get(day + first_day, 0) + count

    def _add_identity(self, batch: MessageBatch, good: npt.NDArray[np.bool_], millis: Any) -> None:
        """Count rows whose ids or names can lead to something that nobody wants."""
        selection = pa.array(good)
        chosen = {
            name: batch.fields[name].filter(selection)
            for name in ("userId", "anonymousId", "event")
            if name in batch.fields
        }
        user, anonymous = chosen.get("userId"), chosen.get("anonymousId")
        masks: dict[str, Any] = {}
        if anonymous is not None:
            masks["anonymous"] = anonymous.is_valid()
            if user is not None:
                masks["anonymous"] = pc.and_(masks["anonymous"], user.is_null())
            old = pa.array(millis < self._limits.anonymous)
            masks["anonymous_old"] = pc.and_(masks["anonymous"], old)
        if user is not None:
            masks["email_ids"] = pc.match_substring(user, "@")
            masks["internal_ids"] = pc.starts_with(user, "cio_")
        long_ids = [_longer(ids, api_facts.PERSON_ID_BYTES) for ids in (user, anonymous)]
        masks["long_ids"] = functools.reduce(pc.or_, [m for m in long_ids if m is not None])
        if "event" in chosen:
            masks["long_names"] = _longer(chosen["event"], api_facts.EVENT_NAME_BYTES)
        for name, mask in masks.items():
            self.identity[name] += pc.sum(mask).as_py() or 0

    def _count(self, requests: Iterator[Request]) -> None:
        for request in requests:
            self.requests += 1
            self.body_bytes += request.size
            if not request.is_first:
                self._packed += 1
                self._packed_bytes += request.size
                if self._compressed is None:  # one is enough: rows of a table are alike
                    self._compressed = len(compress(request.body())) / request.size

    def finish(self) -> None:
        """Count the requests that are not full yet, and take no more rows."""
        if self._packer is not None:
            self._count(self._packer.flush())
            self._packer = None

    def merge(self, later: PlanStatistics) -> None:
        """Add what was counted of later rows of the table; both are finished.

        The result is that of both parts read at once, but for the requests: each part fills its
        own.
        """
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(later, name))
        self.largest = max(self.largest, later.largest)
        self.event_keys |= later.event_keys
        for value, rows in later.unknown_events.items():
            if value in self.unknown_events or len(self.unknown_events) < MAX_EVENT_NAMES:
                self.unknown_events[value] = self.unknown_events.get(value, 0) + rows
        _add_up(self.identity, later.identity)
        _add_up(self.problems, later.problems)
        _add_up(self.fixes, later.fixes)
        _add_up(self.filled, later.filled)
        for event, days in later._days.items():  # of this class
            is_known = event in self._days or len(self._days) < MAX_EVENT_NAMES
            _add_up(self._days.setdefault(event if is_known else OTHER_EVENTS, {}), days)
        self.reasons.merge(later.reasons)
        self.skipped_reasons.merge(later.skipped_reasons)
        self.people.merge(later.people)
        self.recent_people.merge(later.recent_people)
        self.ids.merge(later.ids)
        times = [each for each in (self.first, later.first) if each is not None]
        self.first = min(times, default=None)
        times = [each for each in (self.last, later.last) if each is not None]
        self.last = max(times, default=None)
        if self._compressed is None:
            self._compressed = later._compressed
        self.cells = later.cells | self.cells
        self.samples = (self.samples + later.samples)[:SAMPLES]

    @property
    def days(self) -> dict[str, dict[str, int]]:
        """Rows to send by event and day."""
        return {
            event: {str(np.datetime64(day, "D")): rows for day, rows in sorted(days.items())}
            for event, days in self._days.items()
        }

    @property
    def events(self) -> dict[str, int]:
        """Rows to send by event."""
        return {event: sum(days.values()) for event, days in self._days.items()}

    @property
    def wire_bytes(self) -> int:
        """Estimated bytes of all requests, compressed as the first full one is."""
        return round((self._compressed or 1.0) * self.body_bytes)

    @property
    def fill(self) -> float:
        """Mean size of the requests as a share of the byte limit, 0.0 to 1.0."""
        return (
            self._packed_bytes / (self._packed * api_facts.MAX_REQUEST_BYTES)
            if self._packed
            else 0.0
        )


def _add_up(counts: dict[Any, int], more: dict[Any, int]) -> None:
    for key, number in more.items():
        counts[key] = counts.get(key, 0) + number


def _longer(texts: Any | None, limit: int) -> Any | None:
    """True for each text of more bytes than the limit; null texts are not longer."""
    return None if texts is None else pc.greater(pc.binary_length(texts), limit).fill_null(False)


def sample(array: Any) -> str:
    """The first filled cell of a column as short text; empty text where no cell is filled."""
    first = pc.index(array.is_valid(), value=True).as_py()
    if first < 0:
        return ""
    cell = decode(array.slice(first, 1))
    try:
        return shorten((cell.storage if is_json(cell.type) else cell)[0].as_py())
    except (ValueError, OverflowError, pa.ArrowException):  # Python has no such value
        return "?"


def shorten(cell: Any) -> str:
    """A cell as text, cut where it is long."""
    text = " ".join(str(cell).split())
    return text if len(text) <= _MAX_CELL_LENGTH else text[: _MAX_CELL_LENGTH - 1] + "…"

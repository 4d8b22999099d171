"""What became of the rows of one part, small enough to travel with any engine.

A part is a share of a table that one worker sends. Its failures travel as rows; this is the rest.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
import numpy as np
import pyarrow as pa

from cdp_backfill.errors import BadInputError
from cdp_backfill.model.outcomes import OUTCOMES, Fix, Outcome, Problem
from cdp_backfill.results.histogram import EventCounts
from cdp_backfill.results.reasons import OTHER_REASONS, FailureReason
from cdp_backfill.results.run_stats import RunStats

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_BYTES: Final = 32 * 1024
"""Most bytes of an encoded summary: ten thousand of them must fit into the memory of a driver."""

INTERRUPTED: Final = "The run was interrupted before the turn of this part."
"""Error of a part that did not begin, because someone stopped the run."""

_MARK: Final = b"cdp-backfill part 1\n"
_LEVEL: Final = 12  # of zstd
_LONGEST: Final = 300  # characters of a reason, where a summary would be too large
_MAX_WIDTH: Final = 4**9  # days: all events in one bin
_NUMBER: Final = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSummary:
    """What became of the rows of a part, without the rows themselves.

    Attributes:
        part: Name of the part; parts are ordered by it.
        attempt: Number of the attempt, from ``"0"``; or another text if nobody counts them.
        counts: Rows by outcome.
        stats: The figures of the run.
        fixes: Cells that were changed on the way, by what was done.
        naive: Times without a time zone.
        event_keys: Keys of the mapping's ``events`` that occurred.
        reasons: Why rows were not delivered.
        skipped: Why rows were skipped on purpose.
        events: Rows by event, time and outcome; wider bins where there are many.
        run: Name of the run of this part, as in its failures.
        interrupted: Whether it was interrupted.
        error: Class and text of the error that stopped it, or None.
    """

    part: str
    attempt: str
    counts: dict[str, int]
    stats: RunStats
    fixes: dict[Fix, int] = field(default_factory=dict)
    naive: int = 0
    event_keys: tuple[str, ...] = ()
    reasons: tuple[FailureReason, ...] = ()
    skipped: tuple[FailureReason, ...] = ()
    events: EventCounts = field(default_factory=EventCounts)
    run: str = ""
    interrupted: bool = False
    error: tuple[str, str] | None = None

    @property
    def rows(self) -> int:
        """Rows of the part."""
        return sum(self.counts.values())

    @property
    def sendable(self) -> int:
        """Rows that an attempt may have sent."""
        kept = (Outcome.INVALID, Outcome.HELD, Outcome.SKIPPED)
        return self.rows - sum(self.counts[each] for each in kept) - self.stats.delivered_before

    @property
    def may_repeat(self) -> bool:
        """Whether an earlier attempt of the part may have sent rows."""
        return earlier_attempts(self.attempt) != 0

    def to_bytes(self) -> bytes:
        """The summary as at most 32 KB. Where it would be larger, details become coarser."""
        encoded = _encoded(self)
        for coarser in _coarser(self):
            if len(encoded) <= MAX_BYTES:
                break
            encoded = _encoded(coarser)
        return encoded

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what :meth:`to_bytes` wrote.

        Raises:
            BadInputError: It is something else, or another version wrote it.
        """
        data = bytes(data)
        start = len(_MARK) + 8
        if not data.startswith(_MARK):
            raise BadInputError(
                "These bytes are no summary of a part, or another version of cdp-backfill wrote "
                "them. The driver and all workers need the same version."
            )
        size = int.from_bytes(data[len(_MARK) : start], "big")
        plain = msgspec.msgpack.decode(
            pa.Codec("zstd").decompress(data[start:], size, asbytes=True)
        )
        plain |= {
            "stats": RunStats(**plain["stats"]),
            "fixes": {Fix(code, column): cells for code, column, cells in plain["fixes"]},
            "reasons": tuple(map(_reason, plain["reasons"])),
            "skipped": tuple(map(_reason, plain["skipped"])),
            "events": _events(plain["events"]),
            "error": plain["error"] and tuple(plain["error"]),
        }
        plain["event_keys"] = tuple(plain["event_keys"])
        return cls(**plain)


def earlier_attempts(attempt: str) -> int:
    """Attempts of a part before this one: 0, 1, or 2 for more. One if nobody counts them.

    >>> [earlier_attempts(each) for each in ("0", "1", "7", "f3a9")]
    [0, 1, 2, 1]
    """
    return min(2, int(attempt)) if _NUMBER.fullmatch(attempt) else 1


def _coarser(summary: PartSummary) -> Iterator[PartSummary]:
    """The same with less and less detail; counts and figures stay."""
    width = summary.events.width
    while width < _MAX_WIDTH:
        width *= 4
        events = EventCounts(summary.events.with_width(width), width)
        summary = replace(summary, events=events)
        yield summary
    for length in (_LONGEST, 0):
        summary = replace(
            summary,
            reasons=_shorter(summary.reasons, length),
            skipped=_shorter(summary.skipped, length),
            error=summary.error and (summary.error[0], summary.error[1][: 4 * _LONGEST]),
        )
        yield summary
    yield replace(summary, events=EventCounts(), fixes={}, event_keys=())


def _encoded(summary: PartSummary) -> bytes:
    plain = {each.name: getattr(summary, each.name) for each in fields(summary)}
    plain |= {
        "stats": asdict(summary.stats),
        "fixes": [(fix.code, fix.column, cells) for fix, cells in summary.fixes.items()],
        "reasons": [asdict(each) for each in summary.reasons],
        "skipped": [asdict(each) for each in summary.skipped],
        "events": _plain_events(summary.events),
    }
    body = msgspec.msgpack.encode(plain)
    packed = pa.Codec("zstd", compression_level=_LEVEL).compress(body, asbytes=True)
    return _MARK + len(body).to_bytes(8, "big") + bytes(packed)


def _shorter(reasons: Iterable[FailureReason], length: int) -> tuple[FailureReason, ...]:
    if length:
        return tuple(replace(each, reason=each.reason[:length]) for each in reasons)
    return tuple(
        replace(each, reason=OTHER_REASONS, problems=(), example=(None, None)) for each in reasons
    )


def _reason(plain: dict[str, Any]) -> FailureReason:
    problems = tuple(Problem(**each) for each in plain["problems"])
    source, row = plain["example"]
    return FailureReason(**plain | {"problems": problems, "example": (source, row)})


def _plain_events(events: EventCounts) -> dict[str, Any]:
    """The counts as columns, which compress well: most bins have rows of one outcome only."""
    names = list(dict.fromkeys(event for event, _ in events.bins))
    lines = sorted((names.index(event), day, key) for key in events.bins for event, day in [key])
    table = np.array([events.bins[key] for _, _, key in lines], dtype=np.int64)
    table = table.reshape(len(lines), len(OUTCOMES))
    rows, outcomes = np.nonzero(table)
    return {
        "width": events.width,
        "names": names,
        "events": [number for number, _, _ in lines],
        "days": np.diff([day for _, day, _ in lines], prepend=0).tolist(),
        "rows": np.diff(rows, prepend=0).tolist(),
        "outcomes": outcomes.tolist(),
        "counts": table[rows, outcomes].tolist(),
    }


def _events(plain: dict[str, Any]) -> EventCounts:
    days = np.cumsum(np.array(plain["days"], dtype=np.int64))
    table = np.zeros((len(days), len(OUTCOMES)), dtype=np.int64)
    rows = np.cumsum(np.array(plain["rows"], dtype=np.int64))
    table[rows, np.array(plain["outcomes"], dtype=np.int64)] = plain["counts"]
    keys = [
        (plain["names"][number], day)
        for number, day in zip(plain["events"], days.tolist(), strict=True)
    ]
    return EventCounts(dict(zip(keys, table, strict=True)), plain["width"])

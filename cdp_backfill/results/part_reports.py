"""Makes one report of many parts, which were sent at the same time by workers of an engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from cdp_backfill import errors
from cdp_backfill.model.outcomes import OUTCOMES
from cdp_backfill.model.plurals import count
from cdp_backfill.results.histogram import EventCounts
from cdp_backfill.results.joined_tables import with_schema
from cdp_backfill.results.lineage import ORIGIN_COLUMNS
from cdp_backfill.results.merging import merged_fixes, merged_notes
from cdp_backfill.results.part_summary import INTERRUPTED
from cdp_backfill.results.reasons import FailureReason, FailureReasons
from cdp_backfill.results.reports import Report
from cdp_backfill.results.run_stats import RunStats
from cdp_backfill.results.tracker import as_frame, failure_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from cdp_backfill.model.arrays import Mask
    from cdp_backfill.model.mapping import Mapping
    from cdp_backfill.model.outcomes import Fix
    from cdp_backfill.results.failure_log import Filter
    from cdp_backfill.results.part_summary import PartSummary
    from cdp_backfill.results.reports import SendAgain

    LoadFailures = Callable[[], Iterable[Any]]
    """Gives the failures as Arrow tables, again and again."""

MAX_FAILURES: Final = 1_000_000
"""Most failures of an engine that become a frame of pandas on the driver."""


_WHOLE_PARTS: Final = (
    "Without a journal, whole parts may have gone twice: all of their rows are counted as such."
)

_UNCOUNTED: Final = (
    "Without a journal, nobody knows which parts the engine ran more than once: any part may have "
    "gone twice as a whole, and all rows that were sent are counted as such."
)


class PartFailures:
    """The failures of all parts: what they have in common is in their summaries.

    Args:
        parts: The summaries.
        schema: Arrow schema of the table.
        load: Gives the failures; None if they are not at hand.
        frame: How to get at them where they lie, in words.
        are_here: Whether they are on this machine already, however many there are.
    """

    def __init__(
        self,
        parts: Sequence[PartSummary],
        schema: Any,
        load: LoadFailures | None,
        frame: str = "the frame of the engine",
        *,
        are_here: bool = True,
    ) -> None:
        self._parts, self._schema, self._load, self._frame = parts, schema, load, frame
        self._are_here = are_here
        self.runs = frozenset(part.run for part in parts)
        # Parts keep no origins of rows that they sent again, so no sum may rely on them.
        self.resent_runs: frozenset[str] = frozenset()

    def reasons(self) -> list[FailureReason]:
        """Why rows were not delivered, most rows first."""
        return _merged_reasons(part.reasons for part in self._parts)

    def skipped(self) -> list[FailureReason]:
        """Why rows were skipped on purpose, most rows first."""
        return _merged_reasons(part.skipped for part in self._parts)

    def event_counts(self) -> EventCounts:
        """Rows by event, time and outcome."""
        bins: dict[tuple[str, int], Any] = {}
        for part in self._parts:
            for key, counts in part.events.bins.items():
                bins[key] = bins[key] + counts if key in bins else counts
        return EventCounts(bins, max((part.events.width for part in self._parts), default=1))

    def failures(self, keep: Filter | None = None) -> pd.DataFrame:
        """The failures, as a frame of pandas."""
        return as_frame(pa.concat_tables(self.failure_tables(keep)))

    def failure_tables(self, keep: Filter | None = None) -> Iterator[Any]:
        """The failures a part at a time, as Arrow tables of one schema; at least one table."""
        rows = sum(item.rows for item in self.reasons())
        if self._load is None:
            raise errors.BadInputError(
                f"The failures are with the engine: see {self._frame}. report.by_reason() shows "
                "what to do about each reason."
            )
        if rows > MAX_FAILURES and not self._are_here:
            raise errors.BadInputError(
                f"{rows:,} failures are more than {MAX_FAILURES:,}, too many for one frame of "
                f"pandas on this machine. Use {self._frame}."
            )
        schema = failure_schema(self._schema)
        yield schema.empty_table()
        for table in self._load():
            typed = with_schema(table, schema)
            yield typed if keep is None else typed.filter(pa.array(keep(typed)))

    def failure_origins(self) -> Iterator[Any]:
        """Origin, outcome, code and reason of the failures, as Arrow tables.

        Event and day are not known here, nor how often the server may have accepted a row.
        """
        for table in self.failure_tables():
            columns = table.select([*ORIGIN_COLUMNS, "cdp_outcome", "cdp_code", "cdp_reason"])
            rows = len(columns)
            columns = columns.append_column("event", pa.nulls(rows, pa.string()))
            columns = columns.append_column("day", pa.nulls(rows, pa.int64()))
            yield columns.append_column("taken", pa.array(np.zeros(rows, np.uint8)))

    def is_resent(self, table: Any) -> Mask:
        """Which rows of a table these parts are known to have sent again: none."""
        return np.zeros(len(table), dtype=bool)

    def resent_origins(self) -> Iterator[Any]:
        """Nothing: parts do not keep the origin of each row that they sent again."""
        return iter(())

    def label_and_type(self, column: str) -> tuple[Any, Any] | None:
        """Name of a column, and its Arrow type; None if it does not exist."""
        if column not in self._schema.names:
            return None
        return column, self._schema.field(column).type

    def dropped(self) -> pd.DataFrame:
        """Nothing: parts count what was left out of messages among their fixes."""
        return pd.DataFrame(columns=["cdp_source", "cdp_row", "cdp_dropped"])


@dataclass(frozen=True, slots=True, kw_only=True)
class PartsRun:
    """What the driver knows about a run of parts.

    Attributes:
        schema: Arrow schema of the table.
        url: The address that the rows were sent to.
        mapping: The mapping.
        slots: Number of parts that ran at a time.
        seconds: Seconds from begin to end; None for those of the slowest part.
        uncounted: Attempts may have been made that no summary names, so that any row may have
            arrived twice.
        load: Gives the failures as Arrow tables; None if they are not at hand.
        frame: The failures as a frame of the engine, or None.
        frame_name: How to get at that frame, in words.
        left_out: What was left out on request, as JSON.
        journal: The journal, or None.
        has_journal: Whether a journal kept parts from going twice.
        interrupted: Whether the driver was interrupted.
        send_again: See :class:`Report`.
    """

    schema: Any
    url: str
    mapping: Mapping | None = None
    slots: int = 1
    seconds: float | None = None
    uncounted: bool = False
    load: LoadFailures | None = None
    frame: Any = None
    frame_name: str = "the frame of the engine"
    left_out: str | None = None
    journal: Path | str | None = None
    has_journal: bool = False
    interrupted: bool = False
    send_again: SendAgain | None = None


def report_of_parts(
    parts: Iterable[PartSummary], run: PartsRun, *, notes: Sequence[str] = ()
) -> Report:
    """One report of parts that were sent at the same time.

    Counts and figures add up. If a part comes twice, its last attempt counts, and all of its rows
    may have arrived twice.

    Args:
        parts: The summaries.
        run: What the driver knows.
        notes: Notes to begin with.
    """
    last: dict[str, PartSummary] = {}
    repeated: set[str] = set()
    for part in parts:
        if part.part in last:
            repeated.add(part.part)
        last[part.part] = part
    ordered = [last[name] for name in sorted(last)]
    counts = dict.fromkeys(map(str, OUTCOMES), 0)
    fixes: dict[Fix, int] = {}
    more = 0
    for part in ordered:
        fixes = merged_fixes(fixes, part.fixes)
        for name, rows in part.counts.items():
            counts[name] += rows
        if run.uncounted or part.part in repeated:
            more += max(0, part.sendable - part.stats.maybe_twice)
    stats = _added_up(ordered, run)
    again = [part for part in ordered if part.may_repeat or part.part in repeated]
    return Report(
        counts=counts,
        stats=replace(stats, maybe_twice=stats.maybe_twice + more),
        timeline=(),
        journal=run.journal,
        canary=None,
        interrupted=run.interrupted or any(map(_was_interrupted, ordered)),
        fixes=fixes,
        notes=merged_notes(notes, _doubts(len(again), run)),
        url=run.url,
        distributed_failures=run.frame,
        _mapping=run.mapping,
        _left_out=run.left_out,
        _failure_log=PartFailures(
            ordered, run.schema, run.load, run.frame_name, are_here=run.frame is None
        ),
        _send_again=run.send_again,
    )


def error_of_parts(parts: Sequence[PartSummary], report: Report) -> errors.StoppedError | None:
    """The error that parts ended with, with the report; None if none did, or on an interrupt."""
    stopped = [part for part in parts if part.error and part.error[1] != INTERRUPTED]
    if not stopped:
        return None
    names = [part.error[0] for part in stopped if part.error]
    name, text = next(part.error for part in stopped if part.error)
    kind = getattr(errors, name, errors.StoppedError)
    if not (isinstance(kind, type) and issubclass(kind, errors.StoppedError)):
        kind = errors.StoppedError
    suffix = f" ({count(len(names), 'part')} of {len(parts):,} stopped.)" if len(parts) > 1 else ""
    error: errors.StoppedError = kind(f"{text}{suffix}")
    error.report = report
    return error


def _was_interrupted(part: PartSummary) -> bool:
    return part.interrupted or (part.error is not None and part.error[1] == INTERRUPTED)


def _doubts(again: int, run: PartsRun) -> list[str]:
    """What to know about parts that may have been sent more than once."""
    if run.has_journal:
        return []
    if run.uncounted:
        return [_UNCOUNTED]
    if not again:
        return []
    return [f"The engine ran {count(again, 'part')} more than once. {_WHOLE_PARTS}"]


def _added_up(parts: Sequence[PartSummary], run: PartsRun) -> RunStats:
    """The figures of parts that ran at the same time."""
    stats = sum((part.stats for part in parts), RunStats())
    most = sorted((part.stats.max_in_flight for part in parts), reverse=True)
    slowest = max((part.stats.seconds for part in parts), default=0.0)
    return replace(
        stats,
        max_in_flight=sum(most[: max(1, run.slots)]),
        seconds=slowest if run.seconds is None else run.seconds,
    )


def _merged_reasons(groups: Iterable[Sequence[FailureReason]]) -> list[FailureReason]:
    merged = FailureReasons()
    for reasons in groups:
        merged.merge(reasons)
    return list(merged)

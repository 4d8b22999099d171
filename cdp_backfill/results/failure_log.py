"""The rows that were not delivered: of one run, or of several runs together."""

from __future__ import annotations

from json import dumps
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cdp_backfill.errors import BadInputError
from cdp_backfill.model.arrow_types import is_json
from cdp_backfill.model.outcomes import JSON_ATTRIBUTE, OUTCOMES, Outcome
from cdp_backfill.results.histogram import EventCounts
from cdp_backfill.results.joined_tables import common_schema, with_schema
from cdp_backfill.results.reasons import FailureReason, FailureReasons

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cdp_backfill.model.arrays import Mask

    Filter = Callable[[Any], Mask]
    """Gives a mask of the rows of a table to keep."""


_FARTHEST: Final = 2**63 // 1000
"""Seconds from 1970 that fit into 64 bits as milliseconds."""


class FailureLog(Protocol):
    """The failures of one or several runs: the rows that were not delivered or skipped.

    A row is identified by its origin: the run, file and row number where it was read first. A
    row that is sent again keeps its origin.
    """

    @property
    def runs(self) -> frozenset[str]:
        """Names of the runs."""
        ...

    @property
    def resent_runs(self) -> frozenset[str]:
        """Names of the earlier runs whose failures these runs sent again."""
        ...

    def reasons(self) -> list[FailureReason]:
        """Why rows were not delivered, most rows first."""
        ...

    def skipped(self) -> list[FailureReason]:
        """Why rows were skipped on purpose, most rows first."""
        ...

    def failures(self, keep: Filter | None = None) -> pd.DataFrame:
        """The failures: the columns of the source, and ``cdp_...``.

        All rows at once: the frame can be as large as the input.

        Args:
            keep: Chooses rows by the origin columns of a table; None keeps all.
        """
        ...

    def failure_tables(self, keep: Filter | None = None) -> Iterator[Any]:
        """The failures a part at a time, as Arrow tables of one schema; at least one table."""
        ...

    def failure_origins(self) -> Iterator[Any]:
        """Origin, outcome, code, reason, event and day of the failures, as Arrow tables.

        The column ``taken`` says how often the server may have accepted a row; 2 for more.
        """
        ...

    def event_counts(self) -> EventCounts:
        """Rows by event, time and outcome."""
        ...

    def is_resent(self, table: Any) -> Mask:
        """Which rows of a table with the origin columns these runs sent again."""
        ...

    def resent_origins(self) -> Iterator[Any]:
        """The origins of all rows that these runs sent again, as Arrow tables."""
        ...

    def label_and_type(self, column: str) -> tuple[Any, Any] | None:
        """Label of a column in the failures, and its Arrow type; None if it does not exist."""
        ...

    def dropped(self) -> pd.DataFrame:
        """Which columns were left out of which rows because their messages were too large."""
        ...


class CombinedFailures:
    """The failures of two runs: rows that the second sent again are no failures of the first.

    Args:
        first: Failures of the earlier run.
        second: Failures of the later run.

    Raises:
        BadInputError: Both contain the same run.
    """

    def __init__(self, first: FailureLog, second: FailureLog) -> None:
        if first.runs & second.runs:
            raise BadInputError(
                "Both reports contain the same run, so its rows would count twice. Add each "
                "report once."
            )
        self._first, self._second = first, second
        self.runs = first.runs | second.runs
        self.resent_runs = first.resent_runs | second.resent_runs
        self.linked = bool(second.resent_runs & (first.runs | first.resent_runs))
        """Whether the second run may have sent rows of the first again."""
        self.resent_counts = dict.fromkeys(map(str, OUTCOMES), 0)
        """Rows that the second run sent again, by their outcome in the first run."""
        self.resent_twice = 0
        """Rows among them that the server may have accepted twice in the first run alone."""
        self._resent_events = EventCounts()  # the same by event and day, as negative numbers
        self._reasons = FailureReasons()
        if self.linked:
            self._count_resent()
        else:
            self._reasons.merge(first.reasons())
        self._reasons.merge(second.reasons())

    def _count_resent(self) -> None:
        """Count what the second run sent again, and what remains of the first."""
        for table in self._second.resent_origins():
            # A row of the first run that is no failure was delivered: it was sent a second time.
            self.resent_counts[Outcome.DELIVERED] += int(np.count_nonzero(self._in_first(table)))
        reasons = {(item.outcome, item.code, item.reason): item for item in self._first.reasons()}
        for table in self._first.failure_origins():
            is_resent = self._second.is_resent(table)
            resent = table.filter(pa.array(is_resent))
            for item in resent.column("cdp_outcome").value_counts():
                self.resent_counts[item["values"].as_py()] += item["counts"].as_py()
                self.resent_counts[Outcome.DELIVERED] -= item["counts"].as_py()
            twice = pc.sum(pc.greater_equal(resent.column("taken"), 2)).as_py()
            self.resent_twice += twice or 0
            self._subtract_events(resent)
            self._count_reasons(table.filter(pa.array(~is_resent)), reasons)

    def _in_first(self, table: Any) -> Mask:
        """Which rows of a table are rows of the first run."""
        own = pc.is_in(table.column("cdp_run"), value_set=pa.array(self._first.runs))
        return np.asarray(own.to_numpy()) | self._first.is_resent(table)

    def _subtract_events(self, resent: Any) -> None:
        keys = ["event", "day", "cdp_outcome"]
        groups = resent.filter(resent.column("event").is_valid()).group_by(keys)
        for row in groups.aggregate([("cdp_row", "count")]).to_pylist():
            counts = np.zeros(len(OUTCOMES), dtype=np.int64)
            counts[Outcome(row["cdp_outcome"]).code] = -row["cdp_row_count"]
            self._resent_events += EventCounts({(row["event"], row["day"]): counts})

    def _count_reasons(
        self, remaining: Any, reasons: dict[tuple[str, str, str], FailureReason]
    ) -> None:
        """Count the reasons of failures of the first run that the second did not send again.

        Args:
            remaining: Origins and reasons of the failures.
            reasons: The reasons of the first run by outcome, code and words.
        """
        keys = ["cdp_outcome", "cdp_code", "cdp_reason"]
        values = [("cdp_row", "count"), ("cdp_source", "first"), ("cdp_row", "first")]
        groups = remaining.group_by(keys, use_threads=False).aggregate(values)
        for row in groups.to_pylist():
            outcome, code, reason = (row[name] for name in keys)
            known = reasons.get((outcome, code, reason))
            self._reasons.count(
                outcome,
                code,
                reason,
                row["cdp_row_count"],
                problems=known.problems if known else (),
                example=(row["cdp_source_first"], row["cdp_row_first"]),
            )

    def reasons(self) -> list[FailureReason]:
        """Why rows were not delivered, most rows first."""
        return list(self._reasons)

    def skipped(self) -> list[FailureReason]:
        """Why rows were skipped on purpose, most rows first; none of them was sent again."""
        both = FailureReasons()
        both.merge([*self._first.skipped(), *self._second.skipped()])
        return list(both)

    def event_counts(self) -> EventCounts:
        """Rows by event, time and outcome."""
        return self._first.event_counts() + self._resent_events + self._second.event_counts()

    def failures(self, keep: Filter | None = None) -> pd.DataFrame:
        """The failures, ordered by the origin of the rows."""
        first = self._first.failures(self._remaining(keep))
        second = self._second.failures(keep)
        if not len(first) or not len(second):
            return first if len(first) else second
        frame = pd.concat([first, second])
        run, source = (pd.factorize(frame[name])[0] for name in ("cdp_run", "cdp_source"))
        order = np.lexsort((frame["cdp_row"].to_numpy(np.int64), source, run))
        return frame.iloc[order]

    def failure_tables(self, keep: Filter | None = None) -> Iterator[Any]:
        """The failures a part at a time, as Arrow tables of one schema; in no fixed order."""
        schema = common_schema(lambda: self._tables(keep))
        for table in self._tables(keep):
            yield with_schema(table, schema)

    def _tables(self, keep: Filter | None) -> Iterator[Any]:
        yield from self._first.failure_tables(self._remaining(keep))
        yield from self._second.failure_tables(keep)

    def _not_resent(self, table: Any) -> Mask:
        return ~self._second.is_resent(table)

    def _remaining(self, keep: Filter | None) -> Filter | None:
        """A filter for failures of the first run that the second did not send again."""
        if not self.linked:
            return keep
        if keep is None:
            return self._not_resent
        return lambda table: keep(table) & self._not_resent(table)

    def failure_origins(self) -> Iterator[Any]:
        """Origin, outcome, code, reason, event and day of the failures, as Arrow tables."""
        for table in self._first.failure_origins():
            yield table.filter(pa.array(self._not_resent(table))) if self.linked else table
        yield from self._second.failure_origins()

    def is_resent(self, table: Any) -> Mask:
        """Which rows of a table with the origin columns one of the runs sent again."""
        return self._first.is_resent(table) | self._second.is_resent(table)

    def resent_origins(self) -> Iterator[Any]:
        """The origins of all rows that one of the runs sent again, each once."""
        yield from self._first.resent_origins()
        for table in self._second.resent_origins():
            yield table.filter(pa.array(~self._first.is_resent(table)))

    def label_and_type(self, column: str) -> tuple[Any, Any] | None:
        """Label of a column in the failures, and its Arrow type; None if it does not exist."""
        return self._second.label_and_type(column) or self._first.label_and_type(column)

    def dropped(self) -> pd.DataFrame:
        """Which columns were left out of which rows, each once."""
        frames = [frame for log in (self._first, self._second) if len(frame := log.dropped())]
        if not frames:
            return self._first.dropped()
        return pd.concat(frames).drop_duplicates(ignore_index=True)


def write_parquet(log: FailureLog, path: Path, attributes: dict[str, Any]) -> None:
    """Write failures to a parquet file, a part at a time.

    Without failures, the file has the columns and no rows.

    Args:
        log: The failures.
        path: The file.
        attributes: What ``DataFrame.attrs`` holds when pandas reads the file, so that the frame can
            be sent as the failures in memory can.
    """
    writer = None
    try:
        for whole in log.failure_tables():
            table = _storable(whole)
            if writer is None:
                json = [field.name for field in table.schema if is_json(field.type)]
                attrs = dumps(attributes | {JSON_ATTRIBUTE: json})
                metadata = (table.schema.metadata or {}) | {"PANDAS_ATTRS": attrs}
                writer = pq.ParquetWriter(path, table.schema.with_metadata(metadata))
            writer.write_table(table.cast(writer.schema))
    finally:
        if writer is not None:
            writer.close()


def _storable(table: Any) -> Any:
    """The same as parquet can hold it.

    Columns of types that it does not have, such as empty structs, become text. It stores seconds as
    milliseconds; times too far for that, which are in no calendar, are left out.
    """
    for number, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type) and field.type.unit == "s":
            seconds = table.column(number).cast(pa.int64())
            fits = pc.less(pc.abs_checked(seconds), _FARTHEST)
            near = pc.if_else(fits, table.column(number), None)
            table = table.set_column(number, field.name, near)
        try:
            pq.write_table(pa.schema([field]).empty_table(), pa.BufferOutputStream())
        except pa.ArrowException:
            cells = [
                None if cell is None else str(cell) for cell in table.column(number).to_pylist()
            ]
            table = table.set_column(number, field.name, pa.array(cells, pa.string()))
    return table

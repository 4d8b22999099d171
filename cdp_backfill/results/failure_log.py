"""What a report draws on: the rows that did not arrive, of one run or of several together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cdp_backfill.errors import BadInputError
from cdp_backfill.model.outcomes import OUTCOMES, Outcome
from cdp_backfill.results.histogram import EventCounts
from cdp_backfill.results.reasons import FailureReason, FailureReasons

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    Mask = npt.NDArray[np.bool_]
    Filter = Callable[[Any], Mask]
    """Gives a mask of the rows of a table to keep."""


class FailureLog(Protocol):
    """The rows that did not arrive; see :class:`cdp_backfill.results.tracker.OutcomeTracker`."""

    @property
    def runs(self) -> frozenset[str]:
        """The runs that it is of."""
        ...

    @property
    def of(self) -> frozenset[str]:
        """The earlier runs whose rows these sent again."""
        ...

    def reasons(self) -> list[FailureReason]:
        """Why they did not, most rows first."""
        ...

    def failures(self, keep: Filter | None = None) -> pd.DataFrame:
        """All of them, or those that ``keep`` chooses by their places."""
        ...

    def parts(self, keep: Filter | None = None) -> Iterator[Any]:
        """The same a part at a time, as Arrow tables."""
        ...

    def places(self) -> Iterator[Any]:
        """Of the same rows only where they were first, why they did not arrive, event and day."""
        ...

    def counted(self) -> EventCounts:
        """Rows by event, time and outcome."""
        ...

    def met(self, table: Any) -> Mask:
        """Which rows of such a table were sent again."""
        ...

    def again(self) -> Iterator[Any]:
        """Where all rows that were sent again were first."""
        ...

    def cells(self, column: str) -> tuple[Any, Any] | None:
        """What a column is called in the failures, and its Arrow type; None if there is none."""
        ...

    def dropped(self) -> pd.DataFrame:
        """Which column was left out of which row."""
        ...


class CombinedFailures:
    """Two accounts as one: what the second sent again no longer counts in the first.

    Args:
        first: The account of the earlier run.
        second: The account of the later one.

    Raises:
        BadInputError: The same run is in both.
    """

    def __init__(self, first: FailureLog, second: FailureLog) -> None:
        if first.runs & second.runs:
            raise BadInputError("The same run is in both reports: its rows would count twice.")
        self._first, self._second = first, second
        self.runs, self.of = first.runs | second.runs, first.of | second.of
        self.linked = linked = bool(second.of & (first.runs | first.of))
        """Whether the second may have sent rows of the first again."""
        self._keep = (lambda table: ~second.met(table)) if linked else None
        self.moved = dict.fromkeys(map(str, OUTCOMES), 0)
        """Rows of the first that the second sent again, by their first outcome."""
        self._gone = EventCounts()
        self._reasons = FailureReasons()
        if linked:
            self._look()
        else:
            self._reasons.merge(first.reasons())
        self._reasons.merge(second.reasons())

    def _look(self) -> None:
        """Count what the second sent again, and what of the first is left."""
        for table in self._second.again():
            # What is no failure of the first any more was delivered before, and now again.
            self.moved[Outcome.DELIVERED] += int(np.count_nonzero(self._mine(table)))
        known = {(item.outcome, item.code, item.reason): item for item in self._first.reasons()}
        names = ["cdp_outcome", "cdp_code", "cdp_reason"]
        for table in self._first.places():
            again = self._second.met(table)
            for item in table.filter(pa.array(again)).column("cdp_outcome").value_counts():
                self.moved[item["values"].as_py()] += item["counts"].as_py()
                self.moved[Outcome.DELIVERED] -= item["counts"].as_py()
            self._take_away(table.filter(pa.array(again)))
            left = table.filter(pa.array(~again)).group_by(names, use_threads=False)
            wanted = [("cdp_row", "count"), ("cdp_source", "first"), ("cdp_row", "first")]
            for row in left.aggregate(wanted).to_pylist():
                outcome, code, reason = (row[name] for name in names)
                before = known.get((outcome, code, reason))
                place = (row["cdp_source_first"], row["cdp_row_first"])
                self._reasons.count(
                    outcome,
                    code,
                    reason,
                    row["cdp_row_count"],
                    problems=before.problems if before else (),
                    place=lambda place=place: place,  # type: ignore[misc]
                )

    def _take_away(self, table: Any) -> None:
        """Count rows by event and time no more under their first outcome."""
        keys = ["event", "day", "cdp_outcome"]
        placed = table.filter(table.column("event").is_valid()).group_by(keys)
        for row in placed.aggregate([("cdp_row", "count")]).to_pylist():
            counts = np.zeros(len(OUTCOMES), dtype=np.int64)
            counts[Outcome(row["cdp_outcome"]).code] = -row["cdp_row_count"]
            self._gone += EventCounts({(row["event"], row["day"]): counts})

    def counted(self) -> EventCounts:
        """Rows by event, time and outcome."""
        return self._first.counted() + self._gone + self._second.counted()

    def _mine(self, table: Any) -> Mask:
        """Which rows of a table are rows of the first."""
        own = pc.is_in(table.column("cdp_run"), value_set=pa.array(self._first.runs))
        return np.asarray(own.to_numpy()) | self._first.met(table)

    def reasons(self) -> list[FailureReason]:
        """Why rows did not arrive, most rows first."""
        return list(self._reasons)

    def failures(self, keep: Filter | None = None) -> pd.DataFrame:
        """The rows that did not arrive; those sent again as they were then, in their old place."""
        first, second = self._first.failures(self._both(keep)), self._second.failures(keep)
        if not len(first) or not len(second):
            return first if len(first) else second
        frame = pd.concat([first, second])
        run, source = (pd.factorize(frame[name])[0] for name in ("cdp_run", "cdp_source"))
        order = np.lexsort((frame["cdp_row"].to_numpy(np.int64), source, run))
        return frame.iloc[order]

    def parts(self, keep: Filter | None = None) -> Iterator[Any]:
        """The same a part at a time, as Arrow tables of one schema; in no order."""
        both = self._both(keep)
        schema = None
        for table in self._all_parts(keep, both):
            schema = table.schema if schema is None else _common(schema, table.schema)
        for table in self._all_parts(keep, both):
            yield _fitted(table, schema)

    def _all_parts(self, keep: Filter | None, both: Filter | None) -> Iterator[Any]:
        yield from self._first.parts(both)
        yield from self._second.parts(keep)

    def _both(self, keep: Filter | None) -> Filter | None:
        mine = self._keep
        if keep is None or mine is None:
            return mine or keep
        return lambda table: keep(table) & mine(table)

    def places(self) -> Iterator[Any]:
        """Of the same rows only where they were first, why they did not arrive, event and day."""
        for table in self._first.places():
            yield table if self._keep is None else table.filter(pa.array(self._keep(table)))
        yield from self._second.places()

    def met(self, table: Any) -> Mask:
        """Which rows of such a table were sent again in one of the runs."""
        return self._first.met(table) | self._second.met(table)

    def again(self) -> Iterator[Any]:
        """Where all rows that were sent again were first."""
        yield from self._first.again()
        for table in self._second.again():
            yield table.filter(pa.array(~self._first.met(table)))

    def cells(self, column: str) -> tuple[Any, Any] | None:
        """What a column is called in the failures, and its Arrow type; None if there is none."""
        return self._second.cells(column) or self._first.cells(column)

    def dropped(self) -> pd.DataFrame:
        """Which column was left out of which row."""
        both = [frame for part in (self._first, self._second) if len(frame := part.dropped())]
        if not both:
            return self._first.dropped()
        return pd.concat(both).drop_duplicates(ignore_index=True)


def write(account: FailureLog, path: Path) -> None:
    """Write the rows that did not arrive to a parquet file, a part at a time.

    Where there are none, the file has the columns and no rows.
    """
    writer = None
    try:
        for part in account.parts():
            writer = writer or pq.ParquetWriter(path, part.schema)
            writer.write_table(part.cast(writer.schema))
    finally:
        if writer is not None:
            writer.close()


def _common(one: Any, other: Any) -> Any:
    """A schema for the rows of both; a column that was mended to another type becomes text."""
    for name in set(one.names) & set(other.names):
        pair = [pa.schema([schema.field(name)]) for schema in (one, other)]
        try:
            pa.unify_schemas(pair, promote_options="permissive")
        except pa.ArrowException:
            one, other = (
                schema.set(schema.get_field_index(name), pa.field(name, pa.string()))
                for schema in (one, other)
            )
    return pa.unify_schemas([one, other], promote_options="permissive")


def _fitted(table: Any, schema: Any) -> Any:
    columns = []
    for item in schema:
        if item.name not in table.schema.names:
            columns.append(pa.nulls(table.num_rows, item.type))
            continue
        column = table.column(item.name)
        try:
            columns.append(column.cast(item.type))
        except pa.ArrowException:
            columns.append(pa.array([None if v is None else str(v) for v in column.to_pylist()]))
    return pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema)

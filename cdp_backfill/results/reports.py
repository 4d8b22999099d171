"""What became of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pandas as pd

from cdp_backfill.errors import BadInputError, UndeliveredError
from cdp_backfill.model.outcomes import Fix, Outcome
from cdp_backfill.results.failure_log import CombinedFailures, write_parquet
from cdp_backfill.results.merging import (
    SEVERAL_TABLES,
    merged_counts,
    merged_fixes,
    merged_journal,
    merged_notes,
    merged_stats,
    merged_timeline,
)
from cdp_backfill.results.plots import Kind, figure
from cdp_backfill.results.remedies import remedy, suggestion
from cdp_backfill.results.report_view import headline, report_view
from cdp_backfill.results.run_stats import WithStats

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from cdp_backfill.model.mapping import Mapping
    from cdp_backfill.model.views import View
    from cdp_backfill.results.failure_log import FailureLog
    from cdp_backfill.results.progress import Snapshot

MAPPING_ATTRIBUTE = "cdp_mapping"
"""Where a frame of failures carries its mapping, as TOML, among ``DataFrame.attrs``."""

_REASON_COLUMNS: Final = (
    "outcome",
    "code",
    "columns",
    "reason",
    "rows",
    "source",
    "row",
    "remedy",
    "fix",
)

URL_ATTRIBUTE = "cdp_url"
"""Where it carries the address that it was sent to."""


@dataclass(frozen=True, kw_only=True)
class Report(WithStats):
    """What became of every row of a run.

    Attributes:
        counts: Rows by outcome; every outcome is there, and they add up to the rows.
        stats: All figures of the run; the most important are attributes of the report, too.
        timeline: How it went: up to 1,000 snapshots with the seconds since the start.
        journal: The journal, or None.
        canary: Rows that were to go as a canary, or None.
        interrupted: Whether somebody stopped it.
        fixes: Cells that were mended on the way, by what was done.
        notes: What else should be known, in sentences.
        url: Where it went.
    """

    counts: dict[str, int]
    timeline: tuple[Snapshot, ...] = field(repr=False)
    journal: Path | None
    canary: int | None
    interrupted: bool
    fixes: dict[Fix, int]
    notes: tuple[str, ...]
    url: str
    _mapping: Mapping | None = field(repr=False)
    _failure_log: FailureLog = field(repr=False)
    _send_again: Callable[[pd.DataFrame], Report] | None = field(repr=False)

    @property
    def rows(self) -> int:
        """Number of rows of the input."""
        return sum(self.counts.values())

    @property
    def rate(self) -> float:
        """Rows per second; those that never had their turn are not counted."""
        had = self.rows - self.counts[Outcome.UNSENT]
        return had / self.seconds if self.seconds else 0.0

    @property
    def ok(self) -> bool:
        """Whether every row was delivered, or left out on purpose."""
        settled = sum(self.counts[outcome] for outcome in Outcome if outcome.settled)
        return settled == self.rows

    @property
    def failures(self) -> pd.DataFrame:
        """One row per record that was not delivered, with the reason; skipped ones aside.

        The columns and index labels of the input, and ``cdp_outcome``, ``cdp_code``,
        ``cdp_reason``, ``cdp_status`` (HTTP), ``cdp_attempts``, ``cdp_message_id``,
        ``cdp_source`` (file), ``cdp_row`` (number of the row in the file or frame, from 0) and
        ``cdp_run`` (which run's file or frame). The last three lead to the row that it was
        first, also from the failures of failures that were sent again.

        It can be sent again as it is: ``report.failures.cdp.send()`` knows the mapping. The
        destination must be given again, or configured; to another address than before it goes
        only if that is given.
        """
        frame = self._failure_log.failures()
        if self._mapping is None:
            frame.attrs.pop(MAPPING_ATTRIBUTE, None)
        else:
            frame.attrs[MAPPING_ATTRIBUTE] = self._mapping.to_toml()
        frame.attrs[URL_ATTRIBUTE] = self.url
        return frame

    def by_reason(self) -> pd.DataFrame:
        """Why rows did not arrive: one row a reason, most rows first, with what to do about it.

        It is cheap, however many rows there are. Columns: ``outcome``, ``code``, ``columns`` (to
        blame, as text), ``reason``, ``rows`` (how many), ``source`` and ``row`` (where one of them
        is, as ``cdp_source`` and ``cdp_row`` in the failures), ``remedy`` (in words) and ``fix``: a
        line of pandas that repairs ``failures = report.failures``, or leaves these rows out of
        it; empty where a change of the table does not help. Read it before you run it: it is a
        guess. No value of a row is in it.

        >>> print(report.by_reason().fix[0])  # doctest: +SKIP
        failures = failures[~(failures.cdp_code == 'missing_user')]
        """
        found = list(self._failure_log.reasons())
        codes = [item.code for item in found]
        lines = [
            {
                "outcome": item.outcome,
                "code": item.code,
                "columns": ", ".join(item.columns),
                "reason": item.reason,
                "rows": item.rows,
                "source": item.example[0],
                "row": item.example[1],
                "remedy": remedy(item),
                "fix": suggestion(
                    item,
                    alone=codes.count(item.code) == 1,
                    cells=self._failure_log.label_and_type,
                    mapping=self._mapping,
                ),
            }
            for item in found
        ]
        frame = pd.DataFrame(lines, columns=list(_REASON_COLUMNS))
        return frame.astype({"rows": "int64", "row": "Int64"})

    @property
    def dropped(self) -> pd.DataFrame:
        """Which column was left out of which row because of ``oversize="drop_largest"``.

        Columns ``cdp_source`` (file), ``cdp_row`` (number of the row in the file or frame, from
        0) and ``cdp_dropped`` (the column).
        """
        return self._failure_log.dropped()

    def retry(self, *outcomes: str) -> Report:
        """Send what is worth sending again, in the same way, with the same journal.

        Args:
            *outcomes: Which rows; without any, those that are ``failed``, ``unknown`` or
                ``unsent``. The others need a repair first, see :attr:`failures`.

        Returns:
            The report of the second run, about these rows only.

        Raises:
            BadInputError: There is no such outcome.
            BackfillError: As :func:`cdp_backfill.send` does.
        """
        wanted = outcomes or (Outcome.FAILED, Outcome.UNKNOWN, Outcome.UNSENT)
        for name in wanted:
            if name not in self.counts:
                raise BadInputError(
                    f"There is no outcome {name!r}. Outcomes: {', '.join(self.counts)}."
                )
        if self._send_again is None:
            raise BadInputError(
                "This is the sum of runs that were sent in different ways: send the failures "
                "of each on its own."
            )
        failures = self.failures
        chosen = failures[failures["cdp_outcome"].isin(list(wanted))]
        if not len(chosen):
            raise BadInputError(
                f"No row is {' or '.join(str(name) for name in wanted)}: nothing is worth sending "
                "again as it is. The others need a repair first, see report.failures."
            )
        return self._send_again(chosen)

    def __add__(self, other: object) -> Report:
        """The report of two runs together, the later one about failures of the earlier.

        Rows that were sent again count once, as what became of them then, so that ``rows`` stays
        the number of rows of the table that came first; rows that were added count besides.
        Failures that were not sent again, such as those left out on purpose, stay what they were.
        Two reports of different tables add up as they are. ``sum(reports)`` works too.

        Args:
            other: A report.

        Raises:
            BadInputError: The same run is in both.
        """
        if not isinstance(other, Report):
            return NotImplemented
        return self._plus(other)

    def __radd__(self, other: object) -> Report:
        """What ``sum()`` begins with is 0."""
        return self if other == 0 else NotImplemented

    def _plus(self, other: Report) -> Report:
        if self._failure_log.resent_runs & other._failure_log.runs:
            return other._plus(self)
        failures = CombinedFailures(self._failure_log, other._failure_log)
        counts = merged_counts(self.counts, other.counts, failures.resent_counts)
        same_mapping = self._mapping == other._mapping
        same_way = failures.linked or (same_mapping and self.url == other.url)
        return replace(
            other,
            counts=counts,
            stats=merged_stats(
                self.stats,
                other.stats,
                delivered=counts[Outcome.DELIVERED],
                resent_unknown=min(
                    failures.resent_counts[Outcome.UNKNOWN], other.counts[Outcome.DELIVERED]
                ),
            ),
            timeline=merged_timeline(
                self.timeline, other.timeline, counts=self.counts, stats=self.stats
            ),
            journal=merged_journal(self.journal, other.journal),
            canary=None,
            interrupted=self.interrupted or other.interrupted,
            fixes=merged_fixes(self.fixes, other.fixes),
            notes=merged_notes(
                self.notes, other.notes, () if failures.linked else (SEVERAL_TABLES,)
            ),
            url=self.url if self.url == other.url else f"{self.url} and {other.url}",
            _failure_log=failures,
            # Failures of two tables can only be sent together if the mapping is the same.
            _mapping=other._mapping if failures.linked or same_mapping else None,
            _send_again=other._send_again if same_way else None,
        )

    def save(self, folder: str | Path) -> None:
        """Write ``failures.parquet``, ``report.json``, ``report.txt`` and ``mapping.toml``.

        Failures are written a part at a time, however many they are. Where columns were left out
        of large messages, ``dropped.parquet`` says which.

        Args:
            folder: Made if it is not there; files of these names in it are replaced.

        Raises:
            OSError: The folder cannot be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_parquet(self._failure_log, folder / "failures.parquet")
        if len(dropped := self.dropped):
            dropped.to_parquet(folder / "dropped.parquet", index=False)
        (folder / "report.json").write_text(json.dumps(self.to_dict(), indent=1), "utf-8")
        (folder / "report.txt").write_text(f"{self}\n", "utf-8")
        if self._mapping is not None:
            self._mapping.save(folder / "mapping.toml")

    def plot(self, kind: Kind = "all") -> Figure:
        """Draw what happened, for a light or a dark page.

        Args:
            kind: ``"events"`` draws the events over time by outcome, ``"run"`` rows a second and
                how long answers took, ``"reasons"`` why rows did not arrive; ``"all"`` all three.

        Returns:
            A figure of Matplotlib, which a notebook shows and ``.savefig("report.png")`` keeps.
            Rows without a usable event and time, skipped ones and those that a stopped run never
            read are in none of its bars of events.

        Raises:
            BadInputError: There is no such kind.
            MissingExtraError: The extra ``plot`` is not installed.

        >>> report.plot("run").savefig("run.png")  # doctest: +SKIP
        """
        return figure(
            kind,
            counts=self.counts,
            stats=self.stats,
            timeline=self.timeline,
            reasons=self._failure_log.reasons(),
            event_counts=self._failure_log.event_counts(),
            interrupted=self.interrupted,
        )

    def raise_for_failures(self) -> None:
        """Raise an error if anything was not delivered.

        Raises:
            UndeliveredError: Something was not; its ``report`` is this one.
        """
        if not self.ok:
            raise UndeliveredError(self._headline(), self)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the rows, as plain values."""
        return {
            "rows": self.rows,
            "counts": dict(self.counts),
            "ok": self.ok,
            "requests": self.requests,
            "retries": self.retries,
            "throttled": self.throttled,
            "body_bytes": self.body_bytes,
            "wire_bytes": self.wire_bytes,
            "fill": round(self.fill, 4),
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rate, 1),
            "delivered_before": self.delivered_before,
            "maybe_twice": self.maybe_twice,
            "max_in_flight": self.max_in_flight,
            "paused_seconds": round(self.paused_seconds, 3),
            "journal": str(self.journal) if self.journal else None,
            "interrupted": self.interrupted,
            "fixes": [
                {"code": fix.code, "column": fix.column, "cells": cells}
                for fix, cells in self.fixes.items()
            ],
            "notes": list(self.notes),
            "url": self.url,
            "reasons": [
                {
                    "outcome": found.outcome,
                    "code": found.code,
                    "reason": found.reason,
                    "rows": found.rows,
                }
                for found in self._failure_log.reasons()
            ],
        }

    def _headline(self) -> str:
        return headline(self.counts, canary=self.canary, interrupted=self.interrupted)

    def _view(self) -> View:
        return report_view(
            self._headline(),
            counts=self.counts,
            stats=self.stats,
            reasons=self._failure_log.reasons(),
            fixes=self.fixes,
            notes=self.notes,
            url=self.url,
            journal=self.journal,
            interrupted=self.interrupted,
        )

    def __copy__(self) -> Report:
        return self  # a report does not change

    def __deepcopy__(self, _: dict[int, Any]) -> Report:
        return self

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError(
            "A Report cannot be pickled because its failures stay in this process: write it to "
            "files with report.save(folder), or pickle its figures with report.to_dict()."
        )

    def __str__(self) -> str:
        return self._view().text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self._view().html()

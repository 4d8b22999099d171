"""The report of a run: the outcome of every row."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pandas as pd

from cdp_backfill.errors import BadInputError, UndeliveredError
from cdp_backfill.model.outcomes import (
    LEFT_OUT_ATTRIBUTE,
    MAPPING_ATTRIBUTE,
    URL_ATTRIBUTE,
    Fix,
    Outcome,
)
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
from cdp_backfill.results.missing import missing_rows, parse_allowed
from cdp_backfill.results.outcome_files import read_outcomes
from cdp_backfill.results.plots import Kind, figure
from cdp_backfill.results.private_files import private
from cdp_backfill.results.reason_table import ReasonTable
from cdp_backfill.results.reasons import unmapped_rows
from cdp_backfill.results.remedies import remedy, suggested_fix
from cdp_backfill.results.report_view import (
    headline,
    identities_alerts,
    report_view,
    unmapped_alerts,
)
from cdp_backfill.results.run_stats import WithStats

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from matplotlib.figure import Figure

    from cdp_backfill.model.mapping import Mapping
    from cdp_backfill.model.views import View
    from cdp_backfill.results.failure_log import FailureLog
    from cdp_backfill.results.outcome_files import OutcomeFiles
    from cdp_backfill.results.progress import Snapshot

    SendAgain = Callable[[pd.DataFrame, pd.DataFrame | None], "Report"]
    """Sends failures, and before them failures of the identities unless None."""

_WORTH_A_RETRY: Final = (Outcome.FAILED, Outcome.UNKNOWN, Outcome.UNSENT)

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


@dataclass(frozen=True, kw_only=True)
class Report(WithStats):
    """The outcome of every row of a run, and the figures of the run.

    A report does not change: a copy is the report itself. It cannot be pickled; see :meth:`save`.

    Attributes:
        counts: Rows by outcome. Every outcome is a key, and the values add up to :attr:`rows`.
        stats: All figures of the run. Most of them are attributes of the report, too.
        timeline: Up to 1,000 snapshots of the run, evenly spread.
        journal: The journal, or None; a text if it is a URI.
        canary: Number of rows to send as a canary, or None.
        interrupted: Whether the run was interrupted.
        fixes: Number of cells that were changed on the way, by what was done.
        notes: Notes on the run, in sentences.
        url: The address that the rows were sent to.
        identities: The report of the identities that were sent first, each of which is a row of its
            own; None without ``identify=``.
        planned_seconds: The least and the most seconds that the plan expected of the run; None if
            the run was not sent from a plan, or is not the whole of it.
        distributed_failures: The failures as a frame of the engine that sent them, such as a
            DataFrame of Spark, however many there are; None if no engine sent them.
    """

    counts: dict[str, int]
    timeline: tuple[Snapshot, ...] = field(repr=False)
    journal: Path | str | None
    canary: int | None
    interrupted: bool
    fixes: dict[Fix, int]
    notes: tuple[str, ...]
    url: str
    identities: Report | None = None
    planned_seconds: tuple[float, float] | None = None
    distributed_failures: Any = field(default=None, repr=False)
    _mapping: Mapping | None = field(repr=False)
    _left_out: str | None = field(default=None, repr=False)
    _failure_log: FailureLog = field(repr=False)
    _send_again: SendAgain | None = field(repr=False)
    _outcome_files: tuple[OutcomeFiles, ...] = field(default=(), repr=False)

    @property
    def rows(self) -> int:
        """Number of rows of the input."""
        return sum(self.counts.values())

    @property
    def rate(self) -> float:
        """Rows per second, unsent rows not counted."""
        rows = self.rows - self.counts[Outcome.UNSENT]
        return rows / self.seconds if self.seconds else 0.0

    @property
    def ok(self) -> bool:
        """Whether each row was delivered, skipped on purpose or held on request, as wanted.

        The same must be true of the identities. The rows after those of a canary may wait.
        """
        return not self.missing()

    @property
    def summary(self) -> str:
        """The result in a sentence or two."""
        return " ".join([f"{self._headline()}.", *self._alerts()])

    def missing(self, *, allow: str | Iterable[str] = ()) -> dict[str, int]:
        """The rows and identities that are missing, by outcome.

        Rows that were delivered, skipped on purpose, held on request, or that wait after a canary
        are not missing.

        Args:
            allow: Outcomes or codes of further rows that may be missing, such as ``"invalid"`` or
                ``["missing_user", "http_400"]``.

        Returns:
            Number of rows by outcome; empty if all is as wanted.

        Raises:
            BadInputError: There is no such outcome or code.

        >>> report.missing(allow="invalid")  # doctest: +SKIP
        {'refused': 3}
        """
        allowed = parse_allowed(allow)
        is_canary = self.canary is not None and not self.interrupted
        missing = missing_rows(
            self.counts, self._failure_log.reasons(), allowed=allowed, is_canary=is_canary
        )
        if self.identities is not None:
            others = missing_rows(
                self.identities.counts,
                self.identities._failure_log.reasons(),  # noqa: SLF001  # of this class
                allowed=allowed,
                is_canary=is_canary,
            )
            for name, rows in others.items():
                missing[name] = missing.get(name, 0) + rows
        return missing

    @property
    def unmapped(self) -> int:
        """Rows that were skipped because nobody mapped their event value; they count as missing."""
        return unmapped_rows(self._failure_log.reasons())

    @property
    def failures(self) -> pd.DataFrame:
        """The rows that are missing, each with the reason; without rows skipped on purpose.

        The frame has the columns and index labels of the input, and these columns:
        ``cdp_outcome``, ``cdp_code``, ``cdp_reason``, ``cdp_status`` (HTTP), ``cdp_attempts``,
        ``cdp_message_id``, ``cdp_source`` (file), ``cdp_row`` (number of the row in the file or
        frame, from 0) and ``cdp_run`` (the run that read the file or frame). The last three stay
        the same when failures are sent again: they lead to the row in the first table.

        You can send the frame again: ``report.failures.cdp.send()`` uses the same mapping. Pass
        the destination again, or configure it. If its address differs from that of this run, you
        must pass it.
        """
        frame = self._failure_log.failures()
        if self._mapping is None:
            frame.attrs.pop(MAPPING_ATTRIBUTE, None)
        else:
            frame.attrs[MAPPING_ATTRIBUTE] = self._mapping.to_toml()
        frame.attrs.pop(LEFT_OUT_ATTRIBUTE, None)
        if self._left_out is not None:
            frame.attrs[LEFT_OUT_ATTRIBUTE] = self._left_out
        frame.attrs[URL_ATTRIBUTE] = self.url
        return frame

    def by_reason(self) -> pd.DataFrame:
        """Why rows were not delivered, and what to do: one row for each reason, most rows first.

        It is fast, however many failures there are, and contains no cells of the input. The frame
        has these columns: ``outcome``, ``code``, ``columns`` (the columns with a problem, as
        text), ``reason``, ``rows`` (number of rows), ``source`` and ``row`` (where one of the rows
        is, as ``cdp_source`` and ``cdp_row`` in the failures), ``remedy`` (what to do, in words)
        and ``fix``. A fix is a line of pandas that repairs these rows in
        ``failures = report.failures``, or leaves them out; it is empty where a change of the table
        does not help. A fix is a guess: read it before you run it. Rows that were skipped on
        purpose come last; they are not among the failures.

        >>> print(report.by_reason().fix[0])  # doctest: +SKIP
        failures = failures[~(failures.cdp_code == 'missing_user')]
        """
        reasons = [*self._failure_log.reasons(), *self._failure_log.skipped()]
        codes = [item.code for item in reasons]
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
                "fix": suggested_fix(
                    item,
                    unique_code=codes.count(item.code) == 1,
                    label_and_type=self._failure_log.label_and_type,
                    mapping=self._mapping,
                ),
            }
            for item in reasons
        ]
        frame = pd.DataFrame(lines, columns=list(_REASON_COLUMNS))
        return ReasonTable(frame.astype({"rows": "int64", "row": "Int64"}))

    def outcomes(self) -> pd.DataFrame:
        """The outcome of every row, from the files that ``outcomes=`` had the run write.

        All rows at once: the frame can be as large as the input. DuckDB and others read the files
        in parts; see :doc:`/how-to/outcomes`.

        The frame has these columns: ``run``, ``origin_run`` (the run that read the row first; the
        same unless failures were sent again), ``source`` (file, or None), ``row`` (number of the
        row in the file or frame, from 0), ``outcome``, ``code``, ``message_id`` (None for rows that
        became no message) and ``delivered_before`` (an earlier run delivered it, according to the
        journal).

        Raises:
            BadInputError: The run was sent without ``outcomes=``, or files are missing.

        >>> report.outcomes().outcome.value_counts()  # doctest: +SKIP
        """
        if not self._outcome_files:
            raise BadInputError(
                "The run kept the failures only. To get the outcome of every row, send with "
                "outcomes='folder/', as in cdp.send(source, outcomes='outcomes/'). With a journal, "
                "rows that were delivered are not sent again."
            )
        frame: pd.DataFrame = read_outcomes([*self._outcome_files])
        return frame

    @property
    def dropped(self) -> pd.DataFrame:
        """Which columns were left out of which rows because of ``oversize="drop_largest"``.

        The frame has the columns ``cdp_source`` (file), ``cdp_row`` (number of the row in the file
        or frame, from 0) and ``cdp_dropped`` (the column).
        """
        return self._failure_log.dropped()

    def retry(self, *outcomes: str) -> Report:
        """Send rows again that need no repair, with the same options and the same journal.

        Identities that are ``failed``, ``unknown`` or ``unsent`` are sent before them.

        Args:
            *outcomes: Outcomes of the rows to send; by default ``failed``, ``unknown`` and
                ``unsent``. Rows with other outcomes need a repair first, see :attr:`failures`.

        Returns:
            The report of the second run, about these rows only.

        Raises:
            BadInputError: There is no such outcome, no row with it, or no one way to send the
                rows.
            BackfillError: As :func:`cdp_backfill.send` does.
        """
        requested = outcomes or _WORTH_A_RETRY
        for name in requested:
            if name not in self.counts:
                raise BadInputError(
                    f"There is no outcome {name!r}. Outcomes: {', '.join(self.counts)}."
                )
        if self._send_again is None:
            raise BadInputError(
                "This report combines runs with different mappings or destinations. Send the "
                "failures of each report separately."
            )
        selected = self._failures_of(requested)
        first = None
        if self.identities is not None:
            first = self.identities._failures_of(_WORTH_A_RETRY)  # noqa: SLF001  # of this class
        if not len(selected):
            hint = "" if first is None or first.empty else " report.identities.retry() sends those."
            raise BadInputError(
                f"No row is {' or '.join(str(name) for name in requested)}: nothing is worth "
                "sending again as it is. Repair the other rows first, see report.failures and "
                f"report.by_reason().{hint}"
            )
        return self._send_again(selected, None if first is None or first.empty else first)

    def _failures_of(self, outcomes: Collection[str]) -> pd.DataFrame:
        """The failures with one of these outcomes."""
        if not any(self.counts[name] for name in outcomes):
            return pd.DataFrame()
        failures = self.failures
        return failures[failures["cdp_outcome"].isin(list(outcomes))]

    def __add__(self, other: object) -> Report:
        """The report of two runs together; the later run may have sent failures of the earlier.

        Rows that were sent again count once, with their last outcome, so that ``rows`` stays the
        number of rows of the first table; rows added to the failures count in addition. Failures
        that were not sent again stay as they are. Reports of different tables simply add up.
        ``sum(reports)`` works, too.

        Args:
            other: A report.

        Raises:
            BadInputError: Both contain the same run.
        """
        if not isinstance(other, Report):
            return NotImplemented
        return self._plus(other)

    def __radd__(self, other: object) -> Report:
        """Support ``sum()``, which starts with 0."""
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
                rows=sum(counts.values()),
                resent_twice=failures.resent_twice,
            ),
            timeline=merged_timeline(
                self.timeline, other.timeline, counts=self.counts, stats=self.stats
            ),
            journal=merged_journal(self.journal, other.journal),
            canary=None,
            planned_seconds=None,
            distributed_failures=None,
            interrupted=self.interrupted or other.interrupted,
            fixes=merged_fixes(self.fixes, other.fixes),
            notes=merged_notes(
                self.notes, other.notes, () if failures.linked else (SEVERAL_TABLES,)
            ),
            url=self.url if self.url == other.url else f"{self.url} and {other.url}",
            identities=_sum_of(self.identities, other.identities),
            _failure_log=failures,
            # Failures of two tables can only be sent together if the mapping is the same.
            _mapping=other._mapping if failures.linked or same_mapping else None,
            _left_out=other._left_out if failures.linked else other._left_out or self._left_out,
            _send_again=other._send_again if same_way else None,
            # Without those of one of them, rows would be missing.
            _outcome_files=(*self._outcome_files, *other._outcome_files)
            if self._outcome_files and other._outcome_files
            else (),
        )

    def save(self, folder: str | Path) -> None:
        """Write ``failures.parquet``, ``report.json``, ``report.txt`` and ``mapping.toml``.

        Only you can read the files. Failures come last, and are written a part at a time, so that
        any number of them fits in memory. If columns were left out of large messages,
        ``dropped.parquet`` lists them. The folder ``identities`` has the same files for the
        identities, if there are any.

        Args:
            folder: Created if it does not exist; files with these names in it are replaced.

        Raises:
            OSError: The folder cannot be written.
        """
        folder = Path(folder)
        # The smallest first: what is written stays if the disk is full after it.
        self._save_summary(folder)
        if self.identities is not None:
            self.identities._save_summary(folder / "identities")  # noqa: SLF001  # of this class
        self._save_rows(folder)
        if self.identities is not None:
            self.identities._save_rows(folder / "identities")  # noqa: SLF001

    def _save_summary(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        private(folder / "report.json").write_text(json.dumps(self.to_dict(), indent=1), "utf-8")
        private(folder / "report.txt").write_text(f"{self}\n", "utf-8")
        if self._mapping is not None:
            self._mapping.save(folder / "mapping.toml")

    def _save_rows(self, folder: Path) -> None:
        attributes = {URL_ATTRIBUTE: self.url}
        if self._mapping is not None:
            attributes[MAPPING_ATTRIBUTE] = self._mapping.to_toml()
        if self._left_out is not None:
            attributes[LEFT_OUT_ATTRIBUTE] = self._left_out
        write_parquet(self._failure_log, private(folder / "failures.parquet"), attributes)
        if len(dropped := self.dropped):
            dropped.to_parquet(private(folder / "dropped.parquet"), index=False)

    def plot(self, kind: Kind = "all") -> Figure:
        """Draw the results, for a light or a dark background.

        Args:
            kind: ``"events"`` draws the events over time by outcome, ``"run"`` rows per second and
                the time per answer, ``"reasons"`` why rows were not delivered; ``"all"`` draws all
                three.

        Returns:
            A figure of Matplotlib. A notebook shows it, and ``.savefig("report.png")`` writes it to
            a file. Events over time do not include rows without a usable event and time, skipped
            rows, and rows that the run did not read.

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

    def raise_for_failures(self, *, allow: str | Iterable[str] = ()) -> None:
        """Raise an error if rows are missing; see :meth:`missing`.

        Args:
            allow: Outcomes or codes of rows that may be missing, such as ``"invalid"`` or
                ``["missing_user", "http_400"]``.

        Raises:
            UndeliveredError: Rows are missing; its ``report`` is this report.
            BadInputError: There is no such outcome or code.
        """
        if self.missing(allow=allow):
            raise UndeliveredError(self.summary, self)

    def to_dict(self, *, quote_server: bool = True) -> dict[str, Any]:
        """The report without its rows, as plain values for JSON.

        Args:
            quote_server: Include what the server said about rows, which can quote them.
        """
        return {
            "rows": self.rows,
            "counts": dict(self.counts),
            "ok": self.ok,
            "unmapped": self.unmapped,
            "requests": self.requests,
            "retries": self.retries,
            "throttled": self.throttled,
            "body_bytes": self.body_bytes,
            "wire_bytes": self.wire_bytes,
            "fill": round(self.fill, 4),
            "seconds": round(self.seconds, 3),
            "planned_seconds": self.planned_seconds and list(self.planned_seconds),
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
                    "outcome": item.outcome,
                    "code": item.code,
                    "reason": item.reason if quote_server else item.own_words,
                    "rows": item.rows,
                }
                for item in (*self._failure_log.reasons(), *self._failure_log.skipped())
            ],
            "identities": None
            if self.identities is None
            else self.identities.to_dict(quote_server=quote_server),
        }

    def _headline(self) -> str:
        return headline(
            self.counts,
            unmapped=self.unmapped,
            canary=self.canary,
            interrupted=self.interrupted,
            call="track" if self._mapping is None else self._mapping.call,
        )

    def _alerts(self) -> list[str]:
        alerts = unmapped_alerts(self.unmapped)
        if self.identities is not None:
            is_canary = self.canary is not None
            alerts += identities_alerts(self.identities.counts, is_canary=is_canary)
        return alerts

    def _view(self, *, quote_server: bool = True) -> View:
        return report_view(
            self._headline(),
            counts=self.counts,
            stats=self.stats,
            planned=self.planned_seconds,
            reasons=self._failure_log.reasons(),
            skipped=self._failure_log.skipped(),
            fixes=self.fixes,
            notes=self.notes,
            url=self.url,
            journal=self.journal,
            interrupted=self.interrupted,
            identities=None if self.identities is None else self.identities.counts,
            alerts=self._alerts(),
            quote_server=quote_server,
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


def _sum_of(first: Report | None, second: Report | None) -> Report | None:
    return first + second if first is not None and second is not None else first or second

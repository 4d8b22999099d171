"""What became of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cdp_backfill.errors import UndeliveredError
from cdp_backfill.faces import Face, Section, duration
from cdp_backfill.outcomes import PROBLEMS, Outcome
from cdp_backfill.progress import megabytes

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from cdp_backfill.mapping import Mapping

MAPPING_ATTRIBUTE = "cdp_mapping"
"""Where a frame of failures carries its mapping, as TOML, among ``DataFrame.attrs``."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of every row of a run.

    Attributes:
        counts: Rows by outcome; every outcome is there, and they add up to the rows.
        requests: Requests sent, further attempts included.
        retries: Further attempts among them.
        throttled: Answers of 429, "too many requests".
        body_bytes: Bytes delivered, before compression.
        wire_bytes: Bytes sent, compressed.
        fill: How full the requests were, as a share of the limit on bytes; 0.0 to 1.0.
        seconds: How long it took.
        maybe_twice: Delivered rows that may have arrived more than once, because an earlier
            attempt had no answer.
        interrupted: Whether somebody stopped it.
        notes: What else should be known, in sentences.
        url: Where it went.
    """

    counts: dict[str, int]
    requests: int
    retries: int
    throttled: int
    body_bytes: int
    wire_bytes: int
    fill: float
    seconds: float
    maybe_twice: int
    interrupted: bool
    notes: tuple[str, ...]
    url: str
    _mapping: Mapping = field(repr=False)
    _failures: Callable[[], pd.DataFrame] = field(repr=False)
    _reasons: Callable[[], list[tuple[str, str, str, int]]] = field(repr=False)

    @property
    def rows(self) -> int:
        """Number of rows of the input."""
        return sum(self.counts.values())

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.rows / self.seconds if self.seconds else 0.0

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
        ``cdp_source`` (file) and ``cdp_row`` (number of the row in the file or frame, from 0).
        It can be sent again as it is: ``report.failures.cdp.send()`` knows the mapping.
        """
        frame = self._failures()
        frame.attrs[MAPPING_ATTRIBUTE] = self._mapping.to_toml()
        return frame

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
            "maybe_twice": self.maybe_twice,
            "interrupted": self.interrupted,
            "notes": list(self.notes),
            "url": self.url,
            "reasons": [
                {"outcome": outcome, "code": code, "reason": reason, "rows": rows}
                for outcome, code, reason, rows in self._reasons()
            ],
        }

    def _headline(self) -> str:
        missing = self.rows - self.counts[Outcome.DELIVERED] - self.counts[Outcome.SKIPPED]
        skipped = self.counts[Outcome.SKIPPED]
        aside = f", {skipped:,} skipped on purpose" if skipped else ""
        if not self.rows:
            return "Backfill: the table has no rows"
        if not missing:
            return f"Backfill: all {self.counts[Outcome.DELIVERED]:,} rows delivered{aside}"
        return f"Backfill: {missing:,} of {self.rows:,} rows not delivered{aside}"

    def _face(self) -> Face:
        outcomes: list[tuple[object, ...]] = [
            (rows, name) for name, rows in self.counts.items() if rows
        ]
        reasons: list[tuple[object, ...]] = []
        for outcome, code, reason, rows in self._reasons():
            remedy = PROBLEMS.get(code, "")
            reasons.append((rows, outcome, code, f"{reason}. {remedy}".strip()))
        amount = [
            (duration(self.seconds), f"{self.rate:,.0f} rows/s"),
            (
                f"{self.requests:,} request{'' if self.requests == 1 else 's'}",
                f"{self.retries:,} of them again, {self.fill:.0%} full on average",
            ),
            (megabytes(self.body_bytes), f"delivered, {megabytes(self.wire_bytes)} on the wire"),
        ]
        notes = list(self.notes)
        if self.maybe_twice:
            notes.append(
                f"{self.maybe_twice:,} delivered rows may have arrived twice: an earlier attempt "
                "had no answer. Their message ids are the same both times."
            )
        if self.interrupted:
            notes.append("The run was interrupted; what had not had its turn is 'unsent'.")
        if not self.ok:
            notes.append("The rows, each with its reason: report.failures")
        return Face(
            self._headline(),
            [
                Section("Rows by outcome", (), outcomes),
                Section("Not delivered, by reason", ("rows", "outcome", "code", "reason"), reasons),
                Section(f"Sent to {self.url}", (), [*amount]),
            ],
            notes,
        )

    def __str__(self) -> str:
        return self._face().text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self._face().html()

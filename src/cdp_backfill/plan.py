"""What a run would do, before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cdp_backfill import spec
from cdp_backfill.faces import Face, Section, duration
from cdp_backfill.mapping import Lit, Mapping
from cdp_backfill.outcomes import PROBLEMS, Outcome, Problem
from cdp_backfill.progress import megabytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cdp_backfill.progress import Progress
    from cdp_backfill.report import Report


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would do with every row of a table; the whole table was read for it.

    Attributes:
        source: What the table is.
        mapping: What goes where.
        rows: Rows of the table.
        to_send: Rows that would be sent.
        invalid: Rows that fail a check.
        held: Recent rows that would be held back.
        skipped: Rows that the mapping leaves out.
        events: Rows to send by event name.
        problems: Rows by problem; a row can have several.
        fields: Each field of a message with its source and that one's type.
        first: Earliest time among the rows to send, or None.
        last: Latest one.
        recent: Rows that could send messages to people, because they are young.
        recent_people: How many people these are about.
        people: How many people the rows to send are about.
        people_exact: False where there are more than were counted.
        mean: Bytes of a message on average.
        largest: Bytes of the largest message.
        body_bytes: Bytes of all requests, before compression.
        requests: Number of requests.
        fill: How full the requests are, as a share of the limit on bytes.
        seconds: How long the requests take at the rate limit, or None without one.
        notes: What else should be known, in sentences.
        url: Where it would go.
    """

    source: str
    mapping: Mapping
    rows: int
    to_send: int
    invalid: int
    held: int
    skipped: int
    events: dict[str, int]
    problems: dict[Problem, int]
    fields: list[tuple[str, str | Lit, str]]
    first: datetime | None
    last: datetime | None
    recent: int
    recent_people: int
    people: int
    people_exact: bool
    mean: float
    largest: int
    body_bytes: int
    requests: int
    fill: float
    seconds: float | None
    notes: tuple[str, ...]
    url: str
    _send: Callable[[bool | Progress, str | Path | bool | None, int | None], Report] = field(
        repr=False
    )

    def send(
        self,
        *,
        progress: bool | Progress = True,
        journal: str | Path | bool | None = None,
        canary: int | None = None,
    ) -> Report:
        """Do it: send the same table with the same mapping and options.

        Args:
            progress: See :func:`cdp_backfill.send`, as for all arguments.
            journal: A path, True, False, or None for what suits the table.
            canary: Send the first so many rows only.

        Raises:
            BackfillError: As :func:`cdp_backfill.send` does.
        """
        return self._send(progress, journal, canary)

    @property
    def counts(self) -> dict[str, int]:
        """Rows by what would become of them: ``to_send``, ``invalid``, ``held``, ``skipped``."""
        return {
            "to_send": self.to_send,
            str(Outcome.INVALID): self.invalid,
            str(Outcome.HELD): self.held,
            str(Outcome.SKIPPED): self.skipped,
        }

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain values."""
        return {
            "source": self.source,
            "mapping": self.mapping.to_dict(),
            "rows": self.rows,
            "counts": self.counts,
            "events": dict(self.events),
            "problems": [
                {
                    "code": problem.code,
                    "column": problem.column,
                    "reason": problem.reason,
                    "rows": rows,
                }
                for problem, rows in self.problems.items()
            ],
            "fields": [
                {
                    "field": name,
                    "column": source if isinstance(source, str) else None,
                    "constant": source.value if isinstance(source, Lit) else None,
                    "type": kind,
                }
                for name, source, kind in self.fields
            ],
            "first": self.first and self.first.isoformat(),
            "last": self.last and self.last.isoformat(),
            "recent": self.recent,
            "recent_people": self.recent_people,
            "people": self.people,
            "people_exact": self.people_exact,
            "mean_message_bytes": round(self.mean, 1),
            "largest_message_bytes": self.largest,
            "body_bytes": self.body_bytes,
            "requests": self.requests,
            "fill": round(self.fill, 4),
            "seconds_at_rate_limit": self.seconds,
            "notes": list(self.notes),
            "url": self.url,
        }

    def _face(self) -> Face:
        fields: list[tuple[object, ...]] = [
            (name, _source_shown(source), kind) for name, source, kind in self.fields
        ]
        counts: list[tuple[object, ...]] = [
            (rows, name.replace("_", " ")) for name, rows in self.counts.items() if rows
        ]
        problems: list[tuple[object, ...]] = [
            (rows, problem.code, f"{problem.reason}. {PROBLEMS.get(problem.code, '')}".strip())
            for problem, rows in sorted(self.problems.items(), key=lambda item: -item[1])
        ]
        events: list[tuple[object, ...]] = [
            (rows, name) for name, rows in sorted(self.events.items(), key=lambda item: -item[1])
        ]
        size: list[tuple[object, ...]] = []
        if self.to_send:
            more = "" if self.people_exact else "more than "
            size = [
                ("time (UTC)", f"{_moment(self.first)} to {_moment(self.last)}"),
                ("people", f"{more}{self.people:,}"),
                (
                    "messages",
                    (
                        f"{self.mean:,.0f} bytes on average, "
                        f"the largest {self.largest:,} of {spec.MAX_MESSAGE_BYTES:,}"
                    ),
                ),
                (
                    "requests",
                    f"{self.requests:,}, {self.fill:.0%} full, {megabytes(self.body_bytes)}",
                ),
            ]
            if self.seconds is not None:
                size.append(("at least", f"{duration(self.seconds)} at the rate limit"))
        notes = list(self.notes)
        if self.recent:
            notes.insert(
                0,
                f"{self.recent:,} rows are younger than {spec.RECENT_HOURS} hours and can trigger "
                f"campaigns and messages to {self.recent_people:,} people. By default nothing is "
                "sent then; recent='hold' leaves them out, recent='send' sends them.",
            )
        return Face(
            f"Plan: {self.to_send:,} of {self.rows:,} rows of {self.source} to {self.url}",
            [
                Section("What goes where", ("field", "from", "type"), fields),
                Section("Rows", (), counts),
                Section("What is wrong", ("rows", "code", "reason"), problems),
                Section("Rows to send, by event", (), events),
                Section("Size", (), size),
            ],
            notes,
        )

    def __str__(self) -> str:
        return self._face().text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self._face().html()


def _source_shown(source: str | Lit) -> str:
    return f"column {source!r}" if isinstance(source, str) else f"always {source.value!r}"


def _moment(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S") if moment else "?"


def as_moment(millis: int) -> datetime:
    """Milliseconds since 1970 UTC as a datetime in UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=millis)

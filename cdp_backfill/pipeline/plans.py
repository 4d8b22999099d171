"""What a run would do, before anything is sent."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from cdp_backfill.errors import MappingError
from cdp_backfill.model import api_facts
from cdp_backfill.model.outcomes import PROBLEMS, Fix, Outcome, Problem
from cdp_backfill.model.views import Section, View, duration, fixes_section
from cdp_backfill.results.progress import megabytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cdp_backfill.inference.proposal import Proposal, Question
    from cdp_backfill.model.destination import Destination
    from cdp_backfill.model.mapping import Mapping
    from cdp_backfill.results.progress import Progress
    from cdp_backfill.results.reports import Report

_MAX_LINES: Final = 12
_WIDE: Final = 60


@dataclass(frozen=True, slots=True)
class Column:
    """What a plan says about a column, or about a constant.

    Attributes:
        name: The column, or None for a constant.
        kind: Its type in words.
        filled: Share of the rows in which it is not empty.
        sample: One of its cells, cut where it is long.
        fields: What it becomes: paths in the message; empty where it is left out.
        verdict: What is wrong with it and what was mended, or what it is for.
    """

    name: str | None
    kind: str
    filled: float
    sample: str
    fields: tuple[str, ...]
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would do with every row of a table; the whole table was read for it.

    Attributes:
        source: What the table is.
        proposal: The mapping, and why it is so where it was proposed.
        rows: Rows of the table.
        to_send: Rows that would be sent.
        invalid: Rows that fail a check.
        held: Recent rows that would be held back.
        skipped: Rows that the mapping leaves out.
        events: Rows to send by event name.
        days: The same by event name and day (UTC), as ``2023-05-01``.
        unknown_events: Rows by value of the event column that is no event; a thousand values at
            most.
        problems: Rows by problem; a row can have several.
        fixes: Cells that were mended, by what was done.
        columns: What each column becomes.
        first: Earliest time among the rows to send, or None.
        last: Latest one.
        recent: Rows that could send messages to people, because they are young.
        recent_people: How many people these are about.
        people: How many people the rows to send are about.
        people_exact: False where there are too many to count them one by one.
        duplicates: Rows whose message id occurred before; about, where there are too many.
        mean: Bytes of a message on average.
        largest: Bytes of the largest message.
        body_bytes: Bytes of all requests, before compression.
        requests: Number of requests.
        fill: How full the requests are, as a share of the limit on bytes.
        seconds: How long the requests take at the rate limit, or None without one.
        samples: The first messages that would be sent.
        notes: What else should be known, in sentences.
        url: Where it would go.
    """

    source: str
    proposal: Proposal
    rows: int
    to_send: int
    invalid: int
    held: int
    skipped: int
    events: dict[str, int]
    days: dict[str, dict[str, int]]
    unknown_events: dict[str, int]
    problems: dict[Problem, int]
    fixes: dict[Fix, int]
    columns: tuple[Column, ...]
    first: datetime | None
    last: datetime | None
    recent: int
    recent_people: int
    people: int
    people_exact: bool
    duplicates: int
    mean: float
    largest: int
    body_bytes: int
    requests: int
    fill: float
    seconds: float | None
    samples: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]
    url: str
    _send: Callable[
        [bool | Progress, str | Path | bool | None, int | None, Destination | None, int], Report
    ] = field(repr=False)

    @property
    def mapping(self) -> Mapping:
        """What goes where; ``print(plan.mapping)`` shows it as Python."""
        return self.proposal.mapping

    @property
    def questions(self) -> tuple[Question, ...]:
        """What could not be decided by looking at the table."""
        return self.proposal.questions

    def send(
        self,
        *,
        progress: bool | Progress = True,
        journal: str | Path | bool | None = None,
        canary: int | None = None,
        destination: Destination | None = None,
        processes: int = 1,
    ) -> Report:
        """Do it: send the same table with the same mapping and options.

        Args:
            progress: See :func:`cdp_backfill.send`, as for all arguments.
            journal: A path, True, False, or None for what suits the table.
            canary: Send the first so many rows only.
            destination: Where to; None for that of the plan.
            processes: How many read, check and encode, for files.

        Returns:
            What became of every row.

        Raises:
            MappingError: A question of the plan is open.
            SourceError: The table is not what it was when the plan was made. Nothing was sent.
            BackfillError: As :func:`cdp_backfill.send` does.
        """
        refuse_open(self.proposal)
        return self._send(progress, journal, canary, destination, processes)

    @property
    def counts(self) -> dict[str, int]:
        """Rows by what would become of them, as ``to_send``, ``invalid``, ``held``, ``skipped``."""
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
            "days": {event: dict(days) for event, days in self.days.items()},
            "unknown_events": dict(self.unknown_events),
            "problems": [
                {
                    "code": problem.code,
                    "column": problem.column,
                    "reason": problem.reason,
                    "rows": rows,
                }
                for problem, rows in self.problems.items()
            ],
            "fixes": [
                {"code": fix.code, "column": fix.column, "cells": cells}
                for fix, cells in self.fixes.items()
            ],
            "columns": [asdict(column) for column in self.columns],
            "preset": self.proposal.preset,
            "facts": list(self.proposal.facts),
            "choices": [asdict(choice) for choice in self.proposal.choices],
            "questions": [asdict(question) for question in self.proposal.questions],
            "duplicates": self.duplicates,
            "samples": list(self.samples),
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

    def _view(self) -> View:
        title = f"Plan: {self.to_send:,} of {self.rows:,} rows of {self.source} to {self.url}"
        if not self.proposal.complete:
            title = f"Plan for {self.source}: a question first"
        sections = [
            Section("Please decide", (), [(q.field, q.text) for q in self.questions]),
            Section("Rows", (), [(n, k.replace("_", " ")) for k, n in self.counts.items() if n]),
            Section("Rows to send, by event", (), _by_rows(self.events)),
            Section(
                "Other events, none of the seven of mobile apps",
                (),
                _by_rows(self.unknown_events, limit=_MAX_LINES),
            ),
            Section(
                "What is wrong",
                ("rows", "code", "reason"),
                [
                    (rows, problem.code, f"{problem.reason}. {PROBLEMS.get(problem.code, '')}")
                    for problem, rows in sorted(self.problems.items(), key=lambda item: -item[1])
                ],
            ),
            fixes_section(self.fixes),
            Section("Size", (), self._size()),
            Section(
                "Columns",
                ("column", "type", "filled", "sample", "becomes"),
                [
                    (
                        column.name or "-",
                        column.kind,
                        f"{column.filled:.0%}",
                        column.sample,
                        _becomes(column),
                    )
                    for column in self.columns
                    if column.fields or not self.proposal.complete
                ],
            ),
            Section(
                "Why this mapping",
                ("field", "from", "sure", "reason"),
                [
                    (choice.field, choice.value, f"{choice.confidence:.0%}", choice.reason)
                    for choice in self.proposal.choices
                ],
            ),
            Section(
                f"What the preset {self.proposal.preset!r} relies on",
                (),
                [(fact,) for fact in self.proposal.facts],
            ),
            Section(
                "The first messages",
                (),
                [(json.dumps(sample, ensure_ascii=False),) for sample in self.samples],
            ),
        ]
        return View(title, sections, self._shown_notes())

    def _size(self) -> list[tuple[object, ...]]:
        if not self.to_send:
            return []
        about = "" if self.people_exact else "about "
        size: list[tuple[object, ...]] = [
            ("time (UTC)", f"{_moment(self.first)} to {_moment(self.last)}"),
            ("people", f"{about}{self.people:,}"),
            (
                "messages",
                (
                    f"{self.mean:,.0f} bytes on average, "
                    f"the largest {self.largest:,} of {api_facts.MAX_MESSAGE_BYTES:,}"
                ),
            ),
            (
                "requests",
                f"{self.requests:,}, {self.fill:.0%} full, {megabytes(self.body_bytes)}",
            ),
        ]
        if self.seconds is not None:
            size.append(("at least", f"{duration(self.seconds)} at the rate limit"))
        return size

    def _shown_notes(self) -> list[str]:
        notes = list(self.notes)
        if self.duplicates:
            what = (
                "They are left out."
                if self.mapping.duplicates == "skip"
                else "They would be sent all the same; duplicates='skip' leaves them out."
            )
            notes.insert(
                0,
                f"{self.duplicates:,} rows have the message id of a row before them. {what}",
            )
        if self.recent:
            notes.insert(
                0,
                f"{self.recent:,} rows are younger than {api_facts.RECENT_HOURS} hours and can "
                f"trigger campaigns and messages to {self.recent_people:,} people. By default "
                "nothing is sent then; recent='hold' leaves them out, recent='send' sends them.",
            )
        left_out = [repr(c.name) for c in self.columns if c.verdict.startswith("left out")]
        if left_out and self.proposal.complete:
            listed = ", ".join(left_out[:_MAX_LINES])
            more = f" and {len(left_out) - _MAX_LINES} more" if left_out[_MAX_LINES:] else ""
            notes.append(f"Columns that become nothing: {listed}{more}.")
        if self.rows and not self.to_send and self.proposal.complete:
            hint = " other_events='send' sends every event." if self.skipped == self.rows else ""
            notes.insert(0, f"Nothing would be sent.{hint}")
        if self.proposal.choices or self.proposal.preset:
            notes.append(
                "The mapping was proposed: print(plan.mapping) shows it, to be edited and passed "
                "back; plan.mapping.save('mapping.toml') keeps it."
            )
        return notes

    def __str__(self) -> str:
        return self._view().text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self._view().html()


def refuse_open(proposal: Proposal) -> None:
    """Stop where something that every message needs is not decided.

    Raises:
        MappingError: It is not; the text says what to do.
    """
    asked = [question.text for question in proposal.questions if question.needed]
    if asked:
        raise MappingError(" ".join(asked))


def _by_rows(counts: dict[str, int], limit: int | None = None) -> list[tuple[object, ...]]:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    lines: list[tuple[object, ...]] = [(rows, _cut(name)) for name, rows in ordered[:limit]]
    if limit is not None and len(ordered) > limit:
        rest = sum(rows for _, rows in ordered[limit:])
        lines.append((rest, f"({len(ordered) - limit} more)"))
    return lines


def _cut(name: str) -> str:
    return name if len(name) <= _WIDE else name[: _WIDE - 1] + "…"


def _becomes(column: Column) -> str:
    fields = ", ".join(column.fields) or "-"
    return f"{fields} ({column.verdict})" if column.verdict else fields


def _moment(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S") if moment else "?"


def as_moment(millis: int) -> datetime:
    """Milliseconds since 1970 UTC as a datetime in UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=millis)

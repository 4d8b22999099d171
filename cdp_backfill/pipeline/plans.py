"""The plan: what a run would do with every row, before anything is sent."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from cdp_backfill.model import api_facts
from cdp_backfill.model.keyword_checks import checked_keywords
from cdp_backfill.model.mapping import Key
from cdp_backfill.model.outcomes import (
    AMBIGUOUS,
    PROBLEMS,
    READING_COLUMNS,
    UNMAPPED,
    Fix,
    Outcome,
    Problem,
)
from cdp_backfill.model.plurals import count
from cdp_backfill.model.views import SAMPLE, Section, View, duration, fixes_section
from cdp_backfill.pipeline.doubts import doubt_sections
from cdp_backfill.pipeline.job import require_answers
from cdp_backfill.pipeline.notes import harm_notes
from cdp_backfill.pipeline.plan_parts import becomes, by_rows, moment_text, people_lines
from cdp_backfill.pipeline.plan_statistics import IDENTITY
from cdp_backfill.results.progress import megabytes

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from cdp_backfill.inference.proposal import Assumption, Proposal, Question
    from cdp_backfill.model.destination import Destination
    from cdp_backfill.model.mapping import Mapping
    from cdp_backfill.pipeline.job import Job
    from cdp_backfill.pipeline.plan_parts import Column
    from cdp_backfill.pipeline.preparation import Recent
    from cdp_backfill.results.progress import Progress
    from cdp_backfill.results.reports import Report

_MAX_LINES: Final = 12


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would do with every row of a table. The whole table was read for it.

    A plan can be copied, but not pickled: it refers to its table.

    Attributes:
        source: The table, in words.
        proposal: The mapping, with the reasons where it was proposed.
        rows: Rows of the table.
        to_send: Rows that the run would send.
        invalid: Rows that fail a check.
        held: Recent rows that the run would hold back.
        skipped: Rows that the mapping leaves out.
        events: Rows to send by event name; of more than 1,000 names, the further ones are counted
            together as ``"other events"``.
        days: Rows to send by event name and day (UTC), as ``2023-05-01``.
        unknown_events: Rows by value of the event column that is no event; at most 1,000 values.
        problems: Rows by problem; a row can have several.
        fixes: Cells that were changed on reading, by the kind of change.
        columns: What each column becomes.
        first: Earliest time among the rows to send, or None.
        last: Latest time among the rows to send, or None.
        recent: Rows that are recent and can trigger messages to people.
        recent_people: Number of people that the recent rows are about.
        people: Number of people that the rows to send are about.
        people_exact: False where ``people`` is an estimate, because there are millions.
        anonymous: Rows to send that have only an anonymous id.
        anonymous_old: Those of them that are older than 30 days.
        email_ids: Rows to send whose user id has an ``@``.
        internal_ids: Rows to send whose user id begins with ``cio_``.
        long_ids: Rows to send with an id of more than 150 bytes.
        long_names: Rows to send with an event name of more than 100 bytes.
        duplicates: Rows whose message id an earlier row has; an estimate where there are millions.
        mean: Mean bytes of a message.
        largest: Bytes of the largest message.
        body_bytes: Bytes of all requests, before compression.
        requests: Number of requests.
        fill: Mean size of the requests as a share of the byte limit, 0.0 to 1.0.
        seconds: Seconds that the requests take at the rate limit, or None without one.
        samples: The first messages that would be sent.
        assumptions: What the plan takes for granted, and what to pass if it is wrong.
        notes: Further sentences about the table and the mapping.
        url: The address that it would be sent to.
        identities: The plan of the identities that would be sent first, each of which is a row of
            its own; None without ``identify=``.
    """

    source: str
    proposal: Proposal
    rows: int
    to_send: int = 0
    invalid: int = 0
    held: int = 0
    skipped: int = 0
    events: dict[str, int] = field(default_factory=dict)
    days: dict[str, dict[str, int]] = field(default_factory=dict)
    unknown_events: dict[str, int] = field(default_factory=dict)
    problems: dict[Problem, int] = field(default_factory=dict)
    fixes: dict[Fix, int] = field(default_factory=dict)
    columns: tuple[Column, ...]
    first: datetime | None = None
    last: datetime | None = None
    recent: int = 0
    recent_people: int = 0
    people: int = 0
    people_exact: bool = True
    anonymous: int = 0
    anonymous_old: int = 0
    email_ids: int = 0
    internal_ids: int = 0
    long_ids: int = 0
    long_names: int = 0
    duplicates: int = 0
    mean: float = 0.0
    largest: int = 0
    body_bytes: int = 0
    requests: int = 0
    fill: float = 0.0
    seconds: float | None = None
    samples: tuple[dict[str, Any], ...] = ()
    assumptions: tuple[Assumption, ...] = ()
    notes: tuple[str, ...]
    url: str
    identities: Plan | None = None
    _job: Job = field(repr=False)

    @property
    def mapping(self) -> Mapping:
        """The mapping; ``print(plan.mapping)`` shows it as Python."""
        return self.proposal.mapping

    @property
    def unmapped(self) -> int:
        """Rows that the run would leave out because nobody mapped their event value."""
        return sum(n for problem, n in self.problems.items() if problem.code == UNMAPPED)

    @property
    def questions(self) -> tuple[Question, ...]:
        """The questions that the table itself does not answer."""
        return self.proposal.questions

    @checked_keywords
    def send(
        self,
        *,
        progress: bool | Progress = True,
        journal: str | Path | bool | None = None,
        canary: int | None = None,
        destination: Destination | None = None,
        recent: Recent | None = None,
        processes: int = 1,
        outcomes: str | Path | None = None,
    ) -> Report:
        """Send the same table with the same mapping and options.

        Args:
            progress: See :func:`cdp_backfill.send`, as for all arguments.
            journal: A path, True, False, or None for the default of the table.
            canary: Send only the first n rows.
            destination: Where to send; None for the destination of the plan.
            recent: What to do with recent rows; None for what the plan was made with.
            processes: Number of processes that read, check and encode, for files.
            outcomes: Folder for the outcome of every row, or None.

        Returns:
            What became of every row.

        Raises:
            MappingError: A question of the plan is open.
            SourceError: The table has changed since the plan was made. Nothing was sent.
            BackfillError: As :func:`cdp_backfill.send` does.
        """
        job = self._job
        options = replace(
            job.options,
            progress=progress,
            journal=journal,
            canary=canary,
            destination=destination or job.options.destination,
            recent=recent or job.options.recent,
            processes=processes,
            outcomes=outcomes,
        )
        require_answers(job.proposal)
        # Opened anew, so that a table that has changed since is noticed.
        job = replace(job, source=job.source.reopen(), options=options)
        if (first := job.identities) is not None:
            first_options = replace(options, canary=None, processes=1)
            first = replace(first, source=first.source.reopen(), options=first_options)
            job = replace(job, identities=first)
        return job.send()

    def __copy__(self) -> Self:
        return self  # nothing in it can change

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A plan refers to its table, so it cannot be pickled. Keep its mapping with "
            "plan.mapping.save('mapping.toml') and its figures with plan.to_dict()."
        )

    @property
    def counts(self) -> dict[str, int]:
        """Rows by ``to_send``, ``invalid``, ``held`` and ``skipped``."""
        return {
            "to_send": self.to_send,
            str(Outcome.INVALID): self.invalid,
            str(Outcome.HELD): self.held,
            str(Outcome.SKIPPED): self.skipped,
        }

    @property
    def unreadable(self) -> int:
        """Rows that cannot be read, among those that are invalid; see ``unreadable=``."""
        return sum(n for problem, n in self.problems.items() if problem.code == "unreadable")

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain values, ready for ``json.dumps``."""
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
            "assumptions": [asdict(each) for each in self.assumptions],
            "left_out": [asdict(each) for each in self.proposal.left_out],
            "duplicates": self.duplicates,
            "samples": list(self.samples),
            "first": self.first and self.first.isoformat(),
            "last": self.last and self.last.isoformat(),
            "recent": self.recent,
            "recent_people": self.recent_people,
            "people": self.people,
            "people_exact": self.people_exact,
            "anonymous": self.anonymous,
            "anonymous_old": self.anonymous_old,
            "email_ids": self.email_ids,
            "internal_ids": self.internal_ids,
            "long_ids": self.long_ids,
            "long_names": self.long_names,
            "mean_message_bytes": round(self.mean, 1),
            "largest_message_bytes": self.largest,
            "body_bytes": self.body_bytes,
            "requests": self.requests,
            "fill": round(self.fill, 4),
            "seconds_at_rate_limit": self.seconds,
            "alerts": self.alerts,
            "notes": list(self.notes),
            "url": self.url,
            "identities": None if self.identities is None else self.identities.to_dict(),
        }

    def _view(self) -> View:
        title = f"Plan: {self.to_send:,} of {self.rows:,} rows of {self.source} to {self.url}"
        if unreadable := self.unreadable:
            title += f"; {count(unreadable, 'row')} cannot be read"
        if not self.proposal.complete:
            needed = sum(question.needed for question in self.questions)
            title = f"Plan for {self.source}: {count(needed, 'open question')}"
        sections = [
            *doubt_sections(self.questions, self.assumptions, self.proposal),
            Section("Identities, sent first", (), self._identities()),
            Section("Rows", (), [(n, k.replace("_", " ")) for k, n in self.counts.items() if n]),
            Section("Rows to send, by event", (), by_rows(self.events)),
            Section(
                "Other values of the event column",
                (),
                by_rows(self.unknown_events, limit=_MAX_LINES),
                from_table=True,
            ),
            Section(
                "Problems",
                ("rows", "code", "reason"),
                [
                    (rows, problem.code, f"{problem.reason}. {PROBLEMS.get(problem.code, '')}")
                    for problem, rows in sorted(self.problems.items(), key=lambda item: -item[1])
                ],
            ),
            Section("People", (), self._people()),
            fixes_section(self.fixes),
            Section("Size", (), self._size()),
            Section(
                "Columns",
                ("column", "type", "filled", SAMPLE, "becomes"),
                [
                    (
                        column.name or "-",
                        column.kind,
                        f"{column.filled:.0%}",
                        column.sample,
                        becomes(column),
                    )
                    for column in self.columns
                    if column.fields or not self.proposal.complete
                ],
            ),
            Section(
                "Why this mapping",
                ("field", "from", "fits", "reason"),
                [
                    (choice.field, choice.value, f"{choice.confidence:.0%}", choice.reason)
                    for choice in self.proposal.choices
                ],
            ),
            Section(
                f"Facts that the preset {self.proposal.preset!r} relies on",
                (),
                [(fact,) for fact in self.proposal.facts],
            ),
            Section(
                "The first messages",
                (),
                [(json.dumps(sample, ensure_ascii=False),) for sample in self.samples],
                from_table=True,
            ),
        ]
        return View(title, sections, self._shown_notes(), self.alerts)

    @property
    def alerts(self) -> list[str]:
        """What can do harm, in sentences; the plan begins with them."""
        alerts = []
        commands = {p: rows for p, rows in self.problems.items() if p.code == "command"}
        if commands:
            rows = sum(commands.values())
            names = [f"{p.reason.partition(' is ')[0]} ({n:,})" for p, n in commands.items()]
            alerts.append(
                f"{count(rows, 'row')} {'names a command' if rows == 1 else 'name commands'} of "
                "the API, which deletes or changes people, devices or objects: "
                f"{', '.join(names)}. The run does not send {'it' if rows == 1 else 'them'}."
            )
        if self.unmapped:
            alerts.append(
                f"{count(self.unmapped, 'row')} {'has' if self.unmapped == 1 else 'have'} an event "
                "value that nobody mapped. The run leaves "
                f"{'it' if self.unmapped == 1 else 'them'} out and counts "
                f"{'it' if self.unmapped == 1 else 'them'} as missing. {PROBLEMS[UNMAPPED]}"
            )
        if self.unreadable:
            alerts.append(
                f"{count(self.unreadable, 'row')} of {self.rows:,} "
                f"({self.unreadable / self.rows:.1%}) cannot be read and will not be sent. The "
                "failures of the run will have the file, the line and the text of each."
            )
        ambiguous = [n for problem, n in self.problems.items() if problem.code == AMBIGUOUS]
        if ambiguous:
            alerts.append(
                f"{count(sum(ambiguous), 'identity', 'identities')} "
                f"{'has' if sum(ambiguous) == 1 else 'have'} an anonymous id with more than one "
                "user id. Which is right is not known, so the run sends none of them."
            )
        if self.identities is not None:
            alerts += self.identities.alerts
        alerts += harm_notes(self.mapping)
        if self.recent:
            alerts.append(
                f"{count(self.recent, 'row')} of {count(self.recent_people, 'person', 'people')} "
                f"{'is' if self.recent == 1 else 'are'} younger than {api_facts.RECENT_HOURS} "
                "hours and can trigger campaigns that message people. By default a run sends "
                "nothing then; recent='hold' leaves such rows out, recent='send' sends them."
            )
        return alerts

    def _people(self) -> list[tuple[object, ...]]:
        if not self.to_send:
            return []
        rows = {name: getattr(self, name) for name in IDENTITY}
        return people_lines(self.people, rows, exact=self.people_exact)

    def _identities(self) -> list[tuple[object, ...]]:
        """What becomes of the identities, for the plan of the events."""
        if self.identities is None:
            return []
        plan = self.identities
        return [
            *((rows, name.replace("_", " ")) for name, rows in plan.counts.items() if rows),
            *((rows, f"{p.code}: {p.reason}") for p, rows in plan.problems.items()),
        ]

    def _size(self) -> list[tuple[object, ...]]:
        if not self.to_send:
            return []
        times = f"{moment_text(self.first)} to {moment_text(self.last)}"
        size: list[tuple[object, ...]] = [
            *([("time (UTC)", times)] if self.first is not None else []),
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
                "The run leaves them out."
                if self.mapping.duplicates == "skip"
                else "The run sends them too; duplicates='skip' leaves them out."
            )
            has = "has" if self.duplicates == 1 else "have"
            shared = f"the message id of an earlier row. {what}"
            if isinstance(self.mapping.message_id, Key):
                shared = (
                    f"the key of an earlier row, and so its message id. {what} If they are other "
                    "records, name further columns in key()."
                )
            notes.insert(0, f"{count(self.duplicates, 'row')} {has} {shared}")
        if self.to_send and self.mapping.call == "track":
            notes.append(
                "Events of any age count for segments, and a person who enters or leaves a segment "
                "can start campaigns."
            )
        listed_before = {*READING_COLUMNS, *(each.column for each in self.proposal.left_out)}
        left_out = [
            repr(column.name)
            for column in self.columns
            if column.verdict.startswith("left out") and column.name not in listed_before
        ]
        if left_out and self.proposal.complete:
            listed = ", ".join(left_out[:_MAX_LINES])
            more = f" and {len(left_out) - _MAX_LINES} more" if left_out[_MAX_LINES:] else ""
            notes.append(f"Columns that are left out: {listed}{more}.")
        if self.rows and not self.to_send and self.proposal.complete:
            hint = " other_events='send' sends every event." if self.skipped == self.rows else ""
            notes.insert(0, f"Nothing would be sent.{hint}")
        if self.proposal.choices or self.proposal.preset:
            notes.append(
                "The mapping is a proposal. print(plan.mapping) shows it as Python to edit and "
                "pass back; plan.mapping.save('mapping.toml') keeps it."
            )
        return notes

    def __str__(self) -> str:
        return self._view().text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self._view().html()

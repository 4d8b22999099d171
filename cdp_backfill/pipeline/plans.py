"""The plan: what a run would do with every row, before anything is sent."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from cdp_backfill.model import api_facts
from cdp_backfill.model.keyword_checks import checked_keywords
from cdp_backfill.model.mapping import Key
from cdp_backfill.model.outcomes import PROBLEMS, READING_COLUMNS, UNMAPPED, Fix, Outcome, Problem
from cdp_backfill.model.plurals import count
from cdp_backfill.model.views import Section, View, fixes_section
from cdp_backfill.pipeline.doubts import doubt_sections
from cdp_backfill.pipeline.job import require_answers
from cdp_backfill.pipeline.leaving_out import check_same
from cdp_backfill.pipeline.notes import plan_alerts
from cdp_backfill.pipeline.plan_file import file_kind, plan_json, read_plan, write_plan
from cdp_backfill.pipeline.plan_parts import by_rows, columns_section, moment_text, people_lines
from cdp_backfill.pipeline.plan_statistics import IDENTITY
from cdp_backfill.pipeline.plan_time import duration_words
from cdp_backfill.results.progress import Reason, megabytes

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from cdp_backfill.inference.proposal import Assumption, Proposal, Question
    from cdp_backfill.model.destination import Destination
    from cdp_backfill.model.mapping import Mapping
    from cdp_backfill.pipeline.job import Job
    from cdp_backfill.pipeline.plan_parts import Column
    from cdp_backfill.pipeline.preparation import Recent
    from cdp_backfill.results.progress import ProgressChoice
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
        skipped: Rows that are left out.
        events: Rows to send by event name; of more than 1,000 names, the further ones are counted
            together as ``"other events"``.
        days: Rows to send by event name and day (UTC), as ``2023-05-01``.
        unknown_events: Rows by value of the event column that is no event; at most 1,000 values.
        problems: Rows by problem; a row can have several.
        reasons: The invalid rows by reason, each row once, most rows first.
        skipped_reasons: The rows that are left out by reason, each row once, most rows first.
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
        expected_seconds: The least and the most seconds that a run should take, if an answer takes
            100 to 500 ms and the upload is no limit.
        wire_bytes: Estimated bytes of all requests, compressed.
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
    reasons: tuple[Reason, ...] = ()
    skipped_reasons: tuple[Reason, ...] = ()
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
    expected_seconds: tuple[float, float] | None = None
    wire_bytes: int = 0
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
        progress: ProgressChoice = True,
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
        if (excluded := options.exclude) is not None:
            check_same(excluded.again(), excluded.describe())
        job = replace(job, source=job.source.reopen(), options=options)
        if (first := job.identities) is not None:
            first_options = replace(options, canary=None, processes=1, where=None)
            first = replace(first, source=first.source.reopen(), options=first_options)
            job = replace(job, identities=first)
        return job.send()

    def save(self, path: str | Path, *, samples: bool = False) -> None:
        """Write the plan to a file that only you can read.

        Args:
            path: Ends in ``.html`` for a page to show or mail, ``.md`` for a ticket, or ``.json``
                for a file that :meth:`load` reads. The file is replaced if it exists.
            samples: Include cells: one of each column, the values of the event column that are no
                event, and the first messages. Without them, the file has the mapping, and of the
                table only the names of columns and events, numbers and times.

        Raises:
            BadInputError: The name has another ending, or the file cannot be written.

        >>> import pandas as pd
        >>> from tempfile import TemporaryDirectory
        >>> frame = pd.DataFrame({"user_id": ["a"], "event": ["app_open"], "ts": ["2023-05-01"]})
        >>> with TemporaryDirectory() as folder:
        ...     frame.cdp.plan(timestamp="ts").save(f"{folder}/plan.json")
        ...     Plan.load(f"{folder}/plan.json", frame).counts["to_send"]
        1
        """
        shown = self if samples else self._without_cells()
        kind = file_kind(path)
        if kind == "json":
            text = plan_json(self._job, shown.to_dict(), self.url)
        else:
            view = shown._view()  # noqa: SLF001  # of this class
            text = view.page() if kind == "html" else view.markdown()
        write_plan(path, text)

    @classmethod
    def load(
        cls,
        path: str | Path,
        source: Any = None,
        *,
        identify: Any = None,
        exclude: Any = None,
        destination: Destination | None = None,
    ) -> Plan:
        """Read a plan that :meth:`save` wrote as ``.json``, to show and to send it.

        Args:
            path: The file.
            source: The table, which must be the same as when the plan was made. None takes the
                files that the plan names; a plan of an in-memory table needs it.
            identify: The table of identities, if the plan has one that was in memory.
            exclude: The ids to leave out, if the plan has some that were in memory. They must be
                the same as when it was made.
            destination: Where to send. None takes the address of the plan, and the key as
                :func:`cdp_backfill.send` does.

        Raises:
            BadInputError: The file is no plan, or was written by a newer version, or ``exclude=``
                differs.
            SourceError: The table has changed since the plan was made, or cannot be read; the text
                says what has changed.
        """
        saved = read_plan(path)
        job = saved.job(source, identify, destination, exclude)
        first = job.identities
        identities = None
        if saved.identities is not None and first is not None:
            identities = cls(**saved.identities, url=job.url, _job=first)
        return cls(**saved.figures, url=job.url, identities=identities, _job=job)

    def _without_cells(self) -> Plan:
        """The same plan without cells, but for the names of events."""
        columns = (replace(each, sample="") if each.name else each for each in self.columns)
        unknown = self.unknown_events
        hidden = f"{count(len(unknown), 'value')} that samples=True shows"
        questions = tuple(replace(each, example="") for each in self.questions)
        return replace(
            self,
            proposal=replace(self.proposal, questions=questions),
            columns=tuple(columns),
            samples=(),
            unknown_events={hidden: sum(unknown.values())} if unknown else {},
            identities=self.identities and self.identities._without_cells(),  # noqa: SLF001
        )

    def __copy__(self) -> Self:
        return self  # nothing in it can change

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A plan refers to its table, so it cannot be pickled. Save it with "
            "plan.save('plan.json'), and read it again with Plan.load('plan.json')."
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
            "reasons": [asdict(reason) for reason in self.reasons],
            "skipped_reasons": [asdict(reason) for reason in self.skipped_reasons],
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
            "expected_seconds": self.expected_seconds and list(self.expected_seconds),
            "wire_bytes": self.wire_bytes,
            "refusal": self.refusal,
            "alerts": self.alerts,
            "notes": list(self.notes),
            "url": self.url,
            "identities": None if self.identities is None else self.identities.to_dict(),
        }

    @property
    def refusal(self) -> str | None:
        """Why :meth:`send` would not start, in a few words; None if it would.

        >>> import pandas as pd
        >>> import cdp_backfill as cdp
        >>> frame = pd.DataFrame({"uid": ["a"], "ts": ["2023-05-01T10:00:00Z"]})
        >>> opened = cdp.lit("Application Opened")
        >>> print(frame.cdp.plan(user_id="uid", event=opened, timestamp="ts").refusal)
        None
        >>> frame.assign(ts=pd.Timestamp.now("UTC")).cdp.plan(
        ...     user_id="uid", event=opened, timestamp="ts"
        ... ).refusal
        '1 of 1 row is younger than 72 hours'
        """
        if not self.proposal.complete:
            return count(sum(question.needed for question in self.questions), "open question")
        if self.recent and self._job.options.recent == "raise":
            verb = "is" if self.recent == 1 else "are"
            rows = f"{self.recent:,} of {count(self.rows, 'row')}"
            return f"{rows} {verb} younger than {api_facts.RECENT_HOURS} hours"
        return None

    def _headline(self) -> str:
        """What :meth:`send` would do, in one line."""
        if (refusal := self.refusal) is not None:
            return f"Plan for {self.source}: {refusal}, so send refuses to start"
        if not self.to_send:
            return f"Plan: nothing to send of {count(self.rows, 'row')} of {self.source}"
        title = f"Plan: {self.to_send:,} of {self.rows:,} rows of {self.source} to {self.url}"
        if unreadable := self.unreadable:
            title += f"; {count(unreadable, 'row')} cannot be read"
        return title

    def _view(self) -> View:
        sections = [
            *doubt_sections(self.questions, self.assumptions, self.proposal),
            Section("Identities, sent first", (), self._identities()),
            Section("Rows", (), self._rows()),
            Section(
                "Invalid rows, by reason",
                ("rows", "code", "reason"),
                [
                    (each.rows, each.code, f"{each.words}. {PROBLEMS.get(each.code, '')}".strip())
                    for each in self.reasons
                ],
            ),
            Section(
                "Skipped rows, by reason",
                ("rows", "code", "reason"),
                [(each.rows, each.code, each.words) for each in self.skipped_reasons],
            ),
            Section("People", (), self._people()),
            Section("Size and time", (), self._size()),
            Section("Rows to send, by event", (), by_rows(self.events)),
            Section(
                "Other values of the event column",
                (),
                by_rows(self.unknown_events, limit=_MAX_LINES),
                from_table=True,
            ),
            fixes_section(self.fixes),
            columns_section(
                [each for each in self.columns if each.fields or not self.proposal.complete]
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
        return View(self._headline(), sections, self._shown_notes(), self.alerts)

    @property
    def alerts(self) -> list[str]:
        """What can do harm, in sentences; the plan begins with them."""
        return plan_alerts(
            self.mapping,
            self.problems,
            recent=self.recent,
            recent_people=self.recent_people,
            unmapped=self.unmapped,
            unreadable=(self.unreadable, self.rows),
            of_identities=[] if self.identities is None else self.identities.alerts,
        )

    def _rows(self) -> list[tuple[object, ...]]:
        rows: list[tuple[object, ...]] = [
            (n, name.replace("_", " ")) for name, n in self.counts.items() if n
        ]
        if self.recent and self.to_send and not self.held:
            recent = f", {self.recent:,} of them younger than {api_facts.RECENT_HOURS} hours"
            rows[0] = (self.to_send, f"to send{recent}")
        return rows

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
            *((each.rows, f"{each.code}: {each.words}") for each in plan.skipped_reasons),
        ]

    def _size(self) -> list[tuple[object, ...]]:
        if not self.to_send:
            return []
        times = (
            "" if self.first is None else f"{moment_text(self.first)} to {moment_text(self.last)}"
        )
        requests = f"{self.requests:,}, {self.fill:.0%} full, {megabytes(self.body_bytes)}"
        lines: list[tuple[object, ...]] = [
            *([("time (UTC)", times)] if times else []),
            (
                "messages",
                (
                    f"{self.mean:,.0f} bytes on average, "
                    f"the largest {self.largest:,} of {api_facts.MAX_MESSAGE_BYTES:,}"
                ),
            ),
            ("requests", f"{requests}, compressed about {megabytes(self.wire_bytes)}"),
        ]
        if (expected := self.expected_seconds) is not None:
            rate = self.requests / self.seconds if self.seconds else None
            lines.append(("duration", duration_words(expected, rate, self.wire_bytes)))
        return lines

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
            by_event = sum(r.rows for r in self.skipped_reasons if r.code in ("skipped", UNMAPPED))
            hint = " other_events='send' sends every event." if by_event == self.rows else ""
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

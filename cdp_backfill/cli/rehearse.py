"""A whole backfill to a sandbox of its own, and a check that all of it arrived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cdp_backfill import api
from cdp_backfill.local_sandbox import sandbox
from cdp_backfill.model import api_facts
from cdp_backfill.model.plurals import count
from cdp_backfill.model.views import Section, View

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cdp_backfill.pipeline.plans import Plan
    from cdp_backfill.results.progress import Progress
    from cdp_backfill.results.reports import Report
    from cdp_backfill.sources import Unreadable

STORE: Final = "box.db"
"""File of the sandbox in the folder of a rehearsal."""

_STORED_QUERY: Final = """
SELECT coalesce(event, type) AS event, coalesce(substr(timestamp, 1, 10), '-') AS day,
    count(*) AS messages FROM messages GROUP BY 1, 2
"""

_IDENTIFY: Final = ("identify", "-")
"""Event and day of the identify calls, which have neither."""

_MAX_DAYS: Final = 12


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The result of a rehearsal.

    Attributes:
        plan: What the run was to send.
        report: What became of every row, according to the run.
        stored: Messages in the sandbox by event and day.
        ids: Number of different message ids among them.
        store: The sandbox's database.
    """

    plan: Plan
    report: Report
    stored: dict[tuple[str, str], int]
    ids: int
    store: Path

    @property
    def planned(self) -> dict[tuple[str, str], int]:
        """Rows that the run was to send, by event and day."""
        rows = {
            (event, day): rows
            for event, days in self.plan.days.items()
            for day, rows in days.items()
        }
        if self.plan.identities is not None:
            rows[_IDENTIFY] = self.plan.identities.to_send
        return rows

    def differences(self) -> list[tuple[str, str, int, int]]:
        """Event, day, rows planned and messages stored, where the two numbers differ."""
        planned = self.planned
        return [
            (*key, planned.get(key, 0), self.stored.get(key, 0))
            for key in sorted({*planned, *self.stored})
            if planned.get(key, 0) != self.stored.get(key, 0)
        ]

    @property
    def ok(self) -> bool:
        """Whether all is as wanted, and the sandbox holds what was planned."""
        return self.ok_but()

    def ok_but(self, allow: Sequence[str] = ()) -> bool:
        """The same, where some rows may be missing.

        Args:
            allow: Outcomes and codes of rows that may be missing.
        """
        return not self.report.missing(allow=allow) and not self.differences()

    def to_dict(self, *, quote_server: bool = True) -> dict[str, Any]:
        """The rehearsal as plain values; see :meth:`Report.to_dict`."""
        return {
            "report": self.report.to_dict(quote_server=quote_server),
            "stored": sum(self.stored.values()),
            "ids": self.ids,
            "differences": [
                {"event": event, "day": day, "planned": planned, "stored": stored}
                for event, day, planned, stored in self.differences()
            ],
            "recent": self.plan.recent,
            "store": str(self.store),
        }

    def view(self) -> View:
        """What the sandbox holds, beside what was planned."""
        planned, rows = self.planned, list[tuple[object, ...]]()
        for event in sorted({event for event, _ in (*self.stored, *planned)}):
            days = sorted({day for name, day in (*self.stored, *planned) if name == event})
            pairs = [(planned.get((event, d), 0), self.stored.get((event, d), 0)) for d in days]
            agreeing = sum(first == second for first, second in pairs)
            totals = sum(first for first, _ in pairs), sum(second for _, second in pairs)
            rows.append((*totals, f"{agreeing:,} of {len(days):,}", event))
        differing: list[tuple[object, ...]] = [
            (planned, stored, day, event) for event, day, planned, stored in self.differences()
        ]
        total = sum(self.stored.values())
        title = (
            f"Reconciliation: the sandbox holds {total:,} messages with {self.ids:,} different ids"
        )
        where = (
            f"The messages are in {self.store}, an SQLite database; "
            f"cdp-backfill sandbox --store {self.store} shows them on a page."
        )
        notes = [where]
        if repeated := total - self.ids:
            notes.append(
                f"{count(repeated, 'message')} {'has' if repeated == 1 else 'have'} the id of an "
                "earlier one. Whether the API counts such messages as one event is not documented; "
                "duplicates='skip' leaves them out."
            )
        if self.plan.recent:
            notes.append(
                f"{self.plan.recent:,} of the rows are younger than {api_facts.RECENT_HOURS} "
                "hours. In an account they can message people, so send refuses them by default."
            )
        return View(
            title,
            [
                Section("By event", ("planned", "stored", "days that agree", "event"), rows),
                Section(
                    "Days that differ", ("planned", "stored", "day", "event"), differing[:_MAX_DAYS]
                ),
            ],
            notes,
        )


def rehearse(
    source: Any,
    arguments: dict[str, Any],
    folder: Path,
    *,
    where: str | None = None,
    exclude: Any = None,
    identify: Any = None,
    unreadable: Unreadable = "raise",
    progress: bool | Progress = True,
    **faults: Any,
) -> Rehearsal:
    """Send a table to a sandbox of its own, and compare what it holds with the plan.

    Args:
        source: See :func:`cdp_backfill.send`.
        arguments: Keyword arguments of :func:`cdp_backfill.plan` that make the mapping.
        folder: Folder for the sandbox's database and the report.
        where: See :func:`cdp_backfill.send`, as for the next three.
        exclude: See there.
        identify: See there.
        unreadable: See there.
        progress: Show progress.
        **faults: Injected faults; see :func:`cdp_backfill.sandbox`.

    Raises:
        BackfillError: As :func:`cdp_backfill.send` does.
    """
    api.messages(
        source, 1, **arguments, where=where, exclude=exclude, unreadable=unreadable
    )  # open questions come before any file is created
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / STORE
    with sandbox(store=store, **faults) as box:
        plan = api.plan(
            source,
            **arguments,
            where=where,
            exclude=exclude,
            identify=identify,
            destination=box.destination,
            recent="send",
            unreadable=unreadable,
        )
        report = plan.send(progress=progress, journal=False)
        rows = box.sql(_STORED_QUERY).to_dict("records")
        ids = int(box.sql("SELECT count(DISTINCT messageId) AS n FROM messages")["n"][0])
    report.save(folder)
    stored = {(str(row["event"]), str(row["day"])): int(row["messages"]) for row in rows}
    return Rehearsal(plan, report, stored, ids, store)

"""A whole backfill against a box of its own, and whether all of it is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cdp_backfill import api
from cdp_backfill.local_sandbox import sandbox
from cdp_backfill.model import api_facts
from cdp_backfill.model.views import Section, View

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.model.mapping import Mapping
    from cdp_backfill.pipeline.plans import Plan
    from cdp_backfill.results.reports import Report

_STORED: Final = """
SELECT event, substr(timestamp, 1, 10) AS day, count(*) AS messages FROM messages GROUP BY 1, 2
"""

_MAX_DAYS: Final = 12


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What became of a rehearsal.

    Attributes:
        plan: What was to be sent.
        report: What the sender says became of it.
        stored: Messages that the box holds, by event and day.
        ids: Different message ids among them.
        store: The box's database.
    """

    plan: Plan
    report: Report
    stored: dict[tuple[str, str], int]
    ids: int
    store: Path

    def differences(self) -> list[tuple[str, str, int, int]]:
        """Event and day with the rows planned and the messages stored, where these differ."""
        planned = {
            (event, day): rows
            for event, days in self.plan.days.items()
            for day, rows in days.items()
        }
        keys = sorted({*planned, *self.stored})
        return [
            (*key, planned.get(key, 0), self.stored.get(key, 0))
            for key in keys
            if planned.get(key, 0) != self.stored.get(key, 0)
        ]

    @property
    def ok(self) -> bool:
        """Whether every row is delivered or skipped, and the box holds just that."""
        return self.report.ok and not self.differences()

    def to_dict(self) -> dict[str, Any]:
        """The rehearsal as plain values."""
        return {
            "report": self.report.to_dict(),
            "stored": sum(self.stored.values()),
            "ids": self.ids,
            "differences": [
                {"event": event, "day": day, "planned": planned, "stored": stored}
                for event, day, planned, stored in self.differences()
            ],
            "recent": self.plan.recent,
            "store": str(self.store),
        }

    def __str__(self) -> str:
        return f"{self.report}\n\n{self._view().text()}"

    def _view(self) -> View:
        events = sorted({event for event, _ in self.stored} | set(self.plan.days))
        rows: list[tuple[object, ...]] = []
        for event in events:
            planned = self.plan.days.get(event, {})
            stored = {day: n for (name, day), n in self.stored.items() if name == event}
            days = {*planned, *stored}
            same = sum(planned.get(day, 0) == stored.get(day, 0) for day in days)
            told = (sum(planned.values()), sum(stored.values()), f"{same:,} of {len(days):,}")
            rows.append((*told, event))
        differing: list[tuple[object, ...]] = [
            (planned, stored, day, event) for event, day, planned, stored in self.differences()
        ]
        total = sum(self.stored.values())
        title = f"Reconciliation: the sandbox holds {total:,} messages, {self.ids:,} different ids"
        where = (
            f"What it holds is in {self.store}, an SQLite database; "
            f"cdp-backfill sandbox --store {self.store} shows it on a page."
        )
        notes = [where]
        if self.ids < total:
            notes.append(
                f"{total - self.ids:,} messages have the id of another one. Whether the API takes "
                "these for one event is not documented; duplicates='skip' leaves them out."
            )
        if self.plan.recent:
            notes.append(
                f"{self.plan.recent:,} of the rows are younger than {api_facts.RECENT_HOURS} "
                "hours. Sent to an account, they could message people, and are refused by default."
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
    source: Any, mapping: Mapping, folder: Path, *, progress: bool = True, **faults: Any
) -> Rehearsal:
    """Send a table to a box of its own, and compare what it holds with the plan.

    Args:
        source: See :func:`cdp_backfill.send`.
        mapping: What goes where; what is missing of it is proposed.
        folder: Where the box's database and the report are left.
        progress: Show how it is doing.
        **faults: Faults that the sandbox injects; see :func:`cdp_backfill.sandbox`.

    Raises:
        BackfillError: As :func:`cdp_backfill.send` does.
    """
    api.messages(source, 1, mapping)  # asks before anything is made
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / "box.db"
    with sandbox(store=store, **faults) as box:
        plan = api.plan(source, mapping, destination=box.destination, recent="send")
        report = plan.send(progress=progress, journal=False)
        rows = box.sql(_STORED).to_dict("records")
        ids = int(box.sql("SELECT count(DISTINCT messageId) AS n FROM messages")["n"][0])
    report.save(folder)
    stored = {(str(row["event"]), str(row["day"])): int(row["messages"]) for row in rows}
    return Rehearsal(plan, report, stored, ids, store)

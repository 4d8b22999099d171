"""The demo: sends made-up records to the sandbox and compares what arrived."""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from cdp_backfill import api
from cdp_backfill.cli import sample_data
from cdp_backfill.local_sandbox import Sandbox, sandbox
from cdp_backfill.model.outcomes import Outcome
from cdp_backfill.model.views import Section, View

if TYPE_CHECKING:
    from cdp_backfill.results.reports import Report


def run(rows: int, keep: Path | None, *, as_json: bool) -> bool:
    """Write records, plan, send, and compare the report with what the sandbox holds.

    Args:
        rows: Number of records.
        keep: Folder for the records and the report; None keeps nothing.
        as_json: Print all figures as JSON instead of text.

    Returns:
        Whether the sandbox holds exactly what was delivered.
    """
    with ExitStack() as stack:
        box = stack.enter_context(sandbox())
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "records.parquet"
        show = _print_nothing if as_json else print
        started = time.monotonic()
        sample_data.write(path, rows)
        show(
            f"Wrote {rows:,} made-up records to {path.name} in {time.monotonic() - started:.1f} s."
        )
        show(f"The sandbox answers at {box.url} on this machine.\n")
        plan = api.plan(path, sample_data.MAPPING, destination=box.destination)
        show(f"{plan}\n")
        report = plan.send()
        show(f"\n{report}\n")
        reconciliation, agrees = _reconcile(plan.events, report, box)
        show(reconciliation.text())
        if keep:
            report.save(folder)
            show(f"\nThe records, the report and the failures are in {folder}.")
        if as_json:
            events = {
                str(row[0]): {"sent": row[1], "stored": row[2]} for row in _events(reconciliation)
            }
            print(
                json.dumps(
                    {
                        "plan": plan.to_dict(),
                        "report": report.to_dict(),
                        "sandbox": events,
                        "agrees": agrees,
                    }
                )
            )
    return agrees


def _reconcile(planned: dict[str, int], report: Report, box: Sandbox) -> tuple[View, bool]:
    """Rows planned and messages stored, event by event, and whether they agree."""
    totals = box.totals()
    rows: list[tuple[object, ...]] = []
    stored = {
        str(event): (int(messages), int(ids))
        for event, messages, ids in zip(
            totals.index, totals["messages"], totals["ids"], strict=True
        )
    }
    rows.extend(
        (event, planned.get(event, 0), *stored.get(event, (0, 0)))
        for event in sorted({*planned, *stored})
    )
    delivered = report.counts[Outcome.DELIVERED]
    agrees = all(row[1] == row[2] for row in rows) and delivered == int(totals["messages"].sum())
    title = "The sandbox holds exactly what was delivered"
    if not agrees:
        title = "THE SANDBOX DOES NOT HOLD WHAT WAS DELIVERED"
    header = ("event", "to send", "stored", "distinct ids")
    return View(title, [Section("Per event", header, rows)]), agrees


def _events(view: View) -> list[tuple[object, ...]]:
    return view.sections[0].rows


def _print_nothing(_: str) -> None:
    pass

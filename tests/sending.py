"""Sends to the sandbox, and the outcomes of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cdp_backfill as cdp
from tests.rows import OPENED

if TYPE_CHECKING:
    from cdp_backfill.local_sandbox import Sandbox


def send(
    table: Any, box: Sandbox, mapping: cdp.Mapping | None = OPENED, **options: Any
) -> cdp.Report:
    """Send to the sandbox without a progress display."""
    return cdp.send(table, mapping, destination=box.destination, progress=False, **options)


def counts(report: cdp.Report) -> dict[str, int]:
    """The rows by outcome, without zeros."""
    return {outcome: rows for outcome, rows in report.counts.items() if rows}

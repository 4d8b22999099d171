"""What is left out is chosen: rows of an event that nobody mapped are missing, loudly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import cdp_backfill as cdp
from tests.rows import OPENED, opens
from tests.sending import counts

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

MAPPED = OPENED.to_dict() | {"event": "action", "events": {"app_open": "Application Opened"}}


def _frame(*values: str) -> Any:
    return opens(len(values), action=list(values))


@pytest.mark.parametrize(
    ("other_events", "outcome", "code", "is_missing"),
    [
        (None, "invalid", "unknown_event", True),
        ("invalid", "invalid", "unknown_event", True),
        ("unmapped", "skipped", "unmapped_event", True),
        ("skip", "skipped", "skipped", False),
        ("send", "delivered", "", False),
    ],
)
def test_what_becomes_of_other_events(
    box: Sandbox, other_events: str | None, outcome: str, code: str, is_missing: bool
) -> None:
    """Chosen or not: counts, failures, ``ok`` and the error agree, and so does the plan."""
    mapping = cdp.Mapping.from_dict(
        MAPPED | ({} if other_events is None else {"other_events": other_events})
    )
    frame = _frame("app_open", "other", "other")
    plan = cdp.plan(frame, mapping, destination=box.destination)
    report = plan.send(progress=False)
    assert counts(report) in (
        {"delivered": 1, outcome: 2},
        {"delivered": 3},
    )
    assert report.counts[outcome] == 2 + (outcome == "delivered")
    assert report.ok is not is_missing
    assert list(report.failures["cdp_code"]) == [code] * 2 * is_missing
    is_unmapped = code == "unmapped_event"
    assert (report.unmapped, plan.unmapped) == (2 * is_unmapped, 2 * is_unmapped)
    assert ("nobody mapped" in " ".join(str(plan).split())) is is_unmapped
    if is_missing:
        with pytest.raises(cdp.UndeliveredError, match="2 of 3 rows not delivered"):
            report.raise_for_failures()
    shown = [row.get("cdp_code", "") for row in frame.cdp.messages(3, mapping)]
    assert shown == ["", code, code]


def test_a_proposal_does_not_choose(box: Sandbox, tmp_path: Path) -> None:
    """What a plan proposes stays loud in its mapping and through resume until one chooses."""
    frame = _frame("app_open", "app_open", "other")
    frame.to_parquet(tmp_path / "t.parquet")
    how: dict[str, Any] = {"destination": box.destination, "progress": False}
    plan = cdp.plan(tmp_path / "t.parquet", destination=box.destination)
    assert plan.mapping.other_events == "unmapped"
    report = cdp.send(tmp_path / "t.parquet", journal=tmp_path / "j", **how)
    assert (counts(report), report.ok) == ({"delivered": 2, "skipped": 1}, False)
    assert cdp.resume(tmp_path / "j", **how).unmapped == 1
    chosen = cdp.send(tmp_path / "t.parquet", other_events="skip", **how)
    assert (counts(chosen), chosen.ok) == ({"delivered": 2, "skipped": 1}, True)
    repaired = report.failures.cdp.send(events={"other": "Application Opened"}, **how)
    assert counts(report + repaired) == {"delivered": 3}
    assert (report + repaired).ok

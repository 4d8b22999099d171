"""What a type checker infers for the public calls; ``make types`` checks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_type

import pandas as pd

import cdp_backfill as cdp

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_types_of_plan_and_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each public call and attribute has the type that its documentation names."""
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame({"uid": ["a", None], "ts": ["2023-05-01T10:00:00Z"] * 2})
    mapping = cdp.Mapping(user_id="uid", timestamp="ts", event=cdp.lit("Application Opened"))
    assert_type(mapping.to_toml(), str)
    assert_type(cdp.Mapping.from_toml(mapping.to_toml()), cdp.Mapping)
    with cdp.sandbox() as box:
        assert_type(box, cdp.Sandbox)
        assert_type(box.destination, cdp.Destination)
        assert_type(box.destination.api_key, cdp.Secret | None)
        assert_type(box.events(), pd.DataFrame)
        plan = cdp.plan(frame, mapping, destination=box.destination)
        assert_type(plan, cdp.Plan)
        assert_type(plan.counts, dict[str, int])
        assert_type(plan.mapping, cdp.Mapping)
        assert_type(plan.columns, tuple[cdp.Column, ...])
        assert_type(plan.questions, tuple[cdp.Question, ...])
        assert_type(plan.proposal.choices, tuple[cdp.Choice, ...])
        assert_type(plan.problems, dict[cdp.Problem, int])
        assert_type(plan.fixes, dict[cdp.Fix, int])
        assert_type(plan.samples, tuple[dict[str, Any], ...])
        report = plan.send(progress=False, journal="j.cdp-journal", canary=1)
        assert_type(report, cdp.Report)
        assert_type(
            cdp.send(frame, mapping, destination=box.destination, progress=False), cdp.Report
        )
        again = cdp.resume("j.cdp-journal", frame, destination=box.destination, progress=False)
        assert_type(again, cdp.Report)
    assert_type(report.counts, dict[str, int])
    assert_type(report.rows, int)
    assert_type(report.ok, bool)
    assert_type(report.requests, int)
    assert_type(report.seconds, float)
    assert_type(report.maybe_twice, int)
    assert_type(report.failures, pd.DataFrame)
    assert_type(report.by_reason(), pd.DataFrame)
    assert_type(report.timeline, tuple[cdp.Snapshot, ...])
    assert_type(report.journal, "Path | str | None")
    assert_type(report.to_dict(), dict[str, Any])
    assert_type(report + again, cdp.Report)
    assert report.counts[cdp.Outcome.DELIVERED] == 1


def test_a_display_of_ones_own_is_a_progress() -> None:
    """Whatever has update() and close() shows progress."""

    class Display:
        def update(self, snapshot: cdp.Snapshot) -> None:
            assert_type(snapshot.rows, int)
            assert_type(snapshot.seconds, float)

        def close(self) -> None:
            pass

    display: cdp.Progress = Display()
    frame = pd.DataFrame({"uid": ["a"], "ts": ["2023-05-01T10:00:00Z"]})
    with cdp.sandbox() as box:
        report = cdp.send(
            frame,
            user_id="uid",
            timestamp="ts",
            event=cdp.lit("Application Opened"),
            destination=box.destination,
            progress=display,
        )
    assert report.ok

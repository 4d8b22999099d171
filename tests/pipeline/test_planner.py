"""What a plan says, and that it is what is sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import cdp_backfill as cdp
from cdp_backfill import Mapping, MappingError
from cdp_backfill.model import api_facts
from cdp_backfill.model.outcomes import FIXES, PROBLEMS
from tests.rows import OPENED, built, codes, opens, payloads
from tests.sending import counts

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

LARGE = "x" * 20_000


# --- what is too large -----------------------------------------------------------------------


def test_large_columns_are_dropped_on_request(box: Sandbox) -> None:
    """The largest of the named ones goes first, until the message fits; each row is recorded."""
    frame = opens(4, trace=["", LARGE, LARGE, LARGE], log=["", "", LARGE + "y", "z" * 40_000], n=1)
    options: dict[str, Any] = {"oversize": "drop_largest", "droppable": ["trace", "log"]}
    plan = frame.cdp.plan(OPENED, **options, destination=box.destination)
    assert plan.counts["to_send"] == 4
    assert {fix.column: cells for fix, cells in plan.fixes.items()} == {"log": 2}
    report = plan.send(progress=False)
    assert counts(report) == {"delivered": 4}
    assert report.dropped[["cdp_row", "cdp_dropped"]].to_numpy().tolist() == [
        [2, "log"],
        [3, "log"],
    ]
    sent = box.events()["properties"]
    assert [sorted(properties) for properties in sent] == [
        ["log", "n", "trace"],
        ["log", "n", "trace"],
        ["n", "trace"],
        ["n", "trace"],
    ]
    assert "left out, because the message was too large" in str(report)


def test_what_may_not_be_dropped_stays_invalid() -> None:
    """A column that is not named is never dropped, and is blamed."""
    frame = opens(2, trace=LARGE * 2, keep=["", LARGE * 2])
    plan = frame.cdp.plan(OPENED, oversize="drop_largest", droppable=["trace"])
    assert plan.counts["to_send"] == 1
    ((problem, rows),) = plan.problems.items()
    assert (problem.code, problem.column, rows) == ("oversize", "keep", 1)


def test_dropped_rows_are_saved(box: Sandbox, tmp_path: Path) -> None:
    """The saved report says which column of which row of which file was left out."""
    path = tmp_path / "rows.parquet"
    opens(3, trace=["", "", LARGE * 2]).to_parquet(path)
    report = cdp.send(
        path,
        OPENED,
        oversize="drop_largest",
        droppable=["trace"],
        destination=box.destination,
        progress=False,
    )
    report.save(tmp_path / "out")
    saved = pd.read_parquet(tmp_path / "out" / "dropped.parquet")
    assert saved.to_numpy().tolist() == [[str(path), 2, "trace"]]


@pytest.mark.parametrize(
    "options",
    [
        {"oversize": "drop_largest"},
        {"droppable": ["trace"]},
        {"oversize": "drop_largest", "droppable": ["nosuch"]},
        {"oversize": "drop_largest", "droppable": ["uid"]},
        {"oversize": "cut"},
    ],
)
def test_what_cannot_be_dropped_is_told_first(options: dict[str, Any]) -> None:
    """Columns must be named, be there, and not be who, what or when."""
    with pytest.raises(MappingError):
        opens(1, trace="x").cdp.plan(OPENED, **options)


# --- duplicates --------------------------------------------------------------------------------


def test_duplicates_are_counted_and_left_out_on_request(box: Sandbox) -> None:
    """Rows that are equal, or share a given message id, are sent once; the first of them."""
    frame = opens(5, eid=["a", "b", "a", None, "b"], n=range(5))
    plan = frame.cdp.plan(OPENED, message_id="eid")
    assert plan.duplicates == 2
    assert "2 rows have the message id of an earlier row" in str(plan)
    skipping = frame.cdp.plan(OPENED, message_id="eid", duplicates="skip")
    assert skipping.counts == {"to_send": 3, "invalid": 0, "held": 0, "skipped": 2}
    report = frame.cdp.send(
        OPENED, message_id="eid", duplicates="skip", destination=box.destination, progress=False
    )
    assert counts(report) == {"delivered": 3, "skipped": 2}
    assert "2 rows were skipped: an earlier row has the same message id" in str(report)
    assert [item["n"] for item in box.events()["properties"]] == [0, 1, 3]


def test_equal_rows_are_duplicates_across_chunks(box: Sandbox) -> None:
    """Without an id column, rows of the same content are the same message, however far apart."""
    frame = pd.concat([opens(9_000), opens(9_000)], ignore_index=True)
    assert frame.cdp.plan(OPENED).duplicates == 9_000
    report = frame.cdp.send(
        OPENED, duplicates="skip", destination=box.destination, progress=False, journal=False
    )
    assert counts(report) == {"delivered": 9_000, "skipped": 9_000}
    assert len(box.events()) == 9_000


def test_duplicates_and_a_journal(box: Sandbox, tmp_path: Path) -> None:
    """A second run knows the first of two equal rows as delivered and still skips the other."""
    frame = pd.concat([opens(3), opens(3)], ignore_index=True)
    options: dict[str, Any] = {"destination": box.destination, "progress": False}
    for _ in range(2):
        report = frame.cdp.send(
            OPENED, duplicates="skip", journal=tmp_path / "j.cdp-journal", **options
        )
        assert counts(report) == {"delivered": 3, "skipped": 3}
    assert len(box.events()) == 3


# --- words for nothing, and times out of range -------------------------------------------------


def test_words_for_nothing_in_every_column() -> None:
    """The stated words are empty cells of who, what, when and of properties alike."""
    columns = {"dev": ["n/d", "d2"], "name": ["n/d", "x"], "when": ["n/d", "2023-05-01"]}
    messages = built(columns, nulls=["n/d"], anonymous_id="dev", timestamp="when")
    assert codes(messages) == {0: ["missing_time"]}
    assert [message.get("properties") for message in payloads(messages)][1] == {
        "name": "x",
        "ts": "2023-05-01T10:00:00Z",
    }
    assert {(fix.code, fix.column) for fix in messages.problems.fixes} == {
        ("null_word", "dev"),
        ("null_word", "name"),
        ("null_word", "when"),
        ("midnight", "when"),
    }


def test_the_clock_decides_what_lies_ahead() -> None:
    """A day ahead of the injected clock is a clock that is wrong; more is no event."""
    now = datetime(2024, 1, 1, tzinfo=UTC)
    frame = opens(3, ts=["2024-01-01T23:00:00Z", "2024-01-02T01:00:00Z", "2008-07-09T23:59:59Z"])
    plan = frame.cdp.plan(OPENED, now=now)
    assert {problem.code: rows for problem, rows in plan.problems.items()} == {
        "in_future": 1,
        "too_early": 1,
    }
    assert plan.recent == 1
    assert frame.cdp.plan(OPENED, now=now, earliest="1999-12-31").counts["invalid"] == 1
    with pytest.raises(MappingError, match="earliest must be a day such as"):
        frame.cdp.plan(OPENED, earliest="last year")


# --- the plan and what is sent -----------------------------------------------------------------


def test_a_plan_says_what_each_column_becomes() -> None:
    """Type, share filled, a cell, fields and verdict; derived ones and constants as well."""
    frame = opens(4, v=[1.0, 1.1, None, 2.0], info='{"a": 1}', secret="s")
    plan = frame.cdp.plan(
        user_id="uid",
        event=cdp.lit("Application Opened"),
        timestamp="ts",
        properties={"version": "v", "a": "a"},
        derive={"a": "info->>'$.a'"},
        rest="drop",
    )
    lines = {column.name: column for column in plan.columns}
    assert (lines["v"].filled, lines["v"].sample, lines["v"].kind) == (0.75, "1.0", "float")
    assert lines["v"].fields == ("properties.version",)
    assert lines["v"].verdict == "3 version_float"
    assert lines["info"].verdict == "feeds derive"
    assert lines["a"].verdict == "derived"
    assert lines["secret"].verdict == "left out"
    assert lines[None].fields == ("event",)
    assert "Columns that are left out: 'secret'." in str(plan)


def test_a_plan_shows_the_first_messages() -> None:
    """Three payloads exactly as they would be sent, in text, HTML and the dict."""
    frame = opens(5, n=range(5))
    plan = frame.cdp.plan(OPENED)
    assert list(plan.samples) == frame.cdp.messages(3, OPENED)
    assert plan.to_dict()["samples"] == list(plan.samples)
    assert plan.samples[0]["messageId"] in str(plan)
    assert plan.samples[0]["messageId"] in plan._repr_html_()
    json.dumps(plan.to_dict())


@pytest.mark.parametrize("kind", ["frame", "file", "stream"])
def test_a_plan_refuses_a_table_that_has_changed(box: Sandbox, tmp_path: Path, kind: str) -> None:
    """Whatever changed in frame, file or query since, nothing is sent."""
    frame = opens(3, n=[1, 2, 3])
    path = tmp_path / "rows.parquet"
    frame.to_parquet(path)

    class Query:
        """A relation: what it gives is made anew each time."""

        def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
            return pa.Table.from_pandas(frame).__arrow_c_stream__(requested_schema)

    source: Any = {"frame": frame, "file": path, "stream": Query()}[kind]
    plan = cdp.plan(source, OPENED, destination=box.destination)
    assert plan.send(progress=False).counts["delivered"] == 3
    frame.loc[1, "n"] = 7
    frame.to_parquet(path)
    with pytest.raises(cdp.SourceError, match="has changed since the plan was made"):
        plan.send(progress=False)
    assert len(box.events()) == 3


def test_a_plan_of_many_types_can_be_sent(box: Sandbox) -> None:
    """Types that the fingerprint does not know do not stand in the way of sending."""
    table = pa.table(
        {
            "uid": ["u1"],
            "ts": [datetime(2023, 5, 1, tzinfo=UTC)],
            "half": pa.array(np.array([0.5], np.float16)),
            "wide": pa.array([1], pa.decimal256(50, 0)),
            "words": pa.array(["a"]).dictionary_encode(),
            "json": pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(["[1]"])),
        }
    )
    report = cdp.plan(table, OPENED, destination=box.destination).send(progress=False)
    assert report.counts["delivered"] == 1


def test_problems_and_fixes_of_a_run_are_in_its_report(box: Sandbox) -> None:
    """What was mended is counted in the report as in the plan."""
    frame = opens(3, uid=[" a ", "b", "NULL"], dev="d")
    plan = frame.cdp.plan(OPENED, anonymous_id="dev", destination=box.destination)
    report = plan.send(progress=False)
    assert report.fixes == plan.fixes
    assert {fix.code for fix in report.fixes} == {"trimmed", "null_word"}
    assert "Fixed while reading" in str(report)
    assert report.to_dict()["fixes"]


def test_every_code_has_its_words() -> None:
    """Each code that can come up says what was done or what to do."""
    assert all(text and text[0].islower() for text in FIXES.values())
    assert all(text.endswith(".") for text in PROBLEMS.values())


def test_two_presets_or_a_mapping_beside_one() -> None:
    """A preset is a mapping: only one can be meant."""
    with pytest.raises(MappingError, match="Pass either mapping= or preset=, not both"):
        opens(1).cdp.plan(OPENED, preset="ga4")


def test_the_largest_message_is_measured() -> None:
    """Mean and largest are those of the messages alone."""
    frame = opens(2, n=["", "x" * 1_000])
    plan = frame.cdp.plan(OPENED)
    sizes = [len(json.dumps(m, separators=(",", ":"))) for m in frame.cdp.messages(2, OPENED)]
    assert plan.largest == max(sizes) <= api_facts.MAX_MESSAGE_BYTES
    assert plan.mean == sum(sizes) / 2


def test_a_mapping_with_all_of_it_is_kept(tmp_path: Path) -> None:
    """Every field goes to TOML and back, and to Python and back."""
    mapping = Mapping(
        user_id="u",
        event="e",
        timestamp="t",
        derive={"u": "a->>'$.b'"},
        expand=["p"],
        json=["j"],
        nulls=["NULL", "-"],
        earliest="2000-01-01",
        oversize="drop_largest",
        droppable=["j"],
        duplicates="skip",
        context={"device": {"model": "m"}},
        properties={f"name_{number}": f"column_{number}" for number in range(9)},
    )
    mapping.save(tmp_path / "m.toml")
    assert Mapping.load(tmp_path / "m.toml") == mapping
    assert eval(mapping.to_python(), {"cdp": cdp}) == mapping  # noqa: S307
    assert max(len(line) for line in str(mapping).splitlines()) <= 80


def test_what_is_given_replaces_parts_of_the_mapping_of_failures(box: Sandbox) -> None:
    """A repair by an option keeps who, what and when as they were."""
    frame = opens(2, a=["x", "y"], trace=["", LARGE * 2]).rename(columns={"uid": "member"})
    given: dict[str, Any] = {"user_id": "member", "event": cdp.lit("Application Opened")}
    report = frame.cdp.send(**given, timestamp="ts", destination=box.destination, progress=False)
    assert counts(report) == {"delivered": 1, "invalid": 1}
    again = report.failures.cdp.send(
        oversize="drop_largest",
        droppable=["trace"],
        destination=box.destination,
        progress=False,
    )
    assert counts(again) == {"delivered": 1}
    assert box.events()["userId"].tolist() == ["u0", "u1"]


def test_a_plan_can_be_sent_elsewhere(box: Sandbox) -> None:
    """Where to is the last thing that one decides."""
    plan = opens(2).cdp.plan(OPENED)
    assert plan.send(destination=box.destination, progress=False).ok
    assert len(box.events()) == 2

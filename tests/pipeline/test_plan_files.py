"""Saved plans: what is in their files, how they are sent, and when they are refused."""

from __future__ import annotations

import html
import json
import os
import re
import stat
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.pipeline import plan_file
from cdp_backfill.pipeline.job import SendOptions
from cdp_backfill.pipeline.plan_time import expected_seconds
from tests.rows import OPENED, opens
from tests.sending import counts, send

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

WHO_WHAT_WHEN: Final[dict[str, Any]] = {
    "user_id": "uid",
    "event": "action",
    "timestamp": "ts",
    "events": {"app_open": "Application Opened"},
    "other_events": "skip",
}
NOW: Final = pd.Timestamp("2023-05-02T00:00:00Z").to_pydatetime()


def table(rows: int = 6) -> pd.DataFrame:
    """Rows with cells that are found nowhere else, one invalid, one skipped."""
    return pd.DataFrame(
        {
            "uid": [None, *(f"secret-user-{n}" for n in range(1, rows))],
            "action": ["app_open"] * (rows - 1) + ["secret-action"],
            "ts": pd.date_range("2022-05-01", periods=rows, freq="h", tz="UTC"),
            "email": "secret@example.com",
            "note": "secret-note",
        }
    )


def shown(plan: cdp.Plan) -> str:
    """All that a plan shows, without the times of the machine."""
    return f"{plan}{json.dumps(plan.to_dict())}"


SOURCES: Final[dict[str, Callable[[pd.DataFrame, Path], Any]]] = {
    "frame": lambda frame, _: frame,
    "arrow": lambda frame, _: pa.table(frame),
    "parquet": lambda frame, path: frame.to_parquet(path / "rows.parquet") or path / "rows.parquet",
    "csv": lambda frame, path: frame.to_csv(path / "rows.csv", index=False) or path / "rows.csv",
    "folder": lambda frame, path: [
        frame.iloc[:3].to_parquet(path / "a.parquet"),
        frame.iloc[3:].to_parquet(path / "b.parquet"),
        path,
    ][-1],
}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_loaded_plan_is_the_plan(box: Sandbox, tmp_path: Path, kind: str) -> None:
    """It shows the same, and sends the same messages to the same address."""
    (tmp_path / "data").mkdir()
    source = SOURCES[kind](table(), tmp_path / "data")
    plan = cdp.plan(source, **WHO_WHAT_WHEN, recent="send", destination=box.destination)
    path = tmp_path / "plan.json"
    plan.save(path, samples=True)
    loaded = cdp.Plan.load(path, source if kind in ("frame", "arrow") else None)
    assert shown(loaded) == shown(plan)
    assert loaded.mapping == plan.mapping
    report = loaded.send(progress=False, destination=box.destination)
    assert counts(report) == {"delivered": 4, "invalid": 1, "skipped": 1}
    assert report.planned_seconds == plan.expected_seconds
    assert "the plan expected" in str(report)
    sent = box.events()["messageId"].tolist()
    assert sent[:3] == [message["messageId"] for message in plan.samples]


def test_identities_are_part_of_a_plan(box: Sandbox, tmp_path: Path) -> None:
    """Those of a column, of a file and of a table in memory are sent first, as planned."""
    frame = table().assign(device=[f"d{n}" for n in range(6)], owner="o")
    pairs = pd.DataFrame({"device": ["d1"], "uid": ["u1"]})
    pairs.rename(columns={"uid": "owner"}).to_csv(tmp_path / "pairs.csv", index=False)
    mapping = {**WHO_WHAT_WHEN, "user_id": None, "anonymous_id": "device"}
    path = tmp_path / "plan.json"
    for identify, again in (("owner", None), (str(tmp_path / "pairs.csv"), None), (pairs, pairs)):
        mapping["user_id"] = "uid" if isinstance(identify, pd.DataFrame) else "owner"
        plan = cdp.plan(frame, **mapping, identify=identify, destination=box.destination)
        plan.save(path, samples=True)
        loaded = cdp.Plan.load(path, frame, identify=again)
        assert shown(loaded) == shown(plan)
        report = loaded.send(progress=False, destination=box.destination)
        assert report.identities is not None
        assert report.identities.ok
    with pytest.raises(cdp.SourceError, match="identify="):
        cdp.Plan.load(path, frame)
    with pytest.raises(cdp.SourceError, match="it had 1 row and has 2"):
        cdp.Plan.load(path, frame, identify=pd.concat([pairs, pairs.assign(device="d2")]))


@pytest.mark.parametrize("ending", ["html", "md", "json"])
def test_a_file_has_no_cells_unless_asked(tmp_path: Path, ending: str) -> None:
    """Without samples=True, no value of a row is in it; nobody else can read it."""
    plan = table().cdp.plan(**WHO_WHAT_WHEN)
    path = tmp_path / f"plan.{ending}"
    plan.save(path)
    text = html.unescape(path.read_text("utf-8")).replace("\\", "")
    assert "secret" not in text
    assert all(words in text for words in ("note", "Application Opened", "missing_user"))
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    plan.save(path, samples=True)
    text = html.unescape(path.read_text("utf-8")).replace("\\", "")
    assert {"secret-user-1", "secret-note", "secret-action"} <= set(re.findall(r"[\w-]+", text))
    assert "secret@example.com" not in text  # a column that stays out


@given(st.text(max_size=40), st.lists(st.text(max_size=10), min_size=1, max_size=3))
def test_any_text_is_only_text_in_markdown(caption: str, cells: list[str]) -> None:
    """No cell ends a table, and none becomes a tag, a link or a heading."""
    from cdp_backfill.model.views import Section, View  # noqa: PLC0415

    text = View(caption, [Section(caption, (), [tuple(cells), tuple(cells)])], [caption]).markdown()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    bars = [len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines]
    assert bars == [len(cells) + 1] * 4
    assert not re.search(r"(?<!\\)[<\[]", text)


CHANGES: Final[dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]]] = {
    "a row more": (lambda f: pd.concat([f, f.tail(1)]), "it had 6 rows and has 7"),
    "another cell": (lambda f: f.assign(note=["x", *f["note"][1:]]), "6 rows, with other cells"),
    "a column less": (lambda f: f.drop(columns="email"), "column 'email' is gone"),
    "a column more": (lambda f: f.assign(new=1), "column 'new' is new"),
    "another type": (lambda f: f.assign(note=7), "column 'note' was .*string and is int64"),
    "a needed column less": (lambda f: f.drop(columns="uid"), "column 'uid' is gone"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_table_is_refused(tmp_path: Path, change: str) -> None:
    """One error says what has changed; the same rows in another order are no change."""
    table().cdp.plan(**WHO_WHAT_WHEN).save(tmp_path / "plan.json")
    cdp.Plan.load(tmp_path / "plan.json", table().iloc[::-1])
    alter, words = CHANGES[change]
    with pytest.raises(cdp.SourceError, match=f"has changed since .*{words}"):
        cdp.Plan.load(tmp_path / "plan.json", alter(table()))


def test_changed_files_are_refused(box: Sandbox, tmp_path: Path) -> None:
    """The error names each file with its change, when the plan is loaded and when it is sent."""
    data = tmp_path / "data"
    data.mkdir()
    for name in "abc":
        table().to_csv(data / f"{name}.csv", index=False)
    plan = cdp.plan(data, **WHO_WHAT_WHEN, destination=box.destination)
    plan.save(tmp_path / "plan.json")
    loaded = cdp.Plan.load(tmp_path / "plan.json")
    (data / "a.csv").unlink()
    table(7).to_csv(data / "b.csv", index=False)
    os.utime(data / "c.csv", (1, 1))
    table().to_csv(data / "d.csv", index=False)
    with pytest.raises(cdp.SourceError) as caught:
        cdp.Plan.load(tmp_path / "plan.json")
    for words in (
        r"file 'a.csv' is gone",
        r"file 'd.csv' is new",
        r"file 'b.csv' had \d+ bytes and has \d+",
        r"file 'c.csv' was modified at 1970-01-01 00:00:01.000",
    ):
        assert re.search(words, str(caught.value)), words
    with pytest.raises(cdp.SourceError, match="has changed since the plan was made"):
        loaded.send(progress=False, destination=box.destination)
    assert box.events().empty


def test_a_file_is_the_same_by_any_path(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder that you are in when you plan and when you load does not matter."""
    table().to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    cdp.plan("rows.parquet", **WHO_WHAT_WHEN, destination=box.destination).save("plan.json")
    monkeypatch.chdir(tmp_path / "elsewhere")
    for source in (None, "../rows.parquet"):
        plan = cdp.Plan.load("../plan.json", source)
        assert plan.send(progress=False, destination=box.destination).counts["delivered"] == 4


def test_files_that_are_no_plans(tmp_path: Path) -> None:
    """Each gets one clear error: another ending, no file, no JSON, a newer or a damaged plan."""
    path = tmp_path / "plan.json"
    plan = table().cdp.plan(**WHO_WHAT_WHEN)
    for name in ("plan", "plan.pdf"):
        with pytest.raises(cdp.BadInputError, match=r"\.html, \.md or \.json"):
            plan.save(tmp_path / name)
    with pytest.raises(cdp.BadInputError, match=r"cannot be saved as .*nowhere"):
        plan.save(tmp_path / "nowhere" / "plan.json")
    with pytest.raises(cdp.BadInputError, match="cannot be read"):
        cdp.Plan.load(path, table())
    plan.save(path)
    document = json.loads(path.read_text("utf-8"))
    for text in ("", "{", "[]", "{}", "[" * 10**5, '{"format": 1}'):
        path.write_text(text)
        with pytest.raises(cdp.BadInputError, match="not a plan that can be loaded"):
            cdp.Plan.load(path, table())
    path.write_text(json.dumps(document | {"version": 2}))
    with pytest.raises(cdp.BadInputError, match="has the format 2"):
        cdp.Plan.load(path, table())
    for part in ("plan", "job"):
        for name in document[part]:
            damaged = {key: value for key, value in document[part].items() if key != name}
            path.write_text(json.dumps(document | {part: damaged}))
            if name in ("alerts", "refusal", "url"):
                continue  # they are made anew
            with pytest.raises(cdp.BadInputError, match="is damaged"):
                cdp.Plan.load(path, table())


def test_a_plan_with_questions_is_kept_and_not_sent(tmp_path: Path) -> None:
    """It shows the same, and its questions refuse the run."""
    plan = cdp.plan(opens(3).drop(columns="ts"), identify="uid")
    plan.save(tmp_path / "plan.json", samples=True)
    loaded = cdp.Plan.load(tmp_path / "plan.json", opens(3).drop(columns="ts"))
    assert shown(loaded) == shown(plan)
    with pytest.raises(cdp.MappingError):
        loaded.send(progress=False)


def test_a_table_that_can_be_read_once_is_refused(tmp_path: Path) -> None:
    """A loaded plan compares the rows before they are sent."""
    table().cdp.plan(**WHO_WHAT_WHEN).save(tmp_path / "plan.json")
    with pytest.raises(cdp.BadInputError, match="can only be read once"):
        cdp.Plan.load(tmp_path / "plan.json", pa.table(table()).to_reader())


def test_a_plan_of_a_table_in_memory_needs_it(tmp_path: Path) -> None:
    """The error says how to pass the table."""
    table().cdp.plan(**WHO_WHAT_WHEN).save(tmp_path / "plan.json")
    with pytest.raises(cdp.SourceError, match=r"Plan\.load\(path, df\)"):
        cdp.Plan.load(tmp_path / "plan.json")


def test_a_plan_file_cannot_lead_a_key_elsewhere(tmp_path: Path) -> None:
    """An address that is no region's must be named by whoever loads the plan; no key is saved."""
    elsewhere = cdp.Destination(api_key="hidden-key", base_url="https://api.example.com/v1")
    path = tmp_path / "plan.json"
    table().cdp.plan(**WHO_WHAT_WHEN, destination=elsewhere).save(path, samples=True)
    assert "hidden-key" not in path.read_text("utf-8")
    with pytest.raises(cdp.DestinationError, match=r"https://api\.example\.com/v1.*destination="):
        cdp.Plan.load(path, table())
    assert cdp.Plan.load(path, table(), destination=elsewhere).url == elsewhere.url


def test_every_option_is_kept_or_passed() -> None:
    """A new option of a send is kept in the file of a plan, or is one of each call."""
    names = [item.name for item in fields(SendOptions)]
    assert sorted(names) == sorted((*plan_file.SAVED_OPTIONS, *plan_file.CALL_OPTIONS))


def test_options_of_a_plan_are_those_of_the_run(box: Sandbox, tmp_path: Path) -> None:
    """What the plan holds back, the run of the loaded plan holds back, at the same time."""
    frame = opens(2, ts=["2022-01-01", "2023-05-01"])
    plan = frame.cdp.plan(
        OPENED, recent="hold", now=NOW, context_scope="batch", destination=box.destination
    )
    plan.save(tmp_path / "plan.json")
    report = cdp.Plan.load(tmp_path / "plan.json", frame).send(
        progress=False, destination=box.destination
    )
    assert (
        counts(report)
        == {"delivered": 1, "held": 1}
        == {
            name.replace("to_send", "delivered"): rows for name, rows in plan.counts.items() if rows
        }
    )


# --- what the headline says ------------------------------------------------------------------


def test_the_headline_says_what_send_does(box: Sandbox) -> None:
    """Open questions and recent rows refuse the run, in the plan as in the run."""
    asking = opens(3).drop(columns="ts").cdp.plan()
    assert ", so send refuses to start" in str(asking).splitlines()[0]
    with pytest.raises(cdp.MappingError):
        asking.send(progress=False)
    frame = opens(3, ts=["2022-01-01", "2023-05-01", "2023-05-01"])
    plan = frame.cdp.plan(OPENED, now=NOW, destination=box.destination)
    assert plan.refusal == "2 of 3 rows are younger than 72 hours"
    assert plan.refusal in " ".join(str(plan).split())
    with pytest.raises(cdp.RecentRowsError, match="2 rows of 2 people"):
        plan.send(progress=False)
    for recent in ("hold", "send"):
        allowed = frame.cdp.plan(OPENED, now=NOW, recent=recent, destination=box.destination)
        assert allowed.refusal is None
        assert allowed.send(progress=False).counts["delivered"] == allowed.to_send
    nothing = opens(1, uid=None).cdp.plan(OPENED)
    assert str(nothing).startswith("Plan: nothing to send of 1 row")


@pytest.mark.parametrize("options", [{}, {"duplicates": "skip", "message_id": "uid"}])
def test_recent_rows_count_once_and_alike(box: Sandbox, options: dict[str, Any]) -> None:
    """A recent row that is invalid, too, or a duplicate, is counted in one place, by all."""
    frame = opens(4, uid=["a", "b", "b", "c"], ts="2023-05-01", price=[1.0, 2.0, 2.0, float("inf")])
    plan = frame.cdp.plan(OPENED, now=NOW, **options)
    rows = 2 if options else 3
    assert (plan.recent, plan.recent_people, plan.invalid) == (rows, 2, 1)
    assert sum(plan.counts.values()) == 4
    with pytest.raises(cdp.RecentRowsError, match=f"{rows} rows of 2 people"):
        send(frame, box, now=NOW, **options)
    only_invalid = frame.tail(1)
    assert only_invalid.cdp.plan(OPENED, now=NOW).refusal is None
    assert counts(send(only_invalid, box, now=NOW)) == {"invalid": 1}


def test_invalid_rows_count_once_by_reason() -> None:
    """A row with two problems has one reason that names both; the reasons add up."""
    plan = opens(3, uid=[None, None, "a"], ts=["May 1", "2023-05-01", "May 1"]).cdp.plan(OPENED)
    assert sum(reason.rows for reason in plan.reasons) == plan.invalid == 3
    assert {reason.words for reason in plan.reasons} == {
        "column 'uid' is empty",
        "column 'ts' holds a value that is not a usable time",
        "column 'uid' is empty; column 'ts' holds a value that is not a usable time",
    }


@given(
    requests=st.integers(0, 10**6),
    reading=st.floats(0, 10**4),
    rate=st.none() | st.floats(0.1, 10**4),
    workers=st.none() | st.integers(1, 500),
)
def test_the_expected_time_is_a_range(
    requests: int, reading: float, rate: float | None, workers: int | None
) -> None:
    """It is never below the rate limit, grows with the requests, and its ends are in order."""
    destination = cdp.Destination(rate_limit=rate, workers=workers)
    least, most = expected_seconds(requests, reading, destination)
    assert 0 <= least <= most
    if rate is not None and requests:
        assert least >= (requests - 1) / rate * 0.99 - 1
    more = expected_seconds(requests + 100, reading, destination)
    assert more[0] >= least
    assert more[1] >= most


def test_the_time_of_a_run_is_in_the_range_of_its_plan(box: Sandbox) -> None:
    """At ten requests a second, the limit decides; the report shows both."""
    slow = cdp.Destination(
        api_key=box.destination.api_key, base_url=box.url, rate_limit=20, max_messages=40
    )
    plan = opens(500).cdp.plan(OPENED, destination=slow)
    report = plan.send(progress=False)
    assert report.requests == plan.requests
    assert plan.expected_seconds is not None
    assert report.planned_seconds == plan.expected_seconds
    assert plan.expected_seconds[0] * 0.5 < report.seconds
    assert report.to_dict()["planned_seconds"] == list(plan.expected_seconds)
    assert plan.send(progress=False, canary=1, journal=False).planned_seconds is None
    assert (report + plan.send(progress=False)).planned_seconds is None

"""The order of dates such as 05/06/2023: all cells decide it, or it is asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import cdp_backfill as cdp
from cdp_backfill.api import messages as messages_of
from cdp_backfill.cli.app import app
from cdp_backfill.inference.date_orders import DateOrders

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

START, END = datetime(2010, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
EVENT = cdp.lit("Application Opened")
FORMS = {"DMY": "%d{0}%m{0}{1}", "MDY": "%m{0}%d{0}{1}", "YMD": "{1}{0}%m{0}%d"}
BOTH = ["05/06/2023 10:00", "07/08/2023 11:00"]


def millis(moment: datetime) -> int:
    """Milliseconds since 1970."""
    return int(moment.timestamp() * 1000)


def frame(cells: list[str]) -> pd.DataFrame:
    """A table of events with times as text."""
    ids = [f"u{row}" for row in range(len(cells))]
    return pd.DataFrame({"user_id": ids, "event": "app_open", "when": cells})


def times(box: Sandbox) -> list[datetime]:
    """The times that arrived, in order."""
    return sorted(box.events()["timestamp"])


@settings(max_examples=60)
@given(
    order=st.sampled_from(["DMY", "MDY", "YMD"]),
    sign=st.sampled_from("./-"),
    year=st.sampled_from(["%Y", "%y"]),
    days=st.lists(st.integers(0, 15 * 365), min_size=1, max_size=40),
    split=st.integers(0, 40),
)
def test_the_order_that_wrote_the_dates_is_never_excluded(
    order: Any, sign: str, year: str, *, days: list[int], split: int
) -> None:
    """What is certain is right; a cell that another order cannot read excludes that order."""
    form = FORMS[order].format(sign, "%Y" if order != "YMD" and year == "%Y" else "%y")
    dates = [START + timedelta(days=each) for each in days]
    cells = [date.strftime(form) for date in dates]
    orders = DateOrders(millis(START), millis(END))
    for part in (cells[:split], cells[split:]):
        orders.add(pa.array(part, pa.string()))
    assert orders.dates == len(cells)
    assert order in orders.possible
    assert len(orders.possible) > 1 or orders.possible == [order]
    if "%Y" in form and any(date.day > 12 for date in dates):
        assert orders.possible == [order]
        assert orders.is_certain


def test_one_late_cell_decides_for_all(box: Sandbox, tmp_path: Path) -> None:
    """All cells count, not the first rows; frame, CSV, NDJSON and parquet give the same ids."""
    cells = ["01.02.2023 02:20:24", *["03.04.2023 10:00"] * 90_000, "15.09.2023 02:20:24,5"]
    table = pd.DataFrame({"user_id": ["a"] * len(cells), "event": "app_open", "when": cells})
    assert cdp.plan(table).mapping.date_order == "DMY"
    small = frame(["01.02.2023 02:20:24", "15.09.2023 02:20:24,5", "16.09.2023"])
    small.to_csv(tmp_path / "t.csv", index=False)
    small.to_parquet(tmp_path / "t.parquet")
    small.to_json(tmp_path / "t.ndjson", orient="records", lines=True)
    ids = []
    for source in (small, *(tmp_path / f"t.{kind}" for kind in ("csv", "parquet", "ndjson"))):
        messages = messages_of(source)
        assert [each["timestamp"] for each in messages] == [
            "2023-02-01T02:20:24.000Z", "2023-09-15T02:20:24.500Z", "2023-09-16T00:00:00.000Z",
        ]  # fmt: skip
        ids.append([each["messageId"] for each in messages])
        report = cdp.send(source, destination=box.destination, progress=False, journal=False)
        assert report.counts["delivered"] == 3
    assert len({tuple(each) for each in ids}) == 1


@pytest.mark.parametrize("passed", [{}, {"timestamp": "when"}])
def test_two_readings_are_asked_for(passed: dict[str, Any]) -> None:
    """A plan shows both readings of a cell; the error has no cell; each answer answers it."""
    plan = cdp.plan(frame(BOTH), **passed)
    (question,) = plan.questions
    assert (question.field, question.needed) == ("date_order", True)
    assert "5 June 2023 in DMY and 6 May 2023 in MDY" in question.example
    assert "'05/06/2023 10:00' is 5 June 2023" in str(plan).replace("\n", " ")
    with pytest.raises(cdp.MappingError, match="date_order='DMY' or date_order='MDY'") as caught:
        cdp.send(frame(BOTH), **passed)
    assert "2023" not in str(caught.value)
    for answer, day in zip(question.answers, ("2023-06-05", "2023-05-06"), strict=True):
        keywords = eval(f"dict({answer})")  # noqa: S307  # our own text
        assert messages_of(frame(BOTH), 1, **keywords | passed)[0]["timestamp"][:10] == day


def test_a_saved_plan_shows_no_cell(tmp_path: Path) -> None:
    """The example of a question is a cell, so a file has it only on request."""
    plan = cdp.plan(frame(BOTH))
    for samples in (False, True):
        plan.save(tmp_path / "plan.md", samples=samples)
        assert ("05/06/2023" in (tmp_path / "plan.md").read_text("utf-8")) is samples


def test_dates_that_contradict_each_other_are_asked_for() -> None:
    """No guess is made: how many allow which order is said, and the others are invalid rows."""
    mixed = frame(["15/09/2023"] * 5 + ["09/15/2023"])
    (question,) = cdp.plan(mixed, timestamp="when").questions
    assert "5 with the day first (DMY), 1 with the month first (MDY)" in question.text
    plan = cdp.plan(mixed, timestamp="when", date_order="DMY")
    assert (plan.counts["to_send"], plan.counts["invalid"]) == (5, 1)


def test_years_of_two_digits() -> None:
    """The times that an order would mean count as evidence, if there are enough of them."""
    dates = [START + timedelta(days=97 * row) for row in range(60)]
    plan = cdp.plan(frame([date.strftime("%d.%m.%y") for date in dates]), timestamp="when")
    assert plan.mapping.date_order == "DMY"
    assert any("before there were apps" in each.text for each in plan.assumptions)
    (question,) = cdp.plan(frame(["15.09.23"]), timestamp="when").questions
    assert question.answers == ("date_order='DMY'", "date_order='YMD'")


def test_the_journal_keeps_the_order(box: Sandbox, tmp_path: Path) -> None:
    """A later table that alone would be read in another way, or asked about, is not."""
    options: dict[str, Any] = {
        "destination": box.destination, "progress": False, "journal": tmp_path / "j",
    }  # fmt: skip
    assert cdp.send(frame(["15.09.2023 10:00"]), **options).ok
    assert cdp.send(frame(["15.09.2023 10:00", "05.06.2023 10:00"]), **options).ok
    late = cdp.send(frame(["09.15.2023 10:00"]), **options)
    assert late.by_reason()["code"].tolist() == ["bad_time"]
    resumed = {name: options[name] for name in ("destination", "progress")}
    again = cdp.resume(tmp_path / "j", frame(["07.08.2023 10:00"]), **resumed)
    assert again.ok
    assert [f"{each:%m-%d}" for each in times(box)] == ["06-05", "08-07", "09-15"]


def test_a_whole_mapping_is_used_as_it_is(box: Sandbox) -> None:
    """Without an order, such rows are invalid; so they are in a stream that is read once."""
    mapping = cdp.Mapping(user_id="user_id", timestamp="when", event=EVENT)
    cells = ["15.09.2023", "2023-09-15"]
    for source in (frame(cells), pa.Table.from_pandas(frame(cells)).to_reader()):
        report = cdp.send(
            source, mapping, destination=box.destination, progress=False, journal=False
        )
        assert (report.counts["delivered"], report.counts["invalid"]) == (1, 1)
        assert report.by_reason()["code"].tolist() == ["unclear_time"]
    assert cdp.Mapping.from_toml(mapping.to_toml()) == mapping
    other = cdp.Mapping(date_order="MDY", ambiguous="latest", nonexistent="shift_forward")
    assert cdp.Mapping.from_toml(other.to_toml()) == other
    with pytest.raises(cdp.MappingError, match="date_order must be one of 'DMY', 'MDY', 'YMD'"):
        cdp.Mapping(date_order="dmy")  # type: ignore[arg-type]


def test_local_times_at_clock_changes(box: Sandbox, tmp_path: Path) -> None:
    """Frame, CSV and parquet: invalid unless a rule says otherwise; plan and report count them."""
    cells = ["15.09.2023 02:20:24", "29.10.2023 02:30:00", "26.03.2023 02:30:00"]
    naive = [pd.to_datetime(cell, dayfirst=True) for cell in cells]
    frame(cells).to_csv(tmp_path / "t.csv", index=False)
    frame(cells).assign(when=naive).to_parquet(tmp_path / "t.parquet")
    rules: dict[str, Any] = {"ambiguous": "earliest", "nonexistent": "shift_forward"}
    for source in (frame(cells), tmp_path / "t.csv", tmp_path / "t.parquet"):
        plan = cdp.plan(source, timestamp="when", timezone="Europe/Berlin")
        assert {problem.code: rows for problem, rows in plan.problems.items()} == {
            "ambiguous_time": 1, "nonexistent_time": 1,
        }  # fmt: skip
        options: dict[str, Any] = {
            "timestamp": "when", "timezone": "Europe/Berlin", "progress": False, "journal": False,
            "destination": box.destination,
        }  # fmt: skip
        report = cdp.send(source, **options, **rules)
        assert report.counts["delivered"] == 3
        assert {fix.code: cells for fix, cells in report.fixes.items()} == {
            "shown_twice": 1, "shifted_forward": 1,
        }  # fmt: skip
    expected = ["2023-03-26T01:00", "2023-09-15T00:20", "2023-10-29T00:30"]
    assert sorted({f"{each:%Y-%m-%dT%H:%M}" for each in times(box)}) == expected


def test_on_the_command_line(box: Sandbox, tmp_path: Path, monkeypatch: Any) -> None:
    """The question is asked in options, without a cell; these answer it."""
    monkeypatch.setenv("CUSTOMERIO_CDP_API_KEY", box.api_key)
    path = tmp_path / "t.csv"
    frame([*BOTH, "10/12/2023 02:30"]).to_csv(path, index=False)
    asked = CliRunner().invoke(app, ["plan", str(path)])
    words = " ".join(asked.output.split())
    assert "Pass --date-order DMY or --date-order MDY" in words
    assert "05/06/2023" not in words
    frame([*BOTH, "10/29/2023 02:30", "03/26/2023 02:30"]).to_csv(path, index=False)
    options = ["--timezone", "Europe/Berlin", "--date-order", "MDY", "--base-url", box.url]
    for rules, code in (([], 1), (["--ambiguous", "latest", "--nonexistent", "shift_forward"], 0)):
        sent = CliRunner().invoke(app, ["send", str(path), *options, "--no-journal", *rules])
        assert sent.exit_code == code, sent.output
        words = " ".join(sent.output.split())
        assert ("pass --ambiguous earliest" in words) is (code == 1)
    assert times(box)[-1] == datetime(2023, 10, 29, 1, 30, tzinfo=UTC)

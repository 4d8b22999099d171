"""What quickly tells that times are old never overlooks a recent one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.messages.recency import day_is_old, may_be_recent, old_texts
from cdp_backfill.messages.text import clean_text
from cdp_backfill.messages.times import read_times
from cdp_backfill.sources import open_source
from cdp_backfill.sources.texts.newest_days import NewestDays
from cdp_backfill.sources.texts.objects import Objects

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
RECENT = int((NOW - timedelta(hours=72)).timestamp() * 1_000)
LATEST = int((NOW + timedelta(days=1)).timestamp() * 1_000)

moments = st.one_of(
    st.datetimes(datetime(2026, 11, 10), datetime(2026, 11, 24)),  # noqa: DTZ001
    st.datetimes(datetime(2008, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001
)
forms = st.sampled_from(
    [
        "%Y-%m-%dT%H:%M:%S.000Z",
        "%Y-%m-%d",
        " %Y-%m-%d %H:%M ",
        "%Y-%m-%dT%H:%M:%S-14:00",
        "%Y-%m-%dT%H:%M:%S+1400",
        "%Y%m%d",
        "%Y%m%d%H%M%S",
        "%d/%m/%Y",
        "%d.%m.%Y %H:%M",
        "%d %b %Y",
        "%Y/%m/%d",
        "%s",
        "+%s",
        "0%s",
        "%s000",
        "%s000000.5",
        " %s000000000",
        "x%Y-%m-%d",
    ]
)
texts = st.builds(
    lambda moment, form: moment.replace(tzinfo=UTC).strftime(
        form.replace("%s", str(int(moment.replace(tzinfo=UTC).timestamp())))
    ),
    moments,
    forms,
)


def recent_of(array: Any, unit: str | None = None) -> Any:
    """Where the reader of times finds a recent one."""
    if pa.types.is_string(array.type):
        array = clean_text(array, lambda *_: None)
    times = read_times(array, unit=unit, timezone="Pacific/Kiritimati", latest=LATEST)
    return (times.millis >= RECENT) & (times.millis <= LATEST)


@given(st.lists(texts, min_size=1, max_size=20))
def test_an_old_text_is_old(cells: list[str]) -> None:
    """No text that is passed over by its date is recent, whatever its form and zone."""
    array = pa.array(cells)
    assert not (old_texts(array, RECENT) & recent_of(array)).any()


def test_usual_old_texts_are_passed_over() -> None:
    """What begins with a date of years ago is not read to its end."""
    array = pa.array([None, "2023-05-01T10:00:00Z", "", "2024-12-31", "2026-11-20", "soon"])
    assert old_texts(array, RECENT).tolist() == [False, True, False, True, False, False]


@given(st.lists(texts, min_size=1, max_size=6), st.sampled_from([None, "s", "ms"]))
def test_bounds_of_texts_never_hide_a_recent_one(cells: list[str], unit: str | None) -> None:
    """Where bounds rule recent times out, there is none between them."""
    may = may_be_recent(pa.array(cells), unit=unit, recent=RECENT, latest=LATEST)
    assert may or not recent_of(pa.array(cells), unit).any()


@given(
    st.lists(moments, min_size=1, max_size=6),
    st.sampled_from(["s", "ms", "us", "ns", "date", "number"]),
    st.sampled_from([None, "s", "ms", "ns"]),
)
def test_bounds_of_times_never_hide_a_recent_one(
    cells: list[datetime], kind: str, unit: str | None
) -> None:
    """The same for columns of times, dates and numbers."""
    if kind == "number":
        scale = 1_000 if unit == "ms" else 10**9 if unit == "ns" else 1
        array = pa.array([int(cell.replace(tzinfo=UTC).timestamp()) * scale for cell in cells])
    else:
        unit = None
        array = pa.array(cells).cast(
            pa.date32() if kind == "date" else pa.timestamp(kind), safe=False
        )
    may = may_be_recent(array, unit=unit, recent=RECENT, latest=LATEST)
    assert may or not recent_of(array, unit).any()


def test_bounds_rule_out_what_is_old() -> None:
    """A year of old times, of old text or of old numbers is known to be old without more."""
    for kind, *cells in (
        (pa.timestamp("us"), datetime(2022, 1, 1), None, datetime(2022, 12, 31)),  # noqa: DTZ001
        (pa.string(), "2022-01-01T00:00:00Z", "2022-12-31T00:00:00Z", None),
        (pa.int64(), 1_640_000_000, 1_670_000_000),
        (pa.int64(), 1_640_000_000_000, 1_670_000_000_000),
        (pa.float64(), 1_640_000_000, float("nan")),
        (pa.string(), None),
        (pa.date32(),),
    ):
        array = pa.array(cells, kind)
        assert not may_be_recent(array, unit=None, recent=RECENT, latest=LATEST)


@given(st.lists(st.one_of(st.none(), texts, st.just("2026-11-20")), max_size=20), st.integers(1, 9))
def test_the_newest_day_never_hides_a_recent_time(cells: list[str | None], size: int) -> None:
    """Where the newest day of a column is old, no cell is recent, however the rows are divided."""
    days = NewestDays()
    for start in range(0, len(cells), size):
        days.add("at", pa.array(cells[start : start + size], pa.string()))
    day = days.of("at")
    if day is not None and day_is_old(day, RECENT):
        assert not recent_of(pa.array(cells, pa.string())).any()


@pytest.mark.parametrize("form", ["csv", "json", "ndjson"])
@pytest.mark.parametrize("last", ["2023-05-03 11:00:00", "now", None, "soon", "2023-05-32", "12"])
def test_files_whose_types_were_read(
    form: str, last: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest day is that of all rows or unknown; a recent last row is refused either way."""
    monkeypatch.setattr("cdp_backfill.sources.unpacking.BLOCK_BYTES", 200)
    is_recent = last == "now"
    last = datetime.now(UTC).isoformat() if is_recent else last
    rows = [{"uid": f"u{n}", "at": f"2023-05-0{1 + n % 2}T10:00:00Z", "n": n} for n in range(30)]
    rows.append({"uid": "u", "at": last, "n": 31})
    path = tmp_path / f"table.{form}"
    if form == "csv":
        lines = [f"{row['uid']},{row['at'] or ''},{row['n']}" for row in rows]
        path.write_text("\n".join(["uid,at,n", *lines]))
    else:
        lines = [json.dumps(row) for row in rows]
        path.write_text("[" + ",\n".join(lines) + "]" if form == "json" else "\n".join(lines))
    source = open_source(path).settled(["uid", "at"])
    day = source.newest_day("at")
    known = {"2023-05-03 11:00:00": "2023-05-03", None: "2023-05-02"}
    assert is_recent or str(day) == known.get(last, "None")
    assert source.newest_day("n") is None
    mapping = cdp.Mapping(user_id="uid", timestamp="at", event=cdp.lit("Application Opened"))
    with cdp.sandbox() as box:
        if is_recent:
            with pytest.raises(cdp.RecentRowsError):
                cdp.send(path, mapping, destination=box.destination, progress=False)
        else:
            read: list[list[str]] = []
            batches = Objects.batches

            def noted(self: Objects, number: int, columns: list[str]) -> Any:
                read.append(columns)
                return batches(self, number, columns)

            monkeypatch.setattr(Objects, "batches", noted)
            report = cdp.send(path, mapping, destination=box.destination, progress=False)
            assert report.counts["delivered"] >= 30
            assert form == "csv" or (["at"] in read) is (day is None)

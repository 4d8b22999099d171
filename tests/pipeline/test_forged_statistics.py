"""What a file claims about its rows decides neither the recency guard nor a count."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cdp_backfill as cdp
from tests.rows import OPENED, opens
from tests.sources import footers

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
ROWS, GROUP, RECENT_ROW = 300, 100, 250
OLD = datetime(2022, 1, 1, tzinfo=UTC)

BOUNDS: dict[str, Any] = {
    "old": None,
    "old, in the fields of old writers": None,
    "empty": b"",
    "no text": b"\xff\xfe",
    "without end": b"\x7f" * 40,
    "swapped": None,
}


def written(path: Path, kind: str) -> Path:
    """A file of three row groups, whose last one has a recent row."""
    frame = opens(ROWS)
    frame["ts"] = pd.date_range(OLD, periods=ROWS, freq="8h")
    frame.loc[RECENT_ROW, "ts"] = pd.Timestamp(NOW - timedelta(hours=5))
    options: dict[str, Any] = {}
    if kind == "text":
        frame["ts"] = frame["ts"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    elif kind == "number":
        frame["ts"] = frame["ts"].astype("datetime64[ms, UTC]").astype("int64")
    elif kind == "int96":
        options["use_deprecated_int96_timestamps"] = True
    elif kind == "seconds":
        frame["ts"] = frame["ts"].astype("datetime64[s, UTC]")
    pq.write_table(pa.Table.from_pandas(frame), path, row_group_size=GROUP, **options)
    return path


def forge_times(path: Path, kind: str, lie: str) -> None:
    """Make the statistics of all groups claim something else about the times."""
    old = b"2022-01-01T00:00:00Z" if kind == "text" else None
    if old is None:
        scale = 1 if kind == "seconds" else 1_000
        old = struct.pack("<q", int(OLD.timestamp()) * scale)

    def change(footer: footers.Struct) -> None:
        for group in footers.row_groups(footer):
            chunk = footers.column_chunks(group)[1]
            bounds = BOUNDS[lie]
            if lie == "swapped" and 12 in chunk and 5 in chunk[12][1]:
                bounds = chunk[12][1][5][1], chunk[12][1][6][1]
            chunk[12] = footers.statistics(
                old if bounds is None else bounds, old=lie.startswith("old, in")
            )

    footers.forge(path, change)


@pytest.mark.parametrize("lie", list(BOUNDS))
@pytest.mark.parametrize("kind", ["time", "seconds", "int96", "text", "number"])
def test_statistics_never_decide_the_recency_guard(tmp_path: Path, kind: str, lie: str) -> None:
    """Nothing is sent, whatever the statistics of the times say, and the plan counts the row."""
    path = written(tmp_path / "opens.parquet", kind)
    forge_times(path, kind, lie)
    assert pq.read_metadata(path).num_rows == ROWS
    nowhere = cdp.Destination(api_key="k", base_url="http://127.0.0.1:9/v1")
    with pytest.raises(cdp.RecentRowsError, match="1 row of 1 person is younger"):
        cdp.send(path, OPENED, destination=nowhere, progress=False, now=NOW)
    plan = cdp.plan(path, OPENED, now=NOW)
    assert (plan.rows, plan.recent, plan.recent_people) == (ROWS, 1, 1)


def test_with_processes_and_with_holding(tmp_path: Path) -> None:
    """The same with worker processes; recent='hold' holds exactly the recent row."""
    path = written(tmp_path / "opens.parquet", "time")
    forge_times(path, "time", "old")
    options: dict[str, Any] = {"progress": False, "now": NOW, "processes": 2}
    with cdp.sandbox() as box:
        with pytest.raises(cdp.RecentRowsError, match="Nothing was sent"):
            cdp.send(path, OPENED, destination=box.destination, **options)
        assert len(box.events()) == 0
        report = cdp.send(path, OPENED, destination=box.destination, recent="hold", **options)
    assert (report.counts["held"], report.counts["delivered"]) == (1, ROWS - 1)


def lie_about_cells(footer: footers.Struct) -> None:
    """Claim that no column has a cell, and that none differs from another."""
    for group in footers.row_groups(footer):
        for chunk in footers.column_chunks(group):
            chunk[12] = (footers.STRUCT, {3: (footers.I64, GROUP), 4: (footers.I64, 1)})


def test_null_counts_never_decide_a_count(tmp_path: Path) -> None:
    """A plan counts cells and people itself, and so does a run."""
    path = written(tmp_path / "opens.parquet", "text")
    footers.forge(path, lie_about_cells)
    plan = cdp.plan(path, OPENED, now=NOW)
    assert (plan.to_send, plan.people, plan.recent) == (ROWS, ROWS, 1)
    filled = {column.name: column.filled for column in plan.columns if column.name}
    assert filled == {"uid": 1.0, "ts": 1.0}


def fewer(footer: footers.Struct) -> None:
    """One row group has fewer rows than its columns."""
    footers.row_groups(footer)[1][3] = (footers.I64, GROUP - 10)


def more(footer: footers.Struct) -> None:
    """One row group has more."""
    footers.row_groups(footer)[1][3] = (footers.I64, GROUP + 10)


def more_everywhere(footer: footers.Struct) -> None:
    """All figures of the footer agree on more rows than there are."""
    footer[3] = (footers.I64, ROWS + 10)
    more(footer)
    for chunk in footers.column_chunks(footers.row_groups(footer)[1]):
        chunk[5] = (footers.I64, GROUP + 10)


def other_total(footer: footers.Struct) -> None:
    """The file has fewer rows than its row groups."""
    footer[3] = (footers.I64, ROWS - 10)


def fewer_consistently(footer: footers.Struct) -> None:
    """The file and a row group have fewer rows than the columns."""
    footer[3] = (footers.I64, ROWS - 10)
    fewer(footer)


@pytest.mark.parametrize(
    ("lie", "processes"),
    [(fewer, 1), (more, 1), (other_total, 1), (fewer_consistently, 1), (more_everywhere, 1),
     (more_everywhere, 2)],
)  # fmt: skip
def test_a_wrong_number_of_rows_is_an_error(tmp_path: Path, lie: Any, processes: int) -> None:
    """No row is left out in silence because the footer counts wrongly, and none is made up."""
    path = written(tmp_path / "opens.parquet", "time")
    footers.forge(path, lie)
    with cdp.sandbox() as box, pytest.raises(cdp.BackfillError, match="number of rows"):
        cdp.send(
            path, OPENED, destination=box.destination, progress=False, processes=processes,
            recent="send", now=NOW,
        )  # fmt: skip
    with pytest.raises(cdp.BackfillError, match="number of rows"):
        cdp.plan(path, OPENED, now=NOW)

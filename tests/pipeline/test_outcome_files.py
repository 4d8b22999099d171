"""The outcome of every row as tables beside the run, which other programs read."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

import cdp_backfill as cdp
from cdp_backfill.results import outcome_files
from tests.rows import OPENED, opens
from tests.sending import counts

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox


def _send(table: Any, box: Sandbox, folder: Path, **options: Any) -> cdp.Report:
    how: dict[str, Any] = {"destination": box.destination, "progress": False} | options
    return cdp.send(table, OPENED, outcomes=folder, **how)


def _rows(folder: Path) -> pd.DataFrame:
    """All rows as DuckDB reads them."""
    frame: pd.DataFrame = duckdb.read_parquet(f"{folder}/rows/*.parquet").df()
    return frame


def _ids(box: Sandbox) -> dict[str, str]:
    events = box.events()
    return dict(zip(events["userId"], events["messageId"], strict=True))


@pytest.mark.parametrize(("rows", "processes"), [(0, 1), (50, 1), (50, 2)])
def test_every_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, processes: int
) -> None:
    """Joined back, each row has its outcome and the id that the API stored, run by run."""
    monkeypatch.setattr(outcome_files, "GROUP_ROWS", 7)
    monkeypatch.setattr(outcome_files, "FILE_ROWS", 20)
    bad = {3, 40}
    files = []
    for part in range(2):
        frame = opens(rows, uid=[f"{part}-{n}" for n in range(rows)])
        frame["uid"] = [None if n in bad else uid for n, uid in enumerate(frame["uid"])]
        files.append(tmp_path / f"{part}.csv")
        frame.to_csv(files[-1], index=False)
    with cdp.sandbox() as box:
        first = _send(files, box, tmp_path / "o", journal=tmp_path / "j", canary=max(1, rows // 3))
        second = _send(files, box, tmp_path / "o", journal=tmp_path / "j", processes=processes)
        stored = _ids(box)
    everything = _rows(tmp_path / "o")
    assert len(everything) == 2 * 2 * rows
    for report in (first, second):
        outcomes = report.outcomes()
        assert not outcomes.duplicated(["source", "row"]).any()
        assert outcomes["outcome"].value_counts().to_dict() == counts(report)
        assert outcomes["delivered_before"].sum() == report.delivered_before
    for path, wanted in ((files[0], "0"), (files[1], "1")):
        joined = (
            pd.read_csv(path)
            .reset_index()
            .merge(outcomes[outcomes["source"] == str(path)], left_on="index", right_on="row")
        )
        assert len(joined) == rows
        for _, row in joined.iterrows():
            if row["outcome"] == "delivered":
                assert row["uid"].startswith(wanted)
                assert row["message_id"] == stored[row["uid"]]
            else:
                assert row["code"] == "missing_user"
                assert pd.isna(row["message_id"])


def test_runs_of_a_frame_its_repair_and_its_identities(box: Sandbox, tmp_path: Path) -> None:
    """Each run adds to both tables; the sum of reports has the last outcome of each row."""
    frame = opens(5, uid=[None, *"bcde"], did=list("vwxyz"))
    how: dict[str, Any] = {
        "timestamp": "ts",
        "event": cdp.lit("Application Opened"),
        "destination": box.destination,
        "progress": False,
        "outcomes": tmp_path / "o",
    }
    first = frame.cdp.send(user_id="uid", **how)
    second = first.failures.assign(uid="a").cdp.send(
        destination=box.destination, progress=False, outcomes=tmp_path / "o"
    )
    assert counts(first + second) == {"delivered": 5}
    both = (first + second).outcomes()
    assert both["row"].tolist() == [0, 1, 2, 3, 4]
    assert len(set(both["origin_run"])) == 1
    assert both["outcome"].eq("delivered").all()
    assert set(both["message_id"]) == set(box.events()["messageId"])
    third = frame.cdp.send(user_id="uid", anonymous_id="did", identify="uid", **how)
    assert third.identities is not None
    assert len(third.identities.outcomes()) == third.identities.rows
    runs = pq.read_table(tmp_path / "o" / "runs").to_pandas()
    assert runs["call"].value_counts().to_dict() == {"track": 3, "identify": 1}
    assert runs["state"].eq("done").all()
    assert runs["delivered"].sum() == len(_rows(tmp_path / "o").query("outcome == 'delivered'"))
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "o").rglob("*.parquet")}
    assert sys.platform == "win32" or modes == {0o600}
    assert not list((tmp_path / "o").rglob(".*"))


def test_without_outcomes_it_says_how(box: Sandbox, tmp_path: Path) -> None:
    """The error names the argument; a folder that cannot be is refused before anything is sent."""
    report = cdp.send(opens(2), OPENED, destination=box.destination, progress=False)
    with pytest.raises(cdp.BadInputError, match="outcomes='folder/'"):
        report.outcomes()
    before = len(box.requests())
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", "s3://bucket/outcomes"):
        with pytest.raises(cdp.BadInputError, match="outcomes"):
            _send(opens(2), box, folder, journal=tmp_path / "j")  # type: ignore[arg-type]
    assert len(box.requests()) == before
    assert not (tmp_path / "j").exists()


def test_rows_of_a_run_that_ends_early(box: Sandbox, tmp_path: Path) -> None:
    """Rows that were not read are there as unsent; the run says that it was stopped."""
    frame = opens(100)
    frame.to_parquet(tmp_path / "t.parquet")
    wrong = cdp.Destination(api_key="wrong", base_url=box.url)
    with pytest.raises(cdp.AuthenticationError) as got:
        _send(tmp_path / "t.parquet", box, tmp_path / "o", destination=wrong, journal=False)
    assert got.value.report.outcomes()["outcome"].eq("unsent").sum() == 100
    assert pq.read_table(tmp_path / "o" / "runs").column("state").to_pylist() == ["stopped"]


def test_a_disk_that_fills_up(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run stops and says so; with the journal, the next one writes every row."""

    def full(*_: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(outcome_files._Part, "write", full)
    with pytest.raises(cdp.StoppedError, match="outcomes cannot be written to") as got:
        _send(opens(50), box, tmp_path / "o", journal=tmp_path / "j")
    with pytest.raises(cdp.BadInputError, match="are incomplete"):
        got.value.report.outcomes()
    monkeypatch.undo()
    report = _send(opens(50), box, tmp_path / "o", journal=tmp_path / "j")
    assert len(report.outcomes()) == 50
    assert len(_rows(tmp_path / "o")) == 50


_KILLED = """
import os
import pandas as pd
import cdp_backfill as cdp
from cdp_backfill.results import outcome_files
from tests.rows import OPENED, opens

outcome_files.GROUP_ROWS, outcome_files.FILE_ROWS = 500, 1_000
complete = outcome_files._Part.complete

def count(part):
    complete(part)
    if "rows" in part._path.parts:
        os._exit(9)

outcome_files._Part.complete = count
cdp.send(
    opens(4_000), OPENED, journal={journal!r}, outcomes={folder!r}, progress=False,
    destination=cdp.Destination(api_key={key!r}, base_url={url!r}, max_messages=100),
)
"""


def test_a_kill_leaves_complete_files(box: Sandbox, tmp_path: Path) -> None:
    """What has a name can be read; the resumed run has every row, delivered before or now."""
    names = {"journal": str(tmp_path / "j"), "folder": str(tmp_path / "o")}
    code = _KILLED.format(**names, key=box.api_key, url=box.url)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    left = _rows(tmp_path / "o")
    assert len(left) >= 1_000
    assert left["outcome"].eq("delivered").all()
    assert set(left["message_id"]) <= set(box.events()["messageId"])
    report = cdp.resume(
        tmp_path / "j",
        opens(4_000),
        destination=box.destination,
        outcomes=tmp_path / "o",
        progress=False,
    )
    outcomes = report.outcomes()
    assert len(outcomes) == 4_000
    assert outcomes["delivered_before"].sum() == report.delivered_before > 0
    assert set(outcomes["message_id"]) == set(box.events()["messageId"])
    unfinished = pq.read_table(tmp_path / "o" / "runs").column("ended").null_count
    assert unfinished == 1


def test_few_rows_wait_in_memory(box: Sandbox, tmp_path: Path, monkeypatch: Any) -> None:
    """However many rows there are, only a group of them is kept: bounded by its size."""
    monkeypatch.setattr(outcome_files, "GROUP_ROWS", 500)
    monkeypatch.setattr(outcome_files, "FILE_ROWS", 2_000)
    most = 0
    append = outcome_files.OutcomeFiles.append

    def watch(files: outcome_files.OutcomeFiles, table: Any) -> None:
        nonlocal most
        append(files, table)
        most = max(most, files._rows)

    monkeypatch.setattr(outcome_files.OutcomeFiles, "append", watch)
    report = _send(opens(20_000), box, tmp_path / "o")
    assert report.ok
    assert most < 500
    assert len(list((tmp_path / "o" / "rows").iterdir())) >= 2
    assert len(report.outcomes()) == 20_000

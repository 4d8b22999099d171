"""Reading, checking and encoding in several processes."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cdp_backfill as cdp
from cdp_backfill.sources import ColumnarSource, Source, open_source
from tests.rows import opens
from tests.servers import ReceivedRequest, Reply, run_interrupted, serving

if TYPE_CHECKING:
    from cdp_backfill.local_sandbox import Sandbox

MAPPING = cdp.Mapping(user_id="uid", timestamp="ts", event=cdp.lit("Application Opened"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A parquet file of ten row groups; each hundredth row lacks its user, one is too large."""
    frame = opens(10_000, n=range(10_000), pad="")
    frame.loc[::100, "uid"] = None
    frame.loc[5_555, "pad"] = "x" * 40_000
    path = tmp_path / "opens.parquet"
    pq.write_table(pa.Table.from_pandas(frame), path, row_group_size=1_000)
    return path


def helpers() -> set[int]:
    """Workers that this process has started and not waited for."""
    with open(f"/proc/self/task/{threading.get_native_id()}/children") as actual:  # noqa: PTH123
        started = {int(number) for number in actual.read().split()}
    commands = {number: Path(f"/proc/{number}/cmdline").read_bytes() for number in started}
    return {number for number, command in commands.items() if b"worker_main" in command}


def test_the_same_arrives(path: Path, tmp_path: Path) -> None:
    """However many processes: the same messages with the same ids, and the same failures."""
    held, failed = [], []
    for processes in (1, 3):
        with cdp.sandbox() as box:
            report = cdp.send(
                str(path),
                MAPPING,
                destination=box.destination,
                progress=False,
                processes=processes,
                journal=tmp_path / f"{processes}.journal",
            )
            held.append(box.events().sort_values("messageId", ignore_index=True))
        assert report.counts["delivered"] == 9_899
        assert report.counts["invalid"] == 101
        assert report.fill > 0.5
        failed.append(report.failures)
    same = ["messageId", "userId", "timestamp", "properties", "context"]
    pd.testing.assert_frame_equal(held[0][same], held[1][same])
    one, several = (frame.drop(columns="cdp_run") for frame in failed)
    pd.testing.assert_frame_equal(one, several)
    assert failed[1]["cdp_row"].tolist() == sorted([*range(0, 10_000, 100), 5_555])


def test_a_journal_knows_what_several_processes_sent(
    path: Path, box: Sandbox, tmp_path: Path
) -> None:
    """A second run with the same journal sends nothing again, whatever the number of processes."""
    options: Any = {"destination": box.destination, "progress": False, "journal": tmp_path / "j"}
    assert cdp.send(path, MAPPING, processes=2, **options).delivered_before == 0
    again = cdp.send(path, MAPPING, **options)
    assert again.delivered_before == 9_899
    assert again.requests == 0
    assert (
        cdp.resume(
            tmp_path / "j", processes=3, progress=False, destination=box.destination
        ).requests
        == 0
    )


def test_texts_are_shared_out_by_file(box: Sandbox, tmp_path: Path) -> None:
    """CSV files, of which all cells settle the types, give the same whoever reads them."""
    for number in range(4):
        opens(500, n=range(500)).assign(uid=f"{number}-").to_csv(
            tmp_path / f"{number}.csv", index=False
        )
    source = str(tmp_path / "*.csv")
    options: Any = {"destination": box.destination, "progress": False}
    assert cdp.send(source, MAPPING, processes=2, **options).counts["delivered"] == 2_000
    assert cdp.send(source, MAPPING, **options).counts["delivered"] == 2_000
    assert len(box.duplicates()) == 2_000


def test_parts_hold_every_row_once(path: Path, tmp_path: Path) -> None:
    """Whatever the number of parts, they are the table, and know where their rows are."""
    pq.write_table(pq.read_table(path).slice(0, 0), tmp_path / "empty.parquet")
    pq.write_table(pq.read_table(path).slice(0, 77), tmp_path / "small.parquet")
    source = open_source(str(tmp_path / "*.parquet"))
    whole = list(source.chunks(["n"]))
    places = {
        (c.origin, c.origin_start + i): c.start + i for c in whole for i in range(c.batch.num_rows)
    }
    for count in (1, 2, 7, 50):
        parts = source.parts(count)
        assert len(parts) <= count
        assert sum(part.rows or 0 for part in parts) == source.rows
        actual = {
            (c.origin, c.origin_start + i): c.start + i
            for part in parts
            for c in part.chunks(["n"])
            for i in range(c.batch.num_rows)
        }
        assert actual == places
    late = [chunk.batch.num_rows for chunk in source.parts(2)[1].chunks(["n"], start=9_900)]
    assert sum(late) == 10_077 - 9_900


def test_what_was_never_read_is_unsent(path: Path) -> None:
    """A run that stops knows which rows no process had read, and gives them back."""

    def answer(number: int, _: ReceivedRequest) -> Reply:
        return Reply(401 if number else 200)

    with serving(answer) as server, pytest.raises(cdp.AuthenticationError) as caught:
        cdp.send(
            path,
            MAPPING,
            destination=server.destination(max_messages=50),
            progress=False,
            processes=3,
            journal=False,
        )
    report: cdp.Report = caught.value.report
    assert sum(report.counts.values()) == 10_000
    assert report.counts["delivered"] == 20  # the small first request
    unsent = report.failures.query("cdp_outcome == 'unsent'")
    assert len(unsent) == report.counts["unsent"]
    assert unsent["cdp_row"].is_unique
    assert (unsent["n"] == unsent["cdp_row"]).all()
    assert not helpers()


def test_a_process_that_dies_stops_the_run(path: Path) -> None:
    """Killed for its memory, say: one clear error, and every row has an outcome."""
    killed = threading.Event()

    def answer(*_: Any) -> Reply:
        if not killed.is_set():
            for number in actual():
                os.kill(number, signal.SIGKILL)
            killed.set()
        return Reply()

    mine = threading.get_native_id()

    def actual() -> list[int]:
        with open(f"/proc/self/task/{mine}/children") as children:  # noqa: PTH123
            return [int(number) for number in children.read().split()]

    frame = pd.concat([pd.read_parquet(path)] * 30, ignore_index=True)
    large = path.with_name("large.parquet")
    pq.write_table(pa.Table.from_pandas(frame), large, row_group_size=50_000)
    with (
        serving(answer) as server,
        pytest.raises(cdp.StoppedError, match="ended before it had read its part") as caught,
    ):
        cdp.send(
            large,
            MAPPING,
            destination=server.destination(),
            progress=False,
            processes=2,
            journal=False,
        )
    counts = caught.value.report.counts
    assert sum(counts.values()) == 300_000
    assert counts["unsent"] > 0
    assert not helpers()


def test_an_interrupt_ends_the_helpers_too(path: Path) -> None:
    """A real SIGINT: the report comes out complete, and no process is left behind."""
    frame = pd.concat([pd.read_parquet(path)] * 30, ignore_index=True)
    large = path.with_name("large.parquet")
    pq.write_table(pa.Table.from_pandas(frame), large, row_group_size=50_000)
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.servers import Reply, serving
from tests.pipeline.test_workers import MAPPING, helpers
import cdp_backfill as cdp

def answer(number, seen):
    if number == 3 and seen.raw:
        print("under way\\n", end="", flush=True)
    return Reply()
with serving(answer) as server:
    destination = server.destination(rate_limit=40.0, max_messages=500)
    options = dict(progress=False, journal=False, processes=2)
    report = cdp.send({str(large)!r}, MAPPING, destination=destination, **options)
    print(report.interrupted, sum(report.counts.values()), report.counts["unsent"] > 0, helpers())
"""
    assert run_interrupted(code) == "True 300000 True set()"


def test_a_task_that_cannot_be_handed_over_stops_the_run(
    path: Path, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that cannot go to another process, say: an error, and nobody waits for ever."""
    split = ColumnarSource.parts

    def parts(self: ColumnarSource, count: int) -> list[Source]:
        actual = split(self, count)
        actual[0].notes = (threading.Lock(),)  # type: ignore[assignment]
        return actual

    monkeypatch.setattr(ColumnarSource, "parts", parts)
    with pytest.raises(
        cdp.StoppedError, match=r"passed to a worker process \(TypeError\)"
    ) as caught:
        cdp.send(
            path, MAPPING, destination=box.destination, progress=False, processes=2, journal=False
        )
    assert sum(caught.value.report.counts.values()) == 10_000
    assert not helpers()


def test_an_error_of_a_process_is_told_as_it_is(path: Path, box: Sandbox) -> None:
    """A file that changes while it is read stops the run with the usual words."""
    source = open_source(path)
    cut = source.parts(2)
    assert len(cut) == 2
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2_000] = b"\xff" * 2_000
    path.write_bytes(data)
    with pytest.raises(cdp.StoppedError, match="cannot be read beyond row") as caught:
        cdp.send(
            path,
            MAPPING,
            destination=box.destination,
            progress=False,
            processes=2,
            journal=False,
            recent="send",  # else the check for recent rows meets the error first
        )
    assert sum(caught.value.report.counts.values()) == 10_000


def test_what_cannot_be_shared_out_is_refused(path: Path, box: Sandbox) -> None:
    """Before anything is sent, with what to do."""
    options: Any = {"destination": box.destination, "progress": False, "journal": False}
    with pytest.raises(cdp.BadInputError, match="with files only"):
        cdp.send(opens(), MAPPING, processes=2, **options)
    with pytest.raises(cdp.BadInputError, match="whole number, 1 or more"):
        cdp.send(path, MAPPING, processes=0, **options)
    with pytest.raises(cdp.BadInputError, match="canary= and duplicates='skip' cannot be combined"):
        cdp.send(path, MAPPING, processes=2, canary=5, **options)
    with pytest.raises(cdp.BadInputError, match="canary= and duplicates='skip' cannot be combined"):
        cdp.send(path, MAPPING, processes=2, duplicates="skip", **options)
    assert len(box.requests()) == 0


def test_workers_import_nothing_from_the_current_folder_and_have_no_key(
    path: Path, tmp_path: Path, cdp_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is named like a library is not run; the key's variable is not passed on."""
    folder = tmp_path / "here"
    folder.mkdir()
    for name in ("pandas", "pyarrow", "json", "pickle", "cdp_backfill"):
        (folder / f"{name}.py").write_text("open(__file__ + '.ran', 'w').close()")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CUSTOMERIO_CDP_API_KEY", "sandbox")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "."]))
    variables: list[dict[str, str]] = []
    start = subprocess.Popen

    def started(*command: Any, **options: Any) -> Any:
        variables.append(options["env"])
        return start(*command, **options)

    monkeypatch.setattr(subprocess, "Popen", started)
    report = cdp.send(
        path, MAPPING, destination=cdp_sandbox.destination, progress=False, processes=2
    )
    assert report.counts["delivered"] == 9_899
    assert not list(folder.glob("*.ran"))
    assert len(variables) == 2
    assert not any("CUSTOMERIO_CDP_API_KEY" in each for each in variables)

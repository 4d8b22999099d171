"""The file of a journal: its names, its lock, its mode, and whatever else may be in its place."""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.pipeline.journal import Journal, identities_path, read_journal
from cdp_backfill.pipeline.journal_file import opened
from tests.rows import OPENED, opens

if TYPE_CHECKING:
    from cdp_backfill.local_sandbox import Sandbox


def send(box: Sandbox, journal: Any, rows: int = 3, **options: Any) -> cdp.Report:
    """Send so many rows with a journal."""
    how: dict[str, Any] = {
        "destination": box.destination,
        "progress": False,
        "mapping": OPENED,
    } | options
    return cdp.send(opens(rows), journal=journal, **how)


OTHER = cdp.Mapping.from_dict(OPENED.to_dict() | {"rest": "drop"})


def contents(path: Path) -> list[Any]:
    """Everything in a journal."""
    with closing(sqlite3.connect(path)) as database:
        return [
            database.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608
            for table in ("about", "requests", "runs")
        ]


def test_a_refused_run_changes_nothing(box: Sandbox, tmp_path: Path) -> None:
    """Neither the paths and the identities of the last run, nor the list of runs."""
    journal = tmp_path / "j"
    table = tmp_path / "opens.csv"
    opens(5).to_csv(table, index=False)
    cdp.send(table, OPENED, destination=box.destination, journal=journal, progress=False)
    before = contents(journal)
    other = tmp_path / "other.csv"
    opens(2).to_csv(other, index=False)
    with pytest.raises(cdp.JournalError, match="another mapping"):
        cdp.send(other, OTHER, destination=box.destination, journal=journal, progress=False)
    with pytest.raises(cdp.RecentRowsError):
        send(box, journal, now=opens(1)["ts"].iloc[0].to_pydatetime())
    assert contents(journal) == before


def test_a_run_whose_identities_are_refused_leaves_no_mapping(box: Sandbox, tmp_path: Path) -> None:
    """A journal of the events that is new stays new if that of the identities is refused."""
    journal = tmp_path / "j"
    frame = opens(4, did=list("abcd"))
    how: dict[str, Any] = {
        "anonymous_id": "did",
        "timestamp": "ts",
        "event": cdp.lit("Application Opened"),
    }
    identities_path(journal).write_text("not a journal")
    with pytest.raises(cdp.JournalError):
        frame.cdp.send(
            **how, identify="uid", destination=box.destination, journal=journal, progress=False
        )
    assert frame.cdp.send(
        **how, rest="drop", destination=box.destination, journal=journal, progress=False
    ).ok


@pytest.mark.parametrize("begun", ["the file", "the tables"])
def test_a_run_that_was_killed_before_it_began(box: Sandbox, tmp_path: Path, begun: str) -> None:
    """Its journal is empty: resume and status tell so, and the next send uses it."""
    path = tmp_path / "j"
    path.touch()
    if begun == "the tables":
        opened(path).close()
    with pytest.raises(cdp.JournalError, match=r"is empty: .* Call send\(\) again"):
        cdp.resume(path, opens(3), destination=box.destination, progress=False)
    with pytest.raises(cdp.JournalError, match="is empty"):
        read_journal(path)
    assert send(box, path).ok
    assert read_journal(path).delivered == 3


def test_the_home_folder(box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``~`` is expanded everywhere, as in a shell."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    report = send(box, "~/j")
    assert report.journal == tmp_path / "j"
    assert read_journal("~/j").delivered == 3
    assert cdp.resume("~/j", opens(3), destination=box.destination, progress=False).ok
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("name", [":memory:", "", "  "])
def test_what_is_no_file(box: Sandbox, name: str) -> None:
    """It is refused before anything is sent."""
    with pytest.raises(cdp.JournalError, match="A journal is a file"):
        send(box, name)
    assert len(box.requests()) == 0


def test_one_lock_for_all_names(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative, absolute, through links of files and folders: one run at a time."""
    (tmp_path / "real").mkdir()
    path = tmp_path / "real" / "j"
    try:
        (tmp_path / "link").symlink_to(path)
        (tmp_path / "folder").symlink_to(tmp_path / "real", target_is_directory=True)
    except OSError:
        pytest.skip("this user may make no links")
    monkeypatch.chdir(tmp_path / "real")
    names: list[Any] = ["j", "../real/j", path, tmp_path / "link", tmp_path / "folder" / "j"]
    if (tmp_path / "REAL").exists():  # the file system knows no case
        names.append(tmp_path / "real" / "J")
    for one in names:
        held = Journal(Path(one), mapping=OPENED, url=box.url)
        for other in names:
            with pytest.raises(cdp.JournalError, match="in use by another run"):
                send(box, other)
        held.release()
    assert len(box.requests()) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_only_the_owner_can_read_it(box: Sandbox, tmp_path: Path) -> None:
    """Whatever the umask: the journal and everything beside it, during the run and after."""
    modes: dict[str, int] = {}

    class Watching:
        def update(self, _: Any) -> None:
            modes.update({p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()})

        def close(self) -> None:
            pass

    before = os.umask(0)
    try:
        send(box, tmp_path / "j", 5_000, progress=Watching())
    finally:
        os.umask(before)
    assert modes["j"] == modes["j-wal"] == 0o600
    assert set(modes.values()) == {0o600}


def test_a_full_disk_says_so(box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the run, it is one clear error, and nothing is sent."""
    begin = Journal.begin

    def full(journal: Journal) -> None:
        journal._database.execute("CREATE TABLE filling (x)")
        journal._database.execute("PRAGMA max_page_count = 1")
        journal._about["paths"] = "x" * 100_000
        begin(journal)

    monkeypatch.setattr(Journal, "begin", full)
    with pytest.raises(cdp.JournalError, match="cannot be written: the disk is full"):
        send(box, tmp_path / "j")
    assert len(box.requests()) == 0
    monkeypatch.undo()
    assert send(box, tmp_path / "j").ok  # its lock is free


VALUES = st.none() | st.integers(-9, 9) | st.text(max_size=5) | st.binary(max_size=13)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    change=st.sampled_from(
        [
            "UPDATE about SET value = ? WHERE name = 'mapping'",
            "UPDATE about SET value = ? WHERE name = 'recipe'",
            "UPDATE about SET value = ? WHERE name = 'url'",
            "UPDATE requests SET state = ?",
            "UPDATE requests SET digests = ?",
            "UPDATE runs SET counts = ?",
            "DELETE FROM about WHERE name IS NOT ? AND name <> 'format'",
        ]
    ),
    value=VALUES,
)
def test_damaged_contents(box: Sandbox, tmp_path: Path, change: str, value: Any) -> None:
    """Whatever a cell of the journal holds, there is one clear error, or none."""
    path = Path(tempfile.mkdtemp(dir=tmp_path)) / "j"
    send(box, path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(change, (value,))
    for action in (lambda: send(box, path), lambda: read_journal(path)):
        try:
            action()
        except cdp.JournalError as error:
            assert str(path) in str(error)  # noqa: PT017  # some changes do no harm


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 100_000), damage=st.binary(min_size=1, max_size=200))
def test_damaged_bytes(box: Sandbox, tmp_path: Path, at: int, damage: bytes) -> None:
    """Whatever a part of the file holds, there is one clear error, or none."""
    path = Path(tempfile.mkdtemp(dir=tmp_path)) / "j"
    send(box, path)
    whole = bytearray(path.read_bytes())
    at %= len(whole)
    whole[at : at + len(damage)] = damage
    path.write_bytes(whole)
    for action in (lambda: send(box, path), lambda: read_journal(path)):
        try:
            action()
        except (cdp.JournalError, cdp.StoppedError) as error:
            assert path.name in str(error)  # noqa: PT017  # some changes do no harm

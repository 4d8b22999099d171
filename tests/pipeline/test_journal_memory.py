"""What a journal remembers from call to call, and what no refused call changes in it."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.pipeline.journal import Journal, identities_path, read_journal
from cdp_backfill.pipeline.journal_file import locked, unlock
from tests.rows import OPENED, opens
from tests.sending import counts

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

ROWS = 40
OTHER = cdp.Mapping.from_dict(OPENED.to_dict() | {"rest": "drop"})
_NUMBERS = itertools.count()


class _Interrupting:
    """A display that interrupts the run once, as Ctrl-C does."""

    def __init__(self, after: int) -> None:
        self._left = after

    def update(self, _: Any) -> None:
        self._left -= 1
        if not self._left:
            raise KeyboardInterrupt

    def close(self) -> None:
        pass


class _Backfill:
    """A file and a journal, and what can happen to them."""

    def __init__(self, box: Sandbox, folder: Path) -> None:
        self.box, self.folder, self.number = box, folder, next(_NUMBERS)
        folder.mkdir()
        self.path, self.journal = folder / "opens.csv", folder / "j"
        uid = [f"{self.number}-{row}" for row in range(ROWS)]
        opens(ROWS, uid=uid).to_csv(self.path, index=False)
        self.destination = cdp.Destination(
            api_key=box.api_key, base_url=box.url, max_messages=7, workers=2
        )

    def send(self, mapping: cdp.Mapping = OPENED, **options: Any) -> cdp.Report:
        how: dict[str, Any] = {"destination": self.destination, "progress": False} | options
        return cdp.send(self.path, mapping, journal=self.journal, **how)

    def resume(self, **options: Any) -> cdp.Report:
        how: dict[str, Any] = {"destination": self.destination, "progress": False} | options
        return cdp.resume(self.journal, **how)

    def held_by_another(self) -> None:
        lock = locked(self.journal)
        try:
            self.send()
        finally:
            unlock(lock)

    def state(self) -> Any:
        """Everything in the folder, and everything in the journal."""
        names = sorted(path.name for path in self.folder.iterdir())
        if not self.journal.exists():
            return names
        with closing(sqlite3.connect(self.journal)) as database:
            tables = ("about", "requests", "runs")
            return names, [database.execute(f"SELECT * FROM {t}").fetchall() for t in tables]  # noqa: S608

    def about(self) -> Any:
        contents = read_journal(self.journal)
        return contents.mapping, contents.paths, contents.url, contents.options


REFUSED: dict[str, Any] = {
    "another mapping": lambda run: run.send(OTHER),
    "no such column": lambda run: run.send(
        cdp.Mapping.from_dict(OPENED.to_dict() | {"user_id": "no"})
    ),
    "recent rows": lambda run: run.send(now=datetime(2023, 5, 1, 12, tzinfo=UTC)),
    "no such option": lambda run: run.send(recent="never"),
    "in use": _Backfill.held_by_another,
    "no key": lambda run: run.send(destination=cdp.Destination(base_url=run.box.url)),
}
RUNS: dict[str, Any] = {
    "canary": lambda run: run.send(canary=9),
    "interrupt": lambda run: run.send(progress=_Interrupting(2)),
    "send": _Backfill.send,
}
RESUMED: dict[str, Any] = {
    "resume": _Backfill.resume,
    "interrupted resume": lambda run: run.resume(progress=_Interrupting(2)),
}


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from([*REFUSED, *RUNS, *RESUMED]), max_size=5))
def test_any_order_of_runs_and_refusals(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[str]
) -> None:
    """Refused runs change nothing; at the end each row was delivered once, under one mapping."""
    monkeypatch.setattr("cdp_backfill.model.destination._is_interactive", lambda: False)
    run = _Backfill(box, tmp_path / str(next(_NUMBERS)))
    about = None
    for step in steps:
        before = run.state()
        if step in REFUSED:
            if step == "another mapping" and about is None:
                continue  # nothing is fixed yet
            with pytest.raises(cdp.BackfillError):
                REFUSED[step](run)
            assert run.state() == before, step
        elif step in RESUMED and about is None:
            with pytest.raises(cdp.JournalError, match="no journal"):
                RESUMED[step](run)
            assert run.state() == before
        else:
            (RUNS | RESUMED)[step](run)
            about = about or run.about()
            assert run.about() == about, step
            assert sorted(path.name for path in run.folder.iterdir()) == ["j", "opens.csv"]
    report = run.resume() if about else run.send()
    assert counts(report) == {"delivered": ROWS}
    stored = box.events().query(
        "userId.str.startswith(@prefix)", local_dict={"prefix": f"{run.number}-"}
    )
    assert len(stored) == stored["messageId"].nunique() == ROWS


def test_a_begin_that_fails_is_undone(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the journal of the identities cannot begin, that of the events has not begun either."""
    journal = tmp_path / "j"
    begin = Journal.begin

    def fail(self: Journal) -> None:
        if self.path == identities_path(journal):
            raise cdp.JournalError("the disk is full")
        begin(self)

    how: dict[str, Any] = {
        "anonymous_id": "did",
        "timestamp": "ts",
        "event": cdp.lit("Application Opened"),
        "identify": "uid",
        "destination": box.destination,
        "journal": journal,
        "progress": False,
    }
    frame = opens(4, did=list("abcd"))
    monkeypatch.setattr(Journal, "begin", fail)
    with pytest.raises(cdp.JournalError, match="full"):
        frame.cdp.send(**how)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    frame.iloc[:2].cdp.send(**how)
    before = read_journal(journal)
    monkeypatch.setattr(Journal, "begin", fail)
    with pytest.raises(cdp.JournalError, match="full"):
        frame.cdp.send(**how)
    assert read_journal(journal) == before


def test_the_lock_is_one_while_its_file_comes_and_goes(tmp_path: Path) -> None:
    """Many threads lock, unlock and delete: never two of them hold the lock."""
    holders, most, taken = 0, 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal holders, most, taken
        for _ in range(60):
            try:
                lock = locked(tmp_path / "j")
            except cdp.JournalError:
                continue
            with guard:
                holders += 1
                taken += 1
                most = max(most, holders)
            with guard:
                holders -= 1
            unlock(lock)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, list(tmp_path.iterdir())) == (1, [])
    assert taken > 0


def _recent(days: list[int]) -> pd.DataFrame:
    now = datetime.now(UTC)
    return pd.DataFrame(
        {"uid": [f"u{n}" for n in days], "ts": [now - timedelta(days=n) for n in days]}
    )


def test_resume_remembers_recent(box: Sandbox, tmp_path: Path) -> None:
    """Held tonight, sent in three days: resume goes on as the call said, unless it is told else."""
    path, journal = tmp_path / "opens.parquet", tmp_path / "j"
    _recent([1, 9]).to_parquet(path)
    how: dict[str, Any] = {"destination": box.destination, "progress": False}
    report = cdp.send(path, OPENED, journal=journal, recent="hold", **how)
    assert counts(report) == {"delivered": 1, "held": 1}
    assert counts(cdp.resume(journal, **how)) == {"delivered": 1, "held": 1}
    with pytest.raises(cdp.RecentRowsError):
        cdp.resume(journal, recent="raise", **how)
    later = datetime.now(UTC) + timedelta(days=3)
    report = cdp.resume(journal, now=later, **how)
    assert (counts(report), report.delivered_before) == ({"delivered": 2}, 1)
    report = cdp.resume(journal, recent="send", context_scope="batch", **how)
    assert "recent='send' was passed for this run. The journal remembers recent='hold'" in " ".join(
        report.notes
    )
    assert read_journal(journal).options == {
        "recent": "hold",
        "context_scope": "message",
        "where": None,
        "exclude": None,
    }


def test_a_plan_sends_with_another_recent(box: Sandbox) -> None:
    """The plan shows the recent rows; what becomes of them is decided with ``send``."""
    plan = cdp.plan(_recent([1, 9]), OPENED, destination=box.destination)
    with pytest.raises(cdp.RecentRowsError):
        plan.send(progress=False)
    assert counts(plan.send(recent="hold", progress=False)) == {"delivered": 1, "held": 1}


def test_failures_do_not_become_the_table(box: Sandbox, tmp_path: Path) -> None:
    """Failures that are sent from a file with the same journal leave it its table."""
    path, journal = tmp_path / "opens.parquet", tmp_path / "j"
    opens(6, uid=[None, *"bcdef"]).to_parquet(path)
    how: dict[str, Any] = {"destination": box.destination, "progress": False, "journal": journal}
    cdp.send(path, OPENED, **how).save(tmp_path)
    repaired = pd.read_parquet(tmp_path / "failures.parquet").fillna({"uid": "a"})
    repaired.to_csv(tmp_path / "repaired.csv", index=False)
    assert cdp.send(tmp_path / "repaired.csv", OPENED, **how).ok
    assert read_journal(journal).paths == [str(path)]


def _drifting(rows: int, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "user_id": [f"u{n}" for n in range(rows)],
            "event": ["app_open"] * rows,
            "timestamp": pd.date_range("2023-05-01T10:00:00Z", periods=rows, freq="s"),
        }
        | columns
    )


def test_a_proposal_that_drifts_makes_no_new_ids(box: Sandbox, tmp_path: Path) -> None:
    """The mapping of the first night is used on the second, and the difference is shown."""
    path, journal = tmp_path / "opens.parquet", tmp_path / "j"
    how: dict[str, Any] = {"destination": box.destination, "progress": False, "journal": journal}
    _drifting(3, phone_model=["x"] * 3).to_parquet(path)
    assert cdp.send(path, **how).ok
    mapping = read_journal(journal).mapping
    second = _drifting(
        5, phone_model=["x"] * 5, device_model=["y"] * 5, e_mail=["a@example.com"] * 5
    )
    second.loc[4, "event"] = "app_crashed"
    second.to_parquet(path)
    report = cdp.send(path, **how)
    assert report.delivered_before == 0  # each message has another property now
    assert "fixes the mapping of its first run" in " ".join(report.notes)
    after = read_journal(journal).mapping
    assert after == cdp.Mapping.from_dict(mapping.to_dict() | {"drop": ["e_mail"]})
    properties = [row or {} for row in box.events()["properties"]]
    assert any("device_model" in row for row in properties)
    assert not any("e_mail" in row for row in properties)  # it stays out, as on any night
    assert cdp.resume(journal, destination=box.destination, progress=False).requests == 0
    for passed in ({"user_id": "event"}, {"rest": "drop"}, {"properties": {"a": "event"}}):
        with pytest.raises(cdp.JournalError, match="another mapping: "):
            cdp.send(path, **how, **passed)
    assert cdp.send(path, **how, user_id="user_id").requests == 0


def test_a_table_has_a_journal_on_request(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``journal=True`` names it after the columns: repaired cells and failures find it again."""
    monkeypatch.chdir(tmp_path)
    how: dict[str, Any] = {"destination": box.destination, "progress": False, "journal": True}
    frame = opens(5, uid=[None, *"bcde"])
    first = frame.cdp.send(OPENED, **how)
    fixed = first.failures.assign(uid="a")
    assert fixed.cdp.send(**how).journal == first.journal
    assert frame.fillna({"uid": "a"}).cdp.send(OPENED, **how).requests == 0
    assert opens(5, other=1).cdp.send(OPENED, **how).journal != first.journal

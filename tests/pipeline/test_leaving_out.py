"""``where=`` and ``exclude=``: a row that is left out never leaves, on whichever way."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.api import messages as preview
from cdp_backfill.pipeline.excluded_ids import read_excluded
from tests.rows import OPENED, opens
from tests.sending import counts, send

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

BOTH: Final = cdp.Mapping.from_dict(OPENED.to_dict() | {"anonymous_id": "did"})
GONE: Final = ["gone-1", "gone-2"]


def table() -> pd.DataFrame:
    """Rows of which 2 are chosen and of nobody excluded: the first and the last."""
    return pd.DataFrame(
        {
            "uid": ["ada", "gone-1", "bob", None, "cyd", "gone-2", None, "eve"],
            "did": ["d1", "d2", "gone-2", "gone-1", "d5", "d6", None, "d8"],
            "n": [5, 6, 7, 8, 1, 2, 3, 9],
            "ts": pd.date_range("2023-05-01T10:00:00Z", periods=8, freq="s"),
        }
    )


LEFT: Final = {"delivered": 2, "skipped": 6}
CODES: Final = {"not_where": 3, "excluded": 3}
LEAVE_OUT: Final[dict[str, Any]] = {"where": "n > 4", "exclude": GONE}

KINDS: Final[dict[str, Callable[[pd.DataFrame, Path], Any]]] = {
    "frame": lambda frame, _: frame,
    "polars": lambda frame, _: pl.from_pandas(frame),
    "stream": lambda frame, _: pa.Table.from_pandas(frame).to_reader(),
    "parquet": lambda frame, path: frame.to_parquet(path / "t.parquet") or path / "t.parquet",
    "csv": lambda frame, path: frame.to_csv(path / "t.csv", index=False) or path / "t.csv",
    "ndjson": lambda frame, path: [
        (path / "t.ndjson").write_text(
            frame.to_json(orient="records", lines=True, date_format="iso")
        ),
        path / "t.ndjson",
    ][-1],
}


def arrived(box: Sandbox) -> set[str | None]:
    """The ids of all messages in the sandbox."""
    events = box.events()
    names = [name for name in ("userId", "anonymousId") if name in events]
    return set(events[names].to_numpy().ravel()) if len(events) else set()


def codes(report: cdp.Report) -> dict[str, int]:
    """The skipped rows by code."""
    reasons = report.by_reason()
    skipped = reasons[reasons["outcome"] == "skipped"]
    return dict(zip(skipped["code"], skipped["rows"], strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_left_out_of_every_kind_of_table(box: Sandbox, tmp_path: Path, kind: str) -> None:
    """Counts, codes and outcomes agree, it is no failure, and nobody excluded arrives."""
    source = KINDS[kind](table(), tmp_path)
    report = send(source, box, BOTH, outcomes=tmp_path / "o", **LEAVE_OUT)
    assert (counts(report), codes(report), report.ok) == (LEFT, CODES, True)
    assert report.failures.empty
    assert report.outcomes()["code"].value_counts().to_dict() == CODES
    assert arrived(box) == {"ada", "d1", "eve", "d8"}
    assert [each["rows"] for each in report.to_dict()["reasons"]] == [3, 3]
    assert "3 not_where where= is not true" in " ".join(str(report).split())


def test_worker_processes_leave_out_the_same(box: Sandbox, tmp_path: Path) -> None:
    """Each of them gets the expression and the digests."""
    (tmp_path / "data").mkdir()
    for number in range(2):
        (tmp_path / "data" / str(number)).mkdir()
        KINDS["csv"](table(), tmp_path / "data" / str(number))
    files = sorted((tmp_path / "data").rglob("*.csv"))
    report = send(files, box, BOTH, processes=2, **LEAVE_OUT)
    assert (counts(report), codes(report)) == (
        {name: 2 * rows for name, rows in LEFT.items()},
        {name: 2 * rows for name, rows in CODES.items()},
    )
    assert not arrived(box) & {*GONE}


@pytest.mark.parametrize("kind", ["frame", "parquet", "csv"])
def test_a_plan_leaves_out_what_its_run_leaves_out(box: Sandbox, tmp_path: Path, kind: str) -> None:
    """Also a saved one, whose file has no id; other ids than when it was made are refused."""
    source = KINDS[kind](table(), tmp_path)
    plan = cdp.plan(source, BOTH, destination=box.destination, **LEAVE_OUT)
    assert plan.counts == {"to_send": 2, "invalid": 0, "held": 0, "skipped": 6}
    assert {each.code: each.rows for each in plan.skipped_reasons} == CODES
    assert "3 excluded exclude= names an id" in " ".join(str(plan).split())
    assert counts(plan.send(progress=False)) == LEFT
    path = tmp_path / "plan.json"
    plan.save(path, samples=True)
    assert "gone-" not in path.read_text()
    again = {"source": source, "destination": box.destination}
    with pytest.raises(cdp.BadInputError, match="was made with 2 ids in exclude="):
        cdp.Plan.load(path, **again)
    with pytest.raises(cdp.BadInputError, match="there were 2 ids, now 1"):
        cdp.Plan.load(path, exclude=GONE[:1], **again)
    loaded = cdp.Plan.load(path, exclude=reversed(GONE), **again)
    assert counts(loaded.send(progress=False)) == LEFT
    assert str(loaded) == str(plan)
    assert not arrived(box) & {*GONE}


def test_a_plan_with_a_file_of_ids(box: Sandbox, tmp_path: Path) -> None:
    """The file is read again before a send, saved or not; a changed one is refused."""
    ids, path = tmp_path / "ids.txt", tmp_path / "plan.json"
    ids.write_text("\n".join(GONE))
    plan = cdp.plan(table(), BOTH, where="n > 4", exclude=ids, destination=box.destination)
    plan.save(path)
    loaded = cdp.Plan.load(path, table(), destination=box.destination)
    assert counts(loaded.send(progress=False)) == LEFT
    ids.write_text("\n".join([*GONE, "ada"]))
    with pytest.raises(cdp.BadInputError, match="there were 2 ids, now 3"):
        plan.send(progress=False)
    with pytest.raises(cdp.BadInputError, match="Make the plan again"):
        cdp.Plan.load(path, table(), destination=box.destination)
    assert len(box.events()) == 2
    ids.unlink()
    with pytest.raises(cdp.BadInputError, match=r"ids.txt' of exclude= is gone"):
        plan.send(progress=False)
    plain = cdp.plan(table(), BOTH, destination=box.destination)
    plain.save(path)
    with pytest.raises(cdp.BadInputError, match="was made without exclude="):
        cdp.Plan.load(path, table(), exclude=GONE)


def test_a_journal_remembers(box: Sandbox, tmp_path: Path) -> None:
    """Resume leaves out the same; what is missing is refused, what differs is noted."""
    source, journal, ids = KINDS["csv"](table(), tmp_path), tmp_path / "j", tmp_path / "ids.csv"
    ids.write_text("\n".join(["user_id", *GONE]))
    how: dict[str, Any] = {"destination": box.destination, "progress": False}
    kept = {"where": "n > 4", "exclude": str(ids)}
    assert counts(send(source, box, BOTH, journal=journal, canary=1, **kept))["delivered"] == 1
    resumed = cdp.resume(journal, **how)
    assert (counts(resumed), resumed.delivered_before, resumed.notes) == (LEFT, 1, ())
    for missing, words in (({"exclude": ids}, "Pass where="), ({"where": "n > 4"}, "Pass excl")):
        with pytest.raises(cdp.JournalError, match=words):
            send(source, box, BOTH, journal=journal, **missing)
    ids.write_text("\n".join([*GONE, "eve"]))
    noted = cdp.resume(journal, where="n > 6", **how)
    assert (counts(noted), codes(noted)) == (
        {"skipped": 8},
        {"not_where": 5, "excluded": 3},
    )
    assert any("Another where=" in note for note in noted.notes)
    assert any("there were 2 ids, now 3" in note for note in noted.notes)
    changed = send(source, box, BOTH, journal=journal, where="n > 0", exclude=GONE)
    assert counts(changed) == {"delivered": 3, "skipped": 4, "invalid": 1}
    assert any("where= differs" in note for note in changed.notes)
    with pytest.raises(cdp.JournalError, match="was written with 2 ids in exclude="):
        cdp.resume(journal, **how)
    assert counts(cdp.resume(journal, exclude=GONE, **how)) == counts(changed)
    with closing(sqlite3.connect(journal)) as database:
        stored = dict(database.execute("SELECT name, value FROM about"))
    assert json.loads(stored["options"])["exclude"]["ids"] == 2
    assert b"gone-" not in journal.read_bytes()
    assert not arrived(box) & {*GONE}


@pytest.mark.parametrize("saved", [False, True])
def test_failures_carry_what_their_run_left_out(box: Sandbox, tmp_path: Path, saved: bool) -> None:
    """Rows that a run did not reach may be of people who must not go, in memory and in a file."""
    with cdp.sandbox(failing=1.0) as down, pytest.raises(cdp.StoppedError) as caught:
        cdp.send(
            pd.concat([table()[:1], table()]),
            BOTH,
            destination=cdp.Destination(
                base_url=down.url, api_key=down.api_key, patience=0.05, max_messages=1
            ),
            progress=False,
            **LEAVE_OUT,
        )
    report = caught.value.report
    failures = report.failures
    assert not {*failures["uid"].dropna(), *failures["did"].dropna()} & {*GONE}
    unread = pd.concat([failures, table()]).assign(cdp_outcome="unsent")
    unread.attrs = failures.attrs
    rows: Any = unread
    if saved:
        rows = tmp_path / "failures.parquet"
        unread.to_parquet(rows)
    how: dict[str, Any] = {"destination": box.destination, "progress": False, "journal": False}
    with pytest.raises(cdp.BadInputError, match="a run that left out 2 ids with exclude="):
        cdp.send(rows, **how)
    again = cdp.send(rows, exclude=GONE, **how)
    assert codes(again) == CODES
    assert not arrived(box) & {*GONE}
    assert "gone-" not in json.dumps(failures.attrs)
    assert "skipped" not in counts(cdp.send(rows, exclude=[], where="true", **how))


def test_saved_failures_of_several_runs(box: Sandbox, tmp_path: Path) -> None:
    """What a report saves has it, too; files that left out different rows are not sent together."""
    bad = table().assign(uid=None, did=None)
    for place, where in enumerate(["n > 4", "n > 7"]):
        report = send(bad, box, BOTH, where=where)
        report.save(tmp_path / f"year={place}")
    path = tmp_path / "year=0" / "failures.parquet"
    repaired = pd.read_parquet(path).assign(uid="x", n=[5, 1, 1, 8, 9])
    repaired.to_parquet(path)
    assert counts(send(path, box, None)) == {"delivered": 3, "skipped": 2}
    with pytest.raises(cdp.SourceError, match="Send each file in a run of its own"):
        send(str(tmp_path / "*" / "failures.parquet"), box, None)


def test_retry_leaves_out_the_same(tmp_path: Path) -> None:
    """With the options of its run."""
    with cdp.sandbox() as box:
        box_down = cdp.Destination(base_url=box.url, api_key="wrong")
        with pytest.raises(cdp.AuthenticationError) as caught:
            cdp.send(table(), BOTH, destination=box_down, progress=False, **LEAVE_OUT)
        report = caught.value.report
        assert codes(report) == CODES
        with pytest.raises(cdp.AuthenticationError) as second:
            report.retry()
        assert counts(second.value.report) == {"unsent": 2}
        (report + second.value.report).save(tmp_path)
        assert codes(report + second.value.report) == CODES


def test_identities_of_excluded_people_do_not_go(box: Sandbox, tmp_path: Path) -> None:
    """Neither from a column, of whose rows only the chosen ones count, nor from a table."""
    how: dict[str, Any] = {"anonymous_id": "did", "exclude": GONE}
    for kind in ("frame", "csv"):
        report = send(KINDS[kind](table(), tmp_path), box, identify="uid", where="n > 4", **how)
        assert report.identities is not None
        assert (counts(report), counts(report.identities)) == (LEFT, {"delivered": 2, "skipped": 2})
        plan = cdp.plan(table(), OPENED, identify="uid", where="n > 4", **how)
        assert plan.identities is not None
        assert plan.identities.counts["skipped"] == 2
    people = pd.DataFrame({"user_id": ["ada", "gone-1", "bob"], "anonymous_id": ["d1", "d2", "d3"]})
    report = send(table(), box, identify=people, where="n > 4", **how)
    assert report.identities is not None
    assert counts(report.identities) == {"delivered": 2, "skipped": 1}
    assert not arrived(box) & {*GONE}


def test_where_settles_an_ambiguous_identity(box: Sandbox) -> None:
    """Only chosen rows count; that of an excluded person stays in the way, lest others get it."""
    mapping = cdp.Mapping(call="identify", user_id="uid", anonymous_id="did")
    frame = pd.DataFrame({"uid": ["ada", "bob"], "did": ["d1", "d1"], "n": [1, 2]})
    assert counts(send(frame, box, mapping)) == {"invalid": 2}
    assert counts(send(frame, box, mapping, where="n = 2")) == {"delivered": 1, "skipped": 1}
    report = send(frame, box, mapping, exclude=["ada"])
    assert counts(report) == {"invalid": 1, "skipped": 1}


FORMS: Final[dict[str, Callable[[list[Any]], Any]]] = {
    "list": list,
    "set": set,
    "dict keys": lambda ids: dict.fromkeys(ids).keys(),
    "iterator": iter,
    "text": lambda ids: [f" {each} " for each in ids],
    "floats": lambda ids: [float(each) if isinstance(each, int) else each for each in ids],
    "Series": pd.Series,
    "labels": lambda ids: pd.Series(ids, index=[each / 2 for each in range(len(ids))]),
    "Index": pd.Index,
    "categories": lambda ids: pd.Series([str(each) for each in ids], dtype="category"),
    "objects": lambda ids: np.array([*ids, None], dtype=object),
    "Arrow": lambda ids: pa.array([str(each) for each in ids]),
    "chunks": lambda ids: pa.chunked_array([[str(each)] for each in ids]),
    "polars": lambda ids: pl.Series([str(each) for each in ids]),
    "frame": lambda ids: pd.DataFrame({"x": "y", "uid": [str(each) for each in ids]}),
    "lazy": lambda ids: pl.LazyFrame({"anything": [str(each) for each in ids]}),
}
ids_given = st.lists(st.integers(1, 30) | st.sampled_from(["ada", "bob", "Zoë", "007"]), min_size=1)


@given(
    st.sampled_from([*FORMS]),
    ids_given,
    st.lists(st.none() | st.sampled_from(["ada", "Zoë", "007", "7", "12.0", " 5 "]), min_size=1),
    st.sampled_from(["uid", "did"]),
)
def test_ids_are_compared_as_they_are_sent(
    form: str, excluded: list[Any], cells: list[str | None], column: str
) -> None:
    """By the plain set of texts, whatever form the ids have and whichever id a row has."""
    other = {"uid": "did", "did": "uid"}[column]
    frame = opens(len(cells), **{column: pd.Series(cells, dtype=object), other: "other"})
    texts = {str(each) for each in excluded}
    sent = {"12.0": "12", " 5 ": "5"}
    expected = ["excluded" if sent.get(str(c), c) in texts else None for c in cells]
    shown = preview(frame, len(cells), BOTH, exclude=FORMS[form](excluded))
    assert [each.get("cdp_code") for each in shown] == expected


@pytest.mark.parametrize(
    ("exclude", "words"),
    [
        (17, "exclude must hold ids, but is of type int"),
        ({"secret": 1}, "but is of type dict"),
        (b"secret", "but is of type bytes"),
        ([True], "values of type bool"),
        ([["secret"]], "values of type list"),
        ([pd.Timestamp("2023-05-01")], "values of type timestamp"),
        (["secret", object()], "values of type object that cannot be ids"),
        ([1.5, 2.0], "1 value that cannot be an id: a fraction"),
        ([2.0**60], "lost its last digits"),
        ([b"\xff\xfe"], "text that is not UTF-8"),
        (["\ud800"], "cannot be ids"),
        ("secret-id", "is a text that is the path of no file"),
        ("secret@example.com", "is a text that is the path of no file"),
        ("x" * 5000, "is a text that is the path of no file"),
        (pd.DataFrame({"secret": [1], "b": [2]}), "has 2 columns, and none of them is named 'uid'"),
        (np.array([[1, 2]]), "values of type list"),
    ],
)
def test_ids_that_cannot_be_compared_are_one_clear_error(
    box: Sandbox, exclude: Any, words: str
) -> None:
    """Before anything is sent, and without a value of theirs."""
    with pytest.raises(cdp.BadInputError) as caught:
        send(table(), box, BOTH, exclude=exclude)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)
    assert box.events().empty


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"exclude": []}, "exclude= has no id, so nobody is left out"),
        ({"exclude": [None, np.nan, ""]}, "exclude= has 3 empty cells, which names nobody"),
        ({"exclude": ["xy"]}, "The excluded id occurs in none of the rows."),
        ({"exclude": ["x", "y"]}, "None of the 2 excluded ids occurs in the rows."),
        (
            {"exclude": ["cyd", "x"], "where": "n > 4"},
            "None of the 2 excluded ids occurs in the rows for which where= is true.",
        ),
        ({"where": "n > 40"}, "where= is true for none of the 8 rows."),
    ],
)
def test_what_leaves_out_nothing_or_all_is_noted(
    box: Sandbox, options: dict[str, Any], words: str
) -> None:
    """In the plan and in the report; a run with nothing to send is as wanted."""
    plan = cdp.plan(table(), BOTH, destination=box.destination, **options)
    report = plan.send(progress=False)
    assert any(words in note for note in plan.notes)
    assert any(words in note for note in report.notes)
    assert report.ok is ("where" in options)


def test_recent_rows_that_are_left_out_stop_no_run(box: Sandbox) -> None:
    """Only rows to send count, and those of an excluded person are no failures either."""
    frame = table().assign(ts=["2023-05-01T10:00:00Z"] + [pd.Timestamp.now("UTC").isoformat()] * 7)
    report = send(frame, box, BOTH, where="n < 7", exclude=["gone-1", "cyd", "gone-2", "d6"])
    assert counts(report) == {"delivered": 1, "skipped": 6, "invalid": 1}
    bad = opens(2, uid=["gone-1", None], ts=[None, None])
    assert list(send(bad, box, exclude=GONE).failures["cdp_code"]) == ["missing_user"]


def test_a_row_that_cannot_be_read_is_not_left_out(box: Sandbox, tmp_path: Path) -> None:
    """It has no cells to judge."""
    path = tmp_path / "t.csv"
    path.write_text("uid,ts,n\nada,2023-05-01T10:00:00Z,1\ncut\nbob,2023-05-01T10:00:00Z,2\n")
    report = send(path, box, unreadable="skip", where="n > 1", exclude=["ada"])
    assert counts(report) == {"delivered": 1, "invalid": 1, "skipped": 1}
    assert list(report.failures["cdp_code"]) == ["unreadable"]


def test_many_ids_are_digests() -> None:
    """Twelve bytes each, in any order the same."""
    many = [f"u{number}" for number in range(200_000)]
    read = read_excluded(many, OPENED)
    assert read.ids == 200_000
    assert sum(high.nbytes + low.nbytes for high, low in [*read.digests.keys()]) == 12 * read.ids
    assert read.changes(read_excluded(reversed(many), OPENED).describe()) is None
    assert read.changes(read_excluded(many[1:], OPENED).describe()) is not None

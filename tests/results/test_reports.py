"""Failures: their reasons and fixes, how they are sent again, and the sum of two reports."""

from __future__ import annotations

import copy
import html
import itertools
import pickle
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cdp_backfill as cdp
from cdp_backfill.model.outcomes import PROBLEMS
from cdp_backfill.results import tracker as tracker_module
from cdp_backfill.results.lineage import Lineage
from cdp_backfill.sources import open_source
from tests.rows import OPENED, opens
from tests.sending import counts, send
from tests.servers import ReceivedRequest, Reply, serving

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox
    from tests.clocks import FakeClock

FIVE: list[Any] = ["a", None, "c", None, None]


def test_repaired_failures_add_up_over_the_original_rows(box: Sandbox) -> None:
    """Delivered by the second run, still failed in it, and left out on purpose: all five rows."""
    frame = opens(5, uid=FIVE).set_index(pd.Index(list("pqrst")))
    first = send(frame, box)
    fixed = first.failures.iloc[:2].assign(uid=pd.Series(["b", None], ["q", "s"]))
    second = send(fixed, box, None)
    both = first + second
    assert both.rows == 5
    assert counts(both) == {"delivered": 3, "invalid": 2}
    assert both.failures.index.tolist() == ["s", "t"]
    assert both.failures["cdp_row"].tolist() == [3, 4]
    assert both.requests == first.requests + second.requests
    assert both.seconds == first.seconds + second.seconds
    assert both.wire_bytes == first.wire_bytes + second.wire_bytes
    assert len(both.timeline) == len(first.timeline) + len(second.timeline)
    assert [item.seconds for item in both.timeline] == sorted(i.seconds for i in both.timeline)
    third = send(both.failures.assign(uid=["d", "e"]), box, None)
    whole = both + third
    assert counts(whole) == {"delivered": 5}
    assert whole.ok
    assert whole.failures.empty
    assert counts(sum([first, second, third])) == {"delivered": 5}  # type: ignore[arg-type]
    assert counts(third + (second + first)) == {"delivered": 5}  # whichever comes first


def test_a_copy_is_the_report_itself(box: Sandbox) -> None:
    """A report does not change, so that copies of it, or of what holds it, share it."""
    report = send(opens(2, uid=["a", None]), box)
    assert copy.copy(report) is report
    assert copy.deepcopy({"report": report})["report"] is report


def test_a_report_is_not_pickled(box: Sandbox) -> None:
    """The error says why, and how to keep the report."""
    report = send(opens(1), box)
    with pytest.raises(TypeError, match=r"report\.save\(folder\).* report\.to_dict\(\)"):
        pickle.dumps(report)


def test_failures_of_failures_lead_to_the_first_table(box: Sandbox, tmp_path: Path) -> None:
    """A row keeps its origin however often it is sent and shuffled, and through files."""
    for name, rows in (("a", 3), ("b", 4)):
        opens(rows, uid=[None] * rows).to_parquet(tmp_path / f"{name}.parquet")
    first = send(str(tmp_path / "*.parquet"), box, journal=False)
    assert first.failures["cdp_row"].tolist() == [0, 1, 2, 0, 1, 2, 3]
    shuffled = first.failures.iloc[[6, 2, 0]]
    second = send(shuffled, box, None)
    origin = ["cdp_source", "cdp_row", "cdp_run"]
    pd.testing.assert_frame_equal(second.failures[origin], shuffled[origin])
    second.save(tmp_path / "out")
    third = send(tmp_path / "out" / "failures.parquet", box, journal=False)
    again = third.failures[origin].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        again.astype("object"), shuffled[origin].reset_index(drop=True).astype("object")
    )
    whole = first + third
    assert counts(whole) == {"invalid": 7}
    assert whole.failures["cdp_row"].tolist() == [0, 1, 2, 0, 1, 2, 3]


def test_a_repair_that_loses_the_types_still_leads_back(box: Sandbox) -> None:
    """A detour through CSV changes numbers and empty cells, and drops the attributes."""
    first = send(opens(5, uid=FIVE), box)
    through = first.failures.to_csv(index=False)
    import io  # noqa: PLC0415

    fixed = pd.read_csv(io.StringIO(through)).astype({"cdp_row": "float64"}).assign(uid="x")
    second = send(fixed, box)
    assert counts(first + second) == {"delivered": 5}


def test_added_rows_count_in_addition(box: Sandbox) -> None:
    """New rows, and a failure split in two, are rows of the second table."""
    first = send(opens(5, uid=FIVE), box)
    failures = first.failures
    more = pd.concat([failures, failures.iloc[:1], opens(2, uid=[None, "n"])])
    who: list[Any] = ["b", "d", *[None] * 3, "n"]
    more = more.assign(uid=who)
    second = send(more, box, OPENED)
    both = first + second
    assert both.rows == 8
    assert counts(both) == {"delivered": 5, "invalid": 3}
    rows = both.failures.set_index("cdp_run")["cdp_row"]
    assert rows[first.failures["cdp_run"].iloc[0]] == 4
    assert rows[second.failures["cdp_run"].iloc[-1]].tolist() == [3, 4]
    third = send(both.failures.assign(uid="z").iloc[[1]], box, OPENED)
    assert counts(both + third) == {"delivered": 6, "invalid": 2}


def test_two_tables_are_a_plain_sum(box: Sandbox) -> None:
    """No table holds failures of another: all rows count, and one note says so."""
    reports = [send(opens(3, uid=["a", None, str(n)]), box) for n in range(3)]
    both = reports[0] + reports[1]
    assert counts(both) == {"delivered": 4, "invalid": 2}
    assert both.failures["cdp_row"].tolist() == [1, 1]
    whole = sum(reports)
    assert isinstance(whole, cdp.Report)
    assert counts(whole) == {"delivered": 6, "invalid": 3}
    assert len([note for note in whole.notes if "adds up runs over several tables" in note]) == 1
    who: list[Any] = ["x", None, "z"]
    fixed = send(whole.failures.assign(uid=who), box, None)
    assert counts(whole + fixed) == {"delivered": 8, "invalid": 1}
    assert (whole + fixed).failures["cdp_run"].tolist() == [reports[1].failures["cdp_run"].iloc[0]]
    with pytest.raises(cdp.BadInputError, match="Both reports contain the same run"):
        whole + reports[0]
    with pytest.raises(TypeError):
        whole + 1


def test_a_sum_with_different_mappings_cannot_be_retried(box: Sandbox, tmp_path: Path) -> None:
    """Their failures carry no mapping, and a retry is refused."""
    one = send(opens(2, uid=[None, "a"]), box)
    other = send(opens(2, who=[None, "a"]), box, user_id="who")
    both = one + other
    assert "cdp_mapping" not in both.failures.attrs
    with pytest.raises(cdp.BadInputError, match="different mappings or destinations"):
        both.retry("invalid")
    both.save(tmp_path)
    assert not (tmp_path / "mapping.toml").exists()
    assert pq.read_table(tmp_path / "failures.parquet").num_rows == 2


def _not_for_u12(clock: FakeClock, failing: list[bool], failure: Reply) -> Any:
    """Answers of a server that cannot take the row of u12, as long as the list is not empty."""

    def answer(_: int, request: ReceivedRequest) -> Reply:
        if not request.raw:
            return Reply()
        clock.advance(50)
        about_u12 = any(message["userId"] == "u12" for message in request.batch)
        return failure if failing and about_u12 else Reply()

    return answer


def test_a_retry_adds_up(clock: FakeClock) -> None:
    """Failed rows are sent again, even twice, and count once."""
    failing = [True]
    with serving(_not_for_u12(clock, failing, Reply(503))) as server:
        where = server.destination(max_messages=1, workers=1)
        first = cdp.send(opens(30), OPENED, destination=where, progress=False)
        assert counts(first) == {"delivered": 29, "unknown": 1}
        failing.clear()
        third = first.retry()
        fourth = first.retry()  # of what the third may have delivered already
        both = first + third
        assert counts(both + fourth) == {"delivered": 30}
        assert (both + fourth).rows == 30


def test_rows_without_an_answer_may_arrive_twice(clock: FakeClock) -> None:
    """Rows unknown in the first run and delivered in the second may have arrived twice."""
    failing = [True]
    with serving(_not_for_u12(clock, failing, Reply(None))) as server:
        where = server.destination(max_messages=1, workers=1)
        first = cdp.send(opens(30), OPENED, destination=where, progress=False)
        assert counts(first) == {"delivered": 29, "unknown": 1}
        failing.clear()
        both = first + first.retry()
    assert counts(both) == {"delivered": 30}
    assert both.maybe_twice == 1


def test_a_stopped_second_run_leaves_its_rows_unsent(box: Sandbox) -> None:
    """Even rows that it did not read: none is lost, and none counts twice."""
    frame = opens(40_000, uid=None)
    first = send(frame, box)
    with serving(lambda number, _: Reply(401 if number else 200)) as server:
        where = server.destination(max_messages=10, workers=1)
        with pytest.raises(cdp.AuthenticationError) as got:
            first.failures.assign(uid="x").cdp.send(destination=where, progress=False)
    second = got.value.report
    assert counts(second)["unsent"] > 30_000
    both = first + second
    assert both.rows == 40_000
    assert both.counts["invalid"] == 0
    failures = both.failures
    assert failures["cdp_row"].tolist() == list(range(10, 40_000))
    third = send(failures, box, None)
    assert counts(both + third) == {"delivered": 40_000}


def test_a_canary_and_the_rest(box: Sandbox, tmp_path: Path) -> None:
    """The rows after a canary are unsent, and a retry sends them."""
    first = send(opens(50), box, canary=10, journal=tmp_path / "j")
    both = first + first.retry()
    assert counts(both) == {"delivered": 50}
    assert both.canary is None
    assert both.journal == tmp_path / "j"
    assert "all 50 rows delivered" in str(both)


def test_many_failures_stay_on_disk(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sum of spilled failures is counted by reason and written a part at a time."""
    monkeypatch.setattr(tracker_module, "SPILL_BYTES", 10_000)
    pq.write_table(pa.Table.from_pandas(opens(30_000, uid=None)), tmp_path / "t.parquet")
    first = send(tmp_path / "t.parquet", box, journal=False)
    second = send(first.failures.iloc[::3].assign(ts="x"), box, None)
    both = first + second
    assert counts(both) == {"invalid": 30_000}
    assert sorted(item.rows for item in both._failure_log.reasons()) == [10_000, 20_000]
    both.save(tmp_path / "out")
    saved = pq.read_table(tmp_path / "out" / "failures.parquet")
    assert sorted(saved["cdp_row"].to_pylist()) == list(range(30_000))
    kind = saved.schema.field("ts").type  # times of the one, text of the other
    assert pa.types.is_string(kind) or pa.types.is_large_string(kind)
    assert len(saved["cdp_reason"].unique()) == 2


def test_invalid_origin_columns_are_ignored(box: Sandbox) -> None:
    """Invalid cells in the origin columns make rows of this run, not an error."""
    odd: list[Any] = [
        ["x"] * 3,
        [-1, 2**50, None],
        [None] * 3,
        [1.5, 2.0, None],
        [{"a": 1}] * 3,
        pd.to_datetime(["2023-01-01"] * 3),
    ]
    for cells in odd:
        frame = opens(3, uid=None, cdp_run="r", cdp_source=None, cdp_row=cells)
        report = send(frame, box)
        assert report.failures["cdp_row"].tolist() == [0, 1, 2]
        assert report.failures["cdp_run"].ne("r").all()


def test_dropped_columns_keep_the_origin_of_their_rows(box: Sandbox) -> None:
    """A large message of a row that was sent again is listed under the row's first number."""
    mapping = cdp.Mapping(
        user_id="uid",
        timestamp="ts",
        event=cdp.lit("Application Opened"),
        oversize="drop_largest",
        droppable=["trace"],
    )
    first = send(
        opens(4, uid=["a", "b", None, "d"], trace=["x"] * 3 + ["x" * 40_000]), box, mapping
    )
    second = send(first.failures.assign(uid="c", trace="x" * 40_000), box, None)
    assert second.dropped["cdp_row"].tolist() == [2]
    both = first + second
    assert both.dropped["cdp_row"].tolist() == [3, 2]
    assert list(both.dropped.columns) == ["cdp_source", "cdp_row", "cdp_dropped"]


def test_origins_take_little_memory() -> None:
    """Each of a million rows that are sent again takes 12 bytes, in any order."""
    rows = np.random.default_rng(1).permutation(4_000_000)[:1_000_000]
    table = pa.table(
        {"cdp_run": ["r"] * len(rows), "cdp_source": pa.nulls(len(rows)), "cdp_row": rows}
    )
    lineage = Lineage("own", table.schema)
    for chunk in open_source(table).chunks(table.column_names):
        origins = lineage.origins(chunk)
        assert origins is not None
    held = sum(high.nbytes + low.nbytes for high, low in lineage._seen._runs)
    assert held == 12 * len(rows)
    assert lineage.is_resent(origins).all()
    assert sum(part.num_rows for part in lineage.resent_origins()) == len(rows)
    again = pa.concat_tables(lineage.resent_origins()).column("cdp_row").to_numpy()
    assert np.array_equal(np.sort(again), np.sort(rows))


BAD_TEXT = b"caf\xe9"
LARGE = "x" * 40_000
BERLIN = {"timezone": "Europe/Berlin"}

# For each code: columns that cause it beside a good row, the mapping, and what the suggested fix
# does with the bad row: "delivered", "gone", or "same" where no fix can help.
PROBLEM_CASES: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("missing_user", {"uid": [None, "b"]}, {}, "gone"),
    ("missing_user", {"uid": ["NULL", "b"]}, {}, "gone"),
    ("missing_user", {"uid": [np.nan, 2.0]}, {}, "gone"),
    (
        "ambiguous_identity",
        {"uid": ["a", "b"], "did": ["d", "d"]},
        {"call": "identify", "anonymous_id": "did"},
        "gone",
    ),
    ("bad_user", {"uid": [1.5, 2.0]}, {}, "gone"),
    (
        "bad_user",
        {"did": [1.5, 2.0]},
        {"context": {"device": {"id": "did"}}},
        "delivered",
    ),
    ("bad_message_id", {"mid": [1.5, 2.0]}, {"message_id": "mid"}, "delivered"),
    ("missing_event", {"name": ["", "Application Opened"]}, {"event": "name"}, "delivered"),
    (
        "missing_event",
        {"name": pd.Categorical([None, "Application Opened"])},
        {"event": "name"},
        "delivered",
    ),
    (
        "missing_event",
        {"name": [np.nan, 1.0]},
        {"event": "name", "events": {"1": "Application Opened"}},
        "delivered",
    ),
    (
        "command",
        {"name": ["User Deleted", "x"]},
        {"event": "name", "other_events": "send"},
        "gone",
    ),
    (
        "unknown_event",
        {"name": ["their name", "Application Opened"]},
        {"event": "name"},
        "gone",
    ),
    ("missing_time", {"ts": [None, "2023-01-01T00:00:00Z"]}, {}, "gone"),
    ("bad_time", {"ts": ["10:00 May 1, 2023", "2023-01-01"]}, {}, "delivered"),
    ("bad_time", {"ts": ["10:00 May 1, 2023", "2023-01-01"]}, BERLIN, "delivered"),
    ("unclear_time", {"ts": [np.inf, 1.7e9]}, {}, "same"),
    (
        "bad_time",
        {"ts": pd.Categorical(["10:00 May 1, 2023", "2023-01-01"])},
        {},
        "delivered",
    ),
    ("unclear_time", {"ts": [17_053_146_001, 1_700_000_000]}, {}, "same"),
    ("unclear_time", {"ts": ["17053146001", "1700000000"]}, {}, "same"),
    ("unclear_time", {"ts": ["05/06/2023", "2023-01-01"]}, {}, "same"),
    ("ambiguous_time", {"ts": ["2024-10-27 02:30:00", "2023-01-01"]}, BERLIN, "gone"),
    ("too_early", {"ts": pd.to_datetime(["1970-01-01", "2023-01-01"])}, {}, "gone"),
    ("in_future", {"ts": pd.to_datetime(["2199-01-01", "2023-01-01"])}, {}, "gone"),
    ("nonexistent_time", {"ts": ["2024-03-31 02:30:00", "2023-01-01"]}, BERLIN, "delivered"),
    (
        "nonexistent_time",
        {"ts": pd.to_datetime(["2024-03-31 02:30:00", "2023-01-01 00:00:00"])},
        BERLIN,
        "delivered",
    ),
    (
        "nonexistent_time",
        {"when": pd.to_datetime(["2024-03-31 02:30:00", "2023-01-01 00:00:00"])},
        BERLIN,
        "delivered",
    ),
    (
        "bad_boolean",
        {"bg": ["perhaps", "yes"]},
        {"properties": {"from_background": "bg"}},
        "delivered",
    ),
    ("bad_boolean", {"bg": [7, 1]}, {"properties": {"from_background": "bg"}}, "delivered"),
    (
        "bad_device_type",
        {"kind": ["toaster", "ios"]},
        {"context": {"device": {"type": "kind"}}},
        "delivered",
    ),
    ("bad_text", {"note": pd.Series(["caf\ud83d", "tea"], dtype=object)}, {}, "delivered"),
    ("bad_text", {"note": [BAD_TEXT, b"tea"]}, {}, "delivered"),
    ("derive_failed", {"n": ["x", "1"]}, {"derive": {"number": "CAST(n AS INTEGER)"}}, "same"),
    ("not_finite", {"price": [np.inf, 1.0]}, {}, "delivered"),
    ("oversize", {"trace": [LARGE, "short"]}, {}, "delivered"),
    ("oversize", {"trace": [[LARGE], ["short"]]}, {}, "delivered"),
    ("recent", {}, {}, "same"),
    ("duplicate", {}, {}, "none"),
]


def test_every_code_has_a_case() -> None:
    """The next test covers every code of a problem, but for some that have tests of their own."""
    others = {"unreadable", "unmapped_event", "where_failed", "not_where", "excluded"}
    assert {code for code, *_ in PROBLEM_CASES} == set(PROBLEMS) - others


@pytest.mark.parametrize(("code", "columns", "options", "fate"), PROBLEM_CASES)
def test_suggested_fixes_work(
    box: Sandbox, code: str, columns: dict[str, Any], options: dict[str, Any], fate: str
) -> None:
    """Each fix runs on real failures with its code; the rows are then delivered or left out."""
    how: dict[str, Any] = {}
    frame = opens(2, **columns).set_index(pd.Index(["bad", "good"]))
    if code == "recent":
        now = pd.Timestamp("2023-05-02T00:00:00Z").to_pydatetime()
        how = {"recent": "hold", "now": now}
    if code == "duplicate":
        options = {"message_id": "uid", "duplicates": "skip"}
        frame["uid"] = "a"
    base = OPENED.to_dict() | {"event": OPENED.event}
    if "call" in options:
        base = {"user_id": OPENED.user_id}
    mapping = cdp.Mapping.from_dict(base | options)
    first = send(frame, box, mapping, **how)
    reasons = first.by_reason()
    if fate == "none":
        assert first.counts["skipped"] == 1
        assert reasons[["outcome", "fix"]].to_numpy().tolist() == [["skipped", ""]]
        return
    (reason,) = reasons.to_dict("records")[:1]
    assert reason["code"] == code
    assert reason["remedy"]
    bad = first.failures
    assert reason["row"] == bad["cdp_row"].iloc[0] == 0
    if code in ("derive_failed", "recent"):
        assert not reason["fix"]
        return
    assert reason["columns"] in {*frame.columns, "uid"}
    names: dict[str, Any] = {"failures": bad, "pd": pd}
    exec(reason["fix"], names)  # noqa: S102  # as a user would
    repaired = names["failures"]
    if fate == "gone":
        assert repaired.empty
        return
    again = send(repaired, box, None)
    if fate == "delivered":
        assert counts(again) == {"delivered": 1}, reason["fix"]
        assert (first + again).ok
    else:
        assert again.by_reason()["code"].tolist() != ["bad_time"]


def test_fixes_of_rows_with_several_problems_work(box: Sandbox) -> None:
    """Each pair of problems has one fix that repairs both, whatever comments it has."""
    bad: dict[str, Any] = {
        "name": None,
        "ts": "10:00 May 1, 2023",
        "bg": "perhaps",
        "kind": "toaster",
        "price": np.inf,
    }
    good = {"name": "app_open", "ts": "2023-05-01", "bg": "yes", "kind": "ios", "price": 1.0}
    pairs = list(itertools.combinations(bad, 2))
    frame = opens(
        len(pairs),
        **{name: [(bad if name in pair else good)[name] for pair in pairs] for name in bad},
    )
    report = send(
        frame,
        box,
        None,
        user_id="uid",
        timestamp="ts",
        event="name",
        events={"app_open": "Application Opened"},
        properties={"from_background": "bg"},
        context={"device": {"type": "kind"}},
    )
    reasons = report.by_reason()
    assert len(reasons) == len(pairs)
    names: dict[str, Any] = {"failures": report.failures, "pd": pd}
    for line in reasons["fix"]:
        exec(line, names)  # noqa: S102  # as a user would
    names["failures"]["name"] = names["failures"]["name"].replace("Application Opened", "app_open")
    assert counts(send(names["failures"], box, None)) == {"delivered": len(pairs)}


def test_reasons_are_shown_in_full(box: Sandbox) -> None:
    """Text, HTML and marimo show every sentence and fix, whatever the options of pandas."""
    frame = opens(3, uid=[None, "b", "c"], ts=["2023-05-01", "10:00 May 1, 2023", "2023-05-01"])
    report = send(frame, box)
    reasons: Any = report.by_reason()
    for shown in (repr(reasons), reasons._repr_html_(), reasons._display_()._repr_html_()):
        words = " ".join(html.unescape(re.sub("<[^>]*>", " ", shown)).split())
        for column in ("code", "reason", "remedy", "fix"):
            assert all(" ".join(text.split()) in words for text in reasons[column]), column
        assert "row 1" in words
    lines = repr(reasons).splitlines()
    assert all(any(line.endswith(fix) for line in lines) for fix in reasons["fix"])  # to be copied
    assert max(len(line) for line in lines if "failures" not in line) <= 80
    assert type(reasons[["code", "rows"]]) is pd.DataFrame
    assert repr(send(opens(1), box).by_reason()) == "No row failed: there is no reason to show"


def test_each_fix_changes_its_own_rows(box: Sandbox) -> None:
    """Reasons with the same code have separate fixes; a row with two problems gets both."""
    frame = opens(
        5,
        a=["yes", "perhaps", "no", "what", None],
        b=["no", "no", "odd", "odd", "yes"],
        n=[1.0, 2.0, 3.0, 4.0, np.inf],
    )
    mapping = {"properties": {"from_background": "a"}, "context": {"network": {"wifi": "b"}}}
    report = send(frame, box, cdp.Mapping.from_dict(OPENED.to_dict() | mapping))
    reasons = report.by_reason()
    assert reasons["columns"].tolist().count("a, b") == 1
    assert reasons["rows"].tolist() == [1, 1, 1, 1]
    names: dict[str, Any] = {"failures": report.failures, "pd": pd}
    for line in reasons["fix"]:
        exec(line, names)  # noqa: S102  # as a user would
    repaired = names["failures"]
    assert repaired["a"].isna().tolist() == [True, False, True, True]
    assert repaired["b"].isna().tolist() == [False, True, True, False]
    assert counts(report + send(repaired, box, None)) == {"delivered": 5}


def test_a_reason_names_the_file_and_the_row(box: Sandbox, tmp_path: Path) -> None:
    """Of one of the rows, as in the failures; without cells and labels."""
    for name, rows in (("a", ["x", "y"]), ("b", ["z", None])):
        opens(2, uid=rows).to_parquet(tmp_path / f"{name}.parquet")
    (reason,) = send(str(tmp_path / "*.parquet"), box, journal=False).by_reason().to_dict("records")
    assert (str(reason["source"])[-9:], reason["row"]) == ("b.parquet", 1)


def test_columns_that_are_numbers_can_be_repaired(box: Sandbox) -> None:
    """The fix uses the label of the frame."""
    frame = opens(2).assign(x=["perhaps", "no"]).rename(columns={"x": 7})
    report = send(
        frame,
        box,
        cdp.Mapping.from_dict(OPENED.to_dict() | {"properties": {"from_background": "7"}}),
    )
    names: dict[str, Any] = {"failures": report.failures, "pd": pd}
    exec(report.by_reason()["fix"][0], names)  # noqa: S102  # as a user would
    assert counts(send(names["failures"], box, None)) == {"delivered": 1}


def test_reasons_of_unsent_and_refused_rows(box: Sandbox, tmp_path: Path) -> None:
    """They need no repair, and the remedy says what to do; without failures there is no reason."""
    report = send(opens(20), box, canary=5, journal=tmp_path / "j")
    (reason,) = report.by_reason().to_dict("records")
    assert (reason["outcome"], reason["rows"], reason["row"], reason["fix"]) == (
        "unsent",
        15,
        5,
        "",
    )
    assert "send again without canary" in reason["remedy"]
    box.set_faults(refuse_users=["u3"])
    (reason,) = send(opens(20), box).by_reason().to_dict("records")
    assert (reason["outcome"], reason["code"], reason["row"]) == ("refused", "http_400", 3)
    assert "server's message" in reason["remedy"]
    none = send(opens(2), box).by_reason()
    assert none.empty
    assert none.columns.tolist() == [
        "outcome", "code", "columns", "reason", "rows", "source", "row", "remedy", "fix",
    ]  # fmt: skip


def test_reasons_are_counted_without_reading_the_failures(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No failed row is loaded, however many there are."""
    report = send(opens(50_000, uid=None), box)
    monkeypatch.setattr(type(report._failure_log), "_all_tables", lambda _: 1 / 0)
    assert report.by_reason()["rows"].tolist() == [50_000]


def test_reasons_of_a_sum_count_the_remaining_failures(box: Sandbox) -> None:
    """The example row of a reason is a failure that is still to be repaired."""
    first = send(opens(5, uid=FIVE), box)
    second = send(first.failures.iloc[:1].assign(uid="b", ts="x"), box, None)
    reasons = (first + second).by_reason()
    assert reasons[["code", "rows", "row"]].to_numpy().tolist() == [
        ["missing_user", 2, 3],
        ["bad_time", 1, 1],
    ]
    assert reasons["fix"].str.len().gt(0).all()


ODD_CELLS: dict[str, Any] = {
    "nanoseconds": pa.array([1, 2], pa.time64("ns")),
    "far dates": pa.array([0, 4_000_000], pa.date32()),
    "far times": pa.array([0, 2**60], pa.timestamp("s")),
    "zone": pa.array([0, 1], pa.timestamp("us", "Etc/GMT+5")),
    "empty structs": pa.array([{}, {}], pa.struct([])),
    "views": pa.array(["a", "b"], pa.string_view()),
    "runs": pa.RunEndEncodedArray.from_arrays([2], ["a"]),
    "halves": pa.array(np.array([0.5, 1], dtype=np.float16)),
    "decimals": pa.array([Decimal("0.1"), None], pa.decimal256(60, 30)),
    "lists of empty structs": pa.array([[{}], None], pa.list_(pa.struct([]))),
    "durations": pa.array([1, None], pa.duration("ns")),
}


@pytest.mark.parametrize("name", ODD_CELLS)
def test_failures_with_odd_cells_are_read_and_saved(
    box: Sandbox, tmp_path: Path, name: str
) -> None:
    """Whatever the other columns hold, every failure is in the frame and in the file."""
    table = pa.table(
        {"uid": [None, None], "ts": ["2023-05-01T10:00:00Z"] * 2, "x": ODD_CELLS[name]}
    )
    report = cdp.send(table, OPENED, destination=box.destination, progress=False)
    assert len(report.failures) == 2
    report.save(tmp_path)
    assert pq.read_table(tmp_path / "failures.parquet").num_rows == 2

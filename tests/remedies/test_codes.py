"""The remedy of each code is carried out on the rows that provoke the code."""

from __future__ import annotations

import threading
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pytest

import cdp_backfill as cdp
from cdp_backfill.delivery.task import Task
from cdp_backfill.model.outcomes import PROBLEMS
from cdp_backfill.results import remedies
from tests.remedies.lines import code_in, codes_of_runs
from tests.rows import OPENED, opens
from tests.sending import counts, send
from tests.servers import ReceivedRequest, Reply, Server, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

Step = tuple[dict[str, Any], dict[str, Any]]
"""Columns to change, and arguments to pass."""

NOW: Final = pd.Timestamp("2023-05-02T00:00:00Z").to_pydatetime()
LOCAL: Final = {"ts": ["2024-03-31 02:30:00", "2024-03-31 10:30:00"]}
LARGE: Final = "x" * 40_000

# For each code: columns and arguments that provoke it in the first of two rows; and what to change,
# each way by itself, so that all rows are delivered.
PROBLEM_CASES: Final[dict[str, tuple[Step, list[Step]]]] = {
    "missing_user": (({"uid": [None, "b"]}, {}), [({"uid": ["a", "b"]}, {})]),
    "bad_user": (({"uid": [1.2345e17, 2.0]}, {}), [({"uid": ["123450000000000000", "2"]}, {})]),
    "bad_message_id": (
        ({"mid": [1.5, 2.0]}, {"message_id": "mid"}),
        [({"mid": ["1.5", "2"]}, {}), ({"mid": [None, 2]}, {})],
    ),
    "missing_event": (
        ({"e": [None, "app_open"]}, {"event": "e", "events": {"app_open": cdp.Event.OPENED}}),
        [({"e": ["app_open"] * 2}, {}), ({}, {"event": cdp.lit(cdp.Event.OPENED), "events": {}})],
    ),
    "unknown_event": (
        ({"e": ["their", cdp.Event.OPENED]}, {"event": "e", "other_events": "invalid"}),
        [({}, {"events": {"their": cdp.Event.OPENED}}), ({}, {"other_events": "send"})],
    ),
    "command": (
        ({"e": ["User Deleted", cdp.Event.OPENED]}, {"event": "e", "other_events": "send"}),
        [({}, {"allow_commands": ["User Deleted"]})],
    ),
    "missing_time": (({"ts": [None, "2023-05-01"]}, {}), [({"ts": ["2023-05-01"] * 2}, {})]),
    "bad_time": (
        ({"ts": ["05/21/2023 10:00"] * 2}, {"date_order": "DMY"}),
        [
            ({}, {"date_order": "MDY"}),
            ({"ts": ["2023-05-01T10:00"] * 2}, {}),
            ({"ts": pd.to_datetime(["2023-05-01"] * 2)}, {}),
            ({"ts": [1682935200] * 2}, {"timestamp_unit": "s"}),
            (
                {"ts": ["10:00 05/01/2023"] * 2},
                {"derive": {"when": "strptime(ts, '%H:%M %m/%d/%Y')"}, "timestamp": "when"},
            ),
        ],
    ),
    "unclear_time": (
        ({"ts": [1_705_314_600_1, 1_705_314_600]}, {}),
        [
            ({"ts": [1_705_314_600] * 2}, {"timestamp_unit": "s"}),
            ({"ts": ["01/05/2023"] * 2}, {"date_order": "DMY"}),
        ],
    ),
    "too_early": (
        ({"ts": ["2005-05-01", "2023-05-01"]}, {}),
        [({}, {"earliest": "2005-04-30"}), ({"ts": ["2023-05-01"] * 2}, {})],
    ),
    "in_future": (({"ts": ["2099-05-01", "2023-05-01"]}, {}), [({"ts": ["2023-05-01"] * 2}, {})]),
    "nonexistent_time": (
        (LOCAL, {"timezone": "Europe/Berlin"}),
        [
            ({"ts": ["2024-03-31 03:30:00", LOCAL["ts"][1]]}, {}),
            ({}, {"nonexistent": "shift_forward"}),
        ],
    ),
    "ambiguous_time": (
        ({"ts": ["2024-10-27 02:30:00", "2024-10-27 10:30:00"]}, {"timezone": "Europe/Berlin"}),
        [({}, {"ambiguous": "earliest"}), ({}, {"ambiguous": "latest"})],
    ),
    "bad_boolean": (
        ({"bg": ["perhaps", "yes"]}, {"properties": {"from_background": "bg"}}),
        [({"bg": [True, False]}, {})],
    ),
    "bad_device_type": (
        ({"kind": ["toaster", "ios"]}, {"context": {"device": {"type": "kind"}}}),
        [({"kind": ["android", "ios"]}, {}), ({"kind": ["iPadOS", "ios"]}, {})],
    ),
    "bad_text": (
        ({"note": [b"caf\xe9", b"tea"]}, {}),
        [({"note": [b"caf\xe9".decode("latin-1"), "tea"]}, {})],
    ),
    "where_failed": (
        ({"n": ["x", "1"]}, {"where": "n::INT IS DISTINCT FROM 2"}),
        [({}, {"where": "TRY(n::INT) IS DISTINCT FROM 2"}), ({"n": ["3", "1"]}, {})],
    ),
    "not_where": (
        ({"n": [1, 2]}, {"where": "n > 1"}),
        [({}, {"where": "n > 0"}), ({"n": [2, 2]}, {})],
    ),
    "excluded": (
        ({}, {"exclude": ["u1"]}),
        [({}, {"exclude": ["u7"]}), ({"uid": ["u2", "u3"]}, {})],
    ),
    "derive_failed": (
        ({"n": ["x", "1"]}, {"derive": {"m": "n::INT"}}),
        [({}, {"derive": {"m": "TRY(n::INT)"}}), ({"n": ["2", "1"]}, {})],
    ),
    "not_finite": (
        ({"n": [np.inf, 1.0]}, {}),
        [({"n": [2.5, 1.0]}, {}), ({"n": [np.nan, 1.0]}, {})],
    ),
    "oversize": (
        ({"trace": [LARGE, "a"]}, {}),
        [
            ({"trace": [LARGE[:1000], "a"]}, {}),
            ({}, {"drop": ["trace"]}),
            ({}, {"droppable": ["trace"], "oversize": "drop_largest"}),
        ],
    ),
}
OTHER_PROBLEMS: Final = {
    "ambiguous_identity",
    "recent",
    "duplicate",
    "unmapped_event",
    "unreadable",
}
"""Codes that tests of their own provoke below, and in ``tests/results/test_unmapped.py``."""


def test_every_code_has_a_case() -> None:
    """A new code fails here until its remedy is carried out, and so does a new remedy."""
    assert PROBLEM_CASES.keys() | OTHER_PROBLEMS == PROBLEMS.keys()
    assert codes_of_runs() <= RUN_CODES.keys() | PROBLEMS.keys() | {"skipped"}
    assert remedies._REMEDIES.keys() <= RUN_CODES.keys() | PROBLEMS.keys()
    assert {str(outcome) for outcome in remedies._BY_OUTCOME} == {
        "refused", "failed", "unknown", "unsent",
    }  # fmt: skip


@pytest.mark.parametrize("code", PROBLEM_CASES)
def test_the_remedy_of_a_problem(box: Sandbox, code: str) -> None:
    """Each way that the remedy names ends the trouble; all code in it is used."""
    (columns, arguments), ways = PROBLEM_CASES[code]
    frame = opens(2, **columns)
    base = {name: getattr(OPENED, name) for name in ("user_id", "event", "timestamp")}
    report = send(frame, box, None, **base | arguments)
    assert report.by_reason()["code"].tolist() == [code]
    assert report.by_reason()["remedy"][0] == PROBLEMS[code]
    used: set[str] = set()
    for change, more in ways:
        again = send(frame.assign(**change), box, None, **base | arguments | more)
        assert again.counts["delivered"] == 2, again.by_reason()
        used |= {*more, *(value for value in more.values() if isinstance(value, str))}
        used |= {"TRY", "lit"} if {"derive", "event", "where"} & more.keys() else set()
    for each in code_in(PROBLEMS[code]):
        assert each.replace("=", "(").partition("(")[0] in used, each


def test_the_remedies_of_recent_rows_and_duplicates(box: Sandbox) -> None:
    """recent='send' and duplicates='send' send such rows."""
    report = send(opens(2), box, recent="hold", now=NOW)
    assert report.by_reason()["remedy"].tolist() == [remedies._REMEDIES["recent"]]
    assert counts(send(report.failures, box, None, recent="send", now=NOW)) == {"delivered": 2}
    later = NOW + pd.Timedelta(days=3)
    assert counts(send(report.failures, box, None, now=later)) == {"delivered": 2}
    twice = opens(2, uid="a")
    options: dict[str, Any] = {"message_id": "uid", "duplicates": "skip"}
    assert counts(send(twice, box, OPENED, **options)) == {"delivered": 1, "skipped": 1}
    options["duplicates"] = "send"
    assert counts(send(twice, box, OPENED, **options)) == {"delivered": 2}


def test_the_remedy_of_an_ambiguous_identity(box: Sandbox) -> None:
    """With one of the rows, or none, all is delivered."""
    mapping = cdp.Mapping(call="identify", user_id="uid", anonymous_id="did")
    frame = pd.DataFrame({"uid": ["a", "b"], "did": ["d", "d"]})
    report = send(frame, box, mapping)
    assert report.by_reason()["code"].tolist() == ["ambiguous_identity"]
    assert counts(send(frame[:1], box, mapping)) == {"delivered": 1}
    assert send(frame[:0], box, mapping).ok


def wrong_key(box: Sandbox, _: Path) -> None:
    """With the right key, the failures are delivered."""
    destination = cdp.Destination(base_url=box.url, api_key="wrong")
    with pytest.raises(cdp.AuthenticationError) as caught:
        send_to(destination)
    report = caught.value.report
    assert remedies._REMEDIES["http_401"] in report.by_reason()["remedy"].tolist()
    right = cdp.Destination(base_url=box.url, api_key=box.api_key)
    again = report.failures.cdp.send(destination=right, progress=False, journal=False)
    assert again.ok


def send_to(destination: cdp.Destination, **options: Any) -> cdp.Report:
    """Send two rows."""
    return cdp.send(
        opens(2), OPENED, destination=destination, progress=False, **{"journal": False} | options
    )


def broken_off(server: Server) -> cdp.Report:
    """The report of a run of two rows to a server that accepts the first one only."""
    destination = server.destination(max_messages=1, patience=0.05, workers=1)
    with pytest.raises(cdp.StoppedError) as caught:
        send_to(destination)
    report: cdp.Report = caught.value.report
    return report


def refused(box: Sandbox, _: Path) -> None:
    """The reason is that of the server; the repaired row is delivered."""
    box.set_faults(refuse_users=["u1"])
    report = send(opens(2), box)
    assert remedies._BY_OUTCOME[cdp.Outcome.REFUSED] in report.by_reason()["remedy"].tolist()
    assert counts(send(report.failures.assign(uid="other"), box, None)) == {"delivered": 1}


def retried(status: int | None, code: str, outcome: str) -> Callable[[Sandbox, Path], None]:
    """After the trouble, ``report.retry()`` delivers the rows with the same ids."""

    def check(_: Sandbox, __: Path) -> None:
        trouble = [True]

        def answer(number: int, ___: Any) -> Reply:
            # The first request is answered well, so that the server counts as reachable.
            return (
                Reply(status, reset=status is None and code == "connection")
                if (number and trouble[0])
                else Reply()
            )

        with serving(answer) as server:
            report = broken_off(server)
            assert report.failures["cdp_code"].tolist() == [code]
            assert report.by_reason()["outcome"].tolist() == [outcome]
            assert "report.retry()" in report.by_reason()["remedy"][0]
            trouble.clear()
            trouble.append(False)
            assert counts(report.retry()) == {"delivered": 1}

    return check


def unreachable(_: Sandbox, __: Path) -> None:
    """When the network is back, ``report.retry()`` delivers the row."""

    def answer(_: int, request: ReceivedRequest) -> Reply:
        if request.raw and back is None:
            server.http.shutdown()
            server.http.server_close()
            return Reply(headers={"Connection": "close"})
        return Reply()

    back = None
    with serving(answer) as server:
        report = broken_off(server)
        assert report.failures["cdp_code"].tolist() == ["connection"]
        assert "report.retry()" in report.by_reason()["remedy"][0]
        back = ThreadingHTTPServer(server.http.server_address, server.http.RequestHandlerClass)
        thread = threading.Thread(target=back.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        assert counts(report.retry()) == {"delivered": 1}
        back.shutdown()
        back.server_close()
        thread.join()


def canary(box: Sandbox, folder: Path) -> None:
    """Without the canary and with the same journal, the rest is delivered."""
    report = send(opens(4), box, canary=1, journal=folder / "j")
    assert report.by_reason()["remedy"].tolist() == [remedies._REMEDIES["canary"]]
    assert send(opens(4), box, journal=folder / "j").counts["delivered"] == 4


def stopped(box: Sandbox, folder: Path) -> None:
    """``report.retry()`` sends the rows that the run did not come to."""
    destination = cdp.Destination(base_url=box.url, api_key="wrong")
    with pytest.raises(cdp.AuthenticationError) as caught:
        cdp.send(opens(3), OPENED, destination=destination, progress=False, journal=folder / "s")
    outcomes = caught.value.report.by_reason()
    assert set(outcomes["outcome"]) == {"unsent"}


def broken(box: Sandbox, _: Path) -> None:
    """Once the cause is gone, ``report.retry()`` sends the rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "body", lambda _: 1 / 0)
        with pytest.raises(cdp.BackfillError) as caught:
            send(opens(2), box)
    report: cdp.Report = caught.value.report  # type: ignore[attr-defined]
    assert report.failures["cdp_code"].tolist() == ["error"] * 2
    assert "report.retry()" in report.by_reason()["remedy"][0]
    assert counts(report.retry()) == {"delivered": 2}


def permissive(box: Sandbox, _: Path) -> None:
    """Retried in strict mode, the rows are delivered."""
    loose = cdp.Destination(base_url=box.url, api_key=box.api_key, strict=False)
    report = send_to(loose)
    assert report.by_reason()["code"].tolist() == ["permissive"]
    assert "report.retry()" in report.by_reason()["remedy"][0]
    assert counts(report.retry()) == {"unknown": 2}
    assert counts(send(report.failures, box, None)) == {"delivered": 2}


RUN_CODES: Final[dict[str, Callable[[Sandbox, Path], None]]] = {
    "http_400": refused,
    "http_401": wrong_key,
    "http_429": retried(429, "http_429", "failed"),
    "http_503": retried(503, "http_503", "unknown"),
    "connection": unreachable,
    "no_answer": retried(None, "no_answer", "unknown"),
    "cancelled": retried(None, "no_answer", "unknown"),  # the same outcome and remedy
    "canary": canary,
    "error": broken,
    "stopped": stopped,
    "permissive": permissive,
}


@pytest.mark.parametrize("code", RUN_CODES)
def test_the_remedy_of_a_run(code: str, box: Sandbox, tmp_path: Path) -> None:
    """What ``by_reason()`` tells is done, and the rows are delivered."""
    RUN_CODES[code](box, tmp_path)

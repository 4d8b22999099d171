"""All calls of the box: what each needs, what is kept, and what a rude client gets."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import socket
from typing import TYPE_CHECKING, Any

import httpx
import hypothesis
import pandas as pd
import pytest
import schemathesis
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.cli.rehearse import rehearse
from cdp_backfill.emulator import application, fast_path
from tests.emulator.test_sandbox import EXAMPLE, post

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

BASE: dict[str, Any] = {
    "userId": "u1",
    "messageId": "m1",
    "timestamp": "2024-01-15T10:30:00.5+02:00",
    "context": {"ip": "1.2.3.4"},
    "integrations": {"All": False},
}

CALLS: dict[str, dict[str, Any]] = {
    "identify": BASE | {"traits": {"plan": "pro", "seats": 3}},
    "track": BASE
    | {"type": "track", "event": "Application Opened", "properties": {"from_background": True}},
    "page": BASE | {"name": "Home", "category": "Docs", "properties": {"url": "x"}},
    "screen": BASE | {"name": "Start", "category": "App", "properties": {"n": None}},
    "group": BASE | {"groupId": "g1", "traits": {"name": "us"}},
    "alias": BASE | {"previousId": "u0"},
}

NEEDED = {
    "identify": ["userId"],
    "track": ["userId", "event", "type"],
    "page": ["userId"],
    "screen": ["userId"],
    "group": ["groupId"],
    "alias": ["userId", "previousId"],
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("batched", [True, False])
def test_each_call_is_kept_field_by_field(box: Sandbox, call: str, *, batched: bool) -> None:
    """Alone and in a batch; unknown fields pass."""
    message = CALLS[call] | {"type": call, "channel": "server", "unknown": {"a": [1]}}
    path, body = ("/batch", {"batch": [message]}) if batched else (f"/{call}", message)
    answer = post(box, path, body)
    assert (answer.status_code, answer.json()) == (200, {})
    (stored,) = box.events().to_dict("records")
    assert stored["type"] == call
    assert stored["timestamp"].isoformat(timespec="milliseconds") == "2024-01-15T08:30:00.500+00:00"
    for name, value in CALLS[call].items():
        if name != "timestamp":
            assert stored[name] == value
    assert stored["repeated"] is False


@pytest.mark.parametrize(("call", "name"), [(c, n) for c, names in NEEDED.items() for n in names])
@pytest.mark.parametrize("strict", [True, False])
def test_what_is_required(box: Sandbox, call: str, name: str, *, strict: bool) -> None:
    """Each required field left out in turn: 400 and why, or 200; nothing is kept."""
    for gone in ({}, {name: None}, {name: ""}):
        message = {key: value for key, value in CALLS[call].items() if key != name} | gone
        answer = post(box, f"/{call}", message, strict=strict)
        assert answer.status_code == (400 if strict else 200)
        words = "type must be" if gone == {"type": ""} else "is required"
        assert answer.json() == {} or words in answer.json()["meta"]["errors"][0]
    assert len(box.events()) == 0
    assert len(box.rejected()) == 3


@pytest.mark.parametrize("name", ["userId", "type", "event"])
def test_the_example_of_the_page_without_a_field(box: Sandbox, name: str) -> None:
    """The vendor's example without what its page requires: 400, or 200; nothing is kept."""
    message = {key: value for key, value in EXAMPLE.items() if key != name}
    for path, body in (("/track", message), ("/batch", {"batch": [message]})):
        for strict in (True, False):
            answer = post(box, path, body, strict=strict)
            assert answer.status_code == (400 if strict else 200)
    assert len(box.events()) == 0


def test_anonymous_ids_are_enough(box: Sandbox) -> None:
    """For every call but alias."""
    for call, message in CALLS.items():
        body = {**message, "userId": None, "anonymousId": "a1"}
        assert post(box, f"/{call}", body).status_code == (400 if call == "alias" else 200)
    assert box.people().to_dict("records")[0] | {"first": 0, "last": 0} == {
        "id": "a1", "anonymous": 1, "messages": 5, "first": 0, "last": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("event", "properties", "words"),
    [
        ("Application Installed", {"version": 2}, "properties.version must be a string"),
        (
            "Application Updated",
            {"previous_build": 7},
            "properties.previous_build must be a string",
        ),
        ("Application Opened", {"from_background": "yes"}, "must be a boolean"),
        ("Application Opened", {"url": {}}, "properties.url must be a string"),
        ("Application Installed", {"version": None, "other": 7}, None),
        ("Something Else", {"version": 2}, None),
    ],
)
def test_properties_of_mobile_events(
    box: Sandbox, event: str, properties: dict[str, Any], words: str | None
) -> None:
    """Their documented types are checked; further ones, and those of other events, pass."""
    answer = post(box, "/track", EXAMPLE | {"event": event, "properties": properties})
    assert answer.status_code == (400 if words else 200)
    assert words is None or words in answer.json()["meta"]["errors"][0]


def test_what_is_not_documented_is_a_choice() -> None:
    """Whether a 400 names the bad messages, and whether the rest of their batch is kept."""
    body = {"batch": [EXAMPLE, EXAMPLE | {"event": None}, EXAMPLE | {"userId": 7}]}
    with cdp.sandbox(keep_rest=True) as box:
        errors = post(box, "/batch", body).json()["meta"]["errors"]
        assert [error[:8] for error in errors] == ["batch[1]", "batch[2]"]
        assert len(box.events()) == 1
        assert box.rejected()["position"].tolist() == [1, 2]
    with cdp.sandbox(name_bad=False) as box:
        (error,) = post(box, "/batch", body).json()["meta"]["errors"]
        assert error == "the batch holds messages that are not valid"
        assert len(box.events()) == 0


def test_a_backfill_survives_each_choice() -> None:
    """Whatever the server does with the rest of a bad batch, each row has one outcome."""
    frame = pd.DataFrame({"uid": [f"u{n}" for n in range(40)], "ts": "2023-05-01T10:00:00Z"})
    for options in ({}, {"name_bad": False}, {"keep_rest": True}):
        with cdp.sandbox(refuse_users=["u7"], **options) as box:  # type: ignore[arg-type]
            report = frame.cdp.send(
                user_id="uid",
                timestamp="ts",
                event=cdp.lit("Application Opened"),
                destination=box.destination,
                progress=False,
            )
            assert report.counts["delivered"] == 39
            assert report.counts["refused"] == 1
            assert len(box.totals()) == 1
            assert int(box.totals()["ids"].iloc[0]) == 39


def test_questions_of_ones_own(box: Sandbox) -> None:
    """SQL over what came in; it can only read."""
    for _ in range(2):
        post(box, "/track", EXAMPLE | {"messageId": "m1"})
    assert box.events()["repeated"].tolist() == [False, True]
    assert box.duplicates()["times"].tolist() == [2]
    found = box.sql("SELECT userId, count(*) AS n FROM messages GROUP BY 1")
    assert found.to_dict("records") == [{"userId": "user_12345", "n": 2}]
    with pytest.raises(pd.errors.DatabaseError):
        box.sql("DELETE FROM messages")
    with pytest.raises(pd.errors.DatabaseError):
        box.sql("nonsense")
    assert post(box, "/track", EXAMPLE).status_code == 200


def test_health_and_readiness(box: Sandbox) -> None:
    """Both answer without a key; the description is there."""
    root = box.page
    assert httpx.get(root + "health").json() == {"status": "ok"}
    assert httpx.get(root + "ready").json() == {"status": "ready"}
    described = httpx.get(root + "openapi.json").json()
    assert described["openapi"] == "3.1.0"
    assert set(described["paths"]) == {
        *(f"/v1/{call}" for call in (*CALLS, "batch")),
        "/health",
        "/ready",
    }


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
def test_the_description_holds(box: Sandbox, mode: schemathesis.GenerationMode) -> None:
    """Schemathesis makes right and wrong calls of it, and finds nothing to object to."""
    described = httpx.get(box.page + "openapi.json").json()
    # The key and strict mode go with every call: without them anything goes, by design.
    del described["security"], described["components"]["securitySchemes"]
    for operations in described["paths"].values():
        operations.get("post", {}).pop("parameters", None)
    schema = schemathesis.openapi.from_dict(described)
    schema.config.update(base_url=box.page)
    calls = [f"/v1/{call}" for call in (*CALLS, "batch")]
    for path in calls if mode is schemathesis.GenerationMode.NEGATIVE else [*calls, "/health"]:
        operation = schema[path]["GET" if path == "/health" else "POST"]

        @hypothesis.settings(max_examples=40, suppress_health_check=list(hypothesis.HealthCheck))
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            case.call_and_validate(headers={"X-Strict-Mode": "1"}, auth=(box.api_key, ""))

        check()
    statuses = set(box.requests()["status"])
    assert statuses <= {200, 400, 413, 415}
    assert (200 if mode is schemathesis.GenerationMode.POSITIVE else 400) in statuses


# --- rude clients -------------------------------------------------------------------------------


def test_deep_nesting(box: Sandbox) -> None:
    """Ten thousand levels are refused, a few hundred are kept."""
    for depth, status in ((300, 200), (10_000, 400)):
        deep = b'{"a":' * depth + b"1" + b"}" * depth
        body = (
            json.dumps(EXAMPLE | {"properties": {}})
            .encode()
            .replace(b'"properties": {}', b'"properties": ' + deep)
        )
        assert post(box, "/track", body).status_code == status
    assert post(box, "/track", EXAMPLE).status_code == 200


def test_a_body_beyond_any_limit(box: Sandbox) -> None:
    """It is not read to its end, compressed or not."""
    large = b" " * 9_000_000
    assert post(box, "/batch", large).status_code == 413
    packed = gzip.compress(large)
    assert post(box, "/batch", packed, headers={"Content-Encoding": "gzip"}).status_code == 413
    assert post(box, "/track", EXAMPLE, headers={"Content-Type": "text/csv"}).status_code == 415


def test_a_slow_client_holds_nobody_up(box: Sandbox) -> None:
    """While one sends its body byte by byte, others are answered; when it goes, so be it."""
    host, port = box.url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(b"POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        for _ in range(5):
            slow.sendall(b" ")
            assert post(box, "/track", EXAMPLE).status_code == 200
    assert post(box, "/track", EXAMPLE).status_code == 200
    assert len(box.events()) == 6


def test_two_thousand_connections(box: Sandbox) -> None:
    """All are open at the same time, and each gets its answer."""
    count = 2_000
    body = json.dumps(EXAMPLE).encode()
    key = base64.b64encode(f"{box.api_key}:".encode()).decode()
    head = (
        f"POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Basic {key}\r\nX-Strict-Mode: 1\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    host, port = box.url.removeprefix("http://").removesuffix("/v1").split(":")

    async def all_at_once() -> list[bytes]:
        opened = [await asyncio.open_connection(host, int(port)) for _ in range(count)]
        for _, writer in opened:
            writer.write(head + body)
        answers = [await reader.readline() for reader, _ in opened]
        for _, writer in opened:
            writer.close()
        return answers

    answers = asyncio.run(all_at_once())
    assert set(answers) == {b"HTTP/1.1 200 OK\r\n"}
    assert len(box.events()) == count


# --- for the tests of others, and rehearsals --------------------------------------------------


def test_the_fixture_for_others(pytester: pytest.Pytester) -> None:
    """``cdp_sandbox`` is there in a project that only installed this package."""
    pytester.makepyfile(
        """
        import pandas as pd
        import cdp_backfill as cdp

        def test_mine(cdp_sandbox):
            frame = pd.DataFrame({"uid": ["a"], "ts": ["2023-05-01T10:00:00Z"]})
            frame.cdp.send(
                user_id="uid", timestamp="ts", event=cdp.lit("Application Opened"),
                destination=cdp_sandbox.destination, progress=False,
            )
            assert cdp_sandbox.events()["userId"].tolist() == ["a"]
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_a_rehearsal_shows_what_differs(tmp_path: Path) -> None:
    """Rows that the box drops in silence are missing by event and day."""
    frame = pd.DataFrame(
        {
            "uid": ["a", "b", "c"],
            "ts": ["2023-05-01T23:59:59Z", "2023-05-02T00:00:00Z", "2023-05-02T10:00:00Z"],
        }
    )
    mapping = cdp.Mapping(user_id="uid", timestamp="ts", event=cdp.lit("Application Opened"))
    fine = rehearse(frame, mapping, tmp_path / "fine", progress=False)
    assert fine.ok
    assert fine.stored == {
        ("Application Opened", "2023-05-01"): 1,
        ("Application Opened", "2023-05-02"): 2,
    }
    assert "2 of 2" in str(fine)
    lost = rehearse(frame, mapping, tmp_path / "lost", progress=False, silent=1.0)
    assert lost.report.ok
    assert not lost.ok
    assert lost.differences() == [
        ("Application Opened", "2023-05-01", 1, 0),
        ("Application Opened", "2023-05-02", 2, 0),
    ]
    assert "Days that differ" in str(lost)
    assert lost.to_dict()["differences"][0]["planned"] == 1


fields: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["track", "identify", None, 3]),
        "event": st.sampled_from(["Application Opened", "Else", "", None, 1]),
        "userId": st.sampled_from(["u1", "bad", "", None, 1]),
        "anonymousId": st.sampled_from(["a1", "", None]),
        "messageId": st.sampled_from(["m1", None, 5]),
        "timestamp": st.sampled_from(
            [
                "2024-01-15T10:30:00.000Z",
                "2024-01-15T10:30:00Z",
                "2024-01-15T10:30:00.000+02:00",
                "2024-01-15T10:30:00.0001",
                "2024-02-30T10:30:00.000Z",
                "nonsense",
                None,
            ]
        ),
        "properties": st.sampled_from(
            [{"url": "x", "n": [1]}, {"url": 1}, {"from_background": True}, {}, None, [], "x"]
        ),
        "context": st.sampled_from([{"ip": "1"}, {}, None, [], 7]),
        "integrations": st.sampled_from([{"All": False}, {"All": {}}, {"All": 3}, {}, None, 7]),
        "unknown": st.sampled_from([1, {}, None]),
    },
)


@hypothesis.given(messages=st.lists(fields, max_size=4), top=fields)
def test_the_short_way_says_the_same_as_the_long_one(
    messages: list[dict[str, Any]], top: dict[str, Any]
) -> None:
    """Where it says anything: the same messages, field by field."""
    shared = {name: top[name] for name in ("context", "integrations") if name in top}
    body = json.dumps({"batch": messages} | shared).encode()
    refused = frozenset({"bad"})
    short = fast_path.rows_of(body, refused)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(application, "rows_of", lambda *_: None)
        try:
            found = application._read("/batch", body, refused)
        except application._Refused:
            assert short is None
            return
    if short is None:
        return
    assert not found.bad
    assert found.dropped is None
    for one, other in zip(short, found.kept, strict=True):
        assert [_meant(cell) for cell in one] == [_meant(cell) for cell in other]


def _meant(cell: Any) -> Any:
    return json.loads(cell) if isinstance(cell, str) and cell[:1] == "{" else cell


def test_plain_messages_take_the_short_way() -> None:
    """It is taken for what a backfill sends, and not for what is too large or refused."""
    body = json.dumps({"batch": [EXAMPLE | {"properties": {"version": "1"}}]}).encode()
    assert fast_path.rows_of(body, frozenset()) is not None
    assert fast_path.rows_of(body, frozenset({"user_12345"})) is None
    large = json.dumps({"batch": [EXAMPLE | {"properties": {"x": "y" * 32_000}}]}).encode()
    assert fast_path.rows_of(large, frozenset()) is None

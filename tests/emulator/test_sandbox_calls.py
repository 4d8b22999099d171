"""All calls of the sandbox: required fields, stored fields, and misbehaving clients."""

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

import cdp_backfill as cdp
from cdp_backfill.cli.rehearse import rehearse
from cdp_backfill.model import api_facts
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

REQUIRED = {
    "identify": ["userId"],
    "track": ["userId", "event"],
    "page": ["userId"],
    "screen": ["userId"],
    "group": ["groupId"],
    "alias": ["userId", "previousId"],
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("batched", [True, False])
def test_each_call_is_stored_field_by_field(box: Sandbox, call: str, *, batched: bool) -> None:
    """Each call is stored alone and in a batch; unknown fields are allowed."""
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


@pytest.mark.parametrize(("call", "name"), [(c, n) for c, names in REQUIRED.items() for n in names])
@pytest.mark.parametrize("strict", [True, False])
def test_required_fields(box: Sandbox, call: str, name: str, *, strict: bool) -> None:
    """Without a required field, the answer is 400 with the reason, or 200. Nothing is stored."""
    for replacement in ({}, {name: None}, {name: ""}):
        message = {key: value for key, value in CALLS[call].items() if key != name} | replacement
        answer = post(box, f"/{call}", message, strict=strict)
        assert answer.status_code == (400 if strict else 200)
        assert answer.json() == {} or "is required" in answer.json()["meta"]["errors"][0]
    assert len(box.events()) == 0
    assert len(box.rejected()) == 3


@pytest.mark.parametrize("name", ["userId", "event"])
def test_the_vendors_example_without_a_field(box: Sandbox, name: str) -> None:
    """The vendor's example without a required field gets 400, or 200. Nothing is stored."""
    message = {key: value for key, value in EXAMPLE.items() if key != name}
    for path, body in (("/track", message), ("/batch", {"batch": [message]})):
        for strict in (True, False):
            answer = post(box, path, body, strict=strict)
            assert answer.status_code == (400 if strict else 200)
    assert len(box.events()) == 0


@pytest.mark.parametrize("call", CALLS)
def test_only_a_batch_needs_types(box: Sandbox, call: str) -> None:
    """A single call sets the type itself; a message of a batch without one is invalid."""
    message = {name: value for name, value in CALLS[call].items() if name != "type"}
    assert post(box, f"/{call}", message).status_code == 200
    assert post(box, f"/{call}", message | {"type": None}).status_code == 200
    assert box.events()["type"].tolist() == [call] * 2
    for each in ({}, {"type": None}):
        answer = post(box, "/batch", {"batch": [message | each]})
        assert answer.json()["meta"]["errors"] == ["batch[0]: type is required"]
    other = "page" if call == "track" else "track"
    answer = post(box, f"/{call}", message | {"type": other})
    assert answer.json()["meta"]["errors"] == [f"type must be {call}"]
    assert len(box.events()) == 2


def test_anonymous_ids_are_enough(box: Sandbox) -> None:
    """An anonymous id replaces the user id in every call but alias."""
    for call, message in CALLS.items():
        body = {**message, "userId": None, "anonymousId": "a1"}
        assert post(box, f"/{call}", body).status_code == (400 if call == "alias" else 200)
    assert box.people().to_dict("records")[0] | {"first": 0, "last": 0} == {
        "id": "a1", "anonymous": 1, "messages": 5, "first": 0, "last": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("event", "properties", "reason"),
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
    box: Sandbox, event: str, properties: dict[str, Any], reason: str | None
) -> None:
    """Documented types are checked; other properties and other events may have any type."""
    answer = post(box, "/track", EXAMPLE | {"event": event, "properties": properties})
    assert answer.status_code == (400 if reason else 200)
    assert reason is None or reason in answer.json()["meta"]["errors"][0]


def test_sql_queries(box: Sandbox) -> None:
    """They read the stored messages and cannot change them."""
    for _ in range(2):
        post(box, "/track", EXAMPLE | {"messageId": "m1"})
    assert box.events()["repeated"].tolist() == [False, True]
    assert box.duplicates()["times"].tolist() == [2]
    result = box.sql("SELECT userId, count(*) AS n FROM messages GROUP BY 1")
    assert result.to_dict("records") == [{"userId": "user_12345", "n": 2}]
    with pytest.raises(pd.errors.DatabaseError):
        box.sql("DELETE FROM messages")
    with pytest.raises(pd.errors.DatabaseError):
        box.sql("nonsense")
    assert post(box, "/track", EXAMPLE).status_code == 200


def test_health_and_readiness(box: Sandbox) -> None:
    """Both answer without a key, and so does the OpenAPI description."""
    root = box.page
    assert httpx.get(root + "health").json() == {"status": "ok"}
    assert httpx.get(root + "ready").json() == {"status": "ready"}
    description = httpx.get(root + "openapi.json").json()
    assert description["openapi"] == "3.1.0"
    assert set(description["paths"]) == {
        *(f"/v1/{call}" for call in (*CALLS, "batch")),
        *(f"/v1{path}" for path in api_facts.SHORT_PATHS),
        "/health",
        "/ready",
    }


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
def test_the_openapi_description_is_correct(
    box: Sandbox, mode: schemathesis.GenerationMode
) -> None:
    """Schemathesis makes valid and invalid calls, and every answer fits the description."""
    description = httpx.get(box.page + "openapi.json").json()
    # Every call has the key and strict mode: without strict mode, every answer is 200.
    del description["security"], description["components"]["securitySchemes"]
    for operations in description["paths"].values():
        operations.get("post", {}).pop("parameters", None)
    schema = schemathesis.openapi.from_dict(description)
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


# --- misbehaving clients --------------------------------------------------------------------------


def test_deep_nesting(box: Sandbox) -> None:
    """300 levels are stored, 10,000 are refused."""
    for depth, status in ((300, 200), (10_000, 400)):
        deep = b'{"a":' * depth + b"1" + b"}" * depth
        body = (
            json.dumps(EXAMPLE | {"properties": {}})
            .encode()
            .replace(b'"properties": {}', b'"properties": ' + deep)
        )
        assert post(box, "/track", body).status_code == status
    assert post(box, "/track", EXAMPLE).status_code == 200


def test_a_body_that_is_too_large(box: Sandbox) -> None:
    """It is refused before its end, compressed or not."""
    large = b" " * 9_000_000
    assert post(box, "/batch", large).status_code == 413
    packed = gzip.compress(large)
    assert post(box, "/batch", packed, headers={"Content-Encoding": "gzip"}).status_code == 413
    assert post(box, "/track", EXAMPLE, headers={"Content-Type": "text/csv"}).status_code == 415


def test_a_slow_client_delays_nobody(box: Sandbox) -> None:
    """Other clients are answered while one sends its body byte by byte."""
    host, port = box.url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(b"POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        for _ in range(5):
            slow.sendall(b" ")
            assert post(box, "/track", EXAMPLE).status_code == 200
    assert post(box, "/track", EXAMPLE).status_code == 200
    assert len(box.events()) == 6


def test_two_thousand_connections(box: Sandbox) -> None:
    """They are open at the same time, and each is answered."""
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


# --- the pytest fixture, and rehearsals -----------------------------------------------------------


def test_the_pytest_fixture(pytester: pytest.Pytester) -> None:
    """A project that installs this package can use the fixture ``cdp_sandbox``."""
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


def test_a_rehearsal_shows_differences(tmp_path: Path) -> None:
    """Rows that the sandbox drops silently are missing by event and day."""
    frame = pd.DataFrame(
        {
            "uid": ["a", "b", "c"],
            "ts": ["2023-05-01T23:59:59Z", "2023-05-02T00:00:00Z", "2023-05-02T10:00:00Z"],
        }
    )
    mapping = cdp.Mapping(user_id="uid", timestamp="ts", event=cdp.lit("Application Opened"))
    fine = rehearse(frame, {"mapping": mapping}, tmp_path / "fine", progress=False)
    assert fine.ok
    assert fine.stored == {
        ("Application Opened", "2023-05-01"): 1,
        ("Application Opened", "2023-05-02"): 2,
    }
    assert "2 of 2" in fine.view().text()
    lost = rehearse(frame, {"mapping": mapping}, tmp_path / "lost", progress=False, silent=1.0)
    assert lost.report.ok
    assert not lost.ok
    assert lost.differences() == [
        ("Application Opened", "2023-05-01", 1, 0),
        ("Application Opened", "2023-05-02", 2, 0),
    ]
    assert "Days that differ" in lost.view().text()
    assert lost.to_dict()["differences"][0]["planned"] == 1

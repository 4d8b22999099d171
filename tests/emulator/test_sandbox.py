"""The sandbox, called by clients that do not use this package."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import cdp_backfill as cdp
from cdp_backfill.emulator.faults import FaultInjector, Faults
from cdp_backfill.model import api_facts

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

# The request example on the vendor's page, unchanged.
EXAMPLE: dict[str, Any] = {
    "userId": "user_12345",
    "type": "track",
    "event": "Application Installed",
    "timestamp": "2024-01-15T10:30:00.000Z",
    "properties": {"version": "2.1.0", "build": "421", "additionalProperty": None},
    "context": {"additionalProperty": "anything"},
    "integrations": {"All": False, "Mixpanel": True, "Segment": True},
}


def post(
    box: Sandbox, path: str, body: Any, *, strict: bool = True, **options: Any
) -> httpx.Response:
    """Send a body to a call of the sandbox."""
    headers = {"Content-Type": "application/json"} | options.pop("headers", {})
    if strict:
        headers["X-Strict-Mode"] = "1"
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    auth = options.pop("auth", (box.api_key, ""))
    return httpx.post(box.url + path, content=content, headers=headers, auth=auth, **options)


def test_the_vendors_example_with_curl(box: Sandbox) -> None:
    """The vendor's example, sent with curl as on its page, is stored field by field."""
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    command = [
        "curl", f"{box.url}/track", "--silent", "--show-error", "--request", "POST",
        "--header", "X-Strict-Mode: 1", "--header", "Content-Type: application/json",
        "--user", f"{box.api_key}:", "--data", json.dumps(EXAMPLE),
    ]  # fmt: skip
    answer = subprocess.run(command, capture_output=True, check=True)
    assert json.loads(answer.stdout) == {}
    (stored,) = box.events().to_dict("records")
    assert stored["userId"] == "user_12345"
    assert stored["event"] == "Application Installed"
    assert stored["timestamp"].isoformat() == "2024-01-15T10:30:00+00:00"
    assert stored["properties"] == EXAMPLE["properties"]
    assert stored["context"] == EXAMPLE["context"]
    assert stored["integrations"] == EXAMPLE["integrations"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"userId": None}, "userId or anonymousId is required"),
        ({"userId": ""}, "userId or anonymousId is required"),
        ({"userId": 3}, "userId"),
        ({"event": None}, "event is required"),
        ({"event": ["x"]}, "event"),
        ({"type": "nonsense"}, "type must be"),
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"timestamp": "2024-01-15T10:30:00"}, "time zone"),
        ({"properties": []}, "properties"),
        ({"context": "x"}, "context"),
        ({"integrations": {"All": "no"}}, "integrations.All must be a boolean"),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("path", ["/track", "/batch"])
def test_an_invalid_message(
    box: Sandbox, change: dict[str, Any], reason: str, *, strict: bool, path: str
) -> None:
    """In strict mode the answer is 400 with the reason; without it 200. Nothing is stored."""
    message = EXAMPLE | change
    body = {"batch": [EXAMPLE, message]} if path == "/batch" else message
    answer = post(box, path, body, strict=strict)
    if strict:
        assert answer.status_code == 400
        (error,) = answer.json()["meta"]["errors"]
        assert reason in error
        assert ("batch[1]" in error) == (path == "/batch")
    else:
        assert (answer.status_code, answer.json()) == (200, {})
    assert len(box.events()) == 0
    assert reason in box.requests()["reason"][0]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"batch": 3}']
)
@pytest.mark.parametrize("path", ["/track", "/batch"])
def test_a_body_that_is_no_message(box: Sandbox, body: bytes, path: str) -> None:
    """Invalid JSON gets 400, and the sandbox keeps running."""
    assert post(box, path, body).status_code == 400
    assert post(box, path, body, strict=False).status_code == 200
    assert post(box, "/track", EXAMPLE).status_code == 200


@pytest.mark.parametrize(
    "auth", [None, ("wrong", ""), ("sandbox", "password"), ("", ""), ("é", "")]
)
def test_a_wrong_key(box: Sandbox, auth: Any) -> None:
    """In strict mode the answer is 401; without it 200. Nothing is stored."""
    assert post(box, "/track", EXAMPLE, auth=auth).status_code == 401
    assert post(box, "/track", EXAMPLE, auth=auth, strict=False).status_code == 200
    assert len(box.events()) == 0


def test_gzip(box: Sandbox) -> None:
    """A gzip body is read; a body that is not gzip, or has another encoding, is refused."""
    packed = gzip.compress(json.dumps(EXAMPLE).encode())
    gz = {"Content-Encoding": "gzip"}
    assert post(box, "/track", packed, headers=gz).status_code == 200
    assert post(box, "/track", b"plain", headers=gz).status_code == 400
    assert post(box, "/track", packed[:-9], headers=gz).status_code == 400
    assert post(box, "/track", packed, headers={"Content-Encoding": "br"}).status_code == 415
    assert len(box.events()) == 1


def test_a_gzip_bomb(box: Sandbox) -> None:
    """A small body that decompresses to a huge one is refused."""
    bomb = gzip.compress(b" " * 200_000_000)
    gz = {"Content-Encoding": "gzip"}
    assert post(box, "/batch", bomb, headers=gz).status_code == 413


def test_limits_as_documented(box: Sandbox) -> None:
    """A message or request one byte over its limit is answered 200 and not stored."""
    room = api_facts.MAX_MESSAGE_BYTES - len(json.dumps(EXAMPLE | {"properties": {"x": ""}}))
    fits = EXAMPLE | {"properties": {"x": "y" * room}}
    over = EXAMPLE | {"properties": {"x": "y" * (room + 1)}}
    assert len(json.dumps(fits)) == api_facts.MAX_MESSAGE_BYTES
    for message in (fits, over):
        assert post(box, "/track", message).status_code == 200
    assert len(box.events()) == 1
    many = {"batch": [fits] * 16}
    assert len(json.dumps(many)) > api_facts.MAX_REQUEST_BYTES
    assert post(box, "/batch", many).status_code == 200
    assert len(box.events()) == 1
    assert box.requests()["stored"].tolist() == [1, 0, 0]


def test_the_fields_of_a_batch(box: Sandbox) -> None:
    """Its context applies to messages without one; its integrations have no effect."""
    bare = {name: EXAMPLE[name] for name in ("userId", "type", "event")}
    own = bare | {"context": {"ip": "5.6.7.8"}, "integrations": {"All": False}}
    top = {"context": {"ip": "1.2.3.4"}, "integrations": {"All": True}}
    assert post(box, "/batch", top | {"batch": [bare, own]}).status_code == 200
    stored = box.events()
    assert stored["context"].tolist() == [{"ip": "1.2.3.4"}, {"ip": "5.6.7.8"}]
    assert stored["integrations"].tolist() == [None, {"All": False}]
    assert stored["timestamp"].isna().all()
    warning = "the integrations at the top of the batch have no effect"
    assert stored["warnings"].tolist() == [[warning], []]


def test_other_calls(box: Sandbox) -> None:
    """Unknown calls and methods get 404 and 405; ``/health`` answers."""
    assert post(box, "/nothing", {}).status_code == 404
    assert httpx.get(box.url + "/track").status_code == 405
    assert httpx.get(box.url.removesuffix("/v1") + "/health").json() == {"status": "ok"}


def test_a_store_in_a_file(tmp_path: Path) -> None:
    """A sandbox that is started again with the same file still has its messages."""
    for expected in (1, 2):
        with cdp.sandbox(store=tmp_path / "box.db") as box:
            post(box, "/track", EXAMPLE)
            assert len(box.events()) == expected
            assert box.totals().loc["Application Installed"].to_dict() == {
                "messages": expected,
                "ids": 0,
                "people": 1,
            }


def test_a_port_in_use(box: Sandbox) -> None:
    """The error names the port."""
    port = int(box.url.split(":")[2].split("/")[0])
    with pytest.raises(cdp.DestinationError, match=f"cannot listen on 127.0.0.1:{port}"):  # noqa: SIM117
        with cdp.sandbox(port=port):
            pass


def test_the_destination_of_a_sandbox(box: Sandbox) -> None:
    """It has the sandbox's address, and the repr hides the key."""
    assert box.destination.url == box.url
    assert repr(box) == f"Sandbox(url='{box.url}')"


# --- injected faults ------------------------------------------------------------------------------


def test_injected_statuses(box: Sandbox) -> None:
    """429 with and without Retry-After, 500 and 503. Nothing is stored."""
    box.set_faults(too_many=1.0)
    answer = post(box, "/track", EXAMPLE)
    assert answer.status_code == 429
    assert "Retry-After" not in answer.headers
    box.set_faults(too_many=1.0, retry_after=7)
    assert post(box, "/track", EXAMPLE).headers["Retry-After"] == "7"
    box.set_faults(failing=1.0)
    assert {post(box, "/track", EXAMPLE).status_code for _ in range(20)} == {500, 503}
    assert len(box.events()) == 0


def test_broken_connections(box: Sandbox) -> None:
    """A message is only stored if the connection breaks after that."""
    for fault, stored in (("reset_before", 0), ("reset_after", 1)):
        box.set_faults(**{fault: 1.0})
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError)):
            post(box, "/track", EXAMPLE)
        assert len(box.events()) == stored
    box.set_faults()
    assert post(box, "/track", EXAMPLE).status_code == 200


def test_a_stall(box: Sandbox) -> None:
    """No answer comes, and the client may give up."""
    box.set_faults(stall=1.0)
    with pytest.raises(httpx.ReadTimeout):
        post(box, "/track", EXAMPLE, timeout=0.2)
    assert len(box.events()) == 0


def test_silent_drops(box: Sandbox) -> None:
    """The answer is 200 and nothing is stored, as when the real API drops a message."""
    box.set_faults(silent=1.0)
    assert post(box, "/track", EXAMPLE).json() == {}
    assert len(box.events()) == 0
    assert box.requests()["reason"].tolist() == ["dropped by the fault 'silent'"]


def test_refused_users(box: Sandbox) -> None:
    """The answer names the message, and the batch is not stored."""
    box.set_faults(refuse_users=["user_12345"])
    body = {"batch": [EXAMPLE | {"userId": "fine"}, EXAMPLE]}
    answer = post(box, "/batch", body)
    assert answer.status_code == 400
    assert answer.json()["meta"]["errors"] == ["batch[1]: userId is refused"]
    assert len(box.events()) == 0


def test_latency(box: Sandbox) -> None:
    """An answer takes at least the latency."""
    box.set_faults(latency=0.1)
    assert post(box, "/track", EXAMPLE).elapsed.total_seconds() >= 0.1


def test_a_rate_limit() -> None:
    """Further requests in the same second get 429."""
    now = [0.0]
    injector = FaultInjector(Faults(rate_limit=3), clock=lambda: now[0])
    assert [injector.next_request().status for _ in range(5)] == [0, 0, 0, 429, 429]
    now[0] = 1.0
    assert injector.next_request().status == 0


def test_faults_are_seeded() -> None:
    """With the same seed, the faults hit the same requests."""
    runs = [
        [FaultInjector(Faults(failing=0.5, jitter=1, seed=seed)).next_request() for _ in range(1)]
        for seed in (1, 1, 2)
    ]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("faults", [{"failing": 1.5}, {"latency": -1}, {"nonsense": 1}])
def test_invalid_faults(box: Sandbox, faults: dict[str, Any]) -> None:
    """They raise an error, and the faults stay as they were."""
    box.set_faults(latency=0.001)
    with pytest.raises(cdp.DestinationError):
        box.set_faults(**faults)
    assert box.faults == Faults(latency=0.001)

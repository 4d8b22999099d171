"""The vendor's and Segment's SDKs for Python work with the sandbox as with their APIs."""

from __future__ import annotations

import atexit
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest
import requests
from customerio import analytics  # type: ignore[import-untyped]
from customerio.analytics import (  # type: ignore[import-untyped]
    client as client_module,
)
from customerio.analytics import consumer as consumer_module
from customerio.analytics import request as request_module
from segment import analytics as segment_analytics
from segment.analytics import client as segment_client
from segment.analytics import request as segment_request

from cdp_backfill.model import api_facts
from tests.emulator.sdk_calls import (
    CALLS,
    COMMON,
    Message,
    assert_all_accepted,
    assert_same,
    resend_in_strict_mode,
    stored,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp_backfill.local_sandbox import Sandbox

# The vendor's SDK uses a clock function that Python 3.12 deprecates.
pytestmark = [
    pytest.mark.filterwarnings(
        f"ignore:datetime.datetime.utcnow:DeprecationWarning:customerio.analytics.{module}"
    )
    for module in ("client", "request")
]


@dataclass(frozen=True)
class Sdk:
    """An SDK for Python: its client, and its version."""

    client: Any
    version: str


VENDORS: Final = Sdk(client_module.Client, analytics.__version__)
SEGMENTS: Final = Sdk(segment_client.Client, segment_analytics.__version__)
both = pytest.mark.parametrize("sdk", [VENDORS, SEGMENTS], ids=["vendor", "Segment"])


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[requests.Response]]:
    """The answers to the SDK, each with its request."""
    responses: list[requests.Response] = []

    def record(response: requests.Response, *_: Any, **__: Any) -> None:
        responses.append(response)

    with requests.Session() as session:
        session.hooks["response"].append(record)
        monkeypatch.setattr(request_module, "_session", session)
        monkeypatch.setattr(segment_request, "_session", session)
        yield responses


@contextmanager
def python_sdk(box: Sandbox, sdk: Sdk = VENDORS, **options: Any) -> Iterator[Any]:
    """A client of an SDK for Python that sends to the sandbox without errors."""
    failures: list[Exception] = []
    settings = {
        "write_key": box.api_key,
        "host": box.url.removesuffix("/v1"),
        "on_error": lambda error, _: failures.append(error),
        "upload_interval": 0.05,
        "max_retries": 2,
    }
    client = sdk.client(**settings | options)
    try:
        yield client
    finally:
        if not client.sync_mode:
            client.shutdown()
            atexit.unregister(client.join)
    assert not failures


def expected_from_python(sdk: Sdk, call: str, arguments: Message) -> Message:
    """The message that the sandbox should store for a call of an SDK for Python."""
    parts = {name: name.split("_") for name in arguments}
    camel = {name: first + "".join(map(str.title, rest)) for name, (first, *rest) in parts.items()}
    library = {"name": "analytics-python", "version": sdk.version}
    moment = arguments["timestamp"].astimezone(UTC).isoformat(timespec="milliseconds")
    return {camel[name]: value for name, value in arguments.items()} | {
        "type": call,
        "timestamp": moment,
        "context": arguments["context"] | {"library": library},
    }


@both
@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("sync_mode", [False, True])
def test_each_call_of_a_python_sdk(
    box: Sandbox, answers: list[requests.Response], sdk: Sdk, *, sync_mode: bool, gzip: bool
) -> None:
    """All six calls are stored exactly as sent: singly or queued, with or without gzip."""
    expected = []
    with python_sdk(box, sdk, sync_mode=sync_mode, gzip=gzip) as client:
        for call, own in CALLS.items():
            arguments = own | COMMON | {"message_id": f"python-{call}"}
            expected.append(expected_from_python(sdk, call, arguments))
            # The SDK changes the context, so it gets a copy.
            queued, _ = getattr(client, call)(**arguments | {"context": dict(arguments["context"])})
            assert queued
        client.flush()
        assert_same(stored(box), expected)
    log = assert_all_accepted(box, messages=6)
    if sync_mode:
        assert log["messages"].tolist() == [1] * 6
    assert not log["strict"].any()
    events = box.events()
    assert events["sentAt"].notna().all()  # in the body of each request, with the key
    assert events["warnings"].tolist() == [[]] * 6
    assert events["otherFields"].isna().all()
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


@both
@pytest.mark.parametrize("gzip", [False, True])
def test_strict_mode_accepts_a_python_sdk(
    box: Sandbox, answers: list[requests.Response], sdk: Sdk, *, gzip: bool
) -> None:
    """The bodies of all six calls are also accepted in strict mode."""
    with python_sdk(box, sdk, gzip=gzip) as client:
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
    options: dict[str, Any] = {"on_error": lambda _, batch: refused.append(batch), "max_retries": 0}
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

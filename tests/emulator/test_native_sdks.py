"""Bodies as the vendor's SDKs for iOS, Android and browsers send them are stored as given."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

import cdp_backfill as cdp
from cdp_backfill.model import api_facts
from tests.emulator.sdk_calls import assert_same, stored

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

Message = dict[str, Any]

IOS: Final[Message] = {
    "app": {"name": "Tidbits", "version": "2.1.0", "build": "421", "namespace": "com.tidbits"},
    "device": {
        "type": "ios",
        "manufacturer": "Apple",
        "model": "iPhone14,2",
        "name": "iPhone",
        "id": "5E0E-1",
    },
    "os": {"name": "iPadOS", "version": "17.2"},
    "screen": {"width": 390, "height": 844},
    "network": {"bluetooth": False, "cellular": True, "wifi": True},
    "locale": "en-US",
    "timezone": "Europe/Berlin",
    "userAgent": "Customer.io iOS Client/3.0 (iPhone14,2; iOS 17.2) Tidbits/2.1.0",
    "instanceId": "8D1B-0",
}

ANDROID: Final[Message] = IOS | {
    "device": {
        "type": "android",
        "manufacturer": "Google",
        "model": "Pixel 8",
        "name": "shiba",
        "id": "a1b2",
    },
    "os": {"name": "Android", "version": "14"},
    "screen": {"width": 1080, "height": 2400, "density": 2.625},
}

PROPERTIES: Final[dict[str, Message]] = {
    "Application Installed": {"version": "2.1.0", "build": "421"},
    "Application Updated": {
        "version": "2.1.0",
        "build": "421",
        "previous_version": "2.0.0",
        "previous_build": "400",
    },
    "Application Opened": {
        "from_background": False,
        "version": "2.1.0",
        "build": "421",
        "referring_application": "",
        "url": "",
    },
    "Application Backgrounded": {},
    "Application Foregrounded": {},
}

TIME: Final = "2023-05-01T10:30:15.250Z"


def now() -> str:
    """The time of sending, as an SDK writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def messages(context: Message, **ids: str) -> list[Message]:
    """What an app reports: all lifecycle events, an identify and a screen."""
    shared = {"timestamp": TIME, "integrations": {}, "context": context, **ids}
    calls: list[Message] = [
        {"type": "track", "event": event, "properties": properties}
        for event, properties in PROPERTIES.items()
    ]
    calls += [
        {"type": "identify", "traits": {"plan": "pro"}},
        {"type": "screen", "name": "Start", "category": "", "properties": {}},
    ]
    return [each | shared | {"messageId": f"m-{number}"} for number, each in enumerate(calls)]


def post(box: Sandbox, path: str, body: Message, *, strict: bool = False, **more: Any) -> int:
    """Post a body as SDKs do, without an Authorization header; returns the status."""
    headers = {"Content-Type": "text/plain"} | more.pop("headers", {})
    headers |= dict([api_facts.STRICT_HEADER]) if strict else {}
    content = json.dumps(body).encode()
    if headers.get("Content-Encoding") == "gzip":
        content = gzip.compress(content)
    return httpx.post(box.url + path, content=content, headers=headers).status_code


def as_stored(message: Message) -> Message:
    """A message as ``stored`` shows it."""
    return message | {"timestamp": message["timestamp"].replace("Z", "+00:00")}


@pytest.mark.parametrize("kind", ["text/plain", "application/json; charset=utf-8"])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("context", "ids"),
    [
        (IOS, {"anonymousId": "a-1", "userId": "ada"}),
        (IOS, {"anonymousId": "a-1"}),
        (ANDROID, {"anonymousId": "a-1", "userId": ""}),
    ],
    ids=["iOS", "iOS anonymous", "Android"],
)
def test_batches_of_the_native_sdks(
    box: Sandbox, context: Message, ids: dict[str, str], kind: str, encoding: str, *, strict: bool
) -> None:
    """A batch at ``/v1/b`` with the key in its body is stored message for message."""
    sent = messages(context, **ids)
    body = {"batch": sent, "sentAt": now(), "writeKey": box.api_key}
    headers = {"Content-Type": kind, "Content-Encoding": encoding}
    assert post(box, "/b", body, strict=strict, headers=headers) == 200
    assert_same(stored(box), [as_stored(each) for each in sent])
    events = box.events()
    assert set(events["sentAt"]) == {body["sentAt"]}
    assert events["warnings"].tolist() == [[]] * len(sent)
    assert events["otherFields"].isna().all()
    assert box.requests()["path"].tolist() == ["/b"]
    person = ids.get("userId") or "a-1"
    assert box.people()["id"].tolist() == [person]
    assert box.totals()["people"].tolist() == [1] * len(PROPERTIES)
    figures = httpx.get(box.page + "overview.json").json()
    assert {each["people"] for each in figures["events"]} == {1}
    assert {each["who"] for each in figures["latest"]} == {person}


CALLS: Final[dict[str, Message]] = {
    "/i": {"type": "identify", "traits": {"plan": "pro"}},
    "/t": {"type": "track", "event": "Signed Up", "properties": {"plan": "pro"}},
    "/p": {"type": "page", "name": "Home", "category": "Docs", "properties": {"path": "/"}},
    "/s": {"type": "screen", "name": "Start", "category": "App", "properties": {}},
    "/g": {"type": "group", "groupId": "g-1", "traits": {"name": "us"}},
    "/a": {"type": "alias", "previousId": "a-0"},
}


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize("strict", [True, False])
def test_single_calls_of_the_browsers_sdk(
    box: Sandbox, path: str, *, typed: bool, strict: bool
) -> None:
    """Each short path takes its call; the fields that the SDK adds are stored to be seen."""
    message = CALLS[path] | {
        "userId": "ada",
        "anonymousId": "a-1",
        "messageId": "ajs-next-1",
        "timestamp": TIME,
        "integrations": {"Segment.io": True},
        "context": {"page": {"path": "/", "title": "Home"}, "userAgent": "Mozilla/5.0"},
    }
    added = {"_metadata": {"bundled": ["Customer.io"], "unbundled": []}, "channel": "client"}
    added |= {"originalTimestamp": TIME, "sentAt": now()}
    body = message | added | {"writeKey": box.api_key}
    if not typed:
        del body["type"]
    assert post(box, path, body, strict=strict) == 200
    assert_same(stored(box), [as_stored(message)])
    (event,) = box.events().to_dict("records")
    assert {name: event[name] for name in added} == added
    assert (event["warnings"], event["otherFields"]) == ([], None)


def test_fields_come_after_the_others(box: Sandbox) -> None:
    """The columns that were there before come first, in the same order."""
    assert box.events().columns.tolist() == [
        *("type", "messageId", "userId", "anonymousId", "event", "timestamp", "properties"),
        *("context", "integrations", "traits", "name", "category", "groupId", "previousId"),
        *("receivedAt", "request", "repeated"),
        *("originalTimestamp", "sentAt", "channel", "_metadata", "otherFields", "warnings"),
    ]


@pytest.mark.parametrize("value", [None, "", "wrong", 7, ["sandbox"], {"sandbox": 1}])
@pytest.mark.parametrize("path", ["/t", "/track", "/b", "/batch"])
def test_a_wrong_key_in_the_body(box: Sandbox, value: object, path: str) -> None:
    """In strict mode it gets 401, else 200; nothing is stored."""
    message = CALLS["/t"] | {"userId": "ada"}
    body = {"batch": [message]} if "b" in path else message
    for strict, status in ((True, 401), (False, 200)):
        assert post(box, path, body | {"writeKey": value}, strict=strict) == status
        assert post(box, path, body, strict=strict) == status
    assert len(box.events()) == 0
    assert set(box.requests()["reason"]) == {"the API key is not valid"}


def test_the_header_decides_if_there_is_one(box: Sandbox) -> None:
    """A right key in the body does not help a wrong one in the header, and the reverse."""
    message = CALLS["/t"] | {"userId": "ada"}
    body = json.dumps(message | {"writeKey": box.api_key})
    strict = dict([api_facts.STRICT_HEADER])
    answer = httpx.post(box.url + "/t", content=body, headers=strict, auth=("wrong", ""))
    assert answer.status_code == 401
    body = json.dumps(message | {"writeKey": "another"})
    answer = httpx.post(box.url + "/t", content=body, headers=strict, auth=(box.api_key, ""))
    assert answer.status_code == 200
    assert box.events()["otherFields"].tolist() == [None]


@pytest.mark.parametrize("header", [True, False])
def test_the_key_is_never_stored(tmp_path: Path, *, header: bool) -> None:
    """Neither of accepted nor of rejected messages, of single calls nor of batches."""
    key = "k3y-of-nobody"
    good = CALLS["/t"] | {"userId": "ada"}
    bad = CALLS["/t"] | {"event": ""}
    with cdp.sandbox(api_key=key, store=tmp_path / "box.db") as box:
        auth = (key, "") if header else None
        for message in (good, bad):
            for path, body in (
                ("/t", {"writeKey": key} | message),
                ("/b", {"batch": [{"writeKey": key} | message], "writeKey": key}),
            ):
                text = json.dumps(body)
                # Names may be written in another way, and a body may be broken in the middle.
                for content in (text, text.replace("writeKey", "write\\u004bey"), text[:-9]):
                    httpx.post(box.url + path, content=content, auth=auth)
        assert len(box.events()) == 4
        assert len(box.rejected()) >= 4
        page = httpx.get(box.page + "overview.json").text + httpx.get(box.page + "messages/1").text
        assert key not in page
        assert key not in "\n".join(box._store._database.iterdump())
    assert key.encode() not in (tmp_path / "box.db").read_bytes()


def test_no_page_of_another_origin_can_read(box: Sandbox) -> None:
    """There is no header of CORS, neither on an answer nor for a preflight."""
    origin = {"Origin": "https://example.com", "Access-Control-Request-Method": "POST"}
    for method, path in (("OPTIONS", "v1/b"), ("GET", "overview.json"), ("POST", "v1/t")):
        answer = httpx.request(method, box.page + path, headers=origin)
        assert not [name for name in answer.headers if name.startswith("access-control")]

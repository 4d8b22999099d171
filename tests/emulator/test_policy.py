"""What the sandbox does where the API is not documented is a switch."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pandas as pd
import pytest

import cdp_backfill as cdp
from cdp_backfill.emulator.openapi import description
from cdp_backfill.emulator.policy import Policy
from cdp_backfill.model import api_facts
from tests.emulator.test_sandbox import EXAMPLE, post

LARGE: dict[str, Any] = EXAMPLE | {"properties": {"x": "y" * api_facts.MAX_MESSAGE_BYTES}}
BAD = EXAMPLE | {"event": None}


def test_which_messages_a_400_names() -> None:
    """By default a 400 names the invalid messages of a batch, and stores no other."""
    body = {"batch": [EXAMPLE, BAD, EXAMPLE | {"userId": 7}]}
    with cdp.sandbox(keep_rest=True) as box:
        errors = post(box, "/batch", body).json()["meta"]["errors"]
        assert [error[:8] for error in errors] == ["batch[1]", "batch[2]"]
        assert len(box.events()) == 1
        assert box.rejected()["position"].tolist() == [1, 2]
    with cdp.sandbox(name_bad=False) as box:
        (error,) = post(box, "/batch", body).json()["meta"]["errors"]
        assert error == "the batch contains invalid messages"
        assert len(box.events()) == 0


@pytest.mark.parametrize("path", ["/batch", "/b"])
@pytest.mark.parametrize("messages", [[EXAMPLE, LARGE, EXAMPLE], [LARGE], [LARGE, BAD]])
@pytest.mark.parametrize("strict", [True, False])
def test_a_message_that_is_too_large_loses_its_request(
    messages: list[dict[str, Any]], path: str, *, strict: bool
) -> None:
    """By default nothing of the request is stored, and the answer is 200 in both modes."""
    with cdp.sandbox() as box:
        answer = post(box, path, {"batch": messages}, strict=strict)
        assert (answer.status_code, answer.json()) == (200, {})
        assert len(box.events()) == 0
        assert len(box.rejected()) == 0
        (log,) = box.requests().to_dict("records")
        assert (log["messages"], log["stored"]) == (len(messages), 0)
        assert f"batch[{messages.index(LARGE)}] has " in log["reason"]
        assert post(box, path, {"batch": [EXAMPLE]}, strict=strict).status_code == 200
        assert len(box.events()) == 1


def test_a_message_that_is_too_large_alone() -> None:
    """With the switch only that message is lost; errors of others are reported."""
    with cdp.sandbox(oversize="message") as box:
        assert post(box, "/batch", {"batch": [EXAMPLE, LARGE, EXAMPLE]}).status_code == 200
        assert len(box.events()) == 2
        answer = post(box, "/batch", {"batch": [LARGE, BAD]})
        assert answer.json()["meta"]["errors"] == ["batch[1]: event is required"]
        assert post(box, "/track", LARGE).status_code == 200
        assert len(box.events()) == 2
    with pytest.raises(cdp.DestinationError, match="oversize must be 'request' or 'message'"):
        cdp.sandbox(oversize="all")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, 42, -7, 2**53 + 1, 2**70])
@pytest.mark.parametrize(
    ("call", "name"),
    [
        *((call, "userId") for call in ("identify", "track", "page", "screen", "group", "alias")),
        ("track", "anonymousId"),
        ("group", "groupId"),
        ("alias", "previousId"),
    ],
)
def test_ids_that_are_numbers(call: str, name: str, value: int) -> None:
    """By default they are invalid; with the switch they are stored as text, with a warning."""
    message: dict[str, Any] = {"userId": "u", "event": "x", "groupId": "g", "previousId": "p"}
    message = {"type": call, "messageId": "m"} | message | {name: value}
    bodies: list[tuple[str, Any]] = [(f"/{call}", message), ("/batch", {"batch": [message]})]
    with cdp.sandbox() as box:
        for path, body in bodies:
            (error,) = post(box, path, body).json()["meta"]["errors"]
            assert f"{name} must be a string" in error
        assert len(box.events()) == 0
    with cdp.sandbox(numeric_ids=True) as box:
        for path, body in bodies:
            assert post(box, path, body).status_code == 200
        assert box.events()[name].tolist() == [str(value)] * 2
        warnings = box.events()["warnings"].tolist()
        assert warnings == [[f"{name} is a number and is stored as text"]] * 2
        if name in ("userId", "anonymousId"):
            assert box.people()["id"].tolist() == [str(value) if name == "userId" else "u"]


@pytest.mark.parametrize("value", [1.5, True, ["u"], {"u": 1}])
def test_ids_of_other_types(value: object) -> None:
    """They are invalid whatever the switch says."""
    for numeric_ids in (False, True):
        with cdp.sandbox(numeric_ids=numeric_ids) as box:
            assert post(box, "/track", EXAMPLE | {"userId": value}).status_code == 400


def test_a_refused_user_whose_id_is_a_number() -> None:
    """The fault compares ids as they are stored."""
    with cdp.sandbox(numeric_ids=True, refuse_users=["7"]) as box:
        assert post(box, "/track", EXAMPLE | {"userId": 7}).status_code == 400


@pytest.mark.parametrize("ids", [{}, {"userId": ""}, {"userId": None, "anonymousId": ""}])
def test_messages_without_a_person(ids: dict[str, Any]) -> None:
    """By default they are invalid; with the switch they are stored, and are nobody's."""
    message = {name: value for name, value in EXAMPLE.items() if name != "userId"} | ids
    bodies: list[tuple[str, Any]] = [("/track", message), ("/batch", {"batch": [message]})]
    with cdp.sandbox() as box:
        for path, body in bodies:
            assert post(box, path, body).status_code == 400
        assert len(box.events()) == 0
    with cdp.sandbox(without_person=True) as box:
        for path, body in bodies:
            assert post(box, path, body).status_code == 200
        warning = "the message has neither a userId nor an anonymousId"
        assert box.events()["warnings"].tolist() == [[warning]] * 2
        assert len(box.people()) == 0
        assert box.totals()["people"].tolist() == [0]
        figures = httpx.get(box.page + "overview.json").json()
        assert [each["people"] for each in figures["events"]] == [0]
        assert [each["who"] for each in figures["latest"]] == [None] * 2
        assert post(box, "/alias", {"previousId": "p"} | ids).status_code == 400


@pytest.mark.parametrize("ids", [{}, {"userId": "", "anonymousId": "a-1"}])
def test_a_group_needs_no_person(ids: dict[str, str]) -> None:
    """Whatever the switch says; an empty id is nobody's."""
    with cdp.sandbox() as box:
        assert post(box, "/group", {"groupId": "g"} | ids).status_code == 200
        assert box.events()["warnings"].tolist() == [[]]
        assert box.people()["id"].tolist() == ([ids["anonymousId"]] if ids else [])


def test_the_description_follows_the_switches() -> None:
    """The OpenAPI description allows what the sandbox accepts."""
    strict = description(Policy())["components"]["schemas"]
    loose = description(Policy(numeric_ids=True, without_person=True))["components"]["schemas"]
    assert strict["Track"]["properties"]["userId"]["type"] == ["string", "null"]
    assert loose["Track"]["properties"]["userId"]["type"] == ["string", "integer", "null"]
    assert "anyOf" in strict["Track"]
    assert "anyOf" not in loose["Track"]
    assert "anyOf" not in strict["Group"]
    for schemas in (strict, loose):
        assert all("type" not in each.get("required", ()) for each in schemas.values())
        assert "no effect" in schemas["Batch"]["properties"]["integrations"]["description"]
    with cdp.sandbox(numeric_ids=True) as box:
        served = httpx.get(box.page + "openapi.json").json()
    expected = description(Policy(numeric_ids=True))
    assert served == json.loads(json.dumps(expected))


def test_a_backfill_works_with_each_option() -> None:
    """Whatever the server does with a batch with an invalid message, each row has one outcome."""
    frame = pd.DataFrame({"uid": [f"u{n}" for n in range(40)], "ts": "2023-05-01T10:00:00Z"})
    every: list[dict[str, Any]] = [{}, {"name_bad": False}, {"keep_rest": True}]
    for options in (*every, {"oversize": "message"}):
        with cdp.sandbox(refuse_users=["u7"], **options) as box:
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
            assert box.events()["warnings"].map(len).sum() == 0

"""What can harm people, devices and destinations is said before anything is sent, or not sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.model.api_facts import COMMANDS
from tests.rows import opens
from tests.sending import send

if TYPE_CHECKING:
    from cdp_backfill.local_sandbox import Sandbox

NOW = datetime(2024, 5, 1, tzinfo=UTC)
ANY: dict[str, Any] = {
    "user_id": "uid",
    "timestamp": "ts",
    "event": "what",
    "other_events": "send",
    "now": NOW,
}

spellings = st.sampled_from(COMMANDS).flatmap(
    lambda name: st.tuples(
        st.sampled_from(["", " ", "\t ", "\u00a0"]),
        st.sampled_from([name, name.lower(), name.upper(), name.swapcase(), name.title()]),
        st.sampled_from(["", "  ", "\n"]),
    ).map("".join)
)


@given(st.lists(spellings, min_size=1, max_size=5))
def test_commands_never_leave_unasked(names: list[str]) -> None:
    """However it is spelled, a command is invalid; the row beside it is sent."""
    frame = opens(len(names) + 1, what=[*names, "Application Opened"])
    outcomes = [message.get("cdp_code") for message in frame.cdp.messages(9, **_without_now())]
    assert outcomes == ["command"] * len(names) + [None]


def test_commands_of_constants_and_translations_never_leave() -> None:
    """It does not matter where the name comes from."""
    frame = opens(2, what=["del", "x"])
    translated = frame.cdp.plan(events={"del": "User Deleted"}, **ANY)
    assert (translated.to_send, translated.invalid) == (1, 1)
    constant = frame.cdp.plan(**ANY | {"event": cdp.lit(" user deleted")})
    assert (constant.to_send, constant.invalid) == (0, 2)


@pytest.mark.parametrize("name", COMMANDS)
def test_only_the_named_command_leaves(name: str) -> None:
    """allow_commands lets one command pass and no other."""
    other = next(item for item in COMMANDS if item != name)
    frame = opens(2, what=[name, other])
    plan = frame.cdp.plan(allow_commands=[name.upper()], **ANY)
    assert plan.events == {name: 1}
    assert f"allow_commands lets {name} pass" in str(plan)


def test_an_unknown_command_cannot_be_allowed() -> None:
    """A misspelt permission is refused, with the name that was meant."""
    with pytest.raises(cdp.MappingError, match="Did you mean 'User Deleted'"):
        cdp.Mapping(allow_commands=["User Delete"])


def test_the_plan_begins_with_commands() -> None:
    """They stand above the tables."""
    plan = opens(3, what=["User Deleted", "User Suppressed", "x"]).cdp.plan(**ANY)
    first = str(plan).splitlines()[:5]
    assert "2 rows name commands of the API" in " ".join(first)
    assert plan.to_dict()["alerts"] == plan.alerts


def test_tokens_are_pointed_out_in_plan_and_report(box: Sandbox) -> None:
    """A token that is mapped by hand: both say what it can do; without one, neither does."""
    frame, mapping = opens(2, token=["a", "b"]), {"user_id": "uid", "timestamp": "ts"}
    options: dict[str, Any] = mapping | {"event": cdp.lit("Application Opened")}
    named = options | {"context": {"device": {"token": "token"}}}
    assert "push token" in str(frame.cdp.plan(**named))
    assert "push token" in str(send(frame, box, **named))
    assert "push token" not in str(frame.cdp.plan(**options | {"rest": "drop"}))


@pytest.mark.parametrize(
    ("integrations", "warns"),
    [
        ({"All": False}, True),
        ({"All": False, "Mixpanel": False}, True),
        ({"All": False, "Mixpanel": True}, False),
        ({"All": False, "Mixpanel": "flag"}, False),
        ({"All": True}, False),
        ({"Mixpanel": False}, False),
    ],
)
def test_no_destination_at_all_is_pointed_out(integrations: dict[str, Any], warns: bool) -> None:
    """Only where certainly no destination gets the events."""
    options = ANY | {"event": cdp.lit("Application Opened"), "integrations": integrations}
    plan = opens(2, flag=[True, False]).cdp.plan(**options)
    assert any("names none" in alert for alert in plan.alerts) == warns


def test_integrations_stay_on_each_message(box: Sandbox) -> None:
    """With the context at the top of the request, integrations are still in each message."""
    frame = opens(4, place=["de", "de", "fr", "fr"])
    options: dict[str, Any] = {
        "user_id": "uid",
        "timestamp": "ts",
        "event": cdp.lit("Application Opened"),
        "context": {"locale": "place"},
        "integrations": {"All": False, "Mixpanel": True},
    }
    send(frame, box, context_scope="batch", **options)
    assert list(box.events()["integrations"]) == [{"All": False, "Mixpanel": True}] * 4
    assert sorted(c["locale"] for c in box.events()["context"]) == ["de", "de", "fr", "fr"]


def test_the_plan_counts_what_ids_and_names_can_lead_to() -> None:
    """Anonymous rows, old ones, odd ids and long ones, each as a plain loop counts them."""
    ages = [1, 29, 31, 400, 10, 10, 10, 10]
    frame = pd.DataFrame(
        {
            "uid": [None, None, None, None, "a@b.c", "cio_0f", "é" * 76, "x" * 150],
            "anon": ["p", "q", "r", "s", None, "t", None, "y" * 151],
            "what": ["a"] * 7 + ["n" * 101],
            "ts": [NOW - timedelta(days=days, seconds=1) for days in ages],
        }
    )
    plan = frame.cdp.plan(anonymous_id="anon", **ANY | {"recent": "send"})
    figures = plan.to_dict()
    assert {name: figures[name] for name in ("anonymous", "anonymous_old")} == {
        "anonymous": 4,
        "anonymous_old": 2,
    }
    assert (plan.email_ids, plan.internal_ids, plan.long_ids, plan.long_names) == (1, 1, 2, 1)
    text = " ".join(str(plan).split())
    assert "4 rows have an anonymous id only; 2 of them are older than 30 days" in text
    assert "each becomes a new one" in text
    assert "can start campaigns" in text


def test_rows_that_share_a_key_are_counted() -> None:
    """The plan says so, and what to do about it."""
    frame = opens(3, order=[1, 1, 2])
    options = ANY | {"event": cdp.lit("Application Opened"), "message_id": cdp.key("order")}
    plan = frame.cdp.plan(**options)
    assert plan.duplicates == 1
    assert "1 row has the key of an earlier row" in " ".join(str(plan).split())


def _without_now() -> dict[str, Any]:
    return {name: value for name, value in ANY.items() if name != "now"}

"""What the sandbox stores, but points out."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import hypothesis
import pytest
from hypothesis import strategies as st

from cdp_backfill.emulator.context_types import context_warnings
from cdp_backfill.emulator.parsing import CLOCK_SECONDS
from cdp_backfill.model import api_facts
from tests.emulator.test_sandbox import EXAMPLE, post

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp_backfill.local_sandbox import Sandbox

CLOCK = (
    f"sentAt is more than {CLOCK_SECONDS} s from the time of receipt: a receiver that corrects "
    "clocks shifts timestamp by the difference"
)


def leaves(tree: api_facts.Tree, *path: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each documented path of the context with the kind of its value."""
    for name, kind in tree.items():
        if isinstance(kind, dict):
            yield from leaves(kind, *path, name)
        else:
            yield (*path, "mine" if name == api_facts.ANY_NAME else name), kind


LEAVES = list(leaves(api_facts.CONTEXT))


def nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A context with one value."""
    for name in reversed(path):
        value = {name: value}
    return dict(value)


VALUES: dict[str, list[Any]] = {
    "string": ["", "x", "7"],
    "boolean": [True, False],
    "number": [0, 7, -1.5, 2**70],
    "other": [[], ["x"], {}, {"a": 1}],
}


@pytest.mark.parametrize(("path", "kind"), LEAVES, ids=[".".join(path) for path, _ in LEAVES])
def test_each_documented_value_of_the_context(path: tuple[str, ...], kind: str) -> None:
    """Each type but the documented one and null gets a warning that names the path."""
    expected = {"boolean": "boolean", "any": None}.get(kind, "string")
    for kind_of_value, values in {**VALUES, "null": [None]}.items():
        for value in values:
            warnings = context_warnings(json.dumps(nested(path, value)).encode())
            if expected is None or kind_of_value in (expected, "null"):
                assert warnings == ()
            else:
                assert warnings == (f"context.{'.'.join(path)} must be a {expected}",)


@pytest.mark.parametrize("name", [n for n, k in api_facts.CONTEXT.items() if isinstance(k, dict)])
def test_objects_of_the_context(name: str) -> None:
    """A value in place of a documented object gets a warning, and null does not."""
    for value in ("x", 1, True, ["x"]):
        warnings = context_warnings(json.dumps({name: value}).encode())
        assert warnings == (f"context.{name} must be an object",)
    assert context_warnings(json.dumps({name: None}).encode()) == ()


@hypothesis.given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from([*api_facts.CONTEXT, "name", "version", "wifi", "x"]),
                inner,
                max_size=4,
            )
        ),
    ).filter(lambda value: isinstance(value, dict))
)
def test_warnings_hold_no_value(context: dict[str, Any]) -> None:
    """Any context can be checked; a warning has only the path and the documented type."""
    for warning in context_warnings(json.dumps(context).encode()):
        path, _, rest = warning.partition(" must be ")
        assert path.startswith("context.")
        assert rest in ("a string", "a boolean", "an object")


@pytest.mark.parametrize("path", ["/track", "/batch"])
def test_a_message_with_warnings_is_stored(box: Sandbox, path: str) -> None:
    """Strict mode accepts it; ``events()`` and ``warnings()`` show what is wrong with it."""
    odd = EXAMPLE | {"context": {"app": {"version": 2}, "network": {"wifi": "yes"}}}
    for message in (odd, odd | {"context": {"app": {"version": 3}}}, EXAMPLE):
        body = {"batch": [message]} if path == "/batch" else message
        assert post(box, path, body).status_code == 200
    version, wifi = "context.app.version must be a string", "context.network.wifi must be a boolean"
    assert box.events()["warnings"].tolist() == [[version, wifi], [version], []]
    assert box.warnings().to_dict("records") == [
        {"warning": version, "messages": 2},
        {"warning": wifi, "messages": 1},
    ]
    assert "messages with warnings  2; see box.warnings()" in str(box)
    figures = httpx.get(box.page + "overview.json").json()
    assert figures["warnings"] == [
        {"warning": version, "messages": 2, "latest": 2},
        {"warning": wifi, "messages": 1, "latest": 1},
    ]
    assert [each["warned"] for each in figures["latest"]] == [0, 1, 1]


def test_the_context_of_a_batch_is_checked(box: Sandbox) -> None:
    """Its warnings are those of the messages that use it."""
    bare = {name: EXAMPLE[name] for name in ("userId", "type", "event")}
    body = {"context": {"ip": 1}, "batch": [bare, bare | {"context": {}}]}
    assert post(box, "/batch", body).status_code == 200
    assert box.events()["warnings"].tolist() == [["context.ip must be a string"], []]


def moment(ago: timedelta = timedelta()) -> str:  # it cannot change
    """A time relative to now."""
    return (datetime.now(UTC) - ago).isoformat()


@pytest.mark.parametrize(
    ("sent_at", "warnings"),
    [
        (None, []),
        (timedelta(seconds=1), []),
        (timedelta(hours=-1), [CLOCK]),
        (timedelta(hours=1), [CLOCK]),
        (timedelta(days=1_000), [CLOCK]),
        ("2024-01-15t10:30:00z", [CLOCK]),
        ("0001-01-01T00:00:00+23:59", [CLOCK]),
        ("9999-12-31T23:59:59-23:59", [CLOCK]),
        ("2024-01-15T10:30:00", ["sentAt is no time with a time zone"]),
        ("soon", ["sentAt is no time with a time zone"]),
        ("", ["sentAt is no time with a time zone"]),
        (1705314600, ["sentAt is no time with a time zone"]),
        ({"a": 1}, ["sentAt is no time with a time zone"]),
    ],
)
@pytest.mark.parametrize("where", ["message", "message of a batch", "batch"])
def test_a_time_of_sending_that_would_shift_times(
    box: Sandbox, sent_at: object, warnings: list[str], where: str
) -> None:
    """A sender's clock that differs from the sandbox's is pointed out, wherever ``sentAt`` is."""
    if isinstance(sent_at, timedelta):
        sent_at = moment(sent_at)
    fields = {"sentAt": sent_at}
    if where == "message":
        answer = post(box, "/track", EXAMPLE | fields)
    elif where == "batch":
        answer = post(box, "/batch", {"batch": [EXAMPLE]} | fields)
    else:
        answer = post(box, "/batch", {"batch": [EXAMPLE | fields], "sentAt": moment()})
        if sent_at is None:  # the batch's counts
            warnings = []
    assert answer.status_code == 200
    (event,) = box.events().to_dict("records")
    assert event["warnings"] == warnings
    if isinstance(sent_at, str):
        assert event["sentAt"] == sent_at
    elif sent_at is not None:  # it is seen as it came
        assert event["otherFields"] == fields
    assert event["timestamp"].isoformat() == "2024-01-15T10:30:00+00:00"


def test_a_time_of_sending_without_a_time_of_the_event(box: Sandbox) -> None:
    """Without a timestamp there is nothing to shift; with an original one there is."""
    bare = {name: EXAMPLE[name] for name in ("userId", "event")} | {
        "sentAt": moment(timedelta(days=1))
    }
    assert post(box, "/track", bare).status_code == 200
    original = bare | {"originalTimestamp": moment(timedelta(days=2))}
    assert post(box, "/track", original).status_code == 200
    assert box.events()["warnings"].tolist() == [[], [CLOCK]]


@pytest.mark.parametrize("name", ["originalTimestamp", "sentAt", "channel", "_metadata", "mine"])
@pytest.mark.parametrize("value", ["x", 7, 1.5, True, [1, "a"], {"a": [None]}, None])
def test_other_fields_are_stored_whatever_they_are(box: Sandbox, name: str, value: object) -> None:
    """A field that the API does not document, or whose type it does not, can be seen as it came."""
    assert post(box, "/track", EXAMPLE | {name: value}).status_code == 200
    assert post(box, "/batch", {"batch": [EXAMPLE | {name: value}]}).status_code == 200
    for number, event in enumerate(box.events().to_dict("records"), start=1):
        if name == "mine":
            assert event["otherFields"] == {name: value}
        else:
            seen = event[name] if event["otherFields"] is None else event["otherFields"][name]
            assert seen == value or (value is None and seen != seen)  # noqa: PLR0124  # NaN
        shown = json.loads(httpx.get(f"{box.page}messages/{number}").json()["json"])
        if value is not None or name == "mine":
            assert shown[name] == value
        assert shown.items() >= EXAMPLE.items()

"""Both parsers of a batch give the same rows, and all that is stored can be read again."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import hypothesis
import pytest
from hypothesis import strategies as st

from cdp_backfill.emulator import Policy, fast_path, parsing
from cdp_backfill.emulator.store import MESSAGE_COLUMNS, OBJECTS, ReceivedRequest, Store
from cdp_backfill.model import api_facts
from tests.emulator.test_sandbox import EXAMPLE, post

if TYPE_CHECKING:
    from cdp_backfill.local_sandbox import Sandbox

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REFUSED = frozenset({"bad"})
DIGITS = "7" * 5_000

TIMES = (
    *("2024-01-15T10:30:00.000Z", "2024-01-15t10:30:00.000Z", "2024-01-15T10:30:00.000z"),
    *("2024-01-15 10:30:00.000Z", "2024-01-15T10:30:00Z", "2024-01-15T10:30:00.000+02:00"),
    *("2024-01-15T10:30:00.123456789Z", "0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"),
    *("0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00", "2024-02-30T10:30:00.000Z"),
    *("2024-01-15T10:30:00.0001", "2024-01-15", "nonsense", ""),
)
NUMBERS = (
    "0",
    "-0",
    "7",
    "7.0",
    "7.00",
    "1e3",
    "1e999",
    str(2**63),
    str(2**70),
    DIGITS,
    "01",
    "NaN",
)
OBJECT_TEXTS = (
    *('{"url":"x","n":[1]}', '{"url":1}', '{"url":"x","url":1}', '{"url":1,"url":"x"}'),
    *(r'{"u\u0072l":1}', '{"from_background":true}', '{"from_background":1}', "{ }", "{}"),
    *('{"version":"1"}', '{"version":1}', '{"ip":"1"}', '{"ip":1}', '{"app":{"version":2}}'),
    *('{"network":{"wifi":"yes"},"os":[]}', '{"campaign":{"any":1}}', '{"All":false}'),
    *('{"All":{}}', '{"All":3}', '{"All":null}', '{"All":"x"}', '{"Zoë":"🐈"}', r'{"a":"\u0000"}'),
    *(f'{{"n":{number}}}' for number in NUMBERS),
)
STRANGE = ("null", "[]", '""', '"x"', "true", *NUMBERS)


def texts(*values: str) -> st.SearchStrategy[str]:
    """JSON of one of the texts."""
    return st.sampled_from([json.dumps(value) for value in values])


IDS = texts("u1", "bad", "", "7") | st.sampled_from(STRANGE)
PLAIN: dict[str, st.SearchStrategy[str]] = {
    "type": texts("track"),
    "event": texts("Application Opened", "Application Installed", "Else"),
    "userId": texts("u1", ""),
    "anonymousId": texts("a1"),
    "messageId": texts("m1", ""),
    "timestamp": texts(*TIMES[:2], *TIMES[7:9]),
    "properties": st.sampled_from(OBJECT_TEXTS[-len(NUMBERS) - 2 : -2]),
    "context": st.sampled_from(['{"ip":"1"}', '{"ip":1}', '{"app":{"version":2}}', "{}"]),
    "integrations": st.sampled_from(['{"All":false}', '{"All":{}}', '{"All":null}', "{}"]),
}
"""Fields as a backfill sends them, and a little beyond."""

ODD: dict[str, st.SearchStrategy[str]] = {
    "type": texts("identify", "alias", "TRACK"),
    "event": texts(""),
    "userId": IDS,
    "anonymousId": IDS,
    "previousId": IDS,
    "timestamp": texts(*TIMES),
    "traits": st.sampled_from(OBJECT_TEXTS),
    "sentAt": texts(*TIMES),
    "channel": texts("server", ""),
    "originalTimestamp": texts(*TIMES),
    "writeKey": texts("secret"),
    "Event": texts("x"),
    **dict.fromkeys(
        ("properties", "context", "integrations", "_metadata", "unknown"),
        st.sampled_from(OBJECT_TEXTS),
    ),
}
"""Fields and values that may be refused, or that only the full parser reads."""


@st.composite
def fields(draw: st.DrawFn, *names: str) -> str:
    """A field as JSON, which may be out of the ordinary."""
    name = draw(st.sampled_from(sorted(names or ODD)))
    return f"{json.dumps(name)}: {draw(ODD[name] | st.sampled_from(STRANGE))}"


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A batch of plain messages, a few of them with odd fields, and perhaps fields of its own."""
    space = draw(st.sampled_from(["", " ", "\n\t"]))
    odd = draw(st.sampled_from([0, 0, 0, 1, 1, 2, 3]))
    messages = [
        [
            f"{json.dumps(name)}:{space}{draw(PLAIN[name])}"
            for name in draw(st.permutations(list(PLAIN)))
        ]
        for _ in range(draw(st.integers(1, 3)))
    ]
    for _ in range(odd):
        message = messages[draw(st.integers(0, len(messages) - 1))]
        message.insert(draw(st.integers(0, len(message))), draw(fields()))
        if draw(st.booleans()):
            message.pop(draw(st.integers(0, len(message) - 1)))
    batch = f",{space}".join("{" + ",".join(each) + space + "}" for each in messages)
    top = [f'"batch": [{batch}]']
    if draw(st.booleans()):
        top.append(f'"context": {draw(PLAIN["context"])}')
    if odd > 1:
        top.append(draw(fields("context", "integrations", "sentAt", "writeKey")))
    return ("{" + f"{space},".join(top) + "}").encode()


def fully_parsed(body: bytes, policy: Policy) -> parsing.ParsedBody | None:
    """What the full parser makes of a batch; None if it is no batch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parsing, "read_rows", lambda *_: None)
        try:
            return parsing.parse("batch", body, REFUSED, policy, NOW)
        except parsing.UnreadableBodyError:
            return None


def decoded(row: tuple[Any, ...]) -> dict[str, Any]:
    """A row with its JSON as values."""
    cells = dict(zip(MESSAGE_COLUMNS, row, strict=True))
    return {
        name: json.loads(cell, parse_int=Decimal)
        if cell is not None and name in (*OBJECTS, "warnings")
        else cell
        for name, cell in cells.items()
    }


@hypothesis.settings(max_examples=500)
@hypothesis.given(body=bodies())
def test_both_parsers_give_the_same_rows_or_both_refuse(body: bytes) -> None:
    """Whatever the fast parser accepts, the full one accepts with the same rows."""
    fast = fast_path.read_rows(body, REFUSED)
    hypothesis.event(f"fast: {fast is not None}")
    if fast is None:  # the full parser decides, so there is nothing to compare
        return
    full = fully_parsed(body, Policy())
    assert full is not None
    assert (full.rejected, full.dropped, full.count) == ([], None, len(fast))
    assert [decoded(row) for row in fast] == [decoded(row) for row in full.rows]


@hypothesis.settings(max_examples=200)
@hypothesis.given(body=bodies(), numeric_ids=st.booleans(), without_person=st.booleans())
def test_whatever_is_stored_can_be_read(
    body: bytes, *, numeric_ids: bool, without_person: bool
) -> None:
    """No accepted message makes ``events()`` raise; times are in UTC, and there is no key."""
    policy = Policy(numeric_ids=numeric_ids, without_person=without_person, keep_rest=True)
    try:
        parsed = parsing.parse("batch", body, REFUSED, policy, NOW)
    except parsing.UnreadableBodyError:
        return
    store = Store()
    request = ReceivedRequest(NOW.isoformat(), "/b", True, 200, 0, parsed.count, None)
    store.add(request, parsed.rows, parsed.rejected)
    events = store.events()
    assert len(events) == len(parsed.rows)
    assert str(events["timestamp"].dtype) == "datetime64[us, UTC]"
    people = store.sql("SELECT id FROM people")["id"].tolist()
    assert None not in people
    assert "" not in people
    assert len(parsed.rows) == sum(
        each["messages"] for each in store.records("SELECT * FROM months")
    )
    assert "secret" not in "\n".join(store._database.iterdump())
    store.close()


@pytest.mark.parametrize("moment", TIMES[:6])
def test_each_way_to_write_a_time(box: Sandbox, moment: str) -> None:
    """Small letters, a space and other zones are stored as the same UTC form."""
    message = EXAMPLE | {"timestamp": moment}
    assert post(box, "/batch", {"batch": [message]}).status_code == 200
    assert post(box, "/track", message).status_code == 200
    hour = 8 if "+02:00" in moment else 10
    expected = f"2024-01-15T{hour:02d}:30:00.000Z"
    assert box.sql("SELECT timestamp FROM messages")["timestamp"].tolist() == [expected] * 2
    assert {each.isoformat() for each in box.events()["timestamp"]} == {
        f"2024-01-15T{hour:02d}:30:00+00:00"
    }


@pytest.mark.parametrize("year", [1, 9999])
def test_times_far_away(box: Sandbox, year: int) -> None:
    """The first and the last year can be read."""
    moment = f"{year:04d}-06-01T00:00:00.000Z"
    assert post(box, "/batch", {"batch": [EXAMPLE | {"timestamp": moment}]}).status_code == 200
    assert box.events()["timestamp"].dt.year.tolist() == [year]


@pytest.mark.parametrize("path", ["/track", "/batch"])
def test_numbers_beyond_pythons(box: Sandbox, path: str) -> None:
    """An integer of thousands of digits is stored, and read as a decimal."""
    message = json.dumps(EXAMPLE | {"properties": {"n": "@"}}).replace('"@"', DIGITS)
    body = f'{{"batch": [{message}]}}' if path == "/batch" else message
    assert post(box, path, body.encode()).status_code == 200
    assert box.events()["properties"].tolist() == [{"n": Decimal(DIGITS)}]


@pytest.mark.parametrize("path", ["/track", "/batch"])
def test_nesting_beyond_pythons(box: Sandbox, path: str) -> None:
    """What is nested too deeply to be read is refused, or stays text; the rest can be read."""
    for name in ("properties", "context", "traits", "mine"):
        for depth in (300, 900, *range(950, 1_000, 3), 2_000):
            deep = '{"a":' * depth + "1" + "}" * depth
            message = json.dumps(EXAMPLE | {name: "@"}).replace('"@"', deep)
            body = f'{{"batch": [{message}]}}' if path == "/batch" else message
            assert post(box, path, body.encode()).status_code in (200, 400)
    events = box.events()
    assert {type(cell) for cell in events["properties"]} <= {dict, str}
    for number in range(1, len(events) + 1):
        assert httpx.get(f"{box.page}messages/{number}").status_code == 200


@pytest.mark.parametrize("text", [b"\xff", b"\xc3", b"\xed\xa0\x80"])
@pytest.mark.parametrize("path", ["/track", "/batch"])
def test_a_body_that_is_not_utf_8(box: Sandbox, text: bytes, path: str) -> None:
    """It gets 400, wherever the wrong bytes are, and the sandbox keeps running."""
    for name in ("properties", "context", "event", "unknown"):
        value = '"@"' if name == "event" else '{"a": "@"}'
        message = json.dumps(EXAMPLE | {name: "#"}).replace('"#"', value).encode()
        body = b'{"batch": [%s]}' % message if path == "/batch" else message
        answer = post(box, path, body.replace(b"@", text))
        assert answer.status_code == 400
        assert answer.json()["meta"]["errors"] == ["the body is not UTF-8"]
    assert post(box, path, EXAMPLE if path == "/track" else {"batch": [EXAMPLE]}).status_code == 200


def test_the_fast_parser_reads_plain_messages() -> None:
    """It reads the messages of a backfill, but none that are too large or refused."""
    body = json.dumps({"batch": [EXAMPLE | {"properties": {"version": "1"}}]}).encode()
    assert fast_path.read_rows(body, frozenset()) is not None
    assert fast_path.read_rows(body, frozenset({"user_12345"})) is None
    size = api_facts.MAX_MESSAGE_BYTES
    large = json.dumps({"batch": [EXAMPLE | {"properties": {"x": "y" * size}}]}).encode()
    assert fast_path.read_rows(large, frozenset()) is None

"""Requests: never over a limit, as full as they can be, and each knows its rows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp_backfill.messages.encoding import Encoded, encode
from cdp_backfill.messages.packing import Packer, Request
from cdp_backfill.model import api_facts
from tests.rows import built, texts


def encoded(values: list[str], scope: Any = "message", places: list[str] | None = None) -> Any:
    """Messages with these texts in them."""
    columns: dict[str, Any] = {"text": values}
    if places:
        columns["place"] = places
    messages = built(columns, context={"locale": "place"} if places else {})
    return list(encode(messages.fields, messages.millis, context_scope=scope))


def pack(parts: list[Encoded], **limits: int) -> list[Request]:
    """Requests of all these messages."""
    packer = Packer(**limits)
    requests = [
        request for number, part in enumerate(parts) for request in packer.feed(part, number)
    ]
    return [*requests, *packer.flush()]


chunks = st.lists(st.lists(texts, min_size=1, max_size=9), min_size=1, max_size=4)


@given(chunks, st.integers(450, 1_500), st.integers(1, 7))
def test_no_request_is_over_a_limit_and_none_could_be_fuller(
    values: list[list[str]], max_bytes: int, max_messages: int
) -> None:
    """The next message would not have fitted; everything is in exactly once, in order."""
    parts = [part for chunk in values for part in encoded(chunk)]
    requests = pack(parts, max_bytes=max_bytes, max_messages=max_messages)
    sent: list[Any] = []
    for number, request in enumerate(requests):
        body = request.body()
        assert len(body) == request.size <= max_bytes
        batch = json.loads(body)["batch"]
        assert len(batch) == len(request) <= max_messages
        sent.extend(batch)
        if number + 1 < len(requests) and len(request) < max_messages:
            first = requests[number + 1].pieces[0]
            size = len(first.encoded.message(first.start))
            assert request.size + len(",") + size > max_bytes
    everything = [json.loads(part.message(number)) for part in parts for number in range(len(part))]
    assert sent == everything


@given(chunks, st.integers(500, 1_500))
def test_a_request_knows_its_rows(values: list[list[str]], max_bytes: int) -> None:
    """The pieces of a request name the very messages that are in its body."""
    parts = [part for chunk in values for part in encoded(chunk)]
    for request in pack(parts, max_bytes=max_bytes):
        named = [
            json.loads(parts[piece.owner].message(number))
            for piece in request.pieces
            for number in range(piece.start, piece.stop)
        ]
        assert named == json.loads(request.body())["batch"]


@given(chunks)
def test_splitting_halves_a_request(values: list[list[str]]) -> None:
    """Two halves, one after the other, are the whole, down to single messages."""
    parts = [part for chunk in values for part in encoded(chunk)]
    todo = pack(parts)
    singles = []
    while todo:
        request = todo.pop(0)
        if len(request) == 1:
            singles.append(json.loads(request.body())["batch"][0])
            continue
        left, right = request.split()
        assert abs(len(left) - len(right)) <= 1
        both = [*json.loads(left.body())["batch"], *json.loads(right.body())["batch"]]
        assert both == json.loads(request.body())["batch"]
        todo[:0] = [left, right]
    everything = [json.loads(part.message(n)) for part in parts for n in range(len(part))]
    assert singles == everything


def test_one_message_cannot_be_split() -> None:
    """Half a message is none."""
    (request,) = pack(encoded(["x"]))
    with pytest.raises(ValueError, match="1 messages cannot be split into 2"):
        request.split()


@given(
    st.lists(
        st.lists(st.tuples(texts, st.sampled_from("abc")), min_size=1), min_size=1, max_size=4
    ),
    st.integers(500, 900),
)
def test_batch_scope_keeps_contexts_apart(rows: list[list[Any]], max_bytes: int) -> None:
    """Each request has one context at its top, is under the limit, and no row is lost."""
    parts = [
        part
        for chunk in rows
        for part in encoded([text for text, _ in chunk], "batch", [place for _, place in chunk])
    ]
    count = 0
    for request in pack(parts, max_bytes=max_bytes):
        body = request.body()
        assert len(body) == request.size <= max_bytes
        whole = json.loads(body)
        assert set(whole) == {"context", "batch"}
        assert all("context" not in message for message in whole["batch"])
        count += len(whole["batch"])
    assert count == sum(map(len, rows))


def test_a_thousand_contexts_do_not_wait_for_ever() -> None:
    """Requests that wait for company are few, so that memory stays bounded."""
    packer = Packer()
    parts = encoded(["x"] * 200, "batch", [f"l{number}" for number in range(200)])
    early = [request for part in parts for request in packer.feed(part)]
    late = list(packer.flush())
    assert len(late) == 64
    assert len(early) + len(late) == 200


def test_requests_are_full() -> None:
    """With messages of ordinary size, 95 % of the limit and more is used."""
    (part,) = encoded(["é" * (number % 90) for number in range(8_000)])
    requests = pack([part])
    assert len(requests) > 3
    fills = [request.size / api_facts.MAX_REQUEST_BYTES for request in requests[:-1]]
    assert min(fills) > 0.99


@pytest.mark.parametrize("limits", [{"max_bytes": 5}, {"max_messages": 0}])
def test_limits_that_leave_no_room(limits: dict[str, int]) -> None:
    """A packer that could hold nothing is refused."""
    with pytest.raises(ValueError, match="no room"):
        Packer(**limits)


def test_a_message_that_fits_nowhere() -> None:
    """It is never sent over the limit; whoever feeds it must have checked."""
    with pytest.raises(ValueError, match="larger than a request"):
        pack(encoded(["x" * 500]), max_bytes=400)

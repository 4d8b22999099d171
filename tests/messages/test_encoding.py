"""JSON and ids: exact sizes, and a recipe that stays as it is."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from cdp_backfill.messages.encoding import encode
from tests.rows import built, payloads, texts


def by_hand(message: dict[str, Any]) -> str:
    """An id made from a message with Python's own JSON, as the recipe is written down."""

    def canonical(value: Any) -> Any:
        if isinstance(value, float):
            bits = struct.unpack("<q", struct.pack("<d", value))[0]
            return int(value) if value.is_integer() else f"f64:{bits}"
        if isinstance(value, dict):
            return {name: canonical(value[name]) for name in value}
        return value

    content = {name: canonical(message[name]) for name in message if name not in _NOT_HASHED}
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return "cdp1-" + xxhash.xxh3_128_hexdigest(text.encode())


_NOT_HASHED = ("type", "messageId")


@given(st.lists(texts.filter(str.strip), min_size=1, max_size=5), st.floats(-1e9, 1e9))
def test_ids_follow_the_written_recipe(names: list[str], number: float) -> None:
    """Anyone can compute an id again from the description alone."""
    columns = {"uid": names, "x": [number] * len(names), "name": names}
    for message in payloads(built(columns, context={"locale": "name"}, rest="properties")):
        assert message["messageId"] == by_hand(message)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"version": ["2.1.0"], "n": [1]}, "cdp1-f1d71e372870249c46ddb34c661ea16a"),
        ({"x": [0.1], "city": ["Zürich"], "flag": [True]}, "cdp1-24c8f390eedd5ceb409a26f8ee4098cc"),
        (
            {"tags": [["a", 'b"']], "deep": [{"k": {"z": 1.5, "a": None}}]},
            "cdp1-a66eda644c38b957222325911371a667",
        ),
    ],
)
def test_golden_ids(columns: dict[str, Any], expected: str) -> None:
    """Recipe 1 is pinned: these ids must never change."""
    assert payloads(built(columns))[0]["messageId"] == expected


def test_ids_of_a_column_are_used_where_there_are_any() -> None:
    """A given id goes as it is, odd characters too; an empty cell gets a made one."""
    columns = {"id": ['a"\\\n1', None, "é"], "x": [1, 2, 3]}
    actual = [message["messageId"] for message in payloads(built(columns, message_id="id"))]
    assert actual[0] == 'a"\\\n1'
    assert actual[1].startswith("cdp1-")
    assert actual[2] == "é"


@given(st.lists(texts, min_size=1, max_size=8), st.sampled_from(["message", "batch"]))
def test_sizes_are_exact(values: list[str], scope: Any) -> None:
    """The size of a message is known to the byte before it is looked at."""
    messages = built(
        {"text": values, "place": [v[:1] for v in values]}, context={"locale": "place"}
    )
    seen = []
    for part in encode(messages.fields, context_scope=scope):
        for number, row in enumerate(part.rows):
            text = part.message(number)
            moved = len(part.head) if part.head else 0
            assert part.sizes[number] == len(text) + moved
            assert bytes(part.data[part.offsets[number + 1] - 1 : part.offsets[number + 1]]) == b","
            seen.append(int(row))
    assert sorted(seen) == list(range(len(values)))


@given(st.lists(st.tuples(st.sampled_from(["de", "fr", None]), texts), min_size=1, max_size=12))
def test_batch_scope_says_the_same(rows: list[tuple[str | None, str]]) -> None:
    """With context at the top of the request, a reader gets the same messages with the same ids."""
    places, values = zip(*rows, strict=True)
    columns = {"place": pa.array(places, pa.string()), "text": list(values)}
    messages = built(columns, context={"locale": "place"}, integrations={"All": False})
    assert payloads(messages, "batch") == payloads(messages, "message")


@given(
    st.lists(
        st.tuples(texts, st.sampled_from([None, "i1", 'i"2']), st.booleans(), st.booleans()),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from(["message", "batch"]),
    st.booleans(),
)
def test_messages_can_be_left_out(rows: list[Any], scope: Any, given_ids: bool) -> None:
    """Left out while writing or afterwards: the others are what they are among all, to the byte."""
    values, ids, written, kept = zip(*rows, strict=True)
    columns = {
        "text": list(values),
        "id": pa.array(ids, pa.string()),
        "place": [v[:1] for v in values],
    }
    named: dict[str, Any] = {"message_id": "id"} if given_ids else {"rest": "drop"}
    messages = built(columns, properties={"t": "text"}, context={"locale": "place"}, **named)

    def shown(keep: Any, then: Any) -> dict[int, tuple[bytes, bytes, int, str, bytes]]:
        actual = {}
        for whole in encode(
            messages.fields,
            message_id=messages.message_id,
            keep=np.array(keep),
            context_scope=scope,
            with_digests=True,
        ):
            part = whole.select(np.array(then)[whole.rows])
            assert bytes(part.data)[-1:] in (b",", b"")
            assert len(part.data) == part.offsets[-1]
            names = part.ids.array().to_pylist()
            for number, row in enumerate(part.rows.tolist()):
                message, size = part.message(number), int(part.sizes[number])
                digest = part.digests[number].tobytes()
                actual[row] = (part.head, message, size, names[number], digest)
        return actual

    every = [True] * len(rows)
    whole = shown(every, every)
    assert len(whole) == len(rows)
    left = {row for row in whole if written[row] and kept[row]}
    assert shown(written, kept) == {row: whole[row] for row in left}


def test_batch_scope_groups_by_context() -> None:
    """Rows that share a context share a head."""
    messages = built({"place": ["de", "fr", "de", None]}, context={"locale": "place"})
    heads = {
        part.head: part.rows.tolist() for part in encode(messages.fields, context_scope="batch")
    }
    assert heads == {
        b'"context":{"locale":"de"},': [0, 2],
        b'"context":{"locale":"fr"},': [1],
        b"": [3],
    }

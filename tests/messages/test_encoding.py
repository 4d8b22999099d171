"""JSON and ids: exact sizes, and a recipe that stays as it is."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from cdp_backfill import Mapping
from cdp_backfill.messages.encoding import encode
from cdp_backfill.messages.text import as_identifier
from tests.rows import built, payloads, texts

LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def plain(value: Any) -> str:
    """A value of a message as canonical JSON."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{plain(name)}:{plain(value[name])}" for name in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(plain, value)) + "]"
    if not isinstance(value, Decimal):
        return json.dumps(value, ensure_ascii=False)
    digits = f"{value:f}"
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return "0" if digits == "-0" else digits


def ulid(number: int) -> str:
    """128 bits in Crockford's base 32."""
    return "".join(LETTERS[number >> shift & 31] for shift in range(125, -1, -5))


def by_hand(message: bytes, millis: int) -> str:
    """The id of a message as it was sent, from the written recipe alone."""
    content = json.loads(message, parse_float=Decimal, parse_int=Decimal)
    text = plain({name: content[name] for name in content if name not in ("type", "messageId")})
    digest = xxhash.xxh3_128_digest(text.encode())
    return ulid(max(millis, 0) << 80 | int.from_bytes(digest[:10], "big"))


numbers = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(-1e12, 1e12)
    | st.integers(-(2**53), 2**53).map(float)
    | st.sampled_from([0.1, -0.0, 1e-7, 1e10, 1e22, 1.5e300, 5e-324, 123456789012.25])
)


@given(
    st.lists(st.tuples(texts, numbers, st.none() | numbers), min_size=1, max_size=8),
    st.sampled_from([pa.float64(), pa.float32()]),
)
def test_ids_follow_the_written_recipe(rows: list[Any], kind: Any) -> None:
    """Anyone can compute an id again from the message that was sent."""
    names, xs, ys = zip(*rows, strict=True)
    with np.errstate(over="ignore"):
        small = np.nan_to_num(np.array(xs).astype(kind.to_pandas_dtype()), posinf=1, neginf=1)
    columns = {
        "name": list(names),
        "x": pa.array(small),
        "deep": [{"y": y, "in": [x, 1.0, y]} for x, y in zip(xs, ys, strict=True)],
        "price": pa.array([Decimal(n % 997) / 8 for n in range(len(xs))], pa.decimal128(38, 9)),
        "sums": pa.array([[Decimal("0.50"), Decimal(7)]] * len(xs), pa.list_(pa.decimal128(9, 2))),
    }
    messages = built(columns, context={"locale": "name"}, rest="properties")
    for part in encode(messages.fields, messages.millis):
        for number, name in enumerate(part.ids.array().to_pylist()):
            assert name == by_hand(part.message(number), int(messages.millis[number]))


@given(st.integers(-(2**63), 2**63 - 1) | st.integers(-1000, 1000))
def test_equal_numbers_give_equal_ids(number: int) -> None:
    """7, 7.0 and 7.00 are one number, whatever the type of the column and its neighbours."""
    arrays = [pa.array([number, 1]), pa.array([Decimal(number), Decimal(1)])]
    arrays.append(pa.array([Decimal(number), Decimal("1.5")], pa.decimal128(38, 9)))
    if abs(number) < 2**53:
        arrays += [pa.array([float(number), 1.0]), pa.array([float(number), 0.25])]
    seen = {payloads(built({"n": array}))[0]["messageId"] for array in arrays}
    assert len(seen) == 1


@given(st.decimals(-9999, 9999, places=4, allow_nan=False, allow_infinity=False))
def test_equal_fractions_give_equal_ids(number: Decimal) -> None:
    """0.5 at any scale, and as a float, is one number; in lists as outside."""
    kinds = [pa.decimal128(9, 4), pa.decimal128(38, 18), pa.decimal256(60, 30), pa.float64()]
    for wrap in (lambda cell: cell, lambda cell: [cell], lambda cell: {"deep": [cell]}):
        ids = set()
        for kind in kinds:
            cell = float(number) if pa.types.is_floating(kind) else number
            shape = pa.array([wrap(1)]).type
            array = pa.array([wrap(cell)], _of(shape, kind))
            ids.add(payloads(built({"n": array}))[0]["messageId"])
        assert len(ids) == 1


def _of(shape: Any, kind: Any) -> Any:
    """The same type with numbers of this kind."""
    if pa.types.is_list(shape):
        return pa.list_(_of(shape.value_type, kind))
    if pa.types.is_struct(shape):
        return pa.struct([(item.name, _of(item.type, kind)) for item in shape])
    return kind


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"version": ["2.1.0"], "n": [1]}, "01GZBC2E80Y7BHWDS8E0J9RHPX"),
        ({"x": [0.1], "city": ["Zürich"], "flag": [True]}, "01GZBC2E80ZC5YFZFX1MRZCGSS"),
        (
            {"tags": [["a", 'b"']], "deep": [{"k": {"z": 1.5, "a": None}}]},
            "01GZBC2E80TBP7JS087BT7K7JS",
        ),
        ({"x": [1e-7], "y": [[2.0, 1e22]]}, "01GZBC2E80ZE2SRSAPQE1C6BY9"),
    ],
)
def test_golden_ids(columns: dict[str, Any], expected: str) -> None:
    """Recipe 2 is pinned: these ids must never change."""
    assert payloads(built(columns))[0]["messageId"] == expected


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({}, "000000000016HT5P6TYCYB2BYH"),
        ({"plan": ["gold"], "n": [1.50], "city": ["Zürich"]}, "000000000000H35665MN44403H"),
        (
            {"deep": [{"k": {"z": 1.5, "a": None}}], "tags": [["a", 'b"']]},
            "000000000056MFT54HA1SXM073",
        ),
    ],
)
def test_golden_ids_of_identities(columns: dict[str, Any], expected: str) -> None:
    """An identify call has no time: its first 48 bits are 0; these ids must never change."""
    mapping = Mapping(
        call="identify",
        user_id="uid",
        anonymous_id="did",
        traits={name: name for name in columns},
    )
    messages = built({"did": ["d-1"]} | columns, mapping)
    (message,) = payloads(messages)
    (part,) = encode(messages.fields, messages.millis, call="identify")
    assert message["type"] == "identify"
    assert set(message) <= {"type", "messageId", "userId", "anonymousId", "traits"}
    assert message["messageId"] == by_hand(part.message(0), 0) == expected
    assert expected.startswith("0000000000")


def test_ids_sort_by_time() -> None:
    """The first 48 bits of an id are the time of the event; before 1970, 0."""
    times = ["1960-01-01T00:00:00Z", "2019-05-01T10:00:00Z", "2023-05-01T10:00:00.001Z"]
    messages = built({"ts": times}, earliest="1950-01-01")
    ids = [message["messageId"] for message in payloads(messages)]
    assert ids == sorted(ids)
    assert [int(LETTERS.index(name[0])) for name in ids] == [0, 0, 0]
    decoded = [sum(LETTERS.index(c) << 5 * (9 - n) for n, c in enumerate(i[:10])) for i in ids]
    assert decoded == [0, 1556704800000, 1682935200001]


@given(st.lists(st.tuples(st.none() | texts.filter(str.strip), st.none() | st.integers(0, 9))))
def test_ids_of_a_key_follow_the_written_recipe(rows: list[Any]) -> None:
    """All bits come from the cells, read as ids; without any cell, the content makes the id."""
    if not rows:
        return
    names, counts = zip(*rows, strict=True)
    columns = {"name": pa.array(names, pa.string()), "n": pa.array(counts, pa.int64())}
    change: dict[str, Any] = {"message_id": {"$key": ["name", "n"]}}
    messages = built(columns, **change)
    cells, _ = as_identifier(columns["name"], lambda *_: None)
    for payload, name, count in zip(payloads(messages), cells.to_pylist(), counts, strict=True):
        key = {"1": name, "2": None if count is None else str(count)}
        text = plain({place: cell for place, cell in key.items() if cell is not None})
        expected = ulid(int.from_bytes(xxhash.xxh3_128_digest(text.encode()), "big"))
        assert (payload["messageId"] == expected) == (text != "{}")


def test_a_key_outlives_another_mapping() -> None:
    """Another event, another zone, other properties and formats of the key: the same ids."""
    stamps = ["2023-05-01 10:00:00", "2023-05-01 11:00:00"]
    columns = {"order": [7, 8], "ts": stamps, "flag": [True, False]}
    key: dict[str, Any] = {"message_id": {"$key": ["order", "ts", "flag"]}}
    first = [p["messageId"] for p in payloads(built(columns, **key))]
    assert len(set(first)) == 2
    others = {
        "order": pa.array([7.0, 8.0]),
        "ts": pa.array(stamps).cast(pa.timestamp("us")),
        "flag": ["true", "false"],
        "more": [1, 2],
    }
    change: dict[str, Any] = {"timezone": "Europe/Berlin", "rest": "drop"}
    assert [p["messageId"] for p in payloads(built(others, **key, **change))] == first
    texts_ = {"order": ["7", " 8"]}
    assert [p["messageId"] for p in payloads(built(others | texts_, **key))] == first


def test_ids_of_a_column_are_used_where_there_are_any() -> None:
    """A given id goes as it is, odd characters too; an empty cell gets a made one."""
    columns = {"id": ['a"\\\n1', None, "é"], "x": [1, 2, 3]}
    actual = [message["messageId"] for message in payloads(built(columns, message_id="id"))]
    assert actual[0] == 'a"\\\n1'
    assert len(actual[1]) == 26
    assert actual[2] == "é"


@given(st.lists(texts, min_size=1, max_size=8), st.sampled_from(["message", "batch"]))
def test_sizes_are_exact(values: list[str], scope: Any) -> None:
    """The size of a message is known to the byte before it is looked at."""
    messages = built(
        {"text": values, "place": [v[:1] for v in values]}, context={"locale": "place"}
    )
    seen = []
    for part in encode(messages.fields, messages.millis, context_scope=scope):
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
            messages.millis,
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
        part.head: part.rows.tolist()
        for part in encode(messages.fields, messages.millis, context_scope="batch")
    }
    assert heads == {
        b'"context":{"locale":"de"},': [0, 2],
        b'"context":{"locale":"fr"},': [1],
        b"": [3],
    }

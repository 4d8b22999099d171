"""Numbers arrive as they were, or the row says that they cannot."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill import Mapping
from cdp_backfill.api import messages
from cdp_backfill.messages.encoding import encode
from cdp_backfill.messages.text import as_text
from tests.rows import OPENED, built, codes, opens, payloads

if TYPE_CHECKING:
    from pathlib import Path

EXACT = {pa.float16(): 2**11, pa.float32(): 2**24, pa.float64(): 2**53}
"""From here on, a float of each type cannot hold every whole number."""


def with_id(cells: Any, **change: Any) -> Any:
    """The messages of a table with these user ids."""
    return built({"uid": cells}, Mapping(**{**OPENED.to_dict(), "event": OPENED.event} | change))


@pytest.mark.parametrize("kind", EXACT)
def test_ids_as_floats_are_whole_up_to_the_limit_of_their_type(kind: Any) -> None:
    """Below it, the id is certain; at it, a neighbour could have been meant."""
    limit = EXACT[kind]
    cells = np.array([7, limit - 1, limit], dtype=kind.to_pandas_dtype())
    messages_ = with_id(pa.array(cells))
    assert codes(messages_) == {2: ["bad_user"]}
    assert [p["userId"] for p in payloads(messages_)[:2]] == ["7", str(limit - 1)]


def test_times_in_short_floats_are_bad() -> None:
    """A time in 32 bits is minutes off; nobody would notice in Customer.io."""
    seconds = np.array([1682935200, 1682935201], dtype=np.float32)
    for unit in (None, "s"):
        change: dict[str, Any] = {} if unit is None else {"timestamp_unit": unit}
        assert codes(built({"ts": pa.array(seconds)}, **change)) == {
            0: ["bad_time"],
            1: ["bad_time"],
        }


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("1.2345678E7", "12345678"),
        ("1.234567E7", "12345670"),
        ("-1.5E1", "-15"),
        ("1.2345678E+7", "12345678"),
        ("1.23457E+15", None),
        ("1.5E0", None),
        ("9.007199254740993E15", None),
        ("12E45", "12E45"),
        ("1.5", "1.5"),
        ("v1.5E3", "v1.5E3"),
    ],
)
def test_ids_with_an_exponent(cell: str, expected: str | None) -> None:
    """Read for the whole number that they are; refused where digits are lost."""
    messages_ = with_id([cell])
    assert payloads(messages_)[0].get("userId") == expected
    assert codes(messages_) == ({} if expected else {0: ["bad_user"]})


@given(st.integers(1_250_000_000, 2_000_000_000), st.sampled_from(["s", "ms"]), st.booleans())
def test_epochs_with_an_exponent(seconds: int, unit: str, given_unit: bool) -> None:
    """1.6829352E9 is the number 1682935200, as seconds or milliseconds."""
    number = seconds * (1 if unit == "s" else 1000)
    digits = str(number).rstrip("0")
    if len(digits) == 1:
        return
    text = f"{digits[0]}.{digits[1:]}E{len(str(number)) - 1}"
    change: dict[str, Any] = {"timestamp_unit": unit} if given_unit else {}
    with_exponent, plain = (
        payloads(built({"ts": [cell]}, **change))[0]["timestamp"] for cell in (text, str(number))
    )
    assert with_exponent == plain


@given(st.integers(0, 60), st.integers(-(10**15) + 1, 10**15 - 1))
def test_decimals_are_plain_digits(scale: int, unscaled: int) -> None:
    """Whatever the scale, a decimal is sent as its digits, without an exponent."""
    number = Decimal(unscaled).scaleb(-scale)
    array = pa.array([number], pa.decimal256(76, scale))
    (part,) = encode((m := built({"x": array})).fields, m.millis)
    text = part.message(0).decode()
    value = text.partition('"x":')[2].partition("}")[0]
    assert Decimal(value) == number
    assert "e" not in value.lower()


@given(st.integers(0, 37), st.integers(-(10**15) + 1, 10**15 - 1))
def test_decimals_as_text_are_plain_digits(scale: int, unscaled: int) -> None:
    """As a version, too, a decimal has no exponent."""
    number = Decimal(unscaled).scaleb(-scale)
    (text,), bad = as_text(pa.array([number], pa.decimal128(38, scale)), floats="version")
    assert not bad.any()
    assert Decimal(text.as_py()) == number
    assert "E" not in text.as_py()


def test_numbers_beyond_64_bits_are_whole(tmp_path: Path) -> None:
    """39 digits and more, from Python, JSON and decimals, with all their digits."""
    number = 10**38 + 1
    frame = opens(2, x=[number, 1])
    path = tmp_path / "x.ndjson"
    path.write_text("".join(f'{{"uid":"u","ts":1682935200,"x":{n}}}\n' for n in (number, 1)))
    table = pa.table({"uid": ["u"], "ts": [1682935200], "x": pa.array([number], pa.decimal256(76))})
    for source in (frame, path, table):
        assert messages(source, 1, OPENED)[0]["properties"]["x"] == number


def test_versions_in_text_files_keep_their_zeros(tmp_path: Path) -> None:
    """In columns whose name ends in version or build; elsewhere 1.10 is a number."""
    names = ["sdk_version", "PluginVersion", "app_build", "webview version", "conversion", "amount"]
    path = tmp_path / "v.csv"
    path.write_text(
        f"uid,ts,{','.join(names)}\n"
        + "".join(f"u,2023-05-01T10:00:00Z,{','.join([cell] * 6)}\n" for cell in ("1.10", "1.1"))
    )
    first, second = (message["properties"] for message in messages(path, 2, OPENED))
    assert [first[name] for name in names] == ["1.10"] * 4 + [1.1] * 2
    assert [second[name] for name in names] == ["1.1"] * 4 + [1.1] * 2


@pytest.mark.parametrize("name", ["k\0", "k\ud83d"])
def test_names_that_arrow_does_not_keep_are_refused(name: str, tmp_path: Path) -> None:
    """One clear error before anything is sent, from files and from frames."""
    path = tmp_path / "a.ndjson"
    escaped = name.encode("unicode_escape").decode().replace("\\x00", "\\u0000")
    path.write_text(f'{{"uid":"u","ts":1682935200,"k":1,"{escaped}":2}}\n')
    frame = opens(1, k=1, other=2)
    frame.columns = pd.Index(["uid", "ts", "k", name], dtype=object)
    with pytest.raises(cdp.SourceError, match="name"):
        messages(frame, 1, OPENED)
    if "\0" in name:
        with pytest.raises(cdp.SourceError, match="NUL"):
            messages(path, 1, OPENED)


NOT_UTF8 = pa.Array.from_buffers(pa.string(), 2, pa.array([b"1.0", b"\xff"], pa.binary()).buffers())


@pytest.mark.parametrize(
    "change",
    [
        {"properties": {"version": "x"}},
        {"properties": {"from_background": "x"}},
        {"context": {"os": {"name": "x"}}},
        {"context": {"locale": "x"}},
        {"context": {"device": {"type": "x"}}},
        {"anonymous_id": "x"},
        {"timestamp": "x"},
        {"message_id": "x"},
        {"event": "x", "other_events": "send"},
        {"json": ["x"]},
        {},
    ],
)
def test_text_that_is_not_utf8_is_one_bad_row(change: dict[str, Any]) -> None:
    """Whichever field it fills, its row is invalid, and no other because of it."""
    problems = codes(built({"x": NOT_UTF8}, **change))
    assert 1 in problems
    assert not {"bad_text", "bad_user"} & set(problems.get(0, []))

"""The fast way to read JSON objects gives what the slow way gives, or leaves a block to it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from hypothesis import example, given
from hypothesis import strategies as st

from cdp_backfill.errors import SourceError
from cdp_backfill.sources import open_source, unpacking
from cdp_backfill.sources.texts import json_objects, objects, typed_objects

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import pytest

KEYS = ["a", "b", "", "ключ", 'x"\\', "self"]
ODD = [
    "NaN", "-Infinity", "1e99999", "1e400", "1E5", "-0", "-0.0", "1.0", "1.10", "5e-324",
    "9007199254740992", "9007199254740993", "9007199254740993.0", "-9007199254740993",
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
    "18446744073709551615", "18446744073709551616", '"\\ud83d"', '"\\ud83d\\ude00\\u0000"', '"é"',
    '"2023-05-01T10:00:00Z"', '""', '"NaN"', "[]", "{}", '[1, {"k": 1.50}]', '{"a": "b", "a": 1}',
    "01", "1.", "tru", '"\t"', "", "{", "+1",
]  # fmt: skip
PLAIN = {
    "text": st.text(max_size=4).map(json.dumps),
    "whole": st.integers(-(2**64), 2**65).map(str),
    "small": st.integers(-9, 99).map(str),
    "decimal": st.floats(allow_nan=False, allow_infinity=False).map(json.dumps),
    "flag": st.sampled_from(["true", "false"]),
    "null": st.just("null"),
}
LINES = ["null", "1", "[1]", "//", '{"a": 1} {"a": 2}', '{"a": 1,}', '{"a": 1', "\ufeff", " "]


@st.composite
def files(draw: Callable[..., Any]) -> str:
    """Files in which most cells of a key are of one kind, and a few are odd."""
    kinds = {
        key: draw(st.sampled_from(sorted(PLAIN))) for key in draw(st.sets(st.sampled_from(KEYS)))
    }
    odd = draw(st.integers(0, 3))
    rows = []
    for _ in range(draw(st.integers(1, 30))):
        cells = [f"{json.dumps(key)}: {draw(PLAIN[kind])}" for key, kind in kinds.items()]
        kept = draw(st.integers(0, len(cells)))
        rows.append("{" + ", ".join(cells[:kept]) + "}")
    for _ in range(odd):
        place = draw(st.integers(0, len(rows)))
        cell = f"{json.dumps(draw(st.sampled_from(KEYS)))}: {draw(st.sampled_from(ODD))}"
        rows.insert(place, draw(st.sampled_from([*LINES, *["{" + cell + "}"] * 12])))
    layout = draw(st.sampled_from(["lines", "array", "joined"]))
    if layout == "array":
        return "[" + ",\n".join(rows) + "]"
    return ("\n" if layout == "lines" else "").join(rows)


def outcome(
    path: Path, columns: list[str] | None = None, texts: frozenset[str] | None = None
) -> Any:
    """The schema, rows and notes of a file, as they compare; or the error."""
    try:
        source = open_source(path)
        if texts is not None:
            source = source.settled(texts)
        names = columns if columns is not None else source.schema.names
        found = [repr(chunk.batch.to_pylist()) for chunk in source.chunks(names) if chunk.batch]
    except SourceError as error:
        return str(error)
    rows = "".join(found).replace("][", ", ")
    # A whole -0 among decimals may keep its sign; it is sent as 0.
    return str(source.schema), source.rows, source.notes, rows.replace("-0.0", "0.0")


def slowly() -> AbstractContextManager[Any]:
    """Leaves all blocks to the slow way."""
    return patch.multiple(objects, typed_objects=_Slow(), _Typed=lambda *_: None)


class _Slow:
    range_of = staticmethod(typed_objects.range_of)

    @staticmethod
    def checker(_: object) -> None:
        return None


@given(
    text=files(),
    size=st.sampled_from([64, 200, 2**21]),
    texts=st.none() | st.frozensets(st.sampled_from(KEYS)),
)
@example(text='{"a":1}\n{"a":-0}\n{"a":2}', size=8, texts=frozenset({"a"}))
@example(text='{"a":3}\n{"a":2}\n{"a":18446744073709551615}', size=8, texts=frozenset({"a"}))
def test_both_ways_are_equal(text: str, size: int, texts: frozenset[str] | None) -> None:
    """Schema, rows, notes and errors, in every layout, at any size of the blocks, also as text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.ndjson"
        path.write_text(text, encoding="utf-8")
        with patch.object(unpacking, "BLOCK_BYTES", size):
            fast = outcome(path, texts=texts)
            with slowly():
                slow = outcome(path, texts=texts)
    assert fast == slow


def test_regular_blocks_are_not_taken_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a regular file, only the first objects and a block with a new key are taken apart."""
    texts: list[bytes] = []
    slow = json_objects._decode

    def noted(text: bytes, *rest: Any) -> Any:
        texts.append(text)
        return slow(text, *rest)

    monkeypatch.setattr(json_objects, "_decode", noted)
    monkeypatch.setattr(unpacking, "BLOCK_BYTES", 1000)
    rows: list[dict[str, Any]] = [
        {"uid": f"u{n}", "n": n, "x": n / 7, "ok": n % 2 == 0, "deep": {"n": [n]}, "no": None}
        for n in range(500)
    ]
    rows[300]["new"] = 1
    path = tmp_path / "f.ndjson"
    path.write_text("\n".join(map(json.dumps, rows)))
    source = open_source(path)
    first, new = texts  # the first block is read for envelopes
    assert b'"uid": "u0"' in first
    assert b'"new"' in new
    chunks = source.chunks(source.schema.names)
    assert sum(chunk.batch.num_rows for chunk in chunks) == len(rows)
    assert len(texts) == 2

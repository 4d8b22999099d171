"""JSON with what JSON does not have, and JSON that is larger than memory."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import math
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill import SourceError
from cdp_backfill.sources import open_source, unpacking
from cdp_backfill.sources.texts.json_text import INFINITE, quotes, replace_words
from tests.sending import send
from tests.sources.test_formats import read

TIME = "2023-05-01T10:00:00Z"


def opened(folder: Path, content: str, name: str = "x.json") -> Any:
    """The source of a file."""
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return open_source(path)


LAYOUTS = ["lines", "array", "indented", "joined"]


def written(rows: list[dict[str, Any]], layout: str) -> str:
    """Rows as Python's json writes them, NaN and Infinity included."""
    if layout == "array":
        return json.dumps(rows)
    if layout == "indented":
        return "\n".join(json.dumps(row, indent=2) for row in rows)
    return ("\n" if layout == "lines" else "").join(map(json.dumps, rows))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nan_is_null_and_counted(tmp_path: Path, layout: str) -> None:
    """At any depth, but not inside text; in a plan and a report, too."""
    rows = [
        {"uid": "a", "ts": TIME, "x": math.nan, "text": "NaN, -Infinity", "list": [1, math.nan]},
        {"uid": "b", "ts": TIME, "x": 1.5, "text": '"NaN"\\', "list": []},
        {"uid": "c", "ts": TIME, "x": math.nan, "text": "", "list": [{"k": math.nan}]},
    ]
    source = opened(tmp_path, written(rows, layout))
    actual = read(source)
    assert [row["x"] for row in actual] == [None, 1.5, None]
    assert [row["text"] for row in actual] == [row["text"] for row in rows]
    assert [json.loads(row["list"]) for row in actual] == [[1, None], [], [{"k": None}]]
    assert str(source.schema.field("x").type) == "double"
    (note,) = source.notes
    assert note.startswith("4 values in the file ")
    assert note.endswith("are NaN, which JSON does not have, and read as null.")
    with cdp.sandbox() as box:
        plan = cdp.plan(
            tmp_path / "x.json",
            user_id="uid",
            timestamp="ts",
            event=cdp.lit("Application Opened"),
            destination=box.destination,
        )
        report = plan.send(progress=False)
        assert report.counts["delivered"] == 3
        assert [row.get("x") for row in box.events()["properties"]] == [None, 1.5, None]
    for shown in (str(plan), str(report)):
        assert "4 values in the file" in " ".join(shown.split())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "values",
    [
        [math.inf, 1.5],
        [-math.inf, 2],
        [math.inf, None],
        [{"k": math.inf}, {"k": 1}],
        [[1, -math.inf], [1]],
        [math.inf, "text"],
        [math.inf, 2**60],
    ],
)
def test_infinity_is_a_bad_row(tmp_path: Path, layout: str, values: list[Any]) -> None:
    """Its row is invalid, and the others are sent; nothing stops the run."""
    rows = [{"uid": f"u{n}", "ts": TIME, "x": value} for n, value in enumerate(values)]
    path = tmp_path / "x.json"
    path.write_text(written(rows, layout))
    with cdp.sandbox() as box:
        report = send(path, box, journal=False)
        assert (report.counts["delivered"], report.counts["invalid"]) == (1, 1)
        assert box.events()["userId"].tolist() == ["u1"]
    assert report.failures["cdp_code"].tolist() == ["not_finite"]


def test_an_infinite_id_is_no_id(tmp_path: Path) -> None:
    """A column that is read as text elsewhere keeps its numbers where one is infinite."""
    rows = [{"uid": math.inf, "ts": TIME}, {"uid": 7, "ts": TIME}]
    path = tmp_path / "x.json"
    path.write_text(written(rows, "lines"))
    event = cdp.lit("Application Opened")
    plan = cdp.plan(path, user_id="uid", timestamp="ts", event=event)
    assert plan.counts == {"to_send": 1, "invalid": 1, "held": 0, "skipped": 0}


@given(st.text(st.sampled_from('"\\aN{}[]: ')), st.integers(0, 99))
def test_quotes_are_those_of_strings(text: str, start: int) -> None:
    """Found at once, they are those that a slow reader finds letter by letter."""
    whole = (text[start % (len(text) + 1) :]).encode()
    expected, escaped = [], False
    for place, letter in enumerate(whole):
        if letter == ord('"') and not escaped:
            expected.append(place)
        escaped = letter == ord("\\") and not escaped
    assert quotes(whole).tolist() == expected


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats()
    | st.text(st.sampled_from('NaInfity"\\ {}[],\n-é'), max_size=9)
    | st.sampled_from(["NaN", "Infinity", "-Infinity"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=6,
)


def plain(value: Any) -> Any:
    """A value with what JSON has in place of NaN and Infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else value
    if isinstance(value, list):
        return [plain(each) for each in value]
    return {key: plain(each) for key, each in value.items()} if isinstance(value, dict) else value


@given(VALUES)
def test_words_that_json_does_not_have(value: Any) -> None:
    """They are replaced outside of text alone, and NaN is counted."""
    text = json.dumps(value).encode()
    replaced, count = replace_words(text)
    words: list[str] = []

    def constant(word: str) -> float:
        words.append(word)
        return float(word)

    json.loads(text, parse_constant=constant)
    assert json.loads(replaced) == plain(value)
    assert count == words.count("NaN")
    assert (INFINITE in replaced) == any(word != "NaN" for word in words)


ROWS = st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3), min_size=1, max_size=9)


@given(ROWS, st.sampled_from(["array", "indented", "joined"]), st.integers(64, 120))
def test_objects_are_cut_wherever_blocks_end(
    rows: list[dict[str, Any]], layout: str, size: int
) -> None:
    """Whatever the layout and the size of blocks, the objects are the same."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(unpacking, "BLOCK_BYTES", size)
        patch.setattr(unpacking, "HEAD_BYTES", 2**16)
        source = opened(Path(folder), written(rows, layout))
        assert source.rows == len(rows)
        if not source.schema.names:
            return
        actual = read(source)
    for row, expected in zip(actual, map(plain, rows), strict=True):
        for name, value in row.items():
            kind = str(source.schema.field(name).type)
            cell = json.loads(value) if "json" in kind and value is not None else value
            assert cell == expected.get(name)


@given(st.text(st.sampled_from('{}[]",:1aN \n\\'), max_size=40), st.booleans(), st.integers(64, 99))
def test_broken_json_is_an_error(text: str, is_array: bool, size: int) -> None:
    """What Python does not read as objects is refused by its line, and what it reads is read."""
    content = f'[{{"a": 1}}{text}]' if is_array else f'{{\n"a": 1}}{text}'
    try:
        decoder, place, expected = json.JSONDecoder(), 0, []
        if is_array:
            expected = decoder.decode(content)
        while not is_array and place < len(content):
            value, place = decoder.raw_decode(content, place)
            expected.append(value)
            place += len(content[place:]) - len(content[place:].lstrip())
    except ValueError:
        expected = [None]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(unpacking, "BLOCK_BYTES", size)
        if all(isinstance(each, dict) for each in expected):
            assert opened(Path(folder), content).rows == len(expected)
        else:
            with pytest.raises(SourceError, match="Line "):
                opened(Path(folder), content)


MEASURE = """
import resource, sys
from cdp_backfill.sources import open_source
def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
open_source(sys.argv[1]).settled(())
before = peak()
source = open_source(sys.argv[2]).settled(())
rows = sum(chunk.batch.num_rows for chunk in source.chunks(source.schema.names[:1]))
print(rows, (peak() - before) // 2**20)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell the peak of memory")
@pytest.mark.parametrize("compression", ["gz", "bz2", "xz", "zip"])
@pytest.mark.parametrize("layout", ["csv", "ndjson", "array"])
def test_small_files_that_unpack_to_large_ones(
    tmp_path: Path, layout: str, compression: str
) -> None:
    """They are streamed: what a file unpacks to is never held."""
    row = {"csv": "u1,%s\n", "ndjson": '{"uid": "u1", "x": "%s"}\n', "array": '{"x": "%s"},\n'}
    line = (row[layout] % ("x" * 4_000)).encode()
    first, last = {
        "csv": (b"uid,x\n", b""),
        "ndjson": (b"", b""),
        "array": (b"[", b'{"x": ""}]'),
    }[layout]
    counts = {"small": 1_000, "large": 30_000}
    for name, count in counts.items():
        path = tmp_path / name
        if compression == "zip":
            with (
                zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
                archive.open("x", "w", force_zip64=True) as member,
            ):
                member.write(first + line * count + last)
        else:
            opener: Any = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}[compression]
            level = {"preset": 0} if compression == "xz" else {"compresslevel": 1}
            with opener(path, "wb", **level) as sink:
                sink.write(first + line * count + last)
        assert path.stat().st_size < 10 * 2**20
    paths = [str(tmp_path / name) for name in counts]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True, check=True
    )
    rows, more = map(int, done.stdout.split())
    assert rows == counts["large"] + (layout == "array")
    assert more < 64, f"{more} MiB more for 115 MiB of text"

"""CSV and JSON files, in the states that people have them in."""

from __future__ import annotations

import _thread
import bz2
import csv
import gzip
import io
import json
import math
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp_backfill import SourceError
from cdp_backfill.sources import unpacking
from cdp_backfill.sources.chunks import CHUNK_BYTES, CHUNK_ROWS
from cdp_backfill.sources.formats import recognise
from cdp_backfill.sources.paths import File
from cdp_backfill.sources.texts import TextSource, reading, rows

SECRET = "ada@example.com"
JSON_TYPE = pa.json_(pa.string())


def source(*paths: Path) -> TextSource:
    """The source of local files, each named by its last part."""
    system = pa.fs.LocalFileSystem()
    found = [recognise(File(path.name, system, str(path))) for path in paths]
    return TextSource([each.file for each in found], "JSON" if "json" in paths[0].name else "CSV")


def read(
    table: TextSource, columns: list[str] | None = None, start: int = 0
) -> list[dict[str, Any]]:
    """All rows, and a check that the chunks number them without a gap."""
    rows: list[dict[str, Any]] = []
    schema = pa.schema([table.schema.field(name) for name in columns or table.schema.names])
    for chunk in table.chunks(schema.names, start=start):
        assert chunk.start == start + len(rows)
        assert 0 < chunk.batch.num_rows <= CHUNK_ROWS
        assert chunk.batch.schema == schema
        chunk.batch.validate(full=True)
        rows.extend(chunk.batch.to_pylist())
    return rows


def file(folder: Path, content: bytes | str, name: str = "x.csv") -> Path:
    """A file with this in it."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def types(table: TextSource) -> dict[str, str]:
    """The columns and what Arrow calls their types."""
    return {field.name: str(field.type) for field in table.schema}


def zstd(content: bytes) -> bytes:
    """Content as zstd compresses it."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


PLAIN = 'id,name\n1,"Ada"\n2,\n'
ROWS = [{"id": "1", "name": "Ada"}, {"id": "2", "name": None}]


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.TSV", "x.txt", "x.csv.zst"])
@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode(),
        PLAIN.rstrip().encode(),
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace("\n", "\r").encode(),
        b"\n\n" + PLAIN.replace("\n", "\n\n").encode(),
        PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        b"\xfe\xff" + PLAIN.encode("utf-16-be"),
        *(PLAIN.replace(",", mark).encode() for mark in "\t;|"),
        gzip.compress(PLAIN.encode(), mtime=0),
        gzip.compress(PLAIN[:9].encode(), mtime=0) + gzip.compress(PLAIN[9:].encode(), mtime=0),
        bz2.compress(PLAIN.encode()),
        zstd(PLAIN.encode()),
    ],
)
def test_delimited_text_of_every_form(tmp_path: Path, content: bytes, name: str) -> None:
    """What is in the file decides how it is read; its name can be wrong."""
    table = source(file(tmp_path, content, name))
    assert (table.name, table.rows, table.notes) == (name, None, ())
    assert types(table) == {"id": "string", "name": "string"}
    assert read(table) == read(table) == ROWS
    assert read(table, ["name"], start=1) == [{"name": None}]
    chunk, *others = table.chunks([])
    assert (chunk.origin, chunk.origin_start) == (name, 0)
    assert sum(one.batch.num_rows for one in (chunk, *others)) == 2


def test_types_that_all_cells_have(tmp_path: Path) -> None:
    """A column is typed only if none of its cells loses anything by it."""
    cells = {
        "whole": ("1", "", "-20"),
        "zeros": ("007", "1", "2"),
        "plus": ("+1", "1", "2"),
        "bits": ("9223372036854775807", "-9223372036854775808", "0"),
        "large": ("9223372036854775808", "1", "2"),
        "decimal": ("1.10", "-2", "3.0e2"),
        "digits": ("0.1234567890123456", "1", "1.5"),
        "many": ("1234567890123456", "1.5", "2"),
        "exponent": ("1e999", "1", "2"),
        "truth": ("true", "FALSE", ""),
        "words": ("true", "yes", ""),
        "space": (" 1", "1", "2"),
        "lines": ("1\n", "1", "2"),
        "empty": ("", "", ""),
        "version": ("1.10", "1.9", "2.0"),
        "nan": ("NaN", "1", "2"),
    }
    with (tmp_path / "x.csv").open("w", newline="") as sink:
        csv.writer(sink).writerows([cells, *zip(*cells.values(), strict=True)])
    table = source(tmp_path / "x.csv").settled({"version"})
    assert {name: kind for name, kind in types(table).items() if kind != "string"} == {
        "whole": "int64",
        "bits": "int64",
        "decimal": "double",
        "truth": "bool",
    }
    assert table.rows == 3
    assert table.settled(()) is table
    rows = read(table)
    assert [row["whole"] for row in rows] == [1, None, -20]
    assert [row["bits"] for row in rows] == [2**63 - 1, -(2**63), 0]
    assert [row["decimal"] for row in rows] == [1.1, -2, 300]
    assert [row["truth"] for row in rows] == [True, False, None]
    for name in ("version", "zeros", "plus", "large", "digits", "lines", "empty"):
        assert [row[name] or "" for row in rows] == list(cells[name])


def test_all_files_decide_a_type(tmp_path: Path) -> None:
    """One word in the last file keeps the column text in all; columns are those of all files."""
    first = file(tmp_path, "id,a\n1,1\n2,2\n", "1.csv")
    second = file(tmp_path, "b;id\n5;x\n", "2.csv")
    empty = file(tmp_path, "", "3.csv")
    table = source(first, second, empty)
    assert table.name == "3 CSV files"
    assert table.notes == ("The file '3.csv' is empty.",)
    settled = table.settled(())
    assert types(settled) == {"id": "string", "a": "int64", "b": "int64"}
    expected = [
        {"id": "1", "a": 1, "b": None},
        {"id": "2", "a": 2, "b": None},
        {"id": "x", "a": None, "b": 5},
    ]
    assert (settled.rows, read(settled)) == (3, expected)
    for start in range(4):
        assert read(settled, start=start) == expected[start:]
        assert len(read(table, ["a"], start=start)) == 3 - start
    chunks = list(settled.chunks([], start=1))
    assert [(one.start, one.origin, one.origin_start) for one in chunks] == [
        (1, "1.csv", 1),
        (2, "2.csv", 0),
    ]
    assert settled.fingerprint() == table.fingerprint()
    assert [size for _, size, _ in table.fingerprint()] == [13, 9, 0]


def test_names_that_occur_twice(tmp_path: Path) -> None:
    """Later columns of one name, and those of none, get names that are free."""
    table = source(file(tmp_path, "a,a,a_2,,a\n1,2,3,4,5\n"))
    assert table.schema.names == ["a", "a_3", "a_2", "column_4", "a_4"]
    assert list(read(table)[0].values()) == ["1", "2", "3", "4", "5"]
    assert table.notes == (
        "The file 'x.csv' has three columns named 'a'. The second is called 'a_3' here.",
        "Column 4 of the file 'x.csv' has no name. It is called 'column_4' here.",
        "The file 'x.csv' has three columns named 'a'. The third is called 'a_4' here.",
    )


def test_quotes_in_every_place(tmp_path: Path) -> None:
    """Quoted names and cells may hold delimiters, quotes and line ends."""
    table = source(file(tmp_path, '"a;""1""\nx",b;c\n"1\n2",5" wide;""""\n,x;""\n'))
    assert table.schema.names == ['a;"1"\nx', "b;c"]
    assert [tuple(row.values()) for row in read(table)] == [
        ("1\n2", '5" wide;""""'),
        (None, 'x;""'),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "The file 'x.csv' is empty, without even a header"),
        ("\n\n", "empty"),
        (
            f"a,b\n1,2\n\n1,{SECRET},3\n",
            r"Row 1 of the file 'x.csv' \(line 4; .*, without the header\) has 3 fields, but",
        ),
        (f"a,b\n{SECRET}\n", "Row 0 .* has 1 field, but the header has 2"),
        (f'a,b\n1,2\n1,"{SECRET}\n1,2\n', "'x.csv' ends inside quotes"),
        (f'a\n1\n"{SECRET}', "'x.csv' ends inside quotes"),
        (
            f'a\n"{SECRET}\n' + "1\n" * 20_000_000,
            "the next row is longer than 16,777,216",
        ),
        (f'a,"{SECRET}\n1,2', "a quote is not closed"),
        (SECRET * 300_000, "its first 2,097,152 bytes hold no complete header"),
        (f"a,b\n1,ñ{SECRET}\n".encode("latin-1"), "'x.csv' is not UTF-8: line 2 .* iconv -f"),
        (b"a\n1\xc3", "'x.csv' is not UTF-8: line 2 "),
        (b"\xff\xfea", "'x.csv' is not UTF-16, as it begins: line 1 "),
        (b"PK\x03\x04" + SECRET.encode(), "The archive 'x.csv' is damaged or cut off"),
        (
            gzip.compress(PLAIN.encode() * 99, mtime=0)[:-20],
            "'x.csv' cannot be read beyond 0 bytes",
        ),
    ],
)
def test_delimited_text_that_cannot_be_read(
    tmp_path: Path, content: bytes | str, words: str
) -> None:
    """It says which file and which row, and shows nothing of what is in there."""
    path = file(tmp_path, content)
    for attempt in (lambda: read(source(path)), lambda: source(path).settled(())):
        with pytest.raises(SourceError, match=words) as caught:
            attempt()
        while (error := caught.value.__cause__ or caught.value.__context__) is not None:
            assert SECRET not in str(error)
            caught.value.__cause__ = caught.value.__context__ = None
        assert SECRET not in str(caught.value)


def test_a_header_and_no_rows(tmp_path: Path) -> None:
    """There are columns of text, and nothing in them."""
    for content in ("a,b", "a,b\n", "a,b\r\n\r\n"):
        table = source(file(tmp_path, content)).settled(())
        assert (types(table), table.rows) == ({"a": "string", "b": "string"}, 0)
        assert read(table) == []


def test_long_files_come_in_short_chunks(tmp_path: Path) -> None:
    """Blocks are joined again wherever they were cut, also within quotes and characters."""
    lines = [f'{number},"é\n{"x" * (number % 700)}"' for number in range(20_000)]
    path = file(tmp_path, gzip.compress("\n".join(["n,text", *lines]).encode()), "x.csv.gz")
    table = source(path).settled(())
    assert table.rows == 20_000
    rows = read(table)
    assert [row["n"] for row in rows] == list(range(20_000))
    assert all(row["text"] == f"é\n{'x' * (row['n'] % 700)}" for row in rows)
    assert read(table, start=12_345) == rows[12_345:]
    assert all(chunk.batch.nbytes <= CHUNK_BYTES for chunk in table.chunks(["n", "text"]))
    next(iter(table.chunks(["n"])))  # and the rest is not asked for


def test_quotes_in_plain_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a block ends, a quote within a cell opens nothing, and a row is never cut."""
    rows = [(str(n), '5" wide' if n % 7 else 'a, "b"\n\n' * (n % 20) + "c") for n in range(500)]
    written = [
        ",".join(r if '"' not in r or "\n" not in r else csv_cell(r) for r in row) for row in rows
    ]
    path = file(tmp_path, "\n".join(["n,text", *written]))
    for size in (16, 61, 1000):
        monkeypatch.setattr(unpacking, "BLOCK_BYTES", size)
        assert [tuple(row.values()) for row in read(source(path))] == rows


def csv_cell(text: str) -> str:
    """Text as a quoted cell."""
    return '"' + text.replace('"', '""') + '"'


def lines(*items: object) -> str:
    """Items as JSON, one a line."""
    return "\n".join(map(json.dumps, items))


ITEMS = [{"a": 1, "b": "x"}, {"b": 'é"\n', "c": [1, {"d": None}]}, {"a": None}]
LAYOUTS = [
    lines(*ITEMS),
    lines(*ITEMS) + "\n\n",
    "\n \n" + lines(*ITEMS).replace("\n", "\r\n\r\n"),
    json.dumps(ITEMS),
    json.dumps(ITEMS, indent=2),
    " " + json.dumps(ITEMS, indent=2) + "\n",
    "".join(map(json.dumps, ITEMS)),
    "\n".join(json.dumps(item, indent=2) for item in ITEMS),
    "".join(json.dumps(item, indent=2) for item in ITEMS),
]


@pytest.mark.parametrize("name", ["x.json", "x.ndjson.gz", "x.jsonl"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("encode", [str.encode, lambda text: gzip.compress(text.encode("utf-16"))])
def test_json_of_every_layout(tmp_path: Path, layout: str, name: str, encode: Any) -> None:
    """One a line, an array, or one after another: the rows are the same."""
    table = source(file(tmp_path, encode(layout), name))
    assert types(table) == {"a": "int64", "b": "string", "c": "extension<arrow.json>"}
    assert (table.name, table.rows, table.notes) == (name, 3, ())
    assert table.settled({"b"}) is table
    assert types(table.settled({"a"}))["a"] == "large_string"
    rows = read(table)
    assert [row["a"] for row in rows] == [1, None, None]
    assert [row["b"] for row in rows] == ["x", 'é"\n', None]
    assert [row["c"] and json.loads(row["c"]) for row in rows] == [None, [1, {"d": None}], None]
    assert read(table, ["c", "a"], start=1) == [{"c": row["c"], "a": row["a"]} for row in rows[1:]]
    assert sum(chunk.batch.num_rows for chunk in table.chunks([])) == 3


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (["x", None, ""], "string", None),
        ([True, None, False], "bool", None),
        ([1, None, -(2**63)], "int64", None),
        ([2**63, 0], "uint64", None),
        ([2**63, -1], "json", [str(2**63), "-1"]),
        ([2**64], "json", [str(2**64)]),
        ([10**5000, 1], "json", ["1" + "0" * 5000, "1"]),
        ([1, 2.5, None], "double", None),
        ([2**53, 0.5], "double", None),
        ([2**53 + 1, 0.5], "json", [str(2**53 + 1), "0.5"]),
        ([1, "x", None, True, {"a": [1]}], "json", ["1", '"x"', None, "true", '{"a": [1]}']),
        ([{}], "json", ["{}"]),
        ([None, None], "null", None),
    ],
)
def test_types_of_json(
    tmp_path: Path, values: list[Any], kind: str, expected: list[Any] | None
) -> None:
    """Values of one kind are of its type; anything else is the JSON text as it is written."""
    written = [
        '{"v": 1' + "0" * 5000 + "}" if value == 10**5000 else json.dumps({"v": value})
        for value in values
    ]
    table = source(file(tmp_path, "\n".join(written), "x.json"))
    assert str(table.schema.field("v").type) in (kind, f"extension<arrow.{kind}>")
    assert [row["v"] for row in read(table)] == (values if expected is None else expected)


def test_numbers_that_do_not_fit(tmp_path: Path) -> None:
    """A number beyond float64 is kept as it is written."""
    table = source(file(tmp_path, '{"v": 1e999}\n{"v": 1}', "x.json"))
    assert [row["v"] for row in read(table)] == ["1e999", "1"]


def test_a_key_twice_in_an_object(tmp_path: Path) -> None:
    """The last one counts, as everywhere."""
    table = source(file(tmp_path, '{"v": "x", "v": 2}', "x.json"))
    assert read(table) == [{"v": 2}]


def test_half_a_character(tmp_path: Path) -> None:
    """A cut emoji does not stop the reading, and a note says what is read for it."""
    text = r'{"v": "a\ud83d", "w": "\ud83d\ude00 \\ud83d"}'
    for layout in (text, f"[\n{text}\n]"):
        table = source(file(tmp_path, layout, "x.json"))
        assert read(table) == [{"v": "a\ufffd", "w": r"😀 \ud83d"}]
        (note,) = table.notes
        assert "'x.json' has text with half a character" in note


def test_json_files_together(tmp_path: Path) -> None:
    """Keys are those of all files, and a type has to fit them all."""
    paths = [
        file(tmp_path, lines({"a": 1}, {"a": 2}), "1.json"),
        file(tmp_path, "", "2.jsonl"),
        file(tmp_path, json.dumps([{"a": "x", "b": 1.5}, {}], indent=1), "3.json"),
    ]
    table = source(*paths)
    assert (table.name, table.rows) == ("3 JSON files", 4)
    expected = [
        {"a": "1", "b": None},
        {"a": "2", "b": None},
        {"a": '"x"', "b": 1.5},
        {"a": None, "b": None},
    ]
    for start in range(5):
        assert read(table, start=start) == expected[start:]


def test_objects_without_a_key(tmp_path: Path) -> None:
    """They are rows all the same."""
    table = source(file(tmp_path, "{}\n{}", "x.json"))
    assert (table.schema.names, table.rows) == ([], 2)
    assert sum(chunk.batch.num_rows for chunk in table.chunks([])) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f'{{"a": 1}}\n\n{{"a": "{SECRET}}}\n{{"a": 1}}', "Line 3 .* is not valid JSON"),
        (f'{{"a": "{SECRET}}}\n{{"a": 1}}', "Line 1 .* is not valid JSON"),
        (f'{{"a": 1}}\n"{SECRET}"', "Line 2 .* is not a JSON object"),
        ("7", "Line 1 .* is not a JSON object"),
        ("{}\n[1]", "Line 2 .* is not a JSON object"),
        (f'[\n{{"a": 1}},\n\n{{"a": 1}}, "{SECRET}"]', "Line 4 .* is not a JSON object"),
        (f'[\n{{"a": 1}},\n{{"{SECRET}" 1}}\n]', "Line 3 .* is not valid JSON"),
        (f'[\n{{"a": 1}},\n{{"a": "{SECRET}"}}\n', "Line 3 .* is not valid JSON"),
        (f'{{\n"a": 1\n}}\n{{\n"a" "{SECRET}"\n}}', "Line 5 .* is not valid JSON"),
        ('{\n"a": 1\n}\n5\n', "Line 4 .* is not a JSON object"),
        ('{"a": Nan}', "Line 1 .* is not valid JSON"),
        ('[{"a": 1},\n{"a": 1}', "Line 2 .* is not valid JSON"),
        ('[{"a": 1},,\n{"a": 1}]', "Line 1 .* is not valid JSON"),
        ('[{"a": 1}\n{"a": 1}]', "Line 1 .* is not valid JSON"),
        ('[{"a": 1},\n{"a": 1}]\n{}', "Line 3 .* is not valid JSON"),
        ('[\n{"a": 1},\n]', "Line 3 .* is not valid JSON"),
        ('[{"a": "x\ny"}]', "Line 1 .* is not valid JSON"),
        ('{\n"a": 1\n},\n{\n"a": 1\n}', "Line 3 .* is not valid JSON"),
        ('{"a": ' + "[" * 10**5 + "]" * 10**5 + "}", "nested too deeply"),
        (b'{"a": 1}\n{"a": "\xf1"}', "'x.json' is not UTF-8: line 2"),
        (lines(*[{"a": 1}] * 400_000, 5), "Line 400001 .* is not a JSON object"),
    ],
)
def test_json_that_cannot_be_read(tmp_path: Path, content: bytes | str, words: str) -> None:
    """It says which file and which line, and shows nothing of what is in there."""
    path = file(tmp_path, content, "x.json")
    with pytest.raises(SourceError, match=words) as caught:
        source(path)
    assert SECRET not in str(caught.value)
    assert "'x.json'" in str(caught.value)


def test_json_too_large_to_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One object is read whole, which has its limit; a file of many has none."""
    monkeypatch.setattr("cdp_backfill.sources.texts.json_objects.MAX_OBJECT_BYTES", 1000)
    monkeypatch.setattr(unpacking, "BLOCK_BYTES", 300)
    large = '{"a": [%s1]}' % ("1, " * 500)
    for layout in (f'{{"a": 1}}\n{large}', f'[{{"a": 1}}, {large}]', f"{{}}\n{{\n{large[1:]}"):
        with pytest.raises(
            SourceError, match=r"has an object, or a line, of more than 1,000 bytes"
        ):
            source(file(tmp_path, layout, "x.json"))
    for layout in ('{"a": 1}\n' * 200, "[" + '{"a": 1},' * 199 + '{"a": 1}]', '{"a":\n1}' * 200):
        assert source(file(tmp_path, layout, "x.json")).rows == 200


@pytest.mark.parametrize("name", ["x.csv", "x.json"])
def test_a_file_that_changes(tmp_path: Path, name: str) -> None:
    """Another size or time, or no file any more, is an error and not other rows."""
    path = file(tmp_path, "a\n2\n" if name == "x.csv" else "{}\n", name)
    table = source(path)
    os.utime(path, ns=(1, 1))
    with pytest.raises(SourceError, match=f"{name}' changed while it was being read"):
        list(table.chunks([]))
    table = source(path)
    assert table.fingerprint()[0][2] == 1
    path.unlink()
    with pytest.raises(SourceError, match="changed while"):
        list(table.chunks([]))
    with pytest.raises(SourceError, match=f"There is no file '{name}'"):
        source(path)


def test_a_file_that_grows_meanwhile(tmp_path: Path) -> None:
    """It is noticed at the end of the file, too."""
    path = file(tmp_path, "a\n" + "1\n" * 3_000_000)
    table = source(path)
    chunks = reading.blocks(table._files[0])
    next(chunks)
    with path.open("a") as sink:
        sink.write("1\n")
    with pytest.raises(SourceError, match="changed while"):
        list(chunks)


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)


@given(
    st.integers(1, 4).flatmap(lambda n: st.lists(st.tuples(*[CELLS] * n), min_size=1)),
    st.booleans(),
)
def test_round_trips_of_csv(rows: list[tuple[str, ...]], quoted: bool) -> None:
    """What csv.writer writes is read again, with empty cells for null."""
    names = [f"c{number}" for number in range(len(rows[0]))]
    sink = io.StringIO()
    csv.writer(sink, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL).writerows(
        [names, *rows]
    )
    with tempfile.TemporaryDirectory() as folder:
        table = source(file(Path(folder), sink.getvalue()))
        expected = [tuple(cell or None for cell in row) for row in rows]
        assert [tuple(row.values()) for row in read(table)] == expected
        settled = table.settled(())
        assert settled.rows == len(rows)
        for row, cells in zip(read(settled), expected, strict=True):
            for value, cell in zip(row.values(), cells, strict=True):
                if isinstance(value, bool):
                    assert str(value).lower() == (cell or "").lower()
                elif isinstance(value, int | float):
                    assert value == float(cell or "nan")
                else:
                    assert value == cell


@given(
    st.lists(
        st.from_regex(
            r"-?(0|[1-9][0-9]{0,16})(\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?", fullmatch=True
        )
        | st.sampled_from(["true", "False", "007", "-0"]),
        min_size=1,
        max_size=3,
    )
)
def test_types_lose_nothing(cells: list[str]) -> None:
    """Whatever type a column gets, the values are those that are written."""
    with tempfile.TemporaryDirectory() as folder:
        table = source(file(Path(folder), "\n".join(["a", *cells]))).settled(())
        for row, cell in zip(read(table), cells, strict=True):
            value = row["a"]
            if isinstance(value, bool):
                assert str(value).lower() == cell.lower()
            elif isinstance(value, int):
                assert re.fullmatch("-?[0-9]+", cell)
                assert value == int(cell)
            elif isinstance(value, float):
                assert math.isfinite(value)
                assert value == float(cell)
            else:
                assert value == cell


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | WORDS
    | st.floats(allow_nan=False).filter(math.isfinite)
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner), max_leaves=5
)
OBJECTS = st.lists(
    st.dictionaries(st.sampled_from(["a", "b", "é"]) | WORDS, VALUES, max_size=4)
) | st.lists(st.dictionaries(st.just("a"), LEAVES))


@given(OBJECTS, st.sampled_from(["lines", "array", "pretty", "joined"]), st.booleans())
def test_round_trips_of_json(items: list[dict[str, Any]], layout: str, ascii_only: bool) -> None:
    """What json.dumps writes is read again, in each layout."""
    indent = 1 if layout == "pretty" else None
    written = [json.dumps(item, ensure_ascii=ascii_only, indent=indent) for item in items]
    text = ("" if layout == "joined" else "\n").join(written)
    if layout == "array":
        text = json.dumps(items, ensure_ascii=ascii_only)
    with tempfile.TemporaryDirectory() as folder:
        table = source(file(Path(folder), text, "x.json"))
        assert table.rows == len(items)
        if not table.schema.names:
            assert not any(items)
            return
        rows = read(table)
    assert {name for item in items for name in item} == set(table.schema.names)
    kinds = {field.name: field.type for field in table.schema}
    for row, item in zip(rows, items, strict=True):
        for name, value in row.items():
            if kinds[name] == JSON_TYPE and value is not None:
                assert json.loads(value) == item[name]
            else:
                assert value == item.get(name)


@pytest.mark.parametrize(
    ("pattern", "rows"),
    [
        ("snowplow_mobile/snowplow_mobile_events.csv", 130),
        ("warehouse_seeds/amplitude_event_data.csv", None),
        ("warehouse_seeds/ga4_export_event_data.csv", None),
        ("warehouse_seeds/mixpanel_event.csv", None),
        ("aws_clickstream/event_v2_session_dataset.json", 10),
        ("crash_reports/*.json", 15),
    ],
)
def test_files_of_other_people(data: Path, pattern: str, rows: int | None) -> None:
    """Exports as they come are read to the last row, and are the same after typing."""
    paths = sorted(data.glob(pattern))
    table = source(*paths)
    if rows is None:
        with paths[0].open(encoding="utf-8-sig", newline="") as text:
            rows = sum(1 for row in csv.reader(text) if row) - 1
    actual = read(table)
    settled = table.settled(())
    assert (len(actual), settled.rows) == (rows, rows)
    if pattern.endswith(".csv"):
        for row, typed in zip(actual, read(settled), strict=True):
            assert [cell is None for cell in row.values()] == [
                cell is None for cell in typed.values()
            ]


def test_an_interrupt_while_arrow_calls_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It interrupts; it is not lost, and the file does not look damaged."""
    path = tmp_path / "opens.csv"
    path.write_text("uid,n\na,1\nb,2\n")
    handle = rows._RowCheck.__call__

    def interrupted(check: rows._RowCheck, row: Any) -> str:
        _thread.interrupt_main()
        return handle(check, row)

    monkeypatch.setattr(rows._RowCheck, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        source(path).settled(())

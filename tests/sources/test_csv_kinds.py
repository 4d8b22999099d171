"""Delimited text in the ways that tools write it: read where that is certain, else an error."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill import SourceError
from cdp_backfill.sources import open_source, unpacking
from cdp_backfill.sources.texts.layout import find_layout, looks_like_a_row
from cdp_backfill.sources.texts.quoting import find_escapes, mark_escaped, text_after_quote
from cdp_backfill.sources.texts.windows import certain_windows_1252
from tests.rows import OPENED
from tests.sources.test_formats import read

SECRET = "ada@example.com"


def opened(folder: Path, content: bytes | str, name: str = "x.csv") -> Any:
    """The settled source of a file."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_source(path).settled(())


def refused(folder: Path, content: bytes | str, *words: str) -> None:
    """Check that a file is refused, and that the error shows none of its cells."""
    with pytest.raises(SourceError) as caught:
        opened(folder, content)
    text = str(caught.value)
    for word in ("x.csv", *words):
        assert word in text
    assert SECRET not in text


@pytest.mark.parametrize("line", ["sep=;", "SEP=;", '"sep=;"', "\nsep=;"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_that_names_the_delimiter(tmp_path: Path, line: str, end: str) -> None:
    """It counts, even where another delimiter is more frequent, and is no row."""
    text = end.join([line, "a;b,c,d", "1;2,3,4", "5;6,7,8", ""])
    source = opened(tmp_path, text)
    assert [list(row.values()) for row in read(source)] == [[1, "2,3,4"], [5, "6,7,8"]]
    (note,) = source.notes
    assert "names the delimiter, ';'. It is not a row." in note


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_delimiter_at_the_end_of_each_row(tmp_path: Path, delimiter: str) -> None:
    """With one in the header it makes an empty column; without, it is not certain which it is."""
    rows = "".join(f"{number},x,\n" for number in range(20))
    source = opened(tmp_path, f"a,b,\n{rows}".replace(",", delimiter))
    assert read(source) == [{"a": n, "b": "x", "column_3": None} for n in range(20)]
    with pytest.raises(SourceError, match="If each row ends with a delimiter"):
        read(opened(tmp_path, f"a,b\n{rows}".replace(",", delimiter)))


def test_a_delimiter_is_what_all_rows_have(tmp_path: Path) -> None:
    """Not what is frequent in names or in cells."""
    for text, names in {
        "id;name (a, b, c)\n1;x\n2;y\n": ["id", "name (a, b, c)"],
        "a;b;c\n1,5;2,5;3,5\n2,5;3;4\n": ["a", "b", "c"],
        '"a","b;c;d"\n"1","x;y;z"\n': ["a", "b;c;d"],
        "a\tb\n1,2\t3\n4\t5,6,7\n": ["a", "b"],
        "a,b|c\n": ["a", "b|c"],
    }.items():
        assert opened(tmp_path, text).schema.names == names


PREAMBLES = [
    "Report of May",
    "# Exported on 2023-05-01, by ada\n# in two lines",
    "Report,Installs\nFrom,2023-01-01\n",
    "\n\nReport\n\n",
    "# ----\n# All data\n# 20230101-20230131\n# ----\n",
    '"A title, in quotes"\nand a remark',
]


@pytest.mark.parametrize("preamble", PREAMBLES)
@pytest.mark.parametrize("delimiter", ",;\t|")
@pytest.mark.parametrize("name", ["x.csv", "x"])
def test_lines_before_the_header(tmp_path: Path, preamble: str, delimiter: str, name: str) -> None:
    """They are counted and not read; the rows and the lines of errors are those of the file."""
    table = "uid,name,ts\nu1,open,2023\nu2,close,2024\n".replace(",", delimiter)
    source = opened(tmp_path, f"{preamble}\n{table}", name)
    assert read(source) == [
        {"uid": "u1", "name": "open", "ts": 2023},
        {"uid": "u2", "name": "close", "ts": 2024},
    ]
    lines = sum(bool(line) for line in preamble.split("\n"))
    (note,) = source.notes
    assert f"has {lines} line{'s' * (lines > 1)} before its header" in note
    wrong = preamble.count("\n") + 5
    with pytest.raises(SourceError, match=rf"Row 2 .*\(line {wrong}; .* has 1 field, but the"):
        opened(tmp_path, f"{preamble}\n{table}{SECRET}\n", name)


@pytest.mark.parametrize(
    "text",
    [
        "name,city\nx,ada,berlin\ny,bob,paris\n",  # a header that does not name the first column
        "a,b\n1,2,\n3,4,\n",  # rows with a delimiter at their end
        "title\na,b\n",  # no row
        "a,b\n1,2,3\n4,5\n",
    ],
)
def test_a_header_that_may_not_be_one(tmp_path: Path, text: str) -> None:
    """Where it is not certain that a first line is a title, it is the header."""
    refused(tmp_path, text, "Row 0 ", "field", "(line 2;", "but the header has")


ROWS_WITHOUT_HEADER = [
    "u1,open,2023-05-01T10:00:00Z\nu2,open,2023-05-02T10:00:00Z\n",
    "u1,2023-05-01\n",
    "1683000000,ada\n1683000001,bob\n",
    "1.5,x\n2.5,y\n",
    "ada@example.com,x\nbob@example.com,y\n",
    "6f1c0e9e-8d0a-4c56-9a43-0b1c5a6f3d21,x\n7f1c0e9e-8d0a-4c56-9a43-0b1c5a6f3d21,y\n",
    "d2a84f4b8b650937,x\ne2a84f4b8b650937,y\n",
    "https://a.example/x,1\nhttps://b.example/y,2\n",
    '"{""a"": 1}",x\n"{""a"": 2}",y\n',
    "true,x\nfalse,y\n",
    "10.0.2,x\n10.1.2,y\n",
    "ada,open\nbob,close\ncyd,open\n",
    "ada,ios\nbob,ios\n",
    "01.05.2023 10:00,x\n02.05.2023 11:00,y\n",
    "1,2\n3,4\n",
    "2023,5\n2024,6\n",
]


@pytest.mark.parametrize("text", ROWS_WITHOUT_HEADER)
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "\x01"])
@pytest.mark.parametrize("name", ["x.csv", "part-0"])
def test_a_table_without_a_header(
    tmp_path: Path, text: str, delimiter: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One error says so, and the line in it reads all rows."""
    monkeypatch.chdir(tmp_path)
    cells = list(csv.reader(io.StringIO(text)))
    sink = io.StringIO()
    csv.writer(sink, delimiter=delimiter).writerows(cells)
    with pytest.raises(SourceError, match="has no header, it seems") as caught:
        opened(Path(), sink.getvalue(), name)
    line = str(caught.value).partition("pass the names: ")[2].partition(", then df")[0]
    names: dict[str, Any] = {"pd": pd}
    exec(line, names)  # noqa: S102  # our own line
    assert list(map(list, names["df"].itertuples(index=False))) == cells
    assert cells[-1][0] not in str(caught.value)


HEADERS = [
    "uid,event,ts\nu1,open,2023-05-01\n",
    "user,2022,2023,2024\nada,1,2,3\n",
    "0,1,2\nx,5,6\n",
    ",0,1\n0,5,6\n",
    "user,2023-05-01,2023-05-02\nada,5,6\n",
    "id\n1\n2\n",
    "event,count\nevent,5\n",
    "true_rate,x1\n5,6\n",
    "a,b\na,b\n",  # a header twice
    "v1.2,x\n5,6\n",
    "a,b\n",
]


@pytest.mark.parametrize("text", HEADERS)
def test_headers_that_are_headers(tmp_path: Path, text: str) -> None:
    """Names that look a little like cells are names all the same."""
    if text.startswith("event,count"):
        # A cell that is the name of its column: rare enough to ask.
        refused(tmp_path, text, "no header")
        return
    source = opened(tmp_path, text)
    names = text.partition("\n")[0].split(",")
    assert [name or "column_1" for name in names] == source.schema.names
    assert source.rows == text.count("\n") - 1


def test_parts_without_the_header_of_the_first(tmp_path: Path) -> None:
    """A file that was cut into parts: the second one is asked about, and loses no row."""
    (tmp_path / "xaa").write_text("uid,ts\nu1,2023-05-01\n")
    (tmp_path / "xab").write_text("u2,2023-05-02\nu3,2023-05-03\n")
    with pytest.raises(SourceError, match="xab' has no header"):
        open_source(tmp_path)


@pytest.mark.parametrize("quoted", [False, True])
def test_guards_against_excel(tmp_path: Path, quoted: bool) -> None:
    """They are removed, counted by column, and what they guard is text."""
    cells = ['="0123"', '="456"', '=""', "plain", '="a ""b"""', '="x']
    written = [f'"{cell.replace(chr(34), chr(34) * 2)}"' if quoted else cell for cell in cells]
    lines = [f"{cell},{number},{cells[1]}" for number, cell in enumerate(written)]
    source = opened(tmp_path, "\n".join(["uid,n,g", *lines, ""]))
    rows = read(source)
    assert [row["uid"] for row in rows] == ["0123", "456", None, "plain", 'a "b"', '="x']
    assert [row["n"] for row in rows] == list(range(6))
    assert {row["g"] for row in rows} == {"456"}
    (note,) = source.notes
    assert note.startswith("10 cells of the file")
    assert "(column 'uid', 'g')" in note


def escaped(cell: str, *, backslashes: bool) -> str:
    """A cell as tools write it that escape quotes with a backslash."""
    if backslashes:
        cell = cell.replace("\\", "\\\\")
    return '"' + cell.replace('"', '\\"') + '"'


@pytest.mark.parametrize(
    "cells",
    [
        ['O"Neil', "a"],
        ['{"a": "b, c", "d": "e\nf"}', "x"],
        ['"', '5"'],
        ['5"', 'a"'],
        ['C:\\Data "x"', "C:\\Users\\x"],
        ['say ""hi""', ""],
        ['"a",', ',"b"'],
    ],
)
@pytest.mark.parametrize("size", [7, 2**21])
def test_quotes_with_a_backslash(
    tmp_path: Path, cells: list[str], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read as quotes wherever a block ends, counted, and typed with all other cells."""
    rows = [(str(number), cells[number % 2]) for number in range(50)]
    text = "".join(f"{n},{escaped(cell, backslashes=False)}\n" for n, cell in rows)
    monkeypatch.setattr(unpacking, "BLOCK_BYTES", max(size, 64))
    source = opened(tmp_path, f"n,text\n{text}")
    assert [tuple(row.values()) for row in read(source)] == [
        (int(n), cell or None) for n, cell in rows
    ]
    (note,) = source.notes
    assert note.startswith(f"{text.count(chr(92) + chr(34))} quotes in the file ")


def test_backslashes_of_which_the_meaning_is_not_certain(tmp_path: Path) -> None:
    """The error names the line, and what to type to say what they mean; that gives the rows."""
    cell = 'a\\b"'
    text = f'n,text\n1,"x"\n2,{escaped(cell, backslashes=True)}\n3,"{SECRET}"\n'
    refused(tmp_path, text, "Line 4 ", "escapechar='\\\\'", "not certain")
    with pytest.raises(SourceError) as caught:
        opened(tmp_path, text)
    line = str(caught.value).partition("for example with ")[2].partition(", and pass")[0]
    names: dict[str, Any] = {"pd": pd}
    exec(line, names)  # noqa: S102  # our own line
    assert names["df"]["text"].tolist() == ["x", cell, SECRET]


def test_quotes_in_a_header_with_a_backslash(tmp_path: Path) -> None:
    """Names can have them, too."""
    source = opened(tmp_path, '"a\\"b",c\n"1\\"",2\n')
    assert read(source) == [{'a"b': '1"', "c": 2}]
    assert len(source.notes) == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f'uid,x\n"u1"{SECRET},1\n', 2),
        (f'uid,x\nu0,1\nu1,"2" {SECRET}\n', 3),
        (f'uid,x\n"a\nb",1\n\nu1,"2"{SECRET}', 5),
        ('uid,x\n"a""b"c,1\n', 2),
        ('uid,x\n"a,"b,1\n', 2),
        ('uid,x\n"a" ,1\n', 2),
        ('uid,x\n""a,1\n', 2),
        ('uid,x\r\na,1\r\n"b"c,1\r\n', 3),
    ],
)
def test_text_behind_a_closing_quote(tmp_path: Path, text: str, line: int) -> None:
    """It is an error that names the line, and is never glued to the cell."""
    refused(tmp_path, text, f"Line {line} ", "text follows the closing quote", "doubled")
    event = cdp.lit("Application Opened")
    with pytest.raises(SourceError, match="closing quote"):
        cdp.plan(tmp_path / "x.csv", user_id="uid", timestamp=cdp.lit("2023-05-01"), event=event)


LETTERS = st.text(st.sampled_from('ab ",;\n\\'), max_size=7)


def has_text_after_quote(text: str) -> bool:
    """What a careful reader of CSV finds: letter by letter."""
    state = "start"
    for letter in text:
        if state == "quoted":
            state = "closed" if letter == '"' else "quoted"
        elif letter in ",\n":
            state = "start"
        elif state == "start":
            state = "quoted" if letter == '"' else "plain"
        elif state == "closed":
            if letter != '"':
                return True
            state = "quoted"
    return False


@given(st.lists(LETTERS, max_size=6).map("\n".join))
@example('"a""b",""\n"",x"y')
@example('a"",b"\n"c"d')
def test_text_after_quotes_is_found_where_it_is(text: str) -> None:
    """The fast check and a slow reader agree on every text."""
    assert (text_after_quote(text.encode(), ",") is not None) is has_text_after_quote(text)


@given(st.lists(st.lists(LETTERS, min_size=2, max_size=2), min_size=1, max_size=8), st.data())
def test_round_trips_with_backslashes(rows: list[list[str]], data: Any) -> None:
    """What is read is what was written, or it is an error; never another cell."""
    backslashes = data.draw(st.booleans())
    assume(any('"' in cell for row in rows for cell in row))
    body = "".join(
        ",".join(escaped(cell, backslashes=backslashes) for cell in row) + "\n" for row in rows
    )
    with tempfile.TemporaryDirectory() as folder:
        try:
            actual = read(opened(Path(folder), f"n,m\n{body}"))
        except SourceError:
            return
    written = [[cell or None for cell in row] for row in rows]
    assert [list(map(_as_text, row.values())) for row in actual] == written or _is_plain_csv(body)


def _as_text(cell: Any) -> str | None:
    return None if cell is None else str(cell)


def _is_plain_csv(text: str) -> bool:
    """Whether a text is faultless as CSV without escapes, so that it must be read as that."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error:
        return False
    return all(len(row) in (0, 2) for row in rows) and not has_text_after_quote(text)


@given(st.text(st.sampled_from('\\"ab'), max_size=20), st.integers(1, 5))
def test_escaped_quotes_are_found_in_parts_of_any_size(text: str, size: int) -> None:
    """However a text is cut, the same quotes are marked."""
    whole = text.encode()
    parts = [whole[start : start + size] for start in range(0, len(whole), size)]
    assert b"".join(mark_escaped(parts)) == b"".join(mark_escaped([whole]))
    assert find_escapes(parts) == find_escapes([whole])


WESTERN = ["Zürich", "Café", "Straße", "MÜNCHEN", "déjà vu", "Århus", "5 €", "don’t"]  # noqa: RUF001


@pytest.mark.parametrize("word", WESTERN)
@pytest.mark.parametrize("layout", ["csv", "header", "ndjson", "array", "late"])
def test_windows_1252(tmp_path: Path, word: str, layout: str) -> None:
    """It is read where it is certain, and counted, wherever it begins."""
    if layout == "header":
        text, name = f"uid,in {word}\nu1,{word}\n", f"in {word}"
    elif layout == "late":
        text, name = "uid,city\n" + "u0,x\n" * 450_000 + f"u1,{word}\n", "city"
    elif layout == "csv":
        text, name = f"uid,city\nu1,{word}\n", "city"
    else:
        text, name = f'{{"uid": "u1", "city": "{word}"}}', "city"
        text = f"[\n{text}\n]" if layout == "array" else text
    source = opened(tmp_path, text.encode("cp1252"))
    last = read(source, [name], start=source.rows - 1)
    assert last == [{name: word}]
    letters = len(text) - len(text.encode("ascii", "ignore"))
    note = source.notes[-1]
    are = "letter" if letters == 1 else "letters"
    assert f"is not UTF-8 but Windows-1252, and is read as such. It has {letters} {are} " in note


OTHER_PAGES = {
    "cp1250": ["Gdańsk", "Łódź", "Plzeň", "Győr", "Čadca", "Iaşi"],
    "cp1254": ["İstanbul", "Şişli", "ığdır"],  # noqa: RUF001
    "cp1257": ["Šiauliai", "ąčę", "Rīga"],
    "cp1251": ["Привет", "Москва"],
    "koi8-r": ["Привет", "Москва"],
    "cp1253": ["Αθήνα"],
    "cp1255": ["שלום"],
    "cp1256": ["مرحبا"],
    "cp874": ["กรุงเทพ"],
    "shift_jis": ["東京", "テスト"],
    "gbk": ["北京", "你好"],
    "big5": ["台北"],
    "euc-kr": ["서울"],
    "mac_roman": ["Zürich", "Café", "España", "Straße", "río"],
    "cp850": ["Zürich", "Café", "Österreich"],
    "iso8859-2": ["Łódź", "śnieg"],
    "utf-8": ["Zürich"],
}


@pytest.mark.parametrize("page", OTHER_PAGES)
def test_other_encodings(tmp_path: Path, page: str) -> None:
    """Bytes that are other letters elsewhere are an error that names the line and the remedy."""
    for word in OTHER_PAGES[page]:
        content = b"uid,city\nu1," + word.encode(page) + b"\n"
        if page == "utf-8":  # and then not
            content += b"u2,Z\xfcrich\n"
        refused(tmp_path, content, "line ", "encoding='cp1252'", "iconv -f WINDOWS-1252")


ALPHABETS = {
    "cp1250": ["ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áéíóöőúüű", "ăâîşţ", "čćđšž"],
    "cp1254": ["çğıöşü"],
    "cp1257": ["āčēģīķļņšūž", "ąčęėįšųūž"],
    "cp1252": ["äöüß", "àâæçéèêëîïôœùûüÿ", "áéíñóúü", "áâãçéêíóôõú", "àèéìòù", "åäöéæø"],
}


@given(st.data())
def test_no_code_page_is_taken_for_another(data: Any) -> None:
    """Whatever words of one language: if the text is certain, it is right."""
    page = data.draw(st.sampled_from(sorted(ALPHABETS)))
    letters = data.draw(st.sampled_from(ALPHABETS[page]))
    word = st.text(st.sampled_from(letters + "aeinrst"), min_size=1, max_size=9)
    text = " ".join(data.draw(st.lists(word, min_size=1, max_size=8)))
    content = text.encode(page)
    if certain_windows_1252([content]) is not None:
        assert content.decode("cp1252") == text


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("layout", ["csv", "ndjson"])
def test_wide_encodings(tmp_path: Path, encoding: str, layout: str) -> None:
    """They are read with a mark or without one, and a note says so where there is none."""
    rows = [{"uid": f"u{n}", "city": ["東京", "Zürich", "x"][n % 3]} for n in range(9)]
    frame = pd.DataFrame(rows)
    text = (
        frame.to_csv(index=False)
        if layout == "csv"
        else frame.to_json(orient="records", lines=True, force_ascii=False)
    )
    source = opened(tmp_path, text.encode(encoding))
    assert read(source) == rows
    assert len(source.notes) == ("-" in encoding[4:])
    with pytest.raises(SourceError, match=r"is not UTF-(16|32), as it begins: line \d+ cannot"):
        read(opened(tmp_path, text.encode(encoding)[:-1]))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """A text can have some odd letters; more of them are another format."""
    source = opened(tmp_path, "uid,x\nu1,a\0b\nu2,c\x7f\n")
    assert [row["x"] for row in read(source)] == ["a\0b", "c\x7f"]
    refused(tmp_path, b"\x08\x96\x01\x12\x07testing\x1a\x03abc" * 50, "of a binary format")


@given(st.text(), st.booleans())
def test_a_layout_of_any_text(text: str, complete: bool) -> None:
    """No text stops it, and its places are in the text."""
    layout = find_layout(text, complete=complete)
    assert 0 <= layout.body <= len(text)
    if layout.rows:
        assert isinstance(looks_like_a_row(layout.rows[0], layout.rows[1:]), bool)


def test_a_plan_and_a_report_show_the_notes(tmp_path: Path) -> None:
    """Whatever is read differently from a file stands in both."""
    path = tmp_path / "x.csv"
    path.write_bytes(
        'Report\nuid,ts,city\n="01",2023-05-01T10:00:00Z,Zürich\n'.encode("cp1252")
        + b'u2,2023-05-01T10:00:00Z,"a \\"b\\""\n'
    )
    with cdp.sandbox() as box:
        plan = cdp.plan(path, OPENED, destination=box.destination)
        report = plan.send(progress=False)
        users = box.events()["userId"].tolist()
    assert users == ["01", "u2"]
    for shown in (str(plan), str(report)):
        text = " ".join(shown.split())
        assert "1 line before its header" in text
        assert "1 cell of the file" in text
        assert "2 quotes in the file" in text
        assert "Windows-1252" in text

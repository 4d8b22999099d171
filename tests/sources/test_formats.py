"""Files are recognised by what is in them, whatever their names are."""

from __future__ import annotations

import io
import json
import pickle
import sqlite3
import zipfile
from contextlib import closing
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pytest

import cdp_backfill as cdp
from cdp_backfill import SourceError
from cdp_backfill.sources import open_source, unpacking
from tests.sources.written import BINARY, COMPRESSIONS, FORMATS, NAMES, ROWS, zipped

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.sources import Source


def read(source: Source, columns: list[str] | None = None, start: int = 0) -> list[dict[str, Any]]:
    """All rows, and a check that the chunks number them without a gap."""
    rows: list[dict[str, Any]] = []
    for chunk in source.chunks(columns or source.schema.names, start=start):
        assert chunk.start == start + len(rows)
        chunk.batch.validate(full=True)
        rows.extend(chunk.batch.to_pylist())
    return rows


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_under_every_name(tmp_path: Path, format_: str, compression: str) -> None:
    """The rows are those that were written, whatever the name of the file says."""
    content = COMPRESSIONS[compression](FORMATS[format_]())
    for name in NAMES:
        path = tmp_path / name
        path.write_bytes(content)
        source = open_source(path)
        assert read(source) == ROWS, name
        assert read(source, ["plan"], start=5) == [{"plan": row["plan"]} for row in ROWS[5:]]
        settled = source.settled({"uid"})
        assert (settled.rows, read(settled)) == (len(ROWS), ROWS)
        (origin,) = {chunk.origin for chunk in settled.chunks(["uid"])}
        assert origin is not None
        assert origin.startswith(str(path))
        is_guessed = format_ == "csv in UTF-16 without a mark"
        assert [note for note in source.notes if "UTF-16" not in note] == []
        assert bool(source.notes) == is_guessed
        path.unlink()


def test_the_same_rows_as_other_readers_see(tmp_path: Path) -> None:
    """What pandas and DuckDB read from the files is what is read here."""
    path = tmp_path / "x"
    path.write_bytes(FORMATS["csv"]())
    assert read(open_source(path)) == pd.read_csv(path, dtype=str).to_dict("records")
    path.write_bytes(FORMATS["hive"]())
    assert read(open_source(path)) == pd.read_csv(path, sep="\x01", dtype=str).to_dict("records")
    path.write_bytes(FORMATS["ndjson"]())
    relation = duckdb.read_json(str(path), format="newline_delimited")
    assert read(open_source(path)) == relation.df().to_dict("records")
    path.write_bytes(FORMATS["orc"]())
    assert read(open_source(path)) == pd.read_orc(path).to_dict("records")


@pytest.mark.parametrize("format_", sorted(BINARY))
def test_groups_of_rows(tmp_path: Path, format_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of several groups are read from any row on, in parts, and are noticed when changed."""
    frame = pd.DataFrame({"n": range(50_000), "s": [str(n) for n in range(50_000)]})
    path = tmp_path / "x"
    if format_ == "orc":
        pa.orc.write_table(pa.Table.from_pandas(frame), path, stripe_size=1000, batch_size=1000)
    elif format_ == "arrow stream":
        with pa.ipc.new_stream(path, pa.Table.from_pandas(frame).schema) as writer:
            writer.write_table(pa.Table.from_pandas(frame), max_chunksize=7_000)
    elif format_ == "arrow of polars":
        pl.from_pandas(frame).write_ipc(path, record_batch_size=7_000, compression="zstd")
    elif format_ == "feather":
        frame.to_feather(path, chunksize=7_000)
    elif format_ == "parquet of polars":
        pl.from_pandas(frame).write_parquet(path, row_group_size=7_000)
    else:
        frame.to_parquet(path, row_group_size=7_000)
    source = open_source(path)
    assert source.rows == 50_000
    assert [row["n"] for row in read(source, ["n"])] == list(range(50_000))
    assert read(source, ["s"], start=33_333) == [{"s": str(n)} for n in range(33_333, 50_000)]
    parts = pickle.loads(pickle.dumps(source.parts(3)))  # noqa: S301  # our own
    assert [part.rows > 0 for part in parts] == [True] * len(parts)
    numbers = [
        chunk.start + place
        for part in parts
        for chunk in part.chunks(["n"])
        for place, n in enumerate(chunk.batch.column("n").to_pylist())
        if n == chunk.start + place == chunk.origin_start + place
    ]
    assert numbers == list(range(50_000))
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(SourceError, match="changed while"):
        read(source)
    del monkeypatch


def test_packed_files_that_need_all_of_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A packed parquet file is held up to a limit; beyond it, the error says what to type."""
    monkeypatch.setattr(unpacking, "RANDOM_BYTES", 100)
    content = FORMATS["parquet"]()
    for compression, words in {"gz": "gunzip", "xz": "unxz", "zip": "python -m zipfile -e"}.items():
        path = tmp_path / f"x.{compression}"
        path.write_bytes(COMPRESSIONS[compression](content))
        with pytest.raises(SourceError, match=f"more than 100 bytes.*{words}"):
            open_source(path)


def sqlite_file() -> bytes:
    """A database with a table."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE \"app 'events'\" (uid)")
        database.execute("INSERT INTO \"app 'events'\" VALUES ('ada')")
        database.commit()
        return database.serialize()


def office(*names: str) -> bytes:
    """A zip archive of a document."""
    return zipped(dict.fromkeys(["[Content_Types].xml", *names], b"<x/>"))


def avro() -> bytes:
    """A table in Avro."""
    sink = io.BytesIO()
    pl.DataFrame({"uid": ["ada"]}).write_avro(sink)
    return sink.getvalue()


def stata() -> bytes:
    """A table of Stata."""
    sink = io.BytesIO()
    pd.DataFrame({"uid": ["ada"]}).to_stata(sink, write_index=False, version=118)
    return sink.getvalue()


def numpy_array() -> bytes:
    """An array of NumPy."""
    sink = io.BytesIO()
    np.save(sink, np.array([("ada",)], dtype=[("uid", "U3")]))
    return sink.getvalue()


def old_feather() -> bytes:
    """A table in the first version of Feather, which pyarrow no longer likes to write."""
    return b"FEA1" + b"\0" * 40 + b"FEA1"


# What a file begins with, and what the error says it is.
FOREIGN: dict[str, tuple[bytes, str]] = {
    "sqlite": (sqlite_file(), "a SQLite database"),
    "avro": (avro(), "an Avro file"),
    "xlsx": (office("xl/workbook.xml"), "an Excel workbook"),
    "xlsb": (office("xl/workbook.bin"), "an Excel workbook"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 500, "an Excel workbook of the old kind"),
    "ods": (zipped({"mimetype": b"x", "content.xml": b"", "META-INF/manifest.xml": b""}), "spread"),
    "numbers": (zipped({"Index/Document.iwa": b"x"}), "Numbers"),
    "docx": (office("word/document.xml"), "a Word document"),
    "jar": (zipped({"META-INF/MANIFEST.MF": b"x"}), "a Java archive"),
    "feather 1": (old_feather(), "a Feather file of the old version 1"),
    "stata": (stata(), "a Stata file"),
    "numpy": (numpy_array(), "an array of NumPy"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "an HDF5 file"),
    "spss": (b"$FL2@(#) SPSS DATA FILE" + b"\0" * 99, "an SPSS file"),
    "sas": (b"\0" * 84 + b"SAS FILE" + b"\0" * 99, "a SAS file"),
    "duckdb": (b"\0" * 8 + b"DUCK" + b"\0" * 99, "a DuckDB database"),
    "pickle": (pickle.dumps(pd.DataFrame({"uid": ["ada"]})), "a pickle of Python"),
    "access": (b"\x00\x01\x00\x00Standard Jet DB\0" + b"\0" * 99, "Microsoft Access"),
    "pg_dump": (b"PGDMP\x01\x0e\x00" + b"\0" * 99, "a dump of PostgreSQL"),
    "encrypted parquet": (b"PARE\x15\x04" + b"\0" * 99, "an encrypted parquet file"),
    "sequence file": (b"SEQ\x06" + b"\0" * 99, "a sequence file of Hadoop"),
    "7z": (b"7z\xbc\xaf\x27\x1c\0\4" + b"\0" * 99, "a 7z archive"),
    "rar": (b"Rar!\x1a\x07\x01\0" + b"\0" * 99, "a rar archive"),
    "tar": (b"x.csv" + b"\0" * 252 + b"ustar\x0000" + b"\0" * 249, "a tar archive"),
    "snappy": (b"\xff\x06\x00\x00sNaPpY" + b"\0" * 99, "compressed with snappy"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + b"\0" * 99, "a PDF document"),
    "png": (b"\x89PNG\r\n\x1a\n" + b"\0" * 99, "an image"),
    "jpeg": (b"\xff\xd8\xff\xe0\x00\x10JFIF" + b"\0" * 99, "an image"),
    "elf": (b"\x7fELF\x02" + b"\0" * 99, "a program"),
    "unknown": (bytes(range(256)) * 9, "of a binary format that is not known here"),
    "html": (b"\n<!DOCTYPE html>\n<html><body>Log in</body></html>", "a web page"),
    "xml": (b'<?xml version="1.0"?>\n<rows><row uid="ada"/></rows>', "XML"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n",
        "a pointer of Git LFS",
    ),
    "sql": (
        b"-- MySQL dump 10.13\n--\nCREATE TABLE `t` (a int);\n",
        "a dump of a database, in SQL",
    ),
    "pgp": (b"-----BEGIN PGP MESSAGE-----\n\nhQEMA\n", "encrypted"),
    "dicts": (b"{'uid': 'ada', 'n': 1}\n{'uid': 'bob', 'n': 2}\n", "text of Python dicts"),
    "bare keys": (b"{ uid: 1, n: 2 }\n", "JSON without quotes"),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("name", ["x", "x.csv", "x.parquet", "x.json"])
def test_other_formats_are_named(tmp_path: Path, kind: str, name: str) -> None:
    """One error says what the file is and what to do, packed or not; no cell is in it."""
    content, what = FOREIGN[kind]
    for compression in ("none", "gz", "xz"):
        path = tmp_path / name
        path.write_bytes(COMPRESSIONS[compression](content))
        with pytest.raises(SourceError) as caught:
            open_source(path)
        text = str(caught.value)
        assert f"{name}' is " in text
        assert what in text
        assert "ada" not in text


@pytest.mark.parametrize("kind", FOREIGN)
def test_other_formats_in_a_folder_are_left_out_aloud(tmp_path: Path, kind: str) -> None:
    """The tables of a folder, or of an archive, are read without them, and a note says so."""
    content, what = FOREIGN[kind]
    members = {"a.csv": b"uid,n\nada,1\n", "b": content}
    for name, member in members.items():
        (tmp_path / name).write_bytes(member)
    archive = tmp_path / "x.zip"
    for given in (str(tmp_path), str(tmp_path / "?*")):
        source = open_source(given)
        assert read(source) == [{"uid": "ada", "n": "1"}]
        (note,) = source.notes
        assert "left out" in note
        assert what in note
        assert repr(str(tmp_path / "b")) in note
        assert source.settled(()).notes == source.notes
    archive.write_bytes(zipped(members))
    if content[:2] == b"PK":
        what_is_in_it = open_source(archive).notes
        assert what in what_is_in_it[0]
    else:
        assert what in open_source(archive).notes[0]


@pytest.mark.parametrize("kind", ["sqlite", "avro", "stata", "numpy", "pickle", "dicts", "duckdb"])
def test_the_line_of_an_error_reads_the_file(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an error says to type gives the rows, which can then be sent."""
    monkeypatch.chdir(tmp_path)
    if kind == "duckdb":
        with duckdb.connect("x") as database:
            database.execute("CREATE TABLE my_table AS SELECT 'ada' AS uid")
    else:
        (tmp_path / "x").write_bytes(FOREIGN[kind][0])
    with pytest.raises(SourceError) as caught:
        open_source("x")
    line = str(caught.value).partition("read it with " if kind == "pickle" else "Read it with ")[2]
    names: dict[str, Any] = {"pd": pd, "np": np, "duckdb": duckdb}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.open", closing_open := _ClosingOpen())
        exec(line.partition(", then df")[0], names)  # noqa: S102  # our own line
        closing_open.close()
    frame = names["df"]
    plan = cdp.plan(frame, user_id="uid", timestamp=cdp.lit("2023-05-01"), event=OPENED)
    assert plan.counts["to_send"] == len(frame) > 0


class _ClosingOpen:
    """Opens files and closes them later, as whoever types a line leaves them open."""

    def __init__(self) -> None:
        self._open, self._files = open, list[Any]()

    def __call__(self, *given: Any, **options: Any) -> Any:
        self._files.append(self._open(*given, **options))
        return self._files[-1]

    def close(self) -> None:
        """Close all of them."""
        for each in self._files:
            each.close()


@pytest.mark.parametrize(
    "header", ["PARENT_ID,uid", "ORCID,uid", "SEQUENCE,uid", "PAR1,uid", "Obj,uid", "BZh9,uid"]
)
def test_names_that_begin_as_a_format_does(tmp_path: Path, header: str) -> None:
    """Text is text, even if its first letters are those of a binary format."""
    path = tmp_path / "x"
    path.write_text(f"{header}\na,b\nc,d\n")
    assert open_source(path).schema.names == header.split(",")


def test_files_of_several_formats(tmp_path: Path) -> None:
    """They have no types in common, so they do not go together."""
    for name in ("csv", "ndjson", "parquet", "orc"):
        (tmp_path / name).write_bytes(FORMATS[name]())
    for one, other, words in (
        ("csv", "ndjson", "csv' is a CSV file and .*ndjson' is a JSON file"),
        ("csv", "parquet", "csv' is a CSV file and .*parquet' is a parquet file"),
        ("ndjson", "orc", "ndjson' is a JSON file and .*orc' is an ORC file"),
    ):
        with pytest.raises(SourceError, match=words):
            open_source([tmp_path / one, tmp_path / other])


OPENED = cdp.lit("Application Opened")

PROSE = "An export, as of today.\n\nIt has one row for each event, and\nno others, so be careful.\n"


@pytest.mark.parametrize("format_", FORMATS)
def test_texts_beside_tables(tmp_path: Path, format_: str) -> None:
    """Read-me files, licences, check sums and files of this package are no rows of a folder."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "part-0").write_bytes(FORMATS[format_]())
    for name in ("README", "LICENSE.txt", "notes.md", "in/about.html"):
        (tmp_path / name).write_text(PROSE)
    (tmp_path / "schema.sql").write_text("SELECT a, b\nFROM c, d\n")
    (tmp_path / "in" / "sha256.sum").write_text("d2a84f4b8b650937  part-0\n")
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / ".part-0.crc").write_bytes(b"crc\0")
    (tmp_path / "table.cdp-journal").write_bytes(sqlite_file())
    (tmp_path / "table.cdp-journal-wal").write_bytes(b"\x37\x7f\x06\x82")
    source = open_source(tmp_path)
    assert read(source) == ROWS
    notes = [note for note in source.notes if "UTF-16" not in note]
    (note,) = notes
    assert note.startswith("6 files are no tables and are left out: ")
    assert note.endswith(" and 3 more.")


DESCRIPTIONS = {
    "manifest.json": json.dumps({"entries": [{"url": "s3://b/part-0"}]}, indent=1),
    "0a1b-manifest": json.dumps([{"file": "part-0"}]),
    "unload.manifest": json.dumps({"entries": []}),
    "schema.json": json.dumps({"type": "struct", "fields": [{"name": "uid"}]}) + "\n",
    "table_metadata.json": json.dumps({"rows": 7}, indent=1),
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
@pytest.mark.parametrize("format_", ["csv", "ndjson", "parquet"])
def test_descriptions_beside_tables(tmp_path: Path, name: str, format_: str) -> None:
    """Lists of the files in a folder, and what describes them, are no rows."""
    (tmp_path / "part-0").write_bytes(FORMATS[format_]())
    (tmp_path / name).write_text(DESCRIPTIONS[name])
    source = open_source(tmp_path)
    assert read(source) == ROWS
    (note,) = source.notes
    assert f"{name}' (a description of files, and no table)" in note


@pytest.mark.parametrize("name", ["manifest.json", "schema.json"])
def test_tables_that_are_called_descriptions(tmp_path: Path, name: str) -> None:
    """A file that is named itself, or has a row on each line, is a table under any name."""
    path = tmp_path / name
    path.write_text('{"uid": "a"}\n')
    assert read(open_source(path)) == [{"uid": "a"}]
    if name == "schema.json":
        path.write_text('{"uid": "a"}\n{"uid": "b"}\n')
        assert len(read(open_source(tmp_path))) == 2


@pytest.mark.parametrize("text", ["hello, all\nof you, people\n", "a, b\nc, d\ne, f\n"])
def test_short_sentences_beside_tables(tmp_path: Path, text: str) -> None:
    """Texts in which a blank follows each comma are no tables, unless their names say so."""
    (tmp_path / "part-0").write_bytes(FORMATS["csv"]())
    (tmp_path / "notes.txt").write_text(text)
    assert read(open_source(tmp_path)) == ROWS
    (tmp_path / "notes.txt").rename(tmp_path / "notes.csv")
    assert len(read(open_source(tmp_path))) > len(ROWS)


def test_several_formats_in_an_archive(tmp_path: Path) -> None:
    """The error says what can be done: a glob does not reach into an archive."""
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("csv", "ndjson"):
            archive.writestr(name, FORMATS[name]())
    with pytest.raises(SourceError, match="Unpack the archive, and send them in separate runs"):
        open_source(path)


def test_empty_files_beside_tables(tmp_path: Path) -> None:
    """They have no rows, and are left out of files that cannot be empty."""
    (tmp_path / "a").write_bytes(FORMATS["parquet"]())
    (tmp_path / "b").write_bytes(b"")
    source = open_source(tmp_path)
    assert (source.rows, source.notes) == (7, ("1 empty file is left out.",))
    with pytest.raises(SourceError, match="b' cannot be read as a parquet file"):
        open_source([tmp_path / "a", tmp_path / "b"])
    (tmp_path / "a").write_bytes(FORMATS["csv"]())
    assert len(read(open_source(tmp_path))) == 7


def test_a_folder_without_a_table(tmp_path: Path) -> None:
    """The error is that of its first file."""
    (tmp_path / "x.pdf").write_bytes(FOREIGN["pdf"][0])
    (tmp_path / "y.md").write_text(PROSE)
    with pytest.raises(SourceError, match=r"x\.pdf' is a PDF document"):
        open_source(tmp_path)


def test_many_files_are_left_out_in_one_note(tmp_path: Path) -> None:
    """Of many, some are named."""
    for number in range(9):
        (tmp_path / f"{number}.pdf").write_bytes(FOREIGN["pdf"][0])
        (tmp_path / f"{number}.xlsx").write_bytes(FOREIGN["xlsx"][0])
    (tmp_path / "a").write_bytes(FORMATS["csv"]())
    notes = open_source(tmp_path).notes
    assert len(notes) == 5
    assert notes[3] == "6 other files of this kind are left out, too."
    assert notes[4].startswith("9 files are no tables and are left out: ")


class TestArchives:
    """Zip archives."""

    @pytest.mark.parametrize(
        "method",
        [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA],
    )
    @pytest.mark.parametrize("format_", ["csv", "ndjson", "parquet"])
    def test_several_files(self, tmp_path: Path, method: int, format_: str) -> None:
        """They are read in the order of their names, and each row names its file."""
        path = tmp_path / "export.zip"
        content = FORMATS[format_]()
        names = ["b/2", "a", "b/1"]
        hidden = ["__MACOSX/._a", ".DS_Store", "b/_SUCCESS"]
        path.write_bytes(
            zipped(dict.fromkeys(names, content) | dict.fromkeys(hidden, b"x"), method)
        )
        settled = open_source(path).settled({"uid"})
        source = pickle.loads(pickle.dumps(settled))  # noqa: S301  # our own
        assert (source.rows, source.notes) == (21, ())
        assert read(source) == ROWS * 3
        origins = [
            (chunk.origin, chunk.origin_start + place)
            for chunk in source.chunks(["uid"])
            for place in range(chunk.batch.num_rows)
        ]
        expected = [(f"{path}/{name}", row) for name in sorted(names) for row in range(7)]
        assert origins == expected
        assert len({rows for part in source.parts(3) for rows in [part.rows]}) == 1
        before = source.fingerprint()
        assert before is not None
        path.write_bytes(zipped(dict.fromkeys(names, FORMATS["ndjson"]() + b"\n")))
        with pytest.raises(SourceError, match="changed while"):
            read(source)

    def test_that_cannot_be_read(self, tmp_path: Path) -> None:
        """Each error says why, and what to do."""
        path = tmp_path / "x.zip"
        whole = zipped({"a.csv": b"uid,n\nada,1\n"})
        twice = io.BytesIO()
        with zipfile.ZipFile(twice, "w") as archive:
            archive.writestr("a.csv", "uid\n")
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr("a.csv", "uid\n")
        directory = whole.index(b"PK\x01\x02")
        encrypted, other = bytearray(whole), bytearray(whole)
        encrypted[directory + 8] |= 1
        other[directory + 10] = 9  # deflate64
        damaged = bytearray(whole)
        damaged[directory - 4] ^= 255
        for content, words in (
            (bytes(encrypted), "is encrypted. Unpack it with its password"),
            (bytes(other), r"method \(number 9\) that Python cannot undo"),
            (whole[:-30], "is damaged or cut off"),
            (bytes(damaged), "cannot be read beyond 0 bytes"),
            (twice.getvalue(), "has two files named 'a.csv'"),
            (zipped({"b.zip": whole}), "holds another archive, 'b.zip'"),
            (zipped({}), "There is no file in the archive"),
            (zipped({"_x": b"", "__MACOSX/a": b""}), "There is no file in the archive"),
            (COMPRESSIONS["gz"](whole), "a zip archive that was compressed again"),
        ):
            path.write_bytes(content)
            with pytest.raises(SourceError, match=words) as caught:
                open_source(path)
            assert "ada" not in str(caught.value)

    def test_are_sent_and_resumed(self, tmp_path: Path) -> None:
        """A journal leads back to the archive, and processes read its files, too."""
        path = tmp_path / "x.zip"
        rows = [
            json.dumps({"uid": f"u{n}", "ts": "2023-05-01T10:00:00Z", "n": n}) for n in range(20)
        ]
        path.write_bytes(zipped({f"{n}.json": "\n".join(rows[n::4]).encode() for n in range(4)}))
        mapping = cdp.Mapping(user_id="uid", timestamp="ts", event=OPENED)
        journal = tmp_path / "j"
        with cdp.sandbox() as box:
            options: dict[str, Any] = {"destination": box.destination, "progress": False}
            first = cdp.send(path, mapping, journal=journal, canary=7, **options)
            assert first.counts["delivered"] == 7
            report = cdp.resume(journal, processes=2, **options)
            assert (report.delivered_before, report.counts["delivered"]) == (7, 20)
            assert len(box.events()) == 20

"""Tables of every kind, read in chunks."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp_backfill import SourceError
from cdp_backfill.sources import Source, open_source
from cdp_backfill.sources.chunks import CHUNK_BYTES, CHUNK_ROWS, compact

if TYPE_CHECKING:
    from pathlib import Path


def read(source: Source, columns: list[str] | None = None, start: int = 0) -> list[dict[str, Any]]:
    """All rows, and a check that the chunks number them without a gap."""
    rows: list[dict[str, Any]] = []
    for chunk in source.chunks(columns or source.schema.names, start=start):
        assert chunk.start == start + len(rows)
        assert chunk.batch.num_rows <= CHUNK_ROWS
        rows.extend(chunk.batch.to_pylist())
    return rows


def test_a_frame_of_every_dtype() -> None:
    """Each dtype of pandas is read, with its empty cells empty."""
    frame = pd.DataFrame(
        {
            "int": [1, 2],
            "float": [1.5, np.nan],
            "Int64": pd.array([1, None], dtype="Int64"),
            "string": pd.array(["a", None], dtype="string"),
            "arrow": pd.Series(["a", None], dtype=pd.ArrowDtype(pa.string())),
            "object": pd.Series(["a", None], dtype=object),
            "bool": [True, False],
            "boolean": pd.array([True, None], dtype="boolean"),
            "category": pd.Categorical(["x", None]),
            "time": pd.to_datetime(pd.Series(["2020-01-01", None])),
            "zoned": pd.to_datetime(pd.Series(["2020-01-01", None]), utc=True),
            "delta": pd.to_timedelta([1, None], unit="s"),
            "mixed": pd.Series([12, "a7"], dtype=object),
            "floats": pd.Series([12.0, "a7"], dtype=object),
            "bools": pd.Series([True, "no"], dtype=object),
            "big": pd.Series([2**70, 1], dtype=object),
            "dicts": pd.Series([{"a": 1}, None], dtype=object),
            "lists": pd.Series([[1, 2], np.nan], dtype=object),
            "empty": pd.Series([None, np.nan], dtype=object),
        }
    ).set_axis(["r1", "r2"])
    first, second = read(open_source(frame))
    assert (first["int"], first["float"], first["Int64"]) == (1, 1.5, 1)
    assert (first["mixed"], first["floats"], first["bools"]) == ("12", "12", "true")
    assert first["big"] == str(2**70)
    assert first["dicts"] == {"a": 1}
    assert first["lists"] == [1, 2]
    assert {name for name, value in second.items() if value is None} == {
        "float", "Int64", "string", "arrow", "object", "boolean", "category", "time", "zoned",
        "delta", "dicts", "lists", "empty",
    }  # fmt: skip


@pytest.mark.parametrize(
    "index",
    [
        pd.Index(["a", "a", "b"]),
        pd.MultiIndex.from_tuples([("x", 1), ("x", 1), ("y", 2)]),
        pd.date_range("2020", periods=3),
        pd.Index([9, 3, 7]),
    ],
)
def test_a_frame_with_any_index(index: Any) -> None:
    """The index does not matter for reading, and comes back with the rows."""
    frame = pd.DataFrame({"x": [1, 2, 3]}, index=index)
    source = open_source(frame)
    assert [row["x"] for row in read(source)] == [1, 2, 3]
    pd.testing.assert_frame_equal(source.original(np.array([0, 2])), frame.iloc[[0, 2]])


def test_a_frame_that_changes_afterwards() -> None:
    """What was given is what is sent: later assignments do not reach it."""
    frame = pd.DataFrame({"x": [1, 2, 3]})
    source = open_source(frame)
    frame["x"] = 0
    frame.loc[0, "x"] = 9
    assert [row["x"] for row in read(source)] == [1, 2, 3]


def test_text_without_a_utf8_form_is_kept_for_the_row_to_answer() -> None:
    """A lone surrogate in one cell does not stop the reading."""
    frame = pd.DataFrame({"x": pd.Series(["ok", "a\ud800", None], dtype=object)})
    (chunk,) = open_source(frame).chunks(["x"])
    column = chunk.batch.column("x")
    assert column.type == pa.string()
    assert column[0].as_py() == "ok"
    with pytest.raises(pa.ArrowInvalid):
        column.validate(full=True)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "more than one column named 'a'"),
        (pd.DataFrame([[1, 2]], columns=[1, "1"]), "more than one column named '1'"),
        (pd.DataFrame({("a", "b"): [1]}), "several levels"),
        (pd.DataFrame({"x": [{"a": {1}}, "x"]}), r"without a common type \(dict, str\)"),
        (pd.DataFrame({"x": [object(), 1]}), r"without a common type \(int, object\)"),
        (pd.DataFrame({"x": [1 + 2j]}), "complex128 cannot be read"),
        (
            pd.DataFrame(
                {"x": pd.Series([date(2023, 1, 1), pd.Timestamp(2023, 1, 1, 5)], dtype=object)}
            ),
            "mixes a date and a time without a zone",
        ),
        (
            pd.DataFrame(
                {
                    "x": pd.Series(
                        [pd.Timestamp("2023"), pd.Timestamp("2023", tz="UTC")], dtype=object
                    )
                }
            ),
            "mixes a time with a zone and a time without",
        ),
        (pd.DataFrame({"x": pd.period_range("2020", periods=1, freq="M")}), "cannot be read"),
    ],
)
def test_a_frame_that_cannot_be_read(frame: pd.DataFrame, words: str) -> None:
    """It says which column and what to do, before a row is read."""
    with pytest.raises(SourceError, match=words):
        open_source(frame)


TABLE = pa.table({"x": list(range(20_000)), "s": [str(n) for n in range(20_000)]})


@pytest.mark.parametrize(
    "table",
    [
        TABLE,
        TABLE.to_reader(max_chunksize=777),
        pl.from_arrow(TABLE),
        pa.concat_tables([TABLE.slice(0, 5), TABLE.slice(5)]),
    ],
)
def test_anything_with_an_arrow_stream(table: Any) -> None:
    """pyarrow, readers and polars come through the same door, in order."""
    source = open_source(table)
    assert [row["x"] for row in read(source, ["x"])] == list(range(20_000))


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["a", None, "c"], pa.string_view()),
        pa.array([b"a", None, b"c"], pa.binary_view()),
        pa.array(["a", None, "a"], pa.string_view()).dictionary_encode(),
        pa.array([["a"], None, [None, "b"]], pa.list_(pa.string_view())),
        pa.array([[1.5], None, []], pa.list_view(pa.float64())),
        pa.array([["a"], None, ["b", "c"]], pa.large_list_view(pa.string_view())),
        pa.array([["a", "b"], None, ["c", "d"]], pa.list_(pa.string_view(), 2)),
        pa.array([{"k": "a", "n": ["x"]}, None, {"k": None, "n": None}],
                 pa.struct([("k", pa.string_view()), ("n", pa.list_(pa.string_view()))])),
        pa.array([[("k", "a")], None, []], pa.map_(pa.string_view(), pa.string_view())),
    ],
)  # fmt: skip
def test_views_of_every_kind(array: Any) -> None:
    """What polars hands over can be worked with, also in slices of a table."""
    table = pa.table({"x": array})
    for part in (table, table.slice(1), table.slice(1, 1)):
        source = open_source(part)
        assert [row["x"] for row in read(source)] == part["x"].to_pylist()
        (chunk,) = source.chunks(["x"])
        assert chunk.batch.schema == source.schema
        chunk.batch.take(pa.array([0])).validate(full=True)


def test_a_reader_can_be_read_once() -> None:
    """A spent stream is an error, not an empty table."""
    source = open_source(TABLE.to_reader())
    assert not source.replayable
    assert source.rows is None
    read(source)
    with pytest.raises(SourceError, match="only be read once"):
        read(source)


def test_a_table_can_be_read_again() -> None:
    """A table is no stream: a plan and a run can both read it, from any row on."""
    source = open_source(TABLE)
    assert source.replayable
    assert source.rows == 20_000
    assert len(read(source)) == len(read(source))
    assert [row["x"] for row in read(source, start=19_990)] == list(range(19_990, 20_000))


def test_wide_rows_make_short_chunks() -> None:
    """A chunk has a size in bytes too, whatever the source."""
    wide = pa.table({"x": ["y" * 20_000] * 2_000})
    for table in (wide, wide.to_pandas()):
        sizes = [chunk.batch.nbytes for chunk in open_source(table).chunks(["x"])]
        assert len(sizes) > 3
        assert max(sizes[1:]) < 2 * CHUNK_BYTES


@pytest.fixture
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three parquet files of 10 rows each, the last one without the column ``s``."""
    tmp_path = tmp_path_factory.mktemp("files")
    for number in range(3):
        part = TABLE.slice(10 * number, 10)
        pq.write_table(part if number < 2 else part.select(["x"]), tmp_path / f"p{number}.parquet")
    return tmp_path


@pytest.mark.parametrize("given", ["*.parquet", "", "list", "p?.parquet", "**/p*.parquet"])
def test_paths_globs_lists_and_folders(files: Path, given: str) -> None:
    """All ways to name files lead to the same rows, in the order of their names."""
    paths: Any = str(files / given)
    if given == "list":
        paths = [files / "p0.parquet", str(files / "p1.parquet"), files / "p2.parquet"]
    source = open_source(paths)
    assert source.rows == 30
    assert [row["x"] for row in read(source)] == list(range(30))
    assert [row["s"] for row in read(source, start=18)] == ["18", "19", *[None] * 10]


def test_a_row_of_a_file_knows_its_file(files: Path) -> None:
    """Each chunk names its file and the number of its first row in there."""
    source = open_source(files)
    actual = [(chunk.origin, chunk.origin_start) for chunk in source.chunks(["x"], start=15)]
    assert actual == [(str(files / "p1.parquet"), 5), (str(files / "p2.parquet"), 0)]


def test_a_file_without_any_wanted_column_still_counts(files: Path) -> None:
    """Rows do not get lost because their file lacks the columns."""
    source = open_source(files)
    assert [row["s"] for row in read(source, ["s"])][20:] == [None] * 10


def test_a_url_and_a_home_folder(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system of Arrow is reached by its scheme, and ``~`` is the home folder."""
    assert open_source(f"file://{files}/p0.parquet").rows == 10
    monkeypatch.setenv("HOME", str(files))
    assert open_source("~/p0.parquet").rows == 10


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("no.parquet", "There is no file"),
        ("no*.parquet", "No file matches"),
        ("notes.md", "is a text that is no table"),
        ("empty", "no file in the folder"),
    ],
)
def test_a_path_that_leads_nowhere(files: Path, given: str, words: str) -> None:
    """A missing or wrong file says which and what to do."""
    (files / "empty").mkdir()
    (files / "notes.md").write_text("no data")
    with pytest.raises(SourceError, match=words):
        open_source(files / given)


def test_files_that_do_not_fit_together(files: Path) -> None:
    """The error about a column with two types names file and column."""
    pq.write_table(pa.table({"x": ["text"]}), files / "p3.parquet")
    with pytest.raises(
        SourceError, match=r"column 'x' is of type integer in .*p0\.parquet'.*text in .*p3"
    ):
        open_source(files)


def test_whole_numbers_and_floats_fit_together(files: Path) -> None:
    """A column that became floats in one file is floats in all."""
    pq.write_table(pa.table({"x": [1.5]}), files / "p3.parquet")
    assert read(open_source(files), ["x"])[-1] == {"x": 1.5}


@pytest.mark.parametrize("given", [[], 3, {"a": 1}, [1], None])
def test_what_is_no_table(given: Any) -> None:
    """Anything else is refused by its type."""
    with pytest.raises(SourceError, match=r"cannot be read|list of paths is empty|is no table"):
        open_source(given)


def test_the_same_file_twice(files: Path) -> None:
    """A file named twice would be sent twice."""
    with pytest.raises(SourceError, match="passed twice"):
        open_source([files / "p0.parquet", str(files / "p*.parquet")])


def test_a_glob_that_matches_folders(files: Path) -> None:
    """A folder of parts, as Spark writes it, is read whole; a foreign file is left out aloud."""
    (files / "p3.parquet").mkdir()
    pq.write_table(TABLE.slice(30, 5), files / "p3.parquet" / "part-0.parquet")
    (files / "p3.parquet" / "_SUCCESS").write_text("")
    assert open_source(files / "*.parquet").rows == 35
    pq.write_table(TABLE.slice(35, 5), files / "p3.parquet" / "part-1")
    assert open_source(files / "p3.parquet").rows == 10
    (files / "p3.parquet" / "more.md").write_text("no data")
    source = open_source(files / "p3.parquet")
    assert source.rows == 10
    (note,) = source.notes
    assert "1 file is no table and is left out" in note
    assert "more.md' (a text that is no table)." in note


def test_the_same_file_in_two_ways(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative and absolute, it is one file."""
    monkeypatch.chdir(files)
    with pytest.raises(SourceError, match="passed twice"):
        open_source(["p0.parquet", files / "p0.parquet"])


def test_a_file_that_loses_rows_meanwhile(files: Path) -> None:
    """A file that is replaced between looking and reading is noticed."""
    source = open_source(files / "p0.parquet")
    pq.write_table(TABLE.slice(0, 3), files / "p0.parquet")
    with pytest.raises(SourceError, match="changed while"):
        read(source)


@given(
    st.lists(st.none() | st.integers(0, 999), min_size=1, max_size=40),
    st.sampled_from([pa.int16(), pa.int32(), pa.uint16()]),
)
def test_compact_keeps_the_rows(codes: list[int | None], index: Any) -> None:
    """Only the values that rows use stay in a dictionary; cells and types are the same."""
    array = pa.DictionaryArray.from_arrays(
        pa.array(codes, index), pa.array([f"value {n}" for n in range(1000)])
    )
    batch = pa.record_batch({"a": array, "b": pa.array(range(len(codes)))})
    smaller = compact(batch.slice(len(codes) // 3))
    assert smaller.schema == batch.schema
    assert smaller.to_pylist() == batch.slice(len(codes) // 3).to_pylist()
    assert len(smaller.column(0).dictionary) <= len(smaller)


def test_a_shared_dictionary_does_not_shrink_the_chunks() -> None:
    """Rows of a frame with many unused categories are read as many at a time as text."""
    many = [f"customer-{number:020d}" for number in range(300_000)]
    frame = pd.DataFrame({"uid": pd.Categorical(many[:5_000], categories=many)})
    (chunk,) = open_source(frame).chunks(["uid"])
    assert chunk.batch.num_rows == 5_000
    assert chunk.batch.nbytes < 1_000_000

"""Folders named after columns, and folders that are the tables of Delta, Iceberg and Hudi."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cdp_backfill as cdp
from cdp_backfill import SourceError
from cdp_backfill.api import messages
from cdp_backfill.sources import open_source
from tests.rows import OPENED
from tests.sources.test_formats import read
from tests.sources.written import zipped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NO_CELL = "__HIVE_DEFAULT_PARTITION__"
TIME = "2023-05-01T10:00:00Z"


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """A parquet file."""
    frame.to_parquet(path, index=False)


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """A compressed CSV file."""
    frame.to_csv(path, index=False, compression="gzip")


def write_json(frame: pd.DataFrame, path: Path) -> None:
    """A file of JSON lines."""
    frame.to_json(path, orient="records", lines=True)


WRITERS = pytest.mark.parametrize("write", [write_parquet, write_csv, write_json])


def tree(root: Path, write: Callable[[pd.DataFrame, Path], None], folders: list[str]) -> None:
    """A file of two rows in each of these folders."""
    for number, folder in enumerate(folders):
        (root / folder).mkdir(parents=True)
        frame = pd.DataFrame({"uid": [f"u{number}a", f"u{number}b"], "ts": [TIME] * 2})
        write(frame, root / folder / "part-0")


@WRITERS
def test_folders_become_columns(tmp_path: Path, write: Any) -> None:
    """A folder, a glob, a list and an address give the same rows; so do parts and later rows."""
    folders = ["year=2023/market=de", "year=2023/market=fr", "year=2024/market=de"]
    tree(tmp_path / "t", write, folders)
    expected = [
        {"uid": f"u{number}{letter}", "ts": TIME, "year": year, "market": market}
        for number, (year, market) in enumerate([(2023, "de"), (2023, "fr"), (2024, "de")])
        for letter in "ab"
    ]
    for given in (
        tmp_path / "t",
        str(tmp_path / "t" / "*"),
        str(tmp_path / "t" / "**" / "part-*"),
        sorted((tmp_path / "t").rglob("part-*")),
        f"file://{tmp_path}/t",
    ):
        source = open_source(given)
        assert {field.name: str(field.type) for field in source.schema}["year"] == "int64"
        assert source.notes == ("Columns that come from the names of folders: 'year', 'market'.",)
        settled = source.settled({"uid"})
        assert read(settled) == expected
        assert settled.notes == source.notes
        assert read(settled, ["market"], start=3) == [{"market": "fr"}] + [{"market": "de"}] * 2
        assert read(settled, ["year", "uid"], start=5) == [{"year": 2024, "uid": "u2b"}]
        parts = pickle.loads(pickle.dumps(settled.parts(2)))  # noqa: S301  # our own
        chunks = [chunk for part in parts for chunk in part.chunks(["uid", "year"])]
        rows = [row for chunk in chunks for row in chunk.batch.to_pylist()]
        assert rows == [{"uid": row["uid"], "year": row["year"]} for row in expected]
        assert (settled.found_types or {})["year"] == "int64"
    reader = {
        write_parquet: "read_parquet('{}')",
        write_csv: "read_csv('{}', hive_partitioning = true, compression = gzip)",
        write_json: "read_json('{}', hive_partitioning = true)",
    }[write].format(tmp_path / "t/*/*/part-*")
    query = f"SELECT year, market, count(*) FROM {reader} GROUP BY ALL ORDER BY ALL"  # noqa: S608
    relation = duckdb.connect().execute(query)
    assert relation.fetchall() == [(2023, "de", 2), (2023, "fr", 2), (2024, "de", 2)]


@WRITERS
@pytest.mark.parametrize(
    ("folders", "cells", "kind"),
    [
        (["m=1", "m=-2"], [1, -2], "int64"),
        (["m=01", "m=2"], ["01", "2"], "string"),
        (["m=1", "m=x"], ["1", "x"], "string"),
        (["m=1.50", "m=2"], ["1.50", "2"], "string"),
        (["m=2023-05-01", "m=2023-05-02"], ["2023-05-01", "2023-05-02"], "string"),
        (["m=9223372036854775808"], ["9223372036854775808"], "string"),
        (["m=__HIVE_DEFAULT_PARTITION__", "m=1"], [None, 1], "int64"),
        (["m=__HIVE_DEFAULT_PARTITION__"], [None], "string"),
        (["m=", "m=1"], ["", "1"], "string"),
        (["m=a%2Fb%3Dc", "m=K%C3%B6ln"], ["a/b=c", "Köln"], "string"),
        (["m=a=b"], ["a=b"], "string"),
        (["other", "m=1"], [None, 1], "int64"),
    ],
)
def test_cells_of_folders(
    tmp_path: Path, write: Any, folders: list[str], cells: list[Any], kind: str
) -> None:
    """They are whole numbers if all are written as such, and text as it is written if not."""
    tree(tmp_path, write, folders)
    source = open_source([tmp_path / folder for folder in folders]).settled(())
    assert str(source.schema.field("m").type) == kind
    assert [row["m"] for row in read(source)[::2]] == cells
    text = open_source([tmp_path / folder for folder in folders]).settled({"m"})
    assert str(text.schema.field("m").type) == "string"
    assert [row["m"] for row in read(text)[::2]] == [
        None if cell is None else str(cell) for cell in cells
    ]


@WRITERS
def test_a_column_that_files_have_themselves(tmp_path: Path, write: Any) -> None:
    """What is in the file counts, and a note says so."""
    (tmp_path / "m=1").mkdir()
    write(pd.DataFrame({"uid": ["a"], "m": ["x"]}), tmp_path / "m=1" / "part")
    source = open_source(tmp_path)
    assert read(source.settled(())) == [{"uid": "a", "m": "x"}]
    (note,) = source.notes
    assert note.startswith("The names of folders also have 'm', which the files have themselves.")


def test_folders_in_an_archive(tmp_path: Path) -> None:
    """They are columns, too."""
    path = tmp_path / "x.zip"
    path.write_bytes(zipped({"year=2024/a.csv": b"uid\na\n", "year=2023/a.csv": b"uid\nb\n"}))
    assert read(open_source(path)) == [{"uid": "b", "year": 2023}, {"uid": "a", "year": 2024}]


@WRITERS
def test_partitions_are_planned_sent_and_resumed(tmp_path: Path, write: Any) -> None:
    """The columns are sent as properties, and a plan notices changes; a journal keeps types."""
    tree(tmp_path / "t", write, ["year=2023", "year=2024"])
    with cdp.sandbox() as box:
        options: dict[str, Any] = {"destination": box.destination, "progress": False}
        plan = cdp.plan(tmp_path / "t", OPENED, destination=box.destination)
        assert plan.counts["to_send"] == 4
        assert "'year'" in " ".join(plan.notes)
        report = plan.send(progress=False, journal=tmp_path / "j")
        assert report.counts["delivered"] == 4
        assert sorted(row["year"] for row in box.events()["properties"]) == [2023] * 2 + [2024] * 2
        again = cdp.resume(tmp_path / "j", processes=2, **options)
        assert (again.delivered_before, again.counts["delivered"]) == (4, 4)
        tree(tmp_path / "t", write, ["year=unknown"])
        with pytest.raises(SourceError, match="has changed since the plan"):
            plan.send(progress=False, journal=False)
        more = cdp.resume(tmp_path / "j", **options)
        assert (more.delivered_before, more.counts["delivered"]) == (4, 6)
        assert box.events()["messageId"].nunique() == 6
        assert {row["year"] for row in box.events()["properties"]} == {2023, 2024, "unknown"}


@WRITERS
@pytest.mark.parametrize("folder", ["year=2025", "year=unknown", "year=007", f"year={NO_CELL}"])
def test_rows_keep_their_ids_beside_other_folders(tmp_path: Path, write: Any, folder: str) -> None:
    """Under the mapping of a plan, a file has the same messages whatever folders come later."""
    tree(tmp_path / "t", write, ["year=2023", "year=2024"])
    mapping = cdp.plan(tmp_path / "t", OPENED).mapping
    before = messages(tmp_path / "t", 9, mapping)
    tree(tmp_path / "t", write, [folder])
    after = messages(tmp_path / "t", 9, mapping)
    assert len(after) == 6
    assert [row for row in after if row in before] == before
    alone = messages(tmp_path / "t" / folder, 9, mapping)
    assert [row for row in after if row not in before] == alone


def lake_table(root: Path, kind: str) -> Path:
    """A table of one of the three, with one file that belongs to it no more."""
    root.mkdir(parents=True)
    table = pa.table({"uid": ["a"], "ts": [TIME]})
    files = root / "data" if kind == "Iceberg" else root
    for number in range(2):
        folder = files / "day=1"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / f"part-{number}.parquet")
    if kind == "Delta":
        log = [{"add": {"path": f"day=1/part-{n}.parquet"}} for n in range(2)]
        log.append({"remove": {"path": "day=1/part-0.parquet"}})
        (root / "_delta_log").mkdir()
        (root / "_delta_log" / f"{0:020}.json").write_text("\n".join(map(json.dumps, log)))
    elif kind == "Iceberg":
        (root / "metadata").mkdir()
        for name in ("00000-5f1c.metadata.json", "00010-7a.metadata.json", "00009-b.metadata.json"):
            (root / "metadata" / name).write_text("{}")
        (root / "metadata" / "snap-1.avro").write_bytes(b"Obj\x01")
    else:
        (root / ".hoodie").mkdir()
        (root / ".hoodie" / "hoodie.properties").write_text("hoodie.table.name=t\n")
    return root


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("Delta", r"""table = duckdb\.sql\("FROM delta_scan\('file://.*/t'\)"\), then cdp\.send"""),
        ("Iceberg", r"iceberg_scan\('.*/t/metadata/00010-7a\.metadata\.json', allow_moved"),
        ("Hudi", r"""spark\.read\.format\("hudi"\)\.load\('.*/t'\)"""),
    ],
)
def test_lake_tables_are_refused(
    tmp_path: Path, kind: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However their files are named: some of them are no longer part of the table."""
    root = lake_table(tmp_path / "lake" / "t", kind)
    files = sorted(root.rglob("*.parquet"))
    inner = files[0].parent
    monkeypatch.chdir(root)
    for given in (
        root,
        tmp_path / "lake",
        inner,
        str(inner / "*.parquet"),
        str(root / "**" / "*.parquet"),
        files,
        files[0],
        f"file://{root}",
        ".",
        str(files[1].relative_to(root)),
    ):
        with pytest.raises(SourceError, match=f"is a table of {kind}.*{words}"):
            open_source(given)
    path = tmp_path / "x.zip"
    members = {
        f"t/{each.relative_to(root).as_posix()}": each.read_bytes()
        for each in root.rglob("*")
        if each.is_file()
    }
    path.write_bytes(zipped(members))
    with pytest.raises(SourceError, match=f"is a table of {kind}"):
        open_source(path)


def test_folders_that_only_look_like_lake_tables(tmp_path: Path) -> None:
    """A folder of metadata without the files of Iceberg is any folder."""
    (tmp_path / "metadata").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("uid,n\na,1\n")
    (tmp_path / "metadata" / "notes.md").write_text("x")
    assert read(open_source(tmp_path)) == [{"uid": "a", "n": "1"}]

"""Input that is too wide, too deep, too many or without end costs one clear error, not the machine.

Limits are lowered, so that small inputs pass them.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import threading
import zipfile
from typing import TYPE_CHECKING, Any

import httpx
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.api import messages
from cdp_backfill.messages import json_cells
from cdp_backfill.messages.json_cells import TooWideError, to_arrays
from cdp_backfill.model.sparse import spread
from cdp_backfill.pipeline import plan_statistics
from cdp_backfill.sources import chunks, open_source, paths
from tests.rows import OPENED, opens

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TS = "2023-05-01T10:00:00Z"


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    """An NDJSON file."""
    path.write_text("".join(json.dumps({"uid": "u", "ts": TS} | row) + "\n" for row in rows))
    return path


def ndjson(folder: Path) -> Any:
    """A file of objects, each with a key of its own."""
    return lines(folder / "a.ndjson", *({f"k{n}": n} for n in range(20)))


def csv(folder: Path) -> Any:
    """A wide CSV file."""
    path = folder / "a.csv"
    path.write_text("uid,ts," + ",".join(f"k{n}" for n in range(20)) + f"\nu,{TS}" + ",1" * 20)
    return path


def same_name_csv(folder: Path) -> Any:
    """A CSV file whose columns have one name."""
    path = folder / "a.csv"
    path.write_text("uid,ts" + ",k" * 20 + f"\nu,{TS}" + ",1" * 20)
    return path


def parquet(folder: Path) -> Any:
    """A wide parquet file."""
    pq.write_table(table(folder), folder / "a.parquet")
    return folder / "a.parquet"


def table(_: Path) -> Any:
    """A wide Arrow table."""
    return pa.table({"uid": ["u"], "ts": [TS]} | {f"k{n}": [n] for n in range(20)})


def frame(folder: Path) -> Any:
    """A wide DataFrame."""
    return table(folder).to_pandas()


@pytest.mark.parametrize("make", [ndjson, csv, same_name_csv, parquet, table, frame])
def test_too_many_columns(
    make: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of any kind has a limit for its columns, such as keys that are ids."""
    source = make(tmp_path)
    assert cdp.plan(source, OPENED).to_send
    for name in ("chunks", "texts.objects", "texts.headers"):
        monkeypatch.setattr(f"cdp_backfill.sources.{name}.MAX_COLUMNS", 10)
    with pytest.raises(cdp.SourceError, match="more than 10 columns"):
        cdp.plan(source, OPENED)


def test_keys_of_few_rows_are_read_as_if_all_had_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects with keys of their own give the messages that each gives alone."""
    cells = [1, 2.5, "x", None, {"a": [1]}, [1, 2], True, 10**30, {}]
    rows = [{"uid": f"u{n}", f"k{n}": cells[n % len(cells)]} for n in range(60)]
    whole = messages(lines(tmp_path / "a.ndjson", *rows), 60, OPENED)
    alone = [
        messages(lines(tmp_path / f"{n}.ndjson", row), 1, OPENED)[0] for n, row in enumerate(rows)
    ]
    assert whole == alone
    monkeypatch.setattr("cdp_backfill.sources.texts.objects.MAX_CHUNK_CELLS", 128)
    assert max(batch.batch.num_rows for batch in chunks_of(tmp_path / "a.ndjson")) <= 3
    assert messages(tmp_path / "a.ndjson", 60, OPENED) == whole


def chunks_of(path: Path) -> list[Any]:
    """The batches that a JSON file is read in."""
    source: Any = open_source(path)
    return [chunks.Chunk(batch, 0) for batch in source._reader.batches(0, source.schema.names)]


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(-9, 9) | st.text("ab"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab", max_size=2), inner),
    max_leaves=6,
)


@settings(max_examples=15)
@given(st.lists(st.dictionaries(st.integers(0, 40).map(str), values, max_size=2), min_size=9))
def test_sparse_objects_are_read_as_dense_ones(cells: list[dict[str, Any]]) -> None:
    """Reading only what is there gives the same arrays as looking at every name of every object."""
    arrays = []
    with pytest.MonkeyPatch.context() as patch:
        for sparse in (10**9, 0):
            patch.setattr(json_cells, "_SPARSE", sparse)
            arrays.append(to_arrays(cells, None))
    (dense, mixed), (sparse_ones, mixed_too) = arrays
    assert mixed == mixed_too
    assert [array.type for array in dense] == [array.type for array in sparse_ones]
    assert all(map(pa.Array.equals, dense, sparse_ones))


def test_names_that_are_ids_make_small_chunks() -> None:
    """Where nearly all cells would be empty, far fewer rows are read at a time."""
    cells = [{f"k{n}": 1} for n in range(1_000)]
    to_arrays(cells, 20 * 2**20)
    with pytest.raises(TooWideError):
        to_arrays(cells, 10 * 2**20)
    dense = [{f"k{n}": 1 for n in range(100)}] * 100
    to_arrays(dense, 20_000)


@pytest.mark.parametrize("kind", [pa.int64(), pa.string(), pa.list_(pa.int8()), pa.json_()])
def test_spread(kind: Any) -> None:
    """Cells of any type get their places; all others are empty."""
    cells = [1, 2] if kind == pa.int64() else [[1], [2]] if pa.types.is_list(kind) else ["1", "2"]
    array = spread(pa.array(cells, kind), [0, 3], 5)
    assert array.type == kind
    assert array.to_pylist() == [cells[0], None, None, cells[1], None]
    assert spread(pa.array([], kind), [], 2).to_pylist() == [None, None]


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, a glob and an archive have a limit for their files."""
    for number in range(4):
        lines(tmp_path / f"{number}.json", {})
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for number in range(4):
            opened.writestr(f"{number}.json", f'{{"uid": "u", "ts": "{TS}"}}')
    monkeypatch.setattr(paths, "MAX_FILES", 3)
    for source in (tmp_path, str(tmp_path / "*.json"), archive):
        with pytest.raises(cdp.SourceError, match="up to 3"):
            cdp.plan(source, OPENED)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A pipe or a device would never end; in a folder or a glob, it is passed over."""
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    for name in ("pipe.json", "zero.json"):
        with pytest.raises(cdp.SourceError, match="a device, a pipe or a socket"):
            cdp.plan(tmp_path / name, OPENED)
    lines(tmp_path / "rows.json", {})
    assert cdp.plan(tmp_path, OPENED).rows == 1
    assert cdp.plan(str(tmp_path / "*.json"), OPENED).rows == 1


def nested(depth: int) -> Any:
    """Objects within each other."""
    cell: Any = 1
    for _ in range(depth):
        cell = {"a": cell}
    return cell


def test_deep_cells_of_a_frame(tmp_path: Path) -> None:
    """Objects that are nested without end cost one error, in every form of a table."""
    itself: dict[str, Any] = {}
    itself |= {"a": itself, "b": itself}
    for cell in (nested(500), itself, [[itself]]):
        with pytest.raises(cdp.SourceError, match="nested more than 64 levels deep"):
            cdp.plan(opens(1, p=[cell]), OPENED)
    assert cdp.plan(opens(1, p=[nested(40)]), OPENED).to_send == 1
    array = pa.array([1])
    for _ in range(100):
        array = pa.StructArray.from_arrays([array], ["a"])
    deep = pa.table({"uid": ["u"], "ts": [TS], "p": array})
    with pytest.raises(cdp.SourceError, match="nested more than 64 levels deep"):
        cdp.plan(deep, OPENED)
    for depth in (1_500, 100_000):
        (tmp_path / "a.ndjson").write_text(
            f'{{"uid":"u","ts":"{TS}","p":' + '{"a":' * depth + "1" + "}" * depth + "}\n"
        )
        with pytest.raises(cdp.SourceError, match="nested too deeply"):
            cdp.plan(tmp_path / "a.ndjson", OPENED)


def test_a_cell_that_repeats_does_not_multiply(tmp_path: Path) -> None:
    """A dictionary makes a long cell cheap in a parquet file; it is read in small batches."""
    size = 10_000
    cells = pa.DictionaryArray.from_arrays(pa.array([0] * size, pa.int8()), ["x" * 50_000])
    data = {"uid": ["u"] * size, "ts": [TS] * size, "a": cells}
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(data), path)
    assert path.stat().st_size < 10_000
    before = pa.default_memory_pool().bytes_allocated()
    most, rows = 0, 0
    for chunk in open_source(path).chunks(["uid", "a"]):
        most = max(most, pa.default_memory_pool().bytes_allocated() - before)
        rows += chunk.batch.num_rows
    assert rows == size
    assert most < 64_000_000  # 500 MB if it were read at once


def test_rows_that_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row group of a few huge rows is refused before it is unpacked; lists count, too."""
    monkeypatch.setattr("cdp_backfill.sources.columnar.MAX_ROW_BYTES", 100_000)
    path = tmp_path / "a.parquet"
    for cell in ("x" * 200_000, [0] * 200_000, [{"a": 0}] * 200_000):
        pq.write_table(pa.table({"uid": ["u"], "ts": [TS], "a": [cell]}), path)
        with pytest.raises(cdp.SourceError, match="more than 100,000 bytes"):
            cdp.plan(path, OPENED)
    pq.write_table(pa.table({"uid": ["u"], "ts": [TS], "a": [[0] * 10_000]}), path)
    assert cdp.plan(path, OPENED).rows == 1


def test_arrays_are_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array, alone or in an envelope, can be larger than what may be held."""
    rows = ",\n".join(json.dumps({"uid": f"u{n}", "ts": TS}) for n in range(200))
    monkeypatch.setattr("cdp_backfill.sources.texts.json_objects.MAX_OBJECT_BYTES", 4_000)
    monkeypatch.setattr("cdp_backfill.sources.unpacking.BLOCK_BYTES", 1_000)
    path = tmp_path / "a.json"
    path.write_text(f"[{rows}]")
    assert cdp.plan(path, OPENED).rows == 200


def test_many_event_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan counts a limited number of events each for itself, and all rows."""
    monkeypatch.setattr(plan_statistics, "MAX_EVENT_NAMES", 3)
    mapping = cdp.Mapping(user_id="uid", timestamp="ts", event="name", other_events="send")
    plan = cdp.plan(opens(20, name=[f"event {n % 10}" for n in range(20)]), mapping)
    assert sum(plan.events.values()) == plan.to_send == 20
    assert len(plan.events) == 4
    assert plan.events["other events"] == 14


def test_the_sandbox_bounds_what_it_reads() -> None:
    """A body that unpacks to much, or that is nested deeply, is refused, and the sandbox lives."""
    bomb = gzip.compress(b" " * 50_000_000)
    deep = b'{"batch":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    threads = threading.active_count()
    with cdp.sandbox() as box:
        assert box.destination.api_key
        url, auth = f"{box.destination.url}/batch", (box.destination.api_key.reveal(), "")
        packed = {"Content-Encoding": "gzip"}
        assert httpx.post(url, content=bomb, headers=packed, auth=auth).status_code == 413
        assert httpx.post(url, content=deep, auth=auth).status_code < 500
        assert cdp.send(opens(1), OPENED, destination=box.destination, progress=False).ok
    assert threading.active_count() <= threads + 1


def test_a_frame_of_huge_numbers() -> None:
    """Whole numbers of any length are read; none ends the run with Python's own error."""
    frame = opens(2, a=pd.Series([10**6_000, 1], dtype=object))
    plan = cdp.plan(frame, OPENED)
    assert (plan.to_send, plan.invalid) == (1, 1)

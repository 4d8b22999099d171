"""A long category takes its room once in a table, and in each row of a chunk when it is sent."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp_backfill.sources import open_source
from cdp_backfill.sources.chunks import CHUNK_BYTES, slices

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONG = 200_000


def parquet(table: pa.Table, folder: Path) -> Any:
    """A file whose column is read as a dictionary."""
    pq.write_table(table, folder / "a.parquet")
    return folder / "a.parquet"


def arrow(table: pa.Table, _: Path) -> Any:
    """A table in memory."""
    return table


def frame(table: pa.Table, _: Path) -> Any:
    """A frame with a categorical column."""
    return table.to_pandas()


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), pa.binary()])
@pytest.mark.parametrize(
    "make", [parquet, lambda table, _: table, lambda table, _: table.to_pandas()]
)
def test_chunks_are_small_with_their_categories_in_each_row(
    make: Callable[..., Any], kind: Any, tmp_path: Path
) -> None:
    """In files and frames: no chunk has more than 8 MB, and no row is lost."""
    if kind == pa.string_view() and make is parquet:
        pytest.skip("parquet has no views")
    indices = pa.array([None, *[0] * 99, *[1] * 400], pa.int32())
    values = pa.array(["x" * LONG, "y"]).cast(kind)
    table = pa.table({"n": range(500), "a": pa.DictionaryArray.from_arrays(indices, values)})
    found = []
    for chunk in open_source(make(table, tmp_path)).chunks(["n", "a"]):
        cells = chunk.batch.column("a")
        cells = cells.dictionary_decode() if pa.types.is_dictionary(cells.type) else cells
        assert cells.nbytes <= CHUNK_BYTES + LONG
        found += chunk.batch.column("n").to_pylist()
    assert found == list(range(500))


@given(st.lists(st.sampled_from([None, 0, 1, 2]), min_size=1, max_size=60))
def test_slices_are_as_long_as_fits(places: list[int | None]) -> None:
    """Each slice fits, or has one row; with the next row it would not fit; order is kept."""
    sizes = [CHUNK_BYTES + 1, CHUNK_BYTES // 3, 0]
    values = pa.array([b"x" * size for size in sizes])
    array = pa.DictionaryArray.from_arrays(pa.array(places, pa.int8()), values)
    parts = [part.column(0) for _, part in slices(pa.RecordBatch.from_arrays([array], ["a"]))]
    ends = [0]
    for part in parts:
        ends.append(ends[-1] + len(part))
    assert ends[-1] == len(places)
    own = [0 if place is None else sizes[place] for place in places]
    for first, last in pairwise(ends):
        assert last == first + 1 or sum(own[first:last]) <= CHUNK_BYTES
        assert last == len(places) or sum(own[first : last + 1]) > CHUNK_BYTES


def test_usual_categories_make_no_more_chunks() -> None:
    """Short categories leave a chunk as it is."""
    frame = pd.DataFrame({"a": pd.Categorical(["Berlin", "Lyon"] * 8_192)})
    assert len(list(open_source(frame).chunks(["a"]))) == 1

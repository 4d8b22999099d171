"""Types that are nested deeply or have many fields, and batches that unpack to gigabytes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import feather, orc

from cdp_backfill.errors import SourceError
from cdp_backfill.model.arrow_types import MAX_DEPTH
from cdp_backfill.sources import batch_sizes, depths, open_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FITTING = MAX_DEPTH - 2
"""Objects one inside the other: the row is around them, and a number inside."""


def deep(levels: int, step: str) -> Any:
    """A cell of a type with so many objects or lists one inside the other."""
    array = pa.array([1])
    for _ in range(levels):
        array = (
            pa.StructArray.from_arrays([array], ["a"])
            if step == "object"
            else pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), array)
        )
    return array


def in_pandas(table: Any, _: Path) -> Any:
    """The table in this form."""
    return table.to_pandas(types_mapper=pd.ArrowDtype)


def in_objects(table: Any, _: Path) -> Any:
    """The table in this form."""
    return pd.DataFrame({"p": pd.Series(table["p"].to_pylist(), dtype=object)})


def in_polars(table: Any, _: Path) -> Any:
    """The table in this form."""
    return pl.DataFrame({"p": table["p"].to_pylist()})


def in_orc(table: Any, folder: Path) -> Any:
    """The table in this form."""
    orc.write_table(table, str(folder / "a.orc"))
    return folder / "a.orc"


def in_parquet(table: Any, folder: Path) -> Any:
    """The table in this form."""
    pq.write_table(table, folder / "a.parquet")
    return folder / "a.parquet"


def in_memory(table: Any, _: Path) -> Any:
    """The table in this form."""
    return table


def in_arrow(table: Any, folder: Path) -> Any:
    """The table in this form."""
    with pa.ipc.new_stream(folder / "a.arrows", table.schema) as writer:
        writer.write_table(table)
    return folder / "a.arrows"


EVERY = [in_pandas, in_objects, in_polars, in_orc, in_parquet, in_memory]


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("levels", [FITTING + 1, 200])
def test_deep_types_are_refused(
    kind: Callable[[Any, Path], Any], levels: int, tmp_path: Path
) -> None:
    """Whatever holds them, one error says so; none is a crash or a RecursionError."""
    for step in ("object", "list"):
        table = kind(pa.table({"p": deep(levels, step)}), tmp_path)
        with pytest.raises(SourceError, match="nested"):
            open_source(table)


@pytest.mark.parametrize("kind", [*EVERY, in_arrow])
def test_types_within_the_limit_are_read(kind: Callable[[Any, Path], Any], tmp_path: Path) -> None:
    """The deepest type that is allowed comes through."""
    table = kind(pa.table({"p": deep(FITTING, "object")}), tmp_path)
    (chunk,) = open_source(table).chunks(["p"])
    assert chunk.batch.num_rows == 1


def test_every_kind_of_type_counts() -> None:
    """Maps, dictionaries, runs, views and extensions are counted, inside and out."""
    inner = deep(FITTING, "list").type
    for kind in (
        pa.map_(pa.string(), inner),
        pa.struct([("b", pa.int8()), ("a", inner)]),
        pa.list_view(inner),
        pa.list_(inner, 2),
        pa.large_list(inner),
        pa.run_end_encoded(pa.int32(), inner),
    ):
        depths.check_depths(pa.schema([("p", inner)]))
        with pytest.raises(depths.DepthError, match="column 'p' is nested"):
            depths.check_depths(pa.schema([("p", kind)]))


def test_many_fields_inside_objects_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A type with very many fields is refused before anything is made of them."""
    monkeypatch.setattr(depths, "MAX_FIELDS", 1_000)
    wide = pa.struct([(f"f{number}", pa.int8()) for number in range(99)])
    fields = [(f"p{number}", wide) for number in range(11)]
    depths.check_depths(pa.schema(fields[:10]))
    with pytest.raises(SourceError, match="more than 1,000 fields"):
        open_source(pa.schema(fields).empty_table())


def written(folder: Path, kind: str, compression: str | None, table: Any) -> Path:
    """An Arrow file with this table as one batch."""
    options = pa.ipc.IpcWriteOptions(compression=compression)
    make = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with (
        pa.OSFile(str(folder / "a.arrow"), "wb") as out,
        make(out, table.schema, options=options) as writer,
    ):
        writer.write_table(table)
    return folder / "a.arrow"


@pytest.mark.parametrize("kind", ["file", "stream"])
@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("column", ["text", "dictionary"])
def test_compressed_batches_are_bounded(
    kind: str, compression: str, column: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that unpacks to too much is refused by its metadata; one at the limit is read."""
    monkeypatch.setattr(batch_sizes, "MAX_BATCH_BYTES", 200_000)
    text = pa.array(["x" * 1_000] * 300)
    if column == "dictionary":
        text = pa.DictionaryArray.from_arrays(pa.array([0, 1]), ["x" * 150_000, "y" * 150_000])
    table = pa.table({"a": text})
    path = written(tmp_path, kind, compression, table)
    with pytest.raises(SourceError, match=r"unpacks to more than 200,000 bytes\. Write it"):
        open_source(path)
    monkeypatch.setattr(batch_sizes, "MAX_BATCH_BYTES", 320_000)
    assert open_source(path).rows == table.num_rows
    monkeypatch.setattr(batch_sizes, "MAX_BATCH_BYTES", 100)
    path = written(tmp_path, kind, None, table)  # it is mapped, and unpacks to nothing
    assert open_source(path).rows == table.num_rows


def test_feather_files_are_read_as_before(tmp_path: Path) -> None:
    """Both versions of the metadata's prefix, several batches, and empty buffers."""
    table = pa.table({"a": [1, None, 3] * 50, "b": ["x", None, ""] * 50, "c": pa.nulls(150)})
    for compression in ("zstd", "lz4", "uncompressed"):
        feather.write_feather(table, tmp_path / "a.feather", compression=compression, chunksize=40)
        assert open_source(tmp_path / "a.feather").rows == 150
    options = pa.ipc.IpcWriteOptions(compression="zstd", use_legacy_format=True)
    with (
        pa.OSFile(str(tmp_path / "b.arrow"), "wb") as out,
        pa.ipc.new_file(out, table.schema, options=options) as writer,
    ):
        writer.write_table(table)
    assert open_source(tmp_path / "b.arrow").rows == 150


@given(st.integers(min_value=0), st.integers(0, 255), st.sampled_from(["file", "stream"]))
def test_damaged_metadata_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int, kind: str
) -> None:
    """Any byte may be wrong: the check ends with Arrow's error, or with none."""
    folder = tmp_path_factory.getbasetemp()
    path = written(folder, kind, "zstd", pa.table({"a": ["x" * 50] * 9, "b": list(range(9))}))
    data = bytearray(path.read_bytes())
    data[place % len(data)] = byte
    check = batch_sizes.check_file if kind == "file" else batch_sizes.check_stream
    with suppress(pa.ArrowInvalid):
        check(pa.BufferReader(bytes(data)))

"""Inputs that are too large, too wide, too deep, too many or without end, at any scale.

``benchmarks/hostile.py`` reads them at full size, and the tests at a small one.
"""

from __future__ import annotations

import gzip
import json
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import orc

import cdp_backfill as cdp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    Make = Callable[[Path, float], Path]

_MB: Final = 1_000_000
_TS: Final = "2023-05-01T10:00:00Z"
_HEAD: Final = b"uid,ts,a\n"
_LINE: Final = f"u1,{_TS},{'x' * 60}\n".encode()
_OBJECT: Final = f'{{"uid":"u1","ts":"{_TS}","a":"{"x" * 60}"}}'.encode()
MAPPING: Final[dict[str, Any]] = {
    "user_id": "uid",
    "timestamp": "ts",
    "event": cdp.lit("Application Opened"),
}
"""The fields of a mapping that all of these tables have."""


@dataclass(frozen=True)
class Case:
    """An input.

    Attributes:
        make: Writes it to a folder, at a scale from 0.0 to 1.0, and returns its path.
        options: Keywords of the plan.
    """

    make: Make
    options: dict[str, Any] = field(default_factory=lambda: MAPPING)


CASES: Final[dict[str, Case]] = {}


def _case(**options: Any) -> Callable[[Make], Make]:
    def keep(make: Make) -> Make:
        CASES[make.__name__] = Case(make, MAPPING | options)
        return make

    return keep


def _proposed(make: Make) -> Make:
    CASES[make.__name__] = Case(make, {})
    return make


def _count(full: int, scale: float, least: int = 2) -> int:
    return max(least, int(full * scale))


def _write(path: Path, parts: Iterable[bytes], packed: str | None = None) -> Path:
    with pa.CompressedOutputStream(str(path), packed) if packed else path.open("wb") as out:
        for part in parts:
            out.write(part)
    return path


def _repeated(part: bytes, size: int) -> Iterable[bytes]:
    block = part * max(1, min(size, _MB) // len(part))
    return (block for _ in range(max(1, size // len(block))))


def _rows(path: Path, count: int, more: Callable[[int], str]) -> Path:
    lines = (f'{{"uid":"u{n}","ts":"{_TS}",{more(n)}}}\n'.encode() for n in range(count))
    return _write(path, lines)


def _table(rows: int, **columns: Any) -> pa.Table:
    return pa.table({"uid": ["u1"] * rows, "ts": [_TS] * rows} | columns)


def _zeros(count: int) -> pa.Array:
    return pa.Array.from_buffers(pa.int32(), count, [None, pa.py_buffer(bytes(4 * count))])


def _parquet(path: Path, table: pa.Table, **options: Any) -> Path:
    pq.write_table(table, path, **options)
    return path


# ---- large, and plain ------------------------------------------------------------------------
@_case()
def json_array_of_1_gb(folder: Path, scale: float) -> Path:
    """An array of JSON objects."""
    rows = _repeated(_OBJECT + b",\n", _count(1_000 * _MB, scale))
    return _write(folder / "a.json", [b"[", *rows, _OBJECT, b"]"])


@_case()
def csv_of_14_mb(folder: Path, scale: float) -> Path:
    """A plain table, to compare the others with."""
    lines = (f"u{n},{_TS},{n * 7919 % 999_983}\n".encode() for n in range(_count(400_000, scale)))
    return _write(folder / "a.csv", [_HEAD, *lines])


# ---- many columns, keys, files, categories, row groups ---------------------------------------
@_case()
def keys_300_000(folder: Path, scale: float) -> Path:
    """JSON objects with a key of their own each."""
    return _rows(folder / "a.ndjson", _count(300_000, scale), lambda n: f'"k{n}":1')


@_case()
def keys_300_000_inside(folder: Path, scale: float) -> Path:
    """The same keys inside an object."""
    return _rows(folder / "a.ndjson", _count(300_000, scale), lambda n: f'"p":{{"k{n}":1}}')


def _wide(path: Path, columns: int, rows: int, cell: str) -> Path:
    head = ",".join(f"c{n}" for n in range(columns))
    line = ",".join(f"{cell}{n * 7919 % 999_983}" for n in range(columns))
    lines = (f"u{n},{_TS},{line}\n".encode() for n in range(rows))
    return _write(path, [f"uid,ts,{head}\n".encode(), *lines])


@_case()
def columns_100_000(folder: Path, scale: float) -> Path:
    """A CSV file of very many columns."""
    return _wide(folder / "a.csv", _count(100_000, scale), 20, "")


@_case()
def columns_10_000_of_numbers(folder: Path, scale: float) -> Path:
    """Few rows of many columns."""
    return _wide(folder / "a.csv", _count(10_000, scale), 60, "")


@_proposed
def columns_10_000_of_text(folder: Path, scale: float) -> Path:
    """The same with text, without a mapping."""
    return _wide(folder / "a.csv", _count(10_000, scale), 60, "x")


@_case()
def column_name_of_1_mb(folder: Path, scale: float) -> Path:
    """A name of a column that many short words may be read in."""
    name = "osid" * _count(250_000, scale)
    return _parquet(folder / "a.parquet", _table(3, **{name: [1, 2, 3]}))


@_case()
def zip_of_200_000_files(folder: Path, scale: float) -> Path:
    """An archive of many small files."""
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for n in range(_count(200_000, scale)):
            archive.writestr(f"d{n}.json", _OBJECT)
    return folder / "a.zip"


@_case()
def categories_400_000(folder: Path, scale: float) -> Path:
    """A dictionary with an entry for each row."""
    count = _count(400_000, scale)
    words = pa.array([f"category {n}" for n in range(count)]).dictionary_encode()
    return _parquet(folder / "a.parquet", _table(count, a=words))


@_case()
def row_groups_200_000(folder: Path, scale: float) -> Path:
    """A parquet file of row groups with one row each."""
    table = _table(1)
    with pq.ParquetWriter(folder / "a.parquet", table.schema) as writer:
        for _ in range(_count(200_000, scale)):
            writer.write_table(table)
    return folder / "a.parquet"


# ---- deep ------------------------------------------------------------------------------------
@_case()
def nested_1_000_000_in_json(folder: Path, scale: float) -> Path:
    """Lists one inside the other, as a member of an object."""
    depth = _count(1_000_000, scale, 100)
    return _rows(folder / "a.ndjson", 3, lambda _: f'"p":{"[" * depth}{"]" * depth}')


@_case(json=["p"])
def nested_1_000_000_in_json_text(folder: Path, scale: float) -> Path:
    """Objects one inside the other, in a text that is read as JSON."""
    depth = _count(1_000_000, scale, 100)
    text = json.dumps('{"a":' * depth + "1" + "}" * depth)
    return _rows(folder / "a.ndjson", 3, lambda _: f'"p":{text}')


@_case()
def nested_2_000_in_orc(folder: Path, scale: float) -> Path:
    """Lists one inside the other, as the type of a column of an ORC file."""
    array = pa.array([1])
    for _ in range(_count(2_000, scale, 100)):
        array = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), array)
    orc.write_table(_table(1, p=array), str(folder / "a.orc"), compression="zstd")
    return folder / "a.orc"


# ---- small files that unpack to gigabytes ----------------------------------------------------
def _endless(size: int) -> Iterable[bytes]:
    return [_HEAD, f"u1,{_TS},".encode(), *_repeated(b"a", size)]


@_case()
def gzip_of_one_line_of_4_gb(folder: Path, scale: float) -> Path:
    """A packed line that never ends."""
    with gzip.open(folder / "a.csv.gz", "wb", 1) as out:
        out.writelines(_endless(_count(4_000 * _MB, scale)))
    return folder / "a.csv.gz"


@_case()
def zstd_of_one_line_of_4_gb(folder: Path, scale: float) -> Path:
    """The same in 400 KB."""
    return _write(folder / "a.csv.zst", _endless(_count(4_000 * _MB, scale)), "zstd")


@_case()
def zstd_of_a_json_text_of_4_gb(folder: Path, scale: float) -> Path:
    """A packed JSON text that never ends."""
    parts = [_OBJECT + b"\n", b'{"uid":"', *_repeated(b"a", _count(4_000 * _MB, scale))]
    return _write(folder / "a.ndjson.zst", parts, "zstd")


@_case()
def parquet_of_one_cell_repeated(folder: Path, scale: float) -> Path:
    """A long cell that takes its room once in the file, and in each row when it is read."""
    count = _count(100_000, scale)
    cells = pa.DictionaryArray.from_arrays(_zeros(count), ["x" * 200_000])
    return _parquet(folder / "a.parquet", _table(count, a=cells), row_group_size=count)


@_case()
def parquet_of_one_cell_of_1_gb(folder: Path, scale: float) -> Path:
    """A cell that is larger than a row may be."""
    table = _table(1, a=["x" * _count(1_000 * _MB, scale)])
    return _parquet(folder / "a.parquet", table, compression="zstd", use_dictionary=False)


@_case()
def parquet_of_one_list_of_200_million(folder: Path, scale: float) -> Path:
    """A list of equal numbers, which take no room in the file."""
    items = _zeros(_count(200_000_000, scale))
    array = pa.ListArray.from_arrays(pa.array([0, len(items)], pa.int32()), items)
    return _parquet(folder / "a.parquet", _table(1, a=array), compression="zstd")


@_case()
def arrow_batch_of_2_gb(folder: Path, scale: float) -> Path:
    """A compressed record batch, which is held as a whole."""
    text = "x" * _count(600 * _MB, scale)
    table = _table(3, a=[text] * 3)
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with (
        pa.OSFile(str(folder / "a.arrow"), "wb") as out,
        pa.ipc.new_file(out, table.schema, options=options) as writer,
    ):
        writer.write_table(table)
    return folder / "a.arrow"


# ---- without end -----------------------------------------------------------------------------
@_case()
def csv_line_of_1_gb(folder: Path, scale: float) -> Path:
    """A line without a break."""
    return _write(folder / "a.csv", _endless(_count(1_000 * _MB, scale)))


@_case()
def csv_quote_never_closed(folder: Path, scale: float) -> Path:
    """A quote that takes in all lines below it."""
    rest = _repeated(_LINE, _count(1_000 * _MB, scale))
    return _write(folder / "a.csv", [_HEAD, _LINE * 9, b'u1,"', *rest])


@_case()
def ndjson_line_of_1_gb(folder: Path, scale: float) -> Path:
    """An object without an end."""
    rest = _repeated(b"a", _count(1_000 * _MB, scale))
    return _write(folder / "a.ndjson", [_OBJECT + b"\n", b'{"uid":"u1","a":"', *rest])


# ---- large cells, lies, expressions ----------------------------------------------------------
@_case()
def cell_of_30_kb_in_each_row(folder: Path, scale: float) -> Path:
    """Messages just within their limit."""
    cell = "x" * 30_000
    return _rows(folder / "a.ndjson", _count(20_000, scale), lambda _: f'"a":"{cell}"')


@_case()
def parquet_that_lies_about_its_rows(folder: Path, scale: float) -> Path:
    """A footer in which the number of rows is another one than that of its row groups."""
    count = _count(1_000_000, scale, 70)
    path = _parquet(folder / "a.parquet", _table(count), row_group_size=count)
    data = path.read_bytes()
    number = _zigzag(count)
    place = data.rindex(number)
    path.write_bytes(data[:place] + _zigzag(count - 3) + data[place + len(number) :])
    return path


def _zigzag(number: int) -> bytes:
    """A number as the footer of a parquet file has it."""
    number, parts = number * 2, []
    while number > 127:  # noqa: PLR2004
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


@_case(derive={"d": "array_to_string(list_transform(string_split(a, ''), lambda x: a), '')"})
def derive_of_a_cell_for_each_letter(folder: Path, scale: float) -> Path:
    """An expression that makes 40 GB of a cell of 200 KB."""
    cell = "x" * _count(200_000, scale)
    return _rows(folder / "a.ndjson", 3, lambda _: f'"a":"{cell}"')

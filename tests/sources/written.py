"""Writes the same rows in each format and compression, by other libraries where there are any."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import polars as pl
import pyarrow as pa
from pyarrow import orc

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS: Final = [
    {"uid": f"00{number}", "text": f'é, "{number}";\t|', "plan": ["pro", "free"][number % 2]}
    for number in range(7)
]
"""Rows of text with all that separates and quotes cells."""


def _delimited(delimiter: str, end: str = "\n") -> Callable[[], bytes]:
    def write() -> bytes:
        sink = io.StringIO()
        writer = csv.DictWriter(sink, list(ROWS[0]), delimiter=delimiter, lineterminator=end)
        writer.writeheader()
        writer.writerows(ROWS)
        return sink.getvalue().encode()

    return write


def _with(write: Callable[[Any], Any]) -> Callable[[], bytes]:
    def written() -> bytes:
        sink = io.BytesIO()
        write(sink)
        return sink.getvalue()

    return written


def _arrow_stream(sink: Any) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)


def _polars(write: str) -> Callable[[], bytes]:
    return _with(getattr(pl.DataFrame(ROWS), write))


def _json(text: str) -> Callable[[], bytes]:
    return text.encode


FORMATS: Final[dict[str, Callable[[], bytes]]] = {
    "csv": _delimited(","),
    "csv of Windows": _delimited(",", "\r\n"),
    "tsv": _delimited("\t"),
    "semicolons": _delimited(";"),
    "pipes": _delimited("|"),
    "hive": _delimited("\x01"),
    "csv in UTF-16": lambda: _delimited(",")().decode().encode("utf-16"),
    "csv in UTF-16 without a mark": lambda: _delimited(";")().decode().encode("utf-16-be"),
    "csv with a mark": lambda: b"\xef\xbb\xbf" + _delimited(",")(),
    "ndjson": _json("\n".join(map(json.dumps, ROWS))),
    "json array": _json(json.dumps(ROWS, ensure_ascii=False)),
    "json array, indented": _json(json.dumps(ROWS, indent=2)),
    "json, one after another": _json("".join(json.dumps(row) for row in ROWS)),
    "json, one after another, indented": _json(
        "\n".join(json.dumps(row, indent=1) for row in ROWS)
    ),
    "parquet": _with(lambda sink: pd.DataFrame(ROWS).to_parquet(sink)),
    "parquet of polars": _polars("write_parquet"),
    "feather": _with(lambda sink: pd.DataFrame(ROWS).to_feather(sink)),
    "arrow of polars": _polars("write_ipc"),
    "arrow stream": _with(_arrow_stream),
    "orc": _with(lambda sink: orc.write_table(pa.Table.from_pylist(ROWS), sink)),
}

BINARY: Final = {
    "parquet",
    "parquet of polars",
    "feather",
    "arrow of polars",
    "arrow stream",
    "orc",
}


def _arrow_codec(name: str) -> Callable[[bytes], bytes]:
    def compress(content: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, name) as stream:
            stream.write(content)
        return bytes(sink.getvalue())

    return compress


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of these files."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return sink.getvalue()


COMPRESSIONS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "none": bytes,
    "gz": gzip.compress,
    "gz in two parts": lambda content: gzip.compress(content[:9]) + gzip.compress(content[9:]),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "xz in two parts": lambda content: lzma.compress(content[:9]) + lzma.compress(content[9:]),
    "zst": _arrow_codec("zstd"),
    "lz4": _arrow_codec("lz4"),
    "gz of gz": lambda content: gzip.compress(gzip.compress(content)),
    "gz of xz": lambda content: gzip.compress(lzma.compress(content)),
    "zip": lambda content: zipped({"inner": content}),
    "zip of gz": lambda content: zipped({"a/b/inner.csv.gz": gzip.compress(content)}),
}

NAMES: Final = [
    "part-00000", "1684567.gz", "x.csv", "x.tsv", "x.txt", "x.log", "x.tab", "x.psv", "x.dat",
    "x.out", "x.json", "x.ldjson", "x.jsonl.gz", "x.parquet", "x.feather", "x.orc", "x.zip",
    "x.csv.zip", "x.xlsx", "part-0.snappy.parquet", "x", "événements de mai", "a.b.c", "x.md",
]  # fmt: skip

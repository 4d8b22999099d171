"""The standard table: what the figures of whole runs are measured on, in every format."""

from __future__ import annotations

import gzip
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import arro3.io
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

import cdp_backfill as cdp

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES: Final = ("parquet", "csv", "ndjson", "ndjson.gz", "json")
"""The formats of files of the table, by the end of their names."""

MAPPING: Final = cdp.Mapping(
    user_id="user",
    event="event",
    timestamp="at",
    context={
        "app": {"version": "app_version"},
        "device": {"model": "phone"},
        "os": {"name": "os", "version": "os_version"},
        "locale": "locale",
    },
    types={
        "build": "int64",
        "seconds": "double",
        "level": "int64",
        "paid": "bool",
        "price": "double",
    },
)
"""The mapping of the table; ``build`` and what follows it become properties."""

_GROUP: Final = 50_000
_FIRST: Final = 1_609_459_200_000_000  # 2021-01-01, in microseconds
_SPAN: Final = 3 * 365 * 86_400_000_000
_EVENTS: Final = ["Application Opened", "Application Updated", "Application Crashed"]
_PHONES: Final = ["Pixel 8", "Galaxy S23", "iPhone 13", "iPhone 15 Pro"]
_SYSTEMS: Final = ["Android", "Android", "iOS", "iOS"]
_VERSIONS: Final = ["1.9.4", "2.0.0", "2.1.3", "3.0.0"]
_LOCALES: Final = ["de-CH", "pt-BR", "ja-JP", "ar-EG"]
_CITIES: Final = ["Zürich", "São Paulo", "東京", "القاهرة", "Oslo", "Lyon"]


def batches(rows: int, *, seed: int = 7) -> Iterator[Any]:
    """Rows of 14 columns: text, two floats, two integers, a boolean, a time, nulls and non-ASCII.

    Args:
        rows: Number of rows.
        seed: Any whole number.

    Yields:
        Arrow record batches of up to 50,000 rows.
    """
    for start in range(0, rows, _GROUP):
        size = min(_GROUP, rows - start)
        yield _batch(start, size, np.random.default_rng([seed, start]))


def _batch(start: int, size: int, rng: Any) -> Any:
    phone = rng.integers(0, len(_PHONES), size)
    nothing = rng.random((3, size)) < np.array([[0.1], [0.3], [0.2]])
    times = _FIRST + np.sort(rng.integers(0, _SPAN, size))
    numbers = pc.binary_join_element_wise(
        "u", pa.array(rng.integers(0, 400_000, size)).cast(pa.string()), ""
    )
    return pa.RecordBatch.from_pydict(
        {
            "user": numbers,
            "event": pa.array(np.array(_EVENTS)[rng.integers(0, len(_EVENTS), size)]),
            "at": pa.array(times, pa.timestamp("us", "UTC")),
            "app_version": pa.array(np.array(_VERSIONS)[rng.integers(0, len(_VERSIONS), size)]),
            "phone": pa.array(np.array(_PHONES)[phone]),
            "os": pa.array(np.array(_SYSTEMS)[phone]),
            "os_version": pa.array(rng.integers(9, 18, size).astype(str)),
            "locale": pa.array(np.array(_LOCALES)[rng.integers(0, len(_LOCALES), size)]),
            "build": pa.array(start + np.arange(size)),
            "seconds": pa.array(rng.exponential(90, size).round(3)),
            "level": pa.array(rng.integers(1, 80, size), mask=nothing[0]),
            "paid": pa.array(rng.integers(0, 2, size).astype(bool)),
            "price": pa.array(rng.integers(1, 20_000, size) / 100, mask=nothing[1]),
            "city": pa.array(np.array(_CITIES)[rng.integers(0, 6, size)], mask=nothing[2]),
        }
    )


@contextmanager
def standard_files(rows: int) -> Iterator[dict[str, Path]]:
    """A file of the table in each of :data:`FILES`, by its format.

    Args:
        rows: Number of rows.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"standard.{name}" for name in FILES}
        schema = next(batches(1)).schema
        with (
            pq.ParquetWriter(paths["parquet"], schema) as parquet,
            csv.CSVWriter(paths["csv"], schema) as table,
            paths["ndjson"].open("wb") as lines,
        ):
            for batch in batches(rows):
                parquet.write_batch(batch)
                table.write_batch(batch)
                arro3.io.write_ndjson(batch, lines)
        with paths["ndjson"].open("rb") as plain, gzip.open(paths["ndjson.gz"], "wb", 1) as packed:
            shutil.copyfileobj(plain, packed)
        with paths["ndjson"].open("rb") as plain, paths["json"].open("wb") as array:
            array.writelines((b"," if number else b"[") + line for number, line in enumerate(plain))
            array.write(b"]")
        yield paths

"""Failures of every Arrow type can be read, saved and sent again."""

from __future__ import annotations

import errno
import json
import os
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.results import reports
from tests.rows import OPENED

if TYPE_CHECKING:
    from pathlib import Path

FAR = 2**62
STRUCT = pa.struct([("a", pa.int64())])


def _extension(storage: Any, kind: Any = None) -> Any:
    return pa.ExtensionArray.from_storage(kind or pa.json_(storage.type), storage)


def _run_ends(values: Any) -> Any:
    return pa.RunEndEncodedArray.from_arrays(pa.array([1, 3], pa.int32()), values)


COLUMNS: dict[str, Any] = {
    "null": pa.nulls(3),
    "bool": pa.array([True, None, False]),
    "int8": pa.array([1, None, -128], pa.int8()),
    "uint64": pa.array([1, None, 2**64 - 1], pa.uint64()),
    "half": pa.array([np.float16(1.5), None, np.float16("nan")], pa.float16()),
    "float": pa.array([1.5, None, float("inf")]),
    "decimal": pa.array([Decimal("1.50"), None, Decimal("-2.25")], pa.decimal128(38, 2)),
    "decimal256": pa.array([Decimal("1.50"), None, Decimal(10) ** 60], pa.decimal256(70, 2)),
    "decimal32": pa.array([Decimal("1.50"), None, Decimal(2)], pa.decimal32(7, 2)),
    "decimal64": pa.array([Decimal("1.50"), None, Decimal(2)], pa.decimal64(15, 2)),
    "text": pa.array(["a", None, "ß"]),
    "large text": pa.array(["a", None, "ß"], pa.large_string()),
    "text view": pa.array(["a", None, "a text that is longer than twelve"], pa.string_view()),
    "bytes": pa.array([b"a", None, b"\xff"]),
    "bytes view": pa.array([b"a", None, b"\xff" * 20], pa.binary_view()),
    "large bytes": pa.array([b"a", None, b"\xff"], pa.large_binary()),
    "fixed bytes": pa.array([b"ab", None, b"\xff\x00"], pa.binary(2)),
    "time32 s": pa.array([1, None, 86_399], pa.time32("s")),
    "time32 ms": pa.array([1, None, 86_399_999], pa.time32("ms")),
    "time64 us": pa.array([1, None, 86_399_999_999], pa.time64("us")),
    "time64 ns": pa.array([1, None, 86_399_999_999_999], pa.time64("ns")),
    "time of no day": pa.array([-1, None, 86_400_000_000], pa.time64("us")),
    "date32": pa.array([1, None, -1], pa.date32()),
    "far date32": pa.array([2**31 - 1, None, -(2**31)], pa.date32()),
    "date64": pa.array([86_400_000, None, -86_400_000], pa.date64()),
    "far date64": pa.array([FAR // 86_400_000 * 86_400_000, None, 0], pa.date64()),
    "interval": pa.array([(1, 2, 3), None, (0, 0, -1)], pa.month_day_nano_interval()),
    "list": pa.array([[1, None], None, []], pa.list_(pa.int64())),
    "large list": pa.array([[1, None], None, []], pa.large_list(pa.int64())),
    "list view": pa.array([[1, None], None, []], pa.list_view(pa.int64())),
    "large list view": pa.array([["a"], None, []], pa.large_list_view(pa.string())),
    "fixed list": pa.array([[1, 2], None, [3, None]], pa.list_(pa.int64(), 2)),
    "list of times": pa.array([[1], None, [FAR]], pa.list_(pa.timestamp("us", "UTC"))),
    "list of text views": pa.array([["a"], None, []], pa.list_(pa.string_view())),
    "struct": pa.array([{"a": 1}, None, {"a": None}], STRUCT),
    "empty struct": pa.array([{}, None, {}], pa.struct([])),
    "list of empty structs": pa.array([[{}], None, []], pa.list_(pa.struct([]))),
    "struct of an empty struct": pa.array(
        [{"a": {}}, None, {"a": None}], pa.struct([("a", pa.struct([]))])
    ),
    "struct of times": pa.array(
        [{"a": 1}, None, {"a": None}], pa.struct([("a", pa.timestamp("s", "Z"))])
    ),
    "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    "map of numbers": pa.array([[(1, {})], None, []], pa.map_(pa.int64(), pa.struct([]))),
    "dictionary": pa.array(["a", None, "b"]).dictionary_encode(),
    "dictionary of times": pa.array([1, None, FAR], pa.timestamp("us", "UTC")).dictionary_encode(),
    "dictionary of structs": pa.DictionaryArray.from_arrays(
        pa.array([0, None, 0]), pa.array([{"a": 1}], STRUCT)
    ),
    "run ends": _run_ends(pa.array(["a", None])),
    "run ends of times": _run_ends(pa.array([1, FAR], pa.timestamp("us", "UTC"))),
    "run ends of structs": _run_ends(pa.array([{"a": 1}, None], STRUCT)),
    "json": _extension(pa.array(['{"a": 1}', None, "[]"])),
    "json, large": _extension(pa.array(['{"a": 1}', None, "[]"], pa.large_string())),
    "json, view": _extension(pa.array(['{"a": 1}', None, "[]"], pa.string_view())),
    "json, dictionary": pa.DictionaryArray.from_arrays(
        pa.array([0, None, 1]), _extension(pa.array(['{"a": 1}', "[]"]))
    ),
    "list of json": pa.ListArray.from_arrays([0, 1, 1, 3], _extension(pa.array(["1", None, "[]"]))),
    "struct of json": pa.StructArray.from_arrays(
        [_extension(pa.array(["1", None, "[]"], pa.large_string()))], ["a"]
    ),
    "struct of uuid": pa.StructArray.from_arrays(
        [_extension(pa.array([b"0" * 16, None, b"1" * 16], pa.binary(16)), pa.uuid())], ["a"]
    ),
    "list of bool8": pa.ListArray.from_arrays(
        [0, 1, 1, 3], _extension(pa.array([1, None, 0], pa.int8()), pa.bool8())
    ),
    "opaque": _extension(pa.array(["a", None, "b"]), pa.opaque(pa.string(), "kind", "vendor")),
    "opaque bytes": _extension(
        pa.array([b"a", None, b"\xff"]), pa.opaque(pa.binary(), "kind", "vendor")
    ),
    "tensor": _extension(
        pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int32(), 2)),
        pa.fixed_shape_tensor(pa.int32(), [2]),
    ),
    "opaque struct": _extension(
        pa.array([{"a": 1}, None, {"a": None}], STRUCT), pa.opaque(STRUCT, "kind", "vendor")
    ),
    "uuid": pa.ExtensionArray.from_storage(
        pa.uuid(), pa.array([b"0" * 16, None, b"1" * 16], pa.binary(16))
    ),
    "bool8": pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, None, 0], pa.int8())),
    "union": pa.UnionArray.from_dense(
        pa.array([0, 1, 0], pa.int8()),
        pa.array([0, 0, 1], pa.int32()),
        [pa.array([1, 2]), pa.array(["x"])],
    ),
}
for unit in ("s", "ms", "us", "ns"):
    COLUMNS[f"duration {unit}"] = pa.array([1, None, -1], pa.duration(unit))
    COLUMNS[f"far duration {unit}"] = pa.array([FAR, None, -FAR], pa.duration(unit))
    for zone in (None, "UTC", "utc", "Z", "Europe/Berlin", "+02:00", "-00:30"):
        name = f"time {unit} {zone}"
        COLUMNS[name] = pa.array([1_600_000_000, None, 0], pa.timestamp(unit, zone))
        COLUMNS[f"far {name}"] = pa.array([FAR, None, -FAR], pa.timestamp(unit, zone))


UNSENDABLE = ("union", "interval", "list of json", "list of bool8")
"""Types that JSON has no counterpart for: they are left out of the messages."""


def send(source: Any, names: list[str]) -> cdp.Report:
    """Send what has no user id, so that each row is invalid."""
    drop = [name for name in UNSENDABLE if name in names]
    mapping = cdp.Mapping.from_dict(OPENED.to_dict() | {"drop": drop})
    with cdp.sandbox() as box:
        return cdp.send(source, mapping, destination=box.destination, progress=False)


def report_of(names: list[str]) -> cdp.Report:
    """The report of a table with these columns."""
    table = pa.table({"uid": pa.nulls(3, pa.string()), "ts": ["2023-05-01T10:00:00Z"] * 3})
    for name in names:
        table = table.append_column(name, COLUMNS[name])
    return send(table, names)


@pytest.mark.parametrize("name", list(COLUMNS))
def test_any_type(name: str, tmp_path: Path) -> None:
    """From a table: read, shown, saved, read again, and sent again; every row is there."""
    report = report_of([name])
    failures = report.failures
    assert failures["cdp_row"].tolist() == [0, 1, 2]
    assert name in failures.to_string()
    assert failures.to_html()
    report.save(tmp_path / "out")
    saved = pq.read_table(tmp_path / "out" / "failures.parquet")
    assert saved.num_rows == 3
    assert name in saved.column_names
    back = pd.read_parquet(tmp_path / "out" / "failures.parquet", dtype_backend="pyarrow")
    for again in (failures, back):
        second = send(again, [name])
        assert second.counts["invalid"] == 3
        assert (report + second).rows == 3


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.sampled_from(sorted(COLUMNS)), unique=True, max_size=6))
def test_any_types_together(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever stands in a table, reading and saving its failures never fails."""
    report = report_of(names)
    assert len(report.failures) == 3
    folder = tmp_path_factory.mktemp("t")
    report.save(folder)
    assert pq.read_table(folder / "failures.parquet").num_rows == 3


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_only_the_owner_can_read_saved_rows(tmp_path: Path) -> None:
    """Whatever the umask, and even if the files were there before."""
    report = report_of(["text"])
    (tmp_path / "failures.parquet").touch(0o644)
    before = os.umask(0)
    try:
        report.save(tmp_path)
    finally:
        os.umask(before)
    for name in ("failures.parquet", "report.json", "report.txt"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_a_disk_that_is_full_keeps_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report is written before the failures, so it stays if they do not fit."""

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(reports, "write_parquet", full)
    with pytest.raises(OSError, match="No space left"):
        report_of(["text"]).save(tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["rows"] == 3
    assert "3 of 3 rows not delivered" in (tmp_path / "report.txt").read_text()

"""Folders whose files have columns of different types."""

from __future__ import annotations

import tempfile
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill import SourceError
from cdp_backfill.api import messages
from cdp_backfill.model.joined_types import ApartError, fitted, join_types
from cdp_backfill.sources import open_source
from tests.rows import OPENED

if TYPE_CHECKING:
    from cdp_backfill import Sandbox

TIME = "2023-05-01T10:00:00Z"

UNITS: Final = ("s", "ms", "us", "ns")
WHOLE: Final = [
    getattr(pa, f"{sign}int{width}")() for sign in ("", "u") for width in (8, 16, 32, 64)
]
FAMILIES: Final[dict[str, list[Any]]] = {
    "numbers": [
        *WHOLE,
        pa.float16(),
        pa.float32(),
        pa.float64(),
        pa.decimal128(3, 0),
        pa.decimal128(5, 2),
        pa.decimal128(38, 9),
        pa.decimal128(38, 37),
        pa.decimal256(76, 2),
    ],
    "text": [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.large_string()),
        pa.binary(),
        pa.large_binary(),
    ],
    "times": [
        pa.date32(),
        *(pa.timestamp(unit, zone) for unit in UNITS for zone in (None, "UTC", "Asia/Tokyo")),
    ],
    "times of day": [pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")],
    "durations": [pa.duration(unit) for unit in UNITS],
    "booleans": [pa.bool_()],
    "structs": [
        pa.struct({"a": pa.int32()}),
        pa.struct({"a": pa.float64(), "b": pa.string()}),
        pa.struct({"b": pa.large_string(), "c": pa.list_(pa.int64())}),
    ],
    "lists": [
        pa.list_(pa.int32()),
        pa.large_list(pa.int64()),
        pa.list_(pa.float32()),
        pa.list_(pa.float64()),
        pa.list_(pa.null()),
    ],
    "maps": [pa.map_(pa.string(), pa.int32()), pa.map_(pa.string(), pa.float64())],
}


def cells(kind: Any) -> st.SearchStrategy[Any]:  # noqa: PLR0911, PLR0912  # one for each type
    """Cells of a type, those at its limits often among them."""
    types = pa.types
    if types.is_null(kind):
        return st.none()
    if types.is_integer(kind):
        signed = types.is_signed_integer(kind)
        top = 2 ** (kind.bit_width - signed) - 1
        around = [n for n in (0, 1, 7, 2**24, 2**53 - 1, 2**53, 2**53 + 1, 2**62 + 1) if n <= top]
        return st.sampled_from([*around, top]) | st.integers(-top - 1 if signed else 0, top)
    if types.is_floating(kind):
        width = {pa.float16(): 16, pa.float32(): 32}.get(kind, 64)
        return st.sampled_from([0.0, 0.5, 7.0, 2048.0]) | st.floats(width=width)  # type: ignore[arg-type]
    if types.is_decimal(kind):
        top = Decimal(10 ** min(kind.precision, 28) - 1).scaleb(-kind.scale)
        return st.decimals(-top, top, places=kind.scale, allow_nan=False)
    if types.is_boolean(kind):
        return st.booleans()
    if types.is_dictionary(kind):
        return cells(kind.value_type)
    if types.is_date(kind):
        return st.dates(date(1990, 1, 1), date(2024, 1, 1)) | st.dates()
    if types.is_timestamp(kind):
        zone = UTC if kind.tz else None
        near = st.datetimes(datetime(1990, 1, 1), datetime(2024, 1, 1))  # noqa: DTZ001
        far = near if kind.unit == "ns" else st.datetimes(datetime(2, 1, 1))  # noqa: DTZ001
        steps = {"s": 10**6, "ms": 10**3}.get(kind.unit, 1)
        return (near | far).map(
            lambda moment: moment.replace(
                microsecond=moment.microsecond // steps * steps, tzinfo=zone
            )
        )
    if types.is_time(kind):
        steps = {"s": 10**6, "ms": 10**3}.get(kind.unit, 1)
        return st.times().map(
            lambda time: time.replace(microsecond=time.microsecond // steps * steps)
        )
    if types.is_duration(kind):
        return st.integers(-(10**9), 10**9)
    if types.is_struct(kind):
        return st.fixed_dictionaries({item.name: st.none() | cells(item.type) for item in kind})
    if types.is_map(kind):
        items = st.none() | cells(kind.item_type)
        return st.dictionaries(st.sampled_from("xyz"), items, max_size=2).map(
            lambda each: list(each.items())
        )
    if types.is_list(kind) or types.is_large_list(kind):
        return st.lists(st.none() | cells(kind.value_type), max_size=2)
    text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4)
    return text if not str(kind).endswith("binary") else text.map(str.encode)


def arrays(kind: Any) -> st.SearchStrategy[Any]:
    """Arrays of a type."""
    values = st.lists(st.none() | cells(kind), min_size=1, max_size=4)
    if pa.types.is_floating(kind) and kind.bit_width == 16:
        return values.map(lambda each: pa.array(each, pa.float32()).cast(kind))
    return values.map(lambda each: pa.array(each, kind))


def columns(*families: str) -> st.SearchStrategy[list[Any]]:
    """Two or three arrays of types of one family, or of no type."""
    kinds = st.sampled_from([kinds for name, kinds in FAMILIES.items() if name in families])
    return kinds.flatmap(
        lambda same: st.lists(
            st.sampled_from([*same, pa.null()]).flatmap(arrays), min_size=2, max_size=3
        )
    )


def written(folder: Path, parts: list[Any]) -> list[Path]:
    """A Feather file for each array, as the column v; no row is in two files."""
    paths = []
    for number, part in enumerate(parts):
        ids = [f"u{number}-{row}" for row in range(len(part))]
        table = pa.table({"uid": ids, "ts": [TIME] * len(part), "v": part})
        paths.append(folder / f"{number}.arrow")
        with pa.ipc.new_file(paths[-1], table.schema) as writer:
            writer.write_table(table)
    return paths


ROLES: Final[dict[str, dict[str, Any]]] = {
    "property": {},
    "version": {"properties": {"version": "v"}},
    "user id": {"user_id": "v", "anonymous_id": "uid"},
    "key": {"message_id": cdp.key("uid", "v")},
    "time": {"timestamp": "v", "timezone": "Asia/Tokyo"},
    "time in seconds": {"timestamp": "v", "timestamp_unit": "s"},
}


@settings(max_examples=100)
@given(columns(*FAMILIES), st.sampled_from(list(ROLES)))
def test_a_row_is_the_same_in_whichever_company_its_file_lies(parts: list[Any], role: str) -> None:
    """Messages and ids of a file are those that it has alone, whatever the other files hold."""
    with tempfile.TemporaryDirectory() as name:
        paths = written(Path(name), parts)
        mapping = {"mapping": OPENED, **ROLES[role]}
        try:
            alone = [row for path in paths for row in messages(path, 99, **mapping)]
        except cdp.BadInputError:
            return  # a type that this role never takes
        assert messages(name, 99, **mapping) == alone


@given(columns("numbers", "text", "times"))
def test_cells_keep_their_meaning_in_a_joined_type(parts: list[Any]) -> None:
    """Joined cells are equal to those given, and the order of types does not matter."""
    kinds = [part.type for part in parts]
    joined = join_types(join_types(kinds[0], kinds[1]), kinds[-1])
    for part in parts:
        result = fitted(
            part.cast(pa.large_string()) if part.type == pa.string_view() else part, joined
        )
        assert len(result) == len(part)
        if pa.types.is_floating(part.type) and part.type.bit_width < 64:
            continue  # 0.1 of 32 bits becomes 0.1 of 64
        for one, other in zip(part.to_pylist(), result.to_pylist(), strict=True):
            assert one == other or str(one) == str(other)


@pytest.mark.parametrize(("one", "other"), list(combinations([*FAMILIES], 2)))
def test_what_means_different_things_is_refused(tmp_path: Path, one: str, other: str) -> None:
    """Of two families, no type can be joined with another; the error names column and files."""
    for first in FAMILIES[one]:
        for second in FAMILIES[other]:
            for pair in ((first, second), (second, first)):
                with pytest.raises(ApartError):
                    join_types(*pair)
    written(tmp_path, [pa.nulls(1, FAMILIES[one][0]), pa.nulls(1, FAMILIES[other][0])])
    with pytest.raises(
        SourceError, match=r"column 'v' is of type .*0\.arrow' .*/1\.arrow'"
    ) as error:
        open_source(tmp_path)
    assert "u0-0" not in str(error.value)


def test_each_column_that_does_not_fit_is_named(tmp_path: Path) -> None:
    """The error names the columns that are the trouble, and no column that merely differs."""
    one = {"n": pa.array([1], pa.int32()), "code": [1], "more": [{"a": {"b": 1}}]}
    other = {"n": pa.array([1], pa.int64()), "code": ["secret"], "more": [{"a": {"b": "secret"}}]}
    for number, table in enumerate((one, one, other)):
        pq.write_table(pa.table(table), tmp_path / f"{number}.parquet")
    with pytest.raises(SourceError) as error:
        open_source(tmp_path)
    words = str(error.value)
    assert "column 'code' is of type integer" in words
    assert "0.parquet" in words
    assert "2.parquet" in words
    assert "'more'" in words
    assert "'n'" not in words
    assert "secret" not in words


def test_the_place_inside_a_nested_column_is_named(tmp_path: Path) -> None:
    """Where members of a column do not fit, the error has their path."""
    for number, cell in enumerate((1, "x")):
        pq.write_table(pa.table({"v": [{"a": {"b": cell}}]}), tmp_path / f"{number}.parquet")
    with pytest.raises(SourceError, match=r"column 'v', at 'a\.b' inside it, is of type integer"):
        open_source(tmp_path)


def test_columns_that_some_files_lack(tmp_path: Path) -> None:
    """They are empty there."""
    pq.write_table(pa.table({"uid": ["a"], "ts": [TIME], "x": [1]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"uid": ["b"], "ts": [TIME], "y": [{"z": 2}]}), tmp_path / "2.parquet")
    first, second = messages(tmp_path, 9, OPENED)
    assert (first["properties"], second["properties"]) == ({"x": 1}, {"y": {"z": 2}})


MIXES: Final = {
    "wholes and floats": [pa.array([1, 2**60 + 1, 7]), pa.array([0.5, 7.0])],
    "decimals and wholes": [pa.array([Decimal("1.50")]), pa.array([7], pa.int8())],
    "dates and times": [
        pa.array([date(2024, 1, 2)]),
        pa.array([datetime(2024, 1, 2, 3, tzinfo=UTC)]),
    ],
    "text and categories": [pa.array(["x", None]), pa.array(["y", "y"]).dictionary_encode()],
    "objects": [pa.array([{"a": 1}]), pa.array([{"b": "x"}])],
    "seconds and nanoseconds": [
        pa.array([datetime(9999, 1, 1, tzinfo=UTC)], pa.timestamp("s", "UTC")),
        pa.array([datetime(2024, 1, 1, 5, tzinfo=UTC)], pa.timestamp("ns", "Asia/Tokyo")),
    ],
}


@pytest.mark.parametrize("mix", list(MIXES))
def test_failures_of_files_that_differ(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mix: str
) -> None:
    """They are kept, stored on disk and saved as one table, and can be sent again."""
    monkeypatch.setattr("cdp_backfill.results.tracker.SPILL_BYTES", 0)
    written(tmp_path, MIXES[mix])
    options: Any = {"destination": box.destination, "progress": False, "journal": False}
    report = cdp.send(tmp_path, OPENED, earliest="2024-01-01", **options)
    rows = sum(map(len, MIXES[mix]))
    assert report.counts["invalid"] == rows
    assert len(report.failures) == rows
    report.save(tmp_path / "report")
    again = cdp.send(report.failures, OPENED, earliest="2020-01-01", **options)
    assert again.counts["delivered"] == rows


@pytest.mark.parametrize("mix", ["wholes and floats", "decimals and wholes", "dates and times"])
def test_expressions_over_files_that_differ(tmp_path: Path, mix: str) -> None:
    """They see the joined type; the row of a cell that does not fit into it is invalid."""
    written(tmp_path, MIXES[mix])
    rows = messages(tmp_path, 9, OPENED, derive={"text": "v::VARCHAR"}, rest="properties")
    beyond = mix == "wholes and floats"
    assert [row["cdp_code"] for row in rows if "cdp_code" in row] == ["derive_failed"] * beyond
    assert all(row["properties"]["text"] for row in rows if "properties" in row)


def test_files_in_parts_for_processes(tmp_path: Path) -> None:
    """A part of the files has the columns and the types of all of them."""
    written(tmp_path, MIXES["wholes and floats"])
    source = open_source(tmp_path)
    parts = source.parts(2)
    assert len(parts) == 2
    assert all(part.schema.equals(source.schema) and part.types_vary for part in parts)

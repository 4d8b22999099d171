"""Times of every kind, to milliseconds in UTC."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp_backfill.messages.iso import read_iso
from cdp_backfill.messages.local_times import Zone, localise
from cdp_backfill.messages.text import clean_text
from cdp_backfill.messages.times import format_times, read_times
from cdp_backfill.model.arrow_types import is_text
from tests.rows import built, payloads

moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))  # noqa: DTZ001
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


STORES = 1_215_648_000_000  # 10 July 2008


def tidied(array: Any) -> Any:
    """Text as it comes to the reading of times: without white space and words for nothing."""
    return clean_text(array, lambda *_: None) if is_text(array.type) else array


def millis(moment: datetime) -> int:
    """Milliseconds since 1970 UTC, rounded down, without floats."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def read_one(value: Any, kind: Any = None, **options: Any) -> str:
    """What becomes of one cell: the time, or what is wrong."""
    arguments = {"unit": None, "timezone": None, "earliest": STORES} | options
    times = read_times(tidied(pa.array([value], kind)), **arguments)
    for name in ("missing", "bad", "unclear", "nonexistent", "ambiguous"):
        if getattr(times, name)[0]:
            return name
    return str(format_times(times.millis)[0])


@given(st.lists(moments), st.sampled_from(["s", "ms", "us"]))
def test_arrow_times_keep_their_moment(values: list[datetime], unit: str) -> None:
    """Any time type gives the same milliseconds as Python does, rounded down."""
    kept = [value.replace(microsecond=0) if unit == "s" else value for value in values]
    if unit == "ms":
        kept = [value.replace(microsecond=value.microsecond // 1000 * 1000) for value in kept]
    array = pa.array(kept, pa.timestamp(unit))
    times = read_times(array, unit=None, timezone=None)
    assert times.millis.tolist() == [millis(value.replace(tzinfo=UTC)) for value in kept]
    assert times.naive.all()
    assert not times.bad.any()


@given(values=st.lists(moments, min_size=1), offset=st.integers(-840, 840), mixed=st.booleans())
def test_iso_text_keeps_its_moment(values: list[datetime], offset: int, *, mixed: bool) -> None:
    """ISO text with any offset gives what Python reads, on the fast way and on the slow one."""
    zone = timezone(timedelta(minutes=offset))
    texts = [value.replace(tzinfo=zone).isoformat() for value in values]
    cells = [*texts, "2023-01-01 00:00"] if mixed else texts
    times = read_times(pa.array(cells), unit=None, timezone=None)
    expected = [millis(datetime.fromisoformat(text)) for text in texts]
    inside = [-62_135_596_800_000 <= value <= 253_402_300_799_999 for value in expected]
    actual = times.millis[: len(texts)].tolist()
    assert [f for f, ok in zip(actual, inside, strict=True) if ok] == [
        e for e, ok in zip(expected, inside, strict=True) if ok
    ]


@given(
    cells=st.lists(
        st.one_of(
            st.builds(
                lambda moment, sign, digits, zone: (
                    moment.isoformat(sep=sign)[:19]
                    + (f".{moment.microsecond:06d}"[: digits + 1] if digits else "")
                    + zone
                ),
                moments,
                st.sampled_from("T "),
                st.sampled_from([0, 3, 6]),
                st.sampled_from(["", "Z"]),
            ),
            st.text("0123456789-:TZ. ", min_size=19, max_size=27),
            st.none(),
        )
    ),
    cut=st.integers(0, 3),
    large=st.booleans(),
)
def test_usual_forms_are_read_as_python_reads_them(
    cells: list[str | None], cut: int, *, large: bool
) -> None:
    """Whole columns at a time: what is read is right, sliced or not, and all that is usual is."""
    array = pa.array(cells, pa.large_string() if large else pa.string()).slice(cut)
    actual, naive, done = read_iso(array)
    for cell, value, zoneless, read in zip(cells[cut:], actual, naive, done, strict=True):
        try:
            moment = datetime.fromisoformat(cell or "")
        except ValueError:
            assert not read
            continue
        if read:
            assert value == millis(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
            assert zoneless == (moment.tzinfo is None)
        else:
            assert re.fullmatch(r"[^.]{10}[T ][^.]{8}(\.\d{3}|\.\d{6})?Z?", cell or "") is None


@given(st.lists(moments, min_size=1))
def test_formatting_is_rfc_3339_with_milliseconds(values: list[datetime]) -> None:
    """The text is always 24 characters long and says the same moment."""
    numbers = np.array([millis(value.replace(tzinfo=UTC)) for value in values])
    texts = format_times(numbers).to_pylist()
    assert {len(text) for text in texts} == {24}
    assert [millis(datetime.fromisoformat(text)) for text in texts] == numbers.tolist()


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("2024-01-15T10:30:00.000Z", "2024-01-15T10:30:00.000Z"),
        ("2024-01-15T10:30:00z", "2024-01-15T10:30:00.000Z"),
        ("2024-01-15t10:30:00Z", "2024-01-15T10:30:00.000Z"),
        (" 2024-01-15 10:30:00 ", "2024-01-15T10:30:00.000Z"),
        ("2024-01-15 10:30:00 UTC", "2024-01-15T10:30:00.000Z"),
        ("2024-01-15 10:30:00 +02:00", "2024-01-15T08:30:00.000Z"),
        ("2024-01-15T10:30:00+0530", "2024-01-15T05:00:00.000Z"),
        ("2024-01-15T10:30:00-08", "2024-01-15T18:30:00.000Z"),
        ("2024-01-15T10:30:00.9999999Z", "2024-01-15T10:30:00.999Z"),
        ("2024-01-15T10:30:00,5Z", "2024-01-15T10:30:00.500Z"),
        ("2024-01-15T10:30", "2024-01-15T10:30:00.000Z"),
        ("2024-01-15", "2024-01-15T00:00:00.000Z"),
        ("1969-12-31T23:59:59.9999Z", "1969-12-31T23:59:59.999Z"),
        ("2024-02-30", "bad"),
        ("2024-13-01", "bad"),
        ("2024-01-15T24:00:00Z", "bad"),
        ("2024-01-15T10:30:61Z", "bad"),
        ("15.01.2024", "unclear"),
        ("1/21/2021 23:30", "unclear"),
        ("1705314600", "2024-01-15T10:30:00.000Z"),
        ("1705314600123", "2024-01-15T10:30:00.123Z"),
        ("1705314600.5", "2024-01-15T10:30:00.500Z"),
        ("17053146001", "unclear"),
        ("NULL", "missing"),
        ("2024", "bad"),
        ("##########", "bad"),
        ("now", "bad"),
        ("", "missing"),
        ("  ", "missing"),
        (None, "missing"),
    ],
)
def test_text(cell: str | None, expected: str) -> None:
    """What becomes of a cell of text; the neighbour makes the column take the slow way."""
    assert read_one(cell, pa.string()) == expected
    pair = read_times(tidied(pa.array([cell, "x"])), unit=None, timezone=None, earliest=STORES)
    assert pair.bad[1]
    if expected not in ("bad", "missing", "unclear"):
        assert format_times(pair.millis)[0].as_py() == expected


@pytest.mark.parametrize(
    ("cell", "kind", "unit", "expected"),
    [
        (1_705_314_600, pa.int64(), "s", "2024-01-15T10:30:00.000Z"),
        (1_705_314_600_123, pa.int64(), "ms", "2024-01-15T10:30:00.123Z"),
        (1_705_314_600_123_999, pa.int64(), "us", "2024-01-15T10:30:00.123Z"),
        (1_705_314_600_123_999_999, pa.int64(), "ns", "2024-01-15T10:30:00.123Z"),
        (1_705_314_600_123_999_999, pa.uint64(), "ns", "2024-01-15T10:30:00.123Z"),
        (1_705_314_600_123_999.0, pa.float64(), "us", "2024-01-15T10:30:00.123Z"),
        ("1705314600123999", pa.string(), "us", "2024-01-15T10:30:00.123Z"),
        (1_705_314_600.001, pa.float64(), "s", "2024-01-15T10:30:00.001Z"),
        (1_705_314_600.123, pa.float64(), "s", "2024-01-15T10:30:00.123Z"),
        (Decimal("1705314600.12"), pa.decimal128(20, 2), "s", "2024-01-15T10:30:00.120Z"),
        ("1705314600123", pa.string(), "ms", "2024-01-15T10:30:00.123Z"),
        ("1705314600.5", pa.string(), "s", "2024-01-15T10:30:00.500Z"),
        ("NULL", pa.string(), "ms", "missing"),
        ("x", pa.string(), "ms", "bad"),
        ("", pa.string(), "ms", "missing"),
        (float("nan"), pa.float64(), "s", "missing"),
        (float("inf"), pa.float64(), "s", "bad"),
        (2**63 - 1, pa.int64(), "s", "bad"),
        (-(2**63), pa.int64(), "ms", "bad"),
        (None, pa.int64(), "s", "missing"),
        (None, pa.null(), None, "missing"),
        (date(2024, 1, 15), pa.date32(), None, "2024-01-15T00:00:00.000Z"),
        (date(2024, 1, 15), pa.date64(), None, "2024-01-15T00:00:00.000Z"),
    ],
)
def test_numbers_and_dates(cell: Any, kind: Any, unit: str | None, expected: str) -> None:
    """What becomes of a number with a unit, and of a date."""
    assert read_one(cell, kind, unit=unit) == expected


@pytest.mark.parametrize(
    ("cell", "zone", "expected"),
    [
        ("2024-01-15 10:30:00", "Europe/Berlin", "2024-01-15T09:30:00.000Z"),
        ("2024-07-15 10:30:00", "Europe/Berlin", "2024-07-15T08:30:00.000Z"),
        ("2024-07-15 10:30:00Z", "Europe/Berlin", "2024-07-15T10:30:00.000Z"),
        ("2024-03-31 02:30:00", "Europe/Berlin", "nonexistent"),
        ("2024-10-27 02:30:00", "Europe/Berlin", "ambiguous"),
        ("2024-01-15", "America/New_York", "2024-01-15T05:00:00.000Z"),
        ("2024-01-15 10:30:00", "UTC", "2024-01-15T10:30:00.000Z"),
        ("9999-12-31 23:59:59", "America/New_York", "bad"),
        ("0001-01-01 00:00:00", "Europe/Berlin", "bad"),
    ],
)
def test_zone_of_times_without_one(cell: str, zone: str, expected: str) -> None:
    """A stated zone goes for times that carry none, and only for these."""
    assert read_one(cell, timezone=zone) == expected


def test_arrow_time_with_a_zone_ignores_the_stated_one() -> None:
    """A column that knows its zone is not read in another."""
    moment = datetime(2024, 1, 15, 10, 30, tzinfo=ZoneInfo("Asia/Tokyo"))
    kind = pa.timestamp("ns", "Asia/Tokyo")
    assert read_one(moment, kind, timezone="Europe/Berlin") == "2024-01-15T01:30:00.000Z"


def test_naive_times_are_counted() -> None:
    """How many times had no zone is known, so that it can be said aloud."""
    cells = pa.array(["2024-01-15", "2024-01-15T10:00:00Z", None, "x", "2024-01-15T10:00"])
    assert read_times(cells, unit=None, timezone=None).naive.tolist() == [True, *[False] * 3, True]


def test_a_time_as_a_property_moves_to_utc() -> None:
    """Naive times in properties are read in the stated zone too."""
    cells = pa.array([datetime(2024, 7, 1, 12), datetime(2024, 3, 31, 2, 30), None])  # noqa: DTZ001
    array, moved = localise(cells, Zone("Europe/Berlin"))
    assert array.to_pylist()[0] == datetime(2024, 7, 1, 10, tzinfo=UTC)
    assert moved is not None
    assert moved.skipped.tolist() == [False, True, False]
    assert array.null_count == 2


@pytest.mark.parametrize(
    ("array", "days"),
    [
        (pa.array([date(2023, 5, 1), None]), [True, False]),
        (pa.array(["2023-05-01", "2023-05-01T00:00", "2023-05-01 10Z", "x"]), [1, 0, 0, 0]),
        (pa.array(["2023-05-01Z", "2023-02-30", "1683000000"]), [0, 0, 0]),
        (pa.array([1_683_000_000]), [False]),
        (pa.array([0]).cast(pa.timestamp("ms")), [False]),
    ],
)
def test_days_are_told_apart(array: Any, days: list[bool]) -> None:
    """A date has no time of day; midnight that is written out, and numbers, are moments."""
    assert read_times(array, unit=None, timezone=None).days.tolist() == days


def test_a_date_read_as_midnight_is_counted() -> None:
    """Plans and reports count each date without a time of day."""
    ts = ["2023-05-01", "2023-05-01T10:00:00Z", "2023-05-02"]
    messages = built({"ts": ts, "n": [1, 2, 3]})
    assert {fix.code: cells for fix, cells in messages.problems.fixes.items()} == {"midnight": 2}
    assert payloads(messages)[0]["timestamp"] == "2023-05-01T00:00:00.000Z"

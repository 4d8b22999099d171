"""Dates in the forms of all countries, read as Python and DuckDB read them."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdp_backfill.messages.date_layouts import ORDERS
from cdp_backfill.messages.date_words import ROLES, role_of
from cdp_backfill.messages.dates import read_dates
from cdp_backfill.messages.local_times import Zone, to_utc
from cdp_backfill.messages.times import read_times

if TYPE_CHECKING:
    from cdp_backfill.model.mapping import AmbiguousTime, DateOrder, NonexistentTime

moments = st.datetimes(datetime(2000, 1, 1), datetime(2068, 12, 31))  # noqa: DTZ001
EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001

DATES: Final[list[tuple[str, DateOrder | None]]] = [
    *((f"%d{sep}%m{sep}%Y", "DMY") for sep in "./-"),
    *((f"%m{sep}%d{sep}%Y", "MDY") for sep in "./-"),
    *((f"%d{sep}%m{sep}%y", "DMY") for sep in "./-"),
    *((f"%m{sep}%d{sep}%y", "MDY") for sep in "./-"),
    *((f"%y{sep}%m{sep}%d", "YMD") for sep in "./-"),
    *((f"%Y{sep}%m{sep}%d", None) for sep in "./-"),
    ("%d. %m. %Y", "DMY"),
    ("%d-%b-%Y", None),
    ("%d-%b-%y", None),
    ("%d %B %Y", None),
    ("%d. %B %Y", None),
    ("%b %d, %Y", None),
    ("%B %d %Y", None),
    ("%A, %B %d, %Y", None),
    ("%a, %d %b %Y", None),
    ("%Y-%b-%d", None),
]
TIMES: Final = [
    "",
    "%H:%M",
    "%H:%M:%S",
    "%H.%M.%S",
    "%H:%M:%S.%f",
    "%H:%M:%S,%f",
    "%I:%M %p",
    "%I:%M:%S %p",
    "%I.%M.%S.%f %p",
    "%I:%M%p",
]
OFFSETS: Final = {
    "": None,
    " UTC": 0,
    "Z": 0,
    " +0200": 120,
    "-05:30": -330,
    " GMT+2": 120,
    " CEST": 120,
    " +0000 UTC": 0,
    " -0700 PDT": -420,
    "+02:00[Europe/Berlin]": 120,
}


def millis(moment: datetime) -> int:
    """Milliseconds since 1970, rounded down."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


@settings(max_examples=60)
@given(
    form=st.sampled_from(DATES),
    gap=st.sampled_from([" ", ", ", "  "]),
    clock=st.sampled_from(TIMES),
    offset=st.sampled_from(list(OFFSETS)),
    values=st.lists(moments, min_size=1, max_size=5),
    cut=st.integers(0, 2),
)
def test_every_form_is_read_as_python_reads_it(
    form: tuple[str, DateOrder | None],
    gap: str,
    clock: str,
    offset: str,
    *,
    values: list[datetime],
    cut: int,
) -> None:
    """Each kind of date, time and offset, beside cells of other kinds, sliced or not."""
    date, order = form
    whole = date + (gap + clock if clock else "")
    zone = offset if clock and not (offset == "Z" and clock.endswith("%p")) else ""
    written = [value.strftime(whole) for value in values]
    cells = pa.array([None, "soon", *(cell + zone for cell in written), "15/13/2023 2:2"])
    read = read_dates(cells.slice(cut), order)
    ahead = timedelta(minutes=OFFSETS[zone] or 0)
    expected = [millis(datetime.strptime(cell, whole) - ahead) for cell in written]  # noqa: DTZ007
    start = 2 - cut
    assert read.read.tolist() == [False] * start + [True] * len(values) + [False]
    assert read.millis.tolist()[start:-1] == expected
    assert read.naive.tolist()[start:-1] == [OFFSETS[zone] is None] * len(values)
    assert read.days.tolist()[start:-1] == [not clock] * len(values)
    if order is not None:
        without = read_dates(cells.slice(cut), None)
        assert without.unordered.tolist()[start:-1] == [True] * len(values)
        assert not without.read.any()


@settings(max_examples=40)
@given(st.datetimes(datetime(1971, 1, 1), datetime(2400, 1, 1)), st.booleans())  # noqa: DTZ001
def test_days_and_weeks_of_a_year(value: datetime, week: bool) -> None:
    """As Python counts them; a day or a week that the year does not have is no date."""
    year, number, day = value.isocalendar()
    date = f"{year}-W{number:02}-{day}" if week else f"{value:%Y-%j}"
    read = read_dates(pa.array([f"{date}T{value:%H:%M:%S.%f}Z", date]), None)
    assert read.read.tolist() == [True, False]
    assert read.millis[0] == millis(value)
    last = datetime(year, 12, 28).isocalendar().week  # noqa: DTZ001
    days = 366 if value.year % 4 == 0 and (value.year % 100 or value.year % 400 == 0) else 365
    bad = [f"{year}-W{last + 1}-1", f"{year}-W00-1", f"{year}-W10-8", f"{year}-W10-0"]
    bad += [f"{value.year}-{days + 1}", f"{value.year}-000", f"{value.year}-367"]
    assert not read_dates(pa.array([f"{each}T00:00:00Z" for each in bad]), None).read.any()


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("/Date(1694744424123)/", 1694744424123),
        ("/Date(-5)/", -5),
        ("/Date(1694744424000+0200)/", 1694744424000),
        ("/Date(1694744424123456)/", None),
        ("/Date()/", None),
        ("Date(1694744424123)", None),
        ("2023-09-15 02:20:24 +0200 UTC", None),
        ("2023-09-15 02:20:24 -0700 PST", None),
        ("2023-09-15T02:20:24[Europe/Berlin]", None),
    ],
)
def test_times_that_programs_write(cell: str, expected: int | None) -> None:
    """JSON of .NET counts milliseconds; a name that contradicts its offset is no time."""
    times = read_times(pa.array([cell, "2023-09-15T02:20:24Z"]), unit=None, timezone=None)
    assert times.bad.tolist() == [expected is None, False]
    assert times.millis[0] == (expected or 0)


@settings(max_examples=25)
@given(
    numbers=st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 99), st.integers(0, 30)),
        min_size=1,
        max_size=20,
    ),
    order=st.sampled_from(ORDERS),
    short=st.booleans(),
)
def test_an_order_reads_what_duckdb_reads(
    numbers: list[tuple[int, int, int, int]], order: DateOrder, *, short: bool
) -> None:
    """Any numbers: either the date that strptime makes of them in this order, or none."""
    year = "{:02}" if short else "20{:02}"
    cells = [f"{a}/{b}/{year.format(c)} {h}:05" for a, b, c, h in numbers]
    parts = {"D": "%d", "M": "%m", "Y": "%y" if short else "%Y"}
    form = "/".join(parts[letter] for letter in order) + " %H:%M"
    if order == "YMD" and not short:
        assert not read_dates(pa.array(cells), order).read.any()
        return
    with duckdb.connect() as connection:
        query = "SELECT epoch_ms(try_strptime(unnest(?), ?))"
        expected = [row[0] for row in connection.execute(query, [cells, form]).fetchall()]
    read = read_dates(pa.array(cells), order)
    actual = [int(m) if ok else None for m, ok in zip(read.millis, read.read, strict=True)]
    assert actual == expected


LIKE_15_SEP: Final = [
    "2023. 09. 15. 2:20:24",
    "2023. 9. 15. 오전 2:20:24",
    "2023/9/15 上午2:20:24",
    "2023年9月15日 02時20分24秒",
    "2023-09-15 02 h 20 min 24 s",
    "15 de septiembre de 2023, 2:20:24 a. m.",
    "15 сентября 2023 г., 02:20:24",  # noqa: RUF001
    "15. September 2023 um 02:20:24 Uhr",
    "vendredi 15 septembre 2023 à 02:20:24",
    "September 15th, 2023 at 2:20:24\u202fAM",
    "Fri Sep 15 02:20:24 2023",
    "15SEP2023:02:20:24",
    "20230915 02:20:24",
    "20230915T022024",
    "20230915022024",
    "20230915022024000",
    "2023-Sep-15 02:20:24",
]


@pytest.mark.parametrize("cell", LIKE_15_SEP)
def test_forms_of_other_countries_and_programs(cell: str) -> None:
    """What browsers, spreadsheets and databases of many countries write."""
    read = read_dates(pa.array([cell, "x"]), None)
    assert read.read.tolist() == [True, False]
    assert read.millis[0] == millis(datetime(2023, 9, 15, 2, 20, 24))  # noqa: DTZ001


@pytest.mark.parametrize(
    "cell",
    [
        "1.10.2.3", "15.09.2023 25:00", "15.09.2023 13:00 PM", "31.11.2023", "15.09/2023",
        "15.09.2023 PST", "15-Lis-2023", "Sep 15 02:20:24", "15.09.2023 02:20:24 PST",
        "CET+2 15.09.2023", "15.09.2023 02:20:24 CET+0200", "00.01.2023", "2023-13-01 2:00 PM",
        "20231301", "2023091", "15 Sep", "15.09.2023 02:20:61", "x" * 80,
    ],
)  # fmt: skip
def test_what_is_no_date_is_never_one(cell: str) -> None:
    """Impossible days, names that mean several zones or months, and other texts."""
    for order in (*ORDERS, None):
        read = read_dates(pa.array([cell]), order)
        assert not read.read.any()


def test_a_word_has_one_meaning() -> None:
    """A month that two languages call by one word would be read wrongly in one of them."""
    months = [word for word, (role, _) in ROLES.items() if role == "M"]
    assert len(months) > 150
    assert role_of("Lis") == role_of("PST") == ("?", 0)
    assert {role_of(name)[1] for name in ("März", "mars", "marzo", "mrt", "march")} == {3}


@given(st.text(st.sampled_from("0123456789./-: TZaApPmMSsepM,+"), max_size=30))
def test_any_text_is_read_or_not(cell: str) -> None:
    """Nothing raises, and a neighbour changes nothing."""
    alone = read_dates(pa.array([cell]), "DMY")
    beside = read_dates(pa.array(["15.09.2023", cell, cell[::-1]]), "DMY")
    assert alone.read[0] == beside.read[1]
    assert alone.millis[0] == beside.millis[1]


def test_a_number_of_two_meanings_is_unclear() -> None:
    """20230915022024 is a date, or microseconds of 1970 if events may be that old."""
    for array in (pa.array(["20230915022024"]), pa.array([20230915022024])):
        late = read_times(array, unit=None, timezone=None, earliest=1_215_648_000_000)
        assert late.millis[0] == millis(datetime(2023, 9, 15, 2, 20, 24))  # noqa: DTZ001
        assert read_times(array, unit=None, timezone=None, earliest=0).unclear[0]


ZONES: Final = [
    "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca",
    "Pacific/Apia", "Europe/Moscow", "America/Sao_Paulo", "Asia/Tehran", "Europe/Dublin",
]  # fmt: skip


@settings(max_examples=30)
@given(
    zone=st.sampled_from(ZONES),
    hours=st.lists(st.integers(0, 18 * 366 * 48), min_size=1, max_size=60),
    nonexistent=st.sampled_from(["invalid", "shift_forward"]),
    ambiguous=st.sampled_from(["invalid", "earliest", "latest"]),
    unit=st.sampled_from(["s", "ms", "us"]),
    near=st.booleans(),
)
def test_local_times_as_zoneinfo_reads_them(
    zone: str,
    hours: list[int],
    nonexistent: NonexistentTime,
    ambiguous: AmbiguousTime,
    unit: str,
    *,
    near: bool,
) -> None:
    """At every clock change: earliest, latest, shifted or unusable, as each cell says alone."""
    start = datetime(2008, 7, 1)  # noqa: DTZ001
    changes = _changes(zone) if near else []
    locals_ = [start + timedelta(minutes=30 * each) for each in hours]
    locals_ += [each + timedelta(minutes=10 * step) for each in changes for step in range(-8, 9)]
    scale = {"s": 1, "ms": 10**3, "us": 10**6}[unit]
    numbers = [(each - EPOCH) // timedelta(seconds=1) * scale for each in locals_]
    moved = to_utc(pa.array(numbers).to_numpy(), unit, Zone(zone, nonexistent, ambiguous))
    tz = ZoneInfo(zone)
    for number, each in enumerate(locals_):
        first, second = (each.replace(tzinfo=tz, fold=fold) for fold in (0, 1))
        exists = first.astimezone(UTC).astimezone(tz).replace(tzinfo=None) == each
        twice = exists and first.utcoffset() != second.utcoffset()
        assert (moved.skipped[number], moved.twice[number]) == (not exists, twice)
        if not exists and nonexistent == "shift_forward":
            # The gap ends at the first moment of the new offset.
            wanted: Any = _end_of_gap(each, tz)
        elif not exists or (twice and ambiguous == "invalid"):
            wanted = None
        else:
            wanted = (second if ambiguous == "latest" else first).astimezone(UTC)
        actual = EPOCH.replace(tzinfo=UTC) + timedelta(seconds=int(moved.moments[number]) // scale)
        assert wanted is None or actual == wanted
        assert (wanted is None) == (moved.moments[number] == 0)


@functools.cache
def _changes(zone: str) -> list[datetime]:
    """Local times of a few changes of the offset."""
    tz, found = ZoneInfo(zone), []

    def changes(moment: datetime, step: timedelta) -> bool:
        one, other = (each.astimezone(tz).utcoffset() for each in (moment, moment + step))
        return one != other

    for day in range(18 * 365):
        moment = datetime(2008, 7, 1, tzinfo=UTC) + timedelta(days=day)
        if not changes(moment, timedelta(days=1)):
            continue
        while not changes(moment, timedelta(minutes=30)):
            moment += timedelta(minutes=30)
        found.append(moment.astimezone(tz).replace(tzinfo=None))
        if len(found) == 4:
            break
    return found


def _end_of_gap(local: datetime, tz: ZoneInfo) -> datetime:
    """The first moment after the gap that a local time is in."""
    low = (local - timedelta(days=2)).replace(tzinfo=tz).astimezone(UTC)
    high = (local + timedelta(days=2)).replace(tzinfo=tz).astimezone(UTC)
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // 2
        if middle.astimezone(tz).replace(tzinfo=None) > local:
            high = middle
        else:
            low = middle
    return high.replace(microsecond=0)

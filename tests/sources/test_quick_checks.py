"""Whole columns are checked quickly, and with the result that each cell alone has."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from cdp_backfill.sources.texts.cell_types import CellTypes
from cdp_backfill.sources.texts.newest_days import NewestDays

_ROWS = 1_100
_ODD_NUMBERS = (
    *("007", "-0", "+5", "1_000", "0x1F", "1e5", "1.0e5", "true", "FALSE", "1.", ".5", "-1.50"),
    *("٣", "999999999999999.0", "", " 5", "5 ", "9" * 15, "9" * 16, str(2**63), str(-(2**63))),
)

_numbers = st.one_of(
    st.integers(-(2**64), 2**64).map(str),
    st.integers(-(10**16), 10**16).map(str),
    st.floats().map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str),
    st.sampled_from(_ODD_NUMBERS),
)

_times = st.one_of(
    st.datetimes().map(str),
    st.datetimes().map(lambda moment: f"{moment.isoformat('T', 'seconds')}Z"),
    st.dates().map(str),
    st.sampled_from(
        ["", "2023-05-01 10:00", "2023-05-01T10:00:00+02:00", "2O23-05-01", "2023/05/01"]
    ),
)


@given(st.lists(_numbers | st.none(), min_size=1, max_size=3), st.integers(0, _ROWS))
@example([str(2**63 - 1), "1"], 1)
@example(["1", "1.5"], _ROWS - 1)
def test_a_long_column_has_the_types_of_its_cells(cells: list[str | None], place: int) -> None:
    """Many rows at a time, a column gets the type that it gets cell by cell."""
    column = [cells[0]] * place + cells + [cells[0]] * (_ROWS - place)
    whole, one_by_one = CellTypes(["a"]), CellTypes(["a"])
    whole.check(_batch(column))
    for cell in cells:
        one_by_one.check(_batch([cell]))
    assert whole.result() == one_by_one.result()


@given(st.lists(_times | st.none(), min_size=1, max_size=3), st.integers(0, _ROWS))
@example(["2023-05-01T10:00:00Z", None, "2023-05-01T1O:00:00Z"], 5)
@example(["2023-05-01", ""], 5)
def test_a_long_column_has_the_newest_day_of_its_cells(cells: list[str | None], place: int) -> None:
    """Many rows at a time, the newest day is the one that is found cell by cell."""
    column = [cells[0]] * place + cells + [cells[0]] * (_ROWS - place)
    whole, one_by_one = NewestDays(), NewestDays()
    whole.add("a", pa.array(column, pa.string()))
    for cell in cells:
        one_by_one.add("a", pa.array([cell], pa.string()))
    assert whole.of("a") == one_by_one.of("a")


def _batch(cells: list[str | None]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"a": pa.array(cells, pa.string())})

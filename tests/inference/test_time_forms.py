"""Times in forms of other countries and databases: read where all cells allow one reading only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.inference.samples import SampleColumn
from cdp_backfill.inference.time_forms import TimeForm, time_form
from tests.inference.proposing import asked, proposed, table

if TYPE_CHECKING:
    from cdp_backfill.local_sandbox import Sandbox

FORMS = [
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y, %H:%M",
    "%d.%m.%Y %H:%M:%S.%f",
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %I:%M:%S %p",
    "%m/%d/%Y %H:%M",
    "%d-%m-%Y %H:%M:%S",
    "%d-%b-%y %I.%M.%S.%f %p",
    "%d %b %Y %H:%M:%S",
]
"""Forms with which spreadsheets and databases write times."""

seconds = st.lists(st.integers(0, 500_000_000), min_size=2, max_size=20)
START = datetime(2010, 1, 1, tzinfo=UTC)


def column(cells: list[str]) -> SampleColumn:
    """A column of text."""
    return SampleColumn("when", pa.array(cells, pa.string()))


@pytest.mark.parametrize("form", FORMS)
@given(past=seconds)
def test_the_form_of_cells_is_that_which_wrote_them(form: str, past: list[int]) -> None:
    """Whatever the times are, the form is the one that wrote them, if a day can be no month."""
    last = datetime(2020, 12, 31, 23, 59, 58, tzinfo=UTC)
    cells = [(START + timedelta(seconds=each)).strftime(form) for each in past]
    cells.append(last.strftime(form))
    found = time_form(column(cells))
    assert found is not None
    assert found.formats == (form,)


@pytest.mark.parametrize(
    "cells",
    [
        ["15.09.2023", "09.15.2023"],
        ["1.10.2.3", "1.11.0.0"],
        ["15-ABC-23", "soon"],
        ["", "  "],
    ],
)
def test_cells_without_one_form(cells: list[str]) -> None:
    """Mixed forms, versions and other texts are no times, and are asked about."""
    assert time_form(column(cells)) is None
    found = proposed(table(no="event_time", when=cells * 20))
    assert found.mapping.timestamp is None
    assert asked(found) == {"timestamp"}


def test_a_cell_of_another_form_is_one_invalid_row(box: Sandbox) -> None:
    """What does not fit the form of the others is reported, and the others arrive in time."""
    start = datetime(2023, 9, 1, tzinfo=UTC)
    times = [start + timedelta(hours=31 * row) for row in range(39)]
    cells = [*(each.strftime("%d.%m.%Y %H:%M:%S") for each in times), "tomorrow"]
    report = cdp.send(
        pd.DataFrame(table(no="event_time", when=cells)),
        destination=box.destination,
        progress=False,
    )
    assert report.counts["delivered"] == 39
    assert report.counts["invalid"] == 1
    assert sorted(box.events()["timestamp"]) == times


def test_expression_of_a_form() -> None:
    """A name with quotes stays one name."""
    assert TimeForm(("%d",)).expression('a"b') == 'try_strptime(trim("a""b"), \'%d\')'

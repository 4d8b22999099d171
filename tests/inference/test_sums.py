"""Tables of sums per day, which hold no events of people."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pandas as pd
import pytest

import cdp_backfill as cdp
from tests.inference.proposing import asked, cycled, proposed, table

DAYS = [str(date(2023, 1, 1) + timedelta(days=row)) for row in range(40)]


@pytest.mark.parametrize("period", ["date", "Day", "week_start_date", "report_date", "event_date"])
@pytest.mark.parametrize(
    "counted", ["installs", "Sessions", "daily_active_users", "app_opens", "crashes"]
)
def test_sums_are_told_apart(period: str, counted: str) -> None:
    """One question, which says what the table is; nothing else is asked."""
    columns: dict[str, Any] = {
        period: DAYS,
        "country": cycled("DE", "FR"),
        "platform": cycled("ios", "android"),
        counted: list(range(40)),
    }
    found = proposed(columns)
    assert asked(found) == {"user_id"}
    assert "these are sums, with no person in them" in str(found.questions[0])
    assert repr(counted) in str(found.questions[0])
    assert found.mapping.timestamp is None
    with pytest.raises(cdp.MappingError, match="with no person in them"):
        pd.DataFrame(columns).cdp.send()


def test_sums_by_event() -> None:
    """A count of each event per day is a sum, too, although it names events."""
    columns = {
        "date": DAYS,
        "event_name": cycled("app_open", "app_install"),
        "event_count": [7] * 40,
    }
    found = proposed(columns)
    assert "these are sums" in str(found.questions[0])


def test_events_with_counts_are_no_sums() -> None:
    """A number of sessions beside a person, or times of day, are of single events."""
    person = proposed(table(sessions=list(range(40)), date=DAYS))
    assert person.questions == ()
    nobody = proposed(table(no="user_id", sessions=list(range(40)), event_date=DAYS))
    assert asked(nobody) == {"user_id"}
    assert "sums" not in str(nobody.questions[0])


def test_sums_that_are_events_all_the_same() -> None:
    """Who names a person gets the other questions."""
    columns = {"date": DAYS, "shop": cycled("s1", "s2", "s3"), "orders": [1] * 40}
    found = proposed(columns, user_id="shop")
    assert asked(found) == {"event", "timestamp"}

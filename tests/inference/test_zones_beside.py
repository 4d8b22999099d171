"""Times without a zone beside a column of zones or UTC offsets."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

ZONES: list[tuple[str, list[Any], str]] = [
    ("tz", ["Europe/Berlin", "Asia/Tokyo"], "2023-05-01T08:00:00.000Z"),
    ("device_timezone", ["Europe/Berlin", "Europe/Berlin"], "2023-05-01T08:00:00.000Z"),
    ("utc_offset", ["+02:00", "-05:00"], "2023-05-01T08:00:00.000Z"),
    ("tz_offset", ["+0200", "-0500"], "2023-05-01T08:00:00.000Z"),
    ("utc_offset", [2, -5], "2023-05-01T08:00:00.000Z"),
    ("utc_offset_minutes", [120, -300], "2023-05-01T08:00:00.000Z"),
    ("timezone_offset_seconds", [7200.0, -18000.0], "2023-05-01T08:00:00.000Z"),
]


def table(name: str, cells: list[Any], times: Any) -> pd.DataFrame:
    """Opens of two people at 10 o'clock, with such a column."""
    return pd.DataFrame(
        {
            "customer_id": ["a", "b"] * 4,
            "event": ["app_open"] * 8,
            "occurred_at": list(times) * 4,
            name: cells * 4,
        }
    )


TIMES: list[Any] = [
    ["2023-05-01 10:00:00", "2023-05-02 11:00:00"],
    pd.to_datetime(["2023-05-01 10:00:00", "2023-05-02 11:00:00"]),
]


@pytest.mark.parametrize("times", TIMES, ids=["text", "time"])
@pytest.mark.parametrize(("name", "cells", "utc"), ZONES)
def test_naive_times_are_asked_about(name: str, cells: list[Any], utc: str, times: Any) -> None:
    """Each answer that the question offers answers it, with and without a given time column."""
    frame = table(name, cells, times)
    for given in ({}, {"timestamp": "occurred_at"}):
        plan = frame.cdp.plan(**given)
        (question,) = [each for each in plan.questions if each.field == "timezone"]
        assert repr(name) in str(question)
        as_utc, as_local = (answer.partition(" if ")[0] for answer in question.answers)
        solved = frame.cdp.plan(**given | eval(f"dict({as_utc})"))  # noqa: S307  # our own text
        assert not solved.questions
        local = eval(f"dict({as_local})")  # noqa: S307
        assert not frame.cdp.plan(**local).questions
        assert frame.cdp.messages(1, **local)[0]["timestamp"] == utc


@pytest.mark.parametrize(("name", "cells", "utc"), ZONES)
def test_answers_read_the_form_of_the_times(name: str, cells: list[Any], utc: str) -> None:
    """Times of another form, which a proposal reads with an expression, are local ones as well."""
    frame = table(name, cells, ["01.05.2023 10:00:00", "22.05.2023 11:00:00"])
    (question,) = frame.cdp.plan().questions
    as_utc, as_local = (answer.partition(" if ")[0] for answer in question.answers)
    assert not frame.cdp.plan(**eval(f"dict({as_utc})")).questions  # noqa: S307  # our own text
    local = eval(f"dict({as_local})")  # noqa: S307
    assert not frame.cdp.plan(**local).questions
    assert frame.cdp.messages(1, **local)[0]["timestamp"] == utc


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("tz", ["UTC", "GMT"]),
        ("utc_offset", ["+00:00", "+00:00"]),
        ("utc_offset", [0, 0]),
        ("city", ["Berlin", "Tokyo"]),
        ("score", ["+02", "-05"]),
        ("offset", [2, 5]),
        ("page_offset", [2, 5]),
    ],
)
def test_other_columns_ask_nothing(name: str, cells: list[Any]) -> None:
    """Zones that are UTC, and what is no zone by its name or cells."""
    assert not table(name, cells, TIMES[0]).cdp.plan().questions


def test_times_with_a_zone_ask_nothing() -> None:
    """Neither do times whose name says UTC."""
    zoned = [f"{each}Z" for each in TIMES[0]]
    assert not table("tz", ["Europe/Berlin"] * 2, zoned).cdp.plan().questions
    frame = table("tz", ["Europe/Berlin"] * 2, TIMES[0])
    renamed = frame.rename(columns={"occurred_at": "occurred_at_utc"})
    assert not renamed.cdp.plan().questions


def test_times_by_the_clock_of_a_server_ask_nothing() -> None:
    """Where a server wrote nearly the same time, whatever the zone, it is no local one."""
    frame = table("tz", ["Europe/Berlin", "Asia/Tokyo"], TIMES[1])
    near = frame.assign(received_at=frame["occurred_at"] + pd.Timedelta("20s"))
    assert not near.cdp.plan().questions
    far = frame.assign(received_at=frame["occurred_at"] - pd.Timedelta("2h"))
    assert [each.field for each in far.cdp.plan().questions] == ["timezone"]

"""Times that are not in UTC, although an export writes them as if they were."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.inference.zone_evidence import ZoneEvidence, zone_evidence

MINUTE: Final = 60_000
START: Final = 1_682_935_200_000

delays = st.lists(st.integers(0, 10 * MINUTE), min_size=30, max_size=60)


def evidence(happened: list[int], processed: list[int]) -> ZoneEvidence | None:
    """The evidence in times that are all usable."""
    return zone_evidence(
        np.array(happened), np.array(processed), np.ones(len(happened), dtype=bool)
    )


@given(st.integers(-48, 56), delays)
def test_every_offset_is_found(quarters: int, late: list[int]) -> None:
    """Times in a zone give its offset, to the quarter of an hour; times in UTC give nothing."""
    offset = quarters * 15
    processed = [START + number * MINUTE for number in range(len(late))]
    happened = [
        moment - delay + offset * MINUTE for moment, delay in zip(processed, late, strict=True)
    ]
    found = evidence(happened, processed)
    if abs(offset) < 60:  # no place on land is that close to UTC, but clocks are wrong by minutes
        assert found is None or offset > 0
    else:
        assert found is not None
        assert found.minutes == offset


@given(st.lists(st.integers(0, 13 * 60 * MINUTE), min_size=1, max_size=60, unique=True))
def test_late_events_are_no_evidence(late: list[int]) -> None:
    """Events that arrive at any time within half a day are not taken for another zone."""
    spread = [delay + number * 17 * MINUTE for number, delay in enumerate(late)]
    processed = [START + number * MINUTE for number in range(len(late))]
    happened = [moment - delay for moment, delay in zip(processed, spread, strict=True)]
    assert evidence(happened, processed) is None


@given(delays, st.integers(1, 2))
def test_a_few_wrong_clocks_are_no_evidence(late: list[int], wrong: int) -> None:
    """A device or two whose clocks are hours ahead do not make a zone of it."""
    processed = [START + number * MINUTE for number in range(len(late))]
    happened = [moment - delay for moment, delay in zip(processed, late, strict=True)]
    for number in range(wrong):
        happened[number] += 5 * 60 * MINUTE
    assert evidence(happened, processed) is None


def test_summer_and_winter_are_one_zone() -> None:
    """Half of the rows an hour nearer to UTC than the others are still one zone."""
    processed = [START + number * MINUTE for number in range(40)]
    happened = [
        moment - (8 - number % 2) * 60 * MINUTE - 1000 for number, moment in enumerate(processed)
    ]
    found = evidence(happened, processed)
    assert found is not None
    assert (found.minutes, found.rows, found.of) == (-420, 40, 40)


def test_nothing_to_compare() -> None:
    """Without a time of processing there is no evidence."""
    assert zone_evidence(np.array([START]), np.array([0]), np.array([False])) is None
    assert evidence([START], [START - 10**12]) is None


def raw_export(hours: float, rows: int = 3, **more: Any) -> pd.DataFrame:
    """Mixpanel's raw export of a project whose times are some hours from UTC."""
    cells = [
        {
            "event": "$ae_first_open",
            "properties": json.dumps(
                {
                    "time": START // 1000 + int(hours * 3600) + 60 * number,
                    "distinct_id": "ada",
                    "$insert_id": f"i-{number}",
                    "mp_processing_time_ms": START + 60_000 * number + 2_000,
                }
                | more
            ),
        }
        for number in range(rows)
    ]
    return pd.DataFrame(cells)


def warehouse(hours: float, rows: int = 3) -> pd.DataFrame:
    """The same in the table of a connector."""
    times = [START + int(hours * 3_600_000) + 60_000 * number for number in range(rows)]
    return pd.DataFrame(
        {
            "name": "$ae_first_open",
            "time": pd.to_datetime(times, unit="ms"),
            "distinct_id": "ada",
            "insert_id": [f"i-{number}" for number in range(rows)],
            "mp_lib": "swift",
            "mp_processing_time_ms": [START + 60_000 * number + 2_000 for number in range(rows)],
            "properties": "{}",
        }
    )


def inside_airbyte(hours: float, rows: int = 3) -> pd.DataFrame:
    """The raw export as a loading tool keeps it."""
    records = [
        json.dumps({"event": row["event"], "properties": json.loads(row["properties"])})
        for row in raw_export(hours, rows).to_dict("records")
    ]
    return pd.DataFrame({"_airbyte_raw_id": "r", "_airbyte_data": records})


each_layout = pytest.mark.parametrize("make", [raw_export, warehouse, inside_airbyte])


@each_layout
def test_mixpanel_asks_where_its_file_proves_another_zone(make: Any) -> None:
    """A plan says how far the times are from UTC, and names the argument; nothing is sent."""
    frame = make(2)
    plan = cdp.plan(frame)
    (question,) = plan.questions
    assert (question.field, question.needed) == ("timezone", True)
    assert "2:00 hours ahead of UTC" in question.text
    assert "3 of 3 rows" in question.text
    assert "timezone='...'" in question.text
    with pytest.raises(cdp.MappingError, match="ahead of UTC"):
        frame.cdp.send(progress=False)


@each_layout
@pytest.mark.parametrize(
    ("zone", "sent"),
    [("Europe/Berlin", "2023-05-01T10:00:00.000Z"), ("UTC", "2023-05-01T12:00:00.000Z")],
)
def test_the_answer_is_applied(make: Any, zone: str, sent: str) -> None:
    """With the zone that the question asks for, the times are those of the events."""
    (message, *_) = make(2).cdp.messages(1, timezone=zone)
    assert message["timestamp"] == sent


@each_layout
def test_times_in_utc_are_not_asked_about(make: Any) -> None:
    """Where events come just before their processing, there is no question."""
    plan = cdp.plan(make(0))
    assert plan.questions == ()
    assert plan.to_send == 3


def test_a_zone_behind_utc_needs_many_rows() -> None:
    """A zone behind UTC shows in many rows that are late by the same hours."""
    assert cdp.plan(raw_export(-8)).questions == ()
    (question,) = cdp.plan(raw_export(-8, rows=40)).questions
    assert "8:00 hours behind UTC" in question.text
    assert "before the moment" in question.text


def test_a_placeholder_for_the_processing_is_no_evidence() -> None:
    """Small numbers in the place of a time of processing are not compared."""
    plan = cdp.plan(raw_export(2, mp_processing_time_ms=406_572))
    assert plan.questions == ()


def test_another_time_column_is_not_compared() -> None:
    """A time that the caller names is not the vendor's, and is not held against the processing."""
    frame = raw_export(2).assign(seen="2023-05-01T10:00:00Z")
    plan = cdp.plan(frame, preset="mixpanel_export", timestamp="seen")
    assert plan.questions == ()
    assert plan.to_send == 3

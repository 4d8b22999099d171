"""When it happened, and not when a row was loaded, a bill was due or a person was born."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cdp_backfill as cdp
from tests.inference.proposing import asked, cycled, proposed, table

few = settings(max_examples=25, deadline=None)
HOURS = [datetime(2023, 1, 1, tzinfo=UTC) + timedelta(hours=row, minutes=7) for row in range(40)]
OTHERS = [
    "loaded_at",
    "event_loaded_at",
    "ingested_at",
    "ingestion_time",
    "received_at",
    "event_received_at",
    "synced_at",
    "_fivetran_synced",
    "exported_at",
    "emitted_at",
    "_airbyte_extracted_at",
    "fetched_at",
    "inserted_at",
    "imported_on",
    "processed_at",
    "processing_time",
    "partition_time",
    "partition_date",
    "dt",
    "ds",
    "batch_date",
    "billing_date",
    "invoice_date",
    "due_date",
    "paid_at",
    "renewal_date",
    "next_renewal_date",
    "expires_at",
    "expiry_date",
    "valid_until",
    "birth_date",
    "birthday",
    "date_of_birth",
    "updated_at",
    "modified_at",
    "deleted_at",
    "sent_at",
    "uploaded_at",
    "server_time",
    "kafka_timestamp",
    "first_seen_at",
    "last_seen_at",
    "last_login_at",
    "signup_date",
    "registered_at",
    "joined_on",
    "subscribed_at",
    "trial_end",
    "session_start",
    "order_time",
    "delivery_date",
    "scheduled_at",
    "snapshot_date",
    "report_date",
    "as_of",
    "valid_from",
    "refreshed_at",
]
OURS = [
    "event_time",
    "eventTimestamp",
    "EVENT_TS",
    "event_at",
    "event_time_utc",
    "event_datetime",
    "occurred_at",
    "occurredAtMs",
    "OccurredUtc",
    "happened_at",
    "time",
    "timestamp",
    "ts",
    "datetime",
    "when",
    "date_time",
    "client_ts",
    "device_time",
    "action_time",
    "logged_at",
    "tracked_at",
    "created_at",
    "createdOn",
    "event_date",
    "date",
]


@pytest.mark.parametrize("name", OTHERS)
def test_other_times_are_never_taken(name: str) -> None:
    """The only time of a table, true times in its cells: asked about, with the reason."""
    found = proposed(table(no="event_time", **{name: HOURS}))
    assert found.mapping.timestamp is None
    (question,) = found.questions
    assert question.columns == (name,)
    assert "is the only time column of the table, but" in question.text
    assert question.answers[0] == f"timestamp={name!r}"


@pytest.mark.parametrize("name", OURS)
def test_times_of_the_event(name: str) -> None:
    """True times under a name that says so are taken, whatever else is beside them."""
    beside = dict.fromkeys(("loaded_at", "updated_at", "received_at"), HOURS[::-1])
    found = proposed(table(no="event_time", **{name: HOURS}, **beside))
    assert found.mapping.timestamp == name
    assert found.questions == ()


@few
@given(
    st.lists(
        st.datetimes(datetime(2009, 1, 1), datetime(2026, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
        min_size=6,
        max_size=30,
        unique=True,
    ),
    st.sampled_from(["iso", "naive", "s", "ms", "us", "text ms"]),
)
def test_every_form_of_times(moments: list[datetime], form: str) -> None:
    """Text with and without a zone, and numbers in every unit; what is assumed is said."""
    if all(moment.time() == moment.min.time() for moment in moments):
        return
    factor = {"s": 1, "ms": 1_000, "us": 1_000_000}.get(form, 1_000)
    cells: list[Any] = [int(moment.timestamp()) * factor for moment in moments]
    if form == "iso":
        cells = [moment.isoformat() for moment in moments]
    elif form == "naive":
        cells = [moment.isoformat(" ").removesuffix("+00:00") for moment in moments]
    elif form.startswith("text"):
        cells = list(map(str, cells))
    found = proposed(table(len(cells), event_time=cells))
    assert found.mapping.timestamp == "event_time"
    assumed = {each.field for each in found.assumptions} - {"user_id"}
    expected = {"iso": set(), "naive": {"timezone"}}.get(form, {"timestamp_unit"})
    assert assumed == expected


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        (["10:11:12"] * 40, "times of day"),
        ([HOURS[3]] * 40, "all of its times are the same"),
        (["soon", "later"] * 20, "cannot be read as times"),
        (["15.09.2023 02:20", "09/16/2023"] * 20, "cannot be read as times"),
        ([1, 2, 3, 4] * 10, "not times since 1970"),
        ([datetime(2031, 1, day + 1, tzinfo=UTC) for day in range(20)], "in the future"),
        ([datetime(1999, 1, day + 1, tzinfo=UTC) for day in range(20)], "before there were apps"),
        ([None] * 40, "empty"),
    ],
)
def test_cells_that_are_no_times_of_events(cells: list[Any], why: str) -> None:
    """A perfect name is not enough."""
    found = proposed(table(len(cells), event_time=cells))
    assert found.mapping.timestamp is None
    assert why == "empty" or why in found.questions[0].text


def test_a_day_beside_a_time_of_day() -> None:
    """Neither is the time; the question has the line that joins them."""
    for clock in (["10:11:12"] * 40, ["9:05"] * 40):
        days = [date(2023, 1, 1) + timedelta(days=row) for row in range(40)]
        forms = ("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y")
        for cells in (days, *([day.strftime(form) for day in days] for form in forms)):
            columns = table(no="event_time", event_date=cells, time=clock)
            found = proposed(columns)
            assert found.mapping.timestamp is None
            assert "the time of day is in 'time'" in found.questions[0].text
            answer = found.questions[0].answers[0]
            keywords = eval(f"dict({answer})")  # noqa: S307  # our own text
            message = pd.DataFrame(columns).cdp.messages(1, **keywords)[0]
            assert message["timestamp"][:11] == "2023-01-01T"
            assert "00:00" not in message["timestamp"][:16]
    found = proposed(table(no="event_time", event_date=days, hour=cycled(*range(24))))
    assert found.mapping.timestamp is None


def test_days_months_and_partitions() -> None:
    """Days are taken only under a name that says of what; months never."""
    days = [str(date(2023, 1, 5) + timedelta(days=row)) for row in range(40)]
    months = [str(date(2023 + row // 12, row % 12 + 1, 1)) for row in range(36)]
    found = proposed(table(no="event_time", event_date=days))
    assert found.mapping.timestamp == "event_date"
    assert any("00:00" in each.text for each in found.assumptions)
    for name in ("date", "dt", "day", "time", "timestamp"):
        assert proposed(table(no="event_time", **{name: days})).mapping.timestamp is None
    for name in ("event_date", "month", "event_month", "date"):
        assert proposed(table(36, no="event_time", **{name: months})).mapping.timestamp is None
    midnights = [f"{day} 00:00:00" for day in days]
    assert proposed(table(no="event_time", timestamp=midnights)).mapping.timestamp is None


def test_a_time_that_is_the_same_for_a_person() -> None:
    """It is of the person, such as the sign-up; a time of events differs within a person."""
    signups = [HOURS[row % 9] for row in range(40)]
    for name in ("created_at", "timestamp", "event_time"):
        found = proposed(table(no="event_time", **{name: signups}))
        assert found.mapping.timestamp is None
        assert "so it is about the person" in found.questions[0].text


def test_when_a_row_was_made() -> None:
    """In a table of events, that is when it happened, and the plan says so; else it is asked."""
    found = proposed(table(no="event_time", created_at=HOURS))
    assert found.mapping.timestamp == "created_at"
    assert any("when each row was made" in each.text for each in found.assumptions)
    found = proposed(table(no="event event_time", created_at=HOURS))
    assert found.mapping.timestamp is None
    assert "may be the day on which a person signed up" in str(found.questions)


def test_times_of_one_event() -> None:
    """A time of installs is the event's own in a table of installs, and of no other event."""
    one = {"no": "event_time", "event": cycled("app_install"), "installed_at": HOURS}
    assert proposed(table(**one)).mapping.timestamp == "installed_at"
    assert proposed(table(no="event_time", installed_at=HOURS)).mapping.timestamp is None
    alone = table(no="event event_time", installed_at=HOURS)
    assert proposed(alone).mapping.timestamp == "installed_at"
    opened = proposed(alone, event=cdp.lit("Application Opened"))
    assert opened.mapping.timestamp is None
    both = proposed(table(no="event event_time", installed_at=HOURS, uninstalled_at=HOURS[::-1]))
    assert asked(both) == {"event", "timestamp"}


def test_local_times_need_their_zone() -> None:
    """They are hours off if they are read as UTC."""
    naive = [moment.replace(tzinfo=None) for moment in HOURS]
    for name in ("local_time", "event_time_local", "EventLocalTime"):
        found = proposed(table(no="event_time", **{name: naive}))
        assert found.mapping.timestamp is None
        assert "timezone='...'" in found.questions[0].answers[0]
        assert proposed(table(no="event_time", **{name: HOURS})).mapping.timestamp == name
    both = proposed(table(no="event_time", event_time_utc=naive, event_time_local=naive))
    assert both.mapping.timestamp == "event_time_utc"


def test_times_that_compete() -> None:
    """Two that say it equally are asked about; a better name wins; of copies, that with a zone."""
    other = [moment + timedelta(minutes=3) for moment in HOURS]
    found = proposed(table(event_time=HOURS, occurred_at=other))
    assert found.questions[0].columns == ("event_time", "occurred_at")
    assert proposed(table(event_time=HOURS, timestamp=other)).mapping.timestamp == "event_time"
    assert proposed(table(no="event_time", ts=HOURS, created_at=other)).mapping.timestamp == "ts"
    naive = [moment.replace(tzinfo=None) for moment in HOURS]
    numbers = [int(moment.timestamp() * 1000) for moment in HOURS]
    copies = proposed(table(event_time=naive, event_epoch_ms=numbers)).mapping
    assert copies.timestamp == "event_epoch_ms"


def test_the_best_candidates_are_named() -> None:
    """At most three, each with the reason against it."""
    names = ["loaded_at", "birth_date", "synced_at", "updated_at"]
    found = proposed(table(no="event_time", **dict.fromkeys(names, HOURS)))
    (question,) = found.questions
    assert question.columns == tuple(names[:3])
    assert "'loaded_at': its name says when it was loaded." in question.text
    assert (
        "'birth_date': its name does not say that it is when the event happened." in question.text
    )


@pytest.mark.parametrize(
    "name",
    ["viewed_at", "Scanned At", "purchased_on", "requestedTimestamp", "signed_in", "hit_time"],
)
def test_when_one_thing_was_done(name: str) -> None:
    """The only time of a table without other events is when it happened."""
    times = [f"2023-05-0{1 + n % 9}T10:00:0{n % 7}Z" for n in range(40)]
    found = proposed(table(no="event event_time", **{name: times}))
    assert found.mapping.timestamp == name


def test_a_deed_beside_events_or_times_is_asked_about() -> None:
    """Beside events of an app, or another time that may be it, a deed's time is no answer."""
    times = [f"2023-05-0{1 + n % 9}T10:00:0{n % 7}Z" for n in range(40)]
    later = [f"2023-06-0{1 + n % 9}T10:00:0{n % 7}Z" for n in range(40)]
    assert asked(proposed(table(no="event_time", purchased_at=times))) == {"timestamp"}
    both = proposed(table(no="event event_time", viewed_at=times, answered_on=later))
    assert both.mapping.timestamp is None
    copies = {"loaded_at": later, "valid_until": later}
    found = proposed(table(no="event event_time", viewed_at=times, **copies))
    assert found.mapping.timestamp == "viewed_at"


def test_an_update_says_from_which_version() -> None:
    """Beside the version before, a time of an update is that of the app's."""
    times = [f"2023-05-0{1 + n % 9}T10:00:0{n % 7}Z" for n in range(40)]
    versions = ["1.2", "1.3"] * 20
    bare = table(no="event event_time", updated_at=times)
    assert proposed(bare).mapping.timestamp is None
    found = proposed(bare | {"from_version": versions, "to_version": versions[::-1]})
    assert found.mapping.timestamp == "updated_at"


@pytest.mark.parametrize(
    "cells", [["c", "u", "d"], ["INSERT", "UPDATE"], ["update", "delete", "snapshot"]]
)
def test_a_log_of_changes_has_no_events(cells: list[str]) -> None:
    """Rows that were inserted, updated and deleted are of a database, not of an app."""
    found = proposed(table(no="event", event_type=[cells[n % len(cells)] for n in range(40)]))
    assert found.mapping.event is found.mapping.timestamp is None
    assert "changes of a table" in str(found.questions)

"""Whole tables, each with what a careful reader would map: nothing is wrong, most is found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pandas as pd
import pytest

import cdp_backfill as cdp
from cdp_backfill import Mapping
from cdp_backfill.inference.columns import NEEDED
from tests.inference.column_sets import COLUMN_SETS, HOLDOUT, ColumnSet
from tests.inference.proposing import asked, paths, proposed

if TYPE_CHECKING:
    from cdp_backfill.inference.proposal import Proposal

# Paths that are never proposed: such columns stay out.
PRIVATE: Final = {"context.ip", "context.device.token", "context.device.advertisingId"}

# A column that fills the first of these fills the second as well, where its cells say so.
TWINS: Final = {
    "properties.version": "context.app.version",
    "properties.build": "context.app.build",
    "context.os.name": "context.device.type",
    "anonymous_id": "context.device.id",
}

# What the reader sees and a proposal leaves open, by field. Where who, what or when is among it, it
# is a question; all else stays a property under its own name, or the content makes the message id.
ASKED: Final = {
    "user_id": {
        "braze_currents", "appmetrica_events", "postgres_occurred_inserted", "email_as_id",
        "epoch_micros_internal", "clevertap_like", "field_service_boilers",
        "podcast_background_play",
        "florist_shopper_email", "mine_worker_app_crashes", "festival_installs_spaced",
        "telehealth_pascal", "kids_bank_hashed_ids",
    },
    "anonymous_id": {"adjust_both_platforms"},
    "event": {"crash_stream_types"},
    "timestamp": {
        "kscrash_reports", "two_builds", "game_telemetry_short",
        "two_anonymous_ids", "event_code_and_name", "transit_tickets_local_time",
    },
}  # fmt: skip
OPEN: Final = {
    "user_id": {"airline_upper_abbrev"},
    "anonymous_id": {"adjust_callbacks_android", "snowplow_mobile", "clevertap_like"},
    "message_id": {
        "segment_application_updated", "postgres_occurred_inserted", "kscrash_reports",
        "bank_abbreviated_warehouse", "dating_actor_and_target",
        "newspaper_link_opens", "library_created_at_only", "karaoke_event_flags",
    },
    "properties.version": {
        "users_table_dump", "kids_bank_hashed_ids", "puzzle_game_upper", "crypto_wallet",
    },
    "context.device.model": {
        "kscrash_reports", "adjust_callbacks_android", "mine_worker_app_crashes",
        "clevertap_like", "email_as_id",
    },
    "context.device.manufacturer": {"clevertap_like"},
    "context.locale": {"museum_guide_nobody"},
    "context.os.name": {"users_table_dump", "kafka_topic_dump", "clevertap_like"},
    "context.location.country": {
        "holiday_rental_spaced", "adjust_both_platforms", "festival_installs_spaced", "no_identity",
    },
    "context.location.region": {
        "two_anonymous_ids", "dating_actor_and_target", "charity_verb_first",
    },
}  # fmt: skip

# Events of one's own and no known spelling: how they go is asked.
OWN_EVENTS: Final = {"braze_currents", "commerce_only_events", "brazilian_pharmacy"}

# Spellings that only a person or a preset knows.
UNKNOWN_EVENTS: Final = {
    "firebase_params_wide", "braze_currents", "crash_stream_types", "snowplow_mobile",
    "aws_clickstream_flat", "airline_upper_abbrev", "brazilian_pharmacy",
    "puzzle_game_upper", "charity_verb_first",
}  # fmt: skip

ALL: Final = [*COLUMN_SETS, *HOLDOUT]
each_table = pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)


def gaps(table: ColumnSet) -> set[str]:
    """The fields that a proposal leaves open although the reader fills them."""
    left = {field for sets in (ASKED, OPEN) for field, names in sets.items() if table.name in names}
    return left | (PRIVATE & set(table.expected))


def events(actual: Proposal, table: ColumnSet) -> dict[str, str]:
    """Values of the event column that become events."""
    column = actual.mapping.event
    cells = table.columns.get(column, []) if isinstance(column, str) else []
    named = {cell: cell for cell in cells if cell in list(cdp.Event)}
    return {**named, **actual.mapping.events}


@each_table
def test_nothing_is_wrong_without_asking(table: ColumnSet) -> None:
    """Each choice is the one a careful reader makes; what cannot be decided is asked."""
    actual = proposed(table.columns)
    allowed = set(table.expected.items())
    for one, other in TWINS.items():
        if one in table.expected:
            allowed.add((other, table.expected[one]))
    read = {f"{column}_as_time": column for column in table.columns}
    assert {(path, read.get(name, name)) for path, name in paths(actual.mapping).items()} <= allowed
    assert events(actual, table).items() <= table.events.items()
    assert asked(actual) >= {field for field in table.asks & set(NEEDED) if field != "anonymous_id"}


@each_table
def test_all_else_is_found(table: ColumnSet) -> None:
    """What a proposal leaves open is listed above, and nothing else is."""
    actual = proposed(table.columns)
    missing = set(table.expected) - set(paths(actual.mapping))
    assert missing == gaps(table)
    assert (events(actual, table) == table.events) is (table.name not in UNKNOWN_EVENTS)
    own = {"other_events"} if table.name in OWN_EVENTS else set()
    questions = {field for field, names in ASKED.items() if table.name in names} | table.asks
    needed = questions & {*NEEDED, "timezone"}
    if "anonymous_id" in needed:
        needed ^= {"anonymous_id"} | ({"user_id"} if "anonymous_id" not in table.asks else set())
        assert asked(actual) - {"anonymous_id"} == needed
    else:
        assert asked(actual) == needed | own


@each_table
def test_personal_data_stays_out(table: ColumnSet) -> None:
    """What the reader would put into a path of personal data is left out instead."""
    actual = proposed(table.columns).mapping
    private = {table.expected[path] for path in PRIVATE & set(table.expected)}
    assert private <= set(actual.drop)


def test_how_many_are_right() -> None:
    """Of 100 tables, the fields that are found, asked and left open."""
    fields = sum(len(table.expected) for table in ALL)
    open_fields = sum(len(gaps(table)) for table in ALL)
    private = sum(len(PRIVATE & set(table.expected)) for table in ALL)
    exact = sum(not gaps(table) - PRIVATE and table.name not in UNKNOWN_EVENTS for table in ALL)
    assert (len(ALL), fields, open_fields - private, private, exact) == (100, 822, 54, 21, 59)


WITH_UNITS = [table for table in COLUMN_SETS if table.unit and "timestamp" in table.expected]


@pytest.mark.parametrize("table", WITH_UNITS, ids=lambda table: table.name)
def test_the_unit_is_told(table: ColumnSet) -> None:
    """Epoch numbers are read in the right unit by their size alone."""
    frame = pd.DataFrame(table.columns)
    column = table.expected["timestamp"]
    plan = frame.cdp.plan(
        Mapping(user_id=column, timestamp=column, event=cdp.lit(cdp.Event.OPENED))
    )
    output = {fix.code for fix in plan.fixes if fix.column == column and fix.code != "whole_float"}
    assert output == {f"epoch_{table.unit}"}
    words = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}
    assumed = next(each for each in plan.assumptions if each.field == "timestamp_unit")
    assert f"are {words[table.unit or 's']} since 1970" in assumed.text

"""Which column says what happened, and which of its values are events."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.inference.event_spellings import EVENTS, event_of, events_of, is_certain
from cdp_backfill.model import api_facts
from tests.inference.proposing import asked, cycled, proposed, table

spellings = st.sampled_from(sorted(EVENTS))
beginnings = st.sampled_from(
    [
        "https://example.com/docs/", "/", "app/", "com.example/", "iglu:com.example/",
        "users?event=",
        "door/", "a,b,", "x@", "path\\", "50%", '{"event":"', "[{", "<b>", "a;", "a|", "#", "=",
    ]
)  # fmt: skip


@given(beginnings, spellings)
def test_the_last_part_is_no_event(beginning: str, spelling: str) -> None:
    """A path, a URL, JSON, a list: what comes last in it is no event."""
    assert event_of(beginning + spelling) is None


@given(spellings, st.sampled_from(["campaign", "door", "order", "email", "driver", "x"]))
def test_only_the_whole_value_counts(spelling: str, word: str) -> None:
    """A spelling with a word before it, whatever is between them, is another value."""
    for between in (".", ":", "_", " ", "-", "::"):
        value = f"{word}{between}{spelling}"
        assert event_of(value) is None or event_of(value) is EVENTS.get(f"{word}{spelling}")


@given(spellings)
def test_ways_of_writing(spelling: str) -> None:
    """Case and the punctuation of names do not count."""
    event = EVENTS[spelling]
    for value in (spelling.upper(), spelling.title(), f" {spelling} ", f"[Amplitude] {spelling}"):
        assert event_of(value) is event


def test_what_is_an_event() -> None:
    """Spellings of vendors and of people, and what is near them."""
    for value in ("App Opened", "app_open", "APP-OPEN", "appOpen", "app.open", "$ae_first_open"):
        assert event_of(value) is not None
    for value in ("purchase", "login", "openness", "screen", "update", "session", "start", "", "x"):
        assert event_of(value) is None
    assert len(EVENTS) > 100
    assert {str(event) for event in EVENTS.values()} == set(api_facts.EVENTS)
    assert all(is_certain(event) for event in api_facts.EVENTS)


@pytest.mark.parametrize(
    ("values", "events"),
    [
        (["open", "close"], {}),
        (["opened", "closed", "pending"], {}),
        (["install", "repair", "inspect"], {}),
        (["crash"], {}),
        (["crash", "near_miss"], {}),
        (["open", "crash"], {}),
        (["sent", "delivered", "open", "click", "bounce"], {}),
        (["app_install", "sent", "open"], {"app_install"}),
        (["app_open", "open"], {"app_open"}),
        (["app_open", "crash", "purchase"], {"app_open", "crash"}),
        (["INSTALL", "OPEN"], {"INSTALL", "OPEN"}),
        (["install", "uninstall"], {"install", "uninstall"}),
        (["open", "background", "crash"], {"open", "background", "crash"}),
        (["first_open", "session_start", "screen_view"], {"first_open", "session_start"}),
        (["session_start", "login"], set()),
    ],
)
def test_single_words_need_company(values: list[str], events: set[str]) -> None:
    """A word that could be of anything counts beside what is of an app for certain."""
    assert set(events_of(values, "event")) == set(events)


def test_words_of_one_vendor() -> None:
    """A session is an opening in Adjust's column, a fatal error a crash in Crashlytics'."""
    assert events_of(["install", "session"], "{activity_kind}")["session"] is cdp.Event.OPENED
    assert events_of(["FATAL", "NON_FATAL"], "error_type") == {"FATAL": cdp.Event.CRASHED}
    assert events_of(["FATAL", "NON_FATAL"], "level") == {}


@pytest.mark.parametrize(
    "cells",
    [
        ["https://x.example/uninstall", "https://x.example/help/crash"],
        ["/app/install", "/app/open"],
        [json.dumps({"event": "app_open"}), json.dumps({"event": "app_install"})],
        [json.dumps(["app_open"])],
        ["com.example.app_open"],
        [1, 2],
        [True, False],
    ],
)  # fmt: skip
def test_columns_that_are_no_events(cells: list[object]) -> None:
    """URLs, paths, JSON, numbers: the event is asked for, and no value is translated."""
    found = proposed(table(event=cycled(*cells)))
    assert found.mapping.event is None
    assert found.mapping.events == {}
    assert asked(found) == {"event"}


@pytest.mark.parametrize(
    "cells",
    [
        ["login", "purchase"],
        ["lock_closed", "battery_low", "lock_opened"],
        ["Boat Booked", "Order Completed"],
        ["addToCart", "viewItem"],
        ["TRIP_STARTED", "TRIP_ENDED"],
        ["Verbindung gesucht", "Karte gekauft"],
        ["pedido_aceptado", "pedido_entregado"],
    ],
)
def test_events_of_ones_own(cells: list[str]) -> None:
    """A column named like the event with names of events is it; how they go is asked."""
    found = proposed(table(no="event", event_name=cycled(*cells)))
    assert found.mapping.event == "event_name"
    assert found.mapping.events == {}
    (question,) = found.questions
    assert question.field == "other_events"
    assert question.answers[0].startswith("other_events='send'")
    sent = proposed(table(no="event", event_name=cycled(*cells)), other_events="send")
    assert not sent.questions
    assert sent.mapping.event == "event_name"


@pytest.mark.parametrize(
    "cells",
    [
        ["Opera Gala", "Jazz im Hof", "The Lanterns Tour"],
        ["A01", "C03", "B17"],
        ["red", "green", "blue"],
        ["vip", "standard"],
        ["2024-05-01", "2024-05-02"],
        ["2024-W19", "2024-W20"],
        ["Final", "Semi-final"],
    ],
)
def test_other_texts_are_no_events(cells: list[str]) -> None:
    """Titles, codes, colours and days under the name of an event are asked about."""
    found = proposed(table(no="event", event=cycled(*cells)))
    assert found.mapping.event is None
    assert asked(found) == {"event"}


def test_a_name_that_says_nothing_is_named_in_the_question() -> None:
    """Names of events under another name are no event column, but the best candidate."""
    found = proposed(table(no="event", col7=cycled("app_open", "app_install")))
    (question,) = found.questions
    assert found.mapping.event is None
    assert question.columns == ("col7",)
    assert "its name does not say so" in question.text


def test_a_verb_and_its_object() -> None:
    """Two columns that only together say what happened are asked about."""
    found = proposed(
        table(no="event", action=cycled("install", "open"), object=cycled("app", "door"))
    )
    (question,) = found.questions
    assert question.columns == ("action", "object")


def test_a_lone_word_of_a_given_column_is_asked_about() -> None:
    """A table of one kind of row, called by one word, is neither guessed nor skipped silently."""
    cells = table(event=["install"] * 40)
    for found in (proposed(cells), proposed(cells, event="event")):
        (question,) = found.questions
        assert question.field == "other_events"
        assert "events={'install': 'Application Installed'}" in str(question)
    answered = proposed(cells, events={"install": "Application Installed"})
    assert answered.questions == ()
    assert answered.mapping.event == "event"

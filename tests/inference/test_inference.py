"""What is proposed for a table without a mapping."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

import cdp_backfill as cdp
from cdp_backfill import Mapping
from cdp_backfill.inference import presets
from cdp_backfill.inference.propose import propose
from cdp_backfill.sources import open_source
from tests.inference.proposing import NOW, cycled, paths, proposed, table

BASE: dict[str, list[Any]] = {
    "user_id": ["u1", "u2", "u3"],
    "event": ["app_open", "crash", "purchase"],
    "ts": ["2023-05-01T10:00:00Z", "2023-05-01T11:00:00Z", "2023-05-02T10:00:00Z"],
}


def test_what_is_given_wins() -> None:
    """Given fields stay as they are, and their columns are not used for anything else."""
    columns = BASE | {"customer_id": ["c1", "c2", "c3"], "app_version": ["1", "2", "3"]}
    actual = proposed(columns, Mapping(user_id="app_version", other_events="send"))
    assert actual.mapping.user_id == "app_version"
    assert actual.mapping.other_events == "send"
    assert actual.mapping.properties == {}
    assert not [choice for choice in actual.choices if choice.field == "user_id"]


def test_what_is_given_at_its_default_wins_too() -> None:
    """``other_events="invalid"`` is what it is by default, and still an answer."""
    frame = pd.DataFrame(BASE)
    assert frame.cdp.plan(now=NOW).mapping.other_events == "unmapped"
    plan = frame.cdp.plan(other_events="invalid", now=NOW)
    assert plan.counts["invalid"] == 1
    export = pd.DataFrame({name: ["x"] for name in [*presets.load("ga4").detect[0], "user_id"]})
    assert export.cdp.plan(other_events="invalid").mapping.other_events == "invalid"


def test_each_choice_has_a_reason() -> None:
    """Field, column, confidence from 0 to 1, and words, in the plan as text and as a dict."""
    plan = pd.DataFrame(BASE).cdp.plan(now=NOW)
    assert {choice.field for choice in plan.proposal.choices} >= {"user_id", "event", "timestamp"}
    for choice in plan.proposal.choices:
        assert 0 < choice.confidence <= 1
        assert choice.reason
    assert "Why this mapping" in str(plan)
    assert plan.to_dict()["choices"][0]["reason"]


def test_a_proposal_is_an_ordinary_mapping(tmp_path: Any) -> None:
    """It is printed as Python that makes it again, kept as TOML, and passed back."""
    plan = pd.DataFrame(BASE).cdp.plan(now=NOW)
    assert eval(plan.mapping.to_python(), {"cdp": cdp}) == plan.mapping  # noqa: S307
    plan.mapping.save(tmp_path / "m.toml")
    again = pd.DataFrame(BASE).cdp.plan(Mapping.load(tmp_path / "m.toml"), now=NOW)
    assert again.counts == plan.counts
    assert again.proposal.choices == ()


def test_all_values_of_the_event_column_count() -> None:
    """A spelling that comes late in the table is translated like one in the first rows."""
    rows = 20_000
    frame = pd.DataFrame(
        {
            "user_id": [f"u{row % 99}" for row in range(rows)],
            "event": ["app_open"] * (rows - 1) + ["app_crash"],
            "ts": pd.date_range("2023-05-01", periods=rows, freq="s", tz="UTC"),
        }
    )
    assert frame.cdp.plan(now=NOW).events["Application Crashed"] == 1


IDS = [f"{number:08x}-aaaa-4bbb-8ccc-dddddddddddd" for number in range(40)]


@pytest.mark.parametrize(
    ("name", "cells", "is_taken"),
    [
        ("event_id", IDS, True),
        ("messageId", IDS, True),
        ("$insert_id", [f"e{row}" for row in range(40)], True),
        ("event_id", IDS[:39] + IDS[:1], False),
        ("event_id", list(range(40)), False),
        ("event_id", [str(row) for row in range(40)], False),
        ("uuid", IDS, True),
        ("id", IDS, True),
        ("id", list(range(40)), False),
        ("record_id", IDS, False),
        ("request_id", IDS, False),
        ("transaction_id", IDS, False),
        ("campaign_message_id", IDS, False),
        ("row_hash", IDS, False),
    ],
)
def test_message_ids(name: str, cells: list[Any], is_taken: bool) -> None:  # a table
    """An id of the event that differs in every row and is no number of a row."""
    found = proposed(table(**{name: cells}))
    assert found.mapping.message_id == (name if is_taken else None)
    assert found.questions == ()


def test_a_bare_id_is_of_the_row_if_people_repeat() -> None:
    """Where each person has one row, it could be the id of the person."""
    once = [f"u{row}" for row in range(40)]
    assert proposed(table(user_id=once, id=IDS)).mapping.message_id is None
    assert proposed(table(no="user_id", device_id=once, id=IDS)).mapping.message_id is None


def test_words_for_nothing_are_found() -> None:
    """NULL in several columns of text is a word for nothing; in one it may be a value."""
    one = {"city": ["NULL", "Rome", "Bern"]}
    assert proposed(BASE | one).mapping.nulls == ()
    two = one | {"team": ["red", "NULL", "NULL"]}
    assert proposed(BASE | two).mapping.nulls == ("NULL",)


def test_a_table_that_says_nothing_asks_for_all() -> None:
    """Who, what and when are asked for; the plan counts nothing and cannot be sent."""
    plan = pd.DataFrame({"a": ["x", "y"], "b": [1.5, 2.5]}).cdp.plan()
    assert [question.field for question in plan.questions] == ["user_id", "event", "timestamp"]
    assert str(plan).startswith("Plan for the DataFrame: 3 open questions")
    with pytest.raises(cdp.MappingError, match="No column is clearly the id of a person"):
        plan.send()


def test_an_empty_table() -> None:
    """No rows is no reason to fail: names still tell, cells do not."""
    plan = pd.DataFrame({"user_id": [], "event": [], "ts": []}).cdp.plan()
    assert plan.questions


def test_a_stream_that_can_be_read_once_is_not_looked_at() -> None:
    """Looking would spend it: its mapping must be given."""
    reader = pa.table(BASE).to_reader()
    with pytest.raises(cdp.MappingError, match="has no event"):
        cdp.send(reader)


def test_presets_come_first() -> None:
    """Columns that tell a vendor's export propose its preset, which given fields override."""
    names = list(presets.load("ga4").detect[0])
    frame = pd.DataFrame({name: ["x"] for name in [*names, "user_id", "platform"]})
    actual = propose(open_source(frame), Mapping(user_id="platform"))
    assert actual.preset == "ga4"
    assert actual.mapping.user_id == "platform"


def test_given_translations_are_added_to_known_ones() -> None:
    """Naming one more value does not take the known ones away."""
    plan = pd.DataFrame(BASE).cdp.plan(events={"purchase": "Application Updated"}, now=NOW)
    assert plan.events == {
        "Application Opened": 1,
        "Application Crashed": 1,
        "Application Updated": 1,
    }


def test_known_spellings_are_translated_where_all_else_is_given() -> None:
    """Keywords for who, what and when leave events to be translated; a Mapping says all."""
    frame = pd.DataFrame(BASE)
    given: dict[str, Any] = {"user_id": "user_id", "event": "event", "timestamp": "ts"}
    plan = frame.cdp.plan(**given)
    assert plan.events == {"Application Opened": 1, "Application Crashed": 1}
    assert plan.counts["skipped"] == 1
    assert [choice.field for choice in plan.proposal.choices] == [
        "events['app_open']",
        "events['crash']",
        "other_events",
    ]
    assert frame.cdp.plan(Mapping(**given)).counts["invalid"] == 3


@pytest.mark.parametrize("number", range(5))
def test_keywords_add_however_many_are_passed(number: int) -> None:
    """Any of them leaves the proposal of the other fields as it is."""
    columns = table(
        app_version=cycled("1.1", "1.2"), platform=cycled("iOS", "Android"), device_id=IDS, note=IDS
    )
    frame = pd.DataFrame(columns)
    keywords: dict[str, Any] = {
        "user_id": "user_id",
        "event": "event",
        "timestamp": "event_time",
        "properties": {"remark": "note"},
    }
    few = dict(list(keywords.items())[:number])
    all_of_them = paths(frame.cdp.plan(**keywords).mapping)
    found = paths(frame.cdp.plan(**few).mapping)
    assert found == {
        path: column for path, column in all_of_them.items() if number > 3 or column != "note"
    }
    assert (
        found.items()
        >= {
            "anonymous_id": "device_id",
            "context.os.name": "platform",
            "context.app.version": "app_version",
        }.items()
    )


def test_new_columns_are_columns() -> None:
    """They are proposed, translated and judged as those of the table; what feeds them is not."""
    frame = pd.DataFrame(
        table(no="event user_id", raw=cycled("APP_OPEN", "APP_INSTALL", "x"), u=IDS)
    )
    derive = {"event_name": "lower(raw)", "user_id": "u || '-7'", "mail": "u || '@example.com'"}
    plan = frame.cdp.plan(derive=derive)
    assert (plan.mapping.event, plan.mapping.user_id) == ("event_name", "user_id")
    assert plan.events == {"Application Opened": 14, "Application Installed": 13}
    assert plan.mapping.drop == ("mail",)


def test_a_mapping_is_used_exactly() -> None:
    """A Mapping object is not completed, not even where it lacks who, what or when."""
    frame = pd.DataFrame(table(app_version=cycled("1.1", "1.2")))
    whole = Mapping(user_id="user_id", event=cdp.lit("Application Opened"), timestamp="event_time")
    assert frame.cdp.plan(whole).mapping == whole
    with pytest.raises(cdp.MappingError, match="has no event"):
        frame.cdp.plan(Mapping(user_id="user_id"))


def test_columns_to_drop_are_not_proposed() -> None:
    """What the caller drops fills no field."""
    frame = pd.DataFrame(table(city=cycled("Rome", "Bern")))
    assert frame.cdp.plan().mapping.context == {"location": {"city": "city"}}
    plan = frame.cdp.plan(drop=["city"])
    assert plan.mapping.context == {}
    assert "properties" not in plan.samples[0]


def test_a_plan_with_a_question_shows_the_columns() -> None:
    """Share filled and a cell of each, to be able to answer."""
    plan = pd.DataFrame({"a": ["x", None], "b": [1.5, 2.5]}).cdp.plan()
    assert [(column.filled, column.sample) for column in plan.columns] == [
        (0.5, "x"),
        (1.0, "1.5"),
    ]


def test_a_name_that_is_none_is_told_before_any_question() -> None:
    """A typing error in what is given is not hidden behind questions about the rest."""
    with pytest.raises(cdp.MappingError, match="no column 'usr'"):
        pd.DataFrame({"user": ["x"]}).cdp.plan(user_id="usr")


def test_a_preset_that_does_not_fit_says_so() -> None:
    """And what the table lacks."""
    with pytest.raises(cdp.MappingError, match="'ga4' does not fit this table"):
        pd.DataFrame(BASE).cdp.plan(preset="ga4")


def test_versions_keep_their_zeros_in_files(tmp_path: Any) -> None:
    """A column that is called a version stays text, whether or not it is mapped."""
    (tmp_path / "v.csv").write_text("uid,ts,App Ver\nu1,2020-01-01T00:00:00Z,1.10\n")
    mapping = Mapping(user_id="uid", timestamp="ts", event=cdp.lit(cdp.Event.OPENED))
    plan = cdp.plan(tmp_path / "v.csv", mapping)
    assert plan.samples[0]["properties"] == {"App Ver": "1.10"}

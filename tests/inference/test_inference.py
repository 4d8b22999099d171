"""What is proposed for a table without a mapping."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pytest

import cdp_backfill as cdp
from cdp_backfill import Mapping
from cdp_backfill.inference import presets
from cdp_backfill.inference.columns import NEEDED, Inference
from cdp_backfill.inference.event_spellings import EVENTS, event_of
from cdp_backfill.inference.propose import propose
from cdp_backfill.sources import open_source
from tests.inference.column_sets import COLUMN_SETS, HOLDOUT, ColumnSet

if TYPE_CHECKING:
    from cdp_backfill.inference.proposal import Proposal

NOW = datetime(2026, 6, 1, tzinfo=UTC)

# What a careful reader knows and a table does not show; only a preset or a person knows it.
KNOWN_GAPS = {
    "firebase_params_wide": "app_exception is a crash only where a parameter says so",
    "kscrash_reports": "machine is a model in one vendor's words",
    "crash_stream_types": "a lone word, crash, could be of anything",
    "adjust_callbacks_android": "device_name is often the name that its owner gave the device",
    "snowplow_mobile": "application_error may be a handled error",
    "aws_clickstream_flat": "_app_end and _app_exception are one vendor's words",
    "us_style_spreadsheet": "1/2/2021 may be of January or of February: it asks for the time",
    "clevertap_like": "objectId is one vendor's word",
}


def proposed(columns: dict[str, list[Any]], given: Mapping | None = None) -> Proposal:
    """What looking alone proposes: presets are tested elsewhere."""
    frame = pd.DataFrame(columns)
    batch = next(iter(open_source(frame).chunks([str(name) for name in frame.columns]))).batch

    def values(column: str) -> dict[str, int] | None:
        cells = frame[column].dropna().map(str)
        return {str(value): int(rows) for value, rows in cells.value_counts().items()}

    return Inference(batch, values, NOW).propose(given or Mapping())


def paths(mapping: Mapping) -> dict[str, str]:
    """The columns of a mapping by field."""
    actual = {
        name: value
        for name in ("user_id", "anonymous_id", "event", "timestamp", "message_id")
        if isinstance(value := getattr(mapping, name), str)
    }

    def below(path: str, tree: dict[str, Any]) -> None:
        for name, value in tree.items():
            if isinstance(value, dict):
                below(f"{path}.{name}", value)
            else:
                actual[f"{path}.{name}"] = value

    below("properties", mapping.properties)
    below("context", mapping.context)
    return actual


def events(actual: Proposal, table: ColumnSet) -> dict[str, str]:
    """Values of the event column that become events."""
    column = actual.mapping.event
    cells = table.columns.get(column, []) if isinstance(column, str) else []
    named = {cell: cell for cell in cells if cell in list(cdp.Event)}
    return {**named, **actual.mapping.events}


@pytest.mark.parametrize("table", [*COLUMN_SETS, *HOLDOUT], ids=lambda table: table.name)
def test_nothing_is_wrong_without_asking(table: ColumnSet) -> None:
    """Each choice is the one a careful reader makes; what cannot be decided is asked."""
    actual = proposed(table.columns)
    wrong = {
        field: column
        for field, column in paths(actual.mapping).items()
        if table.expected.get(field) != column
    }
    assert wrong == {}
    assert events(actual, table).items() <= table.events.items()
    # Of what is not needed, nothing is taken where there is a doubt; it may not be asked for.
    asked = {question.field for question in actual.questions}
    assert asked >= {field for field in table.asks if field in NEEDED and field != "anonymous_id"}


def exact(table: ColumnSet) -> bool:
    """Whether the proposal is that of a careful reader, without a needless question."""
    actual = proposed(table.columns)
    return (
        paths(actual.mapping) == table.expected
        and events(actual, table) == table.events
        and {question.field for question in actual.questions} == table.asks
    )


@pytest.mark.parametrize("table", COLUMN_SETS, ids=lambda table: table.name)
def test_all_is_found(table: ColumnSet) -> None:
    """All that a careful reader finds, and the questions that one has; known gaps aside."""
    assert exact(table) is (table.name not in KNOWN_GAPS)


def test_how_many_are_right() -> None:
    """Of sixty tables 52 are exactly right, 15 of all with a question; of forty others 22."""
    assert [len(COLUMN_SETS), len(HOLDOUT)] == [60, 40]
    assert len(KNOWN_GAPS) == 8
    assert sum(bool(table.asks) for table in COLUMN_SETS) == 15
    assert sum(map(exact, HOLDOUT)) == 22


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
    assert frame.cdp.plan(now=NOW).mapping.other_events == "skip"
    plan = frame.cdp.plan(other_events="invalid", now=NOW)
    assert plan.counts["invalid"] == 1
    export = pd.DataFrame({name: ["x"] for name in [*presets.load("ga4").detect[0], "user_id"]})
    assert export.cdp.plan(other_events="invalid").mapping.other_events == "invalid"


def test_two_columns_that_compete_are_asked_for() -> None:
    """Both are named, neither is taken, and nothing is sent until it is decided."""
    columns = BASE | {"customer_id": ["c1", "c2", "c3"]}
    actual = proposed(columns)
    (question,) = actual.questions
    assert question.columns == ("user_id", "customer_id")
    assert question.needed
    assert actual.mapping.user_id is None
    with pytest.raises(
        cdp.MappingError, match="'user_id' and 'customer_id' look equally like user_id"
    ):
        pd.DataFrame(columns).cdp.send()


def test_two_columns_that_say_the_same_are_no_question() -> None:
    """Copies do not compete; of two times the one that leaves no zone open is taken."""
    columns = BASE | {"customer_id": BASE["user_id"]}
    assert proposed(columns).questions == ()
    times: dict[str, list[Any]] = {
        "event_timestamp": ["2023-05-01 10:00:00"] * 3,
        "event_time_msec": [1682935200000] * 3,
    }
    both = {"user_id": BASE["user_id"], "event": BASE["event"]} | times
    assert proposed(both).mapping.timestamp == "event_time_msec"


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


def test_what_is_not_known_is_never_an_event() -> None:
    """Unknown values are skipped, counted and shown; known spellings are translated."""
    plan = pd.DataFrame(BASE).cdp.plan(now=NOW)
    assert plan.events == {"Application Opened": 1, "Application Crashed": 1}
    assert plan.unknown_events == {"purchase": 1}
    assert plan.counts["skipped"] == 1
    for value in ("purchase", "login", "openness", "screen", "update", "session", "start", "", "x"):
        assert event_of(value) is None
    for value in (
        "App Opened",
        "app_open",
        "APP-OPEN",
        "appOpen",
        "[Amplitude] Application Opened",
    ):
        assert event_of(value) is cdp.Event.OPENED
    assert len(EVENTS) > 100


def test_all_values_of_the_event_column_count() -> None:
    """A spelling that comes late in the table is translated like one in the first rows."""
    rows = 20_000
    frame = pd.DataFrame(
        {
            "user_id": "u",
            "event": ["app_open"] * (rows - 1) + ["app_crash"],
            "ts": "2023-05-01T10:00:00Z",
        }
    )
    assert frame.cdp.plan(now=NOW).events["Application Crashed"] == 1


def test_message_ids_must_be_different() -> None:
    """A column that is named like an id of the event but repeats is not taken for one."""
    assert proposed(BASE | {"event_id": ["a", "b", "c"]}).mapping.message_id == "event_id"
    assert proposed(BASE | {"event_id": ["a", "b", "a"]}).mapping.message_id is None


def test_parts_of_event_properties_are_expanded() -> None:
    """JSON objects under a telling name become properties; other text does not."""
    column = {"event_properties": ['{"plan": "pro"}', "{}", '{"n": 1}'], "note": ["{}", "x", "y"]}
    actual = proposed(BASE | column).mapping
    assert actual.expand == ("event_properties",)


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


def test_a_lone_word_is_asked_about() -> None:
    """A table of one kind of row, called by one word, is neither guessed nor skipped silently."""
    columns = BASE | {"event": ["install"] * 3}
    plan = pd.DataFrame(columns).cdp.plan(now=NOW)
    (question,) = plan.questions
    assert question.field == "events"
    assert "events={'install': 'Application Installed'}" in question.text
    answered = pd.DataFrame(columns).cdp.plan(events={"install": "Application Installed"}, now=NOW)
    assert answered.events == {"Application Installed": 3}


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
    assert plan.counts["invalid"] == 1
    assert [choice.field for choice in plan.proposal.choices] == [
        "events['app_open']",
        "events['crash']",
    ]
    assert frame.cdp.plan(Mapping(**given)).counts["invalid"] == 3


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

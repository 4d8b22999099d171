"""A plan begins with its doubts: questions, what was assumed, and what stays out."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

import cdp_backfill as cdp
from cdp_backfill.inference.proposal import Proposal

OPENED = cdp.lit("Application Opened")


def frame(**columns: Any) -> pd.DataFrame:
    """Six rows with a person and a time without a zone, and further columns."""
    base = {
        "user_id": [f"u{row}" for row in range(6)],
        "event_time": [f"2023-05-0{row + 1} 10:00:00" for row in range(6)],
    }
    return pd.DataFrame(base | columns)


def first_screen(plan: cdp.Plan) -> str:
    """The plan up to what it counts, on lines of any length."""
    text = str(plan)
    stop = text.find("\nRows\n")
    return " ".join(text[: stop if stop > 0 else text.index("\nColumns\n")].split())


def test_questions_come_first() -> None:
    """Each with its candidates and the line that answers it."""
    plan = frame().drop(columns="event_time").assign(loaded_at="2023-05-01T10:00:00Z").cdp.plan()
    shown = first_screen(plan)
    headline = "Plan for the DataFrame: 2 open questions, so send refuses to start"
    assert shown.startswith(f"{headline} Questions event No column")
    assert (
        "'loaded_at' is the only time column of the table, but its name says when it was" in shown
    )
    assert "Pass timestamp='loaded_at'." in shown
    assert "No column is clearly the event. Pass event='...' or event=cdp.lit(" in shown
    html = plan._repr_html_()
    assert html.index("Questions") < html.index("Columns")


def test_each_question_is_answered_by_one_line() -> None:
    """An answer as it is written is one that Python reads, and it closes the question."""
    table = frame().drop(columns="user_id").assign(account_id=list("abcdef"))
    plan = table.cdp.plan(event=OPENED)
    (question,) = plan.questions
    assert str(question).endswith("Pass user_id='account_id' or anonymous_id='...'.")
    keywords = eval(f"dict({question.answers[0]})")  # noqa: S307  # our own text
    assert table.cdp.plan(event=OPENED, **keywords).questions == ()
    with pytest.raises(cdp.MappingError, match="Pass user_id='account_id' or"):
        table.cdp.send(event=OPENED)


@pytest.mark.parametrize(
    ("cells", "options", "shown"),
    [
        (None, {}, "timezone 6 times carry no zone and are read as UTC. If not, pass timezone="),
        (None, {"timezone": "Asia/Tokyo"}, ""),
        (
            [1682935200 + row for row in range(6)],
            {},
            "timestamp_unit 6 numbers in 'event_time' are seconds since 1970, as their size shows.",
        ),
        ([1682935200 + row for row in range(6)], {"timestamp_unit": "s"}, ""),
        (["2023-05-01T10:00:00Z"] * 3 + ["2023-05-02T10:00:00Z"] * 3, {}, ""),
    ],
)
def test_zone_and_unit(cells: list[Any] | None, options: dict[str, Any], shown: str) -> None:
    """What was assumed of the whole table, counted, and what to pass otherwise."""
    table = frame() if cells is None else frame(event_time=cells)
    plan = table.cdp.plan(event=OPENED, **options)
    text = first_screen(plan)
    assert shown in text
    fields = {each.field for each in plan.assumptions} & {"timezone", "timestamp_unit"}
    assert fields == ({shown.split(maxsplit=1)[0]} if shown else set())
    mapping = cdp.Mapping(user_id="user_id", timestamp="event_time", event=OPENED, **options)
    assert shown in first_screen(table.cdp.plan(mapping))


def test_who_was_assumed() -> None:
    """Only where it was proposed."""
    plan = frame().cdp.plan(event=OPENED)
    assert "user_id Each value of 'user_id' is the id of one person. If not, pass user_id=" in (
        first_screen(plan)
    )
    plan = frame().cdp.plan(event=OPENED, user_id="user_id")
    assert not [each for each in plan.assumptions if each.field == "user_id"]


def test_unnamed_columns_are_in_one_note() -> None:
    """All of them in one line, the first few by name."""
    one = frame(tier=["a"] * 6).cdp.plan(event=OPENED)
    assert (
        "1 column that the mapping does not name becomes a property under its own name: 'tier'"
        in (first_screen(one))
    )
    many = frame(**{f"x{number}": [number] * 6 for number in range(12)}).cdp.plan(event=OPENED)
    assert "12 columns that the mapping does not name become properties" in first_screen(many)
    assert "'x7' and 4 more. If not, pass rest='drop'." in first_screen(many)
    assert not [each for each in one.assumptions if each.field == "rest"][1:]
    dropped = frame(tier=["a"] * 6).cdp.plan(event=OPENED, rest="drop")
    assert not [each for each in dropped.assumptions if each.field == "rest"]


def test_personal_data_is_listed() -> None:
    """Each column with the reason, and how to send it; it is in no other list."""
    table = frame(email=[f"p{row}@example.com" for row in range(6)], ip=["203.0.113.9"] * 6)
    plan = table.cdp.plan(event=OPENED)
    shown = first_screen(plan)
    assert "Left out as personal data; name a column to send it, or pass rest='all'" in shown
    assert "email its name says an e-mail address ip its name says an IP address" in shown
    assert "Columns that are left out" not in str(plan)
    assert "@example.com" not in str(plan.samples)
    assert plan.to_dict()["left_out"][0] == {
        "column": "email",
        "reason": "its name says an e-mail address",
    }
    assert "Left out" not in str(table.cdp.plan(event=OPENED, rest="all"))


def test_a_plan_as_values_has_its_doubts() -> None:
    """Questions with their answers, and assumptions."""
    values = frame().cdp.plan().to_dict()
    assert values["questions"][0]["answers"][0] == "event='...'"
    assert {each["field"] for each in values["assumptions"]} >= {"user_id", "timezone"}
    assert Proposal(cdp.Mapping()).complete

"""Plans and reports as text and as HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

import cdp_backfill as cdp
from cdp_backfill.model.views import Section, View, duration
from tests.rows import OPENED, opens

if TYPE_CHECKING:
    from cdp_backfill.local_sandbox import Sandbox


class ParsedHtml(HTMLParser):
    """HTML whose tags must all be closed; collects its words."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, _: Any) -> None:
        """Open a tag."""
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the last tag."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect text, except of a style."""
        if self.open and self.open[-1] != "style":
            self.words.extend(data.split())


def plan_and_report(box: Sandbox) -> list[Any]:
    """A plan and a report with all sections."""
    frame = opens(2_000, uid=[None, *["<b>x</b>"] * 1_999], ts="2023-01-01 00:00", n=1.5)
    plan = frame.cdp.plan(OPENED, destination=box.destination)
    return [plan, plan.send(progress=False)]


def test_text_and_html_have_the_same_words(box: Sandbox) -> None:
    """HTML is escaped, and a report has no value of a row."""
    for thing in plan_and_report(box):
        text, html = str(thing), thing._repr_html_()
        assert repr(thing) == text
        words = ParsedHtml(html).words
        assert sorted(words) == sorted(text.split())
        assert "<b>" not in html
        assert ("b>x" in text) is isinstance(thing, cdp.Plan)  # a plan shows a cell of each column


def test_text_fits_80_columns(box: Sandbox) -> None:
    """No line is longer than 80 characters."""
    for thing in plan_and_report(box):
        assert max(len(line) for line in str(thing).splitlines()) <= 80


def test_the_figures_of_a_plan(box: Sandbox) -> None:
    """They are rows by outcome and event, problems, times, people, requests and fields."""
    plan, report = plan_and_report(box)
    assert plan.counts == {"to_send": 1_999, "invalid": 1, "held": 0, "skipped": 0}
    assert plan.events == {"Application Opened": 1_999}
    assert [(p.code, p.column, rows) for p, rows in plan.problems.items()] == [
        ("missing_user", "uid", 1)
    ]
    assert plan.people == 1
    assert plan.first == plan.last
    assert plan.first.isoformat() == "2023-01-01T00:00:00+00:00"
    assert plan.requests == report.requests
    assert plan.body_bytes == report.body_bytes
    assert plan.fill == report.fill
    fields = {column["name"]: column["fields"] for column in plan.to_dict()["columns"]}
    assert fields == {
        "uid": ("userId",),
        "ts": ("timestamp",),
        "n": ("properties.n",),
        None: ("event",),
    }


def test_a_plan_warns_of_recent_rows() -> None:
    """It shows how many rows are recent, and of how many people."""
    from datetime import UTC, datetime  # noqa: PLC0415

    frame = opens(4, uid=["a", "a", "b", None])
    now = datetime(2023, 5, 2, tzinfo=UTC)
    for recent, to_send in (("raise", 3), ("send", 3), ("hold", 0)):
        plan = frame.cdp.plan(OPENED, now=now, recent=recent)
        assert (plan.recent, plan.recent_people, plan.to_send) == (3, 2, to_send)
        words = " ".join(str(plan).split())
        assert "are younger than 72 hours and can trigger campaigns" in words


def test_a_plan_of_a_stream_would_spend_it() -> None:
    """It raises an error."""
    import pyarrow as pa  # noqa: PLC0415

    with pytest.raises(cdp.BadInputError, match="planning would consume it"):
        cdp.plan(pa.Table.from_pandas(opens(2)).to_reader(), OPENED)


def test_a_plan_needs_no_key() -> None:
    """It sends nothing."""
    plan = cdp.plan(opens(2), OPENED)
    assert plan.url == "https://cdp.customer.io/v1"
    assert plan.seconds == pytest.approx(0.002)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (61, "1 min"),
        (3_700, "1 h 2 min"),
        (90_000, "25 h 0 min"),
    ],
)
def test_durations(seconds: float, expected: str) -> None:
    """A duration is shown in its two largest units."""
    assert duration(seconds) == expected


def test_an_empty_section_is_not_shown() -> None:
    """A section without rows has no caption."""
    view = View("T", [Section("Nothing", (), [])], ["A note."])
    assert view.text() == "T\n\nA note."
    assert "Nothing" not in view.html()


def test_a_report_names_the_remedy(box: Sandbox) -> None:
    """Each reason has a remedy."""
    _, report = plan_and_report(box)
    words = re.sub(r"\s+", " ", str(report))
    assert "column 'uid' is empty. Fill the user id or the anonymous id" in words
    assert "report.failures" in words
    assert report.to_dict()["reasons"][0]["rows"] == 1

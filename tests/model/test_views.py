"""The views of what notebooks show: their contents, in light and dark, and in what they export."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbconvert import HTMLExporter
from nbformat import v4

import cdp_backfill as cdp
from cdp_backfill.model.views import Link, Section, View
from tests.browsers import chromium
from tests.rows import opens

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

SCRIPT = "<script>alert(1)</script>"
LONG = "a_very_long_name_of_a_column_that_somebody_made_of_a_path.context.device.model.and_more"

MAPPING = cdp.Mapping(
    user_id="uid",
    timestamp="ts",
    event="name",
    events={"open": "Application Opened", SCRIPT: "Application Crashed"},
    properties={"version": cdp.lit(SCRIPT + "x" * 90), "n": {"deep": "n"}, "raw": "raw"},
    context={"device": {"model": LONG}},
    integrations={"All": cdp.lit(False)},
    derive={"twice": f"n * 2 -- {SCRIPT}"},
    json=["raw"],
    nulls=["-"],
    timezone="Europe/Berlin",
    timestamp_unit="ms",
    oversize="drop_largest",
    droppable=[SCRIPT],
    duplicates="skip",
    earliest="2020-01-01",
)


def words(html: str) -> str:
    """The text of HTML."""
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]*>", " ", html).split())


def frame() -> Any:
    """A table with all that can make a view ugly."""
    names = ["open", SCRIPT, "open", SCRIPT]
    people: list[Any] = ["a", None, "b", "c"]
    columns = {"name": names, "n": 1.5, LONG: "Galaxy " * 40, SCRIPT: "<b>bold</b>"}
    return opens(4, uid=people, ts=1_700_000_000_000, raw="{}", **columns)


@pytest.fixture
def shown(box: Sandbox) -> dict[str, Any]:
    """One of each."""
    plan = frame().cdp.plan(MAPPING, destination=box.destination)
    report = plan.send(progress=False)
    return {
        "mapping": MAPPING,
        "plan": plan,
        "report": report,
        "box": box,
        "destination": cdp.Destination(api_key="hunter2", region="eu"),
    }


def test_no_face_runs_what_a_table_is_named(shown: dict[str, Any]) -> None:
    """Names, cells and constants are text and nothing else; no key, no frozen colour."""
    for name, thing in shown.items():
        html = thing._repr_html_()
        assert "<script" not in html, name
        assert "<b>" not in html
        assert "hunter2" not in html + str(thing) + repr(thing)
        assert not re.search(r"#[0-9a-f]{3,6}\b|rgb\(|\bid=", html)  # themes; many on one page
        assert html.count("<style>") == 1


def test_text_has_what_html_has(shown: dict[str, Any]) -> None:
    """In 80 columns; of a mapping the text is Python, to be edited."""
    for name in ("report", "box", "destination"):  # a plan cuts long names in text
        thing = shown[name]
        assert sorted(str(thing).split()) == sorted(
            words(thing._repr_html_()).replace("&lt;", "<").replace("&gt;", ">")
            .replace("&#x27;", "'").replace("&quot;", '"').replace("&amp;", "&").split()
        )  # fmt: skip
        assert max(map(len, str(thing).splitlines())) <= 80
    assert str(MAPPING) == MAPPING.to_python()


def test_a_mapping_says_what_goes_where_and_how() -> None:
    """Fields, columns and constants, and what is done on the way."""
    text = words(MAPPING._repr_html_())
    for expected in (
        "userId column uid",
        "event column name 2 values translated",
        "timestamp column ts numbers are milliseconds; times without a zone are in Europe/Berlin",
        "properties.n.deep column n",
        "properties.raw column raw JSON text, sent as its value",
        f"context.device.model column {LONG}",
        "integrations.All constant False",
        "unnamed columns become properties",
        "other events are reported as invalid",
        "message ids are made from the content",
        "texts for empty cells &#x27;-&#x27;",
        "rows before 2020-01-01 are invalid",
        "repeated message ids are left out",
        "open Application Opened",
        "twice n * 2",
    ):
        assert expected in text
    assert "x" * 61 not in text
    empty = words(cdp.Mapping(user_id="u")._repr_html_())
    assert "Nothing can be sent without event, timestamp." in empty
    assert "user_id or anonymous_id" in words(cdp.Mapping()._repr_html_())
    other = words(cdp.Mapping(message_id="m", expand=["p"], event=cdp.lit("Application Opened"),
                              rest="drop")._repr_html_())  # fmt: skip
    assert "messageId column m made from the content where empty" in other
    assert "properties.* column p a property for each part" in other
    assert "unnamed columns are left out" in other
    assert "other events" not in other


def test_a_destination_says_where_and_whether_it_has_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Address, region, strictness and limits; of the key only whether it is there."""
    text = " ".join(str(cdp.Destination(api_key="hunter2", region="eu", rate_limit=250.5)).split())
    for expected in (
        "address https://cdp-eu.customer.io/v1",
        "where region eu",
        "API key set",
        "strict mode yes",
        "requests 250.5 per second, up to 2,500 messages each",
        "in flight adapted automatically, up to 128",
        "patience waits up to 10 min for a server that is away",
        "timeout of an answer 1 min",
    ):
        assert expected in text
    loose = cdp.Destination(
        base_url="http://a.invalid/v1", insecure=True, strict=False, rate_limit=None, workers=3
    )
    text = " ".join(str(loose).split())
    assert "where another address" in text
    assert "strict mode no: the API answers 200 to everything" in text
    assert "requests no limit" in text
    assert "in flight up to 3 " in text
    assert "API key not set; a run looks in the keyring or asks" in text
    monkeypatch.setenv("CUSTOMERIO_CDP_API_KEY", "hunter2")
    assert "not set here; $CUSTOMERIO_CDP_API_KEY is set" in str(loose)


def test_a_sandbox_says_what_it_took(tmp_path: Path) -> None:
    """Messages by event, what was rejected, what it does wrong; later that it ended."""
    mapping = {"user_id": "uid", "timestamp": "ts", "event": "name", "other_events": "send"}
    names = [f"e{n % 15}" for n in range(30)]
    with cdp.sandbox(store=tmp_path / "box.db", refuse_users=["u3"], latency=0.001) as box:
        assert "Sandbox: 0 messages accepted" in str(box)
        table = opens(30, name=names).rename(columns=str)
        table.cdp.send(**mapping, destination=box.destination, progress=False)
        table[:2].cdp.send(**mapping, destination=box.destination, progress=False)
        text = " ".join(str(box).split())
        assert "Sandbox: 31 messages accepted" in text
        assert "people 29" in text
        assert re.search(r"messages rejected \d+; see box.rejected\(\)", text)
        assert "repeated message ids 2; see box.duplicates()" in text
        assert "injected faults latency=0.001, refuse_users=frozenset({'u3'})" in text
        assert "(3 more events)" in text
        assert f'<a href="{box.page}"' in box._repr_html_()
    assert "Sandbox: stopped; its data is in" in str(box)
    assert str(tmp_path / "box.db") in box._repr_html_()
    assert box.url in box._repr_html_()


def test_a_link_is_text_in_text() -> None:
    """And nothing breaks out of it."""
    view = View("T", [Section("S", (), [("page", Link('http://x/"><b>'))])])
    assert 'http://x/"><b>' in view.text()
    assert "<b>" not in view.html()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_an_exported_notebook_keeps_the_looks(
    shown: dict[str, Any], theme: str, tmp_path: Path
) -> None:
    """As a browser lays it out: to the left, nothing beyond the page, enough contrast."""
    cells = []
    for thing in shown.values():
        data = {"text/html": thing._repr_html_(), "text/plain": repr(thing)}
        output = v4.new_output("execute_result", data=data)  # type: ignore[no-untyped-call]
        cells.append(v4.new_code_cell("x", outputs=[output]))  # type: ignore[no-untyped-call]
    notebook = v4.new_notebook(cells=cells)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    exporter = HTMLExporter(theme=theme)  # type: ignore[no-untyped-call]
    (tmp_path / "it.html").write_text(exporter.from_notebook_node(notebook)[0], "utf-8")
    with chromium() as browser:
        for width in (700, 1_100):
            page = browser.new_page(viewport={"width": width, "height": 800})
            page.route("http*://**/*", lambda route: route.abort())
            page.goto((tmp_path / "it.html").as_uri(), wait_until="domcontentloaded")
            views = page.locator(".cdp")
            assert views.count() == len(shown)
            for number in range(views.count()):
                measured = views.nth(number).evaluate(
                    """view => {
                        const cell = view.querySelector('td:not(.n)');
                        const style = getComputedStyle(cell);
                        return [view.scrollWidth - view.clientWidth, style.textAlign, style.color,
                                getComputedStyle(cell.parentElement).backgroundColor];
                    }"""
                )
                beyond, align, colour, behind = measured
                assert beyond <= 0
                assert align == "left"
                assert behind == "rgba(0, 0, 0, 0)"
                dark = sum(map(int, re.findall(r"\d+", colour)[:3])) > 380
                assert dark is (theme == "dark")  # the colour of the letters

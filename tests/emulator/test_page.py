"""The sandbox's web page in a browser."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, Route, expect

import cdp_backfill as cdp
from tests.browsers import browser
from tests.emulator.test_sandbox import post

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

__all__ = ["browser"]  # a fixture

ATTACK = "<img src=x onerror=alert(1)>"


@pytest.fixture
def page(browser: Browser, box: Sandbox) -> Iterator[Page]:
    """A browser page that only contacts the sandbox and reports no error."""
    page = browser.new_page(viewport={"width": 1_100, "height": 1_000})
    urls: list[str] = []
    messages: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("dialog", lambda dialog: messages.append(dialog.message))
    yield page
    page.close()
    assert {url for url in urls if not url.startswith(box.page)} == set()
    # The browser itself reports that a stopped sandbox refuses connections, and unknown messages.
    expected = ("ERR_CONNECTION_REFUSED", "status of 404")
    assert [text for text in messages if not any(each in text for each in expected)] == []


def send(box: Sandbox, **columns: Any) -> None:
    """Send events of three months."""
    frame = pd.DataFrame(
        {
            "uid": ["ada", "bob", ATTACK],
            "event": ["Application Opened", "Application Opened", "Application Crashed"],
            "ts": ["2023-01-05T10:00:00Z", "2023-02-05T10:00:00Z", "2023-03-05T10:00:00Z"],
        }
        | columns
    )
    report = frame.cdp.send(
        cdp.Mapping(user_id="uid", event="event", timestamp="ts"),
        destination=box.destination,
        progress=False,
    )
    assert report.ok


def test_an_empty_sandbox_shows_how_to_send(box: Sandbox, page: Page) -> None:
    """Without messages, the page shows the address and examples."""
    page.goto(box.page)
    expect(page.locator("#empty")).to_be_visible()
    expect(page.locator("body")).to_contain_text(box.url)
    expect(page.locator("#no-faults")).to_be_visible()


def test_stored_messages_are_shown(box: Sandbox, page: Page, tmp_path: Path) -> None:
    """Totals, events, months, the latest messages, rejected messages and faults."""
    send(box)
    post(box, "/batch", {"batch": [{"type": "track", "event": "x"}]})
    box.set_faults(latency=0.001)
    page.goto(box.page)
    expect(page.locator("#stored")).to_have_text("3")
    expect(page.locator("#requests")).to_have_text("2")
    expect(page.locator("#not_stored")).to_have_text("1")
    rows = page.locator("#events tbody tr")
    totals = box.totals()
    expect(rows).to_have_count(len(totals))
    for event, count in totals["messages"].items():
        row = rows.filter(has_text=str(event))
        expect(row).to_contain_text(str(count))
    expect(page.locator("#chart svg rect")).to_have_count(3)
    expect(page.locator("#chart svg")).to_contain_text("2023-02")
    latest = page.locator("#latest tbody tr")
    expect(latest).to_have_count(3)
    expect(latest.first).to_contain_text(ATTACK)
    expect(page.locator("#rejected tbody tr")).to_contain_text("userId or anonymousId is required")
    expect(page.locator("#faults")).to_contain_text("latency")
    assert page.locator("img").count() == 0
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
        assert (tmp_path / f"{scheme}.png").stat().st_size > 10_000


def test_it_updates_itself(box: Sandbox, page: Page) -> None:
    """New messages appear without a reload; so does a notice when the sandbox stops."""
    send(box)
    page.goto(box.page)
    expect(page.locator("#stored")).to_have_text("3")
    send(box, uid=["x", "y", "z"])
    expect(page.locator("#stored")).to_have_text("6", timeout=10_000)
    box.stop()
    expect(page.locator("#state")).to_contain_text("cannot be reached", timeout=10_000)


FOREIGN = [
    *(
        ATTACK,
        "</script><script>alert(1)</script>",
        "<!--",
        '"><svg onload=alert(1)>',
        "javascript:x",
    ),
    *(
        "&lt;b&gt;",
        "__proto__",
        "constructor",
        "\u202egnp.exe",
        "\u0000\u001f\u2028",
        "🐈",
        "{{x}}",
    ),
]


def test_foreign_text_is_only_text(box: Sandbox, page: Page) -> None:
    """Names and values of clients are shown as they are, wherever they stand on the page."""
    for text in FOREIGN:
        message = {"userId": text, "event": text, "channel": text, text: text}
        more = {"properties": {text: text}, "context": {"app": {"name": 1}, "campaign": {text: 2}}}
        assert post(box, "/track", message | more).status_code == 200
        post(box, "/track", {"userId": text, "event": "x", "timestamp": text})
    page.goto(box.page)
    expect(page.locator("#latest tbody tr")).to_have_count(12)
    scripts = page.locator("script, img, svg[onload], iframe").count()
    assert scripts == 1
    shown = page.locator("#events tbody th").all_text_contents()
    assert sorted(shown) == sorted(FOREIGN)
    assert set(page.locator("#latest tbody th").all_text_contents()) <= set(FOREIGN)
    warnings = page.locator("#warnings tbody th").all_text_contents()
    assert {f"context.campaign.{text} must be a string" for text in FOREIGN} <= set(warnings)
    for number, text in enumerate(FOREIGN, start=1):
        page.goto(f"{box.page}#message-{number}")
        expect(page.locator("#h-message")).to_have_text(f"Message {number}")
        opened = json.loads(page.locator("#json").text_content() or "")
        assert opened["event"] == opened["channel"] == opened[text] == text
        assert opened["properties"] == {text: text}
        assert text in (page.locator("#message-warnings").text_content() or "")
    assert page.locator("script, img, svg[onload], iframe").count() == 1


def test_a_message_can_be_opened(box: Sandbox, page: Page) -> None:
    """Its whole JSON is shown, numbers as they were written, with its warnings."""
    text = """{
  "type": "track",
  "userId": "ada",
  "event": "Application Opened",
  "timestamp": "2023-05-01T10:00:00.000Z",
  "properties": {
    "big": 1000000000000000000001,
    "exact": 1.50,
    "nothing": null
  },
  "context": {
    "app": {
      "version": 2
    }
  },
  "sentAt": "2023-05-01T10:00:00Z",
  "mine": [
    1,
    2
  ]
}"""
    assert post(box, "/track", text.encode()).status_code == 200
    page.goto(box.page)
    link = page.locator("#latest tbody a")
    expect(link).to_have_class("warned")
    link.click()
    expect(page.locator("dialog")).to_be_visible()
    expect(page.locator("#h-message")).to_have_text("Message 1")
    expect(page.locator("#received")).to_contain_text("in request 1")
    assert page.locator("#json").text_content() == text
    assert page.locator("#message-warnings li").all_text_contents() == box.events()["warnings"][0]
    page.locator("#close").click()
    expect(page.locator("dialog")).to_be_hidden()
    expect(page).to_have_url(box.page)
    link.click()
    page.go_back()
    expect(page.locator("dialog")).to_be_hidden()
    page.goto(f"{box.page}#message-99")
    expect(page.locator("#h-message")).to_have_text("Message 99 does not exist")


def test_a_message_that_is_closed_before_it_has_come(box: Sandbox, page: Page) -> None:
    """It is not shown afterwards."""
    post(box, "/track", {"userId": "ada", "event": "Application Opened"})
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/messages/1", hold)
    page.goto(box.page)
    with page.expect_request("**/messages/1"):
        page.locator("#latest tbody a").click()
    page.go_back()
    with page.expect_response("**/messages/1") as answer:
        held[0].continue_()
    answer.value.finished()
    page.evaluate("() => new Promise(done => setTimeout(done))")  # what waits for it goes on first
    expect(page.locator("dialog")).to_be_hidden()


def test_warnings_are_shown(box: Sandbox, page: Page) -> None:
    """Each has its number of messages and leads to the latest one; without any, there is none."""
    page.goto(box.page)
    expect(page.locator("#empty")).to_be_visible()
    expect(page.locator("#warned")).to_be_hidden()
    old = {"userId": "u", "event": "x", "timestamp": "2023-05-01T10:00:00Z"}
    for sent_at in ("2023-05-01T10:00:05Z", "2023-05-01T10:00:06Z"):
        post(box, "/track", old | {"sentAt": sent_at})
    rows = page.locator("#warnings tbody tr")
    expect(rows).to_have_count(1, timeout=10_000)
    expect(rows).to_contain_text("shifts timestamp")
    expect(rows.locator("td").first).to_have_text("2")
    rows.locator("a").click()
    expect(page.locator("#h-message")).to_have_text("Message 2")


def test_many_events(box: Sandbox, page: Page) -> None:
    """Fifty are listed by name, the others are added up."""
    batch = [
        {
            "type": "track",
            "userId": "u",
            "event": f"e{number:03d}",
            "timestamp": "2023-05-01T10:00:00Z",
        }
        for number in range(120)
    ]
    assert post(box, "/batch", {"batch": [*batch, batch[7]]}).status_code == 200
    page.goto(box.page)
    rows = page.locator("#events tbody tr")
    expect(rows).to_have_count(51)
    expect(rows.first).to_contain_text("e007")
    expect(rows.last).to_contain_text("70 more events")
    expect(rows.last.locator("td").first).to_have_text("70")
    expect(page.locator("#legend")).to_contain_text("other events")
    page.locator("details").click()
    expect(page.locator("#months tbody td").last).to_have_text("121")


CONTRAST = """() => {
  const luminance = (text) => {
    const [r, g, b] = text.match(/[0-9.]+/g).slice(0, 3).map((part) => {
      const share = Number(part) / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const style = getComputedStyle(document.body);
  const root = getComputedStyle(document.documentElement);
  const none = 'rgba(0, 0, 0, 0)';
  const background = style.backgroundColor === none ? root.backgroundColor : style.backgroundColor;
  const [one, other] = [luminance(style.color), luminance(background)].sort((a, b) => b - a);
  return (one + 0.05) / (other + 0.05);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_legible(box: Sandbox, page: Page, scheme: str) -> None:
    """Text has enough contrast in both themes, and fits a narrow window."""
    send(box)
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": 360, "height": 700})
    page.goto(box.page)
    expect(page.locator("#stored")).to_have_text("3")
    assert page.evaluate(CONTRAST) >= 4.5
    assert page.evaluate("document.documentElement.scrollWidth") <= 360

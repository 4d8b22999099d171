"""The sandbox's web page in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect

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
    # The browser itself reports that a stopped sandbox refuses connections.
    assert [text for text in messages if "ERR_CONNECTION_REFUSED" not in text] == []


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

"""Plots of a report, and the event histogram behind them."""

from __future__ import annotations

import _thread
import io
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from matplotlib.text import Text

import cdp_backfill as cdp
from cdp_backfill.model.outcomes import OUTCOMES, Outcome
from cdp_backfill.results import plots
from cdp_backfill.results.histogram import (
    MAX_BINS,
    MAX_EVENTS,
    NO_BIN,
    OTHER_EVENTS,
    EventHistogram,
)
from tests.kernels import Kernel
from tests.rows import built, opens
from tests.sending import send
from tests.servers import ReceivedRequest, Reply, serving

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from cdp_backfill.local_sandbox import Sandbox

NAMED = cdp.Mapping(user_id="uid", timestamp="ts", event="name", other_events="send")


def mixed(rows: int = 300) -> pd.DataFrame:
    """Three events over a hundred days, some of them without a person."""
    people: list[Any] = [None if n % 10 == 0 else "u" for n in range(rows)]
    names = [("Application Opened", "Application Crashed", "b_$x")[n % 3] for n in range(rows)]
    days = pd.to_datetime("2023-01-01T12:00:00Z") + pd.to_timedelta(np.arange(rows) // 3, unit="D")
    return opens(rows, uid=people, name=names, ts=days)


def words(figure: Figure) -> list[str]:
    """All text of a figure."""
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def pixels(figure: Figure) -> Any:
    """The picture, with its transparency."""
    return mpl.image.imread(io.BytesIO(figure._repr_png_()))  # type: ignore[attr-defined]


def totals(report: cdp.Report) -> dict[tuple[str, str], int]:
    """Rows by event and outcome."""
    rows_by_key: dict[tuple[str, str], int] = {}
    for (event, _), counts in report._failure_log.event_counts().bins.items():
        for outcome in OUTCOMES:
            if rows := int(counts[outcome.code]):
                key = (event, str(outcome))
                rows_by_key[key] = rows_by_key.get(key, 0) + rows
    return rows_by_key


def test_rows_are_counted_by_event_day_and_outcome(box: Sandbox) -> None:
    """Each row with an event and a time is in its bin; the sums are those of the report."""
    frame = mixed()
    report = send(frame, box, NAMED)
    bins = report._failure_log.event_counts().bins
    assert len(bins) == 300
    day = pd.Timestamp("2023-01-01").value // 86_400_000_000_000
    assert bins["Application Opened", day][Outcome.INVALID.code] == 1
    assert bins["Application Crashed", day][Outcome.DELIVERED.code] == 1
    assert totals(report) == {
        ("Application Opened", "delivered"): 90,
        ("Application Opened", "invalid"): 10,
        ("Application Crashed", "delivered"): 90,
        ("Application Crashed", "invalid"): 10,
        ("b_$x", "delivered"): 90,
        ("b_$x", "invalid"): 10,
    }


def test_a_sum_counts_repaired_rows_under_their_new_outcome(box: Sandbox) -> None:
    """No row counts twice, even in a sum of sums."""
    first = send(mixed(), box, NAMED)
    people: list[Any] = ["x"] * 20 + [None] * 10
    second = first.failures.assign(uid=people).cdp.send(destination=box.destination, progress=False)
    both = first + second
    assert sum(totals(both).values()) == 300
    assert sum(rows for (_, outcome), rows in totals(both).items() if outcome == "invalid") == 10
    third = both.failures.assign(uid="y").cdp.send(destination=box.destination, progress=False)
    assert {outcome for _, outcome in totals(both + third)} == {"delivered"}
    assert sum(totals(both + third).values()) == 300


def test_rows_without_a_usable_time_have_no_bin(box: Sandbox) -> None:
    """An invalid or impossible time does not stretch the plot."""
    times = ["x", None, "1970-01-01", "2199-01-01", "2023-01-01", "2023-01-02"]
    names = ["Application Opened"] * 5 + [""]
    report = send(opens(6, ts=times, name=names), box, NAMED)
    assert totals(report) == {("Application Opened", "delivered"): 1}


def test_the_number_of_bins_is_bounded() -> None:
    """A table of any size, with any names and times in any order, makes a few thousand bins."""
    rows = 40_000
    rng = np.random.default_rng(1)
    histogram = EventHistogram()
    names = rng.integers(0, 5_000, rows)
    seconds = rng.integers(1_262_304_000, 1_700_000_000, rows)
    for start in range(0, rows, 4_000):
        part = slice(start, start + 4_000)
        messages = built(
            {"name": [f"e{n}" for n in names[part]], "ts": seconds[part]},
            event="name",
            other_events="send",
        )
        bins = histogram.bins(messages, 4_000)
        assert (bins != NO_BIN).all()
        histogram.count(bins, Outcome.DELIVERED.code)
    event_counts = histogram.counts()
    assert event_counts.width > 1
    assert len(histogram.keys) < 3 * MAX_BINS + 4_000 * 3
    assert len(histogram._numbers) <= MAX_BINS
    assert len({event for event, _ in event_counts.bins}) == MAX_EVENTS + 1
    assert sum(int(counts.sum()) for counts in event_counts.bins.values()) == rows
    assert OTHER_EVENTS in {event for event, _ in event_counts.bins}
    wide = event_counts.with_width(1_000, first=7)
    assert {(day - 7) % 1_000 for _, day in wide} == {0}
    assert sum(int(counts.sum()) for counts in wide.values()) == rows


def test_far_apart_times_are_counted_too() -> None:
    """If a lookup table of all days would be too large, a search replaces it."""
    stamps = ["2009-01-01T00:00:00Z"] + ["2023-05-01T10:00:00Z"] * 29
    names = [f"e{n}" for n in range(30)]
    messages = built({"name": names, "ts": stamps}, event="name", other_events="send")
    histogram = EventHistogram()
    histogram.count(histogram.bins(messages, 30), 0)
    assert len(histogram.counts().bins) == 30


def test_counting_is_cheap() -> None:
    """Less than 0.2 microseconds per row; usually far less than 0.1."""
    rows = 8_192
    names = ["Application Opened", "Application Crashed"] * (rows // 2)
    messages = built({"name": names}, event="name")
    histogram = EventHistogram()
    started = time.process_time()
    for _ in range(20):
        histogram.count(histogram.bins(messages, rows), 0)
    assert (time.process_time() - started) / (20 * rows) < 0.2e-6


def test_a_figure_has_three_panels(box: Sandbox) -> None:
    """Events with their rows, the run, and the reasons; each can be drawn alone."""
    report = send(mixed(), box, NAMED)
    texts = words(report.plot())
    for text in (
        "Events over time, by outcome (UTC, one bar per day)",
        "Application Opened\n100",
        "b_\\$x\n100",  # no formula
        "delivered",
        "rows/s",
        "ms per answer",
        "Not delivered, by reason: 30 of 300 rows",
        "invalid: missing user (uid)",
        "30",
    ):
        assert text in texts
    assert any(text.startswith("The run: ") for text in texts)
    kinds: list[tuple[plots.Kind, str]] = [
        ("events", "Events"),
        ("run", "The run"),
        ("reasons", "Not delivered"),
    ]
    for kind, title in kinds:
        titles = [
            text
            for text in words(report.plot(kind))
            if text.startswith(("Events", "The run", "Not delivered"))
        ]
        assert [text.startswith(title) for text in titles] == [True]
    pie: Any = "pie"
    with pytest.raises(cdp.BadInputError, match=r"no kind 'pie' of plot\. Kinds: 'all', 'events'"):
        report.plot(pie)


def test_bar_heights_are_the_counts(box: Sandbox) -> None:
    """The heights of all bars of all events add up to the counted rows."""
    report = send(mixed(), box, NAMED)
    (part,) = report.plot("events").subfigs
    bars = [bar for axis in part.axes for bar in axis.patches if isinstance(bar, Rectangle)]
    assert sum(bar.get_height() for bar in bars) == 300
    (part,) = report.plot("reasons").subfigs
    (bar,) = (bar for bar in part.axes[0].patches if isinstance(bar, Rectangle))
    assert bar.get_width() == 30


def test_many_events_and_reasons_are_grouped(box: Sandbox) -> None:
    """Seven events by name and one line for the others; eight reasons and one bar for the rest."""
    names = [f"event {n % 23}" for n in range(230)]
    columns = {f"price{n}": [np.inf if row == n else 1.0 for row in range(230)] for n in range(12)}
    report = send(opens(230, name=names, **columns), box, NAMED)
    texts = words(report.plot())
    assert "16 other events\n160" in texts
    assert "4 other reasons" in texts
    assert len([text for text in texts if text.startswith("event ")]) == 7


def test_empty_panels_have_a_message(box: Sandbox) -> None:
    """Without rows, failures, requests or times, a message replaces the empty axes."""
    assert words(send(opens(0, name=[]), box, NAMED).plot()).count("The table has no rows.") == 2
    good = words(send(opens(1, name="Application Opened"), box, NAMED).plot())
    assert "All rows were delivered." in good
    bad = words(send(opens(2, name="Application Opened", ts="x"), box, NAMED).plot())
    assert "No row has both an event and a usable time." in bad
    assert "Nothing was sent." in bad
    skip = cdp.Mapping(user_id="uid", timestamp="ts", event="name", other_events="skip")
    assert "No row failed." in words(send(opens(2, name="x"), box, skip).plot())


def test_an_interrupted_run_says_so() -> None:
    """The title and a line at the end say so; in the sum with its retry, neither does."""
    first = ["the first run"]

    def answer(number: int, seen: ReceivedRequest) -> Reply:
        # Again, should Python have dropped the first one in a place that ignores exceptions.
        if first and number in (5, 60, 120) and seen.raw:
            _thread.interrupt_main()
        return Reply()

    with serving(answer) as server:
        where = server.destination(max_messages=100, rate_limit=100.0)
        frame = opens(20_000, name="Application Opened")
        report = frame.cdp.send(NAMED, destination=where, progress=False)
        assert report.interrupted
        (part,) = report.plot("run").subfigs
        assert any("interrupted" in text for text in words(report.plot("run")))
        assert any(line.get_linestyle() == "--" for line in part.axes[0].lines)
        first.clear()
        both = report + report.retry()
    assert both.ok
    assert not any("interrupted" in text for text in words(both.plot("run")))


def contrast(colour: str, ground: tuple[float, float, float]) -> float:
    """The ratio of contrast as the WCAG define it."""

    def light(rgb: tuple[float, float, float]) -> float:
        parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        return float(np.dot(parts, (0.2126, 0.7152, 0.0722)))

    one, other = light(to_rgb(colour)), light(ground)
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def test_it_is_legible_on_white_and_on_black(box: Sandbox) -> None:
    """The background is transparent; text and bars contrast with both."""
    picture = pixels(send(mixed(), box, NAMED).plot())
    assert picture.shape[2] == 4
    assert (picture[:, :, 3] == 0).mean() > 0.4
    for ground in ((1.0, 1.0, 1.0), (0.067, 0.067, 0.067)):
        assert contrast(plots._TEXT_COLOUR, ground) > 4
        for colour in (*plots._COLOURS.values(), plots._RATE_COLOUR, plots._ANSWER_COLOUR):
            assert contrast(colour, ground) > 2.5


def test_nothing_of_matplotlib_is_changed(box: Sandbox) -> None:
    """Its settings stay, pyplot knows no figure, and a style changes nothing."""
    import matplotlib.pyplot as plt  # noqa: PLC0415

    report = send(mixed(), box, NAMED)
    before = dict(mpl.rcParams)
    plain = pixels(report.plot("reasons"))
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []
    with plt.style.context("dark_background"):
        assert np.allclose(pixels(report.plot("reasons")), plain)


def test_without_matplotlib_it_says_how_to_install_it(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the extra to install."""
    report = send(mixed(3), box, NAMED)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(cdp.MissingExtraError, match=r'pip install "cdp-backfill\[plot\]"'):
        report.plot()


@pytest.mark.filterwarnings("default")  # of the kernel's own making
@pytest.mark.parametrize("before", ["", "%matplotlib inline", "import matplotlib.pyplot"])
def test_a_notebook_shows_it_once(before: str, tmp_path: Path) -> None:
    """As the value of a cell, with and without pyplot, and not a second time at its end."""
    kernel = Kernel(tmp_path)
    try:
        kernel.run("import pandas as pd, cdp_backfill as cdp, warnings")
        kernel.run(before)
        kernel.run(
            "frame = pd.DataFrame({'u': ['a'], 't': ['2023-01-01']})\n"
            "with cdp.sandbox() as box:\n"
            "    report = frame.cdp.send(user_id='u', timestamp='t',"
            " event=cdp.lit('Application Opened'), progress=False, destination=box.destination)"
        )
        outputs = json.loads(kernel.run("report.plot()"))
        kept = json.loads(kernel.run("kept = report.plot()"))
    finally:
        kernel.close()
    assert kernel.errors == []
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 1
    assert len(outputs) == 1
    assert kept == []

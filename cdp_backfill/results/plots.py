"""Draws the results of a run: events over time, the speed, and the reasons of failures."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np

from cdp_backfill.errors import BadInputError, MissingExtraError
from cdp_backfill.model.outcomes import OUTCOMES, Outcome
from cdp_backfill.model.views import duration
from cdp_backfill.results.histogram import OTHER_EVENTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from cdp_backfill.results.histogram import EventCounts
    from cdp_backfill.results.progress import Snapshot
    from cdp_backfill.results.reasons import FailureReason
    from cdp_backfill.results.run_stats import RunStats

Kind = Literal["all", "events", "run", "reasons"]

# Each contrasts with white, with black, and with the colours next to it.
_COLOURS: Final = {
    Outcome.DELIVERED: "#3a9a70",
    Outcome.INVALID: "#d9822b",
    Outcome.REFUSED: "#d14b5a",
    Outcome.FAILED: "#b455a0",
    Outcome.UNKNOWN: "#8a6fd8",
    Outcome.HELD: "#4a8fd0",
    Outcome.SKIPPED: "#8f8f8f",
    Outcome.UNSENT: "#b09a3c",
}
_TEXT_COLOUR: Final = "#7b7b7b"  # text and lines; the same contrast with white and with black
_LINE_COLOUR: Final = "#7b7b7b40"
_RATE_COLOUR: Final = "#4a8fd0"
_ANSWER_COLOUR: Final = "#d9822b"

_FIGURE_WIDTH: Final = 9.0  # inches
_MAX_EVENTS: Final = 7
_MAX_REASONS: Final = 8
_MAX_BARS: Final = 120
_MIN_BARS: Final = 8  # room for so many, so that a single bar does not fill the panel
_MAX_STEPS: Final = 150
_FONT_SIZE: Final = 9


def figure(
    kind: Kind,
    *,
    counts: dict[str, int],
    stats: RunStats,
    timeline: tuple[Snapshot, ...],
    reasons: list[FailureReason],
    event_counts: EventCounts,
    interrupted: bool,
) -> Figure:
    """Draw the results of a run.

    Args:
        kind: All three panels, or one of them.
        counts: Rows by outcome.
        stats: The figures of the run.
        timeline: Snapshots of the run.
        reasons: Why rows were not delivered, most rows first.
        event_counts: Rows by event, time and outcome.
        interrupted: Whether the run was interrupted.

    Raises:
        BadInputError: There is no such kind.
        MissingExtraError: Matplotlib is not installed.
    """
    if kind not in get_args(Kind):
        names = ", ".join(map(repr, get_args(Kind)))
        raise BadInputError(f"There is no kind {kind!r} of plot. Kinds: {names}.")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  # an extra
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError.of("matplotlib", extra="plot", purpose="report.plot()") from error

    class ReportFigure(Figure):
        """A figure that a notebook shows without pyplot."""

        def _repr_png_(self) -> bytes:
            out = io.BytesIO()
            self.savefig(out, format="png")
            return out.getvalue()

    lines = min(len({event for event, _ in event_counts.bins}), _MAX_EVENTS + 1)
    heights = {
        "events": 1.0 + 0.62 * max(1.6, lines),
        "run": 2.5,
        "reasons": 0.9 + 0.34 * max(1, min(len(reasons), _MAX_REASONS + 1)),
    }
    chosen = list(heights) if kind == "all" else [kind]
    ratios = [heights[name] for name in chosen]
    # pyplot is not used: its settings stay as they are, and a notebook shows the figure once.
    drawing = ReportFigure(figsize=(_FIGURE_WIDTH, sum(ratios)), dpi=100, layout="constrained")
    FigureCanvasAgg(drawing)
    drawing.patch.set_alpha(0.0)
    panels = drawing.subfigures(len(chosen), 1, height_ratios=ratios, squeeze=False)[:, 0]
    for name, panel in zip(chosen, panels, strict=True):
        panel.patch.set_alpha(0.0)
        if name == "events":
            _events(panel, event_counts, rows=sum(counts.values()))
        elif name == "run":
            _run(panel, counts, stats, timeline, interrupted=interrupted)
        else:
            _reasons(panel, reasons, counts)
    return drawing


def _events(panel: SubFigure, event_counts: EventCounts, *, rows: int) -> None:
    days = sorted({day for _, day in event_counts.bins})
    if not days:
        _title(panel, "Events over time")
        text = "No row has both an event and a usable time."
        _message(panel, text if rows else "The table has no rows.")
        return
    width = max(event_counts.width, -(-(days[-1] - days[0] + 1) // _MAX_BARS))
    bins = event_counts.with_width(width, days[0])
    totals: dict[str, int] = {}
    for (event, _), counts in bins.items():
        totals[event] = totals.get(event, 0) + int(counts.sum())
    ordered = sorted(totals, key=lambda event: (event == OTHER_EVENTS, -totals[event]))
    lines, others = ordered[:_MAX_EVENTS], ordered[_MAX_EVENTS:]
    if len(others) == 1:
        lines, others = ordered, []
    groups = [(_truncated(event, 30), [event]) for event in lines]
    if others:
        groups.append((f"{len(others):,} other events", others))
    unit = "day" if width == 1 else f"{width:,} days"
    _title(panel, f"Events over time, by outcome (UTC, one bar per {unit})")
    axes = panel.subplots(len(groups), 1, sharex=True, squeeze=False)[:, 0]
    present = [o for o in OUTCOMES if any(c[o.code] > 0 for c in bins.values())]
    for axis, (label, names) in zip(axes, groups, strict=True):
        _bars(axis, bins, set(names), width, present)
        total = sum(totals[name] for name in names)
        axis.set_ylabel(
            f"{label}\n{total:,}",
            rotation=0,
            ha="right",
            va="center",
            color=_TEXT_COLOUR,
            fontsize=_FONT_SIZE,
        )
    _dates(axes[-1], days, width)
    handles = [_swatch(_COLOURS[outcome]) for outcome in present]
    panel.legend(
        handles,
        [str(outcome) for outcome in present],
        loc="outside upper right",
        ncols=len(present),
        frameon=False,
        fontsize=_FONT_SIZE,
        labelcolor=_TEXT_COLOUR,
        handlelength=1.0,
        columnspacing=1.2,
    )


def _bars(
    axis: Axes,
    bins: dict[tuple[str, int], Any],
    names: set[str],
    width: int,
    present: list[Outcome],
) -> None:
    by_day: dict[int, Any] = {}
    for (event, day), counts in bins.items():
        if event in names:
            by_day[day] = by_day[day] + counts if day in by_day else counts
    days = sorted(by_day)
    table = np.array([by_day[day] for day in days]).clip(0)
    bottom = np.zeros(len(days))
    for outcome in present:
        heights = table[:, outcome.code]
        if heights.any():
            axis.bar(
                [day + width / 2 for day in days],
                heights,
                width * 0.92,
                bottom=bottom,
                color=_COLOURS[outcome],
                linewidth=0,
            )
            bottom += heights
    _style(axis)
    most = float(bottom.max(initial=1.0)) or 1.0
    axis.set_ylim(0, most * 1.08)
    axis.set_yticks([most], [_short(most)])


def _dates(axis: Axes, days: list[int], width: int) -> None:
    first, last = days[0], days[0] + (days[-1] - days[0]) // width * width + width
    room = max(0.5, (last - first) * 0.01, (_MIN_BARS * width - (last - first)) / 2)
    axis.set_xlim(first - room, last + room)
    number = min(6, max(1, (last - first) // width))
    ticks = sorted({first + (last - first) * n // number // width * width for n in range(number)})
    pattern = "%Y-%m-%d" if last - first < 1_000 else "%Y-%m"  # noqa: PLR2004  # days
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    labels = [(epoch + timedelta(days=day)).strftime(pattern) for day in ticks]
    axis.set_xticks([tick + width / 2 for tick in ticks], labels)
    axis.tick_params(axis="x", length=3, color=_TEXT_COLOUR)


def _run(
    panel: SubFigure,
    counts: dict[str, int],
    stats: RunStats,
    timeline: tuple[Snapshot, ...],
    *,
    interrupted: bool,
) -> None:
    stopped = interrupted and counts[Outcome.UNSENT] > 0
    done = sum(counts.values()) - counts[Outcome.UNSENT]
    rate = done / stats.seconds if stats.seconds else 0.0
    suffix = ", interrupted" if stopped else ""
    _title(panel, f"The run: {duration(stats.seconds)}, {rate:,.0f} rows/s{suffix}")
    steps = _steps(timeline)
    if not steps or not stats.requests:
        _message(panel, "Nothing was sent.")
        return
    edges = [0.0, *(float(step[0]) for step in steps)]
    axis = panel.subplots()
    _style(axis)
    rates = [step[1] for step in steps]
    axis.stairs(rates, edges, fill=True, color=_RATE_COLOUR, alpha=0.25)
    axis.stairs(rates, edges, color=_RATE_COLOUR, linewidth=1.5)
    axis.set_ylim(0, max(1.0, *rates) * 1.15)
    axis.set_xlim(0, edges[-1])
    axis.yaxis.set_major_formatter(lambda value, _: _short(value))
    axis.yaxis.set_major_locator(_few_ticks())
    axis.tick_params(axis="y", labelcolor=_RATE_COLOUR)
    axis.set_ylabel("rows/s", color=_RATE_COLOUR, fontsize=_FONT_SIZE)
    axis.set_xlabel("seconds", color=_TEXT_COLOUR, fontsize=_FONT_SIZE)
    axis.tick_params(axis="x", length=3, color=_TEXT_COLOUR)
    waits = [
        ((start + step[0]) / 2, step[2])
        for start, step in zip(edges[:-1], steps, strict=True)
        if step[2] is not None
    ]
    if waits:
        other = axis.twinx()
        _style(other)
        other.plot(
            *zip(*waits, strict=True), color=_ANSWER_COLOUR, linewidth=1.5, marker="o", markersize=3
        )
        other.set_ylim(0, max(wait for _, wait in waits) * 1.15)
        other.yaxis.set_major_locator(_few_ticks())
        other.tick_params(axis="y", labelcolor=_ANSWER_COLOUR)
        other.set_ylabel("ms per answer", color=_ANSWER_COLOUR, fontsize=_FONT_SIZE)
    if stopped:
        axis.axvline(edges[-1], color=_COLOURS[Outcome.REFUSED], linestyle="--", linewidth=2)


def _steps(timeline: tuple[Snapshot, ...]) -> list[tuple[float, float, float | None]]:
    """End in seconds, rows per second, and ms per answer of steps of about equal length."""
    if not timeline:
        return []
    least = timeline[-1].seconds / _MAX_STEPS
    steps: list[tuple[float, float, float | None]] = []
    seconds = rows = answers = waited = 0.0
    for item in timeline:
        passed = item.seconds - seconds
        if passed <= 0 or (passed < least and item is not timeline[-1]):
            continue
        count = item.answers - answers
        wait = (item.answer_seconds - waited) / count * 1_000 if count > 0 else None
        steps.append((item.seconds, max(0.0, item.rows - rows) / passed, wait))
        seconds, rows = item.seconds, item.rows
        answers, waited = item.answers, item.answer_seconds
    return steps


def _reasons(panel: SubFigure, reasons: list[FailureReason], counts: dict[str, int]) -> None:
    missing, total = sum(item.rows for item in reasons), sum(counts.values())
    _title(panel, f"Not delivered, by reason: {missing:,} of {total:,} rows")
    if not reasons:
        skipped = counts[Outcome.SKIPPED]
        text = "All rows were delivered." if not skipped else "No row failed."
        _message(panel, text if total else "The table has no rows.")
        return
    lines = [
        (_label(item), item.rows, _COLOURS[Outcome(item.outcome)])
        for item in reasons[:_MAX_REASONS]
    ]
    if rest := reasons[_MAX_REASONS:]:
        lines.append(
            (f"{len(rest):,} other reasons", sum(item.rows for item in rest), _TEXT_COLOUR)
        )
    axis = panel.subplots()
    _style(axis)
    axis.barh(
        range(len(lines)), [rows for _, rows, _ in lines], 0.7, color=[line[2] for line in lines]
    )
    axis.set_yticks(range(len(lines)), [label for label, _, _ in lines])
    axis.set_ylim(len(lines) - 0.5, -0.5)
    axis.set_xlim(0, max(rows for _, rows, _ in lines) * 1.15)
    axis.set_xticks([])
    axis.spines["bottom"].set_visible(False)
    for number, (_, rows, _) in enumerate(lines):
        axis.annotate(
            f"{rows:,}",
            (rows, number),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=_TEXT_COLOUR,
            fontsize=_FONT_SIZE,
        )


def _label(item: FailureReason) -> str:
    columns = f" ({_truncated(', '.join(item.columns), 28)})" if item.columns else ""
    code = item.code.replace("_", " ")
    return f"{item.outcome}: {code}{columns}"


def _title(panel: SubFigure, text: str) -> None:
    panel.suptitle(text, x=0.01, ha="left", color=_TEXT_COLOUR, fontsize=11, fontweight="bold")


def _message(panel: SubFigure, text: str) -> None:
    panel.text(0.5, 0.4, text, ha="center", va="center", color=_TEXT_COLOUR, fontsize=10)


def _style(axis: Axes) -> None:
    axis.patch.set_alpha(0.0)
    axis.grid(visible=False)
    for side, spine in axis.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_LINE_COLOUR)
    axis.tick_params(colors=_TEXT_COLOUR, labelsize=_FONT_SIZE, length=0)
    axis.xaxis.label.set_color(_TEXT_COLOUR)


def _few_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  # an extra

    return MaxNLocator(nbins=4)


def _swatch(colour: str) -> Any:
    from matplotlib.patches import Patch  # noqa: PLC0415  # an extra

    return Patch(color=colour, linewidth=0)


def _short(value: float) -> str:
    """A number in few characters: 1.2k, 35M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _truncated(text: str, most: int) -> str:
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return (text if len(text) <= most else text[: most - 1] + "…").replace("$", r"\$")

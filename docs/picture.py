"""Draws the picture in the README from a run of the demo: ``python -m docs.picture``.

There is one SVG for light pages and one for dark pages. All numbers and cells come from the run;
the demo makes the same records each time.
"""

from __future__ import annotations

import re
import tempfile
from html import escape
from pathlib import Path
from typing import Any, Final

import pandas as pd

import cdp_backfill as cdp
from cdp_backfill.cli import sample_data
from cdp_backfill.model.outcomes import PROBLEMS

FOLDER: Final = Path(__file__).parent / "images"

THEMES: Final[dict[str, dict[str, str]]] = {
    "light": {
        "ground": "#ffffff",
        "cell": "#f6f8fa",
        "line": "#d1d9e0",
        "text": "#1f2328",
        "quiet": "#59636e",
        "good": "#1a7f37",
        "bad": "#cf222e",
        "bar": "#54aeff",
        "name": "#8250df",
        "string": "#0a3069",
    },
    "dark": {
        "ground": "#0d1117",
        "cell": "#151b23",
        "line": "#3d444d",
        "text": "#f0f6fc",
        "quiet": "#9198a1",
        "good": "#3fb950",
        "bad": "#f85149",
        "bar": "#1f6feb",
        "name": "#d2a8ff",
        "string": "#a5d6ff",
    },
}

WIDTH: Final = 830
_MONO: Final = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
_SANS: Final = "-apple-system,'Segoe UI','Noto Sans',Helvetica,Arial,sans-serif"
_LEFT: Final = 84
_RIGHT: Final = WIDTH - 20
_FAILURE_COLUMNS: Final = ("cdp_row", "customer", "action", "happened_at", "cdp_code")


class Drawing:
    """An SVG that is drawn from top to bottom.

    Args:
        theme: Colours by their role.
    """

    def __init__(self, theme: dict[str, str]) -> None:
        self._theme = theme
        self._parts: list[str] = []
        self.y = 0

    def text(
        self,
        x: float,
        content: str,
        colour: str = "text",
        *,
        size: int = 13,
        mono: bool = False,
        bold: bool = False,
        end: bool = False,
    ) -> None:
        """Draw text at the current height, which starts or ends at ``x``."""
        style = f'font-size="{size}" font-family="{_MONO if mono else _SANS}"'
        style += ' font-weight="600"' if bold else ""
        style += ' text-anchor="end"' if end else ""
        self._parts.append(
            f'<text x="{x:g}" y="{self.y}" {style} fill="{self._theme[colour]}" '
            f'xml:space="preserve">{escape(content)}</text>'
        )

    def rectangle(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        colour: str,
        *,
        line: bool = False,
    ) -> None:
        """Draw a rectangle, with or without a border."""
        stroke = f' stroke="{self._theme["line"]}"' if line else ""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:.1f}" height="{height:g}" rx="3" '
            f'fill="{self._theme[colour]}"{stroke}/>'
        )

    def rule(self, x: float, stop: float) -> None:
        """Draw a thin line at the current height."""
        self._parts.append(
            f'<line x1="{x:g}" y1="{self.y}" x2="{stop:g}" y2="{self.y}" '
            f'stroke="{self._theme["line"]}"/>'
        )

    def cell(self, number: int, lines: list[list[tuple[str, str]]]) -> None:
        """Draw a notebook cell with coloured code."""
        height = 18 * len(lines) + 14
        self.rectangle(_LEFT - 10, self.y, _RIGHT - _LEFT + 10, height, "cell", line=True)
        self.y += 21
        self.text(14, f"In [{number}]:", "quiet", size=11, mono=True)
        for line in lines:
            spans = "".join(
                f'<tspan fill="{self._theme[colour]}">{escape(part)}</tspan>'
                for part, colour in line
            )
            self._parts.append(
                f'<text x="{_LEFT}" y="{self.y}" font-size="13" font-family="{_MONO}" '
                f'xml:space="preserve">{spans}</text>'
            )
            self.y += 18
        self.y += height - 21 - 18 * len(lines)

    def svg(self, title: str) -> str:
        """The complete SVG."""
        height = self.y + 16
        ground, line = self._theme["ground"], self._theme["line"]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" role="img">\n<title>{escape(title)}</title>\n'
            f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8" '
            f'fill="{ground}" stroke="{line}"/>\n' + "\n".join(self._parts) + "\n</svg>\n"
        )


def run() -> tuple[cdp.Report, pd.DataFrame, pd.DataFrame]:
    """Run the demo; returns its report, one failure for each code, and the sandbox's totals."""
    with tempfile.TemporaryDirectory() as folder, cdp.sandbox() as box:
        path = Path(folder) / "records.parquet"
        sample_data.write(path)
        report = cdp.send(path, sample_data.MAPPING, destination=box.destination, progress=False)
        failures = report.failures.drop_duplicates("cdp_code")
        return report, failures, box.totals()


def draw(theme: str, report: cdp.Report, failures: pd.DataFrame, totals: pd.DataFrame) -> str:
    """The picture in one theme."""
    drawing = Drawing(THEMES[theme])
    drawing.y = 16
    plain, name, string = "text", "name", "string"
    drawing.cell(
        1,
        [
            [
                ("plan = cdp.", plain),
                ("plan", name),
                ("(", plain),
                ('"records.parquet"', string),
                (", mapping)", plain),
            ],
            [("report = plan.", plain), ("send", name), ("()", plain)],
            [("report", plain)],
        ],
    )
    drawing.y += 28
    _outcomes(drawing, report)
    drawing.y += 26
    top = drawing.y
    _reasons(drawing, report)
    bottom, drawing.y = drawing.y, top
    _stored(drawing, totals)
    drawing.y = max(bottom, drawing.y) + 8
    drawing.cell(
        2,
        [
            [
                ("report.failures.", plain),
                ("drop_duplicates", name),
                ("(", plain),
                ('"cdp_code"', string),
                (")  ", plain),
                ("# a DataFrame: repair it, then .cdp.send() it", "quiet"),
            ],
        ],
    )
    drawing.y += 24
    _failures(drawing, failures)
    delivered = report.counts["delivered"]
    return drawing.svg(f"A notebook: {delivered:,} of {report.rows:,} rows delivered")


def _outcomes(drawing: Drawing, report: cdp.Report) -> None:
    delivered, rows = report.counts["delivered"], report.rows
    drawing.text(_LEFT, f"{delivered:,} of {rows:,} rows delivered", size=17, bold=True)
    drawing.text(
        _RIGHT, f"{rows - delivered:,} invalid, each with its reason", "bad", bold=True, end=True
    )
    width = _RIGHT - _LEFT
    bad = max(4.0, width * (rows - delivered) / rows)
    drawing.rectangle(_LEFT, drawing.y + 10, width - bad - 2, 8, "good")
    drawing.rectangle(_RIGHT - bad, drawing.y + 10, bad, 8, "bad")
    drawing.y += 18


def _reasons(drawing: Drawing, report: cdp.Report) -> None:
    """Draw the number of rows for each code, with the first clause of its remedy."""
    rows: dict[str, int] = {}
    for each in report.to_dict()["reasons"]:
        rows[each["code"]] = rows.get(each["code"], 0) + each["rows"]
    drawing.text(_LEFT, "Not delivered", "quiet", size=12)
    for code, number in sorted(rows.items(), key=lambda item: -item[1]):
        drawing.y += 24
        drawing.text(_LEFT + 30, f"{number:,}", end=True)
        drawing.text(_LEFT + 42, code, mono=True, size=12)
        drawing.y += 16
        remedy = re.split(r"[;:]|, |\. |\.$", PROBLEMS[code])[0]
        drawing.text(_LEFT + 42, remedy, "quiet", size=12)
    drawing.y += 12


def _stored(drawing: Drawing, totals: pd.DataFrame) -> None:
    """Draw the messages that the sandbox stored, with a bar for each event."""
    label, bars = 604, 612
    stored: dict[Any, int] = totals["messages"].sort_values(ascending=False).to_dict()
    drawing.text(label, "What the sandbox holds", "quiet", size=12, end=True)
    largest = max(stored.values())
    for event, number in stored.items():
        drawing.y += 22
        drawing.text(label, str(event), size=12, end=True)
        width = (_RIGHT - bars - 56) * number / largest
        drawing.rectangle(bars, drawing.y - 10, width, 12, "bar")
        drawing.text(bars + width + 6, f"{number:,}", size=12)
    drawing.y += 12


def _failures(drawing: Drawing, failures: pd.DataFrame) -> None:
    """Draw some columns of the failures."""
    places = dict(zip(_FAILURE_COLUMNS, (_LEFT + 50, 150, 300, 420, 670), strict=True))
    for column, x in places.items():
        drawing.text(x, column, size=12, bold=True, end=column == "cdp_row")
    for row in failures[list(_FAILURE_COLUMNS)].itertuples(index=False):
        drawing.y += 8
        drawing.rule(_LEFT, _RIGHT)
        drawing.y += 16
        for (column, x), value in zip(places.items(), row, strict=True):
            empty = pd.isna(value)
            colour = "bad" if column == "cdp_code" else "quiet" if empty else "text"
            drawing.text(
                x,
                "empty" if empty else str(value),
                colour,
                size=12,
                mono=True,
                end=column == "cdp_row",
            )


def pictures() -> dict[str, str]:
    """The SVG of each picture, by file name."""
    report, failures, totals = run()
    return {f"demo-{theme}.svg": draw(theme, report, failures, totals) for theme in THEMES}


def main() -> None:
    """Draw the pictures and write them to their files."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pictures().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"Drew docs/images/{name}.")


if __name__ == "__main__":
    main()

"""Views: what people see of an object, as plain text and as HTML with the same content."""

from __future__ import annotations

import html
import re
import textwrap
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from cdp_backfill.model.outcomes import FIXES
from cdp_backfill.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.model.outcomes import Fix

_WIDTH: Final = 80
_MIN_LAST: Final = 24  # characters of the last column of a table at least
_MIN_WIDTH: Final = 8  # characters of any other column at least

SAMPLE: Final = "sample"
"""Header of a column of cells of the user's table."""

_MARKDOWN: Final = re.compile(r"[\\`*_{}\[\]<>#|~&]")
"""Characters that mean something in Markdown; a backslash before one makes it itself."""

_MAX_WORDS: Final = 5  # words that stay on one line in the first column
_LONG_WORD: Final = 22  # characters of a word that may be broken

# The class stands twice, so that its rules outweigh those of notebooks and of exported pages.
_STYLE: Final = (
    "<style>.cdp.cdp{font:13px/1.5 system-ui,sans-serif;max-width:62em;overflow-x:auto}"
    ".cdp.cdp h4{margin:.2em 0;font:600 14px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}"
    ".cdp.cdp table{font:inherit;border-collapse:collapse;margin:.2em 0 .9em;table-layout:auto;"
    "max-width:100%;border:0;color:inherit;display:table}"
    ".cdp.cdp tr{background:none!important;border:0}"
    ".cdp.cdp td,.cdp.cdp th{padding:.15em 1em .15em 0;vertical-align:top;"
    "text-align:left!important;"
    "border:0;border-bottom:1px solid color-mix(in srgb,currentColor 18%,transparent);"
    "background:none;white-space:normal;max-width:none;color:inherit}"
    ".cdp.cdp th{font-weight:600}"
    ".cdp.cdp .n{text-align:right!important;font-variant-numeric:tabular-nums}"
    ".cdp.cdp .k{white-space:nowrap}"
    ".cdp.cdp td:last-child{overflow-wrap:anywhere}"
    ".cdp.cdp .w{overflow-wrap:anywhere;min-width:9em}"
    ".cdp.cdp .a{border-left:3px solid currentColor;padding-left:.6em;font-weight:600}"
    ".cdp.cdp p{margin:.3em 0}.cdp.cdp .q{opacity:.75;margin-top:.6em}"
    ".cdp.cdp a{color:inherit;text-decoration:underline}</style>"
)


_PAGE: Final = (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    '<meta name="color-scheme" content="light dark">\n'
    "<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
)
_PAGE_STYLE: Final = (
    ":root{color-scheme:light dark}"
    "body{margin:2em auto;max-width:62em;padding:0 1.5em;color:#1d1d1f;background:#fff}"
    "@media (prefers-color-scheme:dark){body{color:#e6e6e8;background:#18181b}}"
    "body .cdp.cdp{font-size:15px}body .cdp.cdp h4{font-size:20px;margin-bottom:.6em}"
)


@dataclass(frozen=True, slots=True)
class Link:
    """A cell with a link.

    Attributes:
        url: An address that this package made.
    """

    url: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class Code:
    """A cell with a line of code, which stays whole, so that it can be copied and run.

    Attributes:
        line: The line.
    """

    line: str

    def __str__(self) -> str:
        return self.line


@dataclass(slots=True)
class Section:
    """A table with a caption.

    Attributes:
        caption: The caption.
        header: Names of the columns; empty for no header.
        rows: Cells; numbers are aligned to the right.
        from_table: Whether the rows quote cells of a table of the user.
    """

    caption: str
    header: tuple[str, ...]
    rows: list[tuple[object, ...]]
    from_table: bool = False


@dataclass(slots=True)
class View:
    """What people see of an object.

    Attributes:
        title: One line.
        sections: Tables.
        notes: Sentences below the tables.
        alerts: Sentences above the tables: what can do harm.
    """

    title: str
    sections: list[Section] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)

    def without_cells(self) -> View:
        """The same view without cells of the user's table."""
        kept = [_without_column(each, SAMPLE) for each in self.sections if not each.from_table]
        return replace(self, sections=kept)

    def reworded(self, change: Callable[[str], str]) -> View:
        """The same view with other words in its sentences; names and cells stay."""

        def changed(cell: object) -> object:
            is_sentence = isinstance(cell, str) and (" " in cell or "=" in cell)
            return change(str(cell)) if is_sentence else cell

        sections = [
            each
            if each.from_table
            else replace(each, rows=[tuple(map(changed, row)) for row in each.rows])
            for each in self.sections
        ]
        return View(
            self.title,
            sections,
            [change(note) for note in self.notes],
            list(map(change, self.alerts)),
        )

    def text(self) -> str:
        """The view as text for a terminal of 80 columns."""
        lines = _wrapped(self.title)
        for alert in self.alerts:
            lines += ["", *_wrapped(f"! {alert}")]
        for section in self.sections:
            if section.rows:
                lines += ["", printable(section.caption), *_table(section)]
        for note in self.notes:
            lines += ["", *_wrapped(note)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return self.html()

    def markdown(self) -> str:
        """The view as Markdown, for a ticket or a pull request."""
        parts = [f"# {_escaped(self.title)}"]
        parts.extend(f"> **{_escaped(alert)}**" for alert in self.alerts)
        for section in self.sections:
            if section.rows:
                parts += [f"## {_escaped(section.caption)}", _markdown_table(section)]
        parts.extend(map(_escaped, self.notes))
        return "\n\n".join(parts) + "\n"

    def page(self) -> str:
        """The view as an HTML page of its own, for light and dark themes."""
        return _PAGE.format(title=_html(self.title), style=_PAGE_STYLE, body=self.html())

    def html(self) -> str:
        """The view as HTML for a notebook with a light or dark theme."""
        parts = [_STYLE, '<div class="cdp">', f"<h4>{_html(self.title)}</h4>"]
        parts.extend(f'<p class="a">{_html(alert)}</p>' for alert in self.alerts)
        for section in self.sections:
            if section.rows:
                parts.append(f'<p class="q">{_html(section.caption)}</p><table>')
                if section.header:
                    parts.append(_html_row(section.header, "th", section.rows[0]))
                parts.extend(_html_row(row, "td", row) for row in section.rows)
                parts.append("</table>")
        parts.extend(f"<p>{_html(note)}</p>" for note in self.notes)
        parts.append("</div>")
        return "".join(parts)


def _without_column(section: Section, name: str) -> Section:
    if name not in section.header:
        return section
    place = section.header.index(name)
    rows = [(*row[:place], *row[place + 1 :]) for row in section.rows]
    return replace(
        section, header=(*section.header[:place], *section.header[place + 1 :]), rows=rows
    )


def _html_row(cells: tuple[object, ...], tag: str, like: tuple[object, ...]) -> str:
    cells_html = (
        f"<{tag}{_css_class(cell, model, number)}>{_html_cell(cell)}</{tag}>"
        for number, (cell, model) in enumerate(zip(cells, like, strict=True))
    )
    return f"<tr>{''.join(cells_html)}</tr>"


def _html(text: str) -> str:
    return html.escape(printable(text))


def _html_cell(cell: object) -> str:
    text = _html(_cell(cell))
    if isinstance(cell, Code):
        return f"<code>{text}</code>"
    if isinstance(cell, Link):
        return f'<a href="{text}" target="_blank" rel="noopener">{text}</a>'
    return text


def _markdown_table(section: Section) -> str:
    """A table of GitHub's Markdown; it needs a header, which may be empty."""
    rows = [tuple(_escaped(_cell(cell)) for cell in row) for row in section.rows]
    header = tuple(map(_escaped, section.header)) or ("",) * len(rows[0])
    rules = ["---:" if isinstance(cell, int | float) else "---" for cell in section.rows[0]]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rules, *rows])


def _escaped(text: str) -> str:
    """Text without a meaning in Markdown or HTML."""
    return _MARKDOWN.sub(r"\\\g<0>", printable(" ".join(text.split())))


def _css_class(cell: object, model: object, column: int) -> str:
    """The CSS class of a cell: numbers right, short words unbroken, long names wide."""
    if isinstance(model, int | float):
        return ' class="n"'
    words = _cell(cell).split()
    if any(len(word) > _LONG_WORD for word in words):
        return ' class="w"'
    return ' class="k"' if column == 0 and len(words) <= _MAX_WORDS else ""


def _cell(cell: object) -> str:
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:,.1f}"
    return str(cell)


def _wrapped(text: str, width: int = _WIDTH) -> list[str]:
    return textwrap.wrap(printable(text), width, break_on_hyphens=False, break_long_words=False)


def _table(section: Section) -> list[str]:
    rows = [tuple(map(_cell, row)) for row in section.rows]
    shown = [section.header, *rows] if section.header else rows
    shown = [
        (*(printable(cell, one_line=True) for cell in row[:-1]), printable(row[-1]))
        for row in shown
    ]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))]
    _narrow(widths)
    shown = [(*map(_cut, row[:-1], widths), row[-1]) for row in shown]
    lines = []
    whole = [False] * (len(shown) - len(rows)) + [isinstance(r[-1], Code) for r in section.rows]
    for row, is_whole in zip(shown, whole, strict=True):
        cells = []
        for column, cell in enumerate(row):
            number = isinstance(section.rows[0][column], int | float)
            cells.append(cell.rjust(widths[column]) if number else cell.ljust(widths[column]))
        left = "  " + "  ".join(cells[:-1]) + ("  " if len(cells) > 1 else "")
        room = max(24, _WIDTH - len(left))
        wrapped = _wrapped(cells[-1].rstrip(), room) or [""]
        if is_whole or isinstance(section.rows[0][-1], int | float):
            wrapped = [cells[-1]]
        lines.append((left + wrapped[0]).rstrip())
        lines.extend(" " * len(left) + more for more in wrapped[1:])
    return lines


def _narrow(widths: list[int]) -> None:
    """Narrow the widest columns until the last one has room."""
    gaps = 2 * len(widths)
    while sum(widths[:-1]) + gaps > _WIDTH - min(_MIN_LAST, widths[-1]):
        widest = max(range(len(widths) - 1), key=lambda column: widths[column])
        if widths[widest] <= _MIN_WIDTH:
            return
        widths[widest] -= 1


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else cell[: width - 1] + "…"


def fixes_section(fixes: dict[Fix, int]) -> Section:
    """The fixes, most cells first."""
    ordered = sorted(fixes.items(), key=lambda item: -item[1])
    return Section(
        "Fixed while reading",
        ("cells", "column", "fix"),
        [(cells, fix.column, FIXES[fix.code]) for fix, cells in ordered],
    )


def duration_range(seconds: tuple[float, float]) -> str:
    """A least and a most duration as text.

    >>> duration_range((0.4, 1.66)), duration_range((40.2, 58)), duration_range((50, 100))
    ('0.4 to 1.7 s', '40 to 58 s', '50 s to 2 min')
    """
    texts = [f"{each:.0f} s" if 10 <= each < 60 else duration(each) for each in seconds]  # noqa: PLR2004
    least, most = texts
    if least == most:
        return least
    number, _, unit = least.partition(" ")
    same = most.count(" ") == 1 and most.endswith(f" {unit}")
    return f"{number if same else least} to {most}"


def duration(seconds: float) -> str:
    """A duration as text.

    >>> duration(3_700)
    '1 h 2 min'
    """
    if seconds < 60:  # noqa: PLR2004  # a minute
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"  # noqa: PLR2004

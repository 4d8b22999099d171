"""Writes SQL that reads times such as 15.09.2023 02:20:24, to be joined with another column."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cdp_backfill.messages.expressions import quote

if TYPE_CHECKING:
    from cdp_backfill.inference.samples import SampleColumn

_CELL: Final = re.compile(
    r"(?P<one>\d{1,2})(?P<sep>[./-])(?P<two>\d{1,2})(?P=sep)\d{4}"
    r"(?:(?P<gap>, | )\d{1,2}:\d\d(?P<seconds>:\d\d(?P<parts>[.]\d{1,6})?)?"
    r"(?P<half> ?[AaPp][Mm])?)?"
)
_NAMED: Final = re.compile(
    r"\d{1,2}(?P<sep>[- ])[A-Za-z]{3}(?P=sep)(?P<year>\d{4}|\d\d)"
    r"(?:(?P<gap> )\d{1,2}(?P<point>[:.])\d\d(?P<seconds>(?P=point)\d\d(?P<parts>[.]\d{1,6})?)?"
    r"(?P<half> ?[AaPp][Mm])?)?"
)
_MIN_SHARE: Final = 0.9
"""Share of the different cells that have the form; each other row is reported later."""

_MONTHS: Final = 12


@dataclass(frozen=True, slots=True)
class TimeForm:
    """How the cells of a column of text are read as times.

    Attributes:
        formats: The formats of DuckDB's ``strptime`` that fit all cells; two if no cell tells the
            day from the month.
    """

    formats: tuple[str, ...]

    @property
    def day_only(self) -> bool:
        """Whether the cells have no time of day."""
        return all("%M" not in each for each in self.formats)

    def expression(self, column: str, form: int = 0) -> str:
        """SQL that reads a column, null where a cell has another form."""
        return f"try_strptime(trim({quote(column)}), '{self.formats[form]}')"


def time_form(column: SampleColumn) -> TimeForm | None:
    """The form of the times in a column of text; None if it has none of those known here.

    A dot stands between day, month and year in this order. With a slash or a dash, the cells must
    tell: one with a day above 12 is enough, and all others must agree.

    Args:
        column: The column.
    """
    if not column.is_text or not column.texts:
        return None
    named = [_NAMED.fullmatch(text.strip()) for text in column.texts]
    if all(named):
        forms = {_form_with_name(match) for match in named if match is not None}
        return TimeForm(tuple(forms)) if len(forms) == 1 else None
    matches = [_CELL.fullmatch(text.strip()) for text in column.texts]
    found = [match for match in matches if match is not None]
    kinds = {_time_of_day(match) for match in found}
    separators = {match["sep"] for match in found}
    if len(found) < _MIN_SHARE * len(matches) or len(kinds) != 1 or len(separators) != 1:
        return None
    (separator,), (of_day,) = separators, kinds
    orders = [
        order
        for order, month in (("dmy", "two"), ("mdy", "one"))
        if all(1 <= int(match[month]) <= _MONTHS for match in found)
        and (separator != "." or order == "dmy")
    ]
    dates = {"dmy": ("%d", "%m", "%Y"), "mdy": ("%m", "%d", "%Y")}
    formats = tuple(separator.join(dates[order]) + of_day for order in orders)
    return TimeForm(formats) if formats else None


def _form_with_name(match: re.Match[str]) -> str:
    year = "%Y" if len(match["year"]) == 4 else "%y"  # noqa: PLR2004
    of_day = _time_of_day(match)
    if match["point"] == ".":
        of_day = of_day.replace(":", ".")
    return f"%d{match['sep']}%b{match['sep']}{year}{of_day}"


def _time_of_day(match: re.Match[str]) -> str:
    if match["gap"] is None:
        return ""
    hour = "%I" if match["half"] else "%H"
    seconds = ":%S" if match["seconds"] else ""
    parts = ".%f" if match["parts"] else ""
    half = "" if not match["half"] else " %p" if match["half"].startswith(" ") else "%p"
    return f"{match['gap']}{hour}:%M{seconds}{parts}{half}"

"""The table of :meth:`Report.by_reason`, shown in full: its sentences are too long for columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from cdp_backfill.model.plurals import count
from cdp_backfill.model.views import Code, Section, View

if TYPE_CHECKING:
    from collections.abc import Callable


class ReasonTable(pd.DataFrame):
    """A DataFrame of reasons, which shows each of them as lines, with nothing cut.

    What is made of it, such as a selection of its rows, is an ordinary DataFrame.
    """

    @property
    def _constructor(self) -> Callable[..., pd.DataFrame]:
        return pd.DataFrame

    def __repr__(self) -> str:
        return self._view().text()

    def _repr_html_(self) -> str:
        return self._view().html()

    def _display_(self) -> View:
        """For marimo, which shows other DataFrames in a widget of its own."""
        return self._view()

    def _view(self) -> View:
        if self.empty:
            return View("No row failed: there is no reason to show")
        return View(
            f"Not delivered: {count(int(self['rows'].sum()), 'row')}, "
            f"for {count(len(self), 'reason')}",
            [_section(line) for line in self.to_dict("records")],
            ["A fix is a guess: read it before you run it, on failures = report.failures."]
            if self["fix"].any()
            else [],
        )


def _section(line: dict[Any, Any]) -> Section:
    lines: list[tuple[object, ...]] = [("reason", line["reason"])]
    if line["columns"]:
        lines.append(("columns", line["columns"]))
    if not pd.isna(line["row"]):
        where = "" if line["source"] is None else f" of {line['source']}"
        lines.append(("for example", f"row {line['row']:,}{where}"))
    if line["remedy"]:
        lines.append(("what to do", line["remedy"]))
    if line["fix"]:
        lines.append(("fix", Code(line["fix"])))
    return Section(f"{count(line['rows'], 'row')} {line['outcome']}: {line['code']}", (), lines)

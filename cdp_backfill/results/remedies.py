"""What to do about rows that were not delivered: in words, and as a line of pandas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from cdp_backfill.model.arrow_types import is_bytes, is_text
from cdp_backfill.model.outcomes import AMBIGUOUS, PROBLEMS, Outcome, Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.model.mapping import Mapping
    from cdp_backfill.results.reasons import FailureReason

    LabelAndType = Callable[[str], "tuple[Any, Any] | None"]

_MAX_TEXT: Final = 1_000
"""Characters that a fix keeps of a text that makes a message too large."""

_ROW_FIXES: Final = frozenset(
    # The true value is unknown, or nothing that should be sent.
    {
        "missing_user",
        AMBIGUOUS,
        "missing_time",
        "ambiguous_time",
        "too_early",
        "in_future",
        "command",
        "unknown_event",
    }
)
_COMMENTS: Final = {
    "missing_event": "or whichever it was",
    "unclear_time": "or 'ms', or format",
    "unknown_event": "or keep them, and send with events={'their name': 'Application Opened'}",
}
"""What to look at before a fix is run."""

_CELL_FIXES: Final = frozenset(
    {"bad_user", "bad_message_id", "bad_boolean", "bad_device_type", "not_finite"}
)

_REMEDIES: Final = {
    "http_401": "Check the API key (of a Pipelines source) and the region, then send the failures "
    "with destination=Destination(api_key=...).",
    "canary": "Nothing to repair: send again without canary, and with the same journal.",
    "recent": "Send such rows with recent='send', or send the failures in three days.",
}
_BY_OUTCOME: Final = {
    Outcome.REFUSED: "The server's message says what it refused; repair that in the failures.",
    Outcome.FAILED: "Nothing to repair: report.retry() sends them again.",
    Outcome.UNKNOWN: "Nothing to repair: report.retry() sends them again; their message ids stay.",
    Outcome.UNSENT: "Nothing to repair: report.retry() sends them.",
}


def remedy(reason: FailureReason) -> str:
    """What to do about a reason, in words."""
    for remedies in (_REMEDIES, PROBLEMS):
        if reason.code in remedies:
            return remedies[reason.code]
    return _BY_OUTCOME.get(Outcome(reason.outcome), "")


def suggested_fix(
    reason: FailureReason,
    *,
    unique_code: bool,
    label_and_type: LabelAndType,
    mapping: Mapping | None,
) -> str:
    """A line of pandas that repairs the rows of a reason in ``failures``, or leaves them out.

    Args:
        reason: The reason.
        unique_code: Whether no other reason has the same code.
        label_and_type: Gives the label and the Arrow type of a column, or None if it does not
            exist.
        mapping: The mapping of the run, or None.

    Returns:
        The line; empty where no change of the failures would help.
    """
    rows = f"failures.cdp_code == {reason.code!r}"
    if not unique_code:
        rows = f"failures.cdp_reason == {reason.reason!r}"
    lines, comments = [], []
    for problem in reason.problems:
        column = label_and_type(problem.column) if problem.column is not None else None
        line = _fix(problem, column, rows, mapping)
        comment = _COMMENTS.get(problem.code)
        if not line or line.startswith(_without(rows)):
            return f"{line}  # {comment}" if line and comment else line
        lines.append(line)
        comments += [comment] if comment else []
    # A comment between two of them would hide the second.
    return "; ".join(lines) + "".join(f"  # {comment}" for comment in comments)


@dataclass(frozen=True, slots=True)
class _Cells:
    """Some rows of a column, as pandas code.

    Attributes:
        label: Label of the column.
        kind: Its Arrow type.
        rows: Expression for a mask of the rows.
    """

    label: Any
    kind: Any
    rows: str

    @property
    def expression(self) -> str:
        return f"failures.loc[{self.rows}, {self.label!r}]"

    @property
    def is_text(self) -> bool:
        categories = pa.types.is_dictionary(self.kind)
        return bool(is_text(self.kind.value_type if categories else self.kind))

    def assignment(self, new: str) -> str:
        """Code that replaces the cells by the value of an expression."""
        if pa.types.is_dictionary(self.kind) or not (self.is_text or new == "None"):
            # The new value does not fit the type of the column: use a column of objects.
            column = f"failures[{self.label!r}]"
            return f"{column} = {column}.astype(object).mask({self.rows}, {new})"
        return f"{self.expression} = {new}"


def _without(rows: str) -> str:
    return f"failures = failures[~({rows})]"


def _fix(
    problem: Problem, column: tuple[Any, Any] | None, rows: str, mapping: Mapping | None
) -> str:
    code = problem.code
    if column is None or not isinstance(column[0], str | int):
        return ""  # a constant or a derived column: only a change of the mapping helps
    cells = _Cells(*column, rows)
    is_id = mapping is not None and problem.column in (mapping.user_id, mapping.anonymous_id)
    if code in _ROW_FIXES or (code == "bad_user" and is_id):
        return _without(rows)
    if code in _CELL_FIXES:
        return cells.assignment("None")
    if code == "missing_event":
        return cells.assignment(repr("Application Opened"))
    if code in ("bad_time", "unclear_time", "nonexistent_time"):
        return _time_fix(code, problem.reason, cells, mapping)
    if code == "bad_text":
        return _text_fix(cells)
    if code == "oversize":
        return cells.assignment(
            f"{cells.expression}.str.slice(0, {_MAX_TEXT:_})" if cells.is_text else "None"
        )
    return ""


def _time_fix(code: str, reason: str, cells: _Cells, mapping: Mapping | None) -> str:
    hour = "pd.Timedelta(hours=1)"
    if pa.types.is_timestamp(cells.kind):
        return (
            f"{cells.expression} += {hour}" if code == "nonexistent_time" else _without(cells.rows)
        )
    zoned = "" if mapping is not None and mapping.timezone else ", utc=True"
    pattern = "%Y-%m-%dT%H:%M:%S" + ("Z" if zoned else "")
    if code == "unclear_time" and cells.is_text and "unit" not in reason:
        return ""  # a date whose order is not known: only a change of the mapping helps
    if code == "unclear_time":
        # pandas 2 fails at an infinite number, whatever errors= is.
        finite = f"pd.to_numeric({cells.expression}, errors='coerce').where(lambda n: n < 1e18)"
        read = f"{finite}, unit='s'{zoned}, errors='coerce'"
        # Such numbers count from 1970 in UTC, whatever the time zone of the mapping.
        pattern = "%Y-%m-%dT%H:%M:%SZ"
        return cells.assignment(f"pd.to_datetime({read}).dt.strftime({pattern!r})")
    if not cells.is_text:
        return _without(cells.rows)
    order = mapping.date_order if mapping is not None else None
    first = {"DMY": ", dayfirst=True", "YMD": ", yearfirst=True"}.get(order or "", "")
    read = f"pd.to_datetime({cells.expression}, format='mixed'{first}, errors='coerce'{zoned})"
    if code == "nonexistent_time":
        read = f"(pd.to_datetime({cells.expression}, format='mixed'{first}) + {hour})"
        pattern = "%Y-%m-%dT%H:%M:%S"
    return cells.assignment(f"{read}.dt.strftime({pattern!r})")


def _text_fix(cells: _Cells) -> str:
    if is_bytes(cells.kind):
        return cells.assignment(f"{cells.expression}.str.decode('latin-1')")
    if cells.is_text:
        return cells.assignment(
            f"{cells.expression}.str.encode('utf-8', 'replace').str.decode('utf-8')"
        )
    return ""

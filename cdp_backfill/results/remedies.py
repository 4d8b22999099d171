"""What to do about rows that did not arrive: in words, and as a line of pandas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from cdp_backfill.messages.text import is_bytes
from cdp_backfill.messages.times import is_text
from cdp_backfill.model.outcomes import PROBLEMS, Outcome, Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.model.mapping import Mapping
    from cdp_backfill.results.reasons import FailureReason

    Cells = Callable[[str], "tuple[Any, Any] | None"]

_LONGEST: Final = 1_000
"""Characters to which a text is cut that makes a message too large."""

_DROPPED: Final = frozenset(
    {"missing_user", "missing_time", "too_early", "in_future"}  # nothing true can be put there
)
_EMPTIED: Final = frozenset(
    {"bad_user", "bad_message_id", "bad_boolean", "bad_device_type", "not_finite"}
)

_REMEDIES: Final = {
    "http_401": "Look at the key and the region, and send the failures with "
    "destination=Destination(api_key=...).",
    "canary": "Nothing to repair: send again without canary, and with the same journal.",
    "recent": "recent='send' sends such rows; or send the failures in three days.",
}
_BY_OUTCOME: Final = {
    Outcome.REFUSED: "The server's words say what it did not take; mend that in the failures.",
    Outcome.FAILED: "Nothing to repair: report.retry() sends them again.",
    Outcome.UNKNOWN: "Nothing to repair: report.retry() sends them again, with the same ids.",
    Outcome.UNSENT: "Nothing to repair: report.retry() sends them.",
}


def remedy(found: FailureReason) -> str:
    """What to do about a reason, in words."""
    for known in (_REMEDIES, PROBLEMS):
        if found.code in known:
            return known[found.code]
    return _BY_OUTCOME.get(Outcome(found.outcome), "")


def suggestion(found: FailureReason, *, alone: bool, cells: Cells, mapping: Mapping | None) -> str:
    """A line of pandas that repairs the rows of a reason, or leaves them out of the failures.

    It is about a frame named ``failures``, as ``report.failures`` gives it.

    Args:
        found: The reason.
        alone: Whether no other reason has its code.
        cells: Gives the label and the Arrow type of a column, or None where there is none.
        mapping: What goes where.

    Returns:
        The line, or nothing where no change of the failures would help.
    """
    rows = f"failures.cdp_code == {found.code!r}"
    if not alone:
        rows = f"failures.cdp_reason == {found.reason!r}"
    lines = []
    for problem in found.problems:
        about = cells(problem.column) if problem.column is not None else None
        line = _line(problem, about, rows, mapping)
        if not line or line.startswith(_drop(rows)):
            return line
        lines.append(line)
    return "; ".join(lines)


@dataclass(frozen=True, slots=True)
class _Cells:
    """The cells of some rows in a column, in words of pandas."""

    label: Any
    kind: Any
    rows: str

    @property
    def old(self) -> str:
        return f"failures.loc[{self.rows}, {self.label!r}]"

    @property
    def text(self) -> bool:
        categories = pa.types.is_dictionary(self.kind)
        return bool(is_text(self.kind.value_type if categories else self.kind))

    def become(self, new: str) -> str:
        if pa.types.is_dictionary(self.kind) or not (self.text or new == "None"):
            # Another type than the column has: through cells of any type.
            column = f"failures[{self.label!r}]"
            return f"{column} = {column}.astype(object).mask({self.rows}, {new})"
        return f"{self.old} = {new}"


def _drop(rows: str) -> str:
    return f"failures = failures[~({rows})]"


def _line(
    problem: Problem, about: tuple[Any, Any] | None, rows: str, mapping: Mapping | None
) -> str:
    code = problem.code
    if about is None or not isinstance(about[0], str | int):
        return ""  # a constant or a derived column: the mapping is what must change
    cells = _Cells(*about, rows)
    is_id = mapping is not None and problem.column in (mapping.user_id, mapping.anonymous_id)
    if code in _DROPPED or (code == "bad_user" and is_id):
        return _drop(rows)
    if code in _EMPTIED:
        return cells.become("None")
    if code == "missing_event":
        return f"{cells.become(repr('Application Opened'))}  # or whichever it was"
    if code == "unknown_event":
        column = f"failures[{cells.label!r}]"
        return f"{column} = {column}.replace({{'their name': 'Application Opened'}})"
    if code in ("bad_time", "unclear_time", "nonexistent_time"):
        return _time(code, cells, mapping)
    if code == "bad_text":
        return _decoded(cells)
    if code == "oversize":
        return cells.become(f"{cells.old}.str.slice(0, {_LONGEST:_})" if cells.text else "None")
    return ""


def _time(code: str, cells: _Cells, mapping: Mapping | None) -> str:
    hour = "pd.Timedelta(hours=1)"
    if pa.types.is_timestamp(cells.kind):
        return f"{cells.old} += {hour}" if code == "nonexistent_time" else _drop(cells.rows)
    zoned = "" if mapping is not None and mapping.timezone else ", utc=True"
    pattern = "%Y-%m-%dT%H:%M:%S" + ("Z" if zoned else "")
    if code == "unclear_time":
        read = f"pd.to_numeric({cells.old}, errors='coerce'), unit='s'{zoned}, errors='coerce'"
        pattern = "%Y-%m-%dT%H:%M:%SZ"  # since 1970 is in UTC, whatever the zone of the others
        return (
            cells.become(f"pd.to_datetime({read}).dt.strftime({pattern!r})")
            + "  # or 'ms', or format"
        )
    if not cells.text:
        return _drop(cells.rows)
    read = f"pd.to_datetime({cells.old}, format='mixed', errors='coerce'{zoned})"
    if code == "nonexistent_time":
        read = f"(pd.to_datetime({cells.old}, format='mixed') + {hour})"
        pattern = "%Y-%m-%dT%H:%M:%S"
    return cells.become(f"{read}.dt.strftime({pattern!r})")


def _decoded(cells: _Cells) -> str:
    if is_bytes(cells.kind):
        return cells.become(f"{cells.old}.str.decode('latin-1')")
    if cells.text:
        return cells.become(f"{cells.old}.str.encode('utf-8', 'replace').str.decode('utf-8')")
    return ""

"""The payloads of the first rows, for people to look at."""

from __future__ import annotations

from json import loads
from numbers import Integral
from typing import TYPE_CHECKING, Any

from cdp_backfill.errors import BadInputError
from cdp_backfill.model.outcomes import Outcome
from cdp_backfill.pipeline.notes import join_reasons

if TYPE_CHECKING:
    from cdp_backfill.pipeline.prepared_source import PreparedSource


def check_number(rows: Any) -> None:
    """Refuse a number of rows that is none, such as a mapping in its place.

    Raises:
        BadInputError: It is none.
    """
    if not isinstance(rows, Integral) or isinstance(rows, bool) or rows < 0:
        raise BadInputError(
            "n must be a whole number of rows, 0 or more. The mapping is the argument after it."
        )


def preview(prepared_source: PreparedSource, rows: int) -> list[dict[str, Any]]:
    """What becomes of the first rows.

    Args:
        prepared_source: The table and its mapping.
        rows: Number of rows.

    Returns:
        One dict for each row: its message, or the outcome, code and reason of a row that a run
        would not send.
    """
    result: list[dict[str, Any]] = []
    for _, prepared in prepared_source.chunks(prepared_source.binding.columns, rows=rows):
        messages, by_row = prepared.messages, dict[int, dict[str, Any]]()
        for reason, skipped in prepared.all_skipped.items():
            by_row.update(
                dict.fromkeys(skipped, _not_sent(Outcome.SKIPPED, reason.code, reason.reason))
            )
        for bad, problems in messages.problems.groups():
            entry = _not_sent(Outcome.INVALID, problems[0].code, join_reasons(problems))
            by_row.update(dict.fromkeys(messages.rows[bad], entry))
        for encoded, numbers in prepared.encoded:
            top = loads(b"{" + encoded.head.rstrip(b",") + b"}")
            for number, row in enumerate(numbers):
                by_row[row] = top | loads(encoded.message(number))
        result.extend(by_row[row] for row in sorted(by_row))
    return result


def _not_sent(outcome: Outcome, code: str, reason: str) -> dict[str, Any]:
    return {"cdp_outcome": str(outcome), "cdp_code": code, "cdp_reason": reason}

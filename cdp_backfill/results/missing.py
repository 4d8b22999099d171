"""Counts missing rows: those that are neither as the caller wants them nor allowed to miss."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cdp_backfill.errors import BadInputError
from cdp_backfill.model.mapping_checks import did_you_mean
from cdp_backfill.model.outcomes import PROBLEMS, RUN_CODES, UNMAPPED, Outcome

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from cdp_backfill.results.reasons import FailureReason

_HTTP: Final = re.compile(r"http_\d{3}")

_OUTCOMES: Final = tuple(str(each) for each in Outcome if not each.wanted)


def parse_allowed(allow: str | Iterable[str]) -> frozenset[str]:
    """The outcomes and codes of rows that may be missing.

    Args:
        allow: Names of outcomes, such as ``invalid``, or codes, such as ``missing_user`` and
            ``http_400``; in a text, commas divide them.

    Raises:
        BadInputError: There is no such outcome or code.

    >>> sorted(parse_allowed("invalid, http_400"))
    ['http_400', 'invalid']
    """
    given = [allow] if isinstance(allow, str) else list(allow)
    names = [name.strip() for each in given for name in str(each).split(",") if name.strip()]
    known = [*_OUTCOMES, *PROBLEMS, *RUN_CODES]
    for name in names:
        if name not in known and not _HTTP.fullmatch(name):
            raise BadInputError(
                f"There is no outcome and no code {name!r} to allow.{did_you_mean(name, known)} "
                f"Outcomes: {', '.join(_OUTCOMES)}. Codes: {', '.join([*PROBLEMS, *RUN_CODES])}, "
                "http_400 and other statuses."
            )
    return frozenset(names)


def missing_rows(
    counts: dict[str, int],
    reasons: Iterable[FailureReason],
    *,
    allowed: Collection[str] = (),
    is_canary: bool = False,
) -> dict[str, int]:
    """The rows that are missing, by outcome.

    Args:
        counts: Rows by outcome.
        reasons: Why rows were not delivered.
        allowed: Outcomes and codes of rows that may be missing.
        is_canary: Only the first rows were to be sent, so that the others wait.
    """
    rest = {
        name: rows
        for name, rows in counts.items()
        if not Outcome(name).wanted and not (is_canary and name == Outcome.UNSENT)
    }
    for reason in reasons:
        if reason.code == UNMAPPED and reason.outcome == Outcome.SKIPPED:  # , but nobody chose so
            rest[reason.outcome] = rest.get(reason.outcome, 0) + reason.rows
        if reason.outcome in rest and reason.code in allowed:
            rest[reason.outcome] -= reason.rows
    return {name: rows for name, rows in rest.items() if rows > 0 and name not in allowed}

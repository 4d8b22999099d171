"""Counts the rows that were not delivered by reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cdp_backfill.model.outcomes import UNMAPPED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cdp_backfill.model.outcomes import Problem

MAX_REASONS: Final = 50
"""Reasons that are counted each for itself; a server may word its refusal for every row."""

OTHER_REASONS: Final = "other reasons; see the failures"

Location = tuple[str | None, int | None]
"""A file, or None for a frame, and the number of a row in it, or None if it is unknown."""


@dataclass(slots=True)
class FailureReason:
    """Rows that were not delivered for the same reason.

    Attributes:
        outcome: Their outcome.
        code: Short name of the reason.
        reason: The reason in words.
        rows: Number of rows.
        problems: What is wrong with the rows, if they are invalid.
        example: Where one of the rows is.
    """

    outcome: str
    code: str
    reason: str
    rows: int
    problems: tuple[Problem, ...] = ()
    example: Location = (None, None)

    @property
    def own_words(self) -> str:
        """The reason without what the server said, which can quote a row."""
        if self.code.startswith("http_") and not self.problems:
            return self.reason.partition(": ")[0]
        return self.reason

    @property
    def columns(self) -> list[str]:
        """The columns with a problem, each once."""
        names = [problem.column for problem in self.problems if problem.column is not None]
        return list(dict.fromkeys(names))


def unmapped_rows(reasons: Iterable[FailureReason]) -> int:
    """Rows that were skipped although nobody chose so."""
    return sum(item.rows for item in reasons if item.code == UNMAPPED)


class FailureReasons:
    """Counts rows by reason.

    Up to 50 reasons are counted separately. Rows with further reasons are counted by outcome and
    code alone.
    """

    def __init__(self) -> None:
        self._reasons: dict[tuple[str, str, str], FailureReason] = {}

    def is_new(self, outcome: str, code: str, reason: str) -> bool:
        """Whether no row with this reason has been counted yet."""
        return self._key(outcome, code, reason) not in self._reasons

    def _key(self, outcome: str, code: str, reason: str) -> tuple[str, str, str]:
        key = (outcome, code, reason)
        if key not in self._reasons and len(self._reasons) >= MAX_REASONS:
            return outcome, code, OTHER_REASONS
        return key

    def count(
        self,
        outcome: str,
        code: str,
        reason: str,
        rows: int,
        *,
        problems: tuple[Problem, ...] = (),
        example: Location = (None, None),
    ) -> None:
        """Count rows.

        Args:
            outcome: Their outcome.
            code: Short name of the reason.
            reason: The reason in words.
            rows: Number of rows.
            problems: What is wrong with the rows.
            example: Where one of them is; only used for the first rows of a reason.
        """
        key = self._key(outcome, code, reason)
        if key in self._reasons:
            self._reasons[key].rows += rows
            return
        if key[2] != reason:
            problems = ()
        self._reasons[key] = FailureReason(*key, rows, problems, example)

    def merge(self, reasons: Iterable[FailureReason]) -> None:
        """Add rows that were counted elsewhere."""
        for item in reasons:
            self.count(
                item.outcome,
                item.code,
                item.reason,
                item.rows,
                problems=item.problems,
                example=item.example,
            )

    def __iter__(self) -> Iterator[FailureReason]:
        """The reasons, most rows first."""
        return iter(sorted(self._reasons.values(), key=lambda item: -item.rows))

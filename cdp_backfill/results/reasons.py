"""Why rows did not arrive: one entry for each reason, however many rows there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cdp_backfill.model.outcomes import Problem

_MOST: Final = 50  # a server may find new words for every row

OTHER: Final = "other reasons; see the failures"

Place = tuple[str | None, int | None]
"""A file, or None for a frame, and the number of a row in it, or None where nobody knows."""


@dataclass(slots=True)
class FailureReason:
    """Rows that did not arrive for the same reason.

    Attributes:
        outcome: What became of them.
        code: Short name of the reason.
        reason: In words.
        rows: How many.
        problems: What was found wrong with them here.
        place: Where one of them is.
    """

    outcome: str
    code: str
    reason: str
    rows: int
    problems: tuple[Problem, ...] = ()
    place: Place = (None, None)

    @property
    def columns(self) -> list[str]:
        """The columns to blame, each once."""
        named = [problem.column for problem in self.problems if problem.column is not None]
        return list(dict.fromkeys(named))


class FailureReasons:
    """Counts rows by reason; 50 reasons at most, and what is beyond by outcome and code only."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], FailureReason] = {}

    def count(
        self,
        outcome: str,
        code: str,
        reason: str,
        rows: int,
        *,
        problems: tuple[Problem, ...] = (),
        place: Callable[[], Place] = lambda: (None, None),
    ) -> None:
        """Count rows.

        Args:
            place: Tells where one of them is; called for the first rows of a reason only.
        """
        key = (outcome, code, reason)
        if key not in self._found and len(self._found) >= _MOST:
            key, problems = (outcome, code, OTHER), ()
        found = self._found.get(key)
        if found is None:
            self._found[key] = FailureReason(*key, rows, problems, place())
        else:
            found.rows += rows

    def merge(self, reasons: Iterable[FailureReason]) -> None:
        """Count what was counted elsewhere."""
        for item in reasons:
            self.count(
                item.outcome,
                item.code,
                item.reason,
                item.rows,
                problems=item.problems,
                place=lambda item=item: item.place,  # type: ignore[misc]
            )

    def __iter__(self) -> Iterator[FailureReason]:
        """The reasons, most rows first."""
        return iter(sorted(self._found.values(), key=lambda item: -item.rows))

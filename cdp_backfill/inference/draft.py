"""A proposal in the making: what is known about a table, and what was chosen so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cdp_backfill.inference.column_names import rank
from cdp_backfill.inference.proposal import Assumption, Choice, Question
from cdp_backfill.inference.samples import are_equal
from cdp_backfill.model.mapping import Lit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from cdp_backfill.inference.samples import Sample, SampleColumn
    from cdp_backfill.model.mapping import Mapping


NOBODY: Final = "No column is clearly "
"""Begins a question about a field for which no column has the right name and the right cells."""

NO_PERSON: Final = "No column is the id of a known person. "
"""Begins what is assumed of an anonymous id that stands alone."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A column that may be a field.

    Attributes:
        column: The column.
        rank: Rank of its name; 0 is the best.
        share: Share of the different cells that fit, 0.0 to 1.0.
        reason: The reason for it in words, or the one against it.
    """

    column: SampleColumn
    rank: int
    share: float
    reason: str

    @property
    def name(self) -> str:
        """Name of the column."""
        return self.column.name


@dataclass(slots=True)
class Draft:
    """What is known about a table, and what was chosen so far.

    Attributes:
        sample: The first rows.
        given: The mapping of the caller.
        values: Returns the values of a column in the whole table with their counts, or None if
            there are too many.
        now: The current time; events lie before it.
        fields: The fields that were chosen.
        used: Columns that fill a field.
        feeds: Columns that a proposed expression reads.
        choices: The choices with their reasons.
        questions: The open questions.
        assumptions: What was taken for granted.
        are_sums: Whether the rows are sums, of which nothing but that is said.
    """

    sample: Sample
    given: Mapping
    values: Callable[[str], dict[str, int] | None]
    now: datetime
    fields: dict[str, Any] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    feeds: set[str] = field(default_factory=set)
    choices: list[Choice] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    assumptions: list[Assumption] = field(default_factory=list)
    are_sums: bool = False

    def value(self, name: str) -> Any:
        """A field of the mapping, whether chosen or given."""
        given = getattr(self.given, name)
        return self.fields.get(name) if given is None else given

    def column(self, name: str) -> SampleColumn | None:
        """The column that fills a field, if it is one of the table."""
        return self.sample.get(self.value(name))

    def named(self, field: str) -> list[tuple[SampleColumn, int]]:
        """The free columns whose names are for a field, with the ranks of the names."""
        ranked = [
            (column, rank(column.name, field))
            for column in self.sample.named
            if column.name not in self.used
        ]
        return [(column, found) for column, found in ranked if found is not None]

    def take(self, field: str, candidate: Candidate) -> None:
        """Choose a column for a field."""
        self.used.add(candidate.name)
        self.choices.append(
            Choice(
                field,
                f"column {candidate.name!r}",
                round(candidate.share, 2),
                f"its name says so; {candidate.reason}",
            )
        )

    def ask(
        self, field: str, text: str, answers: Sequence[str], columns: Sequence[str] = ()
    ) -> None:
        """Ask for a field that every message needs."""
        self.questions.append(
            Question(field, tuple(columns), text, needed=True, answers=tuple(answers))
        )

    def assume(self, field: str, text: str, otherwise: str) -> None:
        """Say what was taken for granted."""
        self.assumptions.append(Assumption(field, text, otherwise))

    def is_asked(self, field: str) -> bool:
        """Whether a question about a field is open."""
        return any(question.field == field for question in self.questions)

    @property
    def constant_event(self) -> str | None:
        """The event of all rows, if the caller gave one."""
        event = self.given.event
        return str(event.value) if isinstance(event, Lit) else None


def best_of(
    candidates: list[Candidate], cells: Callable[[SampleColumn], list[Any]]
) -> list[Candidate]:
    """The candidates of the best rank; of several with equal cells, the first.

    Args:
        candidates: Candidates for one field.
        cells: Returns the cells of a column in a form in which two columns can be compared.
    """
    best = min((each.rank for each in candidates), default=0)
    kept: list[Candidate] = []
    for each in candidates:
        if each.rank == best:
            mine = cells(each.column)
            if not any(are_equal(mine, cells(other.column)) for other in kept):
                kept.append(each)
    return kept


def text_cells(column: SampleColumn) -> list[Any]:
    """The cells of a column as text, None where they are empty."""
    return [None if cell is None else str(cell) for cell in column.array.to_pylist()]


def listed(names: Sequence[str], word: str = "and") -> str:
    """Names of columns in a sentence.

    >>> listed(["a", "b", "c"])
    "'a', 'b' and 'c'"
    """
    shown = [repr(name) for name in names]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {word} {shown[-1]}"

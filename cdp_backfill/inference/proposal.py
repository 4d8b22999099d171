"""A proposed mapping: its choices with their reasons, what it assumes, and its open questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cdp_backfill.model.mapping import Mapping


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice of a column or a setting, with its reason.

    Attributes:
        field: Field of the mapping, such as ``context.device.model``.
        value: The column or the setting, in words.
        confidence: Share of the cells looked at that fit, 0.0 to 1.0.
        reason: The reason in words.
    """

    field: str
    value: str
    confidence: float
    reason: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question that the table does not answer; ``str()`` gives it with its answers.

    Attributes:
        field: Field of the mapping.
        columns: The candidate columns; empty if there are none.
        text: The question, with the reasons against the candidates.
        needed: Whether the answer is needed before anything can be sent.
        answers: Arguments to pass, one of which answers it, such as ``user_id='customer'``.
        example: What a cell means under each answer, in a sentence. A plan shows it; ``str()``,
            errors and files without cells do not.
    """

    field: str
    columns: tuple[str, ...]
    text: str
    needed: bool
    answers: tuple[str, ...] = ()
    example: str = ""

    def __str__(self) -> str:
        return f"{self.text} Pass {' or '.join(self.answers)}." if self.answers else self.text


@dataclass(frozen=True, slots=True)
class Assumption:
    """What a proposal takes for granted, although only a person knows it for certain.

    Attributes:
        field: Field of the mapping.
        text: What is assumed, in a sentence.
        otherwise: The argument to pass if it is wrong, such as ``timezone='...'``.
    """

    field: str
    text: str
    otherwise: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A column that stays out of the messages, because it holds personal data.

    Attributes:
        column: The column.
        reason: The reason in words.
    """

    column: str
    reason: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A mapping, and the reasons for it.

    Attributes:
        mapping: The mapping, without the fields of open questions.
        choices: The choices, with their reasons.
        questions: The open questions.
        preset: Name of the preset that it comes from, or None.
        facts: The facts that the preset relies on, in sentences.
        assumptions: What it takes for granted.
        left_out: Columns of personal data that stay out, with the reasons.
        notes: Further sentences about it, for plans and reports.
    """

    mapping: Mapping
    choices: tuple[Choice, ...] = ()
    questions: tuple[Question, ...] = ()
    preset: str | None = None
    facts: tuple[str, ...] = ()
    assumptions: tuple[Assumption, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether a run can use it, because no needed question is open."""
        return not any(question.needed for question in self.questions)

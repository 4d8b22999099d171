"""A proposed mapping: its choices with their reasons, and its open questions."""

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
        confidence: Likelihood, 0.0 to 1.0.
        reason: The reason in words.
    """

    field: str
    value: str
    confidence: float
    reason: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question that the table does not answer.

    Attributes:
        field: Field of the mapping.
        columns: The candidate columns; empty if there are none.
        text: The question, with the argument to pass.
        needed: Whether the answer is needed before anything can be sent.
    """

    field: str
    columns: tuple[str, ...]
    text: str
    needed: bool


@dataclass(frozen=True, slots=True)
class Proposal:
    """A mapping, and the reasons for it.

    Attributes:
        mapping: The mapping, without the fields of open questions.
        choices: The choices, with their reasons.
        questions: The open questions.
        preset: Name of the preset that it comes from, or None.
        facts: The facts that the preset relies on, in sentences.
    """

    mapping: Mapping
    choices: tuple[Choice, ...] = ()
    questions: tuple[Question, ...] = ()
    preset: str | None = None
    facts: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether a run can use it, because no needed question is open."""
        return not any(question.needed for question in self.questions)

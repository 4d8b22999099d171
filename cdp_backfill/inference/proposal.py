"""What a proposed mapping is made of: each choice with its reason, and what it had to ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cdp_backfill.model.mapping import Mapping


@dataclass(frozen=True, slots=True)
class Choice:
    """Why a column, or a setting, was chosen.

    Attributes:
        field: Field of the mapping, such as ``context.device.model``.
        value: The column, or the setting, as it is shown.
        confidence: From 0 to 1.
        reason: In words.
    """

    field: str
    value: str
    confidence: float
    reason: str


@dataclass(frozen=True, slots=True)
class Question:
    """What was not guessed.

    Attributes:
        field: Field of the mapping.
        columns: The columns that compete; empty where there is none.
        text: The question, with what to do.
        needed: Whether nothing can be sent without the answer.
    """

    field: str
    columns: tuple[str, ...]
    text: str
    needed: bool


@dataclass(frozen=True, slots=True)
class Proposal:
    """A mapping that was found by looking at a table.

    Attributes:
        mapping: The mapping; without the fields that are asked for.
        choices: Why it is so.
        questions: What could not be decided.
        preset: Name of the preset that it comes from, or None.
        facts: What the preset relies on, in sentences.
    """

    mapping: Mapping
    choices: tuple[Choice, ...] = ()
    questions: tuple[Question, ...] = ()
    preset: str | None = None
    facts: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether a run can go by it."""
        return not any(question.needed for question in self.questions)

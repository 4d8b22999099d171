"""Realistic tables, each with what a careful reader would map; see ``column_sets*.toml``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

EMPTY: Final = "<empty>"


@dataclass(frozen=True)
class ColumnSet:
    """A table and what a careful reader would make of it.

    Attributes:
        name: What it is called by.
        columns: The cells of each column.
        expected: Fields of a mapping to columns.
        unit: Unit of its times, if these are numbers.
        events: Values of the event column to events.
        asks: Fields that cannot be decided by looking.
    """

    name: str
    columns: dict[str, list[Any]]
    expected: dict[str, str]
    unit: str | None = None
    events: dict[str, str] = field(default_factory=dict)
    asks: frozenset[str] = frozenset()


def _read(name: str) -> list[ColumnSet]:
    text = (Path(__file__).parent / name).read_text(encoding="utf-8")
    actual = []
    for title, table in tomllib.loads(text).items():
        columns = {
            column: [None if cell == EMPTY else cell for cell in cells]
            for column, cells in table.pop("columns").items()
        }
        asks = frozenset(table.pop("asks", ()))
        actual.append(ColumnSet(title, columns, asks=asks, **table))
    return actual


COLUMN_SETS: Final = _read("column_sets.toml")

HOLDOUT: Final = _read("column_sets_holdout.toml")
"""Written after the inference, which has learnt from its mistakes here since."""

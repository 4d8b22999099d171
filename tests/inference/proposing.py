"""Proposes mappings for made-up tables, for the tests of the inference."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from cdp_backfill import Mapping
from cdp_backfill.inference.columns import Inference
from cdp_backfill.inference.samples import SampleColumn
from cdp_backfill.sources import open_source

if TYPE_CHECKING:
    from cdp_backfill.inference.proposal import Proposal

NOW: Final = datetime(2026, 6, 1, tzinfo=UTC)
ROWS: Final = 40


def proposed(
    columns: dict[str, list[Any]] | pd.DataFrame, given: Mapping | None = None, **passed: Any
) -> Proposal:
    """What is proposed from names and cells alone, without presets."""
    frame = pd.DataFrame(columns)
    batch = next(iter(open_source(frame).chunks([str(name) for name in frame.columns]))).batch

    def values(column: str) -> dict[str, int] | None:
        cells = frame[column].dropna().map(str)
        counts = {str(value): int(rows) for value, rows in cells.value_counts().items()}
        return counts if len(counts) <= 500 else None

    return Inference(batch, values, NOW).propose(given or Mapping(**passed), passed)


def paths(mapping: Mapping) -> dict[str, str]:
    """The columns of a mapping by field."""
    actual = {
        name: value
        for name in ("user_id", "anonymous_id", "event", "timestamp", "message_id")
        if isinstance(value := getattr(mapping, name), str)
    }

    def below(path: str, tree: dict[str, Any]) -> None:
        for name, value in tree.items():
            if isinstance(value, dict):
                below(f"{path}.{name}", value)
            else:
                actual[f"{path}.{name}"] = value

    below("properties", mapping.properties)
    below("context", mapping.context)
    return actual


def table(rows: Any = ROWS, *, no: Any = "", **columns: Any) -> dict[str, list[Any]]:
    """A table of events with further columns, but without those of the words in ``no``."""
    whole: dict[str, Any] = {
        "user_id": [f"u{row % 9}" for row in range(rows)],
        "event": [("app_open", "app_install")[row % 2] for row in range(rows)],
        "event_time": list(pd.date_range("2023-01-01", periods=rows, freq="h", tz="UTC")),
    }
    return {name: cells for name, cells in whole.items() if name not in no.split()} | columns


def cycled(*cells: Any, rows: int = ROWS) -> list[Any]:
    """The cells again and again, for a column of a table."""
    return [cells[row % len(cells)] for row in range(rows)]


def field_of(column: str, cells: list[Any], **further: Any) -> set[str]:
    """The fields that a column beside those of :func:`table` fills."""
    found = proposed(table(len(cells), **{column: cells}, **further))
    return {field for field, name in paths(found.mapping).items() if name == column}


def asked(found: Proposal) -> set[str]:
    """The fields that are asked for."""
    return {question.field for question in found.questions}


def column(name: str, cells: list[Any]) -> SampleColumn:
    """A column of the first rows."""
    frame = pd.DataFrame({name: cells})
    batch = next(iter(open_source(frame).chunks([name]))).batch
    return SampleColumn(name, batch.column(0))

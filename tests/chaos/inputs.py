"""Tables for the chaos, in every kind of container, with rows that are known to be invalid."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

import cdp_backfill as cdp

if TYPE_CHECKING:
    import random
    from pathlib import Path

MAPPING: Final = cdp.Mapping(user_id="uid", timestamp="ts", event=cdp.lit("Application Opened"))
FILES: Final = ("parquet", "csv", "ndjson")
CONTAINERS: Final = (*FILES, "pandas", "polars", "arrow")

_BAD: Final[tuple[dict[str, str | None], ...]] = ({"uid": None}, {"ts": None}, {"ts": "never"})


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        container: What it is: a kind of file or of frame.
        path: The file; frames are read from it, too, as NDJSON.
        rows: Number of rows; column ``n`` holds the number of each.
        invalid: The rows that cannot become a message.
    """

    container: str
    path: str
    rows: int
    invalid: frozenset[int]

    @property
    def valid(self) -> list[int]:
        """The rows that become messages, in order."""
        return [row for row in range(self.rows) if row not in self.invalid]

    def source(self) -> Any:
        """What is passed to the package."""
        if self.container in FILES:
            return self.path
        with open(self.path, encoding="utf-8") as file:  # noqa: PTH123  # a text
            lines = [json.loads(line) for line in file]
        if self.container == "pandas":
            return pd.DataFrame(lines)
        return pl.DataFrame(lines) if self.container == "polars" else pa.Table.from_pylist(lines)


def written(folder: Path, container: str, rows: int, invalid: float, rng: random.Random) -> Table:
    """Write a table.

    Args:
        folder: Where to.
        container: One of :data:`CONTAINERS`.
        rows: Number of rows.
        invalid: Share of rows that are invalid, 0 to 1.
        rng: Source of chance.
    """
    lines, bad = [], set()
    for row in range(rows):
        line: dict[str, Any] = {
            "n": row,
            "uid": f"u{rng.randrange(rows)}",
            "ts": f"2023-05-{1 + row % 28:02}T10:{row % 60:02}:00Z",
            "note": "é" * rng.randrange(30),
        }
        if rng.random() < invalid:
            line |= rng.choice(_BAD)
            bad.add(row)
        lines.append(line)
    path = folder / f"table.{container if container in FILES else 'ndjson'}"
    if container == "parquet":
        pq.write_table(pa.Table.from_pylist(lines), path, row_group_size=max(1, rows // 3))
    elif container == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
    else:
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return Table(container, str(path), rows, frozenset(bad))

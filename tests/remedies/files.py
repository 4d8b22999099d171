"""What errors about files propose to type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import pyarrow as pa

from tests.rows import OPENED, opens

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TIME: Final = "2023-05-01T10:00:00Z"
NO_HEADER: Final = f"u1,{TIME}\nu2,{TIME}\n"
BACKSLASHES: Final = f'uid,ts,x\nu1,{TIME},"y"\nu2,{TIME},"a\\\\b\\""\n'
POLISH: Final = f"uid,ts,x\nu1,{TIME},España\n".encode("cp1252")


def written(desk: Any, content: str | bytes) -> Path:
    """A file."""
    path: Path = desk.folder / "x.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lake(desk: Any) -> Path:
    """The folder of a Delta table."""
    log: Path = desk.folder / "lake" / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020}.json").write_text("{}")
    opens(2).to_parquet(log.parent / "part-0.parquet")
    return log.parent


FILE_CASES: Final[list[tuple[tuple[str, ...], Callable[[Any], Any], Callable[[Any], Any]]]] = [
    (
        ("pd.read_csv(……, header=None, names=…, dtype=str)", "df.cdp.send(...)", "header=0"),
        lambda desk: desk.send(written(desk, NO_HEADER), OPENED),
        lambda desk: [
            pd.read_csv(
                written(desk, NO_HEADER), header=header, names=["uid", "ts"], dtype=str
            ).cdp.send(OPENED, **desk.options)
            for header in (None, 0)
        ],
    ),
    (
        ("pd.read_csv(…, escapechar='\\\\', dtype=str)",),
        lambda desk: desk.send(written(desk, BACKSLASHES), OPENED),
        lambda desk: desk.send(
            pd.read_csv(written(desk, BACKSLASHES), escapechar="\\", dtype=str), OPENED
        ),
    ),
    (
        ("pd.read_csv(..., encoding='cp1252', dtype=str)",),
        lambda desk: desk.send(written(desk, POLISH), OPENED),
        lambda desk: desk.send(
            pd.read_csv(written(desk, POLISH), encoding="cp1252", dtype=str), OPENED
        ),
    ),
    (
        ("cdp.send(table, ...)",),
        lambda desk: desk.send(lake(desk), OPENED),
        lambda desk: desk.send(pa.Table.from_pandas(opens(2)), OPENED),
    ),
]
"""Code in the error, what provokes it, and what types it."""

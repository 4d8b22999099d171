"""Tables for the chaos, in every kind of container, with rows that are known to stay out.

A row stays out because it cannot become a message, because its line cannot be read, because the
mapping skips its event, or because the call leaves it out with ``where=`` or ``exclude=``.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

import cdp_backfill as cdp

if TYPE_CHECKING:
    import random

Key = int | str
"""What a row is known by: the number of an event, or the two ids of an identity."""

MAPPING: Final = cdp.Mapping(user_id="uid", timestamp="ts", event=cdp.lit("Application Opened"))
FILES: Final = ("parquet", "csv", "ndjson")
CONTAINERS: Final = (*FILES, "pandas", "polars", "arrow")

_BAD: Final[tuple[dict[str, str | None], ...]] = (
    {"uid": None, "aid": None},
    {"ts": None},
    {"ts": "never"},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What kind of table it is.

    Attributes:
        container: A kind of file or of frame.
        invalid: Share of rows that cannot become a message, 0 to 1.
        skipped: Share of rows whose event is skipped, 0 to 1.
        other_events: How the mapping skips them: ``skip`` on purpose, ``unmapped`` as missing.
        unreadable: Share of rows whose line is cut, 0 to 1; only in CSV and NDJSON files.
        where: Share of rows that ``where=`` leaves out, 0 to 1.
        exclude: Share of people whom ``exclude=`` leaves out, 0 to 1.
        excluded_file: Whether their ids are in a file, not in memory.
        identify: Where identities come from: a ``column``, a ``file``, or empty for none.
        files: Number of files.
    """

    container: str
    invalid: float = 0.0
    skipped: float = 0.0
    other_events: str = "skip"
    unreadable: float = 0.0
    where: float = 0.0
    exclude: float = 0.0
    excluded_file: bool = False
    identify: str = ""
    files: int = 1


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a run, by what should become of them.

    Attributes:
        valid: Those that become messages, in order.
        invalid: Those that cannot.
        skipped: Those that the mapping leaves out.
        left_out: Those that the call leaves out.
        reported: Whether the skipped ones are among the failures; those left out never are.
    """

    valid: tuple[Key, ...]
    invalid: frozenset[Key] = frozenset()
    skipped: frozenset[Key] = frozenset()
    left_out: frozenset[Key] = frozenset()
    reported: bool = False

    @property
    def count(self) -> int:
        """Number of rows."""
        return sum(map(len, (self.valid, self.invalid, self.skipped, self.left_out)))


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        shape: What it is.
        paths: The files; frames are read from one, too, as NDJSON.
        events: Its rows; column ``n`` holds the number of each.
        identities: The identities that are sent first, or None for none.
        people: The file of the identities, or empty for none.
        excluded: The ids that are left out, or the path of their file; None for none.
        owners: The identity that belongs to each anonymous id, for those that have one.
        places: File and row number of each row, from 0; empty for a frame.
    """

    shape: Shape
    paths: tuple[str, ...]
    events: Rows
    identities: Rows | None
    people: str
    excluded: str | tuple[str, ...] | None
    owners: dict[str, Key]
    places: tuple[tuple[str, int], ...]

    @property
    def mapping(self) -> cdp.Mapping:
        """The mapping of its events."""
        if not (self.shape.skipped or self.shape.identify):
            return MAPPING
        return cdp.Mapping(
            user_id="uid",
            anonymous_id="aid" if self.shape.identify else None,
            timestamp="ts",
            event="event",
            events={"open": "Application Opened"},
            other_events=self.shape.other_events,  # type: ignore[arg-type]
        )

    @property
    def options(self) -> dict[str, Any]:
        """What else is passed to ``send``."""
        options: dict[str, Any] = {}
        if self.shape.unreadable:
            options["unreadable"] = "skip"
        if self.shape.where:
            options["where"] = "keep = 'yes'"
        if self.excluded is not None:
            named = self.excluded
            options["exclude"] = named if isinstance(named, str) else list(named)
        if self.shape.identify:
            options["identify"] = self.people or "uid"
        return options

    @property
    def forgotten(self) -> dict[str, Any]:
        """The options that a journal does not remember."""
        in_memory = isinstance(self.excluded, tuple)
        return {name: self.options[name] for name in ("exclude",) if in_memory}

    def source(self) -> Any:
        """What is passed to the package."""
        if self.shape.container in FILES:
            return list(self.paths) if len(self.paths) > 1 else self.paths[0]
        with open(self.paths[0], encoding="utf-8") as file:  # noqa: PTH123  # a text
            lines = [json.loads(line) for line in file]
        if self.shape.container == "pandas":
            return pd.DataFrame(lines)
        if self.shape.container == "polars":
            return pl.DataFrame(lines, infer_schema_length=None)
        return pa.Table.from_pylist(lines)


def written(folder: Path, shape: Shape, rows: int, rng: random.Random) -> Table:
    """Write a table.

    Args:
        folder: Where to.
        shape: What kind of table.
        rows: Number of rows.
        rng: Source of chance.
    """
    lines = [_line(row, rows, shape, rng) for row in range(rows)]
    away = {f"u{person}" for person in range(rows) if rng.random() < shape.exclude}
    invalid: set[Key] = set()
    skipped: set[Key] = set()
    cut: set[int] = set()
    for row, line in enumerate(lines):
        if rng.random() < shape.where:
            line["keep"] = "no"
        if rng.random() < shape.skipped:
            line["event"] = "close"
            skipped.add(row)
        elif rng.random() < shape.invalid:
            bad = rng.choice(_BAD)
            line.update((name, cell) for name, cell in bad.items() if name in line)
            invalid.add(row)
        if shape.container in ("csv", "ndjson") and rng.random() < shape.unreadable:
            cut.add(row)
    size = -(-rows // shape.files)
    parts = [range(start, min(start + size, rows)) for start in range(0, rows, size)]
    # Of a file without one whole line nobody could tell where its rows begin.
    cut -= {part.start for part in parts if cut.issuperset(part)}
    suffix = shape.container if shape.container in FILES else "ndjson"
    paths = [folder / f"table{number}.{suffix}" for number in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        _write(path, [lines[row] for row in part], [row in cut for row in part])
    places = [
        (path.name, row - part.start)
        for path, part in zip(paths, parts, strict=True)
        for row in part
    ]
    people, identities = "", None
    owners: dict[str, Key] = {}
    if shape.identify:
        readable = [line for row, line in enumerate(lines) if row not in cut]
        # A file of identities knows no where=.
        chosen = [line for line in readable if line["keep"] == "yes"]
        identities, owners = _identities(readable if shape.identify == "file" else chosen, away)
        if shape.identify == "file":
            people = str(folder / "people.csv")
            every = [*identities.valid, *identities.invalid, *identities.left_out]
            _write_people(Path(people), every)
    named: str | tuple[str, ...] | None = tuple(sorted(away)) if shape.exclude else None
    if shape.excluded_file and named is not None:
        file = folder / "excluded.csv"
        file.write_text("\n".join(["uid", *named]) + "\n", encoding="utf-8")
        named = str(file)
    left_out: set[Key] = {
        row
        for row, line in enumerate(lines)
        if row not in cut and (line["keep"] == "no" or line["uid"] in away)
    }
    out = (invalid | cut) - left_out
    return Table(
        shape,
        tuple(map(str, paths)),
        Rows(
            tuple(row for row in range(rows) if row not in out | skipped | left_out),
            frozenset(out),
            frozenset(skipped - cut - left_out),
            frozenset(left_out),
            reported=shape.other_events == "unmapped",
        ),
        identities,
        people,
        named,
        owners,
        tuple(places) if shape.container in FILES else (),
    )


def _line(row: int, rows: int, shape: Shape, rng: random.Random) -> dict[str, Any]:
    person = rng.randrange(rows)
    line: dict[str, Any] = {
        "n": row,
        "uid": f"u{person}",
        "ts": f"2023-05-{1 + row % 28:02}T10:{row % 60:02}:00Z",
        "note": "é" * rng.randrange(30),
        "event": "open",
        "keep": "yes",
    }
    if shape.identify:
        line["aid"] = f"a{person if rng.random() < 0.95 else rng.randrange(rows)}"
        kind = rng.random()
        if kind < 0.2:  # an anonymous row
            line["uid"] = None
        elif kind < 0.3:
            line["aid"] = None
    return line


def _identities(lines: list[dict[str, Any]], away: set[str]) -> tuple[Rows, dict[str, Key]]:
    """The distinct pairs of ids, and the one of each anonymous id that has one."""
    pairs = dict.fromkeys(
        (line["aid"], line["uid"]) for line in lines if line["aid"] and line["uid"]
    )
    left_out = {identity_key(*pair) for pair in pairs if pair[1] in away}
    people: dict[str, list[Key]] = {}
    for anonymous, person in pairs:
        people.setdefault(anonymous, []).append(identity_key(anonymous, person))
    alone = {anonymous: keys[0] for anonymous, keys in people.items() if len(keys) == 1}
    owners = {anonymous: key for anonymous, key in alone.items() if key not in left_out}
    ambiguous = {key for keys in people.values() if len(keys) > 1 for key in keys}
    keys = (identity_key(*pair) for pair in pairs)
    known = set(owners.values())
    valid = tuple(key for key in keys if key in known)
    return Rows(valid, frozenset(ambiguous - left_out), left_out=frozenset(left_out)), owners


def identity_key(anonymous: str, person: str) -> str:
    """What an identity is known by."""
    return f"{anonymous} {person}"


def _write(path: Path, lines: list[dict[str, Any]], cut: list[bool]) -> None:
    """Write lines, and of those that are cut only the beginning, with the number of the row."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(lines), path, row_group_size=max(1, len(lines) // 3))
    elif path.suffix == ".csv":
        texts = [",".join(lines[0])]
        for line, is_cut in zip(lines, cut, strict=True):
            held = io.StringIO()
            csv.writer(held, lineterminator="").writerow(line.values())
            texts.append(f"{line['n']},cut" if is_cut else held.getvalue())
        path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    else:
        whole = (json.dumps(line) for line in lines)
        texts = [text[:20] if is_cut else text for text, is_cut in zip(whole, cut, strict=True)]
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")


def _write_people(path: Path, keys: list[Key]) -> None:
    """Write identities as a table with a trait."""
    lines = [f"{str(key).replace(' ', ',')},plan {at % 3}" for at, key in enumerate(keys)]
    path.write_text("\n".join(["aid,uid,plan", *lines]) + "\n", encoding="utf-8")

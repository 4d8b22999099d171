"""Presets: mappings for vendors' exports, each a TOML file to read, copy and edit.

A file has ``title``, ``facts`` (the facts that it relies on, their sources, and what is not
verified), ``detect`` (lists of columns; a table with all columns of one list gets the preset),
``detect_exact`` (the same for a table without other columns) and ``mapping``, whose fields are
those of :class:`cdp_backfill.Mapping`. Letter case, spaces and punctuation in column names do not
count, except in names of ``detect`` that have capitals. Columns that an export lacks are left out,
and are empty in the expressions of ``derive``.

A file can also have

* ``cells``: for columns that have another meaning in other tables, regular expressions that their
  cells match in such an export, written as JSON;
* ``question``: what to ask if the table lacks the column that tells the event, and ``told_by``,
  that column, if it is not the one of ``mapping``;
* ``send_event``: the event column to use with ``other_events="send"``;
* ``processed``: the new column with the time at which the vendor processed the event, in
  milliseconds since 1970 UTC, with which the time of the event is compared;
* ``inside``: the column that holds the records of another export as JSON;
* ``whole_context``: the column whose JSON is the context of the message, and the paths in it to
  leave out.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from cdp_backfill.errors import MappingError
from cdp_backfill.inference.presets.preset import Preset
from cdp_backfill.inference.presets.whole_context import add_context
from cdp_backfill.model.mapping import Mapping
from cdp_backfill.model.mapping_checks import did_you_mean
from cdp_backfill.model.toml_text import parse_toml, read_toml

__all__ = ["Preset", "detect", "load", "names"]

_PLAIN: Final = ("title", "cells", "told_by", "question", "send_event", "processed", "inside")
_ENTRIES: Final = {*_PLAIN, "facts", "detect", "detect_exact", "whole_context", "mapping"}


@cache
def _files() -> dict[str, str]:
    """The text of each preset in the package, by name."""
    folder = resources.files(__package__)
    return {
        item.name.removesuffix(".toml"): item.read_text("utf-8")
        for item in sorted(folder.iterdir(), key=lambda item: item.name)
        if item.name.endswith(".toml")
    }


def names() -> list[str]:
    """Names of the presets in the package."""
    return sorted(_files())


def load(preset: str | Path) -> Preset:
    """Load a preset by its name or from a file.

    Args:
        preset: One of :func:`names`, or the path of a TOML file.

    Raises:
        MappingError: There is no such preset, or the file is not a preset.
    """
    name = str(preset)
    if name in _files():
        return _packaged(name)
    if not name.endswith(".toml"):
        raise MappingError(
            f"There is no preset {name!r}.{did_you_mean(name, names())} Presets: "
            f"{', '.join(names())}. For an edited copy, pass its path, which ends in .toml."
        )
    return _read(Path(name).stem, read_toml(name, "preset"))


def detect(columns: list[str]) -> Preset | None:
    """The preset that fits the columns of a table; None if none or several fit equally."""
    scored = [(preset.matches(columns), preset) for preset in map(_packaged, names())]
    best = max(score for score, _ in scored)
    matching = [preset for score, preset in scored if score == best]
    return matching[0] if best and len(matching) == 1 else None


@cache
def _packaged(name: str) -> Preset:
    return _read(name, _files()[name])


def _read(name: str, text: str) -> Preset:
    values = parse_toml(text, f"preset {name!r}")
    unknown = set(values) - _ENTRIES
    if unknown or "mapping" not in values:
        what = f"has an unknown entry {min(unknown)!r}" if unknown else "has no [mapping]"
        raise MappingError(f"The preset {name!r} {what}.")
    plain: dict[str, Any] = {entry: values[entry] for entry in _PLAIN if entry in values}
    preset = Preset(
        name=name,
        facts=tuple(values.get("facts", ())),
        detect=tuple(tuple(columns) for columns in values.get("detect", ())),
        detect_exact=tuple(tuple(columns) for columns in values.get("detect_exact", ())),
        mapping=Mapping.from_dict(values["mapping"]),
        text=text,
        **({"title": name} | plain),
    )
    whole = values.get("whole_context")
    if whole is None:
        return preset
    return replace(preset, mapping=add_context(preset.mapping, **whole))

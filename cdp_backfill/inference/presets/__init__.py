"""Presets: mappings for vendors' exports, each a TOML file to read, copy and edit.

A file has ``title``, ``facts`` (the facts that it relies on, their sources, and what is not
verified), ``detect`` (lists of columns; a table with all columns of one list gets the preset),
``detect_exact`` (the same for a table without other columns) and ``mapping``, whose fields are
those of :class:`cdp_backfill.Mapping`. Letter case, spaces and punctuation in column names do not
count. Columns that an export lacks are left out, and are empty in the expressions of ``derive``.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Final

from cdp_backfill.errors import MappingError
from cdp_backfill.inference.column_names import fold
from cdp_backfill.inference.proposal import Choice, Proposal
from cdp_backfill.messages.deriving import columns_of, quote
from cdp_backfill.model.mapping import Mapping
from cdp_backfill.model.mapping_checks import did_you_mean

_FIELDS: Final = ("user_id", "anonymous_id", "event", "timestamp", "message_id")


@dataclass(frozen=True, slots=True)
class Preset:
    """A mapping for the export of a vendor.

    Attributes:
        name: The name.
        title: The export that it is for.
        facts: The facts that it relies on, their sources, and what is not verified.
        detect: Lists of columns; a table with all columns of one list is such an export.
        detect_exact: The same for a table without other columns.
        mapping: The mapping, with the vendor's column names.
        text: The whole file.
    """

    name: str
    title: str
    facts: tuple[str, ...]
    detect: tuple[tuple[str, ...], ...]
    detect_exact: tuple[tuple[str, ...], ...]
    mapping: Mapping
    text: str

    def matches(self, names: list[str]) -> int:
        """How many columns show that a table is such an export; 0 if it is not."""
        folded_names = {fold(name) for name in names}
        best = 0
        for columns in self.detect:
            if folded_names >= set(map(fold, columns)):
                best = max(best, len(columns))
        for columns in self.detect_exact:
            if folded_names == set(map(fold, columns)):
                best = max(best, len(columns))
        return best

    def fit(self, names: list[str]) -> Mapping:
        """The mapping for a table with these columns.

        Raises:
            MappingError: The table lacks a column that the preset needs.
        """
        columns = {fold(name): name for name in reversed(names)}
        mapping = self.mapping
        derived = set(mapping.derive)

        def column(source: Any) -> Any:
            """The table's name of a column, or None if it lacks the column."""
            if not isinstance(source, str) or source in derived:
                return source
            return columns.get(fold(source))

        def tree(branch: dict[str, Any]) -> dict[str, Any]:
            result = {}
            for name, value in branch.items():
                fit = tree(value) if isinstance(value, dict) else column(value)
                if fit not in (None, {}):
                    result[name] = fit
            return result

        for field in ("event", "timestamp"):
            source = getattr(mapping, field)
            if source is not None and column(source) is None:
                raise MappingError(
                    f"The preset {self.name!r} does not fit this table, which has no column "
                    f"{source!r}. It is for {self.title}."
                )
        exact = {name.casefold() for name in names}
        column_expressions: dict[str, str] = {}
        for expression in mapping.derive.values():
            for used in sorted(columns_of(expression)):
                if used.casefold() in exact or used in derived or used in column_expressions:
                    continue
                there = columns.get(fold(used))
                column_expressions[used] = "NULL::VARCHAR" if there is None else quote(there)
        return replace(
            mapping,
            **{name: column(getattr(mapping, name)) for name in _FIELDS},
            properties=tree(mapping.properties),
            context=tree(mapping.context),
            derive=column_expressions | mapping.derive,
            expand=[there for name in mapping.expand if (there := column(name))],
            json=[there for name in mapping.json if (there := column(name))],
        )

    def proposal(self, names: list[str], given: dict[str, Any], reason: str) -> Proposal:
        """Propose the mapping for a table.

        Args:
            names: Its columns.
            given: Fields of the caller, which replace the preset's.
            reason: The reason of the proposal.
        """
        mapping = replace(self.fit(names), **given)
        choices = [Choice("preset", repr(self.name), 1.0, f"{self.title}: {reason}")]
        for name in _FIELDS:
            value = getattr(mapping, name)
            if value is not None:
                why = "passed" if name in given else f"from the preset {self.name}"
                shown = f"column {value!r}" if isinstance(value, str) else repr(value)
                choices.append(Choice(name, shown, 1.0, why))
        return Proposal(mapping, tuple(choices), preset=self.name, facts=self.facts)


def names() -> list[str]:
    """Names of the presets in the package."""
    folder = resources.files(__package__)
    return sorted(
        item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml")
    )


def load(preset: str | Path) -> Preset:
    """Load a preset by its name or from a file.

    Args:
        preset: One of :func:`names`, or the path of a TOML file.

    Raises:
        MappingError: There is no such preset, or the file is not a preset.
    """
    name = str(preset)
    if name in names():
        return _read(name, (resources.files(__package__) / f"{name}.toml").read_text("utf-8"))
    if not name.endswith(".toml"):
        raise MappingError(
            f"There is no preset {name!r}.{did_you_mean(name, names())} Presets: "
            f"{', '.join(names())}. For an edited copy, pass its path, which ends in .toml."
        )
    try:
        return _read(Path(name).stem, Path(name).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise MappingError(f"The preset {name!r} cannot be read: {error}.") from error


def detect(columns: list[str]) -> Preset | None:
    """The preset that fits the columns of a table; None if none or several fit equally."""
    scored = [(preset.matches(columns), preset) for preset in map(load, names())]
    best = max(score for score, _ in scored)
    matching = [preset for score, preset in scored if score == best]
    return matching[0] if best and len(matching) == 1 else None


def _read(name: str, text: str) -> Preset:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MappingError(f"The preset {name!r} is not valid TOML: {error}.") from error
    unknown = set(values) - {"title", "facts", "detect", "detect_exact", "mapping"}
    if unknown or "mapping" not in values:
        what = f"has an unknown entry {min(unknown)!r}" if unknown else "has no [mapping]"
        raise MappingError(f"The preset {name!r} {what}.")
    return Preset(
        name=name,
        title=values.get("title", name),
        facts=tuple(values.get("facts", ())),
        detect=tuple(tuple(columns) for columns in values.get("detect", ())),
        detect_exact=tuple(tuple(columns) for columns in values.get("detect_exact", ())),
        mapping=Mapping.from_dict(values["mapping"]),
        text=text,
    )

"""Paths: fields inside columns of structs or of JSON objects, named as ``device.os.name``.

A column whose own name is the path is meant before any field inside another column. The fields of a
struct are known beforehand. Each JSON object has its own: a path leads into it as far as it can.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.messages.json_members import split_members
from cdp_backfill.messages.text import decode, json_as_text
from cdp_backfill.model.arrow_types import is_bytes, is_json, is_list, is_text
from cdp_backfill.model.mapping_checks import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from cdp_backfill.model.mapping import Mapping

_SHOWN: Final = 12

_QUOTED: Final = {
    "int64": r'^"(-?(?:0|[1-9]\d{0,17}))"$',
    "double": r'^"(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)"$',
    "bool": r'^"(true|false)"$',
}
"""Text in JSON that stands for a value of a type; other text stays text."""

Steps = tuple[int | str, ...]
"""Positions of the fields of structs from a column down, and at the end a path inside JSON."""


@dataclass(frozen=True)
class Path:
    """A field inside a column.

    Attributes:
        column: The column.
        steps: The way to the field, from the top down; at least one step.
        kind: Arrow type of the field.
    """

    column: str
    steps: Steps
    kind: Any

    @property
    def member(self) -> str | None:
        """The path inside JSON objects, or None for a field of structs."""
        last = self.steps[-1]
        return last if isinstance(last, str) else None

    @property
    def above(self) -> Steps:
        """The way to the JSON objects; for a field of structs, to itself."""
        return self.steps if self.member is None else self.steps[:-1]


@dataclass(frozen=True)
class Paths:
    """The paths that a mapping uses, by their names.

    Attributes:
        paths: Each path by its name.
        taken: By column, what is taken out of it: it is sent elsewhere, or not at all.
        types: By path into JSON, the type that its text stands for.
    """

    paths: dict[str, Path] = field(default_factory=dict)
    taken: dict[str, frozenset[Steps]] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)

    @property
    def fields(self) -> list[Any]:
        """An Arrow field for each path."""
        return [pa.field(name, path.kind) for name, path in self.paths.items()]

    def column_of(self, name: str) -> str:
        """The column in which a path or a column lies."""
        return self.paths[name].column if name in self.paths else name

    def rest(self, schema: Any) -> dict[str, Any]:
        """By column of which parts are taken, the type of what is left; None where nothing is."""
        return {
            name: _rest_of_type(_plain(schema.field(name).type), taken)
            for name, taken in self.taken.items()
        }

    def apply(self, columns: dict[str, Any], *, only_paths: bool = False) -> dict[str, Any]:
        """The columns, with those of the paths, and without what is taken out of a column.

        Args:
            columns: Arrays by name. A path into a column that is not there is left out.
            only_paths: Leave the columns as they are, because nobody needs the rest of them.
        """
        result = dict(columns)
        inside: dict[tuple[str, Steps], list[str]] = {}
        for name, path in self.paths.items():
            if path.column not in columns:
                continue
            if path.member is None:
                result[name] = follow(columns[path.column], path.steps)
            else:
                inside.setdefault((path.column, path.above), []).append(name)
        for (column, above), names in inside.items():
            # JSON is read once for all paths, and for what is left of a column.
            taken = [] if above or only_paths else self._members_taken(column)
            found, rest = split_members(
                follow(columns[column], above),
                [str(self.paths[name].member) for name in names],
                taken,
            )
            result |= dict(zip(names, map(self._value, names, found), strict=True))
            if taken:
                result[column] = rest
        for name, steps in self.taken.items():
            if name in columns and not only_paths and not self._members_taken(name):
                result[name] = _without(decode(columns[name]), steps)
        return result

    def _members_taken(self, column: str) -> list[str]:
        """What is taken out of a column that holds JSON itself."""
        return _members(self.taken.get(column, ()))

    def _value(self, name: str, array: Any) -> Any:
        """The JSON of a path, or its text where this is JSON in turn."""
        pattern = _QUOTED.get(self.types.get(name, ""))
        if pattern is not None:
            storage = pc.replace_substring_regex(array.storage, pattern, r"\1")
            array = pa.ExtensionArray.from_storage(array.type, storage)
        return array if is_json(self.paths[name].kind) else json_as_text(array)


def find_path(name: str, schema: Any, texts: Collection[str] = ()) -> Path | None:
    """The field that a path names, or None if there is none, or a column has this very name.

    Names may hold dots themselves; of several readings, the one with the longest column counts.

    Args:
        name: The path.
        schema: The columns.
        texts: Columns and paths whose text holds JSON.

    >>> find_path("device.id", pa.schema({"device": pa.struct({"id": pa.string()})})).steps
    (0,)
    >>> find_path("device.os.name", pa.schema({"device": pa.json_()})).steps
    ('os.name',)
    """
    if name in schema.names:
        return None
    for column in _beginnings(name, schema.names):
        kind = schema.field(column).type
        steps = _steps(name, len(column), kind, texts)
        if steps is not None:
            return Path(column, steps, _kind_at(name, kind, steps, texts))
    return None


def json_texts(mapping: Mapping) -> frozenset[str]:
    """The columns and paths whose text a mapping reads as JSON."""
    return frozenset({*mapping.json, *mapping.expand})


def paths_of(mapping: Mapping, schema: Any) -> Paths:
    """The paths of a mapping.

    What fills a field of the message is taken out of its column, unless the mapping sends that
    column as a whole, too. What is dropped is taken out of it in any case.

    Args:
        mapping: The mapping.
        schema: The columns of the table, derived ones included.
    """
    filling = {*mapping.sources()}
    whole = filling - {*mapping.expand}
    names, texts = mapping.columns(), json_texts(mapping)
    paths = {name: path for name in names if (path := find_path(name, schema, texts)) is not None}
    taken: dict[str, set[Steps]] = {}
    for name, path in paths.items():
        if name in mapping.drop or (name in filling and path.column not in whole):
            taken.setdefault(path.column, set()).add(path.steps)
    return Paths(
        paths, {name: frozenset(steps) for name, steps in taken.items()}, dict(mapping.types or {})
    )


def why_no_path(name: str, schema: Any) -> str | None:
    """Why a path cannot be followed, or None if it starts at no column.

    >>> why_no_path("device.x", pa.schema({"device": pa.struct({"id": pa.string()})}))
    "'device' has no field 'x'. It has 'id'."
    """
    for column in _beginnings(name, schema.names):
        reached, kind, left = column, _plain(schema.field(column).type), name[len(column) + 1 :]
        while pa.types.is_struct(kind):
            inner = _names(kind)
            step = next(iter(_beginnings(left, inner)), None)
            if step is None:
                return _unknown_field(reached, left, inner)
            reached, left = f"{reached}.{step}", left[len(step) + 1 :]
            kind = _plain(kind.field(inner.index(step)).type)
        if is_list(kind) or pa.types.is_map(kind):
            what = "a map" if pa.types.is_map(kind) else "a list"
            return (
                f"{reached!r} is {what}, and a path cannot go into {what}. Take what you need "
                "with derive={'name': 'an SQL expression'}."
            )
        return (
            f"{reached!r} is of type {kind} and has no fields. If its text holds JSON, pass "
            f"json=[{reached!r}], too."
        )
    return None


def _unknown_field(reached: str, left: str, inner: list[str]) -> str:
    if inner.count(left) > 1:
        return f"{reached!r} has more than one field {left!r}. Rename one of them."
    first = left.partition(".")[0]
    listed = ", ".join(repr(each) for each in inner[:_SHOWN]) or "no fields"
    more = f" and {len(inner) - _SHOWN} more" if len(inner) > _SHOWN else ""
    hint = did_you_mean(first, inner)
    return f"{reached!r} has no field {first!r}.{hint} It has {listed}{more}."


def _beginnings(name: str, names: Sequence[str]) -> list[str]:
    """The names with which a path can begin, the longest first."""
    found = {each for each in names if name.startswith(f"{each}.") and names.count(each) == 1}
    return sorted(found, key=len, reverse=True)


def _steps(path: str, reached: int, kind: Any, texts: Collection[str]) -> Steps | None:
    """The way to the end of a path from where its first letters lead, whose type is ``kind``."""
    kind, name = _plain(kind), path[reached + 1 :]
    if is_json(kind) or pa.types.is_null(kind):
        return (name,)
    if (is_text(kind) or is_bytes(kind)) and path[:reached] in texts:
        return (name,)
    if not pa.types.is_struct(kind):
        return None
    names = _names(kind)
    if names.count(name) == 1:
        return (names.index(name),)
    for each in _beginnings(name, names):
        place = names.index(each)
        below = _steps(path, reached + 1 + len(each), kind.field(place).type, texts)
        if below is not None:
            return (place, *below)
    return None


def _names(kind: Any) -> list[str]:
    return [kind.field(number).name for number in range(kind.num_fields)]


def _plain(kind: Any) -> Any:
    """The type of a decoded array."""
    return decode(pa.nulls(0, kind)).type


def _kind_at(path: str, kind: Any, steps: Steps, texts: Collection[str]) -> Any:
    for step in steps:
        if isinstance(step, str):
            return pa.string() if path in texts else pa.json_(pa.string())
        kind = _plain(kind).field(step).type
    return kind


def follow(array: Any, steps: Steps) -> Any:
    """The field of structs to which steps lead from a column."""
    array = decode(array)
    for step in steps:
        # A field of a null is null, and a slice stays one.
        array = decode(pc.struct_field(array, [step]))
    return array


def _below(taken: Collection[Steps], step: int) -> frozenset[Steps]:
    return frozenset(steps[1:] for steps in taken if steps[0] == step and len(steps) > 1)


def _members(taken: Collection[Steps]) -> list[str]:
    """What is taken out of JSON right here."""
    return sorted(steps[0] for steps in taken if isinstance(steps[0], str))


def _rest_of_type(kind: Any, taken: Collection[Steps]) -> Any | None:
    if not taken:
        return kind
    kind, kept = _plain(kind), []
    if _members(taken):
        return kind
    for step in range(kind.num_fields):
        if (step,) in taken:
            continue
        inner = _rest_of_type(kind.field(step).type, _below(taken, step))
        if inner is not None:
            kept.append(pa.field(kind.field(step).name, inner))
    return pa.struct(kept) if kept else None


def _without(array: Any, taken: Collection[Steps]) -> Any:
    """A struct, or JSON, without what is taken; nulls where nothing is left."""
    array, arrays, kept = decode(array), [], []
    if members := _members(taken):
        return split_members(array, (), members)[1]
    for step in range(array.type.num_fields):
        if (step,) in taken:
            continue
        child, below = pc.struct_field(array, [step]), _below(taken, step)
        if below:
            child = _without(child, below)
            if pa.types.is_null(child.type):
                continue
        arrays.append(child)
        kept.append(pa.field(array.type.field(step).name, child.type))
    if not kept:
        return pa.nulls(len(array))
    return pa.StructArray.from_arrays(arrays, fields=kept, mask=array.is_null())

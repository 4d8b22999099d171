"""Paths: fields inside struct columns, named as ``device.os.name``.

A column whose own name is the path is meant before any field inside another column.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.messages.text import decode
from cdp_backfill.model.arrow_types import is_list
from cdp_backfill.model.mapping_checks import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from cdp_backfill.model.mapping import Mapping

_SHOWN: Final = 12

Steps = tuple[int, ...]
"""Positions of the fields from a column down."""


@dataclass(frozen=True)
class Path:
    """A field inside a struct column.

    Attributes:
        column: The column.
        steps: Positions of the fields below it, from the top down; at least one.
        kind: Arrow type of the field.
    """

    column: str
    steps: Steps
    kind: Any


@dataclass(frozen=True)
class Paths:
    """The paths that a mapping uses, by their names.

    Attributes:
        paths: Each path by its name.
        taken: By column, what is taken out of it: it is sent elsewhere, or not at all.
    """

    paths: dict[str, Path] = field(default_factory=dict)
    taken: dict[str, frozenset[Steps]] = field(default_factory=dict)

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

    def apply(self, columns: dict[str, Any]) -> dict[str, Any]:
        """The columns, with those of the paths, and without what is taken out of a column.

        Args:
            columns: Arrays by name. A path into a column that is not there is left out.
        """
        result = dict(columns)
        for name, path in self.paths.items():
            if path.column in columns:
                result[name] = _follow(columns[path.column], path.steps)
        for name, taken in self.taken.items():
            if name in columns:
                result[name] = _without(decode(columns[name]), taken)
        return result


def find_path(name: str, schema: Any) -> Path | None:
    """The field that a path names, or None if there is none, or a column has this very name.

    Names may hold dots themselves; of several readings, the one with the longest column counts.

    >>> find_path("device.id", pa.schema({"device": pa.struct({"id": pa.string()})})).steps
    (0,)
    """
    if name in schema.names:
        return None
    for column in _beginnings(name, schema.names):
        kind = schema.field(column).type
        steps = _steps(name[len(column) + 1 :], kind)
        if steps is not None:
            return Path(column, steps, _kind_at(kind, steps))
    return None


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
    names = mapping.columns()
    paths = {name: path for name in names if (path := find_path(name, schema)) is not None}
    taken: dict[str, set[Steps]] = {}
    for name, path in paths.items():
        if name in mapping.drop or (name in filling and path.column not in whole):
            taken.setdefault(path.column, set()).add(path.steps)
    return Paths(paths, {name: frozenset(steps) for name, steps in taken.items()})


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
            f"{reached!r} is of type {kind} and has no fields. From text that holds JSON, take "
            "one with derive={'name': \"column->>'$.field'\"}."
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


def _steps(name: str, kind: Any) -> Steps | None:
    kind = _plain(kind)
    if not pa.types.is_struct(kind):
        return None
    names = _names(kind)
    if names.count(name) == 1:
        return (names.index(name),)
    for each in _beginnings(name, names):
        place = names.index(each)
        below = _steps(name[len(each) + 1 :], kind.field(place).type)
        if below is not None:
            return (place, *below)
    return None


def _names(kind: Any) -> list[str]:
    return [kind.field(number).name for number in range(kind.num_fields)]


def _plain(kind: Any) -> Any:
    """The type of a decoded array."""
    return decode(pa.nulls(0, kind)).type


def _kind_at(kind: Any, steps: Steps) -> Any:
    for step in steps:
        kind = _plain(kind).field(step).type
    return kind


def _follow(array: Any, steps: Steps) -> Any:
    for step in steps:
        # A field of a null is null, and a slice stays one.
        array = pc.struct_field(decode(array), [step])
    return array


def _below(taken: Collection[Steps], step: int) -> frozenset[Steps]:
    return frozenset(steps[1:] for steps in taken if steps[0] == step and len(steps) > 1)


def _rest_of_type(kind: Any, taken: Collection[Steps]) -> Any | None:
    if not taken:
        return kind
    kind, kept = _plain(kind), []
    for step in range(kind.num_fields):
        if (step,) in taken:
            continue
        inner = _rest_of_type(kind.field(step).type, _below(taken, step))
        if inner is not None:
            kept.append(pa.field(kind.field(step).name, inner))
    return pa.struct(kept) if kept else None


def _without(array: Any, taken: Collection[Steps]) -> Any:
    """A struct without what is taken; nulls where nothing is left."""
    array, arrays, kept = decode(array), [], []
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

"""Adds the fields that a caller passes to the mapping of a preset."""

from __future__ import annotations

from collections.abc import Mapping as AbstractMapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from cdp_backfill.errors import MappingError
from cdp_backfill.messages.expressions import columns_of

if TYPE_CHECKING:
    from cdp_backfill.model.mapping import Mapping

_DICTS: Final = ("properties", "context", "integrations", "events", "derive")
_SOURCES: Final = (
    *("user_id", "anonymous_id", "event", "timestamp", "message_id"),
    *("properties", "context", "integrations", "expand"),
)
_LISTS: Final = ("allow_commands", "drop", "expand", "json", "nulls", "droppable")

read_by = cache(columns_of)
"""The columns that an expression names; parsed once, because presets do not change."""


def add_fields(mapping: Mapping, given: AbstractMapping[str, Any]) -> Mapping:
    """A mapping with the fields of a caller.

    Dicts get the entries that the caller names, and keep their others; lists get more items; other
    fields are replaced. With another time column, the unit, the order and the zone of the first
    one end. A column that the caller names is no longer left out.

    Args:
        mapping: The mapping of a preset.
        given: Fields of :class:`cdp_backfill.Mapping` by name.

    Raises:
        MappingError: A field has the wrong type.

    >>> from cdp_backfill import Mapping
    >>> preset = Mapping(timestamp="time", properties={"version": "app"}, nulls=["-"])
    >>> add_fields(preset, {"properties": {"tier": "plan"}, "nulls": ["?"]})
    Mapping(timestamp='time', properties={'version': 'app', 'tier': 'plan'}, nulls=['-', '?'])
    """
    fields: dict[str, Any] = {}
    if mapping.drop:
        mapping = replace(mapping, drop=_still_dropped(mapping, given))
    if given.get("timestamp", mapping.timestamp) != mapping.timestamp:
        fields |= {"timestamp_unit": None, "date_order": None, "timezone": None}
    for name, value in given.items():
        mine = getattr(mapping, name)
        if name in _DICTS and isinstance(value, AbstractMapping):
            fields[name] = _merge(mine, value)
        elif name in _LISTS and isinstance(value, list | tuple | set | frozenset):
            fields[name] = [*mine, *value]
        else:
            fields[name] = value
    result = replace(mapping, **fields)
    return replace(result, derive=in_order(result.derive)) if "derive" in given else result


def _still_dropped(mapping: Mapping, given: AbstractMapping[str, Any]) -> list[str]:
    """The columns that a mapping leaves out and a caller does not name."""
    if given.get("rest") == "all":
        return []
    sources = {name: given[name] for name in given if name in _SOURCES}
    named = type(mapping)(**sources, other_events="send").sources()
    return [name for name in mapping.drop if name not in named]


def _merge(mine: AbstractMapping[Any, Any], theirs: AbstractMapping[Any, Any]) -> dict[Any, Any]:
    merged = dict(mine)
    for name, value in theirs.items():
        here = merged.get(name)
        both = isinstance(here, AbstractMapping) and isinstance(value, AbstractMapping)
        merged[name] = _merge(here, value) if both else value  # type: ignore[arg-type]
    return merged


def in_order(derive: dict[str, str]) -> dict[str, str]:
    """New columns in an order in which each only uses earlier ones.

    Columns in a circle stay where they are; binding the mapping reports them.
    """
    folded = {name.casefold(): name for name in derive}
    result: dict[str, str] = {}
    visiting: set[str] = set()

    def visit(name: str) -> None:
        if name in result or name in visiting:
            return
        visiting.add(name)
        with suppress(MappingError):  # binding the mapping reports it, under the right name
            for used in sorted(read_by(derive[name])):
                if used.casefold() in folded:
                    visit(folded[used.casefold()])
        result[name] = derive[name]

    for name in derive:
        visit(name)
    return result


def prune(derive: dict[str, str], needed: set[str]) -> dict[str, str]:
    """The new columns that are needed, with those that they use.

    Args:
        derive: New columns, each of which only uses earlier ones.
        needed: Names of columns.
    """
    wanted = {name.casefold() for name in needed}
    kept = []
    for name in reversed(derive):
        if name.casefold() in wanted:
            kept.append(name)
            with suppress(MappingError):
                wanted |= {used.casefold() for used in read_by(derive[name])}
    return {name: derive[name] for name in reversed(kept)}

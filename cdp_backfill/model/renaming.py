"""New names for the properties that columns become."""

from __future__ import annotations

from collections.abc import Mapping as AbstractMapping
from typing import Any

from cdp_backfill.errors import MappingError


def parse_rename(value: Any) -> dict[str, str]:
    """Names of columns to the names of their properties; None stands for none.

    Raises:
        MappingError: A name is no text, or two columns get the same name.
    """
    if value is None:
        return {}
    if not isinstance(value, AbstractMapping):
        raise MappingError(
            f"rename must be a dict of columns to new names, not {type(value).__name__}."
        )
    by_name: dict[str, str] = {}
    for column, name in value.items():
        if not (isinstance(column, str) and isinstance(name, str) and name):
            raise MappingError("rename must be a dict of columns to new names, both as text.")
        if name in by_name:
            raise MappingError(
                f"rename= gives {by_name[name]!r} and {column!r} the same name {name!r}. Choose "
                "another name for one of them."
            )
        by_name[name] = column
    return dict(value)


def with_renamed(fields: dict[str, Any], rename: Any) -> dict[str, Any]:
    """The fields of a mapping, in which renamed columns fill properties of their new names.

    Args:
        fields: Fields of :class:`cdp_backfill.Mapping` by name, as a caller passes them.
        rename: Names of columns to the names of their properties.

    Raises:
        MappingError: A column is left out or fills another field, too, or a property of this name
            has another source.

    >>> with_renamed({"user_id": "uid"}, {"colour": "color"})
    {'user_id': 'uid', 'properties': {'color': 'colour'}}
    """
    rename = parse_rename(rename)
    if not rename:
        return fields
    properties = fields.get("properties") or {}
    if not isinstance(properties, AbstractMapping):
        return fields  # the mapping reports it
    for column, name in rename.items():
        if column in (fields.get("drop") or ()):
            raise MappingError(
                f"rename= names {column!r}, and drop= leaves it out. Remove it from one of the two."
            )
        for field, value in fields.items():
            if field in _FILLED and column in _leaves(value):
                raise MappingError(
                    f"rename= names {column!r}, which fills {field}. A column that fills a field "
                    f"becomes no property of its own name. Pass properties={{{name!r}: "
                    f"{column!r}}} to send it there, too."
                    if field != "properties"
                    else f"rename= names {column!r}, which properties= names, too. Remove it from "
                    "one of the two."
                )
        if name in properties:
            raise MappingError(
                f"rename= gives {column!r} the name {name!r}, and properties= fills it from "
                "another source. Choose another name."
            )
    return fields | {"properties": {**properties, **{name: each for each, name in rename.items()}}}


def without_renamed(properties: dict[str, Any], rename: Any) -> dict[str, Any]:
    """The properties of a mapping without those that get a new name.

    >>> without_renamed({"version": "app", "tier": "plan"}, {"app": "appVersion"})
    {'tier': 'plan'}
    """
    columns = parse_rename(rename)
    return {
        name: source
        for name, source in properties.items()
        if not (isinstance(source, str) and source in columns)
    }


_FILLED = frozenset(
    {
        *("user_id", "anonymous_id", "event", "timestamp", "message_id"),
        *("properties", "context", "integrations", "traits", "expand"),
    }
)


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, AbstractMapping):
        return [leaf for inner in value.values() for leaf in _leaves(inner)]
    return list(value) if isinstance(value, list | tuple | set | frozenset) else [value]

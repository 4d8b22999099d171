"""Checks of a mapping that need no table, and the constants in a mapping."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping as AbstractMapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from zoneinfo import ZoneInfo

from cdp_backfill.errors import MappingError
from cdp_backfill.model import api_facts

LITERAL_KEY: Final = "$lit"
"""Marks a constant in TOML."""

KEY_KEY: Final = "$key"
"""Marks the columns of a key in TOML."""


@dataclass(frozen=True, slots=True)
class Lit:
    """A constant in a mapping; :func:`lit` makes it."""

    value: Any

    def __repr__(self) -> str:
        return f"lit({self.value!r})"


def lit(value: Any) -> Lit:
    """Make a constant: a field has this value in every row, instead of that of a column.

    Args:
        value: Text, a number, a boolean, or a list or dict of these; not None.

    Raises:
        MappingError: ``value`` is None or cannot be written as JSON.

    >>> lit("Application Installed")
    lit('Application Installed')
    """
    check_json(value)
    return Lit(_with_lists(value))


@dataclass(frozen=True, slots=True)
class Key:
    """The columns that make a message id; :func:`key` makes it."""

    columns: tuple[str, ...]

    def __repr__(self) -> str:
        return f"key({', '.join(map(repr, self.columns))})"


def key(*columns: str) -> Key:
    """Make message ids from the cells of chosen columns: the same cells, the same id.

    Without a key, an id is made from the whole message, so that another mapping makes other ids.
    With a key, a corrected mapping sends the same ids again. Choose columns that together are
    different in every row; the plan counts rows that share a key. A row whose cells are all empty
    gets an id from its content.

    Args:
        columns: Names of one or more columns of text, whole numbers, booleans or times.

    Raises:
        MappingError: There is no column, or a name is not text.

    >>> key("order_id", "line")
    key('order_id', 'line')
    """
    if not columns:
        raise MappingError("key() needs one or more columns, as in key('order_id').")
    return Key(parse_names("key()", columns))


def _with_lists(value: Any) -> Any:
    """The same with lists instead of tuples, as TOML and JSON return them."""
    if isinstance(value, list | tuple):
        return [_with_lists(item) for item in value]
    if isinstance(value, dict):
        return {name: _with_lists(item) for name, item in value.items()}
    return value


def check_json(value: Any) -> None:
    """Refuse a value that has no JSON form."""
    if isinstance(value, list | tuple):
        for item in value:
            check_json(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise MappingError("The names in a dict in lit() must be text.")
            check_json(item)
    elif not isinstance(value, str | bool | int | float) or value != value:  # noqa: PLR0124
        raise MappingError(
            f"lit() takes text, numbers, booleans, and lists and dicts of them, "
            f"not {type(value).__name__}."
        )


def did_you_mean(name: str, known: list[str]) -> str:
    """`` Did you mean 'x'?`` with the most similar name of ``known``, or empty text."""
    folded: dict[str, str] = {}
    for candidate in known:
        folded.setdefault(_fold(candidate), candidate)
    near = difflib.get_close_matches(_fold(name), list(folded), n=1, cutoff=0.5)
    return f" Did you mean {folded[near[0]]!r}?" if near else ""


def _fold(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum()) or name


def check_field(name: str, value: Any) -> None:
    """Refuse a value that is neither a column name nor a constant."""
    if value is not None and not isinstance(value, str | Lit):
        raise MappingError(
            f"{name} must be a column name or a constant such as lit('...'), "
            f"not {type(value).__name__}."
        )


def parse_tree(path: str, tree: Any) -> dict[str, Any]:
    """A copy of a nested dict of columns and constants."""
    if not isinstance(tree, AbstractMapping):
        raise MappingError(
            f"{path} must be a dict of names to columns or constants, not {type(tree).__name__}."
        )
    result: dict[str, Any] = {}
    for name, value in tree.items():
        here = f"{path}[{name!r}]"
        if not isinstance(name, str) or not name or "\0" in name:
            raise MappingError(f"The names in {path} must be text without NUL characters.")
        if name in (LITERAL_KEY, KEY_KEY):
            raise MappingError(f"{path} cannot have the name {name!r}, which marks constants.")
        if isinstance(value, AbstractMapping):
            result[name] = parse_tree(here, value)
        elif isinstance(value, bool):
            result[name] = Lit(value)  # a boolean cannot be a column name
        else:
            check_field(here, value)
            if value is None:
                raise MappingError(f"{here} is None. Name a column, or pass a constant with lit().")
            result[name] = copy.deepcopy(value)
    return result


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Refuse a value that is not one of the choices."""
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices if choice is not None)
        raise MappingError(f"{name} must be one of {listed}, not {value!r}.")


def check_zone(name: Any) -> None:
    """Refuse a name that is not an IANA time zone."""
    if name is None:
        return
    try:
        ZoneInfo(name)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise MappingError(
            f"timezone {name!r} is unknown. Pass an IANA name such as 'Europe/Berlin' or 'UTC'."
        ) from error


def check_known(path: str, tree: dict[str, Any], known: api_facts.Tree) -> None:
    """Refuse names that the API does not have."""
    for name, value in tree.items():
        here = f"{path}.{name}"
        below = known.get(name, known.get(api_facts.ANY_NAME))
        if below is None:
            raise MappingError(
                f"The API has no {here}.{did_you_mean(name, list(known))} "
                f"It has: {', '.join(known)}. Put other data into properties."
            )
        if isinstance(below, dict):
            if isinstance(value, dict):
                check_known(here, value, below)
            else:
                raise MappingError(
                    f"{here} holds further fields. Pass a dict with some of {', '.join(below)}."
                )
        elif isinstance(value, dict) and below != "any":
            raise MappingError(f"{here} is a single value. Name one column, or pass a constant.")


def event_key(value: Any) -> str:
    """The text that Arrow makes of a value; the event column is compared with it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    raise MappingError(
        f"The keys of events must be text, whole numbers or booleans, not {type(value).__name__}."
    )


def check_event_name(name: Any, other_events: str) -> None:
    """Refuse a name that is empty, or not one of the seven unless any may be sent."""
    if not isinstance(name, str) or not name.strip():
        raise MappingError("An event name must be text that is not empty.")
    if name not in api_facts.EVENTS and other_events != "send":
        raise MappingError(
            f"{name!r} is not one of the seven mobile-app events."
            f"{did_you_mean(name, list(api_facts.EVENTS))} "
            "To send it anyway, pass other_events='send'."
        )


def parse_names(name: str, value: Any, what: str = "column names") -> tuple[str, ...]:
    """A list of texts as a tuple, each text once."""
    if isinstance(value, str) or not isinstance(value, list | tuple | set | frozenset):
        raise MappingError(f"{name} must be a list of {what}, not {type(value).__name__}.")
    if not all(isinstance(item, str) for item in value):
        raise MappingError(f"{name} must be a list of {what}, all of them text.")
    return tuple(dict.fromkeys(value))


def parse_commands(value: Any) -> tuple[str, ...]:
    """Names of commands as the API spells them."""
    known = {name.casefold(): name for name in api_facts.COMMANDS}
    names = parse_names("allow_commands", value, "event names")
    for name in names:
        if name.strip().casefold() not in known:
            raise MappingError(
                f"allow_commands names {name!r}, which is no command of the API."
                f"{did_you_mean(name, list(known.values()))} The commands are "
                f"{', '.join(known.values())}."
            )
    return tuple(dict.fromkeys(known[name.strip().casefold()] for name in names))


def parse_derive(value: Any) -> dict[str, str]:
    """Names of derived columns to SQL expressions."""
    if not isinstance(value, AbstractMapping):
        raise MappingError(
            f"derive must be a dict of new columns to SQL, not {type(value).__name__}."
        )
    for name, expression in value.items():
        if not (isinstance(name, str) and name and isinstance(expression, str)):
            raise MappingError("derive must be a dict of new columns to SQL, both as text.")
        if not expression.strip():
            raise MappingError(f"derive[{name!r}] is empty. Pass a SQL expression.")
    return dict(value)


_TYPES: Final = ("bool", "double", "int64")


def parse_types(value: Any) -> dict[str, str] | None:
    """Names of columns to the names of their types; None where nothing is settled."""
    if value is None:
        return None
    if not isinstance(value, AbstractMapping):
        raise MappingError(f"types must be a dict of columns to types, not {type(value).__name__}.")
    for name, kind in value.items():
        if not isinstance(name, str) or kind not in _TYPES:
            raise MappingError(
                f"types must name one of {', '.join(map(repr, _TYPES))} for each column. Leave "
                "columns of text out."
            )
    return dict(sorted(value.items()))


def parse_day(name: str, value: Any) -> str:
    """A day as ISO text."""
    if isinstance(value, date):
        value = value.isoformat()[:10]
    try:
        return date.fromisoformat(value).isoformat()
    except (TypeError, ValueError) as error:
        raise MappingError(f"{name} must be a day such as '2015-01-01', not {value!r}.") from error

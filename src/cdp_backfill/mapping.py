"""What of a row goes where: the declaration, independent of any table."""

from __future__ import annotations

import copy
import difflib
import tomllib
from collections.abc import Mapping as AbstractMapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, Self
from zoneinfo import ZoneInfo

import tomli_w

from cdp_backfill import spec
from cdp_backfill.errors import MappingError

TimestampUnit = Literal["s", "ms", "us", "ns"]
OtherEvents = Literal["invalid", "skip", "send"]
Rest = Literal["properties", "drop"]

_LITERAL_KEY: Final = "$lit"


@dataclass(frozen=True, slots=True)
class Lit:
    """A constant in a mapping; made by :func:`lit`."""

    value: Any

    def __repr__(self) -> str:
        return f"lit({self.value!r})"


def lit(value: Any) -> Lit:
    """Say that a field has the same value in every row, instead of naming a column.

    Args:
        value: Text, number, boolean, or a list or dict of these. Not None.

    Raises:
        MappingError: ``value`` is None or cannot be written as JSON.

    >>> lit("Application Installed")
    lit('Application Installed')
    """
    _check_json(value)
    return Lit(_lists(value))


Field = str | Lit
Tree = dict[str, Any]
"""Names to a column name, a :class:`Lit`, or a further tree."""


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """Says which column becomes which field of a track message.

    Every value is the name of a column or a constant made with ``lit()``. All are optional here;
    a run needs ``event``, ``timestamp`` and one of ``user_id`` and ``anonymous_id``.

    Args:
        user_id: Becomes ``userId``.
        anonymous_id: Becomes ``anonymousId``.
        event: The event name, as it is or translated by ``events``.
        timestamp: When it happened: any Arrow time type, ISO 8601 text, or epoch numbers.
        timestamp_unit: Unit of epoch numbers: ``"s"``, ``"ms"``, ``"us"`` or ``"ns"``.
        timezone: IANA zone of times that carry none; None reads them as UTC and says so.
        message_id: Becomes ``messageId``; None, or an empty cell, makes one of the content.
        properties: Nested dict of property names to columns or constants.
        context: The same for ``context``; names as the API knows them, such as
            ``{"device": {"model": "phone"}}``.
        integrations: Names of integrations to True, False or a column, such as ``{"All": False}``.
        events: Values of the event column to event names.
        other_events: What becomes of values that are neither in ``events`` nor one of the seven
            mobile-app events: ``"invalid"`` reports them, ``"skip"`` leaves them out,
            ``"send"`` sends them under their own name.
        rest: ``"properties"`` makes a property of each column that nothing names;
            ``"drop"`` leaves those out.

    Raises:
        MappingError: An argument is of the wrong shape, a context name is unknown, or an event
            name is none of the seven while ``other_events`` is not ``"send"``.

    >>> Mapping(user_id="uid", event=lit("Application Opened"), timestamp="ts")
    Mapping(user_id='uid', event=lit('Application Opened'), timestamp='ts')
    """

    user_id: Field | None = None
    anonymous_id: Field | None = None
    event: Field | None = None
    timestamp: Field | None = None
    timestamp_unit: TimestampUnit | None = None
    timezone: str | None = None
    message_id: Field | None = None
    properties: Tree = field(default_factory=dict)
    context: Tree = field(default_factory=dict)
    integrations: Tree = field(default_factory=dict)
    events: dict[Any, str] = field(default_factory=dict)
    other_events: OtherEvents = "invalid"
    rest: Rest = "properties"

    def __post_init__(self) -> None:
        set_ = object.__setattr__  # the dataclass is frozen; this is its construction
        for name in ("user_id", "anonymous_id", "event", "timestamp", "message_id"):
            _check_field(name, getattr(self, name))
        for name in ("properties", "context", "integrations"):
            set_(self, name, _checked_tree(name, getattr(self, name)))
        _check_choice("timestamp_unit", self.timestamp_unit, (None, "s", "ms", "us", "ns"))
        _check_choice("other_events", self.other_events, ("invalid", "skip", "send"))
        _check_choice("rest", self.rest, ("properties", "drop"))
        _check_zone(self.timezone)
        _check_known("context", self.context, spec.CONTEXT)
        for name, value in self.integrations.items():
            if isinstance(value, dict) or (
                isinstance(value, Lit) and not isinstance(value.value, bool)
            ):
                raise MappingError(f"integrations[{name!r}] must be True, False or a column name.")
        if not isinstance(self.events, AbstractMapping):
            raise MappingError(f"events must be a dict, not {type(self.events).__name__}.")
        set_(self, "events", {_event_key(key): value for key, value in self.events.items()})
        for name in self._named_events():
            _check_event_name(name, self.other_events)

    def _named_events(self) -> list[Any]:
        constant = [self.event.value] if isinstance(self.event, Lit) else []
        return [*constant, *self.events.values()]

    def columns(self) -> list[str]:
        """Names of all columns that the mapping reads, each once, in the order of the fields."""
        found: dict[str, None] = {}
        for item in fields(self):
            if item.name in _FIELD_NAMES:
                for value in _leaves(getattr(self, item.name)):
                    if isinstance(value, str):
                        found[value] = None
        return list(found)

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, without what is at its default; ``from_dict`` reads it back."""
        result = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if value not in (item.default, {}, None):
                result[item.name] = _plain(value) if item.name in _FIELD_NAMES else value
        return result

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build a mapping from what ``to_dict`` gave.

        Raises:
            MappingError: A name is unknown, or a value is of the wrong shape.
        """
        known = {item.name for item in fields(cls)}
        for name in values:
            if name not in known:
                raise MappingError(
                    f"A mapping has no field {name!r}.{did_you_mean(name, sorted(known))}"
                )
        return cls(
            **{
                name: _unplain(value) if name in _FIELD_NAMES else value
                for name, value in values.items()
            }
        )

    def to_toml(self) -> str:
        """The mapping as TOML text; a constant is written ``{ "$lit" = value }``.

        >>> print(Mapping(user_id="uid", event=lit("Application Opened")).to_toml())
        user_id = "uid"
        <BLANKLINE>
        [event]
        "$lit" = "Application Opened"
        <BLANKLINE>
        """
        return tomli_w.dumps(self.to_dict())

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """Read what ``to_toml`` wrote.

        Raises:
            MappingError: The text is no TOML, or no mapping.
        """
        try:
            return cls.from_dict(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise MappingError(f"This is not TOML: {error}.") from error

    def save(self, path: str | Path) -> None:
        """Write the mapping to a TOML file.

        Raises:
            MappingError: The file cannot be written.
        """
        try:
            Path(path).write_text(self.to_toml(), encoding="utf-8")
        except OSError as error:
            raise MappingError(f"The mapping cannot be written: {error}.") from error

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a mapping from a TOML file.

        Raises:
            MappingError: The file is missing, no TOML, or no mapping.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise MappingError(f"The mapping file cannot be read: {error}.") from error
        return cls.from_toml(text)

    def __repr__(self) -> str:
        shown = (
            f"{item.name}={value!r}"
            for item in fields(self)
            if (value := getattr(self, item.name)) not in (item.default, {}, None)
        )
        return f"Mapping({', '.join(shown)})"


_FIELD_NAMES: Final = frozenset(
    {
        "user_id",
        "anonymous_id",
        "event",
        "timestamp",
        "message_id",
        "properties",
        "context",
        "integrations",
    }
)


def did_you_mean(name: str, known: list[str]) -> str:
    """`` Did you mean 'x'?`` with the nearest of ``known``, or nothing where none is near."""
    folded: dict[str, str] = {}
    for candidate in known:
        folded.setdefault(_fold(candidate), candidate)
    near = difflib.get_close_matches(_fold(name), list(folded), n=1, cutoff=0.5)
    return f" Did you mean {folded[near[0]]!r}?" if near else ""


def _fold(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum()) or name


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for child in value.values() for leaf in _leaves(child)]
    return [] if value is None else [value]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(child) for name, child in value.items()}
    return {_LITERAL_KEY: value.value} if isinstance(value, Lit) else value


def _unplain(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if set(value) == {_LITERAL_KEY}:
        return lit(value[_LITERAL_KEY])
    return {name: _unplain(child) for name, child in value.items()}


def _lists(value: Any) -> Any:
    """The same with lists for tuples, as TOML and JSON give them back."""
    if isinstance(value, list | tuple):
        return [_lists(item) for item in value]
    if isinstance(value, dict):
        return {name: _lists(item) for name, item in value.items()}
    return value


def _check_json(value: Any) -> None:
    if isinstance(value, list | tuple):
        for item in value:
            _check_json(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise MappingError("The names in a dict given to lit() must be text.")
            _check_json(item)
    elif not isinstance(value, str | bool | int | float) or value != value:  # noqa: PLR0124
        raise MappingError(
            f"lit() takes text, numbers, booleans, and lists and dicts of them, "
            f"not {type(value).__name__}."
        )


def _check_field(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str | Lit):
        raise MappingError(
            f"{name} must be a column name or a constant such as lit('...'), "
            f"not {type(value).__name__}."
        )


def _checked_tree(path: str, tree: Any) -> Tree:
    if not isinstance(tree, AbstractMapping):
        raise MappingError(
            f"{path} must be a dict of names to columns or constants, not {type(tree).__name__}."
        )
    result: Tree = {}
    for name, value in tree.items():
        here = f"{path}[{name!r}]"
        if not isinstance(name, str) or not name:
            raise MappingError(f"The names in {path} must be text.")
        if isinstance(value, AbstractMapping):
            result[name] = _checked_tree(here, value)
        elif isinstance(value, bool):
            result[name] = Lit(value)  # a boolean cannot be a column name
        else:
            _check_field(here, value)
            if value is None:
                raise MappingError(f"{here} is None; name a column or give a constant.")
            result[name] = copy.deepcopy(value)
    return result


def _check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices if choice is not None)
        raise MappingError(f"{name} must be one of {listed}, not {value!r}.")


def _check_zone(name: Any) -> None:
    if name is None:
        return
    try:
        ZoneInfo(name)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise MappingError(
            f"timezone {name!r} is not known; give an IANA name such as 'Europe/Berlin' or 'UTC'."
        ) from error


def _check_known(path: str, tree: Tree, known: spec.Tree) -> None:
    for name, value in tree.items():
        here = f"{path}.{name}"
        if name not in known:
            raise MappingError(
                f"The API knows no {here}.{did_you_mean(name, list(known))} "
                f"Known here: {', '.join(known)}. Other data can go into properties."
            )
        below = known[name]
        if isinstance(below, dict):
            if isinstance(value, dict):
                _check_known(here, value, below)
            else:
                raise MappingError(
                    f"{here} holds further fields: give a dict with some of {', '.join(below)}."
                )
        elif isinstance(value, dict) and below != "any":
            raise MappingError(f"{here} is a single value; name one column or give a constant.")


def _event_key(value: Any) -> str:
    """The text that Arrow makes of a value, which is what the column is compared with."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    raise MappingError(f"The keys of events must be text, whole numbers or booleans: {value!r}.")


def _check_event_name(name: Any, other_events: str) -> None:
    if not isinstance(name, str) or not name.strip():
        raise MappingError("An event name must be text that is not empty.")
    if name not in spec.EVENTS and other_events != "send":
        raise MappingError(
            f"{name!r} is none of the seven mobile-app events."
            f"{did_you_mean(name, list(spec.EVENTS))} "
            "To send it all the same, set other_events='send'."
        )

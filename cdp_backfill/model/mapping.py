"""The mapping: which column becomes which field, independent of any table."""

from __future__ import annotations

from collections.abc import Mapping as AbstractMapping
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, Self

import tomli_w

from cdp_backfill.errors import MappingError
from cdp_backfill.model import api_facts
from cdp_backfill.model.keyword_checks import checked_constructor
from cdp_backfill.model.mapping_checks import (
    KEY_KEY,
    LITERAL_KEY,
    Key,
    Lit,
    check_choice,
    check_event_name,
    check_field,
    check_known,
    check_zone,
    did_you_mean,
    event_key,
    key,
    lit,
    parse_commands,
    parse_day,
    parse_derive,
    parse_names,
    parse_tree,
    parse_types,
)
from cdp_backfill.model.mapping_view import mapping_view
from cdp_backfill.model.renaming import with_renamed
from cdp_backfill.model.toml_text import parse_toml, read_toml

__all__ = ["Field", "Key", "Lit", "Mapping", "Tree", "key", "lit"]

Call = Literal["track", "identify"]
TimestampUnit = Literal["s", "ms", "us", "ns"]
DateOrder = Literal["DMY", "MDY", "YMD"]
NonexistentTime = Literal["shift_forward", "invalid"]
AmbiguousTime = Literal["earliest", "latest", "invalid"]
OtherEvents = Literal["invalid", "skip", "send", "unmapped"]
Rest = Literal["properties", "all", "drop"]
Oversize = Literal["invalid", "drop_largest"]
Duplicates = Literal["send", "skip"]

_MAX_LINE: Final = 60  # characters of a dict in one line

Field = str | Lit
Tree = dict[str, Any]
"""Names to a column name, a :class:`Lit`, or another tree."""


@checked_constructor
@dataclass(frozen=True, kw_only=True)
class Mapping:
    """Which column becomes which field of a message.

    Every value is the name of a column or a constant from ``lit()``. A path such as ``device.id``
    names a field inside a column of structs or JSON objects. All fields are optional here. A run
    needs ``event``, ``timestamp`` and one of ``user_id`` and ``anonymous_id``.

    Args:
        user_id: Becomes ``userId``.
        anonymous_id: Becomes ``anonymousId``.
        event: The event name, as it is or as ``events`` translates it.
        timestamp: The time of the event: any Arrow time type, text such as ISO 8601, RFC 2822 or
            15-Sep-2023 2:20 PM, or epoch numbers.
        timestamp_unit: Unit of epoch numbers: ``"s"``, ``"ms"``, ``"us"`` or ``"ns"``; None derives
            it from their size, and plan and report say so.
        date_order: Order of day, month and year in dates that are numbers only, such as
            15.09.2023 and 9/15/23: ``"DMY"``, ``"MDY"`` or ``"YMD"`` (for years of two digits; a
            year of four digits that comes first is always recognised). Dates in another order are
            invalid. If None, a proposal fills it in where all cells of the table allow one order
            only, or else asks; in a mapping that is used as it is, None makes such dates invalid.
        timezone: IANA time zone of times that carry none; None reads them as UTC, and plan and
            report say so.
        nonexistent: What to do with a local time that ``timezone`` skipped when the clocks went
            forward: ``"invalid"`` reports the row, ``"shift_forward"`` takes the first moment
            after the gap.
        ambiguous: What to do with a local time that ``timezone`` had twice when the clocks went
            back: ``"invalid"`` reports the row, ``"earliest"`` and ``"latest"`` take the first and
            the second of the two.
        message_id: Becomes ``messageId``: a column, or ``key(...)`` for ids made from some columns
            only; None, or an empty cell, makes one from the content.
        properties: Nested dict of property names to columns or constants.
        context: The same for ``context``, with the names of the API, such as
            ``{"device": {"model": "phone"}}``.
        integrations: Names of integrations to True, False or a column, such as ``{"All": False}``.
        events: Values of the event column to event names.
        other_events: What to do with values that are neither in ``events`` nor one of the seven
            mobile-app events: ``"invalid"`` reports them, ``"skip"`` leaves them out on purpose,
            ``"send"`` sends them under their own name. A proposal says ``"unmapped"``: they are
            left out and count as missing, because nobody has chosen yet.
        allow_commands: Names of events that make the API delete or change people, devices or
            objects, such as ``["User Deleted"]``. Such rows are invalid unless they are named here.
        rest: What becomes of columns that the mapping does not name: ``"properties"`` makes a
            property of each but those in ``drop``, ``"all"`` of each, ``"drop"`` of none.
        drop: Columns that ``rest="properties"`` leaves out. A proposal names personal data here.
        rename: Columns to the names of the properties that they become, such as
            ``{"colour": "color"}``. It is short for ``properties={"color": "colour"}``, which is
            what the mapping keeps.
        derive: New columns to SQL expressions (DuckDB's) over the columns of the same row, such as
            ``{"uid": "info->>'$.user.id'"}``; a later one may use an earlier one.
        expand: Columns whose parts become properties under their own names: JSON text of an
            object, a struct, a map, or a list of key/value structs as in GA4's event_params.
        json: Columns of text that holds JSON, to be sent as its value; paths may lead into it.
        types: For CSV files and folders named ``name=value``: the columns that are not text, with
            their types, such as ``{"count": "int64", "price": "double", "paid": "bool"}``; all
            others stay text, and so does a cell that does not fit. A plan fills them in, so that
            the same row of another file gets the same id. None reads all cells to find the types.
        nulls: Texts that mean an empty cell in every column, such as ``["NULL"]``. In ids,
            versions, booleans and times, NULL, None, nan, (not set) and the like always do.
        earliest: Rows before this day are invalid. The default is the day on which the first app
            store opened.
        oversize: What to do with a message over 32 KB: ``"invalid"`` reports it,
            ``"drop_largest"`` drops columns named in ``droppable`` until it fits.
        droppable: Columns that ``oversize="drop_largest"`` may drop.
        duplicates: What to do with a row whose message id an earlier row of the table has:
            ``"send"`` sends it too, ``"skip"`` leaves it out.
        call: ``"track"`` makes an event of each row. ``"identify"`` makes a call that joins an
            anonymous id to a user id; ``identify=`` of :func:`cdp_backfill.send` makes such a
            mapping. It needs both ids, has no event, time, properties or context, and leaves out
            columns that it does not name.
        traits: Nested dict of attributes of the person to columns or constants; for
            ``"identify"`` only.

    Raises:
        MappingError: An argument has the wrong type, does not belong to the call, a context name is
            unknown, a renamed column has another use, or an event name is not one of the seven
            while ``other_events`` is not ``"send"``.

    >>> Mapping(user_id="uid", event=lit("Application Opened"), timestamp="ts")
    Mapping(user_id='uid', event=lit('Application Opened'), timestamp='ts')
    """

    user_id: Field | None = None
    anonymous_id: Field | None = None
    event: Field | None = None
    timestamp: Field | None = None
    timestamp_unit: TimestampUnit | None = None
    date_order: DateOrder | None = None
    timezone: str | None = None
    nonexistent: NonexistentTime = "invalid"
    ambiguous: AmbiguousTime = "invalid"
    message_id: Field | Key | None = None
    properties: Tree = field(default_factory=dict)
    context: Tree = field(default_factory=dict)
    integrations: Tree = field(default_factory=dict)
    events: dict[Any, str] = field(default_factory=dict)
    other_events: OtherEvents = "invalid"
    allow_commands: Sequence[str] = ()
    rest: Rest = "properties"
    drop: Sequence[str] = ()
    derive: dict[str, str] = field(default_factory=dict)
    expand: Sequence[str] = ()
    json: Sequence[str] = ()
    types: dict[str, str] | None = None
    nulls: Sequence[str] = ()
    earliest: str = api_facts.APP_STORES
    oversize: Oversize = "invalid"
    droppable: Sequence[str] = ()
    duplicates: Duplicates = "send"
    call: Call = "track"
    traits: Tree = field(default_factory=dict)
    rename: InitVar[dict[str, str] | None] = None

    def __post_init__(self, rename: dict[str, str] | None) -> None:
        set_ = object.__setattr__  # the dataclass is frozen; this is its construction
        if rename:
            values = {item.name: getattr(self, item.name) for item in fields(self)}
            set_(self, "properties", with_renamed(values, rename)["properties"])
        for name in ("user_id", "anonymous_id", "event", "timestamp", "message_id"):
            if name != "message_id" or not isinstance(self.message_id, Key):
                check_field(name, getattr(self, name))
        for name in ("properties", "context", "integrations", "traits"):
            set_(self, name, parse_tree(name, getattr(self, name)))
        for name in ("drop", "expand", "json", "droppable"):
            set_(self, name, parse_names(name, getattr(self, name)))
        set_(self, "nulls", parse_names("nulls", self.nulls, "texts"))
        set_(self, "allow_commands", parse_commands(self.allow_commands))
        set_(self, "derive", parse_derive(self.derive))
        set_(self, "types", parse_types(self.types))
        set_(self, "earliest", parse_day("earliest", self.earliest))
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        check_zone(self.timezone)
        check_known("context", self.context, api_facts.CONTEXT)
        self._check_integrations()
        self._check_droppable()
        self._check_drop()
        if not isinstance(self.events, AbstractMapping):
            raise MappingError(f"events must be a dict, not {type(self.events).__name__}.")
        set_(self, "events", {event_key(key): value for key, value in self.events.items()})
        for name in self._named_events():
            check_event_name(name, self.other_events)
        self._check_call()

    def _check_call(self) -> None:
        if self.call == "track":
            if self.traits:
                raise MappingError(
                    "traits= belongs to call='identify'. Put data about an event into properties."
                )
            return
        for name, _ in self._set_fields():
            if name not in _IDENTIFY:
                raise MappingError(
                    f"call='identify' takes no {name}=. It has the ids of a person and traits."
                )

    def _check_integrations(self) -> None:
        for name, value in self.integrations.items():
            if isinstance(value, dict) or (
                isinstance(value, Lit) and not isinstance(value.value, bool)
            ):
                raise MappingError(f"integrations[{name!r}] must be True, False or a column name.")

    def _check_droppable(self) -> None:
        if (self.oversize == "drop_largest") != bool(self.droppable):
            raise MappingError(
                "oversize='drop_largest' needs droppable=[...], and the other way round. Name the "
                "columns that may be dropped from an oversize message."
            )

    def _check_drop(self) -> None:
        if self.drop and self.rest == "all":
            raise MappingError(
                "rest='all' sends every column, so drop= cannot name any. Pass "
                "rest='properties' to leave these columns out, or drop=[] to send them."
            )
        both = [name for name in self.sources() if name in self.drop]
        if both:
            raise MappingError(
                f"drop= names {both[0]!r}, which also fills a field of the mapping. Remove it "
                "from one of the two."
            )

    def _named_events(self) -> list[Any]:
        constant = [self.event.value] if isinstance(self.event, Lit) else []
        return [*constant, *self.events.values()]

    @property
    def complete(self) -> bool:
        """Whether it has who, what and when, which every event needs; or both ids to identify."""
        if self.call == "identify":
            return self.user_id is not None and self.anonymous_id is not None
        who = self.user_id is not None or self.anonymous_id is not None
        return who and self.event is not None and self.timestamp is not None

    def sources(self) -> list[str]:
        """Names of the columns that fill a field, each once, in the order of the fields."""
        columns: dict[str, None] = {}
        for item in fields(self):
            if item.name in _FIELD_NAMES:
                for value in _leaves(getattr(self, item.name)):
                    if isinstance(value, str):
                        columns[value] = None
        return list(columns | dict.fromkeys(self.expand))

    def columns(self) -> list[str]:
        """Names of all columns in the mapping, each once."""
        key = self.message_id.columns if isinstance(self.message_id, Key) else ()
        named = [*self.sources(), *key, *self.json, *self.droppable, *self.drop]
        return list(dict.fromkeys(named))

    def to_dict(self) -> dict[str, Any]:
        """The fields that differ from their defaults, as plain values; ``from_dict`` reads them."""
        result = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if _is_set(item.name, value, item.default):
                if isinstance(value, tuple):
                    value = list(value)
                result[item.name] = _to_plain(value) if item.name in _FIELD_NAMES else value
        return result

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build a mapping from the result of ``to_dict``.

        Raises:
            MappingError: A name is unknown, or a value has the wrong type.
        """
        known = {"rename", *(item.name for item in fields(cls))}
        for name in values:
            if name not in known:
                raise MappingError(
                    f"A mapping has no field {name!r}.{did_you_mean(name, sorted(known))}"
                )
        return cls(
            **{
                name: _from_plain(value) if name in _FIELD_NAMES else value
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
        """Read the result of ``to_toml``.

        Raises:
            MappingError: The text is not TOML, or not a mapping, or has more than 16,777,216
                characters or 64 levels.
        """
        return cls.from_dict(parse_toml(text, "mapping"))

    def save(self, path: str | Path) -> None:
        """Write the mapping to a TOML file.

        Raises:
            MappingError: The file cannot be written.
        """
        try:
            Path(path).write_text(self.to_toml(), encoding="utf-8")
        except OSError as error:
            raise MappingError(f"The mapping cannot be saved: {error}.") from error

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a mapping from a TOML file.

        Raises:
            MappingError: The file is missing, not TOML, or not a mapping.
        """
        return cls.from_toml(read_toml(path, "mapping file"))

    def to_python(self) -> str:
        """The mapping as Python source, one argument on each line, to edit and pass back.

        >>> print(Mapping(user_id="uid", event=lit("Application Opened")).to_python())
        cdp.Mapping(
            user_id='uid',
            event=cdp.lit('Application Opened'),
        )
        """
        lines = ["cdp.Mapping("]
        for name, value in self._set_fields():
            lines.append(f"    {name}={_python_source(value, 4)},")
        return "\n".join([*lines, ")"])

    def _set_fields(self) -> list[tuple[str, Any]]:
        values = ((item, getattr(self, item.name)) for item in fields(self))
        return [
            (item.name, list(value) if isinstance(value, tuple) else value)
            for item, value in values
            if _is_set(item.name, value, item.default)
        ]

    def __repr__(self) -> str:
        return f"Mapping({', '.join(f'{name}={value!r}' for name, value in self._set_fields())})"

    def __str__(self) -> str:
        return self.to_python()

    def _repr_html_(self) -> str:
        return mapping_view({item.name: getattr(self, item.name) for item in fields(self)}).html()


_CHOICES: Final[dict[str, tuple[Any, ...]]] = {
    "call": ("track", "identify"),
    "timestamp_unit": (None, "s", "ms", "us", "ns"),
    "date_order": (None, "DMY", "MDY", "YMD"),
    "nonexistent": ("shift_forward", "invalid"),
    "ambiguous": ("earliest", "latest", "invalid"),
    "other_events": ("invalid", "skip", "send", "unmapped"),
    "rest": ("properties", "all", "drop"),
    "oversize": ("invalid", "drop_largest"),
    "duplicates": ("send", "skip"),
}

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
        "traits",
    }
)

_IDENTIFY: Final = frozenset(
    {
        "call",
        "user_id",
        "anonymous_id",
        "traits",
        "integrations",
        "message_id",
        "timezone",
        "nonexistent",
        "ambiguous",
        "nulls",
        "derive",
        "json",
        "types",
        "oversize",
        "droppable",
        "duplicates",
    }
)
"""The fields of a mapping for ``call="identify"``."""


def _is_set(name: str, value: Any, default: Any) -> bool:
    """Whether a field differs from its default. No types at all are types: all text."""
    return value is not None if name == "types" else value not in (default, {}, None)


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for child in value.values() for leaf in _leaves(child)]
    return [] if value is None else [value]


def _to_plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _to_plain(child) for name, child in value.items()}
    if isinstance(value, Key):
        return {KEY_KEY: list(value.columns)}
    return {LITERAL_KEY: value.value} if isinstance(value, Lit) else value


def _from_plain(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if set(value) == {LITERAL_KEY}:
        return lit(value[LITERAL_KEY])
    if set(value) == {KEY_KEY}:
        return key(*value[KEY_KEY])
    return {name: _from_plain(child) for name, child in value.items()}


def _python_source(value: Any, indent: int) -> str:
    """A value as Python source; a long dict has one entry on each line."""
    if isinstance(value, Lit | Key):
        return f"cdp.{value!r}"
    if not isinstance(value, dict):
        return repr(value)
    parts = [f"{name!r}: {_python_source(child, indent + 4)}" for name, child in value.items()]
    flat = "{" + ", ".join(parts) + "}"
    if len(flat) + indent <= _MAX_LINE and "\n" not in flat:
        return flat
    pad = " " * indent
    return "{\n" + "".join(f"{pad}    {part},\n" for part in parts) + pad + "}"

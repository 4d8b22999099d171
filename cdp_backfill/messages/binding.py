"""Binds a mapping to the columns of a table, with every check that needs no rows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from cdp_backfill.errors import MappingError
from cdp_backfill.messages.deriving import Deriver
from cdp_backfill.messages.expanding import why_not_expandable
from cdp_backfill.messages.paths import find_path, json_texts, paths_of, why_no_path
from cdp_backfill.messages.values import why_not_json
from cdp_backfill.model import api_facts
from cdp_backfill.model.arrow_types import can_be_text, is_bytes, is_json, is_time_like
from cdp_backfill.model.mapping import Key
from cdp_backfill.model.mapping_checks import did_you_mean
from cdp_backfill.model.outcomes import FAILURE_COLUMNS, READING_COLUMNS, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cdp_backfill.messages.paths import Paths
    from cdp_backfill.messages.row_filter import RowFilter
    from cdp_backfill.model.distinct import DigestSet
    from cdp_backfill.model.mapping import Lit, Mapping

_REMARKS: Final = frozenset({*FAILURE_COLUMNS, *READING_COLUMNS})

_UNNAMED_INDEX: Final = re.compile(r"__index_level_\d+__")  # as pandas writes it to parquet


@dataclass(frozen=True)
class Leaf:
    """One value of a message: its source and the way it is written.

    Attributes:
        source: A column name or a constant.
        kind: See :data:`cdp_backfill.model.api_facts.Kind`.
        path: Names from the top of the message down, such as ``("context", "device", "model")``.
    """

    source: str | Lit
    kind: api_facts.Kind
    path: tuple[str, ...]


Branch = dict[str, "Leaf | Branch"]


@dataclass(frozen=True)
class Binding:
    """A mapping that fits a schema; :func:`bind` makes it.

    Attributes:
        mapping: The mapping.
        properties: Leaves of ``properties``, including the columns that the mapping does not name.
        context: Leaves of ``context``.
        integrations: Leaves of ``integrations``.
        traits: Leaves of ``traits``.
        columns: All columns to read, in the order of the schema.
        guard_columns: The columns of who, what and when.
        deriver: Computes the derived columns; None if there are none.
        needed: The derived columns of which a message needs the cells.
        guard_deriver: Computes the derived columns of who, what and when; None if there are none.
        schema: The columns of the table, the derived columns and the paths into them.
        paths: The fields inside columns that the mapping names.
        earliest: Earlier times are invalid; milliseconds since 1970 UTC.
        row_filter: Chooses rows, see :func:`cdp_backfill.messages.choose_rows`; None chooses all.
        ambiguous_ids: Anonymous ids that have several user ids, for identify calls; or None.
        excluded: User ids and anonymous ids whose rows are left out, or None.
    """

    mapping: Mapping
    properties: Branch
    context: Branch
    integrations: Branch
    traits: Branch
    columns: tuple[str, ...]
    guard_columns: tuple[str, ...]
    deriver: Deriver | None
    needed: frozenset[str]
    guard_deriver: Deriver | None
    schema: Any
    paths: Paths
    earliest: int
    row_filter: RowFilter | None = None
    ambiguous_ids: DigestSet | None = None
    excluded: DigestSet | None = None

    def leaves(self) -> list[tuple[tuple[str, ...], str | Lit]]:
        """The path of each field of the message with its column or constant."""
        mapping = self.mapping
        plain = (
            ("userId", mapping.user_id),
            ("anonymousId", mapping.anonymous_id),
            ("event", mapping.event),
            ("timestamp", mapping.timestamp),
            *(("messageId", source) for source in id_sources(mapping)),
        )
        result: list[tuple[tuple[str, ...], str | Lit]] = [
            ((name,), source) for name, source in plain if source is not None
        ]
        for branch in (self.properties, self.context, self.integrations, self.traits):
            result.extend((leaf.path, leaf.source) for leaf in _leaves(branch))
        return result


def id_sources(mapping: Mapping) -> tuple[str | Lit, ...]:
    """The columns or the constant that make the message ids; none where the content does."""
    source = mapping.message_id
    if isinstance(source, Key):
        return source.columns
    return () if source is None else (source,)


def bind(mapping: Mapping, schema: Any) -> Binding:
    """Bind a mapping to the columns of a table.

    Args:
        mapping: The mapping.
        schema: Arrow schema of the table, without duplicate names.

    Raises:
        MappingError: A column is missing or has a type that can never become the field, or the
            mapping leaves out a field that every message needs.
    """
    deriver = Deriver(mapping.derive, schema) if mapping.derive else None
    source_schema = schema
    if deriver is not None:
        schema = pa.schema([*schema, *deriver.fields])
    paths = paths_of(mapping, schema)
    left = paths.rest(schema)
    readable = [
        item.with_type(rest) if (rest := left.get(item.name)) is not None else item
        for item in schema
    ]
    schema = pa.schema([*schema, *paths.fields])
    checker = _Checker(pa.schema([*readable, *paths.fields]))
    checker.columns(mapping.columns())
    _check_complete(mapping)
    for path, source in (
        ("user_id", mapping.user_id),
        ("anonymous_id", mapping.anonymous_id),
        ("message_id", None if isinstance(mapping.message_id, Key) else mapping.message_id),
    ):
        checker.type(path, source, can_be_text, "text or a whole number")
    if isinstance(mapping.message_id, Key):
        for name in mapping.message_id.columns:
            checker.type("key()", name, _can_be_key, "text, numbers, booleans or times")
    checker.type(
        "event",
        mapping.event,
        lambda kind: can_be_text(kind) or pa.types.is_boolean(kind),
        "text, numbers or booleans",
    )
    checker.time(mapping)

    for name in mapping.expand:
        if reason := why_not_expandable(checker.kind(name)):
            raise MappingError(f"expand= cannot be used with column {name!r}: {reason}.")
    for name in mapping.json:
        checker.type("json", name, can_be_text, "text that holds JSON")

    # A column that an expression reads does not become a property as well.
    read = (*deriver.reads, *deriver.inner) if deriver else ()
    named = {*mapping.sources(), *read}
    properties = checker.branch(("properties",), mapping.properties, api_facts.PROPERTIES)
    if mapping.call == "track" and mapping.rest != "drop":
        left_out = {*named, *mapping.drop, *paths.paths}
        left_out |= {name for name, rest in left.items() if rest is None}
        for name in schema.names:
            if name in left_out or not is_data(name):
                continue
            if name in properties:
                raise MappingError(
                    f"Column {name!r} would become the property {name!r}, which the mapping fills "
                    "from another source. Map the column to another name, drop it, or pass "
                    "rest='drop'."
                )
            known = api_facts.PROPERTIES.get(name, "any")
            properties[name] = checker.leaf(("properties", name), name, known)
    context = checker.branch(("context",), mapping.context, api_facts.CONTEXT)
    integrations = checker.branch(
        ("integrations",), mapping.integrations, dict.fromkeys(mapping.integrations, "boolean")
    )
    traits = checker.branch(("traits",), mapping.traits, {})
    _check_droppable(mapping, properties, context, traits)
    guard = {mapping.user_id, mapping.anonymous_id, mapping.event, mapping.timestamp}
    guard |= {paths.column_of(name) for name in guard if isinstance(name, str)}
    guard_derived = {name for name in mapping.derive if name in guard}
    guard_deriver = Deriver(mapping.derive, source_schema, guard_derived) if guard_derived else None
    if guard_deriver is not None:
        guard |= set(guard_deriver.reads)
    filling = {*mapping.sources(), *_column_names(id_sources(mapping))}
    filling |= _column_names(leaf.source for leaf in _leaves(properties))
    filling |= {paths.column_of(name) for name in filling}
    guard.add(UNREADABLE)
    used = named | {UNREADABLE} | (set(mapping.columns()) - set(mapping.drop)) | filling
    return Binding(
        mapping=mapping,
        properties=properties,
        context=context,
        integrations=integrations,
        traits=traits,
        columns=tuple(name for name in source_schema.names if name in used),
        guard_columns=tuple(name for name in source_schema.names if name in guard),
        deriver=deriver,
        needed=deriver.inputs(filling) if deriver else frozenset(),
        guard_deriver=guard_deriver,
        schema=schema,
        paths=paths,
        earliest=int(datetime.fromisoformat(mapping.earliest).replace(tzinfo=UTC).timestamp())
        * 1000,
    )


def _column_names(sources: Iterable[str | Lit]) -> set[str]:
    return {source for source in sources if isinstance(source, str)}


def _can_be_key(kind: Any) -> bool:
    return can_be_text(kind) or pa.types.is_boolean(kind) or is_time_like(kind)


def _check_droppable(mapping: Mapping, *branches: Branch) -> None:
    filled = {leaf.source for branch in branches for leaf in _leaves(branch)}
    for name in mapping.droppable:
        if name not in filled | set(mapping.expand):
            raise MappingError(
                f"droppable= names {name!r}, which fills no property, trait or field of the "
                "context. "
                "Remove it from droppable=."
            )


def text_columns(mapping: Mapping, schema: Any, versions: Iterable[str] = ()) -> frozenset[str]:
    """Columns whose cells are read as text, because a number would lose zeros (007, 1.10).

    Args:
        mapping: The mapping.
        schema: The columns of the table, all of them text.
        versions: Columns of versions by their names.

    Raises:
        MappingError: An expression of the mapping does not fit the table.
    """
    plain = (mapping.user_id, mapping.anonymous_id, mapping.event, mapping.timestamp)
    columns = {source for source in (*plain, mapping.message_id) if isinstance(source, str)}
    for tree, known in (
        (mapping.properties, api_facts.PROPERTIES),
        (mapping.context, api_facts.CONTEXT),
    ):
        columns |= _typed(tree, known)
    typed = {name for name, kind in api_facts.PROPERTIES.items() if kind != "any"}
    texts = json_texts(mapping)
    # Otherwise one odd cell would change the type that an expression reads.
    feeds = Deriver(mapping.derive, schema).reads if mapping.derive else ()
    # JSON that a path leads into stays JSON.
    found = (find_path(name, schema, texts) for name in mapping.columns())
    opened = {path.column for path in found if path is not None} - texts
    return frozenset({*columns, *typed, *texts, *feeds, *versions} - opened)


def _typed(tree: dict[str, Any], known: api_facts.Tree) -> set[str]:
    columns: set[str] = set()
    for name, value in tree.items():
        kind = known.get(name, "any")
        if isinstance(value, dict):
            columns |= _typed(value, kind if isinstance(kind, dict) else {})
        elif isinstance(value, str) and kind != "any":
            columns.add(value)
    return columns


def is_data(column: str) -> bool:
    """Whether a column holds data of the table, and not an index or a remark of a report."""
    return column not in _REMARKS and not _UNNAMED_INDEX.fullmatch(column)


def _check_complete(mapping: Mapping) -> None:
    if mapping.call == "identify":
        if not mapping.complete:
            raise MappingError(
                "The mapping of identify calls has no user id or no anonymous id. Pass both "
                "user_id='...' and anonymous_id='...'."
            )
        return
    if mapping.event is None:
        raise MappingError(
            "The mapping has no event. Pass a column, event='...', or a constant, "
            "event=lit('Application Installed')."
        )
    if mapping.timestamp is None:
        raise MappingError(
            "The mapping has no timestamp. Pass timestamp='...'. Without it, the API would record "
            "the time of receipt."
        )
    if mapping.user_id is None and mapping.anonymous_id is None:
        raise MappingError(
            "The mapping has no user id. Pass user_id='...' or anonymous_id='...', or both."
        )


class _Checker:
    def __init__(self, schema: Any) -> None:
        self._schema = schema

    def columns(self, names: list[str]) -> None:
        known = list(self._schema.names)
        for name in names:
            if name not in known:
                listed = ", ".join(repr(column) for column in known[:12]) or "no columns"
                more = f" and {len(known) - 12} more" if len(known) > 12 else ""  # noqa: PLR2004
                constant = f" For a constant, pass lit({str(name)!r})."
                if name in api_facts.EVENTS:
                    raise MappingError(f"There is no column {str(name)!r}.{constant}")
                if reason := why_no_path(name, self._schema):
                    raise MappingError(f"There is no column {str(name)!r}, and {reason}")
                raise MappingError(
                    f"There is no column {str(name)!r}.{did_you_mean(name, known)} "
                    f"The table has {listed}{more}.{constant}"
                )

    def kind(self, source: str | Lit) -> Any:
        """The Arrow type of a column, or of its dictionary's values, or of a constant."""
        if isinstance(source, str):
            kind = self._schema.field(source).type
            while pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
                kind = kind.value_type
            if isinstance(kind, pa.BaseExtensionType) and not is_json(kind):
                return pa.string() if kind.extension_name == "arrow.uuid" else kind.storage_type
            return kind
        try:
            return pa.array([source.value]).type
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise MappingError(
                "A list in lit() must hold values of one type, and its whole numbers must fit into "
                "64 bits."
            ) from error

    def type(
        self,
        path: str,
        source: str | Lit | None,
        fits: Callable[[Any], bool],
        needed: str,
    ) -> None:
        if source is None:
            return
        kind = self.kind(source)
        if not fits(kind):
            where = f"column {source!r}" if isinstance(source, str) else "the constant"
            raise MappingError(
                f"{path} needs {needed}, but {where} is of type {kind}. Convert it, or name "
                "another column."
            )

    def time(self, mapping: Mapping) -> None:
        source = mapping.timestamp
        if source is None:  # pragma: no cover  # checked before
            return
        self.type(
            "timestamp",
            source,
            lambda kind: is_time_like(kind) or is_json(kind),
            "times, ISO 8601 text or epoch numbers",
        )
        kind = self.kind(source)
        has_unit = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
        if mapping.timestamp_unit is not None and has_unit:
            raise MappingError(
                f"timestamp_unit= is for numbers, but {source!r} holds times ({kind}) with a unit "
                "of their own. Leave timestamp_unit= out."
            )

    def branch(self, path: tuple[str, ...], tree: dict[str, Any], known: api_facts.Tree) -> Branch:
        result: Branch = {}
        for name, value in tree.items():
            below = known.get(name, "any")
            here = (*path, name)
            if isinstance(value, dict):
                result[name] = self.branch(here, value, below if isinstance(below, dict) else {})
            else:
                result[name] = self.leaf(here, value, below)
        return result

    def leaf(
        self, path: tuple[str, ...], source: str | Lit, kind: api_facts.Kind | api_facts.Tree
    ) -> Leaf:
        where = ".".join(path)
        if isinstance(kind, dict):
            raise MappingError(f"{where} holds further fields. Pass a dict.")
        if kind == "boolean":
            self.type(
                where,
                source,
                lambda columns: (
                    pa.types.is_boolean(columns) or (can_be_text(columns) and not is_bytes(columns))
                ),
                "booleans, or 0 and 1, or words such as true and false",
            )
        elif kind != "any":
            self.type(
                where,
                source,
                lambda kind: can_be_text(kind) or pa.types.is_boolean(kind),
                "text or numbers",
            )
        elif reason := why_not_json(self.kind(source)):
            raise MappingError(
                f"{where} cannot be filled from column {source!r}: {reason}. "
                "Convert the column, or drop it."
            )
        return Leaf(source, kind, path)


def _leaves(branch: Branch) -> list[Leaf]:
    result: list[Leaf] = []
    for value in branch.values():
        result.extend(_leaves(value) if isinstance(value, dict) else [value])
    return result

"""A preset, and the mapping that it makes for a table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from cdp_backfill.errors import MappingError
from cdp_backfill.inference.column_names import fold
from cdp_backfill.inference.presets.merging import add_fields, prune, read_by
from cdp_backfill.inference.proposal import Choice, Proposal, Question
from cdp_backfill.messages.expressions import quote
from cdp_backfill.model import api_facts
from cdp_backfill.model.mapping import Lit, Mapping

if TYPE_CHECKING:
    from collections.abc import Iterable

_FIELDS: Final = ("user_id", "anonymous_id", "event", "timestamp", "message_id")
_LOADERS: Final = ("_airbyte_", "_fivetran_", "_sdc_", "_dlt_", "_loaded_", "_partition")
"""What the columns begin with that a loading tool adds to a table."""


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
        send_event: The event column to use with ``other_events="send"``, or None for the same one.
        processed: New column with the time at which the vendor processed the event, or None.
        inside: Column that holds the records of another export as JSON, or None.
        told_by: Column that tells the event, if it is not the one of the mapping.
        question: What to ask if the table lacks that column, or None.
        cells: Regular expressions that the cells of columns match in such an export, as JSON.
    """

    name: str
    title: str
    facts: tuple[str, ...]
    detect: tuple[tuple[str, ...], ...]
    detect_exact: tuple[tuple[str, ...], ...]
    mapping: Mapping
    text: str
    send_event: str | None = None
    processed: str | None = None
    inside: str | None = None
    told_by: str | None = None
    question: str | None = None
    cells: dict[str, str] = field(default_factory=dict)

    def matches(self, names: Iterable[str]) -> int:
        """How many columns show that a table is such an export; 0 if it is not."""
        exact = set(names)
        folded = {fold(name) for name in exact}
        loaded = {fold(name) for name in exact if name.casefold().startswith(_LOADERS)}
        best = 0
        for columns in self.detect:
            if _has_all(columns, exact, folded):
                best = max(best, len(columns))
        for columns in self.detect_exact:
            if _has_all(columns, exact, folded) and folded - loaded <= set(map(fold, columns)):
                best = max(best, len(columns))
        return best

    def fit(self, names: list[str], given: dict[str, Any] | None = None) -> Mapping:
        """The mapping for a table with these columns.

        Args:
            names: The columns of the table.
            given: Fields of the caller by name. They add to dicts and lists of the preset, and
                replace its other fields.

        Raises:
            MappingError: The table lacks a column that the preset needs and the caller does not
                give, or a field of the caller has the wrong type.
        """
        given = given or {}
        fit = _Fit(self.mapping, names)
        mapping = fit.mapping
        if self.question is not None and not fit.can_be_read(self.told_by or self.mapping.event):
            mapping = replace(mapping, event=None)
        for name in ("event", "timestamp"):
            source = getattr(self.mapping, name)
            if name in given or source is None or fit.can_be_read(source):
                continue
            if name == "event" and self.question is not None:
                continue
            raise MappingError(
                f"The preset {self.name!r} does not fit this table, which has no column "
                f"{fit.missing(source)}. It is for {self.title}. If the table is such an export, "
                f"pass {name}='...' with the name of its column."
            )
        mapping = add_fields(mapping, given)
        if mapping.other_events == "send" and self.send_event is not None and "event" not in given:
            mapping = replace(mapping, event=self.send_event)
        own = {
            name
            for name in mapping.properties
            if name in api_facts.PROPERTIES and name not in given.get("properties", ())
        }
        mapping = _only_where_documented(mapping, own, {fold(name) for name in names})
        needed = {*mapping.columns(), *given.get("derive", ())}
        return replace(mapping, derive=prune(mapping.derive, needed))

    def processing_time(self, names: list[str]) -> dict[str, str]:
        """The new columns that end in the one of :attr:`processed`; empty if there is none."""
        fit = _Fit(self.mapping, names)
        if self.processed is None or not fit.can_be_read(self.processed):
            return {}
        return prune(fit.mapping.derive, {self.processed})

    def proposal(self, names: list[str], given: dict[str, Any], reason: str) -> Proposal:
        """Propose the mapping for a table.

        Args:
            names: Its columns.
            given: Fields of the caller, which add to the preset's or replace them.
            reason: The reason of the proposal.

        Raises:
            MappingError: As :meth:`fit` does.
        """
        mapping = self.fit(names, given)
        choices = [Choice("preset", repr(self.name), 1.0, f"{self.title}: {reason}")]
        for name in _FIELDS:
            value = getattr(mapping, name)
            if value is not None:
                why = "passed" if name in given else f"from the preset {self.name}"
                shown = f"column {value!r}" if isinstance(value, str) else repr(value)
                choices.append(Choice(name, shown, 1.0, why))
        questions = []
        if mapping.event is None and self.question is not None:
            questions.append(Question("event", (), self.question, needed=True))
        if mapping.user_id is None and mapping.anonymous_id is None:
            text = (
                f"The preset {self.name!r} finds no user in this table. Pass user_id='...' or "
                "anonymous_id='...' with the name of a column."
            )
            questions.append(Question("user_id", (), text, needed=True))
        return Proposal(mapping, tuple(choices), tuple(questions), self.name, self.facts)


def _has_all(columns: tuple[str, ...], exact: set[str], folded: set[str]) -> bool:
    """Whether a table has all of these columns; a name with capitals must be spelled like that."""
    return all(
        fold(name) in folded if name == name.casefold() else name in exact for name in columns
    )


class _Fit:
    """The mapping of a preset with the column names of a table.

    Attributes:
        mapping: The mapping, without columns that the table lacks.
    """

    def __init__(self, mapping: Mapping, names: list[str]) -> None:
        self._derive = mapping.derive
        self._columns = {fold(name): name for name in reversed(names)}
        self._readable: dict[str, bool] = {}
        exact = {name.casefold() for name in names}
        aliases: dict[str, str] = {}
        for expression in mapping.derive.values():
            for used in sorted(read_by(expression)):
                if used.casefold() in exact or used in mapping.derive or used in aliases:
                    continue
                there = self._columns.get(fold(used))
                aliases[used] = "NULL::VARCHAR" if there is None else quote(there)
        self.mapping = replace(
            mapping,
            **{name: self._column(getattr(mapping, name)) for name in _FIELDS},
            properties=self._tree(mapping.properties),
            context=self._tree(mapping.context),
            derive=aliases | mapping.derive,
            expand=[name for name in map(self._column, mapping.expand) if name],
            json=[name for name in map(self._column, mapping.json) if name],
        )

    def _column(self, source: Any) -> Any:
        """The table's name of a column, or None if the table does not fill it."""
        if not isinstance(source, str):
            return source
        if source in self._derive:
            return source if self.can_be_read(source) else None
        return self._columns.get(fold(source))

    def _tree(self, branch: dict[str, Any]) -> dict[str, Any]:
        result = {}
        for name, value in branch.items():
            fit = self._tree(value) if isinstance(value, dict) else self._column(value)
            if fit not in (None, {}):
                result[name] = fit
        return result

    def can_be_read(self, source: Any) -> bool:
        """Whether the table has the column, or one of the columns that a new one is made of."""
        if not isinstance(source, str):
            return True
        if source not in self._derive:
            return fold(source) in self._columns
        if source not in self._readable:
            self._readable[source] = False  # ends circles
            used = read_by(self._derive[source])
            self._readable[source] = not used or any(map(self.can_be_read, sorted(used)))
        return self._readable[source]

    def missing(self, source: str) -> str:
        """The columns of the vendor that a column needs, in words."""
        if source not in self._derive:
            return repr(source)
        names = sorted(
            {name for used in read_by(self._derive[source]) for name in self._ends(used)}
        )
        return " and no column ".join(map(repr, names))

    def _ends(self, source: str) -> set[str]:
        if source not in self._derive:
            return {source}
        return {end for used in read_by(self._derive[source]) for end in self._ends(used)}


def _only_where_documented(mapping: Mapping, own: set[str], taken: set[str]) -> Mapping:
    """Restrict documented properties to the events that have them, as the vendor's SDKs do.

    Args:
        mapping: The mapping.
        own: The properties to restrict.
        taken: Folded names that a new column cannot have.
    """
    properties, derive = dict(mapping.properties), dict(mapping.derive)
    events = {name: name for name in api_facts.EVENTS} | mapping.events
    for name in sorted(own):
        having = {event for event, tree in api_facts.EVENTS.items() if name in tree}
        values = [value for value, event in events.items() if event in having]
        source, event = properties[name], mapping.event
        if not values or (isinstance(event, Lit) and event.value not in having):
            del properties[name]
        elif isinstance(event, str) and isinstance(source, str):
            column = f"{name}_of_the_event"
            while fold(column) in taken:
                column += "2"
            listed = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
            there = f"trim({quote(event)}::VARCHAR, ' \t\r\n')"
            derive[column] = f"CASE WHEN {there} IN ({listed}) THEN {quote(source)} END"
            properties[name] = column
    return replace(mapping, properties=properties, derive=derive)

"""How a mapping shows in a notebook: what goes where, and what is done on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cdp_backfill.model import api_facts
from cdp_backfill.model.mapping_checks import Lit
from cdp_backfill.model.views import Section, View

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp_backfill.model.mapping import Mapping

_MOST: Final = 60
"""Characters of a constant that are shown."""

_FIELDS: Final = {
    "user_id": "userId",
    "anonymous_id": "anonymousId",
    "event": "event",
    "timestamp": "timestamp",
    "message_id": "messageId",
}
_UNITS: Final = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}

_OTHERS: Final = {
    "invalid": "are reported as invalid",
    "skip": "are left out",
    "send": "are sent under their own names",
}


def mapping_view(mapping: Mapping) -> View:
    """What is shown of a mapping."""
    named: list[tuple[object, ...]] = []
    for name, field in _FIELDS.items():
        if (source := getattr(mapping, name)) is not None:
            named.append((field, *_source(source), _done(mapping, name, source)))
    for name in ("properties", "context", "integrations"):
        for path, source in _leaves(getattr(mapping, name), name):
            named.append((path, *_source(source), _json(mapping, source)))
    named += [
        ("properties.*", "column", name, "a property for each part") for name in mapping.expand
    ]
    missing = [name for name in ("event", "timestamp") if getattr(mapping, name) is None]
    if mapping.user_id is None and mapping.anonymous_id is None:
        missing.insert(0, "user_id or anonymous_id")
    notes = ["print(mapping) shows it as Python, to be edited; mapping.save('m.toml') keeps it."]
    if missing:
        notes.insert(0, f"Nothing can be sent without {', '.join(missing)}.")
    return View(
        "Mapping",
        [
            Section("What goes where", ("field", "kind", "from", "how"), named),
            Section("New columns", ("column", "SQL"), [*mapping.derive.items()]),
            Section("Values of the event column", ("value", "event"), [*mapping.events.items()]),
            Section("The rest", (), _rest(mapping)),
        ],
        notes,
    )


def _source(source: Any) -> tuple[str, str]:
    if not isinstance(source, Lit):
        return "column", str(source)
    shown = repr(source.value)
    return "constant", shown if len(shown) <= _MOST else shown[: _MOST - 1] + "…"


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, child in value.items():
            yield from _leaves(child, f"{path}.{name}")
    elif value is not None:
        yield path, value


def _done(mapping: Mapping, name: str, source: Any) -> str:
    if isinstance(source, Lit):
        return ""
    if name == "event":
        named = len(mapping.events)
        return f"{named:,} value{'' if named == 1 else 's'} translated" if named else ""
    if name == "timestamp":
        unit = mapping.timestamp_unit
        numbers = f"numbers are {_UNITS[unit]}" if unit else "units of numbers by their size"
        return f"{numbers}; without a zone: {mapping.timezone or 'UTC'}"
    return "made of the content where empty" if name == "message_id" else ""


def _json(mapping: Mapping, source: Any) -> str:
    return "JSON text, sent as what it says" if source in mapping.json else ""


def _rest(mapping: Mapping) -> list[tuple[object, ...]]:
    becomes = "become properties" if mapping.rest == "properties" else "are dropped"
    shown: list[tuple[object, ...]] = [("columns that nothing names", becomes)]
    if not isinstance(mapping.event, Lit):
        shown.append(("other events", _OTHERS[mapping.other_events]))
    if mapping.message_id is None:
        shown.append(("message ids", "are made of the content"))
    if mapping.nulls:
        shown.append(("texts for nothing", ", ".join(map(repr, mapping.nulls))))
    if mapping.earliest != api_facts.APP_STORES:
        shown.append(("rows before", f"{mapping.earliest} are invalid"))
    if mapping.droppable:
        shown.append(("may be dropped where too large", ", ".join(mapping.droppable)))
    if mapping.duplicates == "skip":
        shown.append(("repeated message ids", "are left out"))
    return shown

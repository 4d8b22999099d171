"""How a mapping shows in a notebook: which column becomes which field, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cdp_backfill.model import api_facts
from cdp_backfill.model.mapping_checks import Key, Lit
from cdp_backfill.model.plurals import count
from cdp_backfill.model.views import Section, View

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_LENGTH: Final = 60
"""Most characters of a constant that are shown."""

_FIELDS: Final = {
    "user_id": "userId",
    "anonymous_id": "anonymousId",
    "event": "event",
    "timestamp": "timestamp",
    "message_id": "messageId",
}
_UNITS: Final = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}

_OTHER_EVENTS: Final = {
    "invalid": "are reported as invalid",
    "skip": "are left out on purpose",
    "unmapped": "are left out and count as missing",
    "send": "are sent under their own names",
}


def mapping_view(mapping: dict[str, Any]) -> View:
    """The view of a mapping.

    Args:
        mapping: The values of all its fields, by name.
    """
    rows: list[tuple[object, ...]] = []
    for name, field in _FIELDS.items():
        if (source := mapping[name]) is not None:
            rows.append((field, *_describe(source), _treatment(mapping, name, source)))
    for name in ("properties", "context", "integrations", "traits"):
        for path, source in _leaves(mapping[name], name):
            rows.append((path, *_describe(source), _json_treatment(mapping, source)))
    rows += [
        ("properties.*", "column", name, "a property for each part") for name in mapping["expand"]
    ]
    missing = _missing(mapping)
    notes = ["print(mapping) shows it as Python to edit; mapping.save('m.toml') keeps it."]
    if mapping["allow_commands"]:
        notes.insert(0, f"Commands that are sent: {', '.join(mapping['allow_commands'])}.")
    if missing:
        notes.insert(0, f"Nothing can be sent without {', '.join(missing)}.")
    return View(
        "Mapping" if mapping["call"] == "track" else "Mapping of identify calls",
        [
            Section("Fields", ("field", "kind", "from", "how"), rows),
            Section("Derived columns", ("column", "SQL"), [*mapping["derive"].items()]),
            Section("Values of the event column", ("value", "event"), [*mapping["events"].items()]),
            Section("Everything else", (), _defaults(mapping)),
        ],
        notes,
    )


def _missing(mapping: dict[str, Any]) -> list[str]:
    """What a run would need besides."""
    ids = ("user_id", "anonymous_id")
    if mapping["call"] == "identify":
        return [name for name in ids if mapping[name] is None]
    missing = [name for name in ("event", "timestamp") if mapping[name] is None]
    if all(mapping[name] is None for name in ids):
        missing.insert(0, "user_id or anonymous_id")
    return missing


def _describe(source: Any) -> tuple[str, str]:
    if isinstance(source, Key):
        return "key", ", ".join(source.columns)
    if not isinstance(source, Lit):
        return "column", str(source)
    text = repr(source.value)
    return "constant", text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 1] + "…"


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, child in value.items():
            yield from _leaves(child, f"{path}.{name}")
    elif value is not None:
        yield path, value


def _treatment(mapping: dict[str, Any], name: str, source: Any) -> str:
    if isinstance(source, Lit):
        return ""
    if name == "event":
        translated = len(mapping["events"])
        return f"{count(translated, 'value')} translated" if translated else ""
    if name == "timestamp":
        unit, zone = mapping["timestamp_unit"], mapping["timezone"] or "UTC"
        numbers = f"numbers are {_UNITS[unit]}" if unit else "the size of a number gives its unit"
        return f"{numbers}; times without a zone are in {zone}"
    return "made from the content where empty" if name == "message_id" else ""


def _json_treatment(mapping: dict[str, Any], source: Any) -> str:
    return "JSON text, sent as its value" if source in mapping["json"] else ""


def _defaults(mapping: dict[str, Any]) -> list[tuple[object, ...]]:
    is_track = mapping["call"] == "track"
    become = is_track and mapping["rest"] != "drop"
    unnamed = "become properties" if become else "are left out"
    rows: list[tuple[object, ...]] = [("unnamed columns", unnamed)]
    if mapping["drop"]:
        rows.append(("columns that are left out", ", ".join(mapping["drop"])))
    if is_track and not isinstance(mapping["event"], Lit):
        rows.append(("other events", _OTHER_EVENTS[mapping["other_events"]]))
    if mapping["message_id"] is None:
        rows.append(("message ids", "are made from the content"))
    if mapping["nulls"]:
        rows.append(("texts for empty cells", ", ".join(map(repr, mapping["nulls"]))))
    if mapping["earliest"] != api_facts.APP_STORES:
        earliest = mapping["earliest"]
        rows.append(("rows before", f"{earliest} are invalid"))
    if mapping["droppable"]:
        rows.append(("dropped from oversize messages", ", ".join(mapping["droppable"])))
    if mapping["duplicates"] == "skip":
        rows.append(("repeated message ids", "are left out"))
    return rows

"""Compares names of columns and values of events with names in other people's tables.

The names are in ``column_names.toml``. Letter case, spaces and punctuation do not count.
"""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from cdp_backfill.model.api_facts import Event

if TYPE_CHECKING:
    from collections.abc import Callable


def fold(name: str) -> str:
    """A name without letter case, spaces and punctuation.

    >>> fold("[Amplitude] Application Opened")
    'amplitudeapplicationopened'
    """
    return "".join(re.findall(r"[^\W_]+", name)).casefold()


def split_words(name: str) -> list[str]:
    """The words of a name, in lower case.

    >>> split_words("[Amplitude] osVersion_NM")
    ['amplitude', 'os', 'version', 'nm']
    """
    return [word.casefold() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


_DATA: Final[dict[str, Any]] = tomllib.loads(
    (resources.files(__package__) / "column_names.toml").read_text("utf-8")
)

COLUMNS: Final[dict[str, dict[str, float]]] = _DATA["columns"]
"""For each field of a mapping: folded names of columns, with their likelihood, 0.0 to 1.0."""

EVENTS: Final[dict[str, Event]] = {
    fold(spelling): Event(event)
    for event, spellings in _DATA["events"].items()
    for spelling in spellings
}
"""Folded spellings of the seven events."""

FIREBASE_EVENTS: Final = frozenset(map(fold, _DATA["firebase_events"]))
"""Folded names of Firebase's automatic events."""

_PEOPLE: Final = frozenset(_DATA["people"])
_ABBREVIATIONS: Final[dict[str, str]] = _DATA["abbreviations"]
_PREFIXES: Final = tuple(_DATA["prefixes"])
_SUFFIXES: Final = tuple(_DATA["suffixes"])
_LOCAL_SUFFIXES: Final = tuple(_DATA["local_suffixes"])

_MIN_WEIGHT: Final = 0.9  # of a name with parts removed; below, nothing more is removed
_ID_WORDS: Final = ("id", "uuid", "guid", "no", "nr", "nbr", "number", "key", "hash")
_MIN_LENGTH: Final = len("uninstall")  # of the last part of a path that counts as an event


def event_of(value: str) -> Event | None:
    """The event that a spelling means, or None.

    >>> event_of("App_Open")
    <Event.OPENED: 'Application Opened'>
    >>> event_of("purchase") is None
    True
    """
    key, last = fold(value), fold(re.split(r"[./:]", value)[-1])
    event = EVENTS.get(key)
    if event is None and len(last) >= _MIN_LENGTH:  # "open" alone could mean anything
        event = EVENTS.get(last)
    return event or EVENTS.get(key.removeprefix("amplitude"))


def events_of(values: list[str], column: str) -> dict[str, Event]:
    """The values of an event column that are certainly events.

    Args:
        values: All distinct values of the column.
        column: Name of the column.
    """
    events = {value: event for value in values if (event := event_of(value)) is not None}
    is_adjust = fold(column) == "activitykind"
    is_one_event = len(set(events.values())) == 1
    if is_one_event and not is_adjust and all(len(split_words(value)) == 1 for value in events):
        events = {}  # a single word could be the crash of a car or the opening of a shop
    keys = {fold(value) for value in values}
    for value in values:
        key = fold(value)
        if (value.casefold() == "session_start" and len(keys & FIREBASE_EVENTS) > 1) or (
            is_adjust and key == "session"
        ):
            events[value] = Event.OPENED
        elif fold(column) == "errortype" and key == "fatal":
            events[value] = Event.CRASHED
    return events


def likelihood(name: str, field: str, prefixes: tuple[str, ...] = ()) -> float:
    """The likelihood that a column of this name is the field, 0.0 to 1.0.

    Args:
        name: Name of the column.
        field: Field of a mapping.
        prefixes: Folded beginnings that many columns of the table share.

    >>> likelihood("USER_ID", "user_id"), likelihood("colour", "user_id")
    (0.94, 0.0)
    """
    likelihoods = COLUMNS[field]
    words = split_words(name)
    best, keys = 0.0, [(fold(name), 1.0)]
    if any(word in _ABBREVIATIONS for word in words):
        keys.append(("".join(_ABBREVIATIONS.get(word, word) for word in words), 0.97))
    if field == "user_id" and words[-1:] and words[-1] in _ID_WORDS:
        person = "".join(word for word in words[:-1] if word not in ("raw", "ctx", "prop", "evt"))
        best = 0.85 if person in _PEOPLE else 0.0
    for key, weight in keys:  # it grows while it is read, by shorter names
        best = max(best, likelihoods.get(key, 0.0) * weight)
        if weight > _MIN_WEIGHT:
            removals = [((*_PREFIXES, *prefixes), str.removeprefix, 0.97)]
            if field == "timestamp":
                removals.append((_SUFFIXES, str.removesuffix, 0.99))
                removals.append((_LOCAL_SUFFIXES, str.removesuffix, 0.9))
            for parts, remove, factor in removals:
                keys += [(rest, weight * factor) for rest in _without(key, parts, remove)]
    return best


def _without(key: str, parts: tuple[str, ...], remove: Callable[[str, str], str]) -> list[str]:
    rests = (remove(key, part) for part in parts)
    return [rest for rest in rests if rest != key and len(rest) > 1]

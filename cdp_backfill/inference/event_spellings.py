"""Says which of the seven events a value of an event column means.

The spellings are in ``event_spellings.toml``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from cdp_backfill.inference.column_names import fold, read_names, split_words
from cdp_backfill.inference.proposal import Choice
from cdp_backfill.model import api_facts
from cdp_backfill.model.api_facts import Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_DATA: Final[dict[str, Any]] = read_names("event_spellings.toml")

EVENTS: Final[dict[str, Event]] = {
    fold(spelling): Event(event)
    for event, spellings in _DATA["events"].items()
    for spelling in spellings
}
"""Folded spellings of the seven events."""

_FIREBASE_EVENTS: Final = frozenset(map(fold, _DATA["firebase_events"]))
_DOUBTFUL: Final = frozenset(map(fold, _DATA["doubtful"]))
_MESSAGE_WORDS: Final = frozenset(map(fold, _DATA["message_words"]))
_DEEDS: Final = frozenset(_DATA["deeds"])

# The punctuation of names; a slash, a brace or a question mark makes it a path, JSON or a URL.
_NAME: Final = re.compile(r"[\w \-.:$\[\]()!]+")
# Words joined as programs join them: level_up, order.completed, addToCart.
_JOINED: Final = re.compile(r"[^\W_]+(?:[_.:-][^\W_]+)+|[^\W\d_]+[a-z](?:[A-Z][a-z]+)+")
_DOMAIN: Final = re.compile(r"(com|org|net|io|[a-z]{2})\.\w+\.\w")
_GERMAN_PAST: Final = re.compile(r"(?:\w*ge\w{2,}(?:t|en)|\w{2,}iert)")
_MIN_LETTERS: Final = 2
_MANY_KINDS: Final = 3
"""Different events among single words that show together that they are of an app."""


def event_of(value: str) -> Event | None:
    """The event that a whole value means, or None.

    >>> event_of("App_Open"), event_of("[Amplitude] Application Opened")
    (<Event.OPENED: 'Application Opened'>, <Event.OPENED: 'Application Opened'>)
    >>> event_of("https://example.com/uninstall") is event_of("purchase") is None
    True
    """
    if not _NAME.fullmatch(value.strip()):
        return None
    key = fold(value)
    return EVENTS.get(key) or EVENTS.get(key.removeprefix("amplitude"))


def is_certain(value: str) -> bool:
    """Whether a spelling is of an app and of nothing else.

    >>> is_certain("app_open"), is_certain("open")
    (True, False)
    """
    return event_of(value) is not None and fold(value) not in _DOUBTFUL


def _is_deed(word: str) -> bool:
    return word in _DEEDS or word.endswith("ed") or bool(_GERMAN_PAST.fullmatch(word))


def is_event_name(value: str) -> bool:
    """Whether a text is shaped as the name of an event of any kind, such as one of your own.

    It says what was done, or its words are joined as a program joins them. Titles, codes and
    other texts are no names of events.

    >>> is_event_name("lock_closed"), is_event_name("Boat Booked"), is_event_name("checkout")
    (True, True, True)
    >>> is_event_name("Opera Gala"), is_event_name("C03"), is_event_name("2024-05-01")
    (False, False, False)
    """
    text = value.strip()
    if not _NAME.fullmatch(text) or _DOMAIN.match(text):
        return False
    words = [word for word in split_words(text) if word.isalpha() and len(word) >= _MIN_LETTERS]
    if fold(text) in EVENTS or any(map(_is_deed, words)):
        return True
    return len(words) > 1 and bool(_JOINED.fullmatch(text))


def events_of(values: Iterable[str], column: str) -> dict[str, Event]:
    """The values of an event column that are certainly events.

    A single word such as ``open`` counts beside others that are of an app, and if no other spelling
    of the column means the same event.

    Args:
        values: All distinct values of the column.
        column: Name of the column.
    """
    values = list(values)
    keys = {fold(value) for value in values}
    known = {value: event for value in values if (event := event_of(value)) is not None}
    certain = {value: event for value, event in known.items() if is_certain(value)}
    doubtful = {value: event for value, event in known.items() if value not in certain}
    words = split_words(column)
    is_adjust = words[-2:] == ("activity", "kind")
    if keys & _MESSAGE_WORDS:  # an e-mail or a push message was opened
        doubtful = {v: e for v, e in doubtful.items() if e is not Event.OPENED}
    kinds = set(doubtful.values())
    together = len(kinds) >= _MANY_KINDS or (
        Event.INSTALLED in kinds and bool(kinds & {Event.OPENED, Event.UNINSTALLED})
    )
    events = dict(certain)
    if certain or together or is_adjust:
        named = set(certain.values())
        events |= {value: event for value, event in doubtful.items() if event not in named}
    for value in values:
        key = fold(value)
        if (value.casefold() == "session_start" and len(keys & _FIREBASE_EVENTS) > 1) or (
            is_adjust and key == "session"
        ):
            events[value] = Event.OPENED
        elif words[-2:] == ("error", "type") and key == "fatal":
            events[value] = Event.CRASHED
    return {value: events[value] for value in values if value in events}


def doubtful_events(values: Iterable[str]) -> dict[str, str]:
    """Values that may be events of an app or of anything else, with the event."""
    return {value: str(event) for value in values if (event := event_of(value)) is not None}


def translations(values: Mapping[str, int], column: str) -> tuple[dict[str, str], list[Choice]]:
    """Translations of known spellings among the values of an event column, with reasons.

    Args:
        values: The values in the whole table with their counts.
        column: Name of the column.
    """
    known = {
        value: str(name)
        for value, name in events_of(values, column).items()
        if value not in api_facts.EVENTS
    }
    choices = [
        Choice(f"events[{value!r}]", f"{name!r}", 1.0, f"a known spelling; {values[value]:,} rows")
        for value, name in known.items()
    ]
    return known, choices

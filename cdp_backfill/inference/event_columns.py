"""Chooses what happened: the event column, and the translations of its values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cdp_backfill.inference.changes import log_of_changes
from cdp_backfill.inference.column_names import ID_WORDS, has_time_word, split_words
from cdp_backfill.inference.draft import NOBODY, Candidate, best_of, listed, text_cells
from cdp_backfill.inference.event_spellings import (
    doubtful_events,
    events_of,
    is_certain,
    is_event_name,
    translations,
)
from cdp_backfill.inference.proposal import Choice
from cdp_backfill.inference.samples import is_json_text
from cdp_backfill.model import api_facts
from cdp_backfill.model.plurals import count

if TYPE_CHECKING:
    from cdp_backfill.inference.draft import Draft
    from cdp_backfill.inference.samples import SampleColumn

MANY_VALUES: Final = 500
"""An event column has at most this many distinct values."""

_OBJECT_WORDS: Final = frozenset(
    ["object", "target", "entity", "subject", "item", "noun", "resource"]
)
"""Words in the name of a column that holds the object of an action."""

_MAX_CANDIDATES: Final = 3
_SAYS_ACTION: Final = 2
"""The worst rank of a name that says that a column holds events or actions."""

_NAMES_SHARE: Final = 0.6
"""Share of the values that must be shaped as names of events, if none is a known spelling."""


def choose_event(draft: Draft, *, others_are_decided: bool) -> None:
    """Choose the event column, or ask.

    Args:
        draft: The draft.
        others_are_decided: Whether the caller passed what becomes of other events; then a column
            is the event by its name alone.
    """
    if draft.given.event is None:
        name = _choose(draft, by_name=others_are_decided)
        if name is not None:
            draft.fields["event"] = name
            draft.used.add(name)


def _choose(draft: Draft, *, by_name: bool) -> str | None:
    """The event column; of several candidates, the one whose values are events."""
    candidates, telling = [], []
    changes = log_of_changes(draft.sample)
    for column, rank in draft.named("event"):
        values = _names(draft, column)
        if values is None or column.name == changes:
            continue
        candidates.append(Candidate(column, rank, 1.0, "none of its values is a known spelling"))
        known = events_of(values, column.name)
        named = [
            value for value in values if value in {*known, *api_facts.EVENTS, *draft.given.events}
        ]
        if named:
            share = len(named) / len(values)
            why = "some of its values are known spellings of events"
            # An event's name and its type are equally good, where both hold known spellings.
            telling.append(Candidate(column, max(rank, 1), share, why))
    if not telling:
        telling = [
            each
            for each in candidates
            if (by_name and each.rank < _SAYS_ACTION) or _holds_names(draft, each)
        ]
    if _asks_about_object(draft, telling):
        return None
    rivals = best_of(telling, text_cells)
    if len(rivals) > 1:
        names = [each.name for each in rivals]
        draft.ask(
            "event",
            f"{listed(names)} look equally like the event but hold different values.",
            [f"event={name!r}" for name in names],
            names,
        )
        return None
    if rivals:
        draft.take("event", rivals[0])
        return rivals[0].name
    return None


def _names(draft: Draft, column: SampleColumn) -> dict[str, int] | None:
    """The values of a column that can be names of events, with their counts; or None."""
    if not column.is_text or not len(column.filled) or column.distinct > MANY_VALUES:
        return None
    if any(is_json_text(text) or "://" in text for text in column.texts):
        return None
    return draft.values(column.name) or None


def _holds_names(draft: Draft, candidate: Candidate) -> bool:
    """Whether a column that is named like the event holds names of events of one's own."""
    if candidate.rank > _SAYS_ACTION:
        return False
    values = list(draft.values(candidate.name) or {})
    return sum(map(is_event_name, values)) >= _NAMES_SHARE * len(values)


def _asks_about_object(draft: Draft, telling: list[Candidate]) -> bool:
    """Ask if the values are single verbs and another column names their object."""
    objects = [column.name for column in draft.sample if _OBJECT_WORDS & set(column.words)]
    for each in telling:
        values = draft.values(each.name) or {}
        known = list(events_of(values, each.name)) or list(values)
        if objects and all(len(split_words(value)) == 1 for value in known):
            names = [each.name, *objects]
            draft.ask(
                "event",
                f"{each.name!r} holds what was done, and {listed(objects)} to what. Only both "
                "together say which event it was.",
                [f"event={each.name!r}", "derive={'what': '...'}, event='what'"],
                names,
            )
            return True
    return False


def ask_event(draft: Draft) -> None:
    """Ask for the event, if no column is it."""
    if draft.value("event") is not None or draft.is_asked("event"):
        return
    reasons = {}
    ranked = {column.name for column, _ in draft.named("event")}
    for column in draft.sample:
        if column.name in draft.used or not column.is_text or column.distinct > MANY_VALUES:
            continue
        if column.name in ranked:
            reasons[column.name] = _why_no_event(column)
        elif any(map(is_certain, column.texts)):
            reasons[column.name] = "it holds names of events, but its name does not say so"
        elif _speaks_of_events(column):
            reasons[column.name] = "its name also says something else"
    names = sorted(reasons, key=lambda name: "but" not in reasons[name])[:_MAX_CANDIDATES]
    text = " ".join([f"{NOBODY}the event.", *(f"{name!r}: {reasons[name]}." for name in names)])
    answer = "event='...'"
    if names:
        answer = f"event={names[0]!r}"
        if names[0] in ranked:
            answer = f"{answer}, events={{'...': 'Application Opened'}}"
    answers = [answer, f"event=cdp.lit({_hint(draft)!r}) if all rows are this event"]
    draft.ask("event", text, answers, names)


def _speaks_of_events(column: SampleColumn) -> bool:
    words = column.words
    return bool({"event", "action"} & set(words)) and not (
        has_time_word(words) or words[-1] in ID_WORDS
    )


def _why_no_event(column: SampleColumn) -> str:
    doubtful = list(doubtful_events(column.texts))
    if doubtful:
        return f"it holds {listed(doubtful)}, which may be of an app or of anything else"
    return "none of its values is a known spelling of an event"


def _hint(draft: Draft) -> str:
    timestamp = draft.value("timestamp")
    words = set(split_words(timestamp)) if isinstance(timestamp, str) else set()
    for parts, event in (
        ({"uninstall", "uninstalled"}, api_facts.Event.UNINSTALLED),
        ({"crash", "crashed"}, api_facts.Event.CRASHED),
        ({"open", "opened", "launch", "launched"}, api_facts.Event.OPENED),
    ):
        if parts & words:
            return str(event)
    return str(api_facts.Event.INSTALLED)


def translate(draft: Draft, *, others_are_decided: bool) -> None:
    """Translate known spellings of the event column; translations of the caller stay.

    Args:
        draft: The draft.
        others_are_decided: Whether the caller passed what becomes of other events.
    """
    event, given = draft.value("event"), draft.given
    values = draft.values(event) if isinstance(event, str) else None
    if values is None:
        return
    known, choices = translations(values, event)
    draft.choices += [each for each in choices if each.field[8:-2] not in given.events]
    known = known | given.events
    unknown = {
        value: rows
        for value, rows in values.items()
        if value not in known and value not in api_facts.EVENTS
    }
    draft.fields["events"] = known
    is_open = not given.events and not others_are_decided
    if is_open and unknown and len(unknown) == len(values):
        _ask_what_becomes_of(draft, event, doubtful_events(unknown))
    others = sum(unknown.values())
    if others and given.other_events == "invalid" and not others_are_decided:
        draft.fields["other_events"] = "unmapped"
        holds = "holds" if others == 1 else "hold"
        draft.choices.append(
            Choice(
                "other_events",
                "'unmapped'",
                1.0,
                f"{count(others, 'row')} {holds} another value than the seven events; "
                "other_events='skip' leaves these out on purpose, 'send' sends them",
            )
        )


def _ask_what_becomes_of(draft: Draft, event: str, doubtful: dict[str, str]) -> None:
    """Ask how events are sent of which none is certainly one of the seven."""
    text = f"None of the values of {event!r} is certainly one of the seven events of an app."
    known = "events={'...': 'Application Opened'}"
    if doubtful:
        text = f"{text} {listed(list(doubtful))} may be of an app or of anything else."
        known = f"events={doubtful!r}"
    send = "other_events='send' to send each under its own name"
    draft.ask("other_events", text, [send, f"{known} for those that are"], [event])


def verbs(words: tuple[str, ...]) -> set[Any]:
    """The events that the words of a name speak of, such as ``installed``."""
    return {event for event, names in _VERBS.items() if names & set(words)}


_VERBS: Final = {
    api_facts.Event.INSTALLED: frozenset(["install", "installed"]),
    api_facts.Event.OPENED: frozenset(["open", "opened", "launch", "launched"]),
    api_facts.Event.CRASHED: frozenset(["crash", "crashed"]),
    api_facts.Event.UNINSTALLED: frozenset(["uninstall", "uninstalled"]),
}

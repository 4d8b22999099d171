"""Proposes a mapping from the names, the types and some cells of the columns of a table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.inference.column_names import (
    COLUMNS,
    event_of,
    events_of,
    fold,
    likelihood,
    split_words,
)
from cdp_backfill.inference.content_checks import check_content
from cdp_backfill.inference.proposal import Choice, Proposal, Question
from cdp_backfill.inference.samples import (
    are_equal,
    comparable_cells,
    has_no_zone,
    readable_columns,
    shared_prefixes,
)
from cdp_backfill.model import api_facts
from cdp_backfill.model.arrow_types import is_json
from cdp_backfill.model.mapping import Lit, Mapping
from cdp_backfill.model.outcomes import FAILURE_COLUMNS
from cdp_backfill.model.plurals import count

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

SURE: Final = 0.5
"""Likelihood below which nothing is proposed."""

TIE: Final = 0.05
"""Difference of likelihoods below which two columns are equally likely."""

NEEDED: Final = ("user_id", "anonymous_id", "event", "timestamp")

_EVENT_TIE: Final = 0.2
"""The same for columns that all hold names of events."""

_OTHER_TIME_WORDS: Final = {
    *("birth", "birthday", "dob", "updated", "modified", "expires", "expiry", "deleted", "synced"),
    *("loaded", "load", "ingested", "ingest", "ingestion", "processed", "imported", "import"),
    *("inserted", "insert", "exported", "extracted", "dwh", "etl", "batch", "refreshed", "kafka"),
    *("touch", "signup", "registered", "joined", "install", "first", "last", "uploaded", "stored"),
}
"""Words in the names of times that are not the time of an event."""

_TIME_WORDS: Final = {"time", "date", "datetime", "timestamp", "ts", "when", "day", "at"}

_OBJECT_WORDS: Final = ("object", "target", "entity", "subject", "item", "noun", "resource")
"""Words in the name of a column that holds the object of an action."""


_GENERAL_TIMES: Final = ("createdat", "created", "date", "time", "datetime")

_NULL_TEXTS: Final = ("NULL", "null", "None", "N/A", "(not set)", "<NA>", "nan", "NaN")
MANY_VALUES: Final = 500
"""An event column has at most this many distinct values."""

_JSON_NAMES: Final = (
    "eventproperties",
    "eventparams",
    "eventattributes",
    "eventdata",
    "properties",
    "params",
    "attributes",
)


@dataclass(frozen=True, slots=True)
class _Candidate:
    column: str
    score: float
    reason: str


class Inference:
    """Proposes a mapping for a table.

    Args:
        sample: Record batch of the first rows, with all columns.
        values: Returns the values of a column in the whole table with their counts, or None if
            there are too many.
        now: The current time; events lie before it. None reads the clock.
    """

    def __init__(
        self,
        sample: Any,
        values: Callable[[str], dict[str, int] | None],
        now: datetime | None = None,
    ) -> None:
        self._sample, self._values = readable_columns(sample), values
        self._names = [name for name in self._sample.schema.names if name not in FAILURE_COLUMNS]
        self._now = now or datetime.now(UTC)
        self._prefixes = shared_prefixes(self._names)
        self._used_columns: set[str] = set()
        self._passed: frozenset[str] = frozenset()
        self._choices: list[Choice] = []
        self._questions: list[Question] = []

    def propose(self, given: Mapping, passed: Collection[str] = ()) -> Proposal:
        """Fill in the fields that a mapping leaves out.

        Args:
            given: The mapping of the caller; its fields stay as they are.
            passed: Fields that the caller passed, even if they are at their default.
        """
        self._passed = frozenset(passed)
        self._used_columns = set(given.sources()) - set(given.json) - set(given.droppable)
        nulls = given.nulls or self._null_texts()
        fields: dict[str, Any] = {"nulls": nulls}
        for name in NEEDED:
            if getattr(given, name) is None:
                fields[name] = self._event() if name == "event" else self._choose(name)
                if name == "timestamp":
                    fields[name] = self._time(
                        fields[name], event=fields.get("event") or given.event
                    )
        fields.update(self._event_settings(given, fields.get("event") or given.event))
        if given.message_id is None:
            fields["message_id"] = self._choose("message_id")
        fields["properties"], fields["context"] = dict(given.properties), _copy_tree(given.context)
        for path in COLUMNS:
            tree, *names = path.split(".")
            if tree in ("properties", "context") and not _has(fields[tree], names):
                column = self._choose(path)
                if column is not None:
                    _put(fields[tree], names, column)
        fields["expand"] = given.expand or self._nested(given.json)
        self._ask(given, fields)
        proposed = {name: value for name, value in fields.items() if value not in (None, {}, ())}
        return Proposal(replace(given, **proposed), tuple(self._choices), tuple(self._questions))

    def _candidates(self, field: str) -> list[_Candidate]:
        candidates = []
        for name in self._names:
            if name in self._used_columns:
                continue
            weight = likelihood(name, field, self._prefixes)
            if weight:
                factor, why = self._check(field, name)
                candidates.append(_Candidate(name, weight * factor, f"its name matches; {why}"))
        return sorted(candidates, key=lambda item: -item.score)

    def _check(self, field: str, column: str) -> tuple[float, str]:
        return check_content(field, self._sample.column(column), self._now)

    def _choose(self, field: str) -> str | None:
        """The best column for a field; None if there is none, or if two are equally likely."""
        candidates = [item for item in self._candidates(field) if item.score >= SURE]
        if not candidates:
            return None
        best = candidates[0]
        rivals = [item for item in candidates if best.score - item.score < TIE]
        if len(rivals) > 1:
            rivals = self._with_different_cells(rivals, field)
        if len(rivals) > 1:
            self._ask_which(field, [item.column for item in rivals])
            return None
        best = rivals[0]
        self._record_choice(field, best)
        return best.column

    def _record_choice(self, field: str, chosen: _Candidate) -> None:
        self._used_columns.add(chosen.column)
        self._choices.append(
            Choice(field, f"column {chosen.column!r}", round(chosen.score, 2), chosen.reason)
        )

    def _ask_which(self, field: str, columns: list[str]) -> None:
        listed = " and ".join(repr(name) for name in columns)
        choices = " or ".join(_example(field, name) for name in columns)
        self._used_columns |= set(columns) if field not in NEEDED else set()
        self._questions.append(
            Question(
                field,
                tuple(columns),
                f"{listed} look equally like {field} but hold different values. Choose one: "
                f"{choices}.",
                needed=field in NEEDED,
            )
        )

    def _with_different_cells(self, rivals: list[_Candidate], field: str) -> list[_Candidate]:
        """Candidates with different cells; of those with equal cells, the first."""
        if field == "timestamp":
            rivals = sorted(rivals, key=lambda item: has_no_zone(self._sample.column(item.column)))
        kept: list[_Candidate] = []
        for rival in rivals:
            column = comparable_cells(self._sample.column(rival.column), field)
            if not any(
                are_equal(column, comparable_cells(self._sample.column(other.column), field))
                for other in kept
            ):
                kept.append(rival)
        return kept

    def _time(self, column: str | None, *, event: Any) -> str | None:
        """The time column; if no name matches, the only column that holds times."""
        asked = any(question.field == "timestamp" for question in self._questions)
        if column is None and not asked:
            others = [
                _Candidate(name, SURE + TIE, f"no other column holds times; {why}")
                for name in self._names
                if name not in self._used_columns and not _OTHER_TIME_WORDS & set(split_words(name))
                for factor, why in [
                    check_content("timestamp", self._sample.column(name), self._now)
                ]
                if factor == 1.0
            ]
            if len(others) == 1 and not self._has_unreadable_time(others[0].column):
                self._record_choice("timestamp", others[0])
                return others[0].column
        if column is not None and event is None and fold(column) in _GENERAL_TIMES:
            # In a table of people, this would be the day on which they signed up.
            self._used_columns.discard(column)
            self._choices = [choice for choice in self._choices if choice.field != "timestamp"]
            return None
        return column

    def _has_unreadable_time(self, chosen: str) -> bool:
        """Whether another column is named like a time, but its cells cannot be read as times."""
        return any(
            _TIME_WORDS & set(split_words(name)) and not _OTHER_TIME_WORDS & set(split_words(name))
            for name in self._names
            if name not in self._used_columns and name != chosen
        )

    def _event(self) -> str | None:
        """The event column; of several candidates, the one whose values are events."""
        candidates = [item for item in self._candidates("event") if item.score >= SURE * 0.9]
        named = {item.column for item in candidates}
        for name in self._names:
            if name not in named | self._used_columns:
                factor, _ = self._check("event", name)
                if factor and len(pc.unique(self._sample.column(name))) <= MANY_VALUES:
                    candidates.append(_Candidate(name, 0.0, ""))
        ranked = []
        for item in candidates:
            values = self._values(item.column)
            if values is None:
                continue
            known = set(events_of(list(values), item.column).values())
            # In a column with another name, a single word like "open" is not enough.
            ranked.append((len(known) > (0 if item.score else 1), item))
        rivals = [item for known, item in ranked if known]
        if rivals and self._asks_about_object(rivals):
            return None
        if rivals:
            if len(rivals) > 1:
                best = max(item.score for item in rivals)
                rivals = [item for item in rivals if best - item.score < _EVENT_TIE]
                rivals = self._with_different_cells(rivals, "event")
            if len(rivals) == 1:
                score = max(rivals[0].score, 0.9)
                why = "some of its values are known spellings of events"
                self._record_choice("event", replace(rivals[0], score=score, reason=why))
                return rivals[0].column
            self._ask_which("event", [item.column for item in rivals])
            return None
        strong = [item for _, item in ranked if item.score >= 0.9]  # noqa: PLR2004
        if len(strong) == 1 or (strong and strong[0].score - strong[1].score >= TIE):
            self._record_choice("event", strong[0])
            return strong[0].column
        if len(strong) > 1:
            self._ask_which("event", [item.column for item in strong])
        return None

    def _asks_about_object(self, rivals: list[_Candidate]) -> bool:
        """Ask if the values are single verbs and another column names their object."""
        objects = [name for name in self._names if set(split_words(name)) & set(_OBJECT_WORDS)]
        for item in rivals:
            known = events_of(list(self._values(item.column) or {}), item.column)
            if objects and all(len(split_words(value)) == 1 for value in known):
                self._ask_which("event", [item.column, *objects])
                return True
        return False

    def _event_settings(self, given: Mapping, event: Any) -> dict[str, Any]:
        """Translations of the values of the event column; those of the caller stay."""
        if not isinstance(event, str):
            return {}
        values = self._values(event) if event in self._names else None
        if values is None:
            return {}
        known, choices = translations(values, event)
        self._choices += [c for c in choices if c.field[8:-2] not in given.events]
        known = known | given.events
        unknown = {
            value: rows
            for value, rows in values.items()
            if value not in known and value not in api_facts.EVENTS
        }
        proposed: dict[str, Any] = {"events": known}
        single = {value: event_of(value) for value in unknown}
        ambiguous = {value: str(name) for value, name in single.items() if name is not None}
        if ambiguous and len(unknown) == len(values):
            self._questions.append(
                Question(
                    "events",
                    (event,),
                    f"Column {event!r} holds {' and '.join(map(repr, ambiguous))}, which may be an "
                    f"event of an app or anything else. If it is one, pass events={ambiguous!r}.",
                    needed=True,
                )
            )
        others = sum(unknown.values())
        if others and given.other_events == "invalid" and "other_events" not in self._passed:
            proposed["other_events"] = "skip"
            self._choices.append(
                Choice(
                    "other_events",
                    "'skip'",
                    0.9,
                    f"{count(others, 'row')} {'holds' if others == 1 else 'hold'} another value "
                    "than the seven events; other_events='send' sends these too",
                )
            )
        return proposed

    def _null_texts(self) -> tuple[str, ...]:
        """Null words that occur in several columns of text."""
        words = []
        for word in _NULL_TEXTS:
            columns = 0
            for name in self._names:
                column = self._sample.column(name)
                if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                    columns += bool(pc.any(pc.equal(column, word)).as_py())
            if columns > 1:
                words.append(word)
                self._choices.append(
                    Choice("nulls", repr(word), 0.95, f"it occurs in {columns} columns of text")
                )
        return tuple(words)

    def _nested(self, json: Sequence[str]) -> tuple[str, ...]:
        """Columns whose parts are properties of the event."""
        names = []
        for name in self._names:
            if name in self._used_columns or name in json or fold(name) not in _JSON_NAMES:
                continue
            column = self._sample.column(name)
            kind = column.type
            objects = is_json(kind) or (
                (pa.types.is_string(kind) or pa.types.is_large_string(kind))
                and pc.all(pc.match_substring_regex(column, r"^\s*\{.*\}\s*$")).as_py()
                and column.null_count < len(column)
            )
            listed = pa.types.is_list(kind) and pa.types.is_struct(kind.value_type)
            keyed = listed and "key" in [item.name for item in kind.value_type]
            if objects or keyed or pa.types.is_map(kind):
                names.append(name)
                what = "key/value pairs" if keyed or pa.types.is_map(kind) else "JSON objects"
                self._choices.append(
                    Choice("expand", f"column {name!r}", 0.9, f"its name matches; it holds {what}")
                )
        return tuple(names)

    def _ask(self, given: Mapping, fields: dict[str, Any]) -> None:
        """Ask for the fields that every message needs and that no column clearly is."""
        asked = {question.field for question in self._questions}

        def is_open(name: str) -> bool:
            return fields.get(name) is None and getattr(given, name) is None

        if (
            is_open("user_id")
            and is_open("anonymous_id")
            and not asked & {"user_id", "anonymous_id"}
        ):
            self._questions.append(
                Question(
                    "user_id",
                    (),
                    f"No column is clearly the id of a person{self._suggest(_is_id_name)}. Pass "
                    "user_id='...' or anonymous_id='...', or both.",
                    needed=True,
                )
            )
        if is_open("event") and "event" not in asked:
            hint = self._hint_of_event(fields.get("timestamp") or given.timestamp)
            self._questions.append(
                Question(
                    "event",
                    (),
                    "No column is clearly the event. Pass event='...' for a column, or "
                    f"event=cdp.lit({hint!r}) if all rows are this event.",
                    needed=True,
                )
            )
        if is_open("timestamp") and "timestamp" not in asked:
            self._questions.append(
                Question(
                    "timestamp",
                    (),
                    f"No column is clearly the time of the event{self._suggest(_is_time_name)}. "
                    "Pass timestamp='...'.",
                    needed=True,
                )
            )

    def _suggest(self, fits: Callable[[str], bool]) -> str:
        """Candidates for the answer, for a question."""
        names = [
            repr(name) for name in self._names if name not in self._used_columns and fits(name)
        ]
        return f"; it may be {' or '.join(names[:3])}" if names else ""

    def _hint_of_event(self, timestamp: Any) -> str:
        name = fold(timestamp) if isinstance(timestamp, str) else ""
        for part, event in (
            ("uninstall", api_facts.Event.UNINSTALLED),
            ("install", api_facts.Event.INSTALLED),
            ("crash", api_facts.Event.CRASHED),
            ("updat", api_facts.Event.UPDATED),
        ):
            if part in name:
                return str(event)
        return str(api_facts.Event.INSTALLED)


def _is_id_name(name: str) -> bool:
    words = split_words(name)
    return len(words) > 1 and words[-1] in ("id", "uuid", "no", "number", "key", "hash")


def _is_time_name(name: str) -> bool:
    words = set(split_words(name))
    return bool(_TIME_WORDS & words) and not _OTHER_TIME_WORDS & words


def translations(values: dict[str, int], column: str) -> tuple[dict[str, str], list[Choice]]:
    """Translations of known spellings among the values of an event column, with reasons.

    Args:
        values: The values in the whole table with their counts.
        column: Name of the column.
    """
    known = {
        value: str(name)
        for value, name in events_of(list(values), column).items()
        if value not in api_facts.EVENTS
    }
    choices = [
        Choice(f"events[{value!r}]", f"{name!r}", 0.95, f"a known spelling; {values[value]:,} rows")
        for value, name in known.items()
    ]
    return known, choices


def _example(field: str, column: str) -> str:
    tree, *names = field.split(".")
    if not names:
        return f"{field}={column!r}"
    inner = repr(column)
    for name in reversed(names):
        inner = f"{{{name!r}: {inner}}}"
    return f"{tree}={inner}"


def _copy_tree(tree: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _copy_tree(value) if isinstance(value, dict) else value
        for name, value in tree.items()
    }


def _has(tree: dict[str, Any], names: list[str]) -> bool:
    here: Any = tree
    for name in names:
        if not isinstance(here, dict) or name not in here:
            return False
        here = here[name]
    return isinstance(here, str | Lit | dict)


def _put(tree: dict[str, Any], names: list[str], column: str) -> None:
    *above, last = names
    for name in above:
        tree = tree.setdefault(name, {})
    tree[last] = column

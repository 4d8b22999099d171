"""Proposes a mapping by looking at the names, the types and some cells of a table."""

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
from cdp_backfill.inference.content_checks import looks, moments
from cdp_backfill.inference.proposal import Choice, Proposal, Question
from cdp_backfill.messages.text import decode
from cdp_backfill.model import api_facts
from cdp_backfill.model.arrow_types import is_json, is_number
from cdp_backfill.model.mapping import Lit, Mapping
from cdp_backfill.model.outcomes import FAILURE_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

SURE: Final = 0.5
"""Below this nothing is proposed."""

TIE: Final = 0.05
"""Columns that are closer to each other than this compete equally."""

NEEDED: Final = ("user_id", "anonymous_id", "event", "timestamp")

_ALIKE: Final = 0.2
"""The same for columns of which each holds names of events."""

_NOT_WHEN: Final = {
    *("birth", "birthday", "dob", "updated", "modified", "expires", "expiry", "deleted", "synced"),
    *("loaded", "load", "ingested", "ingest", "ingestion", "processed", "imported", "import"),
    *("inserted", "insert", "exported", "extracted", "dwh", "etl", "batch", "refreshed", "kafka"),
    *("touch", "signup", "registered", "joined", "install", "first", "last", "uploaded", "stored"),
}
"""Words in the names of times at which no event of the row happened."""

_CALLED_TIMES: Final = {"time", "date", "datetime", "timestamp", "ts", "when", "day", "at"}

_ACTS_ON: Final = ("object", "target", "entity", "subject", "item", "noun", "resource")
"""Words in the name of a column that says what an action is done to."""

_MANY_COLUMNS: Final = 4

_OF_ANYTHING: Final = ("createdat", "created", "date", "time", "datetime")

_NULL_TEXTS: Final = ("NULL", "null", "None", "N/A", "(not set)", "<NA>", "nan", "NaN")
MANY_VALUES: Final = 500
"""An event column has fewer different values."""

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
    """Looks at a table.

    Args:
        sample: Record batch of its first rows, all columns.
        values: Counts the values of a column in the whole table, or gives None where there are
            too many of them.
        now: The current time: events lie before it.
    """

    def __init__(
        self,
        sample: Any,
        values: Callable[[str], dict[str, int] | None],
        now: datetime | None = None,
    ) -> None:
        self._sample, self._values = _readable(sample), values
        self._names = [name for name in self._sample.schema.names if name not in FAILURE_COLUMNS]
        self._now = now or datetime.now(UTC)
        self._prefixes = _common(self._names)
        self._taken: set[str] = set()
        self._said: frozenset[str] = frozenset()
        self._choices: list[Choice] = []
        self._questions: list[Question] = []

    def propose(self, given: Mapping, said: Collection[str] = ()) -> Proposal:
        """Fill in what a mapping does not say.

        Args:
            given: What is said; it is kept as it is.
            said: Fields that are said even if they are at their default.
        """
        self._said = frozenset(said)
        self._taken = set(given.columns()) - set(given.json) - set(given.droppable)
        nulls = given.nulls or self._null_texts()
        fields: dict[str, Any] = {"nulls": nulls}
        for name in NEEDED:
            if getattr(given, name) is None:
                fields[name] = self._event() if name == "event" else self._pick(name)
                if name == "timestamp":
                    fields[name] = self._when(
                        fields[name], event=fields.get("event") or given.event
                    )
        fields.update(self._event_settings(given, fields.get("event") or given.event))
        if given.message_id is None:
            fields["message_id"] = self._pick("message_id")
        fields["properties"], fields["context"] = dict(given.properties), _copied(given.context)
        for path in COLUMNS:
            tree, *names = path.split(".")
            if tree in ("properties", "context") and not _has(fields[tree], names):
                column = self._pick(path)
                if column is not None:
                    _put(fields[tree], names, column)
        fields["expand"] = given.expand or self._nested(given.json)
        self._ask(given, fields)
        found = {name: value for name, value in fields.items() if value not in (None, {}, ())}
        return Proposal(replace(given, **found), tuple(self._choices), tuple(self._questions))

    def _candidates(self, field: str) -> list[_Candidate]:
        found = []
        for name in self._names:
            if name in self._taken:
                continue
            worth = likelihood(name, field, self._prefixes)
            if worth:
                factor, why = looks(field, self._sample.column(name), self._now)
                found.append(_Candidate(name, worth * factor, f"its name says so; {why}"))
        return sorted(found, key=lambda item: -item.score)

    def _pick(self, field: str) -> str | None:
        """The best column for a field; None where there is none, or where two compete."""
        candidates = [item for item in self._candidates(field) if item.score >= SURE]
        if not candidates:
            return None
        best = candidates[0]
        rivals = [item for item in candidates if best.score - item.score < TIE]
        if len(rivals) > 1:
            rivals = self._different(rivals, field)
        if len(rivals) > 1:
            self._compete(field, [item.column for item in rivals])
            return None
        best = rivals[0]
        self._take(field, best)
        return best.column

    def _take(self, field: str, chosen: _Candidate) -> None:
        self._taken.add(chosen.column)
        self._choices.append(
            Choice(field, f"column {chosen.column!r}", round(chosen.score, 2), chosen.reason)
        )

    def _compete(self, field: str, columns: list[str]) -> None:
        listed = " or ".join(repr(name) for name in columns)
        self._taken |= set(columns) if field not in NEEDED else set()
        self._questions.append(
            Question(
                field,
                tuple(columns),
                f"Which column is {field}: {listed}? Their names say it equally, and their cells "
                f"differ. {_how(field, columns[0])}",
                needed=field in NEEDED,
            )
        )

    def _different(self, rivals: list[_Candidate], field: str) -> list[_Candidate]:
        """Rivals that say something different; of those that say the same, the first."""
        if field == "timestamp":
            rivals = sorted(rivals, key=lambda item: _zoneless(self._sample.column(item.column)))
        kept: list[_Candidate] = []
        for rival in rivals:
            column = _comparable(self._sample.column(rival.column), field)
            if not any(
                _same(column, _comparable(self._sample.column(other.column), field))
                for other in kept
            ):
                kept.append(rival)
        return kept

    def _when(self, found: str | None, *, event: Any) -> str | None:
        """The time; where no name says it, the only column that holds times."""
        asked = any(question.field == "timestamp" for question in self._questions)
        if found is None and not asked:
            others = [
                _Candidate(name, SURE + TIE, f"no other column holds times; {why}")
                for name in self._names
                if name not in self._taken and not _NOT_WHEN & set(split_words(name))
                for factor, why in [looks("timestamp", self._sample.column(name), self._now)]
                if factor == 1.0
            ]
            if len(others) == 1 and not self._unread_times(others[0].column):
                self._take("timestamp", others[0])
                return others[0].column
        if found is not None and event is None and fold(found) in _OF_ANYTHING:
            # Of a table of people it would be the day that they signed up.
            self._taken.discard(found)
            self._choices = [choice for choice in self._choices if choice.field != "timestamp"]
            return None
        return found

    def _unread_times(self, chosen: str) -> bool:
        """Whether another column is called a time, though its cells cannot be read as one."""
        return any(
            _CALLED_TIMES & set(split_words(name)) and not _NOT_WHEN & set(split_words(name))
            for name in self._names
            if name not in self._taken and name != chosen
        )

    def _event(self) -> str | None:
        """The event column: of several, the one whose values are events."""
        candidates = [item for item in self._candidates("event") if item.score >= SURE * 0.9]
        named = {item.column for item in candidates}
        for name in self._names:
            if name not in named | self._taken:
                factor, _ = looks("event", self._sample.column(name), self._now)
                if factor and len(pc.unique(self._sample.column(name))) <= MANY_VALUES:
                    candidates.append(_Candidate(name, 0.0, ""))
        ranked = []
        for item in candidates:
            values = self._values(item.column)
            if values is None:
                continue
            known = set(events_of(list(values), item.column).values())
            # Of a column of another name, one word like "open" is not enough.
            ranked.append((len(known) > (0 if item.score else 1), item))
        rivals = [item for known, item in ranked if known]
        if rivals and self._acts_on_something(rivals):
            return None
        if rivals:
            if len(rivals) > 1:
                best = max(item.score for item in rivals)
                rivals = [item for item in rivals if best - item.score < _ALIKE]
                rivals = self._different(rivals, "event")
            if len(rivals) == 1:
                score = max(rivals[0].score, 0.9)
                why = "some of its values are known spellings of events"
                self._take("event", replace(rivals[0], score=score, reason=why))
                return rivals[0].column
            self._compete("event", [item.column for item in rivals])
            return None
        strong = [item for _, item in ranked if item.score >= 0.9]  # noqa: PLR2004
        if len(strong) == 1 or (strong and strong[0].score - strong[1].score >= TIE):
            self._take("event", strong[0])
            return strong[0].column
        if len(strong) > 1:
            self._compete("event", [item.column for item in strong])
        return None

    def _acts_on_something(self, rivals: list[_Candidate]) -> bool:
        """Whether the values are bare verbs, and another column says of what: then it asks."""
        objects = [name for name in self._names if set(split_words(name)) & set(_ACTS_ON)]
        for item in rivals:
            known = events_of(list(self._values(item.column) or {}), item.column)
            if objects and all(len(split_words(value)) == 1 for value in known):
                self._compete("event", [item.column, *objects])
                return True
        return False

    def _event_settings(self, given: Mapping, event: Any) -> dict[str, Any]:
        """Translations of the values of the event column; those that are given stay."""
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
        found: dict[str, Any] = {"events": known}
        alone = {value: event_of(value) for value in unknown}
        said = {value: str(name) for value, name in alone.items() if name is not None}
        if said and len(unknown) == len(values):
            self._questions.append(
                Question(
                    "events",
                    (event,),
                    f"Is {' and '.join(map(repr, said))} in column {event!r} what an app does? A "
                    f"lone word could be of anything else. If so, give events={said!r}.",
                    needed=True,
                )
            )
        others = sum(unknown.values())
        if others and given.other_events == "invalid" and "other_events" not in self._said:
            found["other_events"] = "skip"
            self._choices.append(
                Choice(
                    "other_events",
                    "'skip'",
                    0.9,
                    f"{others:,} rows hold values that are none of the seven events; "
                    "other_events='send' sends these too",
                )
            )
        return found

    def _null_texts(self) -> tuple[str, ...]:
        """Words for nothing that stand in several columns of text."""
        found = []
        for word in _NULL_TEXTS:
            columns = 0
            for name in self._names:
                column = self._sample.column(name)
                if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                    columns += bool(pc.any(pc.equal(column, word)).as_py())
            if columns > 1:
                found.append(word)
                self._choices.append(
                    Choice("nulls", repr(word), 0.95, f"it stands in {columns} columns of text")
                )
        return tuple(found)

    def _nested(self, json: Sequence[str]) -> tuple[str, ...]:
        """Columns whose parts are the properties of the event."""
        found = []
        for name in self._names:
            if name in self._taken or name in json or fold(name) not in _JSON_NAMES:
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
                found.append(name)
                what = "key/value pairs" if keyed or pa.types.is_map(kind) else "JSON objects"
                self._choices.append(
                    Choice("expand", f"column {name!r}", 0.9, f"its name says so; it holds {what}")
                )
        return tuple(found)

    def _ask(self, given: Mapping, fields: dict[str, Any]) -> None:
        """Ask for what every message needs and nothing in the table says."""
        asked = {question.field for question in self._questions}

        def open_(name: str) -> bool:
            return fields.get(name) is None and getattr(given, name) is None

        if open_("user_id") and open_("anonymous_id") and not asked & {"user_id", "anonymous_id"}:
            self._questions.append(
                Question(
                    "user_id",
                    (),
                    "Who are these events about? No column says so for certain"
                    f"{self._perhaps(_ids)}. Give user_id='...' or anonymous_id='...', or both.",
                    needed=True,
                )
            )
        if open_("event") and "event" not in asked:
            hint = self._hint_of_event(fields.get("timestamp") or given.timestamp)
            self._questions.append(
                Question(
                    "event",
                    (),
                    "Which event are these rows? No column says so for certain. Give event='...' "
                    f"for a column, or event=cdp.lit({hint!r}) if all rows are that.",
                    needed=True,
                )
            )
        if open_("timestamp") and "timestamp" not in asked:
            self._questions.append(
                Question(
                    "timestamp",
                    (),
                    "When did it happen? No column says so for certain"
                    f"{self._perhaps(_times)}. Give timestamp='...'.",
                    needed=True,
                )
            )

    def _perhaps(self, fits: Callable[[str], bool]) -> str:
        """Columns that could be meant, for a question."""
        names = [repr(name) for name in self._names if name not in self._taken and fits(name)]
        return f"; perhaps {' or '.join(names[:3])} does" if names else ""

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


def _ids(name: str) -> bool:
    spelled = split_words(name)
    return len(spelled) > 1 and spelled[-1] in ("id", "uuid", "no", "number", "key", "hash")


def _times(name: str) -> bool:
    spelled = set(split_words(name))
    return bool(_CALLED_TIMES & spelled) and not _NOT_WHEN & spelled


def _readable(sample: Any) -> Any:
    """The columns of a table that can be looked at, without dictionaries and the like."""
    columns = {}
    for name, column in zip(sample.schema.names, sample.columns, strict=True):
        try:
            array = decode(column)
            array.validate(full=True)
        except pa.ArrowException:
            continue  # text that is no UTF-8, say: told row by row, and nothing to go by
        columns[name] = array
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


def _common(names: list[str]) -> tuple[str, ...]:
    """What many columns of a table begin with, such as ``payload``; fold."""
    counts: dict[str, int] = {}
    for name in names:
        spelled = split_words(name)
        for stop in range(1, min(len(spelled), 4)):
            start = "".join(spelled[:stop])
            counts[start] = counts.get(start, 0) + 1
    many = max(_MANY_COLUMNS, len(names) // 2)
    return tuple(start for start, count in counts.items() if count >= many)


def translations(values: dict[str, int], column: str) -> tuple[dict[str, str], list[Choice]]:
    """Known spellings among the values of an event column, and why.

    Args:
        values: How often each value occurs in the whole table.
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


def _how(field: str, column: str) -> str:
    tree, *names = field.split(".")
    if not names:
        return f"Give {field}={column!r}, say."
    inner = repr(column)
    for name in reversed(names):
        inner = f"{{{name!r}: {inner}}}"
    return f"Give {tree}={inner}, say."


def _zoneless(column: Any) -> bool:
    """Whether times of this column leave their zone open."""
    kind = column.type
    if is_number(kind):
        return False
    if pa.types.is_timestamp(kind):
        return kind.tz is None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        marked = pc.match_substring_regex(column, r"(^\d{9,19}$|[Zz]$|[+-]\d\d:?\d\d$|UTC$)")
        return not pc.all(marked).as_py()
    return True


def _comparable(column: Any, field: str) -> list[Any]:
    if field == "timestamp":
        return moments(column)
    return [None if cell is None else str(cell) for cell in column.to_pylist()]


def _same(one: list[Any], other: list[Any]) -> bool:
    """Whether two columns say the same wherever both say something."""
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    return bool(pairs) and all(a == b for a, b in pairs)


def _copied(tree: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _copied(value) if isinstance(value, dict) else value for name, value in tree.items()
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

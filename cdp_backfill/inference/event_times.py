"""Chooses when it happened: the column with the time of the event."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from cdp_backfill.inference.changes import log_of_changes
from cdp_backfill.inference.column_names import has_time_word
from cdp_backfill.inference.column_names import rank as rank_of
from cdp_backfill.inference.draft import NOBODY, Candidate, best_of, listed
from cdp_backfill.inference.event_columns import verbs
from cdp_backfill.inference.event_spellings import event_of, events_of
from cdp_backfill.inference.samples import EARLIEST, matches_all
from cdp_backfill.inference.time_forms import time_form
from cdp_backfill.inference.zones_beside import zones_beside
from cdp_backfill.messages.expressions import quote
from cdp_backfill.model import api_facts

if TYPE_CHECKING:
    from cdp_backfill.inference.draft import Draft
    from cdp_backfill.inference.samples import SampleColumn

_MIN_SHARE: Final = 0.9
"""Share of the cells that must be times; each other row is reported later."""

_DONE: Final = 2
"""Rank of names that say when one thing was done, such as ``purchased_at``."""

_CREATED: Final = 3
"""Rank of names that say when a row was made."""

_ONE_MOMENT: Final = 5
"""Rows with one and the same time of day that show when a table was loaded."""

_REPEATED: Final = 3
_MONTHS: Final = 3
_MAX_CANDIDATES: Final = 3
_UNITS: Final = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}

_NUMBER: Final = r"^[\d.]+$"
_UPDATED: Final = frozenset(
    [(verb, word) for verb in ("updated", "upgraded") for word in ("at", "on", "time", "timestamp")]
)
"""Names of the time of an update, in a table that says from which version it was."""

_MEANINGS: Final = (
    (
        {"load", "loaded", "etl", "dwh", "ingest", "ingested", "ingestion", "import", "imported"},
        "loaded",
    ),
    ({"receive", "received", "collector", "collected", "server"}, "received"),
    ({"sync", "synced", "fivetran"}, "synced"),
    ({"export", "exported", "extract", "extracted", "emitted", "fetched"}, "exported"),
    ({"processed", "processing"}, "processed"),
    ({"partition", "batch"}, "put into a partition"),
    ({"updated", "modified", "changed"}, "last changed"),
    ({"insert", "inserted", "created", "stored"}, "made"),
    ({"sent", "uploaded", "upload"}, "sent"),
)
"""Words that explain in a question what a time is."""

_ABOUT_THE_COPY: Final = frozenset().union(*(words for words, _ in _MEANINGS[:6]))
"""Words of times about the copy of a row, never about what it tells."""

_PLANNED: Final = frozenset(
    [
        "scheduled", "planned", "expected", "estimated", "eta", "expiry", "expires", "expiration",
        "valid", "until", "due", "deadline", "next", "birth", "born", "billing", "renewal",
        "promised",
    ]
)  # fmt: skip
"""Words of times that lie ahead, or long ago."""


def choose_time(draft: Draft) -> None:
    """Choose the time column, or ask. Who and what are chosen before."""
    if draft.given.timestamp is not None:
        return
    rejected: dict[str, str] = {}
    candidates = []
    changes = log_of_changes(draft.sample)
    for column, rank in _named(draft):
        if changes is not None:
            rejected[column.name] = f"{changes!r} says that the rows are changes of a table"
            continue
        share = _share(draft, column)
        reason = _why_not(draft, column, rank, share)
        if reason is None:
            days = column.day_only
            # A day is worse than any moment.
            candidates.append(Candidate(column, rank + 10 * days, share, _describe(column)))
        else:
            rejected[column.name] = reason
    candidates.sort(key=lambda each: each.column.has_no_zone)
    rivals = best_of(candidates, lambda column: column.moments)
    if len(rivals) > 1:
        names = [each.name for each in rivals]
        draft.ask(
            "timestamp",
            f"{listed(names)} look equally like the time of the event but hold different times.",
            [answer for name in names for answer in _answers(draft, name)],
            names,
        )
    elif rivals:
        _take(draft, rivals[0])
    else:
        _ask(draft, rejected)


def _named(draft: Draft) -> list[tuple[SampleColumn, int]]:
    """The columns whose names are those of the time of an event."""
    named = draft.named("timestamp")
    if draft.named("properties.previous_version"):
        free = (column for column in draft.sample if column.name not in draft.used)
        named += [(column, 1) for column in free if column.core in _UPDATED]
    return named


def _take(draft: Draft, candidate: Candidate) -> None:
    column = candidate.column
    draft.fields["timestamp"] = column.name
    draft.take("timestamp", candidate)
    if candidate.rank % 10 == _CREATED:
        draft.assume(
            "timestamp",
            f"{column.name!r} says when each row was made, and that is when the event happened.",
            "timestamp='...'",
        )
    assume_forms(draft, column)


def assume_forms(draft: Draft, column: SampleColumn) -> None:
    """Say how the times of a column are read: their zone, their unit, and days without a time.

    Args:
        draft: The draft.
        column: The column.
    """
    times, given = column.times, draft.given
    if times is None:
        return
    name = column.name
    if column.day_only:
        draft.assume(
            "timestamp",
            f"{name!r} holds days without a time of day; each event is sent as of 00:00.",
            "timestamp='...'",
        )
    beside = None
    if given.timezone is None:
        form = time_form(column)
        formats = () if form is None else form.formats
        if len(formats) < 2:  # noqa: PLR2004  # else, the order of the dates is asked for first
            moment = f"{quote(name)}::TIMESTAMP" if form is None else form.expression(name)
            beside = zones_beside(draft.sample, column, moment)
    if beside is not None:
        draft.ask("timezone", *beside)
    elif times.naive.any() and given.timezone is None:
        draft.assume(
            "timezone",
            f"The times in {name!r} carry no zone and are read as UTC.",
            "timezone='Europe/Berlin' or another zone",
        )
    units = [unit for unit, mask in times.units.items() if mask.any()]
    if units and given.timestamp_unit is None:
        named = " and ".join(_UNITS[unit] for unit in units)
        draft.assume(
            "timestamp_unit",
            f"The numbers in {name!r} are {named} since 1970, as their size shows.",
            "timestamp_unit='...'",
        )


def _share(draft: Draft, column: SampleColumn) -> float:
    """Share of the filled cells that are times at which an event can have happened."""
    times = column.times if draft.sample.may_hold_times(column) else None
    if times is None or times.missing.all():
        return 0.0
    latest = draft.now + timedelta(hours=api_facts.FUTURE_HOURS)
    good = ~(times.missing | times.bad | times.unclear)
    good &= (times.millis >= EARLIEST) & (times.millis <= int(latest.timestamp() * 1000))
    return float(good.sum() / (~times.missing).sum())


def _why_not(draft: Draft, column: SampleColumn, rank: int, share: float) -> str | None:
    """The reason against a column whose name is that of a time of the event."""
    if column.time_of_day:
        return "it holds times of day, without a day"
    if share < _MIN_SHARE:
        return "it is empty" if not len(column.filled) else _why_unreadable(column)
    if "local" in column.words and column.has_no_zone:
        return "it holds local times, and no cell says in which time zone"
    moments = [each for each in column.moments if each is not None]
    days = column.day_only
    reason = _why_no_days(draft, column, rank, moments) if days else None
    if reason is None and len(moments) >= _ONE_MOMENT and len(set(moments)) == 1 and not days:
        reason = "all of its times are the same, as those of a load are"
    if reason is None:
        reason = _why_other_event(draft, column, rank)
    if reason is None and rank == _CREATED and not _has_event(draft):
        reason = "it says when each row was made, which may be the day on which a person signed up"
    if reason is None and _is_about_person(draft, column):
        reason = "it is the same in all rows of a person, so it is about the person"
    return reason


def _why_unreadable(column: SampleColumn) -> str:
    if column.is_number:
        return "its numbers are not times since 1970"
    times = column.times
    read = 0 if times is None else int((~(times.missing | times.bad | times.unclear)).sum())
    if times is not None and read and read >= _MIN_SHARE * int((~times.missing).sum()):
        return "some of its times are in the future, or before there were apps"
    return "its cells cannot be read as times for certain"


def _why_no_days(draft: Draft, column: SampleColumn, rank: int, moments: list[int]) -> str | None:
    """The reason against a column of days."""
    other = next((each for each in draft.sample if _is_time_of_day(each, column)), None)
    if other is not None:
        return f"it holds days, and the time of day is in {other.name!r}"
    days = np.unique(np.array(moments, dtype="M8[ms]").astype("M8[D]"))
    firsts = (days == days.astype("M8[M]").astype("M8[D]")).all()
    if firsts and len(days) >= _MONTHS:
        return "it holds months"
    if not _has_event(draft):
        return "it holds days, and no column says what happened on them"
    if rank:
        return "it holds days, and its name does not say of what"
    return None


def _has_event(draft: Draft) -> bool:
    """Whether a column says what happened, even if it is not certain which."""
    return draft.value("event") is not None or draft.is_asked("event")


def _is_time_of_day(column: SampleColumn, day: SampleColumn) -> bool:
    if column.name == day.name:
        return False
    if column.time_of_day:
        return True
    return column.words[-1:] in (("hour",), ("minute",), ("minutes",), ("hours",))


def _why_other_event(draft: Draft, column: SampleColumn, rank: int) -> str | None:
    """The reason against a time such as ``installed_at`` beside other events."""
    spoken = verbs(column.words)
    if not spoken:
        return _why_another_time(draft, column) or _why_other_deed(draft) if rank == _DONE else None
    event = draft.column("event")
    constant = draft.constant_event
    if event is not None:
        named = {event_of(value) for value in event.texts}
    elif constant is not None:
        named = {event_of(constant)}
    else:
        return None
    return None if named <= spoken else "it is the time of one event only, and there are others"


def _why_another_time(draft: Draft, column: SampleColumn) -> str | None:
    """The reason against a time beside others that may be the one of the event."""
    for other in draft.sample:
        words = set(other.words)
        if (
            other.name != column.name
            and other.name not in draft.used
            and not words & (_ABOUT_THE_COPY | _PLANNED)
            and (
                has_time_word(other.words)
                or not (other.is_number or matches_all(other.texts, _NUMBER))
            )
            and _share(draft, other) > 0
        ):
            return f"another time is in {other.name!r}"
    return None


def _why_other_deed(draft: Draft) -> str | None:
    """The reason against a time such as ``purchased_at`` beside the events of an app."""
    event = draft.value("event")
    values = (draft.values(event) or {}) if isinstance(event, str) else {}
    is_of_app = draft.constant_event is not None or events_of(values, str(event))
    return "it is the time of one event only, and there are others" if is_of_app else None


def _is_about_person(draft: Draft, column: SampleColumn) -> bool:
    """Whether people have several rows, and each of them one and the same time in all."""
    who = draft.column("user_id") or draft.column("anonymous_id")
    if who is None:
        return False
    moments: dict[str, set[int]] = {}
    rows: dict[str, int] = {}
    for person, moment in zip(who.ids.to_pylist(), column.moments, strict=True):
        if person is not None and moment is not None:
            moments.setdefault(person, set()).add(moment)
            rows[person] = rows.get(person, 0) + 1
    repeated = [person for person, count in rows.items() if count > 1]
    different = {moment for person in repeated for moment in moments[person]}
    return (
        len(repeated) >= _REPEATED
        and len(different) > 1
        and all(len(moments[person]) == 1 for person in repeated)
    )


def _describe(column: SampleColumn) -> str:
    return "its cells are days" if column.day_only else "its cells are times"


def _ask(draft: Draft, rejected: dict[str, str]) -> None:
    """Ask for the time, naming the best candidates with the reason against each."""
    reasons = dict(rejected)
    for column in draft.sample:
        if column.name in draft.used or column.name in reasons:
            continue
        named = has_time_word(column.words) and column.times is not None
        if named or (not column.is_number and _share(draft, column) >= _MIN_SHARE):
            reasons[column.name] = _meaning(draft, column)
    text = f"{NOBODY}the time of the event."
    names = list(reasons)[:_MAX_CANDIDATES]
    if len(reasons) == 1:
        text = f"{text} {names[0]!r} is the only time column of the table, but {reasons[names[0]]}."
    elif names:
        text = f"{text} {' '.join(f'{name!r}: {reasons[name]}.' for name in names)}"
    answers = _joined(draft, rejected)
    answers += [answer for name in names[:1] for answer in _answers(draft, name)]
    draft.ask("timestamp", text, answers or ["timestamp='...'"], names)


def _answers(draft: Draft, name: str) -> list[str]:
    """The arguments that make a column the time."""
    column = draft.sample[name]
    if _share(draft, column) < _MIN_SHARE and column.is_text and not column.time_of_day:
        expression = f"try_strptime({quote(name)}, '%Y-%m-%d %H:%M:%S')"
        return [
            f"timestamp='moment', derive={{'moment': {expression!r}}} with the form of its cells"
        ]
    zone = ", timezone='...'" if "local" in column.words and column.has_no_zone else ""
    return [f"timestamp={name!r}{zone}"]


def _joined(draft: Draft, rejected: dict[str, str]) -> list[str]:
    """How to join a day and a time of day."""
    clock = next((each for each in draft.sample if each.time_of_day), None)
    for name in rejected:
        day, form = draft.sample[name], time_form(draft.sample[name])
        if clock is None or day.is_number:
            continue
        days = [quote(name)] if day.day_only else []
        if form is not None and form.day_only:
            days = [form.expression(name, place) for place in range(len(form.formats))]
        joined = [f"{each}::DATE + {quote(clock.name)}::TIME" for each in days]
        if joined:
            return [f"timestamp='moment', derive={{'moment': {each!r}}}" for each in joined]
    return []


def _meaning(draft: Draft, column: SampleColumn) -> str:
    """What the name of a time says, in words."""
    for words, what in _MEANINGS:
        if words & set(column.words):
            return f"its name says when it was {what}"
    if _share(draft, column) < _MIN_SHARE:
        return "its cells cannot be read as times for certain"
    if rank_of(column.name, "timestamp") is not None:
        return "it fills another field"
    return "its name does not say that it is when the event happened"

"""Chooses who did it: the id of a person, and the anonymous id of an install or a device."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cdp_backfill.inference.column_names import (
    ID_WORDS,
    OTHER_PEOPLE,
    PERHAPS_PERSON,
    PERSON_WORDS,
    ROLE_WORDS,
)
from cdp_backfill.inference.draft import NO_PERSON, NOBODY, Candidate, best_of, listed
from cdp_backfill.inference.identifiers import (
    Identity,
    are_numbered,
    are_random,
    identity,
    why_no_devices,
    why_no_ids,
)
from cdp_backfill.inference.personal_data import named_personal
from cdp_backfill.inference.samples import are_equal
from cdp_backfill.inference.sums import daily_sums

if TYPE_CHECKING:
    from cdp_backfill.inference.draft import Draft
    from cdp_backfill.inference.samples import SampleColumn

_MAX_CANDIDATES: Final = 3
_LONG: Final = 5_000
"""Rows that can all be of a few people, if a table is sorted by person."""

_MANY: Final = 5
_HARDWARE: Final = frozenset(["an advertising id", "an id of the hardware"])
_ROLE: Final = 1
"""Rank of names of people in a role."""

_VENDORS_IDS: Final = (("distinct", "id"), ("identity",))
"""Ids of a company's own people in exports whose vendor has ids of people, too."""

_SHARED: Final = 0.3
"""Share of the devices with several rows that are of several people."""

_EITHER: Final = ("user_id='...'", "anonymous_id='...'")
_PERSONAL_IDS: Final = frozenset(["email", "login", "username", "identity", "adid"])
"""Names of columns that companies also tell people apart by."""


def choose_people(draft: Draft) -> None:
    """Choose the columns of who, or ask."""
    devices = [
        Candidate(column, rank, 1.0, "its cells are ids")
        for column, rank in draft.named("anonymous_id")
        if why_no_devices(column, draft.sample) is None
    ]
    anonymous: list[Candidate] = []
    rejected: dict[str, str] = {}
    if draft.given.user_id is None:
        anonymous = _choose_user(draft, [each.column for each in devices], rejected)
    if draft.given.anonymous_id is None:
        _choose_anonymous(draft, [*anonymous, *devices])
    if not draft.given.user_id and not draft.given.anonymous_id:
        _ask_who(draft, rejected)


def _choose_user(
    draft: Draft, devices: list[SampleColumn], rejected: dict[str, str]
) -> list[Candidate]:
    """Choose the id of a person.

    Args:
        draft: The draft.
        devices: Columns with ids of devices.
        rejected: Receives the columns that are named like ids of people, with the reason against.

    Returns:
        The columns whose cells say that they are anonymous.
    """
    people: list[tuple[Candidate, Identity]] = []
    anonymous = []
    for column, rank in draft.named("user_id"):
        reason = _why_not(draft, column)
        if reason is not None:
            rejected[column.name] = reason
            continue
        found = _identity(draft, column, devices)
        candidate = Candidate(column, rank, 1.0, found.reason)
        if found.kind == "anonymous":
            anonymous.append(replace(candidate, rank=-1))
        else:
            people.append((candidate, found))
    rivals = best_of([each for each, _ in people], lambda column: column.ids.to_pylist())
    if len(rivals) > 1:
        names = [each.name for each in rivals]
        draft.ask(
            "user_id",
            f"{listed(names)} look equally like the id of a person but hold different values.",
            [f"user_id={name!r}" for name in names],
            names,
        )
    elif rivals:
        found = next(found for each, found in people if each is rivals[0])
        if found.kind != "person" or not _asks_which(draft, rivals[0], devices):
            _take_or_ask(draft, rivals[0], found)
    return anonymous


def _asks_which(draft: Draft, candidate: Candidate, devices: list[SampleColumn]) -> bool:
    """Ask if another person is in the rows, too, and may be the one who did it.

    A column that says ``user`` is of who uses the app, whoever else is in the row.
    """
    words = set(candidate.column.core)
    others = _other_people(draft, candidate.column)
    if "actor" in words or ("user" in words and not ROLE_WORDS & words):
        others = [name for name in others if draft.sample[name].core == ("identity",)]
    if others:
        names = [candidate.name, *others][:_MAX_CANDIDATES]
        draft.ask(
            "user_id",
            f"{listed(names)} are of different people, and only one of them did it.",
            [f"user_id={name!r}" for name in names],
            names,
        )
        return True
    shared = None
    if candidate.rank == _ROLE:
        shared = next((each for each in devices if _is_shared(each, candidate.column)), None)
    if shared is not None:
        draft.ask(
            "user_id",
            f"{candidate.name!r} is named like the id of a person, but one and the same "
            f"{shared.name!r} has several of them, so the app may be used by another person.",
            [f"user_id={candidate.name!r}", f"anonymous_id={shared.name!r}"],
            [candidate.name],
        )
    return shared is not None


def _other_people(draft: Draft, chosen: SampleColumn) -> list[str]:
    """The columns with ids of other people than those of a chosen column."""
    words = PERSON_WORDS | OTHER_PEOPLE
    mine = chosen.ids.to_pylist()
    return [
        column.name
        for column in draft.sample
        if column.name not in draft.used | {chosen.name}
        and ((_is_id(column) and words & set(column.core)) or column.core[-2:] in _VENDORS_IDS)
        and why_no_ids(column, any_variety=True) is None
        and not are_equal(mine, column.ids.to_pylist())
    ]


def _is_shared(device: SampleColumn, person: SampleColumn) -> bool:
    """Whether many devices are of several people, so that a person is no owner of a device."""
    people: dict[str, list[str]] = {}
    for one, other in zip(device.ids.to_pylist(), person.ids.to_pylist(), strict=True):
        if one is not None and other is not None:
            people.setdefault(one, []).append(other)
    repeated = [found for found in people.values() if len(found) > 1]
    several = sum(len(set(found)) > 1 for found in repeated)
    return several > _SHARED * len(repeated)


def _why_not(draft: Draft, column: SampleColumn) -> str | None:
    """The reason against a column whose name is that of the id of a person."""
    reason = why_no_ids(column, bare=column.core[-1] in PERSON_WORDS and not _is_id(column))
    # Where a table is sorted by person, its first rows are of few people.
    is_long = reason is not None and len(column.filled) >= _LONG
    if is_long and why_no_ids(column, any_variety=True) is None:
        reason = None if draft.values(column.name) is None else reason
    return reason


def _identity(draft: Draft, column: SampleColumn, devices: list[SampleColumn]) -> Identity:
    found = identity(column, draft.sample, devices)
    if found.kind != "person" or found.proven:
        return found
    hardware = (each for each in draft.sample if named_personal(each.name) in _HARDWARE)
    of_hardware = identity(column, draft.sample, hardware)
    if of_hardware.kind != "person":
        return replace(of_hardware, kind="doubt", proven=False)
    # Such ids are anonymous until a person logs in.
    if column.core[-2:] == ("distinct", "id") and are_random(column):
        return Identity("doubt", "its cells are random, as those of anonymous people are")
    is_of_rows = column.distinct == len(column.filled) >= _MANY
    numbered = is_of_rows and are_numbered(column)
    if numbered and ROLE_WORDS & set(column.core):
        return Identity("doubt", "its cells count the rows")
    if column.core == ("uid",) and (numbered or (is_of_rows and are_random(column))):
        return Identity("doubt", "its cells differ in every row, as ids of rows do")
    return found


def _is_empty(draft: Draft, name: str) -> bool:
    """Whether a column is empty in the whole table."""
    return not len(draft.sample[name].filled) and draft.values(name) == {}


def _take_or_ask(draft: Draft, candidate: Candidate, found: Identity) -> None:
    name = candidate.name
    if found.kind == "person":
        draft.fields["user_id"] = name
        draft.take("user_id", candidate)
        draft.assume("user_id", f"Each value of {name!r} is the id of one person.", "user_id='...'")
        return
    answer = f"user_id={name!r}"
    if found.expression is not None:
        answer = f"user_id='person', derive={{'person': {found.expression!r}}}"
    text = f"{name!r} is named like the id of a person, but {found.reason}."
    draft.ask("user_id", text, [answer, f"anonymous_id={name!r}"], [name])


def _choose_anonymous(draft: Draft, candidates: list[Candidate]) -> None:
    """Choose the id of an install or a device; it is no question where all people are known."""
    asked = {name for question in draft.questions for name in question.columns}
    free = [each for each in candidates if each.name not in draft.used | asked]
    rivals = best_of(free, lambda column: column.ids.to_pylist())
    if len(rivals) == 1:
        name = rivals[0].name
        draft.fields["anonymous_id"] = name
        draft.take("anonymous_id", rivals[0])
        draft.assume(
            "anonymous_id",
            _who_is_anonymous(draft, name),
            "user_id='...'" if draft.value("user_id") is None else "anonymous_id='...'",
        )
    elif rivals and not _knows_everybody(draft):
        names = [each.name for each in rivals]
        draft.ask(
            "anonymous_id",
            f"{listed(names)} look equally like an anonymous id but hold different values.",
            [f"anonymous_id={name!r}" for name in names],
            names,
        )


def _who_is_anonymous(draft: Draft, name: str) -> str:
    if draft.value("user_id") is None:
        return (
            f"{NO_PERSON}{name!r} tells installs, devices or visitors apart, and becomes "
            "anonymousId."
        )
    return f"{name!r} tells installs, devices or visitors apart, and becomes anonymousId."


def _knows_everybody(draft: Draft) -> bool:
    column = draft.column("user_id")
    return column is not None and column.ids.null_count == 0


def _ask_who(draft: Draft, rejected: dict[str, str]) -> None:
    """Ask who it was, if nobody is found, or only a device beside a column that may be a person."""
    if draft.fields.get("user_id") or draft.is_asked("user_id") or draft.is_asked("anonymous_id"):
        return
    likely = rejected | {
        column.name: reason
        for column in draft.sample
        if column.name not in draft.used | set(rejected) and (reason := _perhaps(column))
    }
    if draft.fields.get("anonymous_id"):
        likely = {name: why for name, why in likely.items() if not _is_empty(draft, name)}
        if not likely:
            return
    if not likely and (sums := daily_sums(draft)):
        draft.are_sums = True
        draft.ask("user_id", sums, ())
        return
    answers = [f"user_id={name!r}" for name in list(likely)[:1]] + ["anonymous_id='...'"]
    if not likely:
        answers = list(_EITHER)
        likely = {
            column.name: _name_against(column)
            for column in draft.sample
            if column.name not in draft.used and _is_id(column)
        }
    names = list(likely)[:_MAX_CANDIDATES]
    reasons = [f"{name!r}: {likely[name]}." for name in names]
    text = " ".join([f"{NOBODY}the id of a person.", *reasons])
    draft.ask("user_id", text, answers, names)


def _is_id(column: SampleColumn) -> bool:
    """Whether a name says that it is of ids: at its end, or at its start in some languages."""
    words = column.core
    return len(words) > 1 and (words[-1] in ID_WORDS or words[0] in ("id", "number"))


def _perhaps(column: SampleColumn) -> str | None:
    """The reason against a column that may be the id of a person; None if it is none."""
    words = column.core
    people = PERSON_WORDS | PERHAPS_PERSON
    if words[-1] == "uid" or (_is_id(column) and people & {words[-2], words[-1]}):
        return why_no_ids(column) or _name_against(column)
    if words[-1] in _PERSONAL_IDS or words[-2:] in (("email", "address"), ("user", "name")):
        return None if column.is_truth else "its cells are personal data, not ids"
    return None


def _name_against(column: SampleColumn) -> str:
    """Why the name of a column is not that of the id of a person."""
    others = [word for word in column.core if word not in ID_WORDS | PERSON_WORDS]
    if not others:
        return "its name does not say that it is of a person"
    return f"its name also says {listed(others)}, so it may be another thing than a person"

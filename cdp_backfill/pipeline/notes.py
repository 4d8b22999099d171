"""Sentences that plans and reports share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdp_backfill.model import api_facts
from cdp_backfill.model.mapping import Lit
from cdp_backfill.model.outcomes import AMBIGUOUS, PROBLEMS, UNMAPPED, Problem
from cdp_backfill.model.plurals import count

if TYPE_CHECKING:
    from cdp_backfill.inference.proposal import Proposal
    from cdp_backfill.model.mapping import Mapping

DUPLICATE: Final = Problem("duplicate", None, "an earlier row has the same message id")
"""Why rows are left out that have the id of an earlier row."""


def join_reasons(problems: tuple[Problem, ...]) -> str:
    """All reasons of a row in one text."""
    return "; ".join(problem.reason for problem in problems)


def harm_notes(mapping: Mapping) -> list[str]:
    """What a mapping can do to people, devices and destinations."""
    notes = []
    if mapping.call == "identify":
        traits = (
            " It writes traits over the present attributes of people." if mapping.traits else ""
        )
        notes.append(
            "An identify call acts when it is sent. It creates people who do not exist yet, and "
            "joins events that the API holds for the anonymous id; those younger than "
            f"{api_facts.RECENT_HOURS} hours can trigger campaigns.{traits}"
        )
    if mapping.allow_commands:
        notes.append(
            f"allow_commands lets {', '.join(mapping.allow_commands)} pass. The API does not "
            "record such an event: it deletes or changes people, devices or objects."
        )
    if "token" in mapping.context.get("device", {}):
        events = ", ".join(api_facts.DEVICE_EVENTS)
        notes.append(
            f"context.device.token is filled. With {events}, the push token of an old event can "
            "register a device of a person anew, or delete one that is in use. Leave the token out "
            "unless all tokens are current."
        )
    settings = mapping.integrations
    off = settings.get("All") == Lit(value=False)
    named = [value for name, value in settings.items() if name != "All"]
    if off and all(value == Lit(value=False) for value in named):
        notes.append(
            "integrations turns all destinations off ('All': False) and names none, so that no "
            "destination gets the events. To name one: integrations={'All': False, 'NAME': True}."
        )
    return notes


def plan_alerts(
    mapping: Mapping,
    problems: dict[Problem, int],
    *,
    recent: int,
    recent_people: int,
    unmapped: int,
    unreadable: tuple[int, int],
    of_identities: list[str],
) -> list[str]:
    """What can do harm, in sentences; a plan begins with them.

    Args:
        mapping: The mapping.
        problems: Rows by problem.
        recent: Rows that are recent and can trigger messages to people.
        recent_people: Number of people that these rows are about.
        unmapped: Rows with an event that nobody mapped.
        unreadable: Rows that cannot be read, and all rows.
        of_identities: The same sentences for the identities that are sent first.
    """
    alerts = []
    commands = {p: rows for p, rows in problems.items() if p.code == "command"}
    if commands:
        rows = sum(commands.values())
        names = [f"{p.reason.partition(' is ')[0]} ({n:,})" for p, n in commands.items()]
        alerts.append(
            f"{count(rows, 'row')} {'names a command' if rows == 1 else 'name commands'} of "
            "the API, which deletes or changes people, devices or objects: "
            f"{', '.join(names)}. The run does not send {'it' if rows == 1 else 'them'}."
        )
    if unmapped:
        them = "it" if unmapped == 1 else "them"
        alerts.append(
            f"{count(unmapped, 'row')} {'has' if unmapped == 1 else 'have'} an event value that "
            f"nobody mapped. The run leaves {them} out and counts {them} as missing. "
            f"{PROBLEMS[UNMAPPED]}"
        )
    broken, total = unreadable
    if broken:
        alerts.append(
            f"{count(broken, 'row')} of {total:,} ({broken / total:.1%}) cannot be read and will "
            "not be sent. The failures of the run will have the file, the line and the text of "
            "each."
        )
    ambiguous = sum(n for problem, n in problems.items() if problem.code == AMBIGUOUS)
    if ambiguous:
        alerts.append(
            f"{count(ambiguous, 'identity', 'identities')} {'has' if ambiguous == 1 else 'have'} "
            "an anonymous id with more than one user id. Which is right is not known, so the run "
            "sends none of them."
        )
    alerts += of_identities
    alerts += harm_notes(mapping)
    if recent:
        alerts.append(
            f"{count(recent, 'row')} of {count(recent_people, 'person', 'people')} "
            f"{'is' if recent == 1 else 'are'} younger than {api_facts.RECENT_HOURS} "
            "hours and can trigger campaigns that message people. By default a run sends "
            "nothing then; recent='hold' leaves such rows out, recent='send' sends them."
        )
    return alerts


def mapping_notes(proposal: Proposal, naive: int, event_keys: set[str]) -> tuple[str, ...]:
    """What a plan and a report say about the use of a mapping.

    Args:
        proposal: The mapping.
        naive: Number of times that carry no zone.
        event_keys: Keys of the mapping's ``events`` that occur in the table.
    """
    mapping, notes = proposal.mapping, [*proposal.notes]
    if naive:
        zone = f"{mapping.timezone}, as timezone says" if mapping.timezone else "UTC"
        advice = "" if mapping.timezone else " If that is wrong, pass timezone='...'."
        notes.append(f"{naive:,} times carry no zone and are read as {zone}.{advice}")
    unused = [repr(key) for key in mapping.events if key not in event_keys]
    if unused and isinstance(mapping.event, str) and not proposal.preset:
        notes.append(
            f"No row of column {mapping.event!r} holds {', '.join(unused)}, which events= "
            "translates. Check the spelling."
        )
    return tuple(notes)

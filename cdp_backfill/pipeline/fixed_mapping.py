"""A journal fixes the mapping of its first run: a later proposal makes no other message ids."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from cdp_backfill.errors import JournalError
from cdp_backfill.inference.proposal import Proposal
from cdp_backfill.model.mapping import Key, Lit, Mapping
from cdp_backfill.model.plurals import count
from cdp_backfill.pipeline.journal import read_journal

if TYPE_CHECKING:
    from pathlib import Path

_MAX_DIFFERENCES: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a call said about its mapping, where the rest was proposed.

    Attributes:
        fields: The fields of the mapping that were passed as keywords.
        preset: The preset that was passed, or None.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    preset: str | None = None


def with_fixed_mapping(proposal: Proposal, given: Given, path: Path) -> Proposal:
    """The proposal with the mapping of the journal, if there is one.

    Columns that no earlier table had become what ``rest`` of that mapping says; those of personal
    data that nobody named stay out. A note shows what would be proposed otherwise.

    Args:
        proposal: What is proposed for the table as it is now.
        given: What the call said itself.
        path: The journal, which need not exist.

    Raises:
        JournalError: The call itself asks for another mapping, or the journal cannot be read.
    """
    if not path.is_file() or not path.stat().st_size:
        return proposal
    contents = read_journal(path)
    fixed = contents.mapping
    others = [name for name, value in _passed(given.fields) if not _within(value, fixed, name)]
    if given.preset is not None and given.preset != contents.preset:
        others.append("preset")
    if others:
        raise JournalError(
            f"The journal {path} belongs to a backfill with another mapping: "
            f"{', '.join(others)} {'differs' if len(others) == 1 else 'differ'}. Under another "
            "mapping the same rows become other messages. Leave the argument out to use the "
            "mapping of the journal, or pass another journal."
        )
    new = [
        each.column
        for each in proposal.left_out
        if each.column not in contents.columns | set(fixed.columns())
    ]
    mapping = fixed
    if fixed.rest == "properties" and contents.columns and new:
        mapping = replace(fixed, drop=[*fixed.drop, *new])
    left_out = tuple(each for each in proposal.left_out if each.column in mapping.drop)
    return Proposal(mapping, left_out=left_out, notes=_differences(path, mapping, proposal.mapping))


def _passed(fields: dict[str, Any]) -> list[tuple[str, Any]]:
    """The fields of a call, as a mapping holds them."""
    mapping = Mapping(**fields)
    return [(name, getattr(mapping, name)) for name in fields]


def _within(value: Any, fixed: Mapping, name: str) -> bool:
    """Whether a mapping has what a call passed for a field: dicts and lists may have more."""
    stored = getattr(fixed, name)
    if isinstance(value, dict):
        return _leaves(value).items() <= _leaves(stored).items()
    if isinstance(value, tuple | list):
        return set(value) <= set(stored)
    return bool(value == stored)


def _leaves(tree: dict[str, Any], above: str = "") -> dict[str, Any]:
    """The values of a tree by their paths."""
    result = {}
    for name, value in tree.items():
        path = f"{above}{name}"
        result.update(_leaves(value, f"{path}.") if isinstance(value, dict) else {path: value})
    return result


def _differences(path: Path, used: Mapping, proposed: Mapping) -> tuple[str, ...]:
    """A note on the fields that would be proposed in another way now."""
    now, before = (_leaves(each.to_dict() | {"types": {}}) for each in (proposed, used))
    names = sorted(name for name in {*now, *before} if now.get(name) != before.get(name))
    if not names:
        return ()
    listed = [
        f"{name}={_text(before.get(name))}, not {_text(now.get(name))}"
        for name in names[:_MAX_DIFFERENCES]
    ]
    more = f"; and {len(names) - _MAX_DIFFERENCES} more" if names[_MAX_DIFFERENCES:] else ""
    note = (
        f"The journal {path} fixes the mapping of its first run. In "
        f"{count(len(names), 'place')} the table as it is now would get another proposal, which is "
        f"not used: {'; '.join(listed)}{more}. For another mapping, pass another journal."
    )
    return (note,)


def _text(value: Any) -> str:
    if isinstance(value, Lit | Key):
        return f"cdp.{value!r}"
    return "nothing" if value is None else repr(value)

"""Chooses the message id, the documented properties and the paths of the context."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.inference.column_names import OBJECT_NAMES, RULES, rank
from cdp_backfill.inference.content_checks import check_content, means_device_type
from cdp_backfill.inference.draft import Candidate, best_of, text_cells
from cdp_backfill.inference.identifiers import why_no_devices, why_no_ids
from cdp_backfill.inference.personal_data import judge
from cdp_backfill.inference.proposal import Choice, LeftOut
from cdp_backfill.model.arrow_types import is_json
from cdp_backfill.model.mapping import Lit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdp_backfill.inference.draft import Draft
    from cdp_backfill.inference.samples import Sample, SampleColumn

_UNIQUE: Final = 0.999
"""Share of message ids that must be different."""

_LONG_ID: Final = 12
"""Digits of the shortest number that two tables have in common by chance only."""

_RANDOM: Final = re.compile(r"(?=.*\d)[\w-]{16,}")
_PATHS: Final = [path for path in RULES if "." in path]
_WHO: Final = ("user_id", "anonymous_id")
_TWINS: Final = {
    "properties.version": ("context", "app", "version"),
    "properties.build": ("context", "app", "build"),
}
"""Properties that the SDKs also write into the context, which destinations read."""


def choose_message_id(draft: Draft) -> None:
    """Choose the message id, if a column holds one for every row; else the content makes it."""
    if draft.given.message_id is not None:
        return
    candidates = [
        Candidate(column, rank, 1.0, "its cells are different in every row")
        for column, rank in draft.named("message_id")
        if _is_message_id(draft, column, rank)
    ]
    rivals = best_of(candidates, text_cells)
    if len(rivals) == 1:
        draft.fields["message_id"] = rivals[0].name
        draft.take("message_id", rivals[0])


def _is_message_id(draft: Draft, column: SampleColumn, rank: int) -> bool:
    filled = len(column.filled)
    if why_no_ids(column) is not None or column.distinct < _UNIQUE * filled:
        return False
    if any(text.isdigit() and len(text) < _LONG_ID for text in column.texts):
        return False  # the number of a row, which another table has as well
    if rank == 0:
        return True
    # "id" alone can be of anything. It is of the row if people have several rows.
    who = draft.column("user_id") or draft.column("anonymous_id")
    return (
        who is not None
        and draft.value("event") is not None
        and who.distinct < len(who.filled)
        and all(_RANDOM.fullmatch(text) for text in column.texts)
    )


def choose_paths(draft: Draft) -> None:
    """Choose the documented properties and the paths of the context.

    A column with less evidence stays a property under its own name, without a question.
    """
    trees = {
        "properties": _copy_tree(draft.given.properties),
        "context": _copy_tree(draft.given.context),
    }
    for path in _PATHS:
        tree, *names = path.split(".")
        twin = _TWINS.get(path)
        if _has(trees[tree], names) and (twin is None or _has(trees["context"], list(twin[1:]))):
            continue
        chosen = _choose_path(draft, path, _value(trees[tree], names))
        if chosen is None:
            continue
        if not _has(trees[tree], names) and not _is_taken(draft, tree, names, chosen.name):
            _put(trees[tree], names, chosen.name)
            draft.take(path, chosen)
        if twin is not None and not _has(trees["context"], list(twin[1:])):
            _put(trees["context"], list(twin[1:]), chosen.name)
            draft.take(".".join(twin), chosen)
        if path == "context.os.name":
            _choose_device_type(draft, trees["context"], chosen)
    draft.fields |= trees


def _choose_path(draft: Draft, path: str, given: Any) -> Candidate | None:
    """The column for a path, or None.

    Args:
        draft: The draft.
        path: The path.
        given: The column that the caller gave for it, whose twin may be open; or None.
    """
    named = draft.named(path)
    column = draft.sample.get(given)
    if column is not None:
        found = rank(column.name, path)
        named = [] if found is None else [(column, found)]
    if path == "context.device.id":
        named += _used_devices(draft)
        named = [(each, found) for each, found in named if not why_no_devices(each, draft.sample)]
        candidates = [Candidate(each, found, 1.0, "its cells are ids") for each, found in named]
    else:
        candidates = []
        knows_nobody = not any(draft.value(field) or draft.named(field) for field in _WHO)
        for each, found in named:
            evidence = check_content(path, found, each)
            if evidence.fits and not (knows_nobody and _may_be_of_anything(path, found)):
                candidates.append(Candidate(each, found, evidence.share, evidence.words))
    rivals = best_of(candidates, text_cells)
    if path == "context.location.country":
        rivals = rivals[:1]  # a name and a code are the same country
    if len(rivals) != 1:
        return None
    if path == "context.location.region" and not _has_place(draft):
        return None
    return rivals[0]


def _may_be_of_anything(path: str, rank: int) -> bool:
    """Whether a name such as ``model`` or ``city`` says nothing in a table that has no person."""
    return rank > 0 or path.startswith("context.location.")


def _is_taken(draft: Draft, tree: str, names: list[str], column: str) -> bool:
    """Whether another column becomes the property under its own name."""
    return (
        tree == "properties"
        and names[0] in draft.sample
        and names[0] != column
        and names[0] not in draft.used
        and draft.given.rest != "drop"
    )


def _used_devices(draft: Draft) -> list[tuple[SampleColumn, int]]:
    """The anonymous id, if it is of a device: it fills both fields."""
    column = draft.column("anonymous_id")
    if column is None or draft.fields.get("anonymous_id") is None:
        return []
    found = rank(column.name, "context.device.id")
    return [] if found is None else [(column, found)]


def _has_place(draft: Draft) -> bool:
    """Whether a city and a country were chosen: a region beside them is of a place."""
    chosen = {choice.field for choice in draft.choices}
    return {"context.location.city", "context.location.country"} <= chosen


def _choose_device_type(draft: Draft, context: dict[str, Any], system: Candidate) -> None:
    """Fill the type of the device where all values of the whole table say Android or iOS."""
    if _has(context, ["device", "type"]):
        return
    values = draft.values(system.name)
    if values and means_device_type(list(values)):
        _put(context, ["device", "type"], system.name)
        draft.take("context.device.type", system)


def choose_expanded(draft: Draft) -> None:
    """Choose the columns whose parts are properties of the event."""
    given, names = draft.given, []
    for column in draft.sample:
        if column.name in draft.used or column.name in given.json:
            continue
        what = _parts_of(column) if column.words in OBJECT_NAMES else None
        if what is not None and judge(column) is None:
            names.append(column.name)
            draft.used.add(column.name)
            draft.choices.append(
                Choice(
                    "expand", f"column {column.name!r}", 1.0, f"its name matches; it holds {what}"
                )
            )
    if names:
        draft.fields["expand"] = (*given.expand, *names)


def _parts_of(column: SampleColumn) -> str | None:
    """What a column holds that has parts with names; None if it has none."""
    kind, types = column.kind, pa.types
    listed = types.is_list(kind) and types.is_struct(kind.value_type)
    if types.is_map(kind) or (listed and "key" in [item.name for item in kind.value_type]):
        return "key/value pairs"
    is_object = is_json(kind) or (
        (types.is_string(kind) or types.is_large_string(kind))
        and column.array.null_count < len(column.array)
        and pc.all(pc.match_substring_regex(column.array, r"^\s*\{.*\}\s*$")).as_py()
    )
    return "JSON objects" if is_object else None


def personal_columns(sample: Sample, named: Sequence[str]) -> tuple[LeftOut, ...]:
    """The columns of personal data that nobody named, with the reasons.

    Args:
        sample: The first rows.
        named: Columns that the mapping names.
    """
    found, excepted = [], set(named)
    for column in sample:
        reason = None if column.name in excepted else judge(column)
        if reason is not None:
            found.append(LeftOut(column.name, reason))
    return tuple(found)


def _copy_tree(tree: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _copy_tree(value) if isinstance(value, dict) else value
        for name, value in tree.items()
    }


def _value(tree: dict[str, Any], names: list[str]) -> Any:
    here: Any = tree
    for name in names:
        if not isinstance(here, dict) or name not in here:
            return None
        here = here[name]
    return here


def _has(tree: dict[str, Any], names: list[str]) -> bool:
    return isinstance(_value(tree, names), str | Lit | dict)


def _put(tree: dict[str, Any], names: list[str], column: str) -> None:
    *above, last = names
    for name in above:
        below = tree.setdefault(name, {})
        if not isinstance(below, dict):
            return  # the caller gave the whole branch in another way
        tree = below
    tree[last] = column

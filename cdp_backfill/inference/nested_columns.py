"""Fields inside columns of structs and JSON objects as columns of their own, named by their paths.

They are proposed only where no column of the table fits, with the same caution.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow as pa

from cdp_backfill.inference.draft import NO_PERSON, NOBODY
from cdp_backfill.messages import json_cells
from cdp_backfill.messages.json_members import member_names, split_members
from cdp_backfill.messages.paths import find_path, follow, json_texts
from cdp_backfill.messages.text import decode
from cdp_backfill.model.arrow_types import is_bytes, is_json, is_list, is_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cdp_backfill.inference.proposal import Assumption, Proposal, Question
    from cdp_backfill.messages.paths import Path
    from cdp_backfill.model.mapping import Mapping

_MAX_LEVELS: Final = 3
_MAX_FIELDS: Final = 200
"""Objects with more names than this have data as names."""

_ROWS: Final = 2_000
"""Rows in which the names of JSON objects are looked for."""

_FIELDS: Final = ("user_id", "anonymous_id", "event", "timestamp")
_WHO: Final = frozenset({"user_id", "anonymous_id"})
_TOGETHER: Final = {
    "event": ("events", "other_events"),
    "timestamp": ("timestamp_unit", "timezone"),
}
"""What is found together with a field."""


def flattened(batch: Any, mapping: Mapping) -> tuple[Any, dict[str, Path]]:
    """A batch whose columns with fields are replaced by these fields; and the paths to them.

    Args:
        batch: Record batch of the first rows.
        mapping: What is known of the mapping; its paths and columns of JSON text are honoured.
    """
    texts = json_texts(mapping)
    columns: dict[str, Any] = {}
    paths: dict[str, Path] = {}
    for name, array in zip(batch.schema.names, batch.columns, strict=True):
        fields = dict(_fields(name, decode(array), name in texts, 1))
        if not fields:
            columns[name] = array
        for path, cells in fields.items():
            found = find_path(path, batch.schema, texts)
            if found is not None and len(paths) < _MAX_FIELDS:
                columns[path], paths[path] = cells, found
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns)), paths


def _fields(name: str, array: Any, opened: bool, level: int) -> Iterator[tuple[str, Any]]:
    """The fields inside a column by their paths, with their cells; none of other columns.

    Args:
        name: The column, or the path to it.
        array: Its cells.
        opened: Whether its text is read as JSON.
        level: Number of names in the path.
    """
    if level > _MAX_LEVELS:
        return
    if pa.types.is_struct(array.type):
        inner = [(array.type.field(place).name, place) for place in range(array.type.num_fields)]
        members = [(each, follow(array, (place,))) for each, place in inner]
    elif is_json(array.type) or (opened and (is_text(array.type) or is_bytes(array.type))):
        names = list(dict.fromkeys(member_names(array.slice(0, _ROWS))))
        if len(names) > _MAX_FIELDS:
            return
        members = list(zip(names, split_members(array, names)[0], strict=True))
    else:
        return
    seen = [each for each, _ in members]
    for each, cells in members:
        if not each or "." in each or seen.count(each) > 1:
            continue
        path = f"{name}.{each}"
        below = list(_fields(path, cells, opened=False, level=level + 1))
        yield from below
        plain = None if below else _plain(cells)
        if plain is not None:
            yield path, plain


def _plain(array: Any) -> Any | None:
    """Cells of one simple kind; None for others."""
    if not is_json(array.type):
        nested = pa.types.is_struct(array.type) or pa.types.is_map(array.type)
        return None if nested or is_list(array.type) else array
    cells, bad = json_cells.parse(array.storage)
    if any(bad) or any(isinstance(cell, dict | list) for cell in cells):
        return None
    try:
        arrays, _ = json_cells.to_arrays(cells, None)
    except (pa.ArrowException, msgspec.MsgspecError, ValueError):
        return None
    return arrays[0] if len(arrays) == 1 else None


def with_nested(
    proposal: Proposal, inner: Proposal, paths: Collection[str], nested: Collection[str]
) -> Proposal:
    """A proposal with what the fields inside columns add to it.

    A field of who, what and when is taken from inside a column only if no column of the table
    looks like it.

    Args:
        proposal: The proposal from the columns of the table.
        inner: The proposal that takes it as given, from the fields inside columns, too.
        paths: The paths of these fields.
        nested: The columns that have them.
    """
    mapping, found = proposal.mapping, inner.mapping
    if any(map(_is_of_sums, proposal.questions)):
        return proposal
    asked = {each.field: each for each in proposal.questions}
    free = {
        name
        for name in _FIELDS
        if getattr(mapping, name) is None
        and (name not in asked or asked[name].text.startswith(NOBODY))
    }
    added = {name for name in free if getattr(found, name) in paths}
    together = {each for name in added for each in (name, *_TOGETHER.get(name, ()))}
    fields = {name: getattr(found, name) for name in together}
    fields["context"] = found.context
    fields["properties"] = {
        name: source
        for name, source in found.properties.items()
        if name in mapping.properties or name not in nested
    }
    settled = set(added)
    if mapping.anonymous_id is None and _WHO & added:
        settled |= _WHO  # who it was is asked again, if need be
    replaced = {each.field: _plainly(each, paths) for each in inner.questions if each.field in free}
    questions = [
        replaced.get(each.field, each) if each.field in free else each
        for each in proposal.questions
        if each.field not in settled - replaced.keys()
    ]
    for each in inner.questions:
        is_new = each.field in free and not each.text.startswith(NOBODY)
        if each.field not in asked and (is_new or each.field in together):
            questions.append(_plainly(each, paths))
    known = {each.field for each in proposal.choices}
    return replace(
        proposal,
        mapping=replace(mapping, **fields),
        choices=(
            *proposal.choices,
            *(each for each in inner.choices if _is_new(each.field, together, known)),
        ),
        questions=tuple(questions),
        assumptions=(
            *(_known_person(each, added) for each in proposal.assumptions),
            *(each for each in inner.assumptions if each.field in together),
        ),
    )


def _is_of_sums(question: Question) -> bool:
    """Whether a question only says that the rows are sums."""
    return question.field == "user_id" and not question.answers


def _plainly(question: Question, paths: Collection[str]) -> Question:
    """A question without answers in SQL over a path, which SQL spells in another way."""
    if not set(question.columns) & set(paths):
        return question
    answers = tuple(each for each in question.answers if "derive=" not in each)
    return replace(question, answers=answers or (f"{question.field}='...'",))


def _is_new(field: str, added: Collection[str], known: Collection[str]) -> bool:
    name = field.partition(".")[0].partition("[")[0]
    return field not in known and (name in added or name in ("context", "properties"))


def _known_person(assumption: Assumption, added: Collection[str]) -> Assumption:
    """What is assumed of an anonymous id once there is the id of a person, too."""
    if "user_id" not in added:
        return assumption
    return replace(assumption, text=assumption.text.removeprefix(NO_PERSON))

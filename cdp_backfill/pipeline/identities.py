"""The identities of ``identify=``: which table and which mapping of identify calls they become."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from cdp_backfill.errors import BadInputError, MappingError, SourceError
from cdp_backfill.messages import bind, choose_rows, is_data, text_columns
from cdp_backfill.messages.paths import find_path, json_texts
from cdp_backfill.model.arrow_types import is_text
from cdp_backfill.model.mapping import Lit, Mapping
from cdp_backfill.model.mapping_checks import did_you_mean
from cdp_backfill.model.outcomes import FIXES
from cdp_backfill.model.plurals import count
from cdp_backfill.pipeline.identity_pairs import collect_pairs, find_ambiguous
from cdp_backfill.sources import Source, Unreadable, open_source
from cdp_backfill.sources.streams import Stream, StreamSource

if TYPE_CHECKING:
    from cdp_backfill.messages import MessageBatch
    from cdp_backfill.model.distinct import DigestSet
    from cdp_backfill.model.outcomes import Fix
    from cdp_backfill.pipeline.identity_pairs import PairTable

_NAMES: Final = {
    "anonymous_id": ("anonymous_id", "anonymousId"),
    "user_id": ("user_id", "userId"),
}
"""Names of the columns of a table of identities, beside those that the mapping gives."""


def open_identities(
    identify: Any,
    source: Source,
    mapping: Mapping,
    *,
    unreadable: Unreadable = "raise",
    where: str | None = None,
    types: dict[str, str] | None = None,
) -> tuple[Source, Mapping]:
    """The table of identities, and its mapping.

    Args:
        identify: A column of the events' table, or a table.
        source: The events' table, which is read if ``identify`` is a column of it.
        mapping: The events' mapping.
        unreadable: See :func:`cdp_backfill.send`.
        where: See there. It chooses rows of the events' table, and so their identities.
        types: Types of columns of the events' table that ``where`` sees, or None.

    Raises:
        BadInputError: ``identify`` is neither, its columns are unclear, or it cannot be read.
    """
    if mapping.call == "identify":
        raise MappingError(
            "This mapping already makes identify calls. Leave identify= out, or pass the mapping "
            "of the events."
        )
    column = identify_column(identify, source, mapping)
    if column is not None:
        return _from_column(column, source, mapping, where, types)
    table = _open_table(identify, source, mapping, unreadable)
    _check_replayable(table)
    return table, _table_mapping(table, mapping)


def identify_column(identify: Any, source: Source, mapping: Mapping) -> str | None:
    """The column of the events' table that ``identify`` names, or None if it names none."""
    if not isinstance(identify, str):
        return None
    is_column = identify in {*source.schema.names, *mapping.derive}
    if is_column or Path(identify).exists():  # any name may be that of a member of JSON objects
        return identify if is_column else None
    is_inside = find_path(identify, source.schema, json_texts(mapping)) is not None
    return identify if is_inside else None


def ambiguous_ids(source: Source, mapping: Mapping, where: str | None = None) -> DigestSet:
    """The anonymous ids of a table of identities that have more than one user id.

    Args:
        source: The table.
        mapping: Its mapping.
        where: SQL expression that chooses rows, or None for all.

    Raises:
        BadInputError: The table can only be read once, or not at all.
    """
    if isinstance(source, PairSource):
        return source.ambiguous_ids
    _check_replayable(source)
    binding = choose_rows(bind(mapping, source.schema), where, source.schema)
    return find_ambiguous(source, binding)


def _check_replayable(source: Source) -> None:
    if not source.replayable:
        raise BadInputError(
            f"{source.title} can only be read once, and identities are read more than once. Pass a "
            f"table that can be read again: {source.instead}."
        )


def _open_table(identify: Any, source: Source, mapping: Mapping, unreadable: Unreadable) -> Source:
    try:
        return open_source(identify, unreadable=unreadable)
    except SourceError as error:
        if not isinstance(identify, str):
            raise
        hint = did_you_mean(identify, [*source.schema.names, *mapping.derive])
        raise MappingError(
            f"identify={identify!r} is no column of {source.name}.{hint} It is no table of "
            f"identities either: {error}"
        ) from error


def _from_column(
    column: str,
    source: Source,
    mapping: Mapping,
    where: str | None,
    types: dict[str, str] | None,
) -> tuple[Source, Mapping]:
    if not source.replayable:
        raise BadInputError(
            f"{source.title} can only be read once, and identify={column!r} reads it before the "
            f"events are sent. Pass a table that can be read again, {source.instead}, or a table "
            "of identities."
        )
    anonymous = mapping.anonymous_id
    if not isinstance(anonymous, str):
        found = "has no anonymous id" if anonymous is None else "has a constant as anonymous id"
        raise MappingError(
            f"identify={column!r} joins the anonymous ids of the events to that column, but the "
            f"mapping {found}. Pass anonymous_id='...', a column."
        )
    if anonymous == column:
        raise MappingError(
            f"identify={column!r} is the column of the anonymous id. Name the column that holds "
            "the user id."
        )
    reading = Mapping(
        call="identify",
        user_id=column,
        anonymous_id=anonymous,
        derive=mapping.derive,
        json=_opened_texts(source, mapping),
        nulls=mapping.nulls,
    )
    source = _with_text(source, reading, types)
    findings = _Findings()
    binding = choose_rows(bind(reading, source.schema), where, source.schema)
    pairs = collect_pairs(source, binding, (anonymous, column), findings.add)
    named = Mapping(
        call="identify",
        user_id=column,
        anonymous_id=anonymous,
        integrations=_integrations(mapping),
    )
    notes = findings.notes(column, is_user_id=column == mapping.user_id)
    return PairSource(f"the identities in column {column!r}", pairs, notes), named


def _opened_texts(source: Source, mapping: Mapping) -> list[str]:
    """The columns of text into which paths may lead, because the mapping reads them as JSON."""
    texts = {item.name for item in source.schema if is_text(item.type)}
    return [*mapping.json, *(name for name in mapping.expand if name in texts)]


def _with_text(source: Source, reading: Mapping, types: dict[str, str] | None) -> Source:
    """The table with ids as text, where a number would lose zeros, and other columns as given."""
    text = text_columns(reading, source.schema)
    kinds = [item.type for item in source.schema if item.name in text]
    if types is not None:
        return source.settled(text, {name: types[name] for name in types if name not in text})
    return source if all(map(pa.types.is_string, kinds)) else source.settled(text, reading.types)


class _Findings:
    """What the run of the events does not tell about the column of the user id."""

    def __init__(self) -> None:
        self._bad = 0
        self._fixes: dict[Fix, int] = {}

    def add(self, batch: MessageBatch) -> None:
        """Count the cells of a chunk."""
        self._bad += int(np.count_nonzero(batch.problems.mask_of("bad_user")))
        for fix, cells in batch.problems.fixes.items():
            self._fixes[fix] = self._fixes.get(fix, 0) + cells

    def notes(self, column: str, *, is_user_id: bool) -> tuple[str, ...]:
        """The findings in sentences."""
        notes = []
        if self._bad:
            notes.append(
                f"{count(self._bad, 'row')} {'has' if self._bad == 1 else 'have'} a user id or an "
                "anonymous id that cannot be an id, and no identity: a fraction, a number that "
                "lost its last digits, or text that is not UTF-8."
            )
        if not is_user_id:  # the events are counted by their own run
            notes += [
                f"{count(cells, 'cell')} of column {column!r}: {FIXES[fix.code]}."
                for fix, cells in self._fixes.items()
                if fix.column == column
            ]
        return tuple(notes)


class PairSource(StreamSource):
    """The distinct pairs of two columns, as a table of these columns.

    Args:
        name: The pairs, in words.
        pairs: The pairs.
        notes: What people should know about them, in sentences.

    Attributes:
        ambiguous_ids: See :class:`PairTable`.
    """

    def __init__(self, name: str, pairs: PairTable, notes: tuple[str, ...]) -> None:
        stream = Stream(name=name, schema=pairs.schema, batches=pairs.batches, rows=pairs.rows)
        super().__init__(stream)
        self.ambiguous_ids = pairs.ambiguous_ids
        self.notes = notes

    def reopen(self) -> Source:
        """The same pairs: they are those of the events' table when it was read."""
        return self


def _table_mapping(table: Source, events: Mapping) -> Mapping:
    """The mapping of a table of identities, from the names of its columns."""
    ids: dict[str, str] = {}
    unclear: list[str] = []
    for field, names in _NAMES.items():
        given = getattr(events, field)
        wanted = dict.fromkeys([*([given] if isinstance(given, str) else []), *names])
        found = [name for name in wanted if name in table.schema.names]
        if len(found) == 1:
            ids[field] = found[0]
        elif found:
            listed = ", ".join(map(repr, found))
            unclear.append(f"{listed} could each be the {field}; rename all but one of them")
        else:
            listed = " or ".join(map(repr, wanted))
            unclear.append(f"no column is named {listed}; rename the column of the {field}")
    if len(set(ids.values())) < len(ids):
        name = ids["user_id"]
        unclear.append(f"{name!r} could be either id; rename it to 'user_id' or 'anonymous_id'")
    if unclear:
        raise MappingError(f"In the table of identify=, {', and '.join(unclear)}.")
    return Mapping(
        call="identify",
        traits={
            name: name for name in table.schema.names if name not in ids.values() and is_data(name)
        },
        integrations=_integrations(events),
        timezone=events.timezone,
        nonexistent=events.nonexistent,
        ambiguous=events.ambiguous,
        nulls=events.nulls,
        duplicates="skip",
        user_id=ids["user_id"],
        anonymous_id=ids["anonymous_id"],
    )


def _integrations(events: Mapping) -> dict[str, Any]:
    """The integrations of the events, so that identities reach no destination that is shut out."""
    for name, value in events.integrations.items():
        if not isinstance(value, Lit):
            raise MappingError(
                f"integrations[{name!r}] is filled from a column, which identities do not have. "
                "Pass True or False to send identities to the same destinations as the events."
            )
    return dict(events.integrations)

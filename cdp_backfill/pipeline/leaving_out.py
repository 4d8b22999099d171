"""Rows that a call leaves out with ``where=`` and ``exclude=``: what is remembered, and said.

What an earlier run left out is never let in again by an argument that is missing: a journal, the
file of a plan and failures in memory remember ``where=`` as its text, and ``exclude=`` as paths, a
number and a digest. They hold no id.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cdp_backfill.errors import BadInputError, JournalError
from cdp_backfill.model.outcomes import EXCLUDED, NOT_WHERE
from cdp_backfill.model.plurals import count
from cdp_backfill.pipeline.excluded_ids import ExcludedIds, read_excluded
from cdp_backfill.pipeline.journal import read_journal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cdp_backfill.model.mapping import Mapping
    from cdp_backfill.results.progress import Reason
    from cdp_backfill.results.reasons import FailureReason
    from cdp_backfill.sources import Source


def described(where: str | None, excluded: ExcludedIds | None) -> dict[str, Any]:
    """What is remembered of ``where=`` and ``exclude=``, as plain values for JSON."""
    return {"where": where, "exclude": None if excluded is None else excluded.describe()}


def described_text(where: str | None, excluded: ExcludedIds | None) -> str | None:
    """The same as a text; None if nothing is left out."""
    if where is None and excluded is None:
        return None
    return json.dumps(described(where, excluded))


def chosen_by_failures(
    source: Source, where: str | None, exclude: Any, mapping: Mapping
) -> tuple[str | None, Any]:
    """``where`` and ``exclude`` of a call; failures of an earlier run add what it left out.

    Args:
        source: The table.
        where: What the call passes, or None.
        exclude: What the call passes, or None.
        mapping: The mapping.

    Raises:
        BadInputError: The earlier run left out ids that were in memory, and the call passes none.
    """
    if source.earlier_left_out is None:
        return where, exclude
    earlier = json.loads(source.earlier_left_out)
    if exclude is None and earlier["exclude"] is not None:
        if earlier["exclude"]["paths"] is None:
            raise BadInputError(
                "These rows are failures of a run that left out "
                f"{count(earlier['exclude']['ids'], 'id')} with exclude=. Pass exclude= again; "
                "exclude=[] leaves nobody out."
            )
        exclude = _read_again(earlier["exclude"], mapping)
    return earlier["where"] if where is None else where, exclude


def with_journal(path: Path, where: str | None, excluded: ExcludedIds | None) -> tuple[str, ...]:
    """Compare a call with what the last run with its journal left out.

    Returns:
        Notes on what differs.

    Raises:
        JournalError: The last run left something out, and the call has no such argument.
    """
    if not path.is_file():
        return ()
    try:
        options = read_journal(path).options
    except JournalError:  # the run says what is wrong with it
        return ()
    return with_last_run(path, options, where, excluded)


def with_last_run(
    journal: Path | str, options: dict[str, Any], where: str | None, excluded: ExcludedIds | None
) -> tuple[str, ...]:
    """Compare a call with what the last run with its journal left out.

    Args:
        journal: The journal, for the error.
        options: The options of its last run.
        where: What the call passes, or None.
        excluded: The same.

    Returns:
        Notes on what differs.

    Raises:
        JournalError: The last run left something out, and the call has no such argument.
    """
    before, saved = options.get("where"), options.get("exclude")
    notes = []
    if before is not None and where is None:
        raise JournalError(
            f"The last run with the journal {journal} chose rows with where=, and this call does "
            "not. Pass where= again; where='true' sends all rows."
        )
    if before not in (None, where):
        notes.append("where= differs from that of the last run with this journal.")
    if saved is not None and excluded is None:
        raise JournalError(
            f"The last run with the journal {journal} left out {count(saved['ids'], 'id')} with "
            "exclude=, and this call leaves out none. Pass exclude= again; exclude=[] leaves "
            "nobody out."
        )
    if saved is not None and excluded is not None:
        notes += _change(excluded, saved)
    return tuple(notes)


def resumed(
    path: str | Path,
    remembered: dict[str, Any],
    where: str | None,
    exclude: Any,
    mapping: Mapping,
) -> tuple[str | None, ExcludedIds | None, tuple[str, ...]]:
    """``where`` and the excluded ids of a run that goes on with a journal, and notes.

    Args:
        path: The journal.
        remembered: The options that it remembers.
        where: What the call passes, or None for what the journal remembers.
        exclude: The same.
        mapping: The mapping of the journal.

    Raises:
        JournalError: The journal remembers ids that were in memory, and the call passes none.
        BadInputError: The ids cannot be read.
    """
    notes = []
    before, saved = remembered.get("where"), remembered.get("exclude")
    if where not in (None, before):
        notes.append(
            "Another where= was passed for this run than the journal remembers. It goes on "
            "remembering its own."
        )
    excluded = None
    if exclude is not None:
        excluded = read_excluded(exclude, mapping)
    elif saved is not None:
        if saved["paths"] is None:
            raise JournalError(
                f"The journal {path} was written with {count(saved['ids'], 'id')} in exclude=, "
                "which it does not hold. Pass exclude= again; exclude=[] leaves nobody out."
            )
        excluded = _read_again(saved, mapping)
    if saved is not None and excluded is not None:
        notes += _change(excluded, saved)
    return before if where is None else where, excluded, tuple(notes)


def reread(
    saved: dict[str, Any] | None, exclude: Any, mapping: Mapping, plan: str
) -> ExcludedIds | None:
    """The excluded ids of a saved plan, which must be the same as when it was made.

    Args:
        saved: What the file of the plan has of them, or None.
        exclude: The ids that the caller passes, or None.
        mapping: The mapping of the plan.
        plan: Name of the file.

    Raises:
        BadInputError: They are missing, or differ.
    """
    if saved is None:
        if exclude is not None:
            raise BadInputError(
                f"The plan {plan!r} was made without exclude=. Make the plan again, with exclude=."
            )
        return None
    if exclude is None and saved["paths"] is None:
        raise BadInputError(
            f"The plan {plan!r} was made with {count(saved['ids'], 'id')} in exclude=, which its "
            "file does not hold. Pass them again: Plan.load(path, exclude=ids)."
        )
    excluded = _read_again(saved, mapping) if exclude is None else read_excluded(exclude, mapping)
    check_same(excluded, saved)
    return excluded


def check_same(excluded: ExcludedIds, saved: dict[str, Any]) -> None:
    """Refuse other ids than those with which a plan was made.

    Raises:
        BadInputError: They differ.
    """
    change = excluded.changes(saved)
    if change is not None:
        raise BadInputError(
            f"The ids of exclude= have changed since the plan was made: {change}. Nothing was "
            "sent. Make the plan again."
        )


def _read_again(saved: dict[str, Any], mapping: Mapping) -> ExcludedIds:
    names = tuple(n for n in (mapping.user_id, mapping.anonymous_id) if isinstance(n, str))
    return replace(ExcludedIds.none(), paths=saved["paths"], names=names).again()


def _change(excluded: ExcludedIds, saved: dict[str, Any]) -> list[str]:
    change = excluded.changes(saved)
    if change is None:
        return []
    note = (
        f"The ids of exclude= differ from those of the run before: {change}. Rows that arrived "
        "before stay delivered."
    )
    return [note]


def left_out_notes(
    skipped: Iterable[Reason | FailureReason],
    rows: int,
    where: str | None,
    excluded: ExcludedIds | None,
) -> list[str]:
    """What people should know about the rows that a call leaves out.

    Args:
        skipped: The rows that are skipped, by reason.
        rows: All rows.
        where: The expression, or None.
        excluded: The excluded ids, or None.
    """
    counts = dict.fromkeys((NOT_WHERE, EXCLUDED), 0)
    for each in skipped:
        counts[each.code] = counts.get(each.code, 0) + each.rows
    notes = []
    if where is not None and 0 < rows == counts[NOT_WHERE]:
        notes.append(
            f"where= is true for none of the {count(rows, 'row')}. Compare the expression with "
            "the cells of its columns."
        )
    if excluded is None:
        return notes
    if not excluded.ids:
        notes.append("exclude= has no id, so nobody is left out.")
    elif rows > counts[NOT_WHERE] and not counts[EXCLUDED]:
        none = f"None of the {excluded.ids:,} excluded ids"
        among = "rows for which where= is true" if counts[NOT_WHERE] else "rows"
        notes.append(
            f"{none if excluded.ids > 1 else 'The excluded id'} occurs in "
            f"{'the' if excluded.ids > 1 else 'none of the'} {among}. If somebody should be left "
            "out, compare the ids with those of the first messages."
        )
    if excluded.empty:
        notes.append(f"exclude= has {count(excluded.empty, 'empty cell')}, which names nobody.")
    return notes

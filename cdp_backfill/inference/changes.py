"""Recognises logs of the changes of a table: rows that were inserted, updated and deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cdp_backfill.inference.samples import Sample

_CHANGES: Final = (
    frozenset(["insert", "inserted", "create", "created", "c", "i"]),
    frozenset(["update", "updated", "u"]),
    frozenset(["delete", "deleted", "d"]),
)
_OTHER_CHANGES: Final = frozenset(["r", "read", "snapshot", "upsert", "merge", "truncate", "t"])
"""What a log of the changes of a table calls them."""


def log_of_changes(sample: Sample) -> str | None:
    """The column that says that each row is a change of a row in another table, if there is one.

    Args:
        sample: The first rows.
    """
    every = _OTHER_CHANGES.union(*_CHANGES)
    for column in sample:
        if not column.is_text or column.distinct > len(every):
            continue
        words = {text.casefold() for text in column.texts}
        if words <= every and sum(bool(words & kind) for kind in _CHANGES) > 1:
            return column.name
    return None

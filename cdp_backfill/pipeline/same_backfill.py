"""Refuses to go on with the journal of another backfill."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cdp_backfill.errors import JournalError
from cdp_backfill.messages.ids import ID_RECIPE
from cdp_backfill.model.mapping import Mapping

if TYPE_CHECKING:
    from collections.abc import Mapping as AbstractMapping
    from pathlib import Path

_FIRST_RECIPE: Final = "cdp1"  # of journals that do not name one


def check_recipe(journal: Path | str, stored: AbstractMapping[str, str]) -> None:
    """Refuse the journal of a version that made message ids in another way.

    Args:
        journal: The journal, for the error.
        stored: What it holds about its backfill.

    Raises:
        JournalError: It is one.
    """
    recipe = stored.get("recipe", _FIRST_RECIPE)
    if recipe != ID_RECIPE:
        raise JournalError(
            f"The journal {journal} belongs to a version that made message ids by the recipe "
            f"{recipe!r}, and this version makes them by {ID_RECIPE!r}: every row would be sent "
            "again under another id. Finish the backfill with the version that began it, or pass "
            "another journal."
        )


def check_same_backfill(
    journal: Path | str,
    stored: AbstractMapping[str, str],
    mapping: Mapping,
    url: str,
    *,
    keeps_table: bool = False,
) -> None:
    """Refuse the journal of another backfill.

    Args:
        journal: The journal, for the error.
        stored: What it holds about its backfill.
        mapping: The mapping of this run.
        url: The address that it sends to.
        keeps_table: See :class:`~cdp_backfill.pipeline.journal.Journal`.

    Raises:
        JournalError: The mapping or the address is another.
    """
    if stored["url"] != url:
        raise JournalError(
            f"The journal {journal} belongs to a backfill to {stored['url']}, not to {url}. "
            "Pass another journal."
        )
    before = Mapping.from_toml(stored["mapping"]).to_dict()
    now = mapping.to_dict()
    old_types, types = before.pop("types", {}), now.pop("types", {})
    if keeps_table and not old_types:  # a file of failures of a table with types
        types = old_types
    changed = sorted(
        name for name in {*old_types, *types} if old_types.get(name) != types.get(name)
    )
    if changed:
        column = changed[0]
        raise JournalError(
            f"Column {column!r} was {old_types.get(column, 'text')} when the journal "
            f"{journal} was created and is now {types.get(column, 'text')}. Message ids "
            "would change and every row would be sent again. Go on with cdp.resume(journal), "
            "which reads the cells as before; or correct the cells that differ."
        )
    columns = json.loads(stored.get("columns", "[]"))
    if columns and before.get("rest") == now.get("rest"):
        # To leave out a column that no earlier table had changes no message.
        kept = [name for name in now.get("drop", []) if name in columns]
        if sorted(kept) == sorted(before.get("drop", [])):
            before, now = ({**each, "drop": []} for each in (before, now))
    if before != now:
        names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
        raise JournalError(
            f"The journal {journal} belongs to a backfill with another mapping: "
            f"{', '.join(names)} {'differs' if len(names) == 1 else 'differ'}. Under another "
            "mapping the same rows become other messages. Use the mapping of the journal, or "
            "pass another journal."
        )


def changed_about(
    before: AbstractMapping[str, str], about: dict[str, str], *, keeps_table: bool
) -> dict[str, str]:
    """What a run changes of what its journal holds about the backfill.

    Args:
        before: What the journal holds; empty for a new one.
        about: What the run would write into a new one.
        keeps_table: See :class:`~cdp_backfill.pipeline.journal.Journal`.
    """
    if not before:
        return about
    columns = {*json.loads(before.get("columns", "[]")), *json.loads(about["columns"])}
    changed = {"columns": json.dumps(sorted(columns))}
    # The mapping is that of the first run, without columns of personal data that came later.
    mapping, now = (Mapping.from_toml(each["mapping"]) for each in (before, about))
    if mapping.drop != now.drop:
        changed["mapping"] = replace(mapping, drop=now.drop).to_toml()
    if keeps_table:
        return changed
    names = {"paths", "identify", "options", "unreadable"}
    if about["paths"] == "null" != before.get("paths"):  # an in-memory table is no file
        names = {"identify"}
    return changed | {name: about[name] for name in names if name in about}

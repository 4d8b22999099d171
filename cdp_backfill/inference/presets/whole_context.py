"""Fills the context of a message from a column that holds the context of another message."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cdp_backfill.model import api_facts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cdp_backfill.model.mapping import Mapping


def add_context(mapping: Mapping, column: str, leave_out: Collection[str] = ()) -> Mapping:
    """A mapping with every documented path of the context, read from the JSON of a column.

    Args:
        mapping: The mapping.
        column: Column that holds a context as JSON or as a struct.
        leave_out: Paths to leave out, such as ``device.token``; a path stands for all below it.

    >>> from cdp_backfill import Mapping
    >>> added = add_context(Mapping(), "context", ["device.token"])
    >>> added.context["os"]["name"], "token" in added.context["device"]
    ('found_context_os_name', False)
    """
    context: dict[str, Any] = {}
    texts: list[tuple[str, ...]] = []
    values: list[tuple[str, ...]] = []
    for path, kind in _leaves(api_facts.CONTEXT, ()):
        if any(".".join(path[:stop]) in leave_out for stop in range(1, len(path) + 1)):
            continue
        (values if kind == "any" else texts).append(path)
        branch = context
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        branch[path[-1]] = _column(path)
    # One pass over the JSON for all paths, because a pass for each would take eight times as long.
    derive = {
        "found_context_texts": f"json_extract_string({column}::JSON, {_listed(texts)})",
        "found_context_values": f"json_extract({column}::JSON, {_listed(values)})",
    }
    for source, paths in zip(tuple(derive), (texts, values), strict=True):
        derive |= {_column(path): f"{source}[{place}]" for place, path in enumerate(paths, 1)}
    return replace(mapping, derive=mapping.derive | derive, context=context | mapping.context)


def _leaves(
    tree: api_facts.Tree, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], api_facts.Kind]]:
    for name, kind in tree.items():
        if name == api_facts.ANY_NAME:
            continue
        if isinstance(kind, dict):
            yield from _leaves(kind, (*path, name))
        else:
            yield (*path, name), kind


def _column(path: tuple[str, ...]) -> str:
    return f"found_context_{'_'.join(path)}"


def _listed(paths: list[tuple[str, ...]]) -> str:
    return f"[{', '.join(repr('$.' + '.'.join(path)) for path in paths)}]"

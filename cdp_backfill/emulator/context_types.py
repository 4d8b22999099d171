"""Compares the types of values in ``context`` with the documented ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from cdp_backfill.model import api_facts

if TYPE_CHECKING:
    from collections.abc import Iterator


def _expected(kind: api_facts.Kind | api_facts.Tree) -> Any:
    """The type of a documented value for msgspec; null is always allowed."""
    if isinstance(kind, str):
        types: dict[str, Any] = {"boolean": bool | None, "any": msgspec.Raw}
        return types.get(kind, str | None)
    if (further := kind.get(api_facts.ANY_NAME)) is not None:  # then all names have one kind
        return dict[str, _expected(further)] | None  # type: ignore[misc]  # a type made at run time
    fields = [(name, _expected(child), None) for name, child in kind.items()]
    return msgspec.defstruct("Context", fields) | None


_matches: Final = msgspec.json.Decoder(_expected(api_facts.CONTEXT)).decode
_decode: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def context_warnings(context: bytes) -> tuple[str, ...]:
    """Say which documented values of a context have another type than documented.

    The API stores such values all the same, as far as is known. Names that are not documented may
    have values of any type. A warning holds no value.

    Args:
        context: A JSON object.

    Raises:
        ValueError: It is not a JSON object.

    >>> context_warnings(b'{"app": {"version": 2}, "network": {"wifi": true}, "mine": []}')
    ('context.app.version must be a string',)
    """
    try:
        _matches(context)
    except ValueError:
        return tuple(_differences(context, api_facts.CONTEXT, "context"))
    return ()


def _differences(text: bytes, tree: api_facts.Tree, path: str) -> Iterator[str]:
    for name, raw in _decode(text).items():
        kind = tree.get(name) or tree.get(api_facts.ANY_NAME)
        value, where = bytes(raw), f"{path}.{name}"
        if kind in (None, "any") or value == b"null":
            continue
        if isinstance(kind, dict):
            if value[:1] == b"{":
                yield from _differences(value, kind, where)
            else:
                yield f"{where} must be an object"
        elif kind == "boolean":
            if value not in (b"true", b"false"):
                yield f"{where} must be a boolean"
        elif value[:1] != b'"':
            yield f"{where} must be a string"

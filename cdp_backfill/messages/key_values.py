"""Lists of keys and their values, such as GA4's ``event_params``, wherever they come from.

An item is an object of a ``key`` and a value: ``value`` itself, or its only filled member, such as
``{"string_value": "pro", "int_value": null}``. The rules depend on names and cells alone, so that
JSON, CSV and parquet give the same properties.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_TYPED: Final = ("string_value", "int_value", "float_value", "double_value")
"""Members of a value in the order in which a filled one is looked for; others come after them."""

_BESIDE: Final = frozenset({"set_timestamp_micros"})
"""Members of a value that say something about it."""

_WHOLE: Final = re.compile(r"-?(?:0|[1-9]\d{0,18})")
_FLOAT: Final = re.compile(r"-?(?:Infinity|(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)|NaN")


def value_names(names: Iterable[str]) -> list[str]:
    """The members of an item that hold its value."""
    others = [name for name in names if name != "key"]
    return ["value"] if "value" in others else typed_names(others) or sorted(others)


def typed_names(names: Iterable[str]) -> list[str]:
    """The members of a value of which one is filled, in the order in which they are looked at."""
    typed = {name for name in names if name.endswith("_value")}
    return [name for name in _TYPED if name in typed] + sorted(typed.difference(_TYPED))


def is_typed_number(name: str) -> bool:
    """Whether a member of this name holds a number, also where it is written as text."""
    return name in ("int_value", "float_value", "double_value")


def typed_value(name: str, value: Any) -> Any:
    """The value of such a member: BigQuery writes 64-bit integers, NaN and infinity as text."""
    if name == "int_value" and isinstance(value, str) and _WHOLE.fullmatch(value):
        number = int(value)
        return number if -(2**63) <= number < 2**63 else value
    if name not in ("float_value", "double_value") or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return float(value) if _FLOAT.fullmatch(value) else value
    if value is None or isinstance(value, list | dict):
        return value
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def as_object(cell: Any) -> Any:
    """A JSON value with a list of keys and values as one object; where a key repeats, the last one.

    Args:
        cell: A JSON value. It is returned as it is if it is not such a list.

    Returns:
        The object; None for an empty list.
    """
    if not isinstance(cell, list):
        return cell
    items = [item for item in cell if item is not None]
    if not all(isinstance(item, dict) and _is_key(item.get("key")) for item in items):
        return cell
    if not any("key" in item for item in items):
        return None if not any(items) else cell
    result = {}
    names = value_names(dict.fromkeys(name for item in items for name in item))
    for item in items:
        key, value = item.get("key"), _value_of(item, names)
        if value is not None and key not in (None, "") and "\0" not in str(key):
            result[str(key)] = value
    return result


def _is_key(key: Any) -> bool:
    return key is None or (isinstance(key, str | int) and not isinstance(key, bool))


def _value_of(item: dict[str, Any], names: list[str]) -> Any:
    """The value of an item: of several, the first filled one."""
    found = (_filled(name, item.get(name)) for name in names)
    return next((part for part in found if part is not None), None)


def _filled(name: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return typed_value(name, value)
    if names := typed_names(value):
        found = (_filled(each, value[each]) for each in names)
        return next((part for part in found if part is not None), None)
    filled = any(part is not None for each, part in value.items() if each not in _BESIDE)
    return value if filled else None

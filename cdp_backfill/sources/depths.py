"""Counts how deeply Arrow types are nested, and their fields, before anything follows them down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from cdp_backfill.errors import SourceError
from cdp_backfill.model.arrow_types import MAX_DEPTH

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_FIELDS: Final = 100_000
"""Most fields of all types of a table, those inside objects included."""


class DepthError(pa.ArrowInvalid):  # type: ignore[misc]
    """A type is nested too deeply, or has too many fields."""


def check_depths(fields: Iterable[Any]) -> None:
    """Refuse types that are nested too deeply, or that have too many fields.

    A row counts as the first level of its cells, and a value as the last one.

    Args:
        fields: The fields of a schema.

    Raises:
        DepthError: There is such a type.
    """
    level = [(field.name, field.type) for field in fields]
    count = 0
    for _ in range(MAX_DEPTH - 1):
        count += len(level)
        if count > MAX_FIELDS:
            raise DepthError(
                f"its columns have more than {MAX_FIELDS:,} fields, those inside objects included. "
                "Drop the columns that you do not send"
            )
        level = [(name, kind) for name, outer in level for kind in _inside(outer)]
        if not level:
            return
    raise DepthError(
        f"column {level[0][0]!r} is nested more than {MAX_DEPTH} levels deep. Convert it to text, "
        "or drop it"
    )


def check_types(fields: Iterable[Any], title: str) -> None:
    """The same for a table that is in memory or comes as a stream.

    Args:
        fields: The fields of its schema.
        title: The table, at the beginning of a sentence.

    Raises:
        SourceError: There is such a type.
    """
    try:
        check_depths(fields)
    except DepthError as error:
        raise SourceError(f"{title} cannot be read: {error}.") from None


def _inside(kind: Any) -> list[Any]:
    """The types that a type consists of."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return [kind.storage_type]
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return [kind.value_type]
    if types.is_map(kind):
        return [kind.key_type, kind.item_type]
    if types.is_nested(kind):
        return [kind.field(number).type for number in range(kind.num_fields)]
    return []

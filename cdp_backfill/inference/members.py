"""Checks that a table has the fields of JSON objects that a mapping names."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Final

from cdp_backfill.errors import MappingError
from cdp_backfill.messages.json_members import member_names, split_members
from cdp_backfill.messages.paths import find_path, follow, json_texts
from cdp_backfill.model.mapping_checks import did_you_mean

if TYPE_CHECKING:
    from cdp_backfill.model.mapping import Mapping
    from cdp_backfill.sources import Source

_SHOWN: Final = 12
_COMMON: Final = 10
"""Names that fewer than one object in so many has may be data, such as ids, and are not shown."""


def check_members(table: Source, mapping: Mapping) -> None:
    """Refuse a path into JSON that leads to nothing in every row of a table.

    The objects of JSON have no schema, so the rows are read up to the first that has the field.

    Args:
        table: The table. One that can be read only once is not read.
        mapping: The mapping.

    Raises:
        MappingError: A path leads to nothing, although there are objects.
    """
    if not table.replayable:
        return
    texts = json_texts(mapping)
    found = {name: find_path(name, table.schema, texts) for name in mapping.columns()}
    missing = {name: path for name, path in found.items() if path and path.member is not None}
    if not missing:
        return
    columns = list(dict.fromkeys(path.column for path in missing.values()))
    objects: Counter[str] = Counter()
    names: dict[str, Counter[str]] = {name: Counter() for name in missing}
    with closing(table.chunks(columns)) as chunks:
        for chunk in chunks:
            for name, path in list(missing.items()):
                array = follow(chunk.batch.column(path.column), path.above)
                (values,), _ = split_members(array, [str(path.member)])
                if values.null_count < len(values):
                    del missing[name]
                    continue
                above, _, _ = str(path.member).rpartition(".")
                objects[name] += len(array) - array.null_count
                names[name].update(member_names(array, above))
            if not missing:
                return
    for name in missing:
        if objects[name]:
            raise MappingError(_nothing_there(name, names[name]))


def _nothing_there(name: str, names: Counter[str]) -> str:
    above, _, last = name.rpartition(".")
    most = max(names.values(), default=0)
    common = [each for each, rows in names.items() if rows * _COMMON >= most]
    if not common:
        return f"There is no column {name!r}, and no row has JSON objects with fields at {above!r}."
    listed = ", ".join(map(repr, common[:_SHOWN]))
    more = f" and {len(common) - _SHOWN} more" if len(common) > _SHOWN else ""
    return (
        f"There is no column {name!r}, and no row has a field {last!r} in {above!r}."
        f"{did_you_mean(last, common)} Rows have {listed}{more}."
    )

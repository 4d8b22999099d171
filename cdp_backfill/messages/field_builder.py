"""Makes columns of message fields from the columns of a table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.messages import json_cells
from cdp_backfill.messages.expanding import Parts, list_parts, map_parts, struct_parts
from cdp_backfill.messages.ids import key_ids
from cdp_backfill.messages.key_values import as_object
from cdp_backfill.messages.keys import as_key
from cdp_backfill.messages.local_times import Zone
from cdp_backfill.messages.problems import Problems
from cdp_backfill.messages.sdk_spelling import as_device_type, as_locale, as_os_name
from cdp_backfill.messages.text import (
    as_boolean,
    as_identifier,
    as_text,
    as_utf8,
    clean_text,
    decode,
    json_as_text,
)
from cdp_backfill.messages.times import read_times
from cdp_backfill.messages.values import (
    ValueReader,
    ambiguous_time,
    bad_text,
    make_struct,
    nonexistent_time,
    not_finite,
)
from cdp_backfill.model import api_facts
from cdp_backfill.model.arrow_types import is_bytes, is_json, is_list, is_text
from cdp_backfill.model.distinct import key_digests
from cdp_backfill.model.mapping import Key, Lit
from cdp_backfill.model.outcomes import AMBIGUOUS, Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.messages.binding import Binding, Branch, Leaf
    from cdp_backfill.model.arrays import Mask


class FieldBuilder:
    """Makes the fields of the messages of one batch, and records the problems of its rows.

    Args:
        binding: The mapping, bound to the schema of the batch.
        columns: The columns that the mapping reads, by name.
        rows: Number of rows.
        latest: Later times lie in the future; milliseconds since 1970 UTC.
        max_cells: See :func:`cdp_backfill.messages.json_cells.check_width`.

    Attributes:
        problems: Problems and fixes so far.
    """

    def __init__(
        self,
        binding: Binding,
        columns: dict[str, Any],
        rows: int,
        latest: int,
        max_cells: int | None,
    ) -> None:
        self._max_cells = max_cells
        self._binding = binding
        self._mapping = binding.mapping
        self._columns = columns
        self._rows = rows
        self._latest = latest
        self._nulls = pa.array(self._mapping.nulls, pa.string())
        self._json_nulls = pa.array(
            [json.dumps(word, ensure_ascii=False) for word in self._mapping.nulls], pa.string()
        )
        self.problems = Problems(rows)
        mapping = binding.mapping
        self._zone = Zone(mapping.timezone, mapping.nonexistent, mapping.ambiguous)
        self._values = ValueReader(self.problems, self._zone, max_cells)

    def _array(self, source: str | Lit) -> Any:
        if isinstance(source, Lit):
            first = pa.array(np.zeros(self._rows, dtype=np.int64))
            return pa.array([source.value]).take(first)
        array = decode(self._columns[source])
        if not len(self._nulls) or not (is_text(array.type) or is_json(array.type)):
            return array
        words = self._json_nulls if is_json(array.type) else self._nulls
        storage = array.storage if is_json(array.type) else array
        empty = pc.is_in(storage, value_set=words.cast(storage.type))
        if not pc.any(empty).as_py():
            return array
        self.problems.record_fix("null_word", source, empty)
        filled = pc.if_else(empty, None, storage)
        return filled if storage is array else pa.ExtensionArray.from_storage(array.type, filled)

    def _note(self, source: str | Lit) -> Callable[[str, Any], None]:
        column = _name_of(source)
        return lambda code, where: self.problems.record_fix(code, column, where)

    def identity(self) -> dict[str, Any]:
        """``userId`` and ``anonymousId``; every row needs one of them."""
        result, has_none, columns = {}, np.ones(self._rows, dtype=bool), []
        for field, source in self._ids():
            ids = self._identifier(source, "bad_user", field)
            result[field] = ids
            has_none &= _is_null(ids)
            columns.append(_name_of(source))
        has_none &= ~self.problems.mask_of("bad_user")
        reason = f"column {columns[0]!r} is empty"
        if len(columns) > 1:
            reason = f"columns {columns[0]!r} and {columns[1]!r} are both empty"
        self.problems.add(has_none, Problem("missing_user", columns[0], reason))
        return result

    def both_ids(self) -> dict[str, Any]:
        """``userId`` and ``anonymousId``; every row needs both, and no id may be ambiguous."""
        result = {}
        for field, source in self._ids():
            ids = self._identifier(source, "bad_user", field)
            result[field] = ids
            column = _name_of(source)
            reason = f"column {column!r} is empty, and an identity needs both ids"
            missing = _is_null(ids) & ~self.problems.mask_of("bad_user")
            self.problems.add(missing, Problem("missing_user", column, reason))
        if self._binding.ambiguous_ids is not None:
            ids = result["anonymousId"]
            mask = self._binding.ambiguous_ids.has(key_digests(ids.fill_null(""))) & ~_is_null(ids)
            user, anonymous = (_name_of(source) for _, source in self._ids())
            reason = f"column {anonymous!r} holds an id that has more than one id in {user!r}"
            self.problems.add(mask, Problem(AMBIGUOUS, anonymous, reason))
        return result

    def _ids(self) -> list[tuple[str, str | Lit]]:
        """The fields of the ids that the mapping fills, each with its source."""
        sources = ("userId", self._mapping.user_id), ("anonymousId", self._mapping.anonymous_id)
        return [(field, source) for field, source in sources if source is not None]

    def message_id(self) -> Any | None:
        """Message ids from a column or a key."""
        source = self._mapping.message_id
        if isinstance(source, Key):
            return key_ids([self._key_cells(column) for column in source.columns])
        return source and self._identifier(source, "bad_message_id", "messageId")

    def _key_cells(self, column: str) -> Any:
        is_time = column == self._mapping.timestamp
        array = self._array(column)
        if is_time:
            array = json_as_text(array)
        text, bad = as_key(array, self._note(column), is_time=is_time)
        self.problems.add(bad, _bad_identifier(column, "bad_message_id", "messageId"))
        return text

    def _identifier(self, source: str | Lit, code: str, field: str) -> Any:
        text, bad = as_identifier(self._array(source), self._note(source))
        self.problems.add(bad, _bad_identifier(_name_of(source), code, field))
        return text

    def times(self) -> Any:
        """The times of the events; a row without a usable time has a problem."""
        source = self._mapping.timestamp or ""
        column, note = _name_of(source), self._note(source)
        array = self._array(source)
        if is_json(array.type):
            array, _ = as_text(array)
        not_utf8 = np.zeros(self._rows, dtype=bool)
        if is_text(array.type):
            array, not_utf8 = as_utf8(array)
            self.problems.add(not_utf8, bad_text(column))
            array = clean_text(array, note)
        earliest = self._binding.earliest
        times = read_times(
            array,
            unit=self._mapping.timestamp_unit,
            timezone=self._mapping.timezone,
            earliest=earliest,
            latest=self._latest,
            order=self._mapping.date_order,
            zone=self._zone,
        )
        for unit, mask in times.units.items():
            note(f"epoch_{unit}", mask)
        note("midnight", times.days)
        note("day_number", times.numbers)
        good = ~(times.missing | times.bad | times.unclear)
        for local, rule, problem, fix in (
            (times.nonexistent, self._zone.nonexistent, nonexistent_time, "shifted_forward"),
            (times.ambiguous, self._zone.ambiguous, ambiguous_time, "shown_twice"),
        ):
            if rule == "invalid":
                self.problems.add(local, problem(column))
                good &= ~local
            else:
                note(fix, local)
        for mask, code, reason in (
            (times.missing & ~not_utf8, "missing_time", "is empty"),
            (times.bad, "bad_time", "holds a value that is not a usable time"),
            (
                times.unclear & ~times.unordered,
                "unclear_time",
                "holds a number whose unit is ambiguous",
            ),
            (
                times.unordered,
                "unclear_time",
                "holds a date, and the order of its day and month is not known",
            ),
            (
                good & (times.millis < earliest),
                "too_early",
                f"holds a time before {self._mapping.earliest}",
            ),
            (good & (times.millis > self._latest), "in_future", "holds a time in the future"),
        ):
            self.problems.add(mask, Problem(code, column, f"column {column!r} {reason}"))
        return times

    def properties(self) -> Any | None:
        """``properties``, with the parts of expanded columns."""
        children = self._children(self._binding.properties)
        used_names = set(self._binding.properties)
        used_rows: dict[str, Mask] = {}
        for column in self._mapping.expand:
            for name, arrays in self._parts(column).items():
                if name in used_names:
                    for array in arrays:
                        self.problems.record_fix("name_taken", column, array.is_valid())
                    continue
                known = api_facts.PROPERTIES.get(name, "any")
                kind: api_facts.Kind = "any" if isinstance(known, dict) else known
                children += [
                    (name, value)
                    for array in self._without_duplicates(name, arrays, column, used_rows)
                    for value in self._values_of(array, column, kind)
                ]
        return make_struct(children)

    def _without_duplicates(
        self, name: str, arrays: list[Any], column: str, used_rows: dict[str, Mask]
    ) -> list[Any]:
        """Parts of one name, without rows in which an earlier column has a part of this name."""
        present = np.zeros(self._rows, dtype=bool)
        for array in arrays:
            present |= array.is_valid().to_numpy(zero_copy_only=False)
        earlier = used_rows.get(name)
        used_rows[name] = present if earlier is None else present | earlier
        if earlier is None or not (clash := present & earlier).any():
            return arrays
        self.problems.record_fix("name_taken", column, clash)
        rows = pa.array(np.arange(self._rows), mask=earlier)
        return [array.take(rows) for array in arrays]

    def _parts(self, column: str) -> Parts:
        """The parts of an expanded column."""
        array = self._array(column)
        kind, types = array.type, pa.types
        if types.is_null(kind):
            return {}
        self.problems.record_fix("expanded", column, array.is_valid())
        if types.is_struct(kind):
            return struct_parts(array)
        if types.is_map(kind):
            return map_parts(array, self._max_cells)
        if is_list(kind):
            return list_parts(array, self._max_cells)
        cells = [as_object(cell) for cell in self._values.parse_json(array, column)]
        parts: Parts = {}
        others = [None if isinstance(cell, dict) else cell for cell in cells]
        if any(cell is not None for cell in others):
            parts[column] = json_cells.to_arrays(others, self._max_cells)[0]
        objects = [cell if isinstance(cell, dict) else None for cell in cells]
        for name, arrays, mixed in json_cells.member_arrays(objects, self._max_cells):
            self.problems.record_fix("mixed_list", column, mixed)
            parts[name] = [*parts.get(name, ()), *arrays]
        return parts

    def tree(self, branch: Branch) -> Any | None:
        """A struct of the fields below, or None where there are none."""
        return make_struct(self._children(branch))

    def _children(self, branch: Branch) -> list[tuple[str, Any]]:
        children = []
        for name, value in branch.items():
            if isinstance(value, dict):
                array = self.tree(value)
                children += [] if array is None else [(name, array)]
            else:
                children += [(name, array) for array in self._leaf(value)]
        return children

    def _leaf(self, leaf: Leaf) -> list[Any]:
        array, column = self._array(leaf.source), _name_of(leaf.source)
        is_json_text = leaf.kind == "any" and leaf.source in self._mapping.json
        if is_json_text and (is_text(array.type) or is_bytes(array.type)):
            return self._values.read_json(array, column)
        return self._values_of(array, column, leaf.kind)

    def _values_of(self, array: Any, column: str, kind: api_facts.Kind) -> list[Any]:
        """The values of a column, as arrays that together are the column."""
        if kind == "any":
            return self._values.read(array, column)
        note = self._note(column)
        plain = array.type
        if kind == "id":
            array, bad = as_identifier(array, note)
            reason = f"column {column!r} holds a value that cannot be an id"
            self.problems.add(bad, Problem("bad_user", column, reason))
            return [array]
        if is_text(plain):
            array, bad = as_utf8(array)
            self.problems.add(bad, bad_text(column))
        if is_text(plain) and kind != "text":
            array = clean_text(array, note)
        if kind == "boolean":
            array, bad = as_boolean(array)
            if not pa.types.is_boolean(plain):
                note("boolean_word", array.is_valid())
            reason = f"column {column!r} holds a value that is neither true nor false"
            self.problems.add(bad, Problem("bad_boolean", column, reason))
            return [array]
        number = pa.types.is_floating(plain)
        array, bad = as_text(array, floats="version" if kind == "version" else "number")
        if number:
            note("version_float" if kind == "version" else "whole_float", array.is_valid())
        self.problems.add(bad, not_finite(column) if number else bad_text(column))
        if kind == "device_type":
            array, bad = as_device_type(array)
            reason = f"column {column!r} holds a value that is neither android nor ios"
            self.problems.add(bad, Problem("bad_device_type", column, reason))
        elif kind in ("os_name", "locale"):
            before = array
            array = as_os_name(array) if kind == "os_name" else as_locale(array)
            note("sdk_spelling", pc.not_equal(before, array))
        return [array]


def _is_null(array: Any) -> Mask:
    return np.asarray(array.is_null().to_numpy(zero_copy_only=False))


def _name_of(source: str | Lit) -> str:
    return source if isinstance(source, str) else "lit()"


def _bad_identifier(column: str, code: str, field: str) -> Problem:
    return Problem(
        code,
        column,
        f"column {column!r} holds a value that cannot be a {field}: a fraction, a number that lost "
        "its last digits as a float, or text that is not UTF-8",
    )

"""Reads JSON files of objects: one on each line, in an array, or one after another."""

from __future__ import annotations

import copy
import math
import re
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.errors import SourceError
from cdp_backfill.model.plurals import count
from cdp_backfill.model.sparse import spread
from cdp_backfill.sources.chunks import MAX_CHUNK_CELLS, MAX_COLUMNS, check_names
from cdp_backfill.sources.texts import typed_objects
from cdp_backfill.sources.texts.envelopes import Opening, check_not_a_list, find_opening
from cdp_backfill.sources.texts.json_objects import (
    Block,
    Remarks,
    Row,
    read_blocks,
    read_objects,
)
from cdp_backfill.sources.texts.json_text import INFINITE
from cdp_backfill.sources.texts.newest_days import NewestDays
from cdp_backfill.sources.texts.reading import count_letter, windows_note
from cdp_backfill.sources.texts.unreadable import READING_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Mapping, Sequence

    from cdp_backfill.sources.texts.reading import TextFile

_rows: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode_lines
_string: Final = msgspec.json.Decoder(str).decode
_JSON: Final = pa.json_(pa.string())
_NULL: Final = msgspec.Raw(b"null")
_INFINITE: Final = frozenset({INFINITE, b"-" + INFINITE})
_SPARSE: Final = 8  # objects are sparse if at most one cell in so many is filled
_FIRST_BYTES: Final = 65_536
_MINUS_ZERO: Final = re.compile(rb"-0(?![0-9.])")
_WHOLE: Final = (pa.int64(), pa.uint64())
_NUMERIC: Final = frozenset(bytes([letter]) for letter in b"-0123456789")
_LISTS: Final[dict[Any, Any]] = {
    pa.string(): msgspec.json.Decoder(list[str | None]),
    pa.bool_(): msgspec.json.Decoder(list[bool | None]),
    pa.int64(): msgspec.json.Decoder(list[int | None]),
    pa.uint64(): msgspec.json.Decoder(list[int | None]),
    pa.float64(): msgspec.json.Decoder(list[float | None]),
}


@dataclass(slots=True)
class _Kind:
    """The kinds of the values of one key.

    Attributes:
        firsts: First letters of the values, which give their kinds.
        low: The lowest whole number, or 0.
        high: The highest whole number, or 0.
        fractions: Whether there are numbers that are not whole.
        infinite: Whether there is Infinity.
    """

    firsts: set[bytes] = field(default_factory=set)
    low: float = 0
    high: float = 0
    fractions: bool = False
    infinite: bool = False

    def add(self, values: list[bytes]) -> None:
        firsts = {value[:1] for value in values}
        self.firsts |= firsts
        if firsts.isdisjoint(_NUMERIC):
            return
        if not _INFINITE.isdisjoint(values):
            self.infinite = self.fractions = True
        numbers = [value for value in values if value[:1] in _NUMERIC and value not in _INFINITE]
        whole = [number for number in numbers if number.lstrip(b"-").isdigit()]
        self.fractions |= len(whole) < len(numbers)
        longest = max(map(len, whole), default=0)
        if longest > len(str(2**64)) or not all(map(math.isfinite, map(float, numbers))):
            self.low, self.high = -math.inf, math.inf
        else:
            integers = list(map(int, whole))
            self.low = min([self.low, *integers])
            self.high = max([self.high, *integers])

    @property
    def numbers(self) -> tuple[int, int]:
        """Whole numbers that would change nothing here."""
        return typed_objects.range_of(self.low, self.high)

    def type(self) -> Any:
        firsts = self.firsts - {b"n"}
        if not firsts:
            return pa.null()
        if firsts == {b'"'}:
            return pa.string()
        if firsts <= {b"t", b"f"}:
            return pa.bool_()
        if firsts <= _NUMERIC:
            if self.fractions:
                exact = self.low >= -(2**53) and self.high <= 2**53
                return pa.float64() if exact else _JSON
            if self.low >= -(2**63) and self.high < 2**63:
                return pa.int64()
            if self.low >= 0 and self.high < 2**64:
                return pa.uint64()
        return _JSON


class _Kinds:
    """The kinds of the values of all keys.

    Attributes:
        by_key: The kinds, by key.
        last: The last object that was taken apart.
    """

    def __init__(self) -> None:
        self.by_key: defaultdict[str, _Kind] = defaultdict(_Kind)
        self.last: Row = {}
        self.days = NewestDays()
        self._checker: tuple[Any, Any] = (None, None)

    def add(self, block: Block) -> int:
        """Take note of some objects, and return how many they are.

        Most blocks tell nothing new. To see that, their values need not be taken apart.
        """
        if block.text and not self.by_key:
            self._add_first(block.text)
        if block.text and self.by_key and INFINITE not in block.text:
            checker = self._current_checker()
            with suppress(msgspec.DecodeError, RecursionError):
                if checker is not None:
                    rows = checker.decode_lines(block.text)
                    self._watch(rows)
                    return len(rows)
        return self._add_rows(block)

    def _watch(self, rows: list[Any]) -> None:
        """Take note of the times in some rows of the checker."""
        watched = set(self.days.watched(self.by_key))
        for number, (key, kind) in enumerate(self.by_key.items()):
            if key in watched and kind.type() == pa.string():
                cells = map(attrgetter(typed_objects.attribute(number)), rows)
                self.days.add(key, pa.array(cells, pa.string()))

    def _current_checker(self) -> Any:
        kinds = {key: (kind.type(), kind.numbers) for key, kind in self.by_key.items()}
        known, checker = self._checker
        if known != kinds:
            checker = typed_objects.checker(kinds)
            self._checker = kinds, checker
        return checker

    def _add_first(self, text: bytes) -> None:
        """Learn the kinds from some objects; that others have them is checked quickly."""
        with suppress(msgspec.DecodeError, RecursionError):
            self._learn(_rows(text[: text.rfind(b"\n", 0, _FIRST_BYTES) + 1]))

    def _add_rows(self, block: Block) -> int:
        objects = block.rows()
        self._learn(objects)
        return len(objects)

    def _learn(self, objects: list[Row]) -> None:
        if objects:
            self.last = objects[-1]
        values: defaultdict[str, list[bytes]] = defaultdict(list)
        for item in objects:
            for key, raw in item.items():
                values[key].append(bytes(raw))
        for key, cells in values.items():
            self.by_key[key].add(cells)
        for key in self.days.watched(values):
            if self.by_key[key].type() == pa.string():
                self.days.add(key, _column(list(map(msgspec.Raw, values[key])), pa.string()))
            elif self.by_key[key].type() != pa.null():
                self.days.forget(key)


class Objects:
    """Files of JSON objects, each of which is a row.

    Args:
        files: The files.
        skip: Whether what is no object, but where one should be, is a row of its own.

    Attributes:
        notes: Sentences about what is read differently from the files.
        rows: Number of rows of each file.
        days: The newest day of each column of times.
        schema: The keys of all objects.

    Raises:
        SourceError: A file holds something other than JSON objects.
    """

    def __init__(self, files: Sequence[TextFile], *, skip: bool = False) -> None:
        if skip:
            files = [file if _is_readable(file) else file.skipping() for file in files]
        self.rows: list[int | None] = []
        self._opening = _find_opening(files)
        kinds = _Kinds()
        remarks = Remarks()
        for file in files:
            rows = 0
            for block in _blocks(file, remarks, self._opening):
                rows += kinds.add(block)
                if len(kinds.by_key) > MAX_COLUMNS:  # no more of them are held
                    check_names(list(kinds.by_key), f"The file {file.name!r}")
            self.rows.append(rows)
        listed = f"The file {files[0].name!r}" if len(files) == 1 else "One of the files"
        check_names(list(kinds.by_key), listed)
        if self.rows == [1]:
            check_not_a_list(kinds.last, files[0].name)
        self._files = [
            file.as_windows() if file.name in remarks.windows else file for file in files
        ]
        self._replaced = frozenset({*remarks.halves, *remarks.nans})
        self._infinite = frozenset(key for key, kind in kinds.by_key.items() if kind.infinite)
        types = {key: kind.type() for key, kind in kinds.by_key.items()}
        self._whole = {key: kind for key, kind in types.items() if kind in _WHOLE}
        if any(file.skips for file in files):
            for item in READING_SCHEMA:
                types.pop(item.name, None)
                types[item.name] = item.type
        self.days = kinds.days
        self.schema = pa.schema(list(types.items()))
        opened = self._opening.notes() if self._opening is not None else ()
        self.notes = (*_notes(remarks), *opened)

    def settled(self, text: Collection[str], types: Mapping[str, str] | None = None) -> Objects:
        """The same with some columns as text, so that 1.10 stays 1.10.

        JSON says the type of each cell itself, so the types of other tables say nothing.
        """
        del types
        result = copy.copy(self)
        result.schema = pa.schema(
            [
                pa.field(item.name, pa.large_string())
                if item.name in text
                and item.type not in (pa.string(), pa.null())
                and item.name not in self._infinite  # no text is infinite
                else item
                for item in self.schema
            ]
        )
        return result

    def batches(self, number: int, columns: Sequence[str]) -> Generator[Any]:
        """The rows of one file.

        Args:
            number: Number of the file, from 0.
            columns: May be empty; then the batches have one column of nulls.
        """
        schema = pa.schema([self.schema.field(name) for name in columns] or [("", pa.null())])
        file = self._files[number]
        typed = None
        if file.name not in self._replaced:
            typed = _Typed(schema, self._infinite, self._whole)
        for block in _blocks(file, Remarks(), self._opening):
            # Of each object, all columns are held, however few of the keys it has.
            most = count_letter(block.text, b"{")  # at least one in each object
            is_small = most * len(schema) <= MAX_CHUNK_CELLS
            batch = typed.batch(block.text, most) if typed and block.text and is_small else None
            if batch is not None:
                yield batch
                continue
            objects = block.rows()
            step = max(1, MAX_CHUNK_CELLS // len(schema))
            for start in range(0, len(objects), step):
                part = objects[start : start + step]
                filled = sum(map(len, part))
                make = _sparse_columns if filled * _SPARSE < len(part) * len(schema) else _columns
                yield pa.RecordBatch.from_arrays(make(part, schema), schema=schema)


class _Typed:
    """Reads blocks of objects as columns of known types.

    Args:
        schema: The columns.
        infinite: Columns with Infinity.
        whole: Columns of whole numbers, with their types.
    """

    def __init__(self, schema: Any, infinite: Collection[str], whole: Mapping[str, Any]) -> None:
        self._schema = schema
        # As text, whole numbers are what is written; only zero is written in two ways.
        items = [pa.field(item.name, whole.get(item.name, item.type)) for item in schema]
        known = [
            item
            for item in items
            if item.type in typed_objects.PARSED and item.name not in infinite
        ]
        few = len(known) <= typed_objects.FEW
        self._parsed = pa.schema([] if few else known)
        self._values = {item.name: item.type for item in known} if few else {}
        names = {item.name for item in known}
        self._raw = [name for name in schema.names if name not in names]
        self._decoder = typed_objects.decoder(self._values, self._raw)

    def batch(self, text: bytes, most: int) -> Any | None:
        """The columns of a block of at most so many rows; None if it must be read another way."""
        columns: dict[str, Any] = {}
        if self._parsed.names:
            parsed = typed_objects.parse(text, self._parsed, most)
            if parsed is None:
                return None
            columns = dict(zip(self._parsed.names, parsed.columns, strict=True))
        if self._values or self._raw:
            if self._decoder is None:
                return None
            try:
                rows = self._decoder.decode_lines(text)
                for number, name in enumerate((*self._values, *self._raw)):
                    cells = list(map(attrgetter(typed_objects.attribute(number)), rows))
                    columns[name] = (
                        pa.array(cells, self._values[name])
                        if name in self._values
                        else _column(cells, self._schema.field(name).type)
                    )
            except (msgspec.DecodeError, RecursionError):
                return None
        for item in self._schema:
            cells = columns[item.name]
            if cells.type != item.type:
                zero = pa.scalar(0, cells.type)
                if pc.any(pc.equal(cells, zero)).as_py() and _MINUS_ZERO.search(text):
                    return None
                columns[item.name] = pc.cast(cells, item.type)
        arrays = [columns[name] for name in self._schema.names]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)


def _columns(objects: list[Row], schema: Any) -> list[Any]:
    return [
        _column([item.get(field.name, _NULL) for item in objects], field.type) for field in schema
    ]


def _sparse_columns(objects: list[Row], schema: Any) -> list[Any]:
    """The same for objects that have few of the keys; it does not look at what is missing."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    cells: defaultdict[str, list[msgspec.Raw]] = defaultdict(list)
    for number, item in enumerate(objects):
        for key, raw in item.items():
            places[key].append(number)
            cells[key].append(raw)
    return [
        spread(_column(cells[field.name], field.type), places[field.name], len(objects))
        for field in schema
    ]


def _column(values: list[msgspec.Raw], kind: Any) -> Any:
    if kind == pa.null():
        return pa.nulls(len(values))
    if kind == _JSON:
        texts = [None if text == b"null" else text for text in map(bytes, values)]
        return pa.ExtensionArray.from_storage(kind, pa.array(texts, pa.binary()).cast(pa.string()))
    if kind == pa.float64() and not _INFINITE.isdisjoint(map(bytes, values)):
        return pa.array([_as_float(bytes(value)) for value in values], kind)
    if kind == pa.large_string():
        return pa.array([_as_text(bytes(value)) for value in values], kind)
    return pa.array(_LISTS[kind].decode(b"[" + b",".join(values) + b"]"), kind)


def _as_float(raw: bytes) -> float | None:
    return None if raw == b"null" else float(raw)


def _as_text(raw: bytes) -> str | None:
    """A value as text: strings without quotes, other values as written."""
    if raw == b"null":
        return None
    return _string(raw) if raw[:1] == b'"' else raw.decode()


def _is_readable(file: TextFile) -> bool:
    """Whether a file holds nothing but objects. It is read for this."""
    try:
        for _ in read_objects(file, Remarks()):
            pass
    except SourceError:
        return False
    return True


def _find_opening(files: Sequence[TextFile]) -> Opening | None:
    """How to open the envelopes that the files hold; None if they hold rows."""
    remarks = Remarks()
    return find_opening(
        row for file in files for rows in read_objects(file, remarks) for row in rows
    )


def _blocks(file: TextFile, remarks: Remarks, opening: Opening | None) -> Iterator[Block]:
    """The rows of a file, some at a time."""
    if opening is None:
        return read_blocks(file, remarks)
    opened = opening.rows(read_objects(file, remarks), file.name)
    return (Block(b"", partial(list, objects)) for objects in opened)


def _notes(remarks: Remarks) -> Iterator[str]:
    """What people should know about what is read differently from the files."""
    for name in remarks.halves:
        yield (
            f"The file {name!r} has text with half a character, such as \\ud83d alone. It is read "
            "as U+FFFD."
        )
    for name, nans in remarks.nans.items():
        cells = f"{count(nans, 'value')} in the file {name!r} {'is' if nans == 1 else 'are'} NaN"
        yield f"{cells}, which JSON does not have, and read as null."
    for name, letters in remarks.windows.items():
        yield windows_note(name, letters)

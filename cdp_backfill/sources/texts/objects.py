"""Reads JSON files of objects: one on each line, in an array, or one after another."""

from __future__ import annotations

import copy
import math
import re
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow as pa

from cdp_backfill.errors import SourceError
from cdp_backfill.sources.chunks import check_names
from cdp_backfill.sources.texts import apple_reports
from cdp_backfill.sources.texts.envelopes import Opening, check_not_a_list, find_opening
from cdp_backfill.sources.texts.reading import BLOCK_BYTES, blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from cdp_backfill.sources.texts.reading import TextFile

_WHOLE_BYTES: Final = 2**30
"""Most bytes of a file that does not have one object on each line: it is pending in memory."""

_Row = dict[str, msgspec.Raw]

# Reads objects one after another, with or without line ends between and inside them.
_rows: Final = msgspec.json.Decoder(_Row).decode_lines
_items: Final = msgspec.json.Decoder(msgspec.Raw).decode_lines
_array: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode

# Objects without a key look the same in every layout.
_EMPTY: Final = re.compile(rb"\s*+(?:\{\s*+\}\s*+)*+")

_string: Final = msgspec.json.Decoder(str).decode
_JSON: Final = pa.json_(pa.string())
_NULL: Final = msgspec.Raw(b"null")
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
    """

    firsts: set[bytes] = field(default_factory=set)
    low: float = 0
    high: float = 0
    fractions: bool = False

    def add(self, values: list[bytes]) -> None:
        firsts = {value[:1] for value in values}
        self.firsts |= firsts
        if firsts.isdisjoint(_NUMERIC):
            return
        numbers = [value for value in values if value[:1] in _NUMERIC]
        whole = [number for number in numbers if number.lstrip(b"-").isdigit()]
        self.fractions |= len(whole) < len(numbers)
        longest = max(map(len, whole), default=0)
        if longest > len(str(2**64)) or not all(map(math.isfinite, map(float, numbers))):
            self.low, self.high = -math.inf, math.inf
        else:
            integers = list(map(int, whole))
            self.low = min([self.low, *integers])
            self.high = max([self.high, *integers])

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


class Objects:
    """Files of JSON objects, each of which is a row.

    Attributes:
        notes: Sentences about what is read differently from the files.
        rows: Number of rows of each file.
        schema: The keys of all objects.

    Raises:
        SourceError: A file holds something other than JSON objects.
    """

    def __init__(self, files: Sequence[TextFile]) -> None:
        self._files = files
        self.rows: list[int | None] = []
        self._opening = _find_opening(files)
        kinds: defaultdict[str, _Kind] = defaultdict(_Kind)
        repaired_files: dict[str, None] = {}
        last: _Row = {}
        for file in files:
            rows = 0
            for objects in _records(file, repaired_files, self._opening):
                rows += len(objects)
                last = objects[-1]
                values: defaultdict[str, list[bytes]] = defaultdict(list)
                for item in objects:
                    for key, raw in item.items():
                        values[key].append(bytes(raw))
                for key, cells in values.items():
                    kinds[key].add(cells)
            self.rows.append(rows)
        listed = f"The file {files[0].name!r}" if len(files) == 1 else "One of the files"
        check_names(list(kinds), listed)
        if self.rows == [1]:
            check_not_a_list(last, files[0].name)
        self.schema = pa.schema([(key, kind.type()) for key, kind in kinds.items()])
        notes = [
            f"The file {name!r} has text with half a character, such as \\ud83d alone. It is "
            "read as U+FFFD."
            for name in repaired_files
        ]
        self.notes = (*notes, *(self._opening.notes() if self._opening is not None else ()))

    def settled(self, text: Collection[str]) -> Objects:
        """The same with some columns as text, so that 1.10 stays 1.10."""
        result = copy.copy(self)
        result.schema = pa.schema(
            [
                pa.field(item.name, pa.large_string())
                if item.name in text and item.type not in (pa.string(), pa.null())
                else item
                for item in self.schema
            ]
        )
        return result

    def batches(self, number: int, columns: Sequence[str]) -> Iterator[Any]:
        """The rows of one file.

        Args:
            number: Number of the file, from 0.
            columns: May be empty; then the batches have one column of nulls.
        """
        schema = pa.schema([self.schema.field(name) for name in columns] or [("", pa.null())])
        for objects in _records(self._files[number], {}, self._opening):
            arrays = [
                _column([item.get(field.name, _NULL) for item in objects], field.type)
                for field in schema
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _column(values: list[msgspec.Raw], kind: Any) -> Any:
    if kind == pa.null():
        return pa.nulls(len(values))
    if kind == _JSON:
        texts = [None if text == b"null" else text for text in map(bytes, values)]
        return pa.ExtensionArray.from_storage(kind, pa.array(texts, pa.binary()).cast(pa.string()))
    if kind == pa.large_string():
        return pa.array([_as_text(bytes(value)) for value in values], kind)
    return pa.array(_LISTS[kind].decode(b"[" + b",".join(values) + b"]"), kind)


def _as_text(raw: bytes) -> str | None:
    """A value as text: strings without quotes, other values as written."""
    if raw == b"null":
        return None
    return _string(raw) if raw[:1] == b'"' else raw.decode()


def _find_opening(files: Sequence[TextFile]) -> Opening | None:
    """How to open the envelopes that the files hold; None if they hold rows."""
    return find_opening(row for file in files for rows in _objects(file, {}) for row in rows)


def _records(
    file: TextFile, repaired_files: dict[str, None], opening: Opening | None
) -> Iterator[list[_Row]]:
    """The rows of a file, some at a time."""
    objects = _objects(file, repaired_files)
    if opening is None:
        return objects
    return opening.rows(objects, file.name)


def _objects(file: TextFile, repaired_files: dict[str, None]) -> Iterator[list[_Row]]:
    """The objects of a file, some at a time."""
    parts = _to_line_ends(file)
    head = next(parts, b"")
    first = _EMPTY.sub(b"", head, count=1).partition(b"\n")[0]
    if apple_reports.is_report(head) and _is_complete(first):
        yield [_apple_report(file, b"".join([head, *parts]))]
        return
    if first[:1] == b"[" or (first[:1] == b"{" and not _is_complete(first)):
        whole, size = [], 0
        for part in chain([head], parts):
            whole.append(part)
            size += len(part)
            _check_size(file, size)
        yield from _whole_file_objects(file, b"".join(whole), repaired_files)
        return
    line = 1
    for part in chain([head], parts):
        try:
            objects = _decode(_rows, part, file, repaired_files)[0]
        except (msgspec.DecodeError, RecursionError):
            objects = []
            for number, text in enumerate(part.split(b"\n"), line):
                objects += _line_objects(text, file, number)
        if objects:
            yield objects
        line += part.count(b"\n")


def _apple_report(file: TextFile, text: bytes) -> _Row:
    with suppress(msgspec.DecodeError, RecursionError):
        return apple_reports.report(_replace_half_characters(text))
    raise _broken_line(file, 2)


def _whole_file_objects(
    file: TextFile, text: bytes, repaired_files: dict[str, None]
) -> Iterator[list[_Row]]:
    """The objects of an array, or of a file with line ends inside objects."""
    wrong_line = None
    try:
        decode = _array if text.lstrip()[:1] == b"[" else _items
        items, text = _decode(decode, text, file, repaired_files)
    except (msgspec.DecodeError, RecursionError) as error:
        place = re.search(r"\(byte (\d+)\)", str(error))
        wrong_line = 1 + text.count(b"\n", 0, int(place[1]) if place else len(text.rstrip()))
    if wrong_line is not None:
        raise _broken_line(file, wrong_line)
    step = max(1, BLOCK_BYTES // max(1, len(text) // max(1, len(items))))
    for start in range(0, len(items), step):
        try:
            objects = _rows(b"\n".join(items[start : start + step]))
        except (msgspec.DecodeError, RecursionError):
            objects = [
                row
                for item, line in _with_lines(items, text)
                for row in _line_objects(item, file, line)
            ]
        yield objects


def _with_lines(items: list[msgspec.Raw], text: bytes) -> Iterator[tuple[bytes, int]]:
    """The items of a text, and the line where each begins."""
    end, line = 0, 1
    for item in map(bytes, items):
        # Between two items, there are only white space and commas.
        begin = text.index(item, end)
        line += text.count(b"\n", end, begin)
        yield item, line
        line += item.count(b"\n")
        end = begin + len(item)


def _to_line_ends(file: TextFile) -> Iterator[bytes]:
    """Text in blocks that end at the end of a line."""
    pending: list[bytes] = []
    size = 0
    for block in blocks(file):
        end = block.rfind(b"\n") + 1
        if end:
            yield b"".join([*pending, block[:end]])
            pending, size = [], 0
        pending.append(block[end:])
        size += len(block) - end
        _check_size(file, size)
    if size:
        yield b"".join(pending)


def _check_size(file: TextFile, size: int) -> None:
    if size > _WHOLE_BYTES:
        raise SourceError(
            f"The file {file.name!r} is too large: it has more than {_WHOLE_BYTES:,} bytes and "
            "does not have one JSON object on each line. Convert it first, for example with: jq "
            "-c '.[]' old > new"
        )


def _is_complete(text: bytes) -> bool:
    try:
        _rows(_replace_half_characters(text))
    except msgspec.ValidationError:
        return True
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _line_objects(text: bytes, file: TextFile, line: int) -> list[_Row]:
    """The objects of one line."""
    try:
        return _rows(_replace_half_characters(text))
    except msgspec.ValidationError:
        problem = SourceError(
            f"Line {line} of the file {file.name!r} is not a JSON object. Each row must be one, "
            "such "
            'as {"key": "value"}.'
        )
    except (msgspec.DecodeError, RecursionError):
        problem = _broken_line(file, line)
    raise problem


def _broken_line(file: TextFile, line: int) -> SourceError:
    return SourceError(
        f"Line {line} of the file {file.name!r} is not valid JSON, or is nested too deeply. "
        "Correct the line."
    )


_ESCAPES: Final = re.compile(
    rb"(\\u[dD][89abAB]%(hex)b\\u[dD][c-fC-F]%(hex)b)|(\\u[dD][89a-fA-F]%(hex)b)|\\."
    % {b"hex": b"[0-9a-fA-F]{2}"}
)


def _replace_half_characters(text: bytes) -> bytes:
    r"""Text with U+FFFD for halves of characters, such as ``\ud83d`` alone in a cut emoji."""
    return _ESCAPES.sub(lambda escape: rb"\ufffd" if escape[2] else escape[0], text)


def _decode(
    decode: Callable[[bytes], Any], text: bytes, file: TextFile, repaired_files: dict[str, None]
) -> tuple[Any, bytes]:
    """The contents of a text, and the text that was decoded."""
    try:
        return decode(text), text
    except msgspec.DecodeError:
        whole = _replace_half_characters(text)
        if whole == text:
            raise
    result = decode(whole)
    repaired_files[file.name] = None
    return result, whole

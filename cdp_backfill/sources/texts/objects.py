"""JSON files of objects: one a line, in an array, or one after another."""

from __future__ import annotations

import copy
import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow as pa

from cdp_backfill.errors import SourceError
from cdp_backfill.sources.texts.reading import BLOCK_BYTES, blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from cdp_backfill.sources.texts.reading import TextFile

_WHOLE_BYTES: Final = 2**30
"""Text that is held at once, where a file is not one object a line."""

_Row = dict[str, msgspec.Raw]

# Reads objects one after another, with or without line ends between and within them.
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
    """What the values of one key are.

    Attributes:
        firsts: Their first letters, which tell what they are.
        low: The lowest whole number, or 0.
        high: The highest whole number, or 0.
        fractions: Whether there are other numbers.
    """

    firsts: set[bytes] = field(default_factory=set)
    low: float = 0
    high: float = 0
    fractions: bool = False

    def look(self, values: list[bytes]) -> None:
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
        notes: Sentences on what was read otherwise than it is written.
        rows: Number of rows of each file.
        schema: The keys of all objects.

    Raises:
        SourceError: Something in a file is no JSON object.
    """

    def __init__(self, files: Sequence[TextFile]) -> None:
        self._files = files
        self.rows: list[int | None] = []
        kinds: defaultdict[str, _Kind] = defaultdict(_Kind)
        mended: dict[str, None] = {}
        for file in files:
            rows = 0
            for objects in _objects(file, mended):
                rows += len(objects)
                values: defaultdict[str, list[bytes]] = defaultdict(list)
                for item in objects:
                    for key, raw in item.items():
                        values[key].append(bytes(raw))
                for key, found in values.items():
                    kinds[key].look(found)
            self.rows.append(rows)
        self.schema = pa.schema([(key, kind.type()) for key, kind in kinds.items()])
        self.notes = tuple(
            f"The file {name!r} has text with one half of a character, such as \\ud83d alone; "
            "U+FFFD stands in its place here."
            for name in mended
        )

    def settled(self, text: Collection[str]) -> Objects:
        """The same with these columns as text, whatever their neighbours: 1.10 stays 1.10."""
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
            number: Which one, from 0.
            columns: May be empty; then there is one of nulls.
        """
        schema = pa.schema([self.schema.field(name) for name in columns] or [("", pa.null())])
        for objects in _objects(self._files[number], {}):
            arrays = [
                _column([item.get(one.name, _NULL) for item in objects], one.type) for one in schema
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _column(values: list[msgspec.Raw], kind: Any) -> Any:
    if kind == pa.null():
        return pa.nulls(len(values))
    if kind == _JSON:
        texts = [None if text == b"null" else text for text in map(bytes, values)]
        return pa.ExtensionArray.from_storage(kind, pa.array(texts, pa.binary()).cast(pa.string()))
    if kind == pa.large_string():
        return pa.array([_plain(bytes(value)) for value in values], kind)
    return pa.array(_LISTS[kind].decode(b"[" + b",".join(values) + b"]"), kind)


def _plain(raw: bytes) -> str | None:
    """A value as text: strings without quotes, all else as it stands."""
    if raw == b"null":
        return None
    return _string(raw) if raw[:1] == b'"' else raw.decode()


def _objects(file: TextFile, mended: dict[str, None]) -> Iterator[list[_Row]]:
    """The objects of a file, some at a time."""
    parts = _to_line_ends(file)
    head = next(parts, b"")
    first = _EMPTY.sub(b"", head, count=1).partition(b"\n")[0]
    if first[:1] == b"[" or (first[:1] == b"{" and not _is_complete(first)):
        whole, size = [], 0
        for part in chain([head], parts):
            whole.append(part)
            size += len(part)
            _check_size(file, size)
        yield from _of_whole(file, b"".join(whole), mended)
        return
    line = 1
    for part in chain([head], parts):
        try:
            objects = _decoded(_rows, part, file, mended)[0]
        except (msgspec.DecodeError, RecursionError):
            objects = []
            for number, text in enumerate(part.split(b"\n"), line):
                objects += _one(text, file, number)
        if objects:
            yield objects
        line += part.count(b"\n")


def _of_whole(file: TextFile, text: bytes, mended: dict[str, None]) -> Iterator[list[_Row]]:
    """The objects of an array, or of a file with line ends within objects."""
    wrong = None
    try:
        decode = _array if text.lstrip()[:1] == b"[" else _items
        items, text = _decoded(decode, text, file, mended)
    except (msgspec.DecodeError, RecursionError) as error:
        place = re.search(r"\(byte (\d+)\)", str(error))
        wrong = 1 + text.count(b"\n", 0, int(place[1]) if place else len(text.rstrip()))
    if wrong is not None:
        raise _broken(file, wrong)
    step = max(1, BLOCK_BYTES // max(1, len(text) // max(1, len(items))))
    for start in range(0, len(items), step):
        try:
            objects = _rows(b"\n".join(items[start : start + step]))
        except (msgspec.DecodeError, RecursionError):
            objects = [
                row for item, line in _with_lines(items, text) for row in _one(item, file, line)
            ]
        yield objects


def _with_lines(items: list[msgspec.Raw], text: bytes) -> Iterator[tuple[bytes, int]]:
    """The items of a text, and the line where each begins."""
    end, line = 0, 1
    for item in map(bytes, items):
        # Between two items there is nothing but space and commas.
        begin = text.index(item, end)
        line += text.count(b"\n", end, begin)
        yield item, line
        line += item.count(b"\n")
        end = begin + len(item)


def _to_line_ends(file: TextFile) -> Iterator[bytes]:
    """Text in blocks that end where a line does."""
    held: list[bytes] = []
    size = 0
    for block in blocks(file):
        end = block.rfind(b"\n") + 1
        if end:
            yield b"".join([*held, block[:end]])
            held, size = [], 0
        held.append(block[end:])
        size += len(block) - end
        _check_size(file, size)
    if size:
        yield b"".join(held)


def _check_size(file: TextFile, size: int) -> None:
    if size > _WHOLE_BYTES:
        raise SourceError(
            f"The file {file.name!r} is too large to be read as it is, since it is not one JSON "
            f"object a line and has more than {_WHOLE_BYTES:,} bytes. Convert it first, for "
            "example with: jq -c '.[]' old > new"
        )


def _is_complete(text: bytes) -> bool:
    try:
        _rows(_mended(text))
    except msgspec.ValidationError:
        return True
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _one(text: bytes, file: TextFile, line: int) -> list[_Row]:
    """The objects of one line, or what is wrong with it."""
    try:
        return _rows(_mended(text))
    except msgspec.ValidationError:
        problem = SourceError(
            f"Line {line} of the file {file.name!r} has something else than a JSON object; each "
            'row must be one, such as {"key": "value"}.'
        )
    except (msgspec.DecodeError, RecursionError):
        problem = _broken(file, line)
    raise problem


def _broken(file: TextFile, line: int) -> SourceError:
    return SourceError(
        f"Line {line} of the file {file.name!r} is no valid JSON, or is nested too deeply."
    )


_ESCAPES: Final = re.compile(
    rb"(\\u[dD][89abAB]%(hex)b\\u[dD][c-fC-F]%(hex)b)|(\\u[dD][89a-fA-F]%(hex)b)|\\."
    % {b"hex": b"[0-9a-fA-F]{2}"}
)


def _mended(text: bytes) -> bytes:
    r"""Text with U+FFFD for halves of characters, such as ``\ud83d`` alone, as cut emoji leave."""
    return _ESCAPES.sub(lambda found: rb"\ufffd" if found[2] else found[0], text)


def _decoded(
    decode: Callable[[bytes], Any], text: bytes, file: TextFile, mended: dict[str, None]
) -> tuple[Any, bytes]:
    """What is in a text, and the text that was decoded."""
    try:
        return decode(text), text
    except msgspec.DecodeError:
        whole = _mended(text)
        if whole == text:
            raise
    result = decode(whole)
    mended[file.name] = None
    return result, whole

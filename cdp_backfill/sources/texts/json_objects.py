"""Reads the objects of a JSON file: one on each line, in an array, or one after another."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Final

import msgspec

from cdp_backfill.errors import SourceError
from cdp_backfill.sources.texts import apple_reports
from cdp_backfill.sources.texts.json_text import Scanner, replace_half_characters, replace_words
from cdp_backfill.sources.texts.reading import SKIP_HINT, blocks, count_letter
from cdp_backfill.sources.texts.unreadable import (
    CUT,
    NO_JSON,
    NO_OBJECT,
    NO_TEXT,
    UNDECODED_BYTES,
    Unreadable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cdp_backfill.sources.texts.reading import TextFile

Row = dict[str, msgspec.Raw]

MAX_OBJECT_BYTES: Final = 2**28
"""Most bytes of an object, or of a line; it is held as a whole."""

# Reads objects one after another, with or without line ends between and inside them.
_rows: Final = msgspec.json.Decoder(Row).decode_lines
_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode

# Objects without a key look the same in every layout.
_EMPTY: Final = re.compile(rb"\s*+(?:\{\s*+\}\s*+)*+")

_PLACE: Final = re.compile(r"\(byte (\d+)\)")


@dataclass(slots=True)
class Remarks:
    r"""What is read differently from the files.

    Attributes:
        halves: Files with half a character, such as ``\ud83d`` alone.
        nans: Number of NaN by file.
        windows: See :func:`cdp_backfill.sources.texts.reading.blocks`.
    """

    halves: dict[str, None] = field(default_factory=dict)
    nans: Counter[str] = field(default_factory=Counter)
    windows: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Block:
    """Some objects of a file.

    Attributes:
        text: Their JSON, one after another. It may not be valid.
        rows: Decodes them. It raises SourceError for something other than objects, and notes what
            it reads differently.
    """

    text: bytes
    rows: Callable[[], list[Row]]


def read_objects(file: TextFile, remarks: Remarks) -> Iterator[list[Row]]:
    """The objects of a file, some at a time; see :func:`read_blocks`."""
    for block in read_blocks(file, remarks):
        if objects := block.rows():
            yield objects


def read_blocks(file: TextFile, remarks: Remarks) -> Iterator[Block]:
    """The objects of a file as blocks that are not decoded yet.

    Args:
        file: The file.
        remarks: Gets what is read differently.

    Raises:
        SourceError: The file cannot be read, or holds something other than objects. If the file
            skips those, each is a row of its own where it is certain where the next row begins.
    """
    parts = blocks(file, remarks.windows)
    head = next(parts, b"")
    first = _EMPTY.sub(b"", head, count=1).partition(b"\n")[0]
    if file.skips and _has_object_lines(head):
        yield from _lines(file, chain([head], parts), remarks)
        return
    if apple_reports.is_report(head) and _is_complete(first):
        report = _apple_report(file, chain([head], parts))
        yield Block(b"", lambda: [report])
        return
    is_array = head.lstrip()[:1] == b"["
    if is_array or (first[:1] == b"{" and not _is_complete(first)):
        yield from _split(file, chain([head], parts), remarks, is_array=is_array)
        return
    yield from _lines(file, chain([head], parts), remarks)


def _lines(file: TextFile, parts: Iterable[bytes], remarks: Remarks) -> Iterator[Block]:
    """The objects of a file that has them on lines."""
    line = 1
    for part in _to_line_ends(file, parts):
        if file.skips:  # else, what else is in a block would decide whether an object has lines
            yield Block(b"", partial(_object_lines, part, line, file, remarks))
        else:
            yield Block(part, partial(_decode_lines, part, line, file, remarks))
        line += count_letter(part, b"\n")


def _decode_lines(text: bytes, line: int, file: TextFile, remarks: Remarks) -> list[Row]:
    try:
        return _decode(text, file, remarks)
    except (msgspec.DecodeError, RecursionError):
        lines = enumerate(text.split(b"\n"), line)
        return [row for number, each in lines for row in _decode_at(each, number, file, remarks)]


def _object_lines(text: bytes, line: int, file: TextFile, remarks: Remarks) -> list[Row]:
    """The objects of some lines; a line that is none is a row of its own."""
    objects: list[Row] = []
    for number, each in enumerate(text.split(b"\n"), line):
        objects += _decode_or_skip(each, number, file, remarks)
    return objects


def _decode_or_skip(text: bytes, line: int, file: TextFile, remarks: Remarks) -> list[Row]:
    """The objects of a text, or the row that says why it has none."""
    reason = NO_JSON
    try:
        if UNDECODED_BYTES not in text:
            return _decode(text, file, remarks)
        reason = NO_TEXT
    except msgspec.ValidationError:
        reason = NO_OBJECT
    except (msgspec.DecodeError, RecursionError):
        pass
    return [Unreadable(reason, line, text).as_object()]


def _has_object_lines(head: bytes) -> bool:
    """Whether a text has objects on lines, although some of its lines cannot be read.

    In an array, and in an object with line ends in it, other objects are indented or have a comma
    behind them.
    """
    first, *others = head.split(b"\n")
    if first[:1] == b"[" and not _is_value(first):
        return False
    return any(
        line[:1] == b"{" and not _EMPTY.fullmatch(line) and _is_complete(line)
        for line in (first, *others)
    )


def _is_value(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _apple_report(file: TextFile, parts: Iterable[bytes]) -> Row:
    text: list[bytes] = []
    for part in parts:
        text.append(part)
        _check_size(file, sum(map(len, text)))
    with suppress(msgspec.DecodeError, RecursionError):
        return apple_reports.report(replace_half_characters(b"".join(text)))
    raise _broken_line(file, 2)


def _to_line_ends(file: TextFile, parts: Iterable[bytes]) -> Iterator[bytes]:
    """Text in blocks that end at the end of a line."""
    pending: list[bytes] = []
    size = 0
    for block in parts:
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
    if size > MAX_OBJECT_BYTES:
        raise SourceError(
            f"The file {file.name!r} has an object, or a line, of more than {MAX_OBJECT_BYTES:,} "
            "bytes. If the rows are inside it, take them out first, for example with: jq -c '.[]' "
            "old > new"
        )


def _split(
    file: TextFile, parts: Iterable[bytes], remarks: Remarks, *, is_array: bool
) -> Iterator[Block]:
    """The objects of an array, or of a file with line ends inside objects.

    Of the text, only the object that a block ends in is held until the next block.
    """
    splitter = _Splitter(file, is_array=is_array)
    for part in parts:
        items = splitter.split(part)
        if file.skips and (items.places or items.others):
            yield Block(b"", partial(_decode_or_skip_items, items, file, remarks))
        elif items.places:
            text = items.joined()
            yield Block(text, partial(_decode_items, text, items, file, remarks))
    if rest := [each.as_object() for each in splitter.finish()]:
        yield Block(b"", lambda: rest)


def _decode_items(text: bytes, items: _Items, file: TextFile, remarks: Remarks) -> list[Row]:
    try:
        return _decode(text, file, remarks)
    except (msgspec.DecodeError, RecursionError):
        return [row for item in items.each() for row in _decode_at(*item, file, remarks)]


def _decode_or_skip_items(items: _Items, file: TextFile, remarks: Remarks) -> list[Row]:
    objects = [row for item in items.each() for row in _decode_or_skip(*item, file, remarks)]
    for place, other in reversed(items.others):
        objects.insert(place, other.as_object())
    return objects


@dataclass(frozen=True, slots=True)
class _Items:
    """Whole objects in a text.

    Attributes:
        text: The text.
        line: Number of its first line.
        places: Where the objects begin and end.
        others: Other values, each with the number of objects before it, if these are skipped.
    """

    text: bytes
    line: int
    places: list[tuple[int, int]]
    others: list[tuple[int, Unreadable]]

    def joined(self) -> bytes:
        """The objects with nothing but line ends between them."""
        return b"\n".join(self.text[begin:end] for begin, end in self.places)

    def each(self) -> Iterator[tuple[bytes, int]]:
        """Each object and the number of its first line."""
        line, last = self.line, 0
        for begin, end in self.places:
            line += self.text.count(b"\n", last, begin)
            yield self.text[begin:end], line
            last = begin


class _Splitter:
    """Cuts text into objects at their outer brackets, and checks what is between them."""

    def __init__(self, file: TextFile, *, is_array: bool) -> None:
        self._file = file
        self._is_array = is_array
        self._scanner = Scanner(1 if is_array else 0)
        self._backslashes = b""
        self._count = 0  # of all objects so far
        # Since the end of the last of them: the text, its size, its first line, and the place
        # where an object begins in it.
        self._parts: list[bytes] = []
        self._size, self._line = 0, 1
        self._begin: list[int] = []

    def split(self, block: bytes) -> _Items:
        """The objects that end in the next block."""
        block = self._backslashes + block
        size = len(block.rstrip(b"\\"))
        block, self._backslashes = block[:size], block[size:]
        starts, stops, line_end = self._scanner.scan(block)
        if line_end is not None:
            before = sum(part.count(b"\n") for part in self._parts)
            line = self._line + before + block.count(b"\n", 0, line_end)
            raise _broken_line(self._file, line)
        begins = [*self._begin, *(self._size + start for start in starts)]
        places = list(zip(begins, (self._size + stop for stop in stops), strict=False))
        text, line = b"".join([*self._parts, block]) if places else b"", self._line
        others: list[tuple[int, Unreadable]] = []
        last = counted = 0
        gap_line = line
        for number, (begin, end) in enumerate(places):
            gap = text[last:begin]
            if gap.strip() != self._separator:
                gap_line += text.count(b"\n", counted, last)
                counted = last
                others += [(number, other) for other in self._check_gap(gap, gap_line)]
            self._count += 1
            last = end
        self._parts = [text[last:]] if places else [*self._parts, block]
        self._size += len(block) - last
        self._line += text.count(b"\n", 0, last)
        self._begin = [begin - last for begin in begins[len(places) :]]
        _check_size(self._file, self._size)
        return _Items(text, line, places, others)

    @property
    def _separator(self) -> bytes:
        """What stands before the next object."""
        return (b"," if self._count else b"[") if self._is_array else b""

    def _check_gap(self, gap: bytes, line: int, behind: bytes = b",") -> list[Unreadable]:
        """Check the text before an object, or behind the last one.

        Args:
            gap: The text.
            line: Number of its first line.
            behind: What follows a value of an array.

        Returns:
            The values in it that are no objects, if these are skipped.
        """
        before, found = self._separator, gap.strip()
        if found == before and behind == b",":
            return []
        if self._file.skips and found.startswith(before) and found.endswith(behind):
            with suppress(msgspec.DecodeError, RecursionError):
                inside = found[len(before) : len(found) - len(behind)].rstrip(b",")
                return list(_values(gap, inside, line))
        raise self._wrong(gap, line)

    def finish(self) -> list[Unreadable]:
        """Check the text behind the last object.

        Returns:
            What is not an object, if it is skipped; also the object that the file ends in.

        Raises:
            SourceError: An object or the array does not end, or there is something else.
        """
        rest = b"".join([*self._parts, self._backslashes])
        expected = b""
        if self._is_array:
            expected = b"]" if self._count else b"[]"
        if self._begin and self._file.skips:
            place = self._begin[0]
            line = self._line + rest.count(b"\n", 0, place)
            others = self._check_gap(rest[:place], self._line)
            return [*others, Unreadable(CUT, line, rest[place:])]
        if self._begin or self._scanner.in_string:
            raise _broken_line(self._file, self._line + rest.rstrip().count(b"\n"))
        if b"".join(rest.split()) != expected:
            if self._is_array:
                return self._check_gap(rest, self._line, b"]")
            raise self._wrong(rest, self._line)
        return []

    def _wrong(self, gap: bytes, line: int) -> SourceError:
        """The error about a text between objects: other values, or no JSON."""
        other = gap.strip(b" \t\r\n[],")
        place = gap.index(other) if other else len(gap.rstrip())
        line += gap.count(b"\n", 0, place)
        try:
            is_value = b"{" not in other and bool(_list(b"[" + other + b"]"))
        except msgspec.DecodeError:
            is_value = False
        return _no_object(self._file, line) if is_value else _broken_line(self._file, line)


def _values(text: bytes, listed: bytes, line: int) -> Iterator[Unreadable]:
    """Values that are no objects.

    Args:
        text: A text with them.
        listed: They alone, with a comma between them.
        line: Number of the first line of the text.
    """
    place = counted = 0
    for value in _list(b"[" + listed + b"]"):
        place = text.index(bytes(value), place)
        line += text.count(b"\n", counted, place)
        counted = place
        yield Unreadable(NO_OBJECT, line, bytes(value))
        place += len(value)


def _decode(text: bytes, file: TextFile, remarks: Remarks) -> list[Row]:
    """The objects of a text, with what JSON does not have replaced."""
    try:
        return _rows(text)
    except msgspec.DecodeError:
        whole = replace_half_characters(text)
        changed, nans = replace_words(whole)
        if changed == text:
            raise
    objects = _rows(changed)
    if whole != text:
        remarks.halves[file.name] = None
    if nans:
        remarks.nans[file.name] += nans
    return objects


def _is_complete(text: bytes) -> bool:
    try:
        _rows(replace_words(replace_half_characters(text))[0])
    except msgspec.ValidationError:
        return True
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _decode_at(text: bytes, line: int, file: TextFile, remarks: Remarks) -> list[Row]:
    """The objects of a text.

    Args:
        text: The text.
        line: Number of its first line.
        file: The file.
        remarks: Gets what is read differently.
    """
    try:
        return _decode(text, file, remarks)
    except msgspec.ValidationError:
        problem = _no_object(file, line)
    except (msgspec.DecodeError, RecursionError) as error:
        place = _PLACE.search(str(error))
        end = int(place[1]) if place else 0
        problem = _broken_line(file, line + text.count(b"\n", 0, end))
    raise problem


def _no_object(file: TextFile, line: int) -> SourceError:
    return SourceError(
        f"Line {line} of the file {file.name!r} is not a JSON object. Each row must be one, such "
        f'as {{"key": "value"}}. {SKIP_HINT}'
    )


def _broken_line(file: TextFile, line: int) -> SourceError:
    return SourceError(
        f"Line {line} of the file {file.name!r} is not valid JSON, or is nested too deeply. "
        f"Correct the line. {SKIP_HINT}"
    )

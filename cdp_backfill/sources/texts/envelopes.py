"""Opens envelopes: JSON objects whose rows lie below one of their keys.

Only an object without anything else but keys of transport is an envelope. Any other key could say
something about each row, and would be lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from cdp_backfill.errors import SourceError
from cdp_backfill.model.outcomes import UNREADABLE
from cdp_backfill.model.plurals import count
from cdp_backfill.sources.unpacking import BLOCK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Row = dict[str, msgspec.Raw]

_object: Final = msgspec.json.Decoder(Row).decode
_objects: Final = msgspec.json.Decoder(Row).decode_lines
_items: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_text: Final = msgspec.json.Decoder(str).decode

_MAX_DEPTH: Final = 3

_ROW: Final = frozenset({"_airbyte_data", "data", "payload", "record"})
"""Keys below which an envelope keeps one row."""

_ROWS: Final = frozenset({"batch", "data", "events", "messages", "records", "results", "rows"})
"""Keys below which an envelope keeps a list of rows."""

_LOADING: Final = frozenset({"emitted_at", "namespace", "schema", "sequence", "stream"})
"""Keys that loading tools put beside a row."""

_PREFIXES: Final = ("_airbyte_", "_fivetran_", "_sdc_")
"""What other such keys begin with."""

_MESSAGE: Final = frozenset({"time_extracted", "type", "version"})
"""Keys of a message whose type is RECORD."""

_ANSWER: Final = frozenset(
    """
    api_key apikey batchid count cursor error errors has_more hasmore limit links next next_cursor
    next_page nextcursor nextpage notifier offset ok page paging pagination payloadversion per_page
    previous query_rows request_id requestid sampled sent_at sentat status success took total
    total_count write_key writekey
    """.split()  # noqa: SIM905  # a list of strings would take forty lines
)
"""Keys of requests and of answers in pages, beside a list of rows; in lower case."""

_OTHER_MESSAGES: Final = frozenset(
    """
    ACTIVATE_VERSION BATCH CATALOG CONNECTION_STATUS CONTROL DESTINATION_CATALOG LOG SCHEMA SPEC
    STATE TRACE
    """.split()  # noqa: SIM905
)
"""Types of the messages of loading tools that hold no row."""


class _NotAnEnvelopeError(Exception):
    """An object is not the envelope that the first object of the files is."""


class _SeveralStreamsError(Exception):
    """The messages of a loading tool belong to several tables."""


@dataclass(slots=True)
class Opening:
    """Takes rows out of envelopes of one kind.

    Attributes:
        path: The keys that lead to the rows.
        many: Whether a list of rows is there, and not one row.
        left_out: Keys beside the rows.
        others: Number of messages without a row.
    """

    path: tuple[str, ...]
    many: bool
    left_out: set[str] = field(default_factory=set)
    others: int = 0
    _stream: bytes | None = None

    @property
    def _where(self) -> str:
        return ".".join(self.path)

    def notes(self) -> list[str]:
        """What people should know about the opening, in sentences."""
        what = f"The rows are inside {self._where!r} of each object"
        if self.left_out:
            what += f"; the keys beside them are left out ({', '.join(sorted(self.left_out))})"
        notes = [f"{what}."]
        if self.others:
            notes.append(f"Without a row: {count(self.others, 'message')} of a loading tool.")
        return notes

    def rows(self, blocks: Iterable[list[Row]], name: str) -> Iterator[list[Row]]:
        """The rows in the envelopes of a file, some at a time.

        Args:
            blocks: The objects of the file, some at a time.
            name: The name of the file, for errors.

        Raises:
            SourceError: An object is another one, or the objects belong to several tables.
        """
        problem = None
        jq = f"{self._where}[]" if self.many else self._where
        try:
            yield from self._rows(blocks)
        except _NotAnEnvelopeError:
            problem = (
                f"The file {name!r} holds objects of several kinds: the rows of the first one are "
                f"inside {self._where!r}, and another one lacks that or has other keys beside it. "
                f"Take the rows out first, for example with: jq -c '.{jq}' old > new"
            )
        except _SeveralStreamsError:
            problem = (
                f"The file {name!r} holds the rows of several streams. Take out one of them first, "
                f"for example with: jq -c 'select(.stream == \"NAME\") | .{jq}' old > new"
            )
        if problem is not None:  # raised here, without the object in its context
            raise SourceError(problem)

    def _rows(self, blocks: Iterable[list[Row]]) -> Iterator[list[Row]]:
        for block in blocks:
            rows: list[Row] = []
            size = 0
            for each in block:
                if UNREADABLE in each:
                    rows.append(each)
                    continue
                if _is_other_message(each):
                    self.others += 1
                    continue
                inside = self._inside(each)
                try:
                    for part in _parts(inside) if self.many else [[_object(inside)]]:
                        rows += part
                        size += sum(len(bytes(value)) for row in part for value in row.values())
                        if size > BLOCK_BYTES:
                            yield rows
                            rows, size = [], 0
                except msgspec.DecodeError:
                    raise _NotAnEnvelopeError from None
            if rows:
                yield rows

    def _inside(self, envelope: Row) -> bytes:
        """The JSON of the rows in an envelope."""
        inside = b""
        for key in self.path:
            if inside:
                envelope = _object(inside)
            if "stream" in envelope:
                stream = bytes(envelope["stream"])
                if self._stream not in (None, stream):
                    raise _SeveralStreamsError
                self._stream = stream
            if not _is_envelope(envelope, key):
                raise _NotAnEnvelopeError
            self.left_out |= envelope.keys() - {key}
            inside = bytes(envelope[key])
        return inside


def _parts(text: bytes) -> Iterator[list[Row]]:
    """The objects of a JSON list, some at a time."""
    items = [] if text == b"null" else _items(text)
    step = max(1, BLOCK_BYTES // max(1, len(text) // max(1, len(items))))
    for start in range(0, len(items), step):
        yield _objects(b"\n".join(items[start : start + step]))


def find_opening(objects: Iterable[Row]) -> Opening | None:
    """How to open the envelopes that some objects are; None if they are none.

    >>> opening = find_opening([{"data": msgspec.Raw(b'{"uid": "ada"}')}])
    >>> opening.path
    ('data',)
    """
    first = next(
        (row for row in objects if row and UNREADABLE not in row and not _is_other_message(row)),
        None,
    )
    path: list[str] = []
    while first is not None and len(path) < _MAX_DEPTH:
        key = _key(first)
        if key is None:
            break
        path.append(key)
        if bytes(first[key])[:1] == b"[":
            return Opening(tuple(path), many=True)
        first = _object(first[key])
    return Opening(tuple(path), many=False) if path else None


def _key(envelope: Row) -> str | None:
    """The key below which an envelope keeps its rows; None if it is no envelope."""
    keys = [key for key, value in envelope.items() if _holds_rows(key, bytes(value))]
    return keys[0] if len(keys) == 1 and _is_envelope(envelope, keys[0]) else None


def _is_envelope(envelope: Row, key: str) -> bool:
    """Whether an object has the rows, and nothing but keys of transport beside them."""
    known: frozenset[str] = _LOADING
    if bytes(envelope.get("type", b"")).upper() == b'"RECORD"':
        known |= _MESSAGE
    if bytes(envelope.get(key, b""))[:1] in (b"[", b"n"):  # a list of rows, or null
        known |= _ANSWER
    return key in envelope and all(
        other.casefold() in known or other.casefold().startswith(_PREFIXES)
        for other in envelope.keys() - {key}
    )


def _holds_rows(key: str, value: bytes) -> bool:
    if value[:1] == b"{":
        return key in _ROW
    return value[:1] == b"[" and key in _ROWS and _count_rows(value) is not None


def _count_rows(value: bytes) -> int | None:
    """The number of objects in a JSON list; None if it holds anything else."""
    try:
        items = _items(value)
    except msgspec.DecodeError:
        return None
    return len(items) if all(bytes(item)[:1] == b"{" for item in items) else None


def _is_other_message(each: Row) -> bool:
    kind = bytes(each["type"]) if "type" in each else b""
    return kind[:1] == b'"' and _text(kind) in _OTHER_MESSAGES


def check_not_a_list(only: Row, name: str) -> None:
    """Refuse an object that is alone in its file and has a list of rows beside other keys.

    Raises:
        SourceError: It is one; the text says how to take out the rows.
    """
    keys = [
        key
        for key, value in only.items()
        if key in _ROWS and bytes(value)[:1] == b"[" and (_count_rows(bytes(value)) or 0) > 1
    ]
    if len(keys) == 1:
        raise SourceError(
            f"The file {name!r} holds one object, and its rows are in a list below {keys[0]!r}, "
            "beside other keys. Take them out first, for example with: jq -c "
            f"'.{keys[0]}[]' old > new"
        )

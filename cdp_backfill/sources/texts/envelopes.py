"""Opens envelopes: JSON objects whose records lie below one of their keys.

Only an object without anything else but keys of transport is an envelope. Any other key could say
something about each record, and would be lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from cdp_backfill.sources.texts.reading import BLOCK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Row = dict[str, msgspec.Raw]

_object: Final = msgspec.json.Decoder(Row).decode
_objects: Final = msgspec.json.Decoder(Row).decode_lines
_items: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_text: Final = msgspec.json.Decoder(str).decode

_MAX_DEPTH: Final = 3

_RECORD: Final = frozenset({"data", "record", "payload", "_airbyte_data"})
"""Keys below which an envelope keeps one record."""

_RECORDS: Final = frozenset({"batch", "data", "events", "messages", "records", "results", "rows"})
"""Keys below which an envelope keeps a list of records."""

_LOADING: Final = frozenset({"emitted_at", "namespace", "schema", "sequence", "stream"})
"""Keys that loading tools put beside a record."""

_PREFIXES: Final = ("_airbyte_", "_sdc_", "_fivetran_")
"""What other such keys begin with."""

_MESSAGE: Final = frozenset({"time_extracted", "type", "version"})
"""Keys of a message whose type is RECORD."""

_ANSWER: Final = frozenset(
    "api_key apikey batchid count cursor error errors has_more hasmore limit links next next_cursor "
    "next_page nextcursor nextpage notifier offset ok page paging pagination payloadversion "
    "per_page previous query_rows request_id requestid sampled sent_at sentat status success took "
    "total total_count write_key writekey".split()
)
"""Keys of requests and of answers in pages, beside a list of records; without letter case."""

_OTHER_MESSAGES: Final = frozenset(
    "ACTIVATE_VERSION BATCH CATALOG CONNECTION_STATUS CONTROL DESTINATION_CATALOG LOG SCHEMA SPEC "
    "STATE TRACE".split()
)
"""Types of the messages of loading tools that hold no record."""


class NotAnEnvelopeError(Exception):
    """An object is not the envelope that the first object of the files is."""


class SeveralStreamsError(Exception):
    """The messages of a loading tool belong to several tables."""


@dataclass(slots=True)
class Opening:
    """Takes records out of envelopes of one kind.

    Attributes:
        path: The keys that lead to the records.
        many: Whether a list of records is there, and not one record.
        dropped: Keys beside the records.
        skipped: Number of messages without a record.
    """

    path: tuple[str, ...]
    many: bool
    dropped: set[str] = field(default_factory=set)
    skipped: int = 0
    _stream: bytes | None = None

    def rows(self, objects: Iterable[Row]) -> Iterator[list[Row]]:
        """The records in envelopes, some at a time.

        Raises:
            NotAnEnvelopeError: An object is another one.
            SeveralStreamsError: The objects belong to several tables.
        """
        rows: list[Row] = []
        for each in objects:
            if _is_other_message(each):
                self.skipped += 1
                continue
            inside = self._inside(each)
            try:
                if not self.many:
                    rows.append(_object(inside))
                elif inside != b"null":
                    items = _items(inside)
                    step = max(1, BLOCK_BYTES // max(1, len(inside) // max(1, len(items))))
                    for start in range(0, len(items), step):
                        yield _objects(b"\n".join(items[start : start + step]))
            except msgspec.DecodeError:
                raise NotAnEnvelopeError from None
        if rows:
            yield rows

    def _inside(self, envelope: Row) -> bytes:
        """The JSON of the records in an envelope."""
        *outer, last = self.path
        try:
            for key in outer:
                self._note(envelope, key)
                envelope = _object(envelope[key])
            self._note(envelope, last)
            return bytes(envelope[last])
        except (KeyError, msgspec.DecodeError):
            raise NotAnEnvelopeError from None

    def _note(self, envelope: Row, key: str) -> None:
        if "stream" in envelope:
            stream = bytes(envelope["stream"])
            if self._stream not in (None, stream):
                raise SeveralStreamsError
            self._stream = stream
        if not _is_envelope(envelope, key):
            raise NotAnEnvelopeError
        self.dropped |= envelope.keys() - {key}


def find_opening(objects: Iterable[Row]) -> Opening | None:
    """How to open the envelopes that some objects are; None if they are none.

    >>> find_opening([{"data": msgspec.Raw(b'{"uid": "ada"}')}])
    Opening(path=('data',), many=False, dropped=set(), skipped=0, _stream=None)
    """
    first = next((each for each in objects if each and not _is_other_message(each)), None)
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
    """The key below which an envelope keeps its records; None if it is no envelope."""
    keys = [key for key, value in envelope.items() if _holds_records(key, bytes(value))]
    return keys[0] if len(keys) == 1 and _is_envelope(envelope, keys[0]) else None


def _is_envelope(envelope: Row, key: str) -> bool:
    """Whether nothing but keys of transport is beside the records."""
    known: frozenset[str] = _LOADING
    if bytes(envelope.get("type", b"")).upper() == b'"RECORD"':
        known |= _MESSAGE
    if bytes(envelope.get(key, b""))[:1] in (b"[", b"n"):  # a list of records, or null
        known |= _ANSWER
    return all(
        other.casefold() in known or other.casefold().startswith(_PREFIXES)
        for other in envelope.keys() - {key}
    )


def _holds_records(key: str, value: bytes) -> bool:
    if value[:1] == b"{":
        return key in _RECORD
    return value[:1] == b"[" and key in _RECORDS and _count_records(value) is not None


def _count_records(value: bytes) -> int | None:
    """The number of objects in a JSON list; None if it holds anything else."""
    try:
        items = _items(value)
    except msgspec.DecodeError:
        return None
    return len(items) if all(bytes(item)[:1] == b"{" for item in items) else None


def list_of_records(envelope: Row) -> str | None:
    """The key of the one list of two or more records in an object, whatever is beside it."""
    keys = [
        key
        for key, value in envelope.items()
        if key in _RECORDS and bytes(value)[:1] == b"[" and (_count_records(bytes(value)) or 0) > 1
    ]
    return keys[0] if len(keys) == 1 else None


def _is_other_message(each: Row) -> bool:
    kind = bytes(each["type"]) if "type" in each else b""
    return kind[:1] == b'"' and _text(kind) in _OTHER_MESSAGES


def is_apple_report(text: bytes) -> bool:
    """Whether a text begins like an Apple crash report (.ips): metadata in a line, then the report.

    >>> is_apple_report(b'{"bug_type":"309","os_version":"iPhone OS 17.2 (21C62)"}\\n{"procName": 1')
    True
    """
    head, _, rest = text.lstrip().partition(b"\n")
    return _is_apple_head(head) and not _is_apple_head(rest.lstrip().partition(b"\n")[0])


def _is_apple_head(line: bytes) -> bool:
    return line[:1] == b"{" and b'"bug_type"' in line and b'"os_version"' in line


def apple_report(text: bytes) -> Row:
    """The metadata of an Apple crash report and its body as one object.

    Older reports have a body that is no JSON; of these, it is the metadata alone.

    Raises:
        msgspec.DecodeError: The metadata or the body are broken JSON.
    """
    head, _, body = text.lstrip().partition(b"\n")
    row = _object(head)
    return (_object(body) if body.lstrip()[:1] == b"{" else {}) | row

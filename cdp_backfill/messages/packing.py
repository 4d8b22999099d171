"""Packs messages into requests: within the limits, as full as possible, each with its rows.

The packer has no I/O: feed it encoded messages, take the requests it yields, flush it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cdp_backfill.model import api_facts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp_backfill.messages.encoding import Encoded

_OPEN: Final = b"{"
_LIST: Final = b'"batch":['
_CLOSE: Final = b"]}"
_ENVELOPE: Final = len(_OPEN) + len(_LIST) + len(_CLOSE)

FIRST_MESSAGES: Final = 20
"""Messages of the first request of a run. It proves the key and the mapping, and nothing else is
in flight until it has done so: it is small, so that it is quick, and a bad row in it found soon."""

MAX_OPEN_REQUESTS: Final = 64
"""Most requests that wait for more messages, one for each context of ``batch`` scope."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A run of messages of one encoded batch.

    Attributes:
        encoded: Where the messages are.
        start: The first of them.
        stop: One after the last.
        owner: The owner passed to :meth:`Packer.feed` with them.
    """

    encoded: Encoded
    start: int
    stop: int
    owner: Any

    @property
    def size(self) -> int:
        """Bytes, including the comma after the last message."""
        return int(self.encoded.offsets[self.stop] - self.encoded.offsets[self.start])

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """The messages of one call of ``/batch``.

    Attributes:
        head: The top of the body beside ``batch``; ends in a comma unless empty.
        pieces: The messages.
        is_first: It is the small first request of a run.
    """

    head: bytes
    pieces: tuple[Piece, ...]
    is_first: bool = False

    @property
    def size(self) -> int:
        """Bytes of the body before compression."""
        return _ENVELOPE + len(self.head) + sum(piece.size for piece in self.pieces) - len(",")

    def __len__(self) -> int:
        return sum(len(piece) for piece in self.pieces)

    def body(self) -> bytes:
        """The body, before compression."""
        parts: list[bytes | memoryview] = [_OPEN, self.head, _LIST]
        for piece in self.pieces:
            offsets = piece.encoded.offsets
            parts.append(piece.encoded.data[offsets[piece.start] : offsets[piece.stop]])
        parts[-1] = parts[-1][:-1]
        parts.append(_CLOSE)
        return b"".join(parts)

    def split(self, parts: int = 2) -> list[Request]:
        """Requests with about equally many messages each, in the same order.

        Args:
            parts: Number of requests.

        Raises:
            ValueError: There are fewer messages than parts.
        """
        total = len(self)
        if not 1 <= parts <= total:
            raise ValueError(f"A request of {total} messages cannot be split into {parts}.")
        return self.cut([total * number // parts for number in range(1, parts + 1)])

    def cut(self, bounds: list[int]) -> list[Request]:
        """Requests that end before these messages, in the same order.

        Args:
            bounds: For each request, the number of the message after its last one; rising. The
                last bound is the number of all messages.
        """
        result: list[Request] = []
        pieces: list[Piece] = []
        position = 0
        for piece in self.pieces:
            start = piece.start
            while start < piece.stop:
                stop = min(piece.stop, start + bounds[len(result)] - position)
                pieces.append(Piece(piece.encoded, start, stop, piece.owner))
                position += stop - start
                start = stop
                if position == bounds[len(result)]:
                    result.append(Request(self.head, tuple(pieces)))
                    pieces = []
        return result


class _Open:
    """A request that still takes messages."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.size = 0
        self.count = 0


class Packer:
    """Packs messages into requests.

    Args:
        max_bytes: Largest body.
        max_messages: Most messages in a request.
        first_messages: Messages in the first request, if there are more for a second one; None to
            fill it as all others.

    Raises:
        ValueError: A limit leaves no room for a message.
    """

    def __init__(
        self,
        *,
        max_bytes: int = api_facts.MAX_REQUEST_BYTES,
        max_messages: int = api_facts.MAX_REQUEST_MESSAGES,
        first_messages: int | None = None,
    ) -> None:
        if max_messages < 1 or max_bytes <= _ENVELOPE:
            raise ValueError("The limits leave no room for a message.")
        self._max_bytes = max_bytes
        self._max_messages = max_messages
        self._first_messages = (
            first_messages if (first_messages or max_messages) < max_messages else None
        )
        self._open: dict[bytes, _Open] = {}

    def feed(self, encoded: Encoded, owner: Any = None) -> Iterator[Request]:
        """Add messages, and yield each request that is full.

        Args:
            encoded: The messages, in order.
            owner: Anything; the pieces of the requests keep it.

        Raises:
            ValueError: A single message does not fit into a request.
        """
        head, offsets, total = encoded.head, encoded.offsets, len(encoded)
        limit = self._max_bytes - _ENVELOPE - len(head) + len(",")
        start = 0
        while start < total:
            request = self._open.pop(head, None) or _Open()
            reach = offsets[start] + limit - request.size
            last_fitting = int(np.searchsorted(offsets, reach, side="right")) - 1
            most = self._first_messages or self._max_messages
            stop = min(last_fitting, total, start + most - request.count)
            if stop > start:
                piece = Piece(encoded, start, stop, owner)
                request.pieces.append(piece)
                request.size += piece.size
                request.count += len(piece)
            elif not request.pieces:
                raise ValueError("A message is larger than a request may be.")
            if stop < total or request.count == self._max_messages:
                is_first, self._first_messages = self._first_messages is not None, None
                yield Request(head, tuple(request.pieces), is_first)
            else:
                self._open[head] = request
            start = max(start, stop)
        if len(self._open) > MAX_OPEN_REQUESTS:  # the one that has waited longest goes as it is
            oldest = next(iter(self._open))
            yield Request(oldest, tuple(self._open.pop(oldest).pieces))

    def flush(self) -> Iterator[Request]:
        """Yield the requests that are not full."""
        while self._open:
            head = next(iter(self._open))
            yield Request(head, tuple(self._open.pop(head).pieces))

"""One chunk of rows on its way: checked, encoded, ready to be packed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyarrow as pa

from cdp_backfill.messages import Binding, MessageBatch, build
from cdp_backfill.messages.encoding import ContextScope, Encoded, encode, lengths
from cdp_backfill.model import api_facts
from cdp_backfill.model.mapping import Lit
from cdp_backfill.model.outcomes import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from cdp_backfill.sources import Chunk

    Mask = npt.NDArray[np.bool_]
    Rows = npt.NDArray[np.int64]
    Digests = npt.NDArray[np.uint8]


Recent = Literal["raise", "hold", "send"]
"""What becomes of rows that can still trigger campaigns."""

_NONE: Final[Rows] = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Limits:
    """Times that decide about rows, in milliseconds since 1970 UTC.

    Attributes:
        recent: Rows from here on can still trigger campaigns.
        latest: Rows beyond this lie in the future.
    """

    recent: int
    latest: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """The rows of a chunk, told apart.

    Attributes:
        messages: Their message fields, and what is wrong with them.
        skipped: Rows of the chunk that the mapping leaves out.
        duplicates: Rows of the chunk that are left out since their message id came before.
        recent: Among the messages, those that are young and have no problem.
        held: Those of them that are not to be sent.
        known: Rows of the chunk that were delivered before.
        dropped: Columns left out of messages that were too large, with the rows of the chunk.
        encoded: The messages to send, each with its rows in the chunk.
    """

    messages: MessageBatch
    skipped: Rows
    duplicates: Rows
    recent: Mask
    held: Mask
    known: Rows
    dropped: dict[str, Rows]
    encoded: list[tuple[Encoded, Rows]]


def prepare(
    binding: Binding,
    chunk: Chunk,
    *,
    limits: Limits,
    hold: bool,
    context_scope: ContextScope,
    with_digests: bool = False,
) -> Prepared:
    """Check and encode the rows of a chunk.

    Args:
        binding: The mapping.
        chunk: The rows.
        limits: Times that decide about rows.
        hold: Leave recent rows out.
        context_scope: See :func:`cdp_backfill.messages.encoding.encode`.
        with_digests: See there.
    """
    work = _Work(binding, chunk, limits, context_scope, with_digests=with_digests)
    recent = (work.messages.millis >= limits.recent) & work.good
    held = recent if hold else np.zeros(len(recent), dtype=bool)
    work.leave_out(held)
    work.encode()
    work.fit()
    messages = work.messages
    skipped = np.ones(chunk.batch.num_rows, dtype=bool)
    skipped[messages.rows] = False
    good = ~messages.problems.mask()
    return Prepared(
        messages=messages,
        skipped=np.flatnonzero(skipped),
        duplicates=_NONE,
        recent=recent & good,
        held=held & good,
        known=_NONE,
        dropped={name: messages.rows[mask] for name, mask in work.dropped.items()},
        encoded=[(part, messages.rows[part.rows]) for part in work.encoded],
    )


def sift(
    prepared: Prepared,
    *,
    knows: Callable[[Digests], Mask] | None = None,
    seen: Callable[[Digests], Mask] | None = None,
) -> Prepared:
    """Leave out what was delivered before, or came before.

    Args:
        prepared: The rows of a chunk.
        knows: Tells which messages were delivered before, or None.
        seen: Tells which message ids came before in this run, or None to let them pass.
    """
    parts = [part for part, _ in prepared.encoded]
    size = len(prepared.recent)
    none = np.zeros(size, dtype=bool)
    duplicates = none if seen is None else _told(parts, size, lambda part: seen(part.ids.keys()))
    known = none if knows is None else _told(parts, size, lambda part: knows(part.digests))
    # Of equal rows the journal knows all; only the first of them is the one that was sent.
    known = known & ~duplicates
    stays = ~(known | duplicates)
    if stays.all():
        return prepared
    left = [(part, rows, stays[part.rows]) for part, rows in prepared.encoded]
    return replace(
        prepared,
        duplicates=prepared.messages.rows[duplicates],
        known=prepared.messages.rows[known],
        # What was delivered before cannot message anybody again.
        recent=prepared.recent & stays,
        encoded=[(part.only(keep), rows[keep]) for part, rows, keep in left if keep.any()],
    )


def _told(parts: list[Encoded], size: int, tell: Callable[[Encoded], Mask]) -> Mask:
    """True for each message of which ``tell`` says so; it is asked in the order of the rows."""
    result = np.zeros(size, dtype=bool)
    for part in sorted(parts, key=lambda part: int(part.rows[0])):
        result[part.rows[tell(part)]] = True
    return result


class _Work:
    """The messages of a chunk, and which of them are encoded."""

    def __init__(
        self,
        binding: Binding,
        chunk: Chunk,
        limits: Limits,
        context_scope: ContextScope,
        *,
        with_digests: bool,
    ) -> None:
        self._binding, self._batch = binding, chunk.batch
        self._latest = limits.latest
        self._scope: ContextScope = context_scope
        self._with_digests = with_digests
        self.messages = build(binding, chunk.batch, latest=limits.latest)
        self.good = ~self.messages.problems.mask()
        self.dropped: dict[str, Mask] = {}
        self.encoded: list[Encoded] = []

    def leave_out(self, mask: Mask) -> None:
        """Send these not."""
        if not mask.any():
            return
        self.good &= ~mask
        parts = [(part, self.good[part.rows]) for part in self.encoded]
        self.encoded = [
            part if keep.all() else part.only(keep) for part, keep in parts if keep.any()
        ]

    def encode(self) -> None:
        """Write the good messages as JSON."""
        self.encoded = list(
            encode(
                self.messages.fields,
                message_id=self.messages.message_id,
                keep=self.good,
                context_scope=self._scope,
                with_digests=self._with_digests,
            )
        )

    def fit(self) -> None:
        """Drop what may be dropped from messages that are too large; note the others."""
        over = self._too_large()
        left = set(self._binding.mapping.droppable)
        while over.any() and left:
            left -= self._drop_largest(over, left)
            self.messages = build(
                self._binding, self._batch, latest=self._latest, without=self._whole_rows()
            )
            self.encode()
            over = self._too_large()
        if over.any():
            self._blame(over)
            self.leave_out(over)
        for name, mask in self.dropped.items():
            self.messages.problems.mended("dropped", name, mask & self.good)

    def _too_large(self) -> Mask:
        return _told(
            self.encoded, len(self.good), lambda part: part.sizes > api_facts.MAX_MESSAGE_BYTES
        )

    def _whole_rows(self) -> dict[str, Mask]:
        """What is dropped, by row of the chunk."""
        result = {}
        for name, mask in self.dropped.items():
            whole = np.zeros(self._batch.num_rows, dtype=bool)
            whole[self.messages.rows[mask]] = True
            result[name] = whole
        return result

    def _drop_largest(self, over: Mask, left: set[str]) -> set[str]:
        """Choose for each of these rows its largest column that may go and is not gone yet.

        Returns:
            The columns that are gone from all of them.
        """
        names = sorted(left)
        places = np.flatnonzero(over)
        chosen = pa.array(self.messages.rows[places])
        sizes = np.stack([_lengths(self.messages.plain(name).take(chosen)) for name in names])
        for number, name in enumerate(names):
            gone = self.dropped.setdefault(name, np.zeros(len(over), dtype=bool))
            sizes[number, gone[places]] = -1
        largest = np.argmax(sizes, axis=0)
        for number, name in enumerate(names):
            self.dropped[name][places[largest == number]] = True
        return {name for name in names if self.dropped[name][places].all()}

    def _blame(self, over: Mask) -> None:
        """Note for each oversize message which column makes most of it."""
        messages = self.messages
        positions = pa.array(np.flatnonzero(over))
        sizes: dict[str, Any] = {}
        for path, source in self._binding.leaves():
            for array in _at(messages.fields, path):
                shown = "lit()" if isinstance(source, Lit) else source
                size = lengths(array.take(positions))
                sizes[shown] = sizes.get(shown, 0) + size
        for name in self._binding.mapping.expand:
            plain = messages.plain(name).take(pa.array(messages.rows[over]))
            sizes[name] = _lengths(plain)
        names = list(sizes)
        largest = np.argmax(np.stack(list(sizes.values())), axis=0)
        for number in np.unique(largest):
            mask = np.zeros(len(over), dtype=bool)
            mask[np.flatnonzero(over)[largest == number]] = True
            reason = (
                f"the message is larger than {api_facts.MAX_MESSAGE_BYTES:,} bytes, "
                f"most of it from column {names[number]!r}"
            )
            messages.problems.add(mask, Problem("oversize", names[number], reason))


def _lengths(array: Any) -> Rows:
    """Bytes that the cells of a column take, about, whatever their type."""
    try:
        return lengths(array).astype(np.int64)
    except Exception:  # noqa: BLE001  # types that have no JSON as they are, such as maps of numbers
        return np.array([len(str(cell)) for cell in array.to_pylist()], dtype=np.int64)


def _at(fields: dict[str, Any], path: tuple[str, ...]) -> list[Any]:
    """The arrays at a path; JSON of several kinds has one for each."""
    found = [fields[path[0]]] if path[0] in fields else []
    for name in path[1:]:
        found = [
            array.field(number)
            for array in found
            for number in range(array.type.num_fields)
            if array.type.field(number).name == name
        ]
    return found

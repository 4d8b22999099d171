"""Checks and encodes one chunk of rows, so that it is ready to be packed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyarrow as pa

from cdp_backfill.messages import Binding, MessageBatch, build
from cdp_backfill.messages.encoding import ContextScope, Encoded, encode, lengths
from cdp_backfill.model import api_facts
from cdp_backfill.model.distinct import key_digests
from cdp_backfill.model.mapping import Lit
from cdp_backfill.model.outcomes import Problem
from cdp_backfill.pipeline.notes import DUPLICATE

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from cdp_backfill.messages.ids import Ids
    from cdp_backfill.model.arrays import Digests, Mask, Offsets, Rows
    from cdp_backfill.model.distinct import DigestSet
    from cdp_backfill.sources import Chunk


Recent = Literal["raise", "hold", "send"]
"""What to do with rows that can still trigger campaigns."""

_NO_ROWS: Final[Rows] = np.zeros(0, dtype=np.int64)

_TOGETHER: Final = 65_536
"""Cells of several columns whose sizes are found together."""


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """The times that rows are compared with, in milliseconds since 1970 UTC.

    Attributes:
        recent: A row at this time or later can still trigger campaigns.
        latest: A row after this time lies in the future.
        anonymous: A row before this time joins nobody if it has only an anonymous id.
    """

    recent: int
    latest: int
    anonymous: int


@dataclass(frozen=True, slots=True)
class PreparedChunk:
    """The rows of a chunk, sorted by what becomes of them.

    Attributes:
        messages: The message fields of the rows, and the problems with them.
        skipped: Rows of the chunk that are left out, by reason, without duplicates.
        duplicates: Rows of the chunk that are left out because an earlier row has their id.
        recent: Mask over the messages: recent ones without a problem.
        held: Mask over the messages: recent ones that are not to be sent.
        outside: Rows of the chunk that a canary does not need.
        delivered_before: Rows of the chunk that an earlier run delivered.
        dropped: Rows of the chunk by the column that was left out of their oversize message.
        encoded: The messages to send, each part with its rows of the chunk.
        taken: Rows of the chunk, and how often the server may have accepted each of them in earlier
            runs; None without a journal.
        known_ids: Rows of the chunk that were delivered before or are duplicates, with their ids.
    """

    messages: MessageBatch
    skipped: dict[Problem, Rows]
    duplicates: Rows
    recent: Mask
    held: Mask
    outside: Rows
    delivered_before: Rows
    dropped: dict[str, Rows]
    encoded: list[tuple[Encoded, Rows]]
    taken: tuple[Rows, npt.NDArray[np.uint8]] | None = None
    known_ids: tuple[tuple[Rows, Ids], ...] = ()

    @property
    def all_skipped(self) -> dict[Problem, Rows]:
        """Rows of the chunk that are left out, by reason, with duplicates."""
        return self.skipped | {DUPLICATE: self.duplicates}


def prepare(
    binding: Binding,
    chunk: Chunk,
    *,
    limits: TimeLimits,
    hold: bool,
    only: DigestSet | None = None,
    context_scope: ContextScope,
    with_digests: bool = False,
    max_cells: int | None = None,
) -> PreparedChunk:
    """Check and encode the rows of a chunk.

    Args:
        binding: The mapping.
        chunk: The rows.
        limits: The times that rows are compared with.
        hold: Leave recent rows out.
        only: Anonymous ids; leave out rows without one of them. None leaves out none.
        context_scope: See :func:`cdp_backfill.messages.encoding.encode`.
        with_digests: See there.
        max_cells: See :func:`cdp_backfill.messages.build`.

    Raises:
        TooWideError: See :func:`cdp_backfill.messages.build`.
    """
    encoder = _ChunkEncoder(
        binding, chunk, limits, context_scope, with_digests=with_digests, max_cells=max_cells
    )
    recent = (encoder.messages.millis >= limits.recent) & encoder.good
    held = recent if hold else np.zeros(len(recent), dtype=bool)
    encoder.exclude(held)
    outside = np.zeros(len(recent), dtype=bool) if only is None else encoder.good.copy()
    if only is not None:
        anonymous = encoder.messages.fields["anonymousId"].fill_null("")
        outside &= ~only.has(key_digests(anonymous))
        encoder.exclude(outside)
    encoder.encode()
    encoder.drop_oversize()
    messages = encoder.messages
    good = ~messages.problems.mask()
    return PreparedChunk(
        messages=messages,
        skipped=messages.skipped,
        duplicates=_NO_ROWS,
        recent=recent & good,
        held=held & good,
        outside=messages.rows[outside],
        delivered_before=_NO_ROWS,
        dropped={name: messages.rows[mask] for name, mask in encoder.dropped.items()},
        encoded=[(part, messages.rows[part.rows]) for part in encoder.encoded],
    )


def exclude_known(
    prepared: PreparedChunk,
    *,
    is_delivered: Callable[[Digests], Mask] | None = None,
    is_repeated: Callable[[Digests], Mask] | None = None,
    doubts: Callable[[Digests], npt.NDArray[np.uint8]] | None = None,
) -> PreparedChunk:
    """Leave out messages that an earlier run delivered or whose id an earlier row has.

    Args:
        prepared: The rows of a chunk.
        is_delivered: Returns which messages an earlier run delivered, or None.
        is_repeated: Returns which message ids an earlier row of this run has, or None.
        doubts: Returns how often an earlier run sent each message without an answer, or None.
    """
    parts = [part for part, _ in prepared.encoded]
    size = len(prepared.recent)
    duplicates = delivered = np.zeros(size, dtype=bool)
    if is_repeated is not None:
        duplicates = _mask_of(parts, size, lambda part: is_repeated(part.ids.keys()))
    if is_delivered is not None:
        delivered = _mask_of(parts, size, lambda part: is_delivered(part.digests))
    # The journal knows equal rows as one message; only the first of them was sent.
    delivered = delivered & ~duplicates
    remaining = ~(delivered | duplicates)
    if doubts is not None:
        taken = delivered.astype(np.uint8)
        compared = np.zeros(size, dtype=bool)
        for part in parts:
            taken[part.rows] += doubts(part.digests)
            compared[part.rows] = True
        compared &= ~duplicates
        rows = prepared.messages.rows[compared]
        prepared = replace(prepared, taken=(rows, np.minimum(taken[compared], 2)))
    if remaining.all():
        return prepared
    masked = [(part, rows, remaining[part.rows]) for part, rows in prepared.encoded]
    return replace(
        prepared,
        duplicates=prepared.messages.rows[duplicates],
        delivered_before=prepared.messages.rows[delivered],
        # A message that was delivered before cannot trigger anything again.
        recent=prepared.recent & remaining,
        encoded=[(part.select(keep), rows[keep]) for part, rows, keep in masked if keep.any()],
        known_ids=tuple(
            (rows[~keep], part.ids.select(~keep)) for part, rows, keep in masked if not keep.all()
        ),
    )


def _mask_of(parts: list[Encoded], size: int, select: Callable[[Encoded], Mask]) -> Mask:
    """True for each message that ``select`` selects; it sees the parts in row order."""
    result = np.zeros(size, dtype=bool)
    for part in sorted(parts, key=lambda part: int(part.rows[0])):
        result[part.rows[select(part)]] = True
    return result


class _ChunkEncoder:
    """Encodes the messages of a chunk, and drops columns of oversize ones."""

    def __init__(
        self,
        binding: Binding,
        chunk: Chunk,
        limits: TimeLimits,
        context_scope: ContextScope,
        *,
        with_digests: bool,
        max_cells: int | None,
    ) -> None:
        self._max_cells = max_cells
        self._binding, self._batch = binding, chunk.batch
        self._latest = limits.latest
        self._scope: ContextScope = context_scope
        self._with_digests = with_digests
        self.messages = build(binding, chunk.batch, latest=limits.latest, max_cells=max_cells)
        self.good = ~self.messages.problems.mask()
        self.dropped: dict[str, Mask] = {}
        self.encoded: list[Encoded] = []

    def exclude(self, mask: Mask) -> None:
        """Leave these messages out."""
        if not mask.any():
            return
        self.good &= ~mask
        parts = [(part, self.good[part.rows]) for part in self.encoded]
        self.encoded = [
            part if keep.all() else part.select(keep) for part, keep in parts if keep.any()
        ]

    def encode(self) -> None:
        """Write the messages without a problem as JSON."""
        self.encoded = list(
            encode(
                self.messages.fields,
                self.messages.millis,
                call=self._binding.mapping.call,
                message_id=self.messages.message_id,
                keep=self.good,
                context_scope=self._scope,
                with_digests=self._with_digests,
            )
        )

    def drop_oversize(self) -> None:
        """Drop droppable columns of oversize messages; report those that stay oversize."""
        oversize = self._oversize()
        droppable = set(self._binding.mapping.droppable)
        while oversize.any() and droppable:
            droppable -= self._drop_largest(oversize, droppable)
            self.messages = build(
                self._binding,
                self._batch,
                latest=self._latest,
                without=self._dropped_by_row(),
                max_cells=self._max_cells,
            )
            self.encode()
            oversize = self._oversize()
        if oversize.any():
            self._report_oversize(oversize)
            self.exclude(oversize)
        for name, mask in self.dropped.items():
            self.messages.problems.record_fix("dropped", name, mask & self.good)

    def _oversize(self) -> Mask:
        return _mask_of(
            self.encoded, len(self.good), lambda part: part.sizes > api_facts.MAX_MESSAGE_BYTES
        )

    def _dropped_by_row(self) -> dict[str, Mask]:
        """The dropped columns, each with a mask over the rows of the chunk."""
        result = {}
        for name, mask in self.dropped.items():
            chunk_mask = np.zeros(self._batch.num_rows, dtype=bool)
            chunk_mask[self.messages.rows[mask]] = True
            result[name] = chunk_mask
        return result

    def _drop_largest(self, oversize: Mask, droppable: set[str]) -> set[str]:
        """Drop from each oversize message its largest droppable column.

        Returns:
            The columns that no oversize message has any more.
        """
        names = sorted(droppable)
        positions = np.flatnonzero(oversize)
        rows = pa.array(self.messages.rows[positions])
        sizes = np.stack([_lengths(self.messages.plain(name).take(rows)) for name in names])
        for number, name in enumerate(names):
            dropped = self.dropped.setdefault(name, np.zeros(len(oversize), dtype=bool))
            sizes[number, dropped[positions]] = -1
        largest = np.argmax(sizes, axis=0)
        for number, name in enumerate(names):
            self.dropped[name][positions[largest == number]] = True
        return {name for name in names if self.dropped[name][positions].all()}

    def _report_oversize(self, oversize: Mask) -> None:
        """Report for each oversize message the column that takes most of its bytes."""
        messages = self.messages
        positions = pa.array(np.flatnonzero(oversize))
        sizes: dict[str, Any] = {}
        tree = _Tree({name: array.take(positions) for name, array in messages.fields.items()})
        arrays = [
            ("lit()" if isinstance(source, Lit) else source, array)
            for path, source in self._binding.leaves()
            for array in tree.at(path)
        ]
        for (name, _), size in zip(arrays, _sizes([array for _, array in arrays]), strict=True):
            sizes[name] = sizes.get(name, 0) + size
        for name in self._binding.mapping.expand:
            plain = messages.plain(name).take(pa.array(messages.rows[oversize]))
            sizes[name] = _lengths(plain)
        names = list(sizes)
        largest = np.argmax(np.stack(list(sizes.values())), axis=0)
        for number in np.unique(largest):
            mask = np.zeros(len(oversize), dtype=bool)
            mask[np.flatnonzero(oversize)[largest == number]] = True
            reason = (
                f"the message is larger than {api_facts.MAX_MESSAGE_BYTES:,} bytes, "
                f"most of them from column {names[number]!r}"
            )
            messages.problems.add(mask, Problem("oversize", names[number], reason))


def _lengths(array: Any) -> Rows:
    """Approximate bytes of each cell of a column of any type."""
    try:
        return lengths(array).astype(np.int64)
    except Exception:  # noqa: BLE001  # types without a JSON form, such as maps of numbers
        return np.array([len(str(cell)) for cell in array.to_pylist()], dtype=np.int64)


def _sizes(arrays: list[Any]) -> list[Offsets]:
    """Bytes of each value of arrays of one length as JSON, plus a constant."""
    sizes: dict[int, Offsets] = {}
    alike: dict[Any, list[int]] = {}
    for number, array in enumerate(arrays):
        alike.setdefault(array.type, []).append(number)
    for numbers in alike.values():
        rows = len(arrays[numbers[0]])
        step = max(1, _TOGETHER // max(1, rows))  # few rows of many columns are written together
        for start in range(0, len(numbers), step):
            some = numbers[start : start + step]
            found = lengths(pa.concat_arrays([arrays[number] for number in some]))
            sizes |= zip(some, found.reshape(len(some), rows), strict=True)
    return [sizes[number] for number in range(len(arrays))]


class _Tree:
    """The arrays of nested fields, by path.

    Args:
        fields: Arrow arrays by field name.
    """

    def __init__(self, fields: dict[str, Any]) -> None:
        self._arrays: dict[tuple[str, ...], list[Any]] = {(n,): [a] for n, a in fields.items()}
        self._opened: set[tuple[str, ...]] = set()

    def at(self, path: tuple[str, ...]) -> list[Any]:
        """The arrays at a path; a JSON column of several kinds has one for each kind."""
        outer = path[:-1]
        if outer and outer not in self._opened:
            self._opened.add(outer)
            for array in self.at(outer):
                inner = array.flatten() if pa.types.is_struct(array.type) else []
                for item, values in zip(array.type, inner, strict=False):
                    self._arrays.setdefault((*outer, item.name), []).append(values)
        return self._arrays.get(path, [])

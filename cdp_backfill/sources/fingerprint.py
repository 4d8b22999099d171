"""Fingerprints of tables: whether a table has changed since it was read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, Self

import duckdb
import pyarrow as pa
import xxhash

from cdp_backfill.model.interrupts import interruptible
from cdp_backfill.model.plurals import count

if TYPE_CHECKING:
    from cdp_backfill.sources.chunks import Source

_MAX_LISTED: Final = 5
_TABLE = "rows"
_QUERY = f"SELECT count(*), sum(hash({_TABLE})), bit_xor(hash({_TABLE})) FROM {_TABLE}"  # noqa: S608


class ContentFingerprint:
    """A hash over the rows of a table, in whatever order they are read.

    Args:
        schema: Columns of the table.
    """

    def __init__(self, schema: Any) -> None:
        with interruptible():
            self._connection = duckdb.connect()
            self._connection.execute("SET threads = 1")
        self._names = [item.name for item in schema if self._is_hashable(item)]
        # Columns of types that DuckDB does not know enter as the bytes of each chunk.
        self._others = [name for name in schema.names if name not in self._names]
        self._rows = self._sum = self._xor = 0
        self._add(f"{schema.remove_metadata()}".encode())

    def _is_hashable(self, item: Any) -> bool:
        try:
            self._hash(pa.schema([item]).empty_table())
        except (duckdb.Error, pa.ArrowException):
            return False
        return True

    def _hash(self, table: Any) -> tuple[int, int, int]:
        with interruptible():
            self._connection.register(_TABLE, table)
            rows, total, xor = self._connection.execute(_QUERY).fetchall()[0]
        return rows, total or 0, xor or 0

    def add(self, batch: Any) -> None:
        """Add rows."""
        self._rows += batch.num_rows
        if self._names and batch.num_rows:
            chosen = batch.select(self._names)
            raw = [_raw(column) for column in chosen.columns]
            try:
                _, total, xor = self._hash(pa.RecordBatch.from_arrays(raw, self._names))
            except (duckdb.Error, pa.ArrowException):  # at a cell inside another one
                self._add(chosen.serialize().to_pybytes())
            else:
                self._sum += int(total)
                self._xor ^= int(xor)
        if self._others and batch.num_rows:
            self._add(batch.select(self._others).serialize().to_pybytes())

    def _add(self, data: bytes) -> None:
        self._sum += xxhash.xxh3_64_intdigest(data)

    @property
    def value(self) -> tuple[int, int, int]:
        """The fingerprint: it changes when a row does."""
        return self._rows, self._sum, self._xor


def _raw(array: Any) -> Any:
    """Times as whole numbers: DuckDB fails at times that are in no calendar."""
    types = pa.types
    if (
        types.is_timestamp(array.type)
        or types.is_duration(array.type)
        or types.is_date64(array.type)
    ):
        return array.cast(pa.int64())
    return array


def current_fingerprint(source: Source) -> tuple[Any, ...]:
    """The fingerprint of a table as it is now; reads the rows only where it must."""
    fingerprint = source.fingerprint()
    if fingerprint is not None:
        return fingerprint
    content = ContentFingerprint(source.schema)
    for chunk in source.chunks(source.schema.names):
        content.add(chunk.batch)
    return content.value


@dataclass(frozen=True, slots=True)
class SavedFingerprint:
    """A fingerprint as a file keeps it, which can say what has changed since.

    Attributes:
        files: Name without folder, bytes and modification time (nanoseconds) of each file; None for
            a table in memory.
        content: The number of rows, and hashes of them; None for files.

    >>> SavedFingerprint(None, (3, 71, 5)).changes((4, 80, 1))
    ['it had 3 rows and has 4']
    """

    files: tuple[tuple[str, int, int | None], ...] | None
    content: tuple[int, ...] | None

    @classmethod
    def of(cls, fingerprint: tuple[Any, ...]) -> Self:
        """The fingerprint of a table, to be kept in a file."""
        if all(isinstance(part, tuple) for part in fingerprint):
            return cls(tuple((PurePath(name).name, *rest) for name, *rest in fingerprint), None)
        return cls(None, fingerprint)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"files": self.files, "content": self.content}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read the result of ``to_dict``."""
        files, content = values["files"], values["content"]
        return cls(files and tuple((n, s, t) for n, s, t in files), content and tuple(content))

    def changes(self, fingerprint: tuple[Any, ...]) -> list[str]:
        """What has changed, in words; empty if nothing has.

        Args:
            fingerprint: The present fingerprint of the table.
        """
        now = self.of(fingerprint)
        if now == self:
            return []
        if self.files is None or now.files is None:
            return _changed_content(self.content, now.content)
        before, after = dict.fromkeys(self.files), dict.fromkeys(now.files)
        old = {name: rest for name, *rest in before if (name, *rest) not in after}
        new = {name: rest for name, *rest in after if (name, *rest) not in before}
        changes = [f"file {name!r} is gone" for name in old if name not in new]
        changes += [f"file {name!r} is new" for name in new if name not in old]
        changes += [_changed_file(name, old[name], new[name]) for name in new if name in old]
        more = len(changes) - _MAX_LISTED
        changes[_MAX_LISTED:] = [f"{more:,} more files changed"] if more > 0 else []
        return changes or ["its files have another order or number"]


def _changed_content(before: tuple[int, ...] | None, now: tuple[int, ...] | None) -> list[str]:
    if before is None or now is None:
        return ["it was files and is a table in memory, or the other way round"]
    if before[0] != now[0]:
        return [f"it had {count(before[0], 'row')} and has {now[0]:,}"]
    return [f"it still has {count(now[0], 'row')}, with other cells"]


def _changed_file(name: str, before: list[Any], now: list[Any]) -> str:
    if before[0] != now[0]:
        return f"file {name!r} had {count(before[0], 'byte')} and has {now[0]:,}"
    return f"file {name!r} was modified at {_moment(now[1])}, before at {_moment(before[1])}"


def _moment(nanoseconds: int | None) -> str:
    if nanoseconds is None:
        return "an unknown time"
    moment = datetime.fromtimestamp(nanoseconds / 1e9, UTC)
    return moment.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")

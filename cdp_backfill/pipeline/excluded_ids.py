"""The ids of ``exclude=``: reads them from lists, columns, tables and files, and keeps digests."""

from __future__ import annotations

import functools
import glob
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import xxhash

from cdp_backfill.errors import BadInputError, SourceError
from cdp_backfill.messages import is_data
from cdp_backfill.messages.text import as_identifier, decode
from cdp_backfill.model.arrow_types import can_be_text
from cdp_backfill.model.distinct import DigestSet, key_digests
from cdp_backfill.model.plurals import count
from cdp_backfill.sources import open_source
from cdp_backfill.sources.id_lists import id_lines
from cdp_backfill.sources.paths import absolute_paths

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp_backfill.model import mapping as mappings

_NAMES: Final = ("user_id", "userId", "anonymous_id", "anonymousId")
"""Names of the columns of ids in a table of several columns, beside those of the mapping."""

_CELLS: Final = 2**16
"""Ids of a list that are read at a time."""


@dataclass(frozen=True, eq=False)
class ExcludedIds:
    """The ids of which no row may be sent, as digests: millions of them fit in memory.

    Attributes:
        digests: The ids.
        ids: Number of different ids.
        empty: Cells without an id.
        paths: Absolute paths that they were read from, or None for ids in memory.
        names: Names of the columns of the mapping's ids, with which the files can be read again.
    """

    digests: DigestSet
    ids: int
    empty: int = 0
    paths: list[str] | None = None
    names: tuple[str, ...] = ()

    @classmethod
    def none(cls) -> ExcludedIds:
        """No ids."""
        return cls(DigestSet(), 0)

    def describe(self) -> dict[str, Any]:
        """What a journal, a plan file and failures keep of them: no id."""
        return {"paths": self.paths, "ids": self.ids, "digest": self.digest}

    @functools.cached_property
    def digest(self) -> str:
        """A text that is the same for the same ids, in any order."""
        parts = list(self.digests.keys())
        if not parts:
            return ""
        high, low = (np.concatenate(each) for each in zip(*parts, strict=True))
        order = np.lexsort((low, high))
        return xxhash.xxh3_128_hexdigest(high[order].tobytes() + low[order].tobytes())

    def again(self) -> ExcludedIds:
        """The same ids, read again if they stand in files.

        Raises:
            BadInputError: They cannot be read.
        """
        if self.paths is None:
            return self
        for path in self.paths:
            if not (_is_path(path) or glob.has_magic(path)):
                raise SourceError(f"The file {path!r} of exclude= is gone. Pass exclude= again.")
        collected = _Collected()
        _read_paths(self.paths, self.names, collected)
        return collected.finish(self.paths, self.names)

    def changes(self, saved: Mapping[str, Any]) -> str | None:
        """What differs from earlier ids, as :meth:`describe` gave them; None if they are equal."""
        if saved["digest"] == self.digest:
            return None
        before, now = saved["ids"], self.ids
        if before == now:
            return f"there are as many as before ({now:,}), but others"
        return f"there {'was' if before == 1 else 'were'} {count(before, 'id')}, now {now:,}"


@dataclass(slots=True)
class _Collected:
    """Ids that are being read."""

    digests: DigestSet = field(default_factory=DigestSet)
    ids: int = 0
    empty: int = 0
    bad: int = 0

    def add(self, array: Any) -> None:
        """Add the ids of an Arrow array in the form in which they are sent."""
        plain = decode(array)
        if not can_be_text(plain.type):
            raise BadInputError(
                f"exclude= holds values of type {plain.type}. Pass ids as text or whole numbers."
            )
        text, bad = as_identifier(plain, lambda *_: None)
        self.bad += int(np.count_nonzero(bad))
        self.empty += text.null_count - int(np.count_nonzero(bad))
        again = self.digests.before(key_digests(text.drop_null()))
        self.ids += int(np.count_nonzero(~again))

    def finish(self, paths: list[str] | None = None, names: tuple[str, ...] = ()) -> ExcludedIds:
        """The ids, unless some of them could match no row."""
        if self.bad:
            raise BadInputError(
                f"exclude= has {count(self.bad, 'value')} that cannot be "
                f"{'an id' if self.bad == 1 else 'ids'}: a fraction, a number that lost its last "
                "digits as a float, or text that is not UTF-8. Pass ids as text or whole numbers."
            )
        return ExcludedIds(self.digests, self.ids, self.empty, paths, names)


def read_excluded(exclude: Any, mapping: mappings.Mapping) -> ExcludedIds:
    """Read the ids of ``exclude=``.

    Args:
        exclude: A list or column of ids, a table of them, or the path of a file.
        mapping: The mapping, whose columns of ids name those of a table with several columns.

    Raises:
        BadInputError: It is none of these, cannot be read, or has values that cannot be ids.
    """
    if isinstance(exclude, ExcludedIds):
        return exclude
    given = (mapping.user_id, mapping.anonymous_id)
    names = tuple(name for name in given if isinstance(name, str))
    collected = _Collected()
    paths = _paths(exclude)
    if paths is not None:
        _read_paths(paths, names, collected)
        return collected.finish(absolute_paths(paths), names)
    if isinstance(exclude, Mapping | bytes | bool | int | float):
        raise BadInputError(
            f"exclude must hold ids, but is of type {type(exclude).__name__}. Pass a list, a "
            "column or a table of ids, or the path of a file: exclude='deleted.csv'."
        )
    arrays = _arrays(exclude)
    if arrays is None:
        _read_table(exclude, names, collected)
    else:
        for array in arrays:
            collected.add(array)
    return collected.finish()


def _paths(exclude: Any) -> list[str | Path] | None:
    """The paths of files, or None if it names none. A list of texts is one of ids."""
    if isinstance(exclude, str | Path):
        return [exclude]
    if isinstance(exclude, list | tuple) and exclude:
        return [*exclude] if all(isinstance(each, Path) for each in exclude) else None
    return None


def _read_paths(
    paths: list[str] | list[str | Path], names: tuple[str, ...], into: _Collected
) -> None:
    """Read files: each is a list with one id a line, or a table."""
    tables = []
    for path in paths:
        lines = id_lines(path)
        if lines is None:
            tables.append(path)
            continue
        for number, part in enumerate(lines):
            header = number == 0 and part[:1] and part[0] in _wanted(names)
            into.add(pa.array(part[1:] if header else part, pa.string()))
    if tables:
        _read_table(tables, names, into, is_path=True)


def _read_table(
    table: Any, names: tuple[str, ...], into: _Collected, *, is_path: bool = False
) -> None:
    """Read the columns of ids of a table.

    Args:
        table: The table.
        names: Names of the columns of ids.
        into: Gets the ids.
        is_path: It is a list of paths.
    """
    try:
        source = open_source(table)
    except (SourceError, OSError) as error:
        if is_path and not any(map(_is_path, table)):
            # The text may be an id, which must not appear in an error.
            raise SourceError(
                "exclude= is a text that is the path of no file. A text names a file. To name ids, "
                "pass a list: exclude=['...']."
            ) from None
        raise BadInputError(f"exclude= cannot be read: {error}") from error
    columns = [name for name in source.schema.names if is_data(name)]
    wanted = _wanted(names)
    chosen = columns if len(columns) == 1 else [name for name in wanted if name in columns]
    if not chosen:
        raise BadInputError(
            f"The table of exclude= has {count(len(columns), 'column')}, and none of them is named "
            f"{' or '.join(map(repr, wanted))}. Pass a table with one column, or rename the column "
            "of the ids."
        )
    source = source.settled(frozenset(chosen))
    if source.found_types is not None and chosen[0] not in wanted:  # it may be no header
        into.add(pa.array(chosen, pa.string()))
    for chunk in source.chunks(chosen):
        for array in chunk.batch.columns:
            into.add(array)


def _wanted(names: tuple[str, ...]) -> list[str]:
    """The names that a column of ids can have."""
    return [*dict.fromkeys((*names, *_NAMES))]


def _is_path(path: str | Path) -> bool:
    try:
        return "://" in str(path) or Path(path).expanduser().exists()
    except (OSError, ValueError):  # such as a text that is too long for a path
        return False


def _arrays(exclude: Any) -> Iterator[Any] | None:
    """A list or a column as Arrow arrays; None if it is neither."""
    if isinstance(exclude, pa.ChunkedArray | pa.Array):
        return iter(exclude.chunks if isinstance(exclude, pa.ChunkedArray) else [exclude])
    if isinstance(exclude, pd.DataFrame | pa.Table | pa.RecordBatch):
        return None
    if isinstance(exclude, pd.Series | pd.Index | np.ndarray) and exclude.ndim == 1:
        return _slices(exclude)
    if type(exclude).__module__.partition(".")[0] == "polars" and hasattr(exclude, "to_list"):
        return iter([exclude.to_arrow()])
    if hasattr(exclude, "__arrow_c_stream__") or hasattr(exclude, "columns"):
        return None
    return _cells(exclude) if isinstance(exclude, Iterable) else None


def _slices(column: Any) -> Iterator[Any]:
    for start in range(0, len(column), _CELLS):
        places = slice(start, start + _CELLS)
        part = column.iloc[places] if isinstance(column, pd.Series) else column[places]
        try:
            yield pa.array(part, from_pandas=True)
        except (pa.ArrowException, OverflowError, UnicodeError):
            yield from _by_type(part.tolist())


def _cells(cells: Iterable[Any]) -> Iterator[Any]:
    """Arrow arrays of Python's values, also of several types."""
    waiting = iter(cells)
    while part := list(islice(waiting, _CELLS)):
        try:
            yield pa.array(part, from_pandas=True)
        except (pa.ArrowException, OverflowError, UnicodeError):
            yield from _by_type(part)


def _by_type(cells: list[Any]) -> Iterator[Any]:
    kinds: dict[type, list[Any]] = {}
    for cell in cells:
        plain = cell.item() if isinstance(cell, np.generic) else cell
        kinds.setdefault(type(plain), []).append(plain)
    for kind, part in kinds.items():
        try:
            # A whole number can be larger than any of Arrow's.
            yield pa.array(map(str, part) if kind is int else part, from_pandas=True)
        except (pa.ArrowException, OverflowError, UnicodeError):
            raise BadInputError(
                f"exclude= holds values of type {kind.__name__} that cannot be ids. Pass ids as "
                "text or whole numbers."
            ) from None

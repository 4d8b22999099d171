"""pandas DataFrames."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import pyarrow as pa

from cdp_backfill.errors import SourceError
from cdp_backfill.model.arrow_types import MAX_DEPTH, is_json, viewless_type
from cdp_backfill.model.outcomes import (
    JSON_ATTRIBUTE,
    LEFT_OUT_ATTRIBUTE,
    MAPPING_ATTRIBUTE,
    URL_ATTRIBUTE,
)
from cdp_backfill.sources.chunks import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    Chunk,
    Source,
    check_names,
    compact,
    slices,
)
from cdp_backfill.sources.depths import check_types
from cdp_backfill.sources.mixed_cells import (
    has_json,
    is_empty,
    is_too_deep,
    keep_surrogates,
    kind_of,
    mixed_cells,
)
from cdp_backfill.sources.views import viewless

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import numpy.typing as npt


class FrameSource(Source):
    """A pandas DataFrame of any index and any dtypes.

    Args:
        frame: The frame. Later changes to it have no effect here (with pandas 3, or with
            copy-on-write).

    Raises:
        SourceError: The columns have several levels or repeat a name, or a column holds values
            without a common type.
    """

    keeps_rows = True

    def __init__(self, frame: pd.DataFrame) -> None:
        if frame.columns.nlevels > 1:
            raise SourceError(
                "The columns of the DataFrame have several levels. Flatten them first, for "
                "example with df.columns = ['_'.join(map(str, c)) for c in df.columns]."
            )
        self.name = "the DataFrame"
        check_types(_arrow_fields(frame), self.title)
        self._frame = _without_views(frame)
        self._names = [str(name) for name in frame.columns]
        check_names(self._names, self.name)
        self.rows: int | None = len(frame)
        self.index_names = _index_names(frame.index)
        self.earlier_mapping = frame.attrs.get(MAPPING_ATTRIBUTE)
        self.earlier_left_out = frame.attrs.get(LEFT_OUT_ATTRIBUTE)
        self.earlier_url = frame.attrs.get(URL_ATTRIBUTE)
        json = set(frame.attrs.get(JSON_ATTRIBUTE, ()))
        self._readers = {
            name: _Reader(pa.json_())
            if name in json and pd.api.types.is_string_dtype(frame.iloc[:, number])
            else _reader(name, frame.iloc[:, number])
            for number, name in enumerate(self._names)
        }
        self.schema = pa.schema([(name, reader.kind) for name, reader in self._readers.items()])
        check_types(self.schema, self.title)

    def chunks(self, columns: Sequence[str], *, start: int = 0) -> Generator[Chunk]:
        """Read the rows in order."""
        numbers = [self._names.index(name) for name in columns]
        size = len(self._frame)
        step = CHUNK_ROWS
        while start < size:
            part = self._frame.iloc[start : start + step]
            arrays = [
                self._readers[name].read(part.iloc[:, number])
                for name, number in zip(columns, numbers, strict=True)
            ]
            names = list(columns)
            if not arrays:  # a mapping of constants only
                arrays, names = [pa.nulls(len(part))], [""]
            batch = compact(pa.RecordBatch.from_arrays(arrays, names))
            for first, piece in slices(batch):
                yield Chunk(piece, start + first, None, start + first)
            start += len(part)
            # Fewer wide rows are converted at a time.
            row_bytes = max(1, batch.nbytes // max(1, batch.num_rows))
            step = min(CHUNK_ROWS, max(1, CHUNK_BYTES // row_bytes))

    def typed(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Some of the rows, with each column and the index in one type."""
        frame = frame.copy(deep=False)
        for name in frame.columns:
            if frame[name].dtype == object and str(name) in self._readers:
                array = self._readers[str(name)].read(frame[name])
                if is_json(array.type):  # pandas has no name for the type
                    array = array.storage
                values = pd.arrays.ArrowExtensionArray(pa.chunked_array([array]))
                frame[name] = pd.Series(values, index=frame.index)
        frame.index = _typed_index(frame.index)
        return frame.rename(columns=str)

    def label(self, name: str) -> Any:
        """The label of a column in the frame."""
        return self._frame.columns[self._names.index(name)]

    def original(self, rows: npt.NDArray[Any]) -> pd.DataFrame:
        """The rows with these numbers, with their labels and dtypes."""
        return self._frame.iloc[rows]


def _arrow_fields(frame: pd.DataFrame) -> list[Any]:
    """The fields of the columns that are Arrow's."""
    return [
        pa.field(str(name), dtype.pyarrow_dtype)
        for name, dtype in zip(frame.columns, frame.dtypes, strict=True)
        if isinstance(dtype, pd.ArrowDtype)
    ]


def _without_views(frame: pd.DataFrame) -> pd.DataFrame:
    """A copy of the frame; of columns with views, pandas cannot take rows."""
    frame = frame.copy(deep=False)
    for number, dtype in enumerate(frame.dtypes):
        if isinstance(dtype, pd.ArrowDtype):
            kind = viewless_type(dtype.pyarrow_dtype)
            if not kind.equals(dtype.pyarrow_dtype):
                array = frame.iloc[:, number].array.__arrow_array__()
                chunks = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
                plain = pa.chunked_array([viewless(chunk) for chunk in chunks], kind)
                frame.isetitem(number, pd.arrays.ArrowExtensionArray(plain))
    return frame


def _typed_index(index: Any) -> Any:
    """The same index, each level with cells of one type."""
    if isinstance(index, pd.MultiIndex):
        levels = [_typed_index(index.get_level_values(level)) for level in range(index.nlevels)]
        return pd.MultiIndex.from_arrays(levels, names=index.names)
    return index.map(str, na_action="ignore") if index.dtype == object else index


def _index_names(index: Any) -> dict[str, bool]:
    """The named levels of an index, and whether each holds times."""
    levels = [index.get_level_values(level) for level in range(index.nlevels)]
    return {
        str(level.name): pd.api.types.is_datetime64_any_dtype(level.dtype)
        for level in levels
        if level.name is not None
    }


class _Reader:
    """Converts parts of one column to one Arrow type."""

    def __init__(self, kind: Any, *, mixed: bool = False) -> None:
        self.kind = kind
        self._mixed = mixed

    def read(self, part: pd.Series[Any]) -> Any:
        if self._mixed:
            return mixed_cells(part)
        try:
            if is_json(self.kind):
                array = pa.array(part, self.kind.storage_type, from_pandas=True)
                return pa.ExtensionArray.from_storage(self.kind, array)
            if isinstance(part.dtype, pd.ArrowDtype):
                array = part.array.__arrow_array__()
            else:
                array = pa.array(part, type=self.kind, from_pandas=True)
        except UnicodeEncodeError:
            return keep_surrogates(list(part))
        chunks = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
        parts = [viewless(chunk) for chunk in chunks] or [pa.array([], self.kind)]
        return pa.concat_arrays(parts) if len(parts) > 1 else parts[0]


def _reader(name: str, column: pd.Series[Any]) -> _Reader:
    try:
        if column.dtype != object:
            kind = pa.array(column.iloc[:0], from_pandas=True).type
            values = kind.value_type if pa.types.is_dictionary(kind) else kind
            if isinstance(values, pa.BaseExtensionType) and not _is_arrows_own(values):
                raise pa.ArrowNotImplementedError(str(kind))  # noqa: TRY301
            return _Reader(viewless_type(kind))
        return _object_reader(name, column)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise SourceError(
            f"Column {name!r} of dtype {column.dtype} cannot be read, because Arrow has no such "
            "type. Convert it, for example to text with .astype('string'), or drop it."
        ) from error


def _is_arrows_own(kind: Any) -> bool:
    """Whether Arrow defines this extension type; pandas defines some for its periods."""
    return bool(kind.extension_name.startswith("arrow."))


_JOINED: Final = ({"integer", "float"}, {"integer", "decimal"})
"""Kinds of cells that Arrow joins without loss."""


def _object_reader(name: str, column: pd.Series[Any]) -> _Reader:
    inferred = pd.api.types.infer_dtype(column, skipna=True)
    if inferred in ("date", "datetime", "mixed"):
        _check_one_kind_of_time(name, column)
    if inferred in ("string", "empty"):
        return _Reader(pa.string() if inferred == "string" else pa.null())
    if any(map(is_too_deep, column)):
        raise SourceError(
            f"Column {name!r} has cells that are nested more than {MAX_DEPTH} levels deep. Convert "
            "them to text, or drop the column."
        )
    kinds = {kind_of(cell) for cell in column} - {"empty"}
    if len(kinds) > 1 and kinds not in _JOINED and all(map(has_json, column)):
        return _Reader(pa.json_(), mixed=True)  # Arrow would turn a flag into a number
    try:
        return _Reader(pa.array(column, from_pandas=True).type)
    except (pa.ArrowInvalid, TypeError, OverflowError, UnicodeEncodeError):
        if not all(map(has_json, column)):
            listed = ", ".join(
                sorted({type(cell).__name__ for cell in column if not is_empty(cell)})
            )
            raise SourceError(
                f"Column {name!r} holds values without a common type ({listed}). Convert them to "
                "one type, for example text with .map(str), or drop the column."
            ) from None
        return _Reader(pa.json_(), mixed=True)


def _check_one_kind_of_time(name: str, column: pd.Series[Any]) -> None:
    """Refuse mixtures of times that Arrow would misread silently."""
    kinds = {
        "a date"
        if not isinstance(cell, datetime)
        else "a time without a zone"
        if cell.tzinfo is None
        else "a time with a zone"
        for cell in column
        if isinstance(cell, date) and not is_empty(cell)
    }
    if len(kinds) > 1:
        raise SourceError(
            f"Column {name!r} mixes {' and '.join(sorted(kinds))}. Convert them to one kind, for "
            "example text with .map(str), or times with pd.to_datetime(..., utc=True)."
        )

"""Finds the column types of delimited files from all of their cells."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.sources.mixed_cells import mixed_cells

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_WHOLE: Final = r"^(?:0|-?[1-9]\d*)$"
# Two digits of exponent: the number is neither infinite nor rounded to zero.
# A whole number with an exponent, such as 12e4, may be a piece of a hash.
_DECIMAL: Final = r"^-?(?:0|[1-9]\d*)(?:\.\d+(?:[eE][+-]?\d{1,2})?)?$"
_LARGEST: Final = {False: str(2**63 - 1), True: str(2**63)}
"""The most digits of a whole number, without its sign, by whether it is below zero."""

_NO_DIGITS: Final = r"[eE].*$|[-.]"
_FEW_ROWS: Final = 1_024
"""Rows of a batch whose columns are checked each for itself, from here on."""

_TOGETHER: Final = 65_536
"""Cells of several columns that are checked together."""

_EXACT_DIGITS: Final = 15  # decimal digits that a float64 always holds


@dataclass(frozen=True, slots=True)
class Mixed:
    """The type of a column in which some cells do not fit the type that it has in another table.

    Attributes:
        kind: That type. Cells that fit it are such values, the others stay text.
    """

    kind: Any


class CellTypes:
    """Finds the type that all cells of a column have.

    Args:
        names: The columns.
        given: Names of types by column, as they were found in another table; a column without
            one is text. None finds them.
    """

    def __init__(self, names: Iterable[str], given: Mapping[str, str] | None = None) -> None:
        kinds = {str(kind): kind for kind in _FITS}
        self._given: dict[str, Any] = {}
        if given is not None:
            self._given = {name: kinds[given[name]] for name in names if given.get(name) in kinds}
            self._candidates = {name: [kind] for name, kind in self._given.items()}
        else:
            self._candidates = {name: list(_FITS) for name in names}
        self._seen: set[str] = set()

    @property
    def open_columns(self) -> list[str]:
        """The columns that may still have another type than text."""
        return [name for name, kinds in self._candidates.items() if kinds]

    def check(self, batch: Any) -> None:
        """Check the cells of some rows."""
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        filled = [
            name
            for name, cells in columns.items()
            if self._candidates.get(name) and cells.null_count < len(cells)
        ]
        self._seen.update(filled)
        if len(batch) >= _FEW_ROWS:
            for name in filled:
                self._candidates[name] = _kinds_that_fit(self._candidates[name], columns[name])
            return
        for kind in _FITS:
            names = [name for name in filled if kind in self._candidates[name]]
            for name, fits in zip(names, _all_fit(kind, [columns[n] for n in names]), strict=True):
                if not fits:
                    self._candidates[name].remove(kind)

    def keep_text(self, names: Iterable[str]) -> None:
        """Let some columns be text, whatever their cells are."""
        for name in names:
            self._candidates[name] = []
            self._given.pop(name, None)

    def result(self) -> dict[str, Any]:
        """The columns that are not text, with their types."""
        found = {name: self._candidates[name][0] for name in self.open_columns}
        mixed = {name: Mixed(kind) for name, kind in self._given.items() if name not in found}
        return mixed | {
            name: kind for name, kind in found.items() if name in self._seen or name in self._given
        }


def column_type(kind: Any) -> Any:
    """The Arrow type of a column for a type of :meth:`CellTypes.result`; None is text."""
    if kind is None:
        return pa.string()
    return pa.json_() if isinstance(kind, Mixed) else kind


def convert(cells: Any, kind: Any) -> Any:
    """Cells of text, converted to a type of :meth:`CellTypes.result`."""
    if kind is None:
        return cells
    if isinstance(kind, Mixed):
        fits = _FITS[kind.kind](cells)
        values = convert(pc.if_else(fits, cells, None), kind.kind).to_pylist()
        pairs = zip(values, cells.to_pylist(), strict=True)
        return mixed_cells(text if value is None else value for value, text in pairs)
    if kind == pa.bool_():
        return pc.equal(pc.ascii_lower(cells), "true")
    return pc.cast(cells, kind)


def _kinds_that_fit(kinds: list[Any], cells: Any) -> list[Any]:
    """Those of the types that all cells fit; one of them at least is not null."""
    numbers = _whole_numbers(cells) if pa.int64() in kinds or pa.float64() in kinds else None
    if numbers is None:
        others = [kind for kind in kinds if kind != pa.int64()]
        return [kind for kind in others if pc.all(_FITS[kind](cells)).as_py()]
    least, greatest = (bound.as_py() for bound in pc.min_max(numbers).values())
    is_exact = max(-least, greatest) < 10**_EXACT_DIGITS
    return [kind for kind in kinds if kind == pa.int64() or (kind == pa.float64() and is_exact)]


def _whole_numbers(cells: Any) -> Any | None:
    """The cells as whole numbers of 64 bits, if all are; faster than a pattern."""
    first = cells[int(pc.index(cells.is_valid(), True).as_py())].as_py()
    if re.match(_WHOLE, first) is None:  # a cast that fails takes long
        return None
    try:
        numbers = pc.cast(cells, pa.int64())
    except pa.ArrowInvalid:
        return None
    return numbers if pc.all(pc.equal(pc.cast(numbers, cells.type), cells)).as_py() else None


def _all_fit(kind: Any, columns: list[Any]) -> list[bool]:
    """Whether all cells of each column fit a type; the columns have one length, and few rows."""
    # A call costs more than the few cells of a column do.
    result: list[bool] = []
    if not columns:
        return result
    size, step = len(columns[0]), max(1, _TOGETHER // len(columns[0]))
    for start in range(0, len(columns), step):
        fits = _FITS[kind](pa.concat_arrays(columns[start : start + step])).fill_null(True)
        result += fits.to_numpy(zero_copy_only=False).reshape(-1, size).all(axis=1).tolist()
    return result


def _are_whole(cells: Any) -> Any:
    """Where cells are whole numbers of 64 bits."""
    digits = pc.utf8_ltrim(cells, "-")
    longest = len(_LARGEST[False])
    is_long = pc.greater_equal(pc.binary_length(digits), longest)
    limit = pc.if_else(pc.starts_with(cells, "-"), _LARGEST[True], _LARGEST[False])
    fits = pc.and_(pc.equal(pc.binary_length(digits), longest), pc.less_equal(digits, limit))
    is_whole = pc.match_substring_regex(cells, _WHOLE)
    return pc.and_(is_whole, pc.or_(pc.invert(is_long), fits))


def _are_booleans(cells: Any) -> Any:
    """Where cells are truth values."""
    return pc.match_substring_regex(cells, "^(?:true|false)$", ignore_case=True)


def _are_decimal(cells: Any) -> Any:
    """Where cells are numbers with a point that a float64 holds with all digits."""
    fits = pc.match_substring_regex(cells, _DECIMAL)
    if (pc.max(pc.binary_length(cells)).as_py() or 0) <= _EXACT_DIGITS:
        return fits
    digits = pc.ascii_ltrim(pc.replace_substring_regex(cells, _NO_DIGITS, ""), "0")
    return pc.and_(fits, pc.less_equal(pc.binary_length(digits), _EXACT_DIGITS))


_FITS: Final[dict[Any, Callable[[Any], Any]]] = {
    pa.int64(): _are_whole,
    pa.bool_(): _are_booleans,
    pa.float64(): _are_decimal,
}

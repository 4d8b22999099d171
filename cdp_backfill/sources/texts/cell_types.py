"""Finds the column types of delimited files from all of their cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.sources.mixed_cells import mixed_cells

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_WHOLE: Final = r"^-?(?:0|[1-9]\d*)$"
# Two digits of exponent: the number is neither infinite nor rounded to zero.
# A whole number with an exponent, such as 12e4, may be a piece of a hash.
_DECIMAL: Final = r"^-?(?:0|[1-9]\d*)(?:\.\d+(?:[eE][+-]?\d{1,2})?)?$"
_NO_DIGITS: Final = r"[eE].*$|[-.]"
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
        for name in batch.schema.names:
            cells = batch.column(name)
            if not self._candidates.get(name) or cells.null_count == len(cells):
                continue
            self._seen.add(name)
            self._candidates[name] = [kind for kind in self._candidates[name] if _FITS[kind](cells)]

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
        fits = _FITS[kind.kind]
        single = [cells.slice(number, 1) for number in range(len(cells))]
        return mixed_cells(
            convert(cell, kind.kind)[0].as_py() if cell.null_count == 0 and fits(cell) else text
            for cell, text in zip(single, cells.to_pylist(), strict=True)
        )
    if kind == pa.bool_():
        return pc.equal(pc.ascii_lower(cells), "true")
    return pc.cast(cells, kind)


def _all(mask: Any) -> bool:
    return bool(pc.all(mask).as_py())


def _are_whole(cells: Any) -> bool:
    if not _all(pc.match_substring_regex(cells, _WHOLE)):
        return False
    try:
        pc.cast(cells, pa.int64())
    except pa.ArrowInvalid:  # too large
        return False
    return True


def _are_booleans(cells: Any) -> bool:
    return _all(pc.match_substring_regex(cells, "^(?:true|false)$", ignore_case=True))


def _are_decimal(cells: Any) -> bool:
    if not _all(pc.match_substring_regex(cells, _DECIMAL)):
        return False
    digits = pc.ascii_ltrim(pc.replace_substring_regex(cells, _NO_DIGITS, ""), "0")
    return _all(pc.less_equal(pc.binary_length(digits), _EXACT_DIGITS))


_FITS: Final[dict[Any, Callable[[Any], bool]]] = {
    pa.int64(): _are_whole,
    pa.bool_(): _are_booleans,
    pa.float64(): _are_decimal,
}

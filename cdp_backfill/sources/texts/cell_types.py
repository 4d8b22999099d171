"""Which types the cells of a delimited file have, when each of them is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_WHOLE: Final = r"^-?(?:0|[1-9]\d*)$"
# Two digits of exponent: neither infinite nor rounded to nothing.
# A whole number with an exponent, such as 12e4, may as well be a piece of a hash.
_DECIMAL: Final = r"^-?(?:0|[1-9]\d*)(?:\.\d+(?:[eE][+-]?\d{1,2})?)?$"
_NO_DIGITS: Final = r"[eE].*$|[-.]"
_EXACT_DIGITS: Final = 15  # what float64 holds of any decimal number


class CellTypes:
    """Finds the type that all cells of each column have.

    Args:
        names: The columns to find it for.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._left = {name: list(_FITS) for name in names}
        self._seen: set[str] = set()

    @property
    def undecided(self) -> list[str]:
        """The columns that may still be something else than text."""
        return [name for name, left in self._left.items() if left]

    def look(self, batch: Any) -> None:
        """Take the cells of some rows into account."""
        for name in batch.schema.names:
            cells = batch.column(name)
            if not self._left.get(name) or cells.null_count == len(cells):
                continue
            self._seen.add(name)
            self._left[name] = [kind for kind in self._left[name] if _FITS[kind](cells)]

    def found(self) -> dict[str, Any]:
        """The columns that are not text, and their types."""
        return {name: self._left[name][0] for name in self.undecided if name in self._seen}


def converted(cells: Any, kind: Any) -> Any:
    """Cells of text in the type that was found for them."""
    if kind == pa.bool_():
        return pc.equal(pc.ascii_lower(cells), "true")
    return pc.cast(cells, kind)


def _all(found: Any) -> bool:
    return bool(pc.all(found).as_py())


def _are_whole(cells: Any) -> bool:
    if not _all(pc.match_substring_regex(cells, _WHOLE)):
        return False
    try:
        pc.cast(cells, pa.int64())
    except pa.ArrowInvalid:  # too large
        return False
    return True


def _are_truths(cells: Any) -> bool:
    return _all(pc.match_substring_regex(cells, "^(?:true|false)$", ignore_case=True))


def _are_decimal(cells: Any) -> bool:
    if not _all(pc.match_substring_regex(cells, _DECIMAL)):
        return False
    digits = pc.ascii_ltrim(pc.replace_substring_regex(cells, _NO_DIGITS, ""), "0")
    return _all(pc.less_equal(pc.binary_length(digits), _EXACT_DIGITS))


_FITS: Final[dict[Any, Callable[[Any], bool]]] = {
    pa.int64(): _are_whole,
    pa.bool_(): _are_truths,
    pa.float64(): _are_decimal,
}

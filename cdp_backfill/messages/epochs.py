"""Reads numbers, and text that holds numbers, as milliseconds since 1970 UTC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import numpy.typing as npt

    from cdp_backfill.model.arrays import Mask, Millis

# RFC 3339 has the years 0000 to 9999; Python and pandas begin with year 1.
FIRST: Final = -62_135_596_800_000
"""Begin of the year 1; milliseconds since 1970 UTC."""

LAST: Final = 253_402_300_799_999
"""End of the year 9999; milliseconds since 1970 UTC."""

PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Number of each unit in a second."""

_NUMBER: Final = r"^[+-]?\d{1,19}(\.\d+)?([eE][+-]?\d{1,2})?$"
_WHOLE: Final = r"^([0-8]?\d{18}|\d{1,17})$"  # always fits into 64 bits
_SIGNED: Final = r"^[+-]?([0-8]?\d{18}|\d{1,17})$"
_LAST_BIT: Final = 3e-4  # milliseconds; the error of a float of seconds since 1970

_DIGITS: Final = r"^(\d{9,19}(\.\d+)?|\d\.\d+[eE]\+?\d{1,2})$"
"""Text that is a number of seconds since 1970, or of a smaller unit."""

FAR: Final = 4_102_444_800_000
"""The year 2100: up to it, the size of a number gives its unit."""


@dataclass(frozen=True, slots=True)
class EpochTexts:
    """Numbers among texts: their positions, and the times that they mean."""

    rows: npt.NDArray[np.int64]
    millis: Millis
    unclear: Mask
    units: dict[str, Mask]


def nulls_of(array: Any) -> Mask:
    """True where a cell is null."""
    return np.asarray(array.is_null().to_numpy(zero_copy_only=False))


def as_mask(array: Any) -> Mask:
    """An Arrow array of booleans as a mask, False where it is null."""
    return np.asarray(array.fill_null(False).to_numpy(zero_copy_only=False))


def integers_of(array: Any) -> tuple[Millis, Mask]:
    """The integers under a time type, 0 for null; and where it is null."""
    width = pa.int32() if pa.types.is_date32(array.type) else pa.int64()
    raw = array.cast(width).cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return raw, nulls_of(array)


def to_millis(raw: Millis, unit: str) -> tuple[Millis, Mask]:
    """From a unit to milliseconds, rounded down; and True where the result does not fit."""
    if unit == "s":
        overflow = (raw > LAST // 1000) | (raw < FIRST // 1000)
        return np.where(overflow, 0, raw) * 1000, overflow
    return np.floor_divide(raw, PER_SECOND[unit] // 1000), np.zeros(len(raw), dtype=bool)


def from_numbers(array: Any, unit: str) -> tuple[Millis, Mask, Mask]:
    """Milliseconds; True where they are bad; and True where the number is NaN."""
    none = np.zeros(len(array), dtype=bool)
    if pa.types.is_integer(array.type):
        if pa.types.is_uint64(array.type):
            array = pc.if_else(pc.less(array, pa.scalar(2**63, pa.uint64())), array, None)
        bad = nulls_of(array) if pa.types.is_uint64(array.type) else none
        millis, overflow = to_millis(array.cast(pa.int64()).fill_null(0).to_numpy(), unit)
        return millis, bad | overflow, none
    if pa.types.is_float16(array.type):
        array = array.cast(pa.float32())
    floats = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    scaled = floats * (1000 / PER_SECOND[unit])
    bad = ~np.isfinite(scaled) | (np.abs(scaled) > 2.0**62) | (np.abs(floats) > 2.0**62)
    good = np.where(bad, 0.0, floats)
    # A whole number is converted as an integer; a fraction may lack its last bit.
    whole, overflow = to_millis(good.astype(np.int64), unit)
    fraction = np.floor(np.where(bad, 0.0, scaled) + _LAST_BIT).astype(np.int64)
    millis = np.where(np.floor(good) == good, whole, fraction)
    return millis, bad | (overflow & (np.floor(good) == good)), np.isnan(floats)


def unit_by_size(
    array: Any, earliest: int, latest: int
) -> tuple[Millis, Mask, Mask, dict[str, Mask]]:
    """Milliseconds of numbers whose size gives their unit: the one that leads into the range.

    Returns:
        The milliseconds; True where no unit or more than one leads there; True where the number
        is NaN; and for each unit, True where the size gave it.
    """
    size = len(array)
    millis, hits = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int8)
    missing = nulls_of(array)
    units = {}
    for unit in PER_SECOND:
        candidate, bad, not_numbers = from_numbers(array, unit)
        missing = missing | not_numbers
        good = ~bad & ~missing & (candidate >= earliest) & (candidate <= latest)
        if good.any():
            millis = np.where(good, candidate, millis)
            hits += good
            units[unit] = good
    clear = hits == 1
    return millis, ~clear & ~missing, missing, {u: mask & clear for u, mask in units.items()}


def fits_a_unit(numbers: Any, earliest: int, latest: int) -> Mask:
    """True where a number of any unit leads into the range."""
    result = np.zeros(len(numbers), dtype=bool)
    for unit in PER_SECOND:
        millis, bad, _ = from_numbers(numbers, unit)
        result |= ~bad & (millis >= earliest) & (millis <= latest)
    return result


def from_epoch_texts(text: Any, earliest: int, latest: int) -> EpochTexts:
    """The numbers among texts, without a unit."""
    digits = as_mask(pc.match_substring_regex(text, _DIGITS))
    text = text.filter(pa.array(digits))
    numbers = pc.cast(text, pa.float64())
    whole = pc.match_substring_regex(text, _WHOLE)
    exact = pc.cast(pc.if_else(whole, text, None), pa.int64())
    millis, odd, _, units = unit_by_size(numbers, earliest, latest)
    exactly, _, _, _ = unit_by_size(exact, earliest, latest)
    return EpochTexts(np.flatnonzero(digits), np.where(as_mask(whole), exactly, millis), odd, units)


def from_digits(array: Any, unit: str) -> tuple[Millis, Mask]:
    """Milliseconds of text that holds numbers of a unit; and True where they are bad."""
    good = pc.match_substring_regex(array, _NUMBER)
    digits = pc.match_substring_regex(array, _SIGNED)
    integers = pc.if_else(digits, pc.replace_substring_regex(array, r"^\+", ""), None)
    whole, overflow, _ = from_numbers(pc.cast(integers, pa.int64()), unit)
    numbers = pc.cast(pc.if_else(good, array, None), pa.float64())
    fraction, bad, _ = from_numbers(numbers, unit)
    is_whole = as_mask(digits)
    bad = np.where(is_whole, overflow, bad) | ~as_mask(good)
    return np.where(is_whole, whole, fraction), bad

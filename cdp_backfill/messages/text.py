"""Reads cells as text, as ids and as booleans."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.messages import json_cells
from cdp_backfill.messages.edges import Edges, byte_set, holds
from cdp_backfill.model.arrow_types import (
    LARGEST_EXACT,
    is_bytes,
    is_json,
    is_number,
    is_text,
    largest_exact,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.model.arrays import Mask


_PLAIN: Final = frozenset(
    kind.id
    for kind in (
        *(pa.null(), pa.bool_(), pa.string(), pa.large_string(), pa.binary(), pa.large_binary()),
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float16(), pa.float32(), pa.float64()),
        *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    )
)
"""Types that stay as they are; most columns have one of these."""


def decode(array: Any) -> Any:
    """The array without dictionaries, run ends, views and extension types (except JSON)."""
    kind = array.type
    if kind.id in _PLAIN or is_json(kind):
        return array
    if isinstance(kind, pa.BaseExtensionType):
        is_uuid = kind.extension_name == "arrow.uuid"
        return _uuid_text(array.storage) if is_uuid else decode(array.storage)
    if pa.types.is_dictionary(kind):
        return decode(array.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return decode(pc.run_end_decode(array))
    if pa.types.is_string_view(kind):
        return array.cast(pa.string())
    if pa.types.is_binary_view(kind):
        return array.cast(pa.binary())
    if pa.types.is_decimal32(kind) or pa.types.is_decimal64(kind):
        return array.cast(pa.decimal128(kind.precision, kind.scale))
    return array


def json_as_text(array: Any) -> Any:
    """JSON as text, strings without their quotes; other arrays as they are."""
    if not is_json(array.type):
        return array
    text, nested = json_cells.scalars_as_text(array.storage)
    return pc.if_else(nested, array.storage, text)


def _uuid_text(storage: Any) -> Any:
    """The 16 bytes of UUIDs as text, such as ``6e86c18b-3fe8-4a1f-bcda-426a8b8feed3``."""
    size = len(storage)
    data = storage.buffers()[1][16 * storage.offset : 16 * (storage.offset + size)]
    digits = pa.py_buffer(data.to_pybytes().hex().encode())
    ends = pa.py_buffer(np.arange(0, 32 * size + 1, 32, dtype=np.int32))
    text = pa.Array.from_buffers(pa.string(), size, [None, ends, digits])
    bounds = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
    parts = [pc.utf8_slice_codeunits(text, start, stop) for start, stop in bounds]
    return pc.if_else(pc.is_valid(storage), pc.binary_join_element_wise(*parts, "-"), None)


def as_utf8(array: Any) -> tuple[Any, Mask]:
    """Text or bytes as text; null and True where a cell is not UTF-8."""
    large = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    goal = pa.large_string() if large else pa.string()
    try:
        if is_bytes(array.type):
            if pa.types.is_fixed_size_binary(array.type):
                array = array.cast(pa.binary())
            return array.cast(goal), np.zeros(len(array), dtype=bool)
        array.validate(full=True)
    except pa.ArrowInvalid:
        cells = array.cast(pa.large_binary() if large else pa.binary()).to_pylist()
        texts = [None if cell is None else _utf8(cell) for cell in cells]
        bad = np.array(
            [text is None and cell is not None for text, cell in zip(texts, cells, strict=True)]
        )
        return pa.array(texts, goal), bad
    return array, np.zeros(len(array), dtype=bool)


def _utf8(cell: bytes) -> str | None:
    try:
        return cell.decode()
    except UnicodeDecodeError:
        return None


def as_text(array: Any, *, floats: Literal["id", "version", "number"] = "id") -> tuple[Any, Mask]:
    """A column as text; null and True where a cell cannot be text.

    Args:
        array: Text, bytes, numbers or booleans, decoded.
        floats: How floats are written. ``"id"``: whole numbers that the type holds exactly, such
            as those below 2^53 for 64 bits, without decimals; all others are bad. ``"version"``:
            whole numbers with ``.0``. ``"number"``: whole numbers without decimals, others with
            theirs. Infinity is always bad.
    """
    kind = array.type
    none = np.zeros(len(array), dtype=bool)
    if is_json(kind):
        storage, bad = as_utf8(array.storage)
        text, nested = json_cells.scalars_as_text(storage)
        return text, bad | nested.fill_null(False).to_numpy(zero_copy_only=False)
    if is_text(kind) or is_bytes(kind):
        return as_utf8(array)
    if pa.types.is_decimal(kind):
        return pc.replace_substring_regex(_plain_digits(array), r"\.0*$", ""), none
    if not pa.types.is_floating(kind):
        return array.cast(pa.string()), none
    if pa.types.is_float16(kind):
        array = array.cast(pa.float32())
    values = array.fill_null(np.nan).to_numpy(zero_copy_only=False)
    finite = np.isfinite(values)
    whole = finite & (np.floor(values) == values) & (np.abs(values) < largest_exact(kind))
    text = pa.array(np.where(whole, values, 0).astype(np.int64)).cast(pa.string())
    if floats == "version":
        text = pc.binary_join_element_wise(text, "0", ".")
    good = whole
    if floats != "id":
        text = pc.if_else(pa.array(whole), text, array.cast(pa.string()))
        good = finite
    return pc.if_else(pa.array(good), text, None), ~good & ~np.isnan(values)


def _plain_digits(decimals: Any) -> Any:
    """Decimals as text without an exponent, which Arrow writes where many zeros lead."""
    text = decimals.cast(pa.string())
    if not pc.any(pc.match_substring(text, "E")).as_py():
        return text
    return pa.array([None if each is None else f"{each:f}" for each in decimals.to_pylist()])


_TRUE: Final = pa.array(["true", "1", "yes", "t", "y", "on"])
_FALSE: Final = pa.array(["false", "0", "no", "f", "n", "off"])


def as_boolean(array: Any) -> tuple[Any, Mask]:
    """A column as booleans; null and True where a cell is neither true nor false.

    Args:
        array: Booleans, numbers or text, decoded; numbers are 0 and 1, text is read in any letter
            case.
    """
    if pa.types.is_boolean(array.type):
        return array, np.zeros(len(array), dtype=bool)
    text, bad = as_text(array)
    text = pc.utf8_lower(text)
    true = pc.is_in(text, value_set=_TRUE.cast(text.type))
    false = pc.is_in(text, value_set=_FALSE.cast(text.type))
    result = pc.if_else(true, True, pc.if_else(false, False, None))
    odd = pc.and_(pc.is_valid(text), pc.is_null(result))
    return result, bad | odd.to_numpy(zero_copy_only=False)


NULL_WORDS: Final = (
    "null",
    "none",
    "nan",
    "nat",
    "<na>",
    "n/a",
    "nil",
    "undefined",
    "(null)",
    "(not set)",
    "\\n",
)
"""Words that mean an empty cell in ids, versions, booleans and times, in any letter case.

They are those of SQL, Python, pandas, Swift, JavaScript, Google Analytics, MySQL and Redshift."""

_LONGEST_WORD: Final = max(map(len, NULL_WORDS))
_INITIALS: Final = byte_set({ord(c) for word in NULL_WORDS for c in (word[0], word[0].upper())})
# All white space of ASCII, and the first and last bytes of all other white space.
_SPACE_LIKE: Final = byte_set([*range(33), *range(128, 256)])
_ZERO_LIKE: Final = byte_set(b"0-")
_NUMBER_LIKE: Final = byte_set(b"-0123456789")
_ZEROS: Final = r"^[0-]{8,}$"
_WHOLE: Final = r"^-?\d+\.0+$"
_EXPONENT: Final = r"^-?\d\.\d+[eE]\+?\d+$"
_EXACT_DIGITS: Final = 15


def clean_text(text: Any, note: Callable[[str, Any], None]) -> Any:
    """Text without white space around it; null where it is blank or a null word.

    Args:
        text: Arrow array of text.
        note: Called with the code of each fix and where it was made.
    """
    edges = Edges.of(text)
    odd = _SPACE_LIKE[edges.first] | _SPACE_LIKE[edges.last]
    odd |= _INITIALS[edges.first] & (edges.lengths <= _LONGEST_WORD)
    odd |= edges.lengths == 0
    if text.null_count:
        odd &= text.is_valid().to_numpy(zero_copy_only=False)
    if not odd.any():
        return text
    mask = pa.array(odd)
    return pc.replace_with_mask(text, mask, _clean(text.filter(mask), note))


def _clean(text: Any, note: Callable[[str, Any], None]) -> Any:
    trimmed = pc.utf8_trim_whitespace(text)
    changed = pc.not_equal(trimmed, text)
    blank = pc.equal(trimmed, "")
    note("trimmed", pc.and_not(changed, blank))
    words = pc.is_in(pc.utf8_lower(trimmed), value_set=pa.array(NULL_WORDS).cast(text.type))
    note("null_word", words)
    return pc.if_else(pc.or_(blank, words), None, trimmed)


def as_identifier(array: Any, note: Callable[[str, Any], None]) -> tuple[Any, Mask]:
    """A column as ids; null where there is none, and True where a cell cannot be an id.

    Args:
        array: Text, bytes or numbers, decoded.
        note: Called with the code of each fix and where it was made.
    """
    kind = array.type
    text, bad = as_text(array)
    text = text.cast(pa.string())
    if pa.types.is_floating(kind):
        note("whole_float", text.is_valid())
    if is_number(kind):
        return text, bad
    if is_bytes(kind):
        note("bytes_text", text.is_valid())
    numbers = None
    if is_json(kind):
        array, _ = as_utf8(array.storage)
        numbers = pc.match_substring_regex(array, r"^\s*-?\d")
        flags = pc.match_substring_regex(array, r"^\s*(true|false)\s*$")
        text = pc.if_else(flags, None, text)
        bad = bad | flags.fill_null(False).to_numpy(zero_copy_only=False)
    text = clean_text(text, note)
    edges = Edges.of(text)
    if (_ZERO_LIKE[edges.first] & _ZERO_LIKE[edges.last] & (edges.lengths > 0)).any():
        zeros = pc.match_substring_regex(text, _ZEROS)
        note("zero_id", zeros)
        text = pc.if_else(zeros, None, text)
    if not _NUMBER_LIKE[edges.first].any() or not holds(text, ord(".")):
        return text, bad
    dotted = pc.match_substring_regex(text, r"^-?\d+\.\d")
    if pc.any(dotted).as_py():
        whole = pc.match_substring_regex(text, _WHOLE)
        digits = pc.replace_substring_regex(text, r"\.0+$", "")
        exact = pc.less_equal(pc.binary_length(digits), _EXACT_DIGITS)
        exponent = pc.match_substring_regex(text, _EXPONENT)
        if pc.any(exponent).as_py():
            read = [_without_exponent(cell) for cell in text.filter(exponent).to_pylist()]
            digits = pc.replace_with_mask(
                digits, exponent.fill_null(False), pa.array(read, digits.type)
            )
        fits = pc.or_(pc.and_(whole, exact), pc.and_(exponent, digits.is_valid()))
        lost = pc.and_not(pc.or_(whole, exponent), fits)
        note("whole_float", fits)
        if numbers is not None:  # text may have a point, a number may not
            lost = pc.or_(lost, pc.and_not(pc.and_(numbers, dotted), fits))
        text = pc.if_else(lost, None, pc.if_else(fits, digits, text))
        bad = bad | lost.fill_null(False).to_numpy(zero_copy_only=False)
    return text, bad


def _without_exponent(cell: str) -> str | None:
    """A number such as ``1.2345678E7`` as a whole number; None if it has lost digits.

    Java and Scala write all the digits that there are. A plus sign after the E comes from
    spreadsheets and statistics programs, which round: then all digits must be there.
    """
    number = Decimal(cell)
    mantissa, _, exponent = cell.lower().partition("e")
    digits = len(mantissa.partition(".")[2])
    rounded = exponent.startswith("+") and digits < int(exponent)
    whole = number == number.to_integral_value() and abs(number) < LARGEST_EXACT
    return f"{int(number)}" if whole and not rounded else None

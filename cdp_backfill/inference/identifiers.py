"""Says whether the cells of a column can be ids of people or devices, and what they tell."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.inference import known_values
from cdp_backfill.inference.samples import equal_cells, is_json_text
from cdp_backfill.messages.expressions import quote
from cdp_backfill.messages.text import as_boolean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cdp_backfill.inference.samples import Sample, SampleColumn

_SEVERAL: Final = 5
"""Rows with one and the same id that show a constant."""

_FREQUENT: Final = 3

_MANY_ROWS: Final = 10
_ROWS_OF_A_WORD: Final = 4
_ROWS_OF_A_VALUE: Final = 15
_FEW: Final = 5
_LOST: Final = 18
"""Digits of numbers that nobody counts to."""

_SHORTEST: Final = 6
"""Characters of the shortest id that two columns have in common by more than chance."""

_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}( .*)?")
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://.*", re.IGNORECASE)
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_SAYS_ANONYMOUS: Final = re.compile(
    r"(anonymous|anon|guest|visitor|device|install|installation)[-_:.#|].+|\$device:.+"
    r"|\$?\w*AnonymousID:.+|(android|android_?id|ios|idfv|idfa|gaid|aaid|udid|vendor_?id)[:#|].+",
    re.IGNORECASE,
)
_RANDOM: Final = re.compile(r"[0-9a-fA-F]{16,}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_FLAGS: Final = {
    ("is", "identified"): True,
    ("identified",): True,
    ("is", "anonymous"): False,
    ("anonymous",): False,
}
"""Columns that say whether the person of a row is identified, with the value that says yes."""


def why_no_ids(
    column: SampleColumn, *, bare: bool = False, any_variety: bool = False
) -> str | None:
    """Why the cells of a column are not ids, in words; None if they can be.

    Args:
        column: The column.
        bare: Whether the name of the column does not say that it holds ids.
        any_variety: Whether to overlook how many different ids there are.
    """
    kind = column.kind
    if column.is_nested or pa.types.is_temporal(kind) or pa.types.is_boolean(kind):
        return "its cells are not ids"
    if not column.ids.is_valid().to_numpy(zero_copy_only=False).any() and not column.bad_ids:
        return "it is empty in the first rows"
    if column.bad_ids:
        return "some of its cells have lost digits"
    if column.is_truth:
        return "its cells are true or false"
    reason = _why_no_texts(column, bare=bare)
    return reason if reason or any_variety else _why_no_variety(column)


def _why_no_texts(column: SampleColumn, *, bare: bool) -> str | None:
    texts = column.texts
    if any(map(is_json_text, texts)):
        return "its cells are JSON"
    for pattern, what in ((_DAY, "days or times"), (_URL, "URLs")):
        if _most(texts, pattern):
            return f"its cells are {what}"
    if sum(" " in text.strip() and not _has_digit(text) for text in texts) * 2 > len(texts):
        return "its cells are words, not ids"
    if bare and not column.is_number and sum(map(_has_digit, texts)) * 2 < len(texts):
        return "its cells may be names"
    return None


def _why_no_variety(column: SampleColumn) -> str | None:
    rows, distinct = len(column.filled), column.distinct
    if distinct == 1 and rows >= _SEVERAL:
        return "all of its cells are the same"
    words = not column.is_number and sum(map(_has_digit, column.texts)) * 2 < distinct
    of_words = words and rows >= _MANY_ROWS and distinct * _ROWS_OF_A_WORD <= rows
    if of_words or (distinct <= _FEW and distinct * _ROWS_OF_A_VALUE <= rows):
        return f"it has only {distinct} values in {rows:,} rows"
    return None


def _has_digit(text: str) -> bool:
    return any(map(str.isdigit, text))


def _most(texts: list[str], pattern: re.Pattern[str]) -> bool:
    return bool(texts) and sum(bool(pattern.fullmatch(text)) for text in texts) * 2 >= len(texts)


_PHONES: Final = frozenset(["mobile", "phone", "handset", "smartphone"])


def why_no_devices(column: SampleColumn, sample: Sample) -> str | None:
    """Why the cells of a column are not ids of devices or installs; None if they can be.

    Args:
        column: The column.
        sample: The first rows.
    """
    if "device" in column.words and not _PHONES & set(column.words) and _names_phones(sample):
        return "other columns are of the phone, so it may be of another device"
    reason = why_no_ids(column)
    if reason is not None:
        return reason
    if sum(map(known_values.is_model, column.texts)) * 2 >= len(column.texts):
        return "its cells are models of devices"
    if column.is_number and max(map(len, column.texts)) < _SHORTEST:
        return "its cells are small numbers"
    return None


def _names_phones(sample: Sample) -> bool:
    """Whether a table has a model of the device and another one of the phone."""
    models = [column for column in sample if column.core[-1:] == ("model",)]
    phones = [column for column in models if _PHONES & set(column.words)]
    devices = [
        column for column in models if "device" in column.words and not _PHONES & set(column.words)
    ]
    return any(one.texts != other.texts for one in phones for other in devices)


def are_random(column: SampleColumn) -> bool:
    """Whether the cells are random, as ids that an app makes for an install are."""
    return bool(column.texts) and all(_RANDOM.fullmatch(text) for text in column.texts)


def are_numbered(column: SampleColumn) -> bool:
    """Whether the cells count the rows: 1, 2, 3."""
    texts = column.texts
    if not texts or not all(text.isdigit() and len(text) < _LOST for text in texts):
        return False
    first = int(texts[0])
    return [int(text) for text in texts] == list(range(first, first + len(texts)))


@dataclass(frozen=True, slots=True)
class Identity:
    """What the cells of a column of ids say about the people.

    Attributes:
        kind: ``person``, ``anonymous``, or ``doubt`` where a person must decide.
        reason: The reason in words.
        expression: SQL that is the id of a person and nothing else, where rows differ; or None.
        proven: Whether something says so; if not, nothing speaks against it.
    """

    kind: str
    reason: str
    expression: str | None = None
    proven: bool = False


def identity(column: SampleColumn, sample: Sample, devices: Iterable[SampleColumn]) -> Identity:
    """Whether a column of ids is of people, or of devices and visitors.

    Args:
        column: The column.
        sample: The first rows.
        devices: The columns with ids of devices and installs.
    """
    found = _by_cells(column) or _by_device(column, devices) or _by_flag(column, sample)
    return found or Identity("person", "its cells are ids")


def _by_cells(column: SampleColumn) -> Identity | None:
    texts, name = column.texts, quote(column.name)
    if sum(bool(_EMAIL.fullmatch(text)) for text in texts) * 2 >= len(texts):
        return Identity("doubt", "its cells are e-mail addresses")
    anonymous = sum(bool(_SAYS_ANONYMOUS.fullmatch(text)) for text in texts)
    if anonymous == len(texts):
        return Identity("anonymous", "its cells say that they are anonymous", proven=True)
    if anonymous:
        return Identity(
            "doubt",
            "some of its cells say that they are anonymous",
            f"CASE WHEN NOT regexp_matches({name}, '^(anonymous|anon|guest|visitor|device|install)"
            f"[-_:.]', 'i') THEN {name} END",
        )
    nobody = _nobody(column)
    if nobody:
        listed = ", ".join(f"'{word}'" for word in nobody)
        return Identity(
            "doubt",
            f"some of its cells, such as {nobody[0]!r}, stand for nobody",
            f"CASE WHEN lower({name}::VARCHAR) NOT IN ({listed}) THEN {name} END",
        )
    return None


def _nobody(column: SampleColumn) -> list[str]:
    """Words of our lists that stand for nobody among the cells."""
    words = {text.casefold() for text in column.texts} & known_values.NOBODY
    counts = Counter(
        {
            pair["values"]: pair["counts"]
            for pair in pc.value_counts(column.ids.drop_null()).to_pylist()
        }
    )
    ((first, rows), *others) = counts.most_common(2)
    is_frequent = rows >= _FREQUENT and (not others or rows > 2 * others[0][1])
    if is_frequent and str(first).casefold() in known_values.NOBODY_IF_FREQUENT:
        words.add(str(first).casefold())
    return sorted(words)


def _by_device(column: SampleColumn, devices: Iterable[SampleColumn]) -> Identity | None:
    mine = _long_ids(column)
    for device in devices:
        if device.name == column.name:
            continue
        equal, both = equal_cells(mine, _long_ids(device))
        if not equal:
            continue
        if equal == both:
            return Identity(
                "anonymous", f"its cells are those of {device.name!r}, a device", proven=True
            )
        return Identity(
            "doubt",
            f"some of its cells are those of {device.name!r}, a device",
            f"nullif({quote(column.name)}::VARCHAR, {quote(device.name)}::VARCHAR)",
        )
    return None


def _long_ids(column: SampleColumn) -> list[str | None]:
    return [
        text if text is not None and len(text) >= _SHORTEST else None
        for text in column.ids.to_pylist()
    ]


def _by_flag(column: SampleColumn, sample: Sample) -> Identity | None:
    for flag in sample:
        yes = _FLAGS.get(flag.core)
        if yes is None or not (flag.is_truth or pa.types.is_boolean(flag.kind)):
            continue
        truth, _ = as_boolean(flag.array)
        said = truth.filter(column.ids.is_valid()).drop_null()
        if not len(said):
            continue
        identified = pc.all(said).as_py() if yes else not pc.any(said).as_py()
        anonymous = not pc.any(said).as_py() if yes else pc.all(said).as_py()
        if identified:
            return Identity("person", f"{flag.name!r} says that they are identified", proven=True)
        if anonymous:
            return Identity("anonymous", f"{flag.name!r} says so", proven=True)
        condition = quote(flag.name) if yes else f"NOT {quote(flag.name)}"
        return Identity(
            "doubt",
            f"{flag.name!r} says that some of its rows are of nobody who is identified",
            f"CASE WHEN {condition} THEN {quote(column.name)} END",
        )
    return None

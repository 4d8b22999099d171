"""Judges by name and cells which columns hold personal data that nobody should send by accident."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from cdp_backfill.inference import known_values
from cdp_backfill.inference.column_names import (
    PERSON_WORDS,
    core_words,
    expand,
    read_names,
    split_words,
)
from cdp_backfill.messages.text import json_as_text
from cdp_backfill.model.arrow_types import is_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cdp_backfill.inference.samples import SampleColumn

_DATA: Final[dict[str, Any]] = read_names("personal_names.toml")
_PEOPLE: Final = {"person": [*sorted(PERSON_WORDS), *_DATA["others"]]}
_AFTER: Final = frozenset(_DATA["after"])


def _phrases(table: dict[str, list[str]]) -> dict[tuple[str, ...], str]:
    return {
        split_words(" ".join(words)): what
        for what, phrases in table.items()
        for phrase in phrases
        for words in expand(phrase.removeprefix("="), _PEOPLE)
    }


_NUMBERS_TOO: Final = _phrases(_DATA["numbers_too"])
_TEXT_ONLY: Final = _phrases(_DATA["text_only"])
_EXACT: Final = frozenset(
    split_words(phrase[1:])
    for table in (_DATA["numbers_too"], _DATA["text_only"])
    for phrases in table.values()
    for phrase in phrases
    if phrase.startswith("=")
)
_LONGEST: Final = max(map(len, _NUMBERS_TOO | _TEXT_ONLY))
_VERSION_WORDS: Final = frozenset(["version", "build", "firmware", "release", "sdk"])
_MAX_PARSED: Final = 200
"""Cells of JSON whose names are read, from the first rows."""

_EMAIL: Final = re.compile(r"[^@\s,;<>\"]+@[\w-]+(\.[\w-]+)+")
_PHONE: Final = re.compile(r"\+\d[\d ()/.-]{7,18}\d")
_PHONE_DIGITS: Final = re.compile(r"\+?[\d ()/.-]{7,20}")
_IBAN: Final = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")
_POSITION: Final = re.compile(r"-?\d{1,2}\.\d{3,}[,; ]+-?\d{1,3}\.\d{3,}")
_SECRET: Final = re.compile(
    r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|[\w-]{8,}:APA91[\w-]{60,}|MII[\w+/=\s]{400,}"
)
_HEX: Final = re.compile(r"(0x)?[0-9a-fA-F]{4,}")
_OWNER: Final = re.compile(r"['\u2019`]s\b|\b(de|von|van|di) [A-Z]|\bmy\b", re.IGNORECASE)
_SOCIAL: Final = re.compile(r"\d{3}-\d{2}-\d{4}")


def judge(column: SampleColumn) -> str | None:
    """Why a column holds personal data, in words; None if nothing says so.

    Args:
        column: The column.
    """
    if column.is_nested or _holds_objects(column):
        return _judge_parts(column)
    if column.is_truth:
        return None
    return judge_name(column) or _judge_owner(column) or _judge_cells(column)


def _judge_owner(column: SampleColumn) -> str | None:
    """Why the name of a device holds that of its owner, such as ``Ada's iPhone``."""
    if column.words[-2:] != ("device", "name"):
        return None
    named = any(
        _OWNER.search(text) or known_values.is_given_name(word)
        for text in column.texts
        for word in text.split()
    )
    return "its cells hold names of owners" if named else None


def judge_name(column: SampleColumn) -> str | None:
    """Why a column holds personal data, judged by its name and type alone."""
    what = named_personal(column.name, text=not column.is_number)
    if what is None:
        return None
    if what == "a phone number" and column.words[-1] in ("phone", "mobile", "handset"):
        # These are also names of the model of a phone.
        texts = column.texts
        if not texts or sum(bool(_PHONE_DIGITS.fullmatch(text)) for text in texts) * 2 < len(texts):
            return None
    if what == "an address" and column.texts and all(map(_HEX.fullmatch, column.texts)):
        return None  # of memory, in a crash
    return f"its name says {what}"


def named_personal(name: str, *, text: bool = True) -> str | None:
    """What personal data a name says, in words, or None.

    Args:
        name: Name of a column, or of a part of one.
        text: Whether its values are not numbers.

    >>> named_personal("billing_email"), named_personal("email_opened")
    ('an e-mail address', None)
    """
    whole = words = core_words(name)
    phrases = _NUMBERS_TOO | _TEXT_ONLY if text else _NUMBERS_TOO
    while words:
        for size in range(min(_LONGEST, len(words)), 0, -1):
            ending = words[-size:]
            if ending in phrases and (ending not in _EXACT or ending == whole):
                return phrases[ending]
        if words[-1] not in _AFTER and not words[-1].isdigit():
            return None
        words = words[:-1]
    return None


def _holds_objects(column: SampleColumn) -> bool:
    if not column.is_text or not column.texts or column.texts[0][:1] not in "[{":
        return False
    try:
        json.loads(column.texts[0])
    except (ValueError, RecursionError):
        return False  # such as an e-mail address that begins with a brace
    return True


def _judge_parts(column: SampleColumn) -> str | None:
    for name, value in _parts(column):
        what = named_personal(name, text=not isinstance(value, int | float))
        if what is not None and value is not None and not isinstance(value, bool | dict | list):
            return f"its part {name!r} says {what}"
        if isinstance(value, str) and _EMAIL.fullmatch(value):
            return f"its part {name!r} holds e-mail addresses"
    return None


def _parts(column: SampleColumn) -> Iterator[tuple[str, Any]]:
    """Names and values inside the first cells."""
    array = column.filled[:_MAX_PARSED]
    if is_json(column.kind):
        array = json_as_text(array)
    try:
        cells = array.to_pylist()
    except (pa.ArrowException, ValueError, OverflowError):
        return  # such as times outside Python's calendar
    for cell in cells:
        if isinstance(cell, str):
            try:
                cell = json.loads(cell)  # noqa: PLW2901
            except (ValueError, RecursionError):
                continue
        yield from _inside(cell)


def _inside(value: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    if depth > 8:  # noqa: PLR2004  # deeper than any export
        return
    if isinstance(value, dict):
        pairs = list(value.items())
        if isinstance(value.get("key"), str) and "value" in value:  # as in GA4's event_params
            pairs = [(value["key"], _first_value(value["value"]))]
        for name, child in pairs:
            yield str(name), child
            yield from _inside(child, depth + 1)
    elif isinstance(value, list | tuple):
        for child in value:
            if isinstance(child, tuple) and len(child) == 2:  # noqa: PLR2004  # of a map
                yield str(child[0]), child[1]
            yield from _inside(child, depth + 1)


def _first_value(value: Any) -> Any:
    if isinstance(value, dict):
        return next((child for child in value.values() if child is not None), None)
    return value


def _is_address(text: str) -> bool:
    if not re.search(r"[.:]", text):
        return False
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return address.version == 6 or int(text.split(".", maxsplit=1)[0]) > 0  # noqa: PLR2004


def _is_iban(text: str) -> bool:
    plain = text.replace(" ", "")
    if not _IBAN.fullmatch(plain):
        return False
    digits = "".join(str(int(letter, 36)) for letter in plain[4:] + plain[:4])
    return int(digits) % 97 == 1


_CARD_DIGITS: Final = 13
"""Digits of the shortest number of a card."""


def _is_card(text: str) -> bool:
    plain = re.sub(r"[ -]", "", text)
    if not re.fullmatch(r"[3-6]\d{12,18}", plain):
        return False
    doubled = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(plain))]
    return sum(digit - 9 if digit > 9 else digit for digit in doubled) % 10 == 0  # noqa: PLR2004


_BY_CELLS: Final[tuple[tuple[str, re.Pattern[str], Callable[[str], Any], float, int], ...]] = (
    ("e-mail addresses", re.compile("@"), _EMAIL.fullmatch, 0.1, 1),
    ("phone numbers", re.compile(r"\+\d"), _PHONE.fullmatch, 0.8, 1),
    ("IP addresses", re.compile(r"\..*\.|:"), _is_address, 0.9, 1),
    ("bank accounts", re.compile(r"[A-Z] *[A-Z] *\d"), _is_iban, 0.5, 1),
    ("numbers of cards", re.compile(r"\d[\d -]{11,}\d"), _is_card, 1.0, 5),
    ("social security numbers", re.compile(r"\d-\d\d-\d"), _SOCIAL.fullmatch, 0.9, 2),
    ("positions", re.compile(r"\.\d{3,}[,; ]"), _POSITION.fullmatch, 0.8, 1),
    ("tokens or receipts", re.compile("eyJ|:APA91|MII"), _SECRET.fullmatch, 0.5, 1),
)
"""What cells can be, what at least one of them then holds, how to tell, in which share of the
different cells, and in how many."""


def _judge_cells(column: SampleColumn) -> str | None:
    texts = column.texts
    if not texts or not (column.is_text or column.is_number):
        return None
    if column.is_number and max(map(len, texts)) < _CARD_DIGITS:
        return None  # a number is no other personal data
    versions = bool(_VERSION_WORDS & set(column.words))
    together = "\n".join(texts)  # one search costs less than one for each cell
    for what, sign, fits, share, least in _BY_CELLS:
        if not sign.search(together) or (versions and what == "IP addresses"):
            continue
        good = sum(bool(fits(text)) for text in texts)
        if good >= max(least, share * len(texts)):
            return f"its cells are {what}"
    has_spaces = len(together.split()) > len(texts) - texts.count("")
    if column.is_text and has_spaces and _are_names_of_persons(texts):
        return "its cells are names of persons"
    return None


def _are_names_of_persons(texts: list[str]) -> bool:
    named = [text for text in texts if text.strip()]
    good = sum(map(known_values.is_person_name, named))
    return bool(named) and good >= max(2, len(named) / 2)

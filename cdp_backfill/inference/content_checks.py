"""Checks whether the cells of a column are what its name says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cdp_backfill.inference import known_values
from cdp_backfill.model import api_facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.inference.samples import SampleColumn

NEARLY_ALL: Final = 0.9
"""Share of the different cells that must fit; of fewer than ten, all must."""

_FEW: Final = 10
_HALF: Final = 0.5
_MAX_NAMES: Final = 12
"""Different names of apps in a table; more are the apps that people use on their phones."""

_NUMBER: Final = re.compile(r"[+-]?(\d+([.,]\d*)*|\d*\.\d+)([eE][+-]?\d+)?")
_HASH: Final = re.compile(r"[0-9a-fA-F]{16,}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_EXPONENT: Final = re.compile(r"^[+-]?\d+(\.\d+)?[eE][+-]?\d+$")
_URL: Final = re.compile(r"[A-Za-z][\w+.-]*://\S*")
_VERSION: Final = re.compile(r"[vV]?\d+([._-][\w+-]+)*( ?\(.*\))?")
_DOTTED: Final = re.compile(r"[vV]?\d+\.\d+([._-][\w+-]+)*( ?\(.*\))?")
_BUILD: Final = re.compile(r"(?=.*\d)[0-9A-Za-z._+-]+")
_PLAIN_BUILD: Final = re.compile(r"\d[\d._-]*")
_OS_VERSION: Final = re.compile(r"[A-Za-z ]{0,24}(\d{1,3})([._]\d+){0,3}[ A-Za-z0-9().-]{0,24}")
_BUNDLE: Final = re.compile(r"[A-Za-z][\w-]*(\.[A-Za-z_][\w-]*){1,}")
_AGENT: Final = re.compile(r".*[A-Za-z]/\d|Mozilla|.*CFNetwork|.*okhttp|.*Dalvik")
_LARGEST_SCREEN: Final = 20_000


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the cells of a column say about a field.

    Attributes:
        fits: Whether they say that it is the field.
        share: Share of the different cells that fit, 0.0 to 1.0.
        words: The reason in words.
    """

    fits: bool
    share: float
    words: str


def check_content(field: str, rank: int, column: SampleColumn) -> Evidence:
    """Whether the cells of a column fit a path of the context or a documented property.

    Args:
        field: Path, such as ``context.os.name``.
        rank: Rank of the column's name; the less it says, the more its cells must.
        column: The column.
    """
    if column.is_nested or not len(column.filled):
        return Evidence(fits=False, share=0.0, words="it is empty in the first rows")
    check, what = _CHECKS[field]
    texts = [text for text in column.texts if not known_values.is_unknown(text)]
    if not texts:
        return Evidence(fits=False, share=0.0, words="it holds no value")
    good = sum(check(text, rank) for text in texts)
    share = good / len(texts)
    if field in _WHOLE and not _WHOLE[field](column, texts, rank):
        return Evidence(fits=False, share=share, words=f"its cells are not {what}")
    enough = NEARLY_ALL if len(texts) >= _FEW else 1.0
    if (field, rank) in _BY_EXAMPLE:
        enough = _HALF
    fits = share >= enough
    return Evidence(fits, share, f"its cells are {'' if fits else 'not '}{what}")


def is_plain_text(text: str) -> bool:
    """Whether a text is no number, no hash, no URL and no JSON.

    >>> is_plain_text("Zürich"), is_plain_text("1.5E+10"), is_plain_text("8d2f255a12bece5f")
    (True, False, False)
    """
    return (
        any(map(str.isalpha, text))
        and not _NUMBER.fullmatch(text)
        and not _HASH.fullmatch(text)
        and not _URL.fullmatch(text)
        and text[0] not in "[{"
        and "@" not in text
        and len(text) <= _MAX_LENGTH
    )


_MAX_LENGTH: Final = 100


def _model(text: str, rank: int) -> bool:
    if rank:
        return known_values.is_model(text)
    return is_plain_text(text) and not known_values.is_form_factor(text)


def _manufacturer(text: str, rank: int) -> bool:
    return known_values.is_maker(text) if rank > 1 else is_plain_text(text)


def _place(text: str, rank: int) -> bool:
    del rank
    return is_plain_text(text) and not any(map(str.isdigit, text))


def _version(text: str, rank: int) -> bool:
    pattern = _DOTTED if rank else _VERSION
    return bool(pattern.fullmatch(text)) and len(text) <= _MAX_LENGTH and not _EXPONENT.search(text)


def _build(text: str, rank: int) -> bool:
    pattern = _PLAIN_BUILD if rank else _BUILD
    is_long_hash = _HASH.fullmatch(text) and not text.isdigit()
    return bool(pattern.fullmatch(text)) and not is_long_hash and not _EXPONENT.search(text)


def _os_version(text: str, rank: int) -> bool:
    del rank
    return bool(_OS_VERSION.fullmatch(text))


def _screen(text: str, rank: int) -> bool:
    del rank
    try:
        return 0 < float(text) <= _LARGEST_SCREEN
    except ValueError:
        return False


def _truth(text: str, rank: int) -> bool:
    del rank
    return text.casefold() in ("true", "false", "0", "1", "yes", "no", "t", "f")


def _known(check: Callable[[str], bool]) -> Callable[[str, int], bool]:
    def known(text: str, rank: int) -> bool:
        del rank
        return check(text)

    return known


def _matching(pattern: re.Pattern[str]) -> Callable[[str, int], bool]:
    return _known(lambda text: bool(pattern.match(text)))


def _is_own_name(text: str) -> bool:
    """Whether a device has the name that its maker gave it, and not one from its owner."""
    return known_values.is_model(text) or bool(re.fullmatch(r"[a-z][a-z0-9_]{2,}", text))


def _is_bundle(text: str) -> bool:
    return bool(_BUNDLE.fullmatch(text))


_CHECKS: Final[dict[str, tuple[Callable[[str, int], bool], str]]] = {
    "properties.version": (_version, "versions"),
    "properties.build": (_build, "builds"),
    "properties.previous_version": (_version, "versions"),
    "properties.previous_build": (_build, "builds"),
    "properties.from_background": (_truth, "true or false"),
    "properties.url": (_known(lambda text: bool(_URL.fullmatch(text))), "URLs"),
    "properties.referring_application": (_known(is_plain_text), "names"),
    "context.app.name": (
        _known(lambda text: is_plain_text(text) and not _is_bundle(text)),
        "names of few apps",
    ),
    "context.app.namespace": (_known(_is_bundle), "names of packages"),
    "context.device.model": (_model, "models of devices"),
    "context.device.manufacturer": (_manufacturer, "manufacturers"),
    "context.device.name": (_known(_is_own_name), "names of devices without their owners"),
    "context.os.name": (_known(known_values.is_system), "operating systems"),
    "context.os.version": (_os_version, "versions"),
    "context.screen.width": (_screen, "numbers"),
    "context.screen.height": (_screen, "numbers"),
    "context.screen.density": (_screen, "numbers"),
    "context.network.wifi": (_truth, "true or false"),
    "context.network.cellular": (_truth, "true or false"),
    "context.network.bluetooth": (_truth, "true or false"),
    "context.network.carrier": (_known(known_values.is_carrier), "carriers"),
    "context.locale": (_known(known_values.is_locale), "languages"),
    "context.timezone": (_known(known_values.is_zone), "names of time zones"),
    "context.location.city": (_place, "names of places"),
    "context.location.country": (_known(known_values.is_country), "countries"),
    "context.location.region": (_place, "names of places"),
    "context.userAgent": (_matching(_AGENT), "user agents"),
}

_BY_EXAMPLE: Final = {("context.device.model", 1), ("context.device.manufacturer", 2)}
"""Fields and ranks of names that say little: half of the cells must be in an open list."""


def _is_text(column: SampleColumn, texts: list[str], rank: int) -> bool:
    del texts, rank
    return column.is_text


def _few_names(column: SampleColumn, texts: list[str], rank: int) -> bool:
    del rank
    return column.is_text and len(texts) <= _MAX_NAMES


def _small_numbers(column: SampleColumn, texts: list[str], rank: int) -> bool:
    """Versions of systems are below 100, but for Windows and the like."""
    del column, rank
    numbers = [int(match[1]) for text in texts if (match := _OS_VERSION.fullmatch(text))]
    return sum(number < 100 for number in numbers) >= NEARLY_ALL * len(texts)  # noqa: PLR2004


_WHOLE: Final[dict[str, Callable[[SampleColumn, list[str], int], bool]]] = {
    "context.app.name": _few_names,
    "context.app.namespace": _few_names,
    "context.device.model": _is_text,
    "context.device.manufacturer": _is_text,
    "context.device.name": _is_text,
    "context.os.version": _small_numbers,
    "context.location.city": _is_text,
    "context.location.region": _is_text,
}


def means_device_type(values: list[str]) -> bool:
    """Whether every value of a column of operating systems is of Android or of Apple's.

    >>> means_device_type(["iOS", "Android 13"]), means_device_type(["iOS", "Windows"])
    (True, False)
    """
    known = [value for value in values if not known_values.is_unknown(value)]
    letters = ["".join(filter(str.isalpha, value)).lower() for value in known]
    return len(known) == len(values) > 0 and all(each in api_facts.DEVICE_TYPES for each in letters)

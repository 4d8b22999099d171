"""Lists of known values, such as operating systems and countries, and what is in none of them."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final
from zoneinfo import available_timezones

from cdp_backfill.inference.column_names import read_names

_DATA: Final[dict[str, Any]] = read_names("known_values.toml")

_UNKNOWN: Final = frozenset(_DATA["unknown"])
_SYSTEMS: Final = frozenset(_DATA["systems"])
_MAKERS: Final = frozenset(_DATA["makers"])
_MODELS: Final = frozenset(_DATA["models"])
_CARRIERS: Final = frozenset(_DATA["carriers"])
_GIVEN_NAMES: Final = frozenset(_DATA["given_names"])
_LANGUAGES: Final = frozenset(_DATA["languages"].split())
NOBODY: Final = frozenset(_DATA["nobody"])
"""Words that stand for nobody in a column of ids, in lower case."""

NOBODY_IF_FREQUENT: Final = frozenset(_DATA["nobody_if_frequent"])
"""The same, if it is the most frequent id."""

_MODEL_CODE: Final = re.compile(
    r"^(\w+::)?(SM|GT|SGH|SCH|SPH|SC|SO|SOV|SHV|LM|LG|XT|CPH|RMX|ELE|VOG|ANE|MAR|JNY|KB|IN|HD|LE|NE|TA|PD|V)"
    r"[- ]?[A-Z0-9]{2,}|^(iPhone|iPad|iPod|Watch|AppleTV|AudioAccessory|arm64|x86_64)\d*(,\d+)?$"
    r"|^(M|2)\d{3}[A-Z0-9]{2,}$|^[A-Z]{2,4}-[A-Z]{1,2}\d{1,3}[A-Z]?$",
)
_WHOLE_MODELS: Final = frozenset(["iphone", "ipad", "ipod"])
_FORM_FACTORS: Final = frozenset(
    ["phone", "tablet", "desktop", "tv", "mobile", "smartphone", "wearable", "web", "other", "bot"]
)
_CARRIER_REST: Final = frozenset(
    ["mobile", "wireless", "telecom", "communications", "lte", "4g", "5g", "gsm", "cellular", "de"]
)
_COUNTRY_LINES: Final = [
    (line[:2], line[3:6], line[7:].split("; ")) for line in _DATA["countries"].strip().splitlines()
]
_COUNTRY_CODES: Final = frozenset(
    code for two, three, _ in _COUNTRY_LINES for code in (two, three, "UK", "EL")
)
_COUNTRY_NAMES: Final = frozenset(
    name.casefold() for _, _, names in _COUNTRY_LINES for name in names
)
_REGIONS: Final = frozenset(two for two, _, _ in _COUNTRY_LINES)
_LOCALE: Final = re.compile(
    r"([A-Za-z]{2,3})(?:[-_]([A-Za-z]{4}))?(?:[-_]([A-Za-z]{2}|\d{3}))?"
    r"(?:[-_#@.][\w=.\-#]+)?"
)


def is_unknown(text: str) -> bool:
    """Whether a cell says that the value is not known."""
    return text.casefold().strip("() ") in _UNKNOWN


def _letters(text: str) -> str:
    return "".join(filter(str.isalpha, text)).casefold()


def _plain(text: str) -> str:
    return "".join(filter(str.isalnum, text)).casefold()


def is_system(text: str) -> bool:
    """Whether a text is the name of an operating system, with or without its version.

    >>> is_system("iOS 17.2"), is_system("TikTok"), is_system("web")
    (True, False, False)
    """
    return _letters(text) in _SYSTEMS


def is_country(text: str) -> bool:
    """Whether a text is a country: a code of ISO 3166 in one letter case, or a name.

    >>> is_country("DE"), is_country("germany"), is_country("Europe")
    (True, True, False)
    """
    code = text.upper() if text in (text.upper(), text.lower()) else ""
    return code in _COUNTRY_CODES or text.casefold() in _COUNTRY_NAMES


def is_locale(text: str) -> bool:
    """Whether a text is a language, with or without a script and a country.

    >>> is_locale("en_US"), is_locale("zh-Hans-CN"), is_locale("go"), is_locale("English")
    (True, True, False, False)
    """
    match = _LOCALE.fullmatch(text)
    if match is None or match[1].casefold() not in _LANGUAGES:
        return False
    region = match[3]
    return region is None or region.isdigit() or region.upper() in _REGIONS


def is_carrier(text: str) -> bool:
    """Whether a text is a carrier of mobile networks, with or without its country.

    >>> is_carrier("T-Mobile US"), is_carrier("vodafone.de"), is_carrier("DHL Express")
    (True, True, False)
    """
    if _plain(text) in _CARRIERS:
        return True
    words = re.split(r"[\s./_-]+", text.strip())
    for stop in range(len(words) - 1, 0, -1):
        if _plain("".join(words[:stop])) in _CARRIERS:
            rest = words[stop:]
            return is_country(" ".join(rest)) or all(
                word.casefold() in _CARRIER_REST or is_country(word) for word in rest
            )
    return False


def is_maker(text: str) -> bool:
    """Whether a text is a maker of phones.

    >>> is_maker("HUAWEI"), is_maker("Volvo")
    (True, False)
    """
    return _plain(text) in _MAKERS


def is_model(text: str) -> bool:
    """Whether a text is certainly the model of a phone or tablet.

    >>> is_model("iPhone14,2"), is_model("SM-A536B"), is_model("Model 3"), is_model("tablet")
    (True, True, False, False)
    """
    first = re.split(r"[\s_,:/(-]+", text.strip())[0]
    word = first.rstrip("0123456789").casefold()
    known = word in _MODELS and (text.casefold() != word or word in _WHOLE_MODELS)
    return known or bool(_MODEL_CODE.search(text))


def is_form_factor(text: str) -> bool:
    """Whether a text is a kind of device, such as ``tablet``."""
    return text.casefold() in _FORM_FACTORS


@cache
def _zones() -> frozenset[str]:
    return frozenset(zone for zone in available_timezones() if "/" in zone) | {"UTC", "GMT"}


def is_zone(text: str) -> bool:
    """Whether a text is the IANA name of a time zone."""
    return text in _zones()


def is_given_name(text: str) -> bool:
    """Whether a text is a common given name."""
    return text.casefold() in _GIVEN_NAMES


def is_person_name(text: str) -> bool:
    """Whether a text is a common given name and a family name.

    >>> is_person_name("Maria Jansen"), is_person_name("Application Opened")
    (True, False)
    """
    first, *others = text.split()
    return bool(others) and first.casefold() in _GIVEN_NAMES

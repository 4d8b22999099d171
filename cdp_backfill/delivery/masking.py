"""Finds a key in the words of a server, however they are escaped."""

from __future__ import annotations

import base64
import html
import re
from functools import cache
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from cdp_backfill.model.secret import Secret

_MASK: Final = "***"
_MAX_ESCAPES: Final = 5  # one on top of the other
_MIN_CORE: Final = 8  # characters of base64 that are in no text by chance

_BACKSLASH: Final = re.compile(
    r"\\++(?:u([0-9a-f]{4})|u\{([0-9a-f]{1,6})\}|x([0-9a-f]{2})|([0-7]{3})|)", re.IGNORECASE
)
_URL_SAFE: Final = str.maketrans("+/", "-_")


class KeyMask:
    """Replaces a key by ``***``: as it is, in base64 and in hexadecimal digits.

    It may be escaped as in JSON, in an address or in HTML, also several times, and letter case does
    not count. Text in which an escaped key is found is shown without escapes.

    Args:
        key: The key, or None for none.
    """

    __slots__ = ("_key",)

    def __init__(self, key: Secret | None) -> None:
        self._key = key

    def apply(self, text: str) -> str:
        """The text without the key."""
        if not self._key:
            return text
        masked = layer = _pattern(self._key).sub(_MASK, text)
        for _ in range(_MAX_ESCAPES):
            inner = _without_escapes(layer)
            if inner == layer:
                break
            layer = _pattern(self._key).sub(_MASK, inner)
            if layer != inner:
                masked = layer
        return masked


@cache
def _pattern(key: Secret) -> re.Pattern[str]:
    """The forms of a key, the longest first. A process has few keys."""
    forms = sorted(_forms(key.reveal()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, forms)), re.IGNORECASE)


def _forms(key: str) -> set[str]:
    data = key.encode()
    # Basic authentication, with and without what fills the last group.
    whole = base64.b64encode(data + b":").decode()
    forms = {key, data.hex(), whole, whole.rstrip("=")}
    # Inside of anything longer, such as "user:key": the digits that the key makes alone.
    for before in range(3):
        first, last = -(-before * 8 // 6), (before + len(data)) * 8 // 6
        core = base64.b64encode(b"\0" * before + data).decode()[first:last]
        if len(core) >= _MIN_CORE:
            forms.add(core)
    return forms | {form.translate(_URL_SAFE) for form in forms}


def _without_escapes(text: str) -> str:
    return html.unescape(unquote(_BACKSLASH.sub(_character, text)))


def _character(match: re.Match[str]) -> str:
    octal = match[4]
    digits = match[1] or match[2] or match[3]
    code = int(octal, 8) if octal else int(digits, 16) if digits else None
    return "" if code is None or code > 0x10FFFF else chr(code)  # noqa: PLR2004  # the last one

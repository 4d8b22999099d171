"""Decides whether a text that is not UTF-8 is certainly Windows-1252, the code page of the West.

The same bytes are other letters in other code pages: 0xF1 is ñ in the West and ń in Central Europe.
So each word is read in every code page that shares the Latin letters, and each page is asked which
languages its letters need. The text is certain only if every page that reads other letters needs
more languages than the West.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

WINDOWS: Final = "cp1252"

_LANGUAGES: Final[dict[str, tuple[str, ...]]] = {
    WINDOWS: (
        "äöüß",  # German
        "àâæçéèêëîïôœùûüÿ",  # French
        "áéíñóúü",  # Spanish
        "áàâãçéêíóôõúü",  # Portuguese
        "àèéìíòóùú",  # Italian
        "àçèéíïòóúü",  # Catalan
        "åäöéæø",  # Danish, Finnish, Norwegian, Swedish
        "áéèëïóöüê",  # Dutch
        "áéíóúýðþæö",  # Icelandic
    ),
    "cp1250": (
        "ąćęłńóśźż",  # Polish
        "áčďéěíňóřšťúůýž",  # Czech
        "áäčďéíľňóôšťúýž",  # Slovak
        "áéíóöőúüű",  # Hungarian
        "ăâîşţ",  # Romanian
        "čćđšž",  # Croatian, Slovene
        "äöüß",
    ),
    "cp1254": ("çğıöşüâîû",),  # Turkish
    "cp1257": ("äöüõšž", "āčēģīķļņšūž", "ąčęėįšųūž"),  # Estonian, Latvian, Lithuanian
}

_WORDS: Final = re.compile(rb"[A-Za-z]*[\x80-\xff][A-Za-z\x80-\xff]*")

_APOSTROPHE: Final = "\u2019"
_CONTRACTION: Final = re.compile(
    r"[^\W\d_]+’(?:s|t|d|m|re|ll|ve)|(?:l|d|j|n|s|c|m|t|qu|o)’[^\W\d_]+",  # noqa: RUF001
    re.IGNORECASE,
)
_OPENING: Final = "„“‘«‚¿¡("  # noqa: RUF001
_SIGNS: Final = "€…–—•™”’»›‹§©®°±·£¥×÷\xa0" + _OPENING  # noqa: RUF001

_MAX_FOREIGN: Final = 2  # letters of a word without a plain one, such as à


@dataclass(slots=True)
class _Page:
    """What one code page makes of the words.

    Attributes:
        letters: Letters beyond ASCII, in lower case.
        fits: Whether all words could be words.
        differs: Whether a word is another one in the West.
    """

    letters: set[str] = field(default_factory=set)
    fits: bool = True
    differs: bool = False

    def add(self, word: bytes, name: str) -> None:
        letters = _read(word, name)
        self.differs |= word.decode(name, "replace") != word.decode(WINDOWS, "replace")
        if letters is None:
            self.fits = False
        else:
            self.letters |= letters


class Windows1252Check:
    """Collects evidence from a whole text; holds letters, but no words."""

    def __init__(self) -> None:
        self._pages = {name: _Page() for name in _LANGUAGES}
        self.letters = 0

    def add(self, text: bytes) -> None:
        """Look at some lines.

        Args:
            text: Bytes that end where no word does.
        """
        words = _WORDS.findall(text)
        self.letters += sum(len(word) - len(_ascii(word)) for word in words)
        for word in set(words):
            for name, page in self._pages.items():
                page.add(word, name)

    @property
    def certain(self) -> bool:
        """Whether the text can only be Windows-1252."""
        needed = _languages(WINDOWS, self._pages[WINDOWS])
        if needed is None:
            return False
        others = (_languages(name, page) for name, page in self._pages.items() if page.differs)
        return all(other is None or other > needed for other in others)


def _ascii(word: bytes) -> bytes:
    return bytes(letter for letter in word if letter < 0x80)  # noqa: PLR2004


@cache
def _known(page: str) -> frozenset[str]:
    return frozenset("".join(_LANGUAGES[page]))


def _read(word: bytes, page: str) -> frozenset[str] | None:
    """The letters beyond ASCII of a word in a code page; None if it is no word there."""
    try:
        text = word.decode(page)
    except UnicodeDecodeError:
        return None
    bare = text.strip(_SIGNS)
    if not _signs_fit(text, bare):
        return None
    if _APOSTROPHE in bare:
        if not _CONTRACTION.fullmatch(bare):
            return None
        bare = bare.replace(_APOSTROPHE, "")
    letters = [letter for letter in bare if not letter.isascii()]
    plain = len(bare) - len(letters)
    if (not plain and len(letters) > _MAX_FOREIGN) or len(letters) > max(plain, _MAX_FOREIGN):
        return None
    # A capital inside a word is what another code page makes of a small letter.
    if any(a.islower() and b.isupper() and not b.isascii() for a, b in pairwise(bare)):
        return None
    lowered = frozenset(letter.lower() for letter in letters)
    return lowered if lowered <= _known(page) else None


def _signs_fit(text: str, bare: str) -> bool:
    """Whether the signs beside a word are at the side where they can be."""
    if not bare:
        return True
    start = text.index(bare)
    before, after = text[:start], text[start + len(bare) :]
    return all(sign in _OPENING or not sign.isalnum() for sign in before) and not any(
        sign in _OPENING for sign in after
    )


def _languages(name: str, page: _Page) -> int | None:
    """The fewest languages of a code page that have all letters; None if no word fits it."""
    if not page.fits:
        return None
    for count in range(len(_LANGUAGES[name]) + 1):
        for chosen in combinations(_LANGUAGES[name], count):
            if page.letters <= set("".join(chosen)):
                return count
    return None


def certain_windows_1252(parts: Iterable[bytes]) -> int | None:
    """The number of letters beyond ASCII of a text that is certainly Windows-1252, else None.

    Args:
        parts: The bytes of the text, in parts of any size.

    >>> certain_windows_1252(["Zürich, Café".encode("cp1252")])
    2
    >>> certain_windows_1252(["Gdańsk".encode("cp1250")]) is None
    True
    """
    check = Windows1252Check()
    rest = b""
    for part in parts:
        text = rest + part
        end = max(text.rfind(b"\n"), text.rfind(b"\r"), text.rfind(b" "), text.rfind(b",")) + 1
        check.add(text[:end])
        rest = text[end:]
    check.add(rest)
    return check.letters if check.certain else None

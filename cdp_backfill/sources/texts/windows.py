"""Decides whether a text that is not UTF-8 is certainly Windows-1252, the code page of the West.

The same bytes are other letters in other code pages: 0xF1 is ñ in the West and ń in Central Europe.
So each word is read in every code page that shares the Latin letters, and each page is asked which
languages its letters need. The text is certain only if every page that reads other letters needs
more languages than the West, and if all quotes and other signs are where they belong.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

WINDOWS: Final = "cp1252"

_WEST: Final = (
    "äöüß",  # German
    "àâæçéèêëîïôœùûüÿ",  # French
    "áéíñóúü",  # Spanish
    "áàâãçéêíóôõúü",  # Portuguese
    "àèéìíòóùú",  # Italian
    "àçèéíïòóúü",  # Catalan
    "åäöéæø",  # Danish, Finnish, Norwegian, Swedish
    "áéèëïóöüê",  # Dutch
    "áéíóúýðþæö",  # Icelandic
)

_LANGUAGES: Final[dict[str, tuple[str, ...]]] = {
    WINDOWS: _WEST,
    "mac_roman": _WEST,
    "cp1250": (
        "ąćęłńóśźż",  # Polish
        "áčďéěíňóřšťúůýž",  # Czech
        "áäčďéíľňóôšťúýž",  # Slovak
        "áéíóöőúüű",  # Hungarian
        "ăâîşţ",  # Romanian
        "čćđšž",  # Croatian, Slovene
        "äöüß",  # German
    ),
    "cp1254": ("çğıöşüâîû",),  # Turkish
    "cp1257": ("äöüõšž", "āčēģīķļņšūž", "ąčęėįšųūž"),  # Estonian, Latvian, Lithuanian
    "cp1258": ("ăâđêôơưáàéèíóúù\u0300\u0301\u0303\u0309\u0323",),  # Vietnamese
}

_WORDS: Final = re.compile(
    rb"(?<![A-Za-z\x80-\xff])(?=[A-Za-z]*[\x80-\xff])[A-Za-z\x80-\xff]+", re.DOTALL
)

_APOSTROPHE: Final = "\u2019"
_CONTRACTION: Final = re.compile(
    r"[^\W\d_]+’(?:s|t|d|m|re|ll|ve)|(?:l|d|j|n|s|c|m|t|qu|o)’[^\W\d_]+",  # noqa: RUF001
    re.IGNORECASE,
)

# Signs of which each belongs to another one, and the kind of pair. The last two depend on where
# they are: “ closes what „ opens.
_OPENING: Final = {"„": "“", "‚": "‘", "«": "«", "‹": "«", "“": "“", "‘": "‘", "¿": "?", "¡": "!"}  # noqa: RUF001
_CLOSING: Final = {"”": "“", "’": "‘", "»": "«", "›": "«", "“": "“", "‘": "‘"}  # noqa: RUF001
_AFTER: Final = "…™®©"
_ALONE: Final = "€£¥§±°×÷·¢…–—•™®©\xa0"  # noqa: RUF001
_BESIDE_ALONE: Final = frozenset(b" \t\r\n,;|\"'().:%/-+0123456789")
_BESIDE: Final = "".join({*_OPENING, *_CLOSING, *_AFTER})
_SIGNS: Final = frozenset({*_BESIDE, *_ALONE})


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
        text = word.decode(name, "replace")
        self.differs |= text != word.decode(WINDOWS, "replace")
        letters = frozenset() if text in _SIGNS else _letters(text.strip(_BESIDE), name)
        if letters is None:
            self.fits = False
        else:
            self.letters |= letters


class Windows1252Check:
    """Collects evidence from a whole text; holds letters, but no words."""

    def __init__(self) -> None:
        self._pages = {name: _Page() for name in _LANGUAGES}
        self._pairs: Counter[str] = Counter()
        self._signs_fit = True
        self._is_clear = False
        self.letters = 0

    def add(self, text: bytes) -> None:
        """Look at some lines.

        Args:
            text: Bytes that begin and end where no word does.
        """
        words: set[bytes] = set()
        for match in _WORDS.finditer(text):
            word = match[0]
            words.add(word)
            self.letters += sum(letter > 0x7F for letter in word)  # noqa: PLR2004
            beside = text[max(0, match.start() - 1) : match.start()] + text[match.end() :][:1]
            self._add_signs(word.decode(WINDOWS, "replace"), beside)
        self._pairs["?"] -= text.count(b"?")
        self._pairs["!"] -= text.count(b"!")
        for word in words:
            for name, page in self._pages.items():
                page.add(word, name)

    def _add_signs(self, text: str, beside: bytes) -> None:
        """Note the signs beside a word, or a sign alone.

        Args:
            text: The word with its signs, in the West.
            beside: The bytes before and after it.
        """
        bare, before, after = text.strip(_BESIDE), "", ""
        if text in ("°C", "°F"):
            self._is_clear = True
        elif bare and bare not in _SIGNS:
            before, _, after = text.partition(bare)
            self._signs_fit &= set(before) <= set(_OPENING)
            self._signs_fit &= set(after) <= {*_CLOSING, *_AFTER}
            self._is_clear |= not bare.isascii() or after[:1] in ("®", "©")
        elif text in _OPENING or text in _CLOSING:
            before, after = (text, "") if text in _OPENING else ("", text)
        else:
            self._signs_fit &= len(text) == 1 and _BESIDE_ALONE.issuperset(beside)
            self._is_clear |= text not in "…\xa0"
        for sign in before:
            self._pairs[_OPENING.get(sign, sign)] += 1
        for sign in after:
            if sign in _CLOSING:
                self._pairs[_CLOSING[sign]] -= 1

    @property
    def certain(self) -> bool:
        """Whether the text can only be Windows-1252."""
        needed = _languages(WINDOWS, self._pages[WINDOWS])
        pairs = self._pairs
        fits = self._signs_fit and not (pairs["“"] or pairs["‘"] or pairs["«"])  # noqa: RUF001
        if needed is None or not fits or pairs["?"] > 0 or pairs["!"] > 0:
            return False
        others = (_languages(name, page) for name, page in self._pages.items() if page.differs)
        return self._is_clear and all(other is None or other > needed for other in others)


@cache
def _known(page: str) -> frozenset[str]:
    return frozenset("".join(_LANGUAGES[page]))


def _letters(bare: str, page: str) -> frozenset[str] | None:
    """The letters beyond ASCII of a word in a code page; None if it is no word there."""
    if _APOSTROPHE in bare:
        if not _CONTRACTION.fullmatch(bare):
            return None
        bare = bare.replace(_APOSTROPHE, "")
    letters = [letter for letter in bare if not letter.isascii()]
    if bare in ("°C", "°F"):
        return frozenset()
    if len(letters) > max(1, len(bare) - len(letters)):
        return None
    # A capital inside a word is what another code page makes of a small letter.
    if any(a.islower() and b.isupper() and not b.isascii() for a, b in pairwise(bare)):
        return None
    lowered = {letter.lower()[0] for letter in letters}  # of İ, the first of two
    found = frozenset(letter for letter in lowered if not letter.isascii())
    return found if found <= _known(page) else None


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

"""Reads the names of columns word by word, and says by rule for which field a name is.

The words are in ``column_names.toml``. A name is for a field only if every word of it is known to
mean that field or to be neutral; one unknown word is enough for it to be for none.
"""

from __future__ import annotations

import itertools
import re
import tomllib
import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final


def without_accents(name: str) -> str:
    """A name in plain letters.

    >>> without_accents("Numéro_Abonné"), without_accents("Straße")
    ('Numero_Abonne', 'Straße')
    """
    if name.isascii():
        return name
    parts = unicodedata.normalize("NFKD", name)
    return "".join(part for part in parts if not unicodedata.combining(part))


@cache
def fold(name: str) -> str:
    """A name without letter case, accents, spaces and punctuation.

    >>> fold("[Amplitude] Application Opened")
    'amplitudeapplicationopened'
    """
    return "".join(re.findall(r"[^\W_]+", without_accents(name))).casefold()


def read_names(file: str) -> dict[str, Any]:
    """The contents of a data file of this room."""
    return tomllib.loads((resources.files(__package__) / file).read_text("utf-8"))


_DATA: Final[dict[str, Any]] = read_names("column_names.toml")
_SYNONYMS: Final[dict[str, list[str]]] = {
    word: meaning.split() for word, meaning in _DATA["synonyms"].items()
}
_GROUPS: Final[dict[str, list[str]]] = _DATA["groups"]
_PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")

# Upper-case letters before a capitalised word are one word: OSVersion is OS and Version.
_WORD: Final = re.compile(r"[^\W\d_]+|\d+")
_CAPITAL: Final = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_JOINED: Final = {
    ("i", "os"): "ios",
    ("ipad", "os"): "ipados",
    ("mac", "os"): "macos",
    ("e", "mail"): "email",
    ("user", "i", "d"): "user id",
    ("iso", "8601"): "iso8601",
    ("sha", "1"): "sha1",
    ("sha", "256"): "sha256",
    ("md", "5"): "md5",
    ("ipv", "4"): "ipv4",
    ("ipv", "6"): "ipv6",
    ("e", "164"): "e164",
    ("apps", "flyer"): "appsflyer",
    ("app", "metrica"): "appmetrica",
}
_SHORT_WORDS: Final = frozenset(["id", "os", "ip", "at", "no", "nr", "ts", "on"])
MAX_NAME: Final = 1_000
"""Characters of a name whose words are read."""

_MIN_COMPOUND: Final = 4  # letters of a word that may be several, such as "osid"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a name for a field is made of.

    Attributes:
        heads: The phrases that mean the field, with their rank; 0 is the best.
        before: Neutral words before a head.
        after: Neutral words after a head.
        longest: Most words of a head.
    """

    heads: dict[tuple[str, ...], int]
    before: frozenset[str]
    after: frozenset[str]
    longest: int

    def rank(self, words: tuple[str, ...]) -> int | None:
        """The rank of a name, or None if a word of it is neither of a head nor neutral."""
        first, last = 0, len(words)  # where a head may begin at the latest, and end at the earliest
        while first < len(words) and words[first] in self.before:
            first += 1
        while last and words[last - 1] in self.after:
            last -= 1
        ranks = (
            self.heads.get(words[start:stop])
            for start in range(max(0, last - self.longest), first + 1)
            for stop in range(max(start + 1, last), min(start + self.longest, len(words)) + 1)
        )
        return min((rank for rank in ranks if rank is not None), default=None)


def expand(phrase: str, groups: dict[str, list[str]] = _GROUPS) -> list[tuple[str, ...]]:
    """The phrases that one with groups stands for, word by word.

    >>> expand("{app} build")
    [('app', 'build'), ('application', 'build'), ('mobile', 'app', 'build')]
    """
    names = _PLACEHOLDER.findall(phrase)
    phrases = []
    for chosen in itertools.product(*(groups[name] for name in names)):
        filled = phrase
        for word in chosen:
            filled = _PLACEHOLDER.sub(word, filled, count=1)
        phrases.append(tuple(filled.split()))
    return phrases


def _rule(table: dict[str, Any]) -> Rule:
    after = table["after"]
    heads: dict[tuple[str, ...], int] = {}
    for rank, phrases in enumerate(table["heads"]):
        for phrase in phrases:
            for words in expand(phrase):
                heads.setdefault(meanings(words), rank)
    return Rule(
        heads,
        frozenset(table["before"]),
        frozenset(_DATA["lists"][after] if isinstance(after, str) else after),
        max(map(len, heads)),
    )


def meanings(words: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """The words with synonyms and abbreviations replaced."""
    return tuple(itertools.chain.from_iterable(_SYNONYMS.get(word, [word]) for word in words))


RULES: Final[dict[str, Rule]] = {field: _rule(table) for field, table in _DATA["fields"].items()}
"""For each field of a mapping: what a name for it is made of."""

WRAPPERS: Final = frozenset(tuple(phrase.split()) for phrase in _DATA["lists"]["wrappers"])
OBJECT_NAMES: Final = frozenset(meanings(phrase.split()) for phrase in _DATA["lists"]["objects"])
ID_WORDS: Final = frozenset([*_GROUPS["id"], "number", "key", "hash", "reference"])
PERSON_WORDS: Final = frozenset([*_GROUPS["person"], *_GROUPS["role"]])
ROLE_WORDS: Final = frozenset(_GROUPS["role"])
OTHER_PEOPLE: Final = frozenset(_GROUPS["other_people"])
PERHAPS_PERSON: Final = frozenset([*_GROUPS["perhaps_person"], *OTHER_PEOPLE])
_BARE: Final = frozenset(["id", "uuid", "guid", "name", "type", "kind", "code", "number", "key"])
"""Words that mean nothing without the word before them, even if that is a wrapper."""

_VOCABULARY: Final = frozenset(
    itertools.chain(
        _SYNONYMS,
        (word for rule in RULES.values() for head in rule.heads for word in head),
        (word for rule in RULES.values() for word in rule.before | rule.after),
        itertools.chain.from_iterable(_GROUPS.values()),
        itertools.chain.from_iterable(WRAPPERS),
    )
)
_COMPOUNDS: Final = frozenset(
    word
    for word in _VOCABULARY
    if len(word) > 2 or word in _SHORT_WORDS  # noqa: PLR2004
)
_LONGEST: Final = max(map(len, _COMPOUNDS))


@cache
def split_words(name: str) -> tuple[str, ...]:
    """The words of a name in lower case, with synonyms and abbreviations replaced.

    >>> split_words("[Amplitude] osVersion_NM")
    ('amplitude', 'os', 'version', 'name')
    >>> split_words("USERID"), split_words("Kundennummer"), split_words("campaignid")
    (('user', 'id'), ('customer', 'number'), ('campaignid',))
    """
    words: list[str] = []
    if len(name) > MAX_NAME:  # its words are those of its beginning and its end
        name = f"{name[: MAX_NAME // 2]} {name[-MAX_NAME // 2 :]}"
    for run in _WORD.findall(without_accents(name)):
        words += [part.casefold() for part in _CAPITAL.split(run)]
    joined: list[str] = []
    while words:
        for size in (3, 2):
            together = _JOINED.get(tuple(words[:size]))
            if together is not None:
                joined += together.split()
                del words[:size]
                break
        else:
            joined += _parts(words.pop(0))
    return meanings(joined)


def _parts(word: str) -> list[str]:
    """The known words that a word without a boundary is made of, or the word itself."""
    if word in _VOCABULARY or len(word) < _MIN_COMPOUND:
        return [word]
    best: list[list[str] | None] = [[]] + [None] * len(word)
    for stop in range(1, len(word) + 1):
        for start in range(max(0, stop - _LONGEST), stop):
            before = best[start]
            if before is None or word[start:stop] not in _COMPOUNDS:
                continue
            here = best[stop]
            if here is None or len(before) + 1 < len(here):
                best[stop] = [*before, word[start:stop]]
    return best[-1] or [word]


@cache
def core_words(name: str) -> tuple[str, ...]:
    """The words of a name without the wrappers that exports put before every name.

    >>> core_words("payload_user_id"), core_words("data_id"), core_words("campaign_id")
    (('user', 'id'), ('data', 'id'), ('campaign', 'id'))
    """
    words = split_words(name)
    while True:
        for size in (2, 1):
            rest = words[size:]
            if words[:size] in WRAPPERS and rest and not (len(rest) == 1 and rest[0] in _BARE):
                words = rest
                break
        else:
            return words


def rank(name: str, field: str) -> int | None:
    """The rank of a name for a field, 0 for the best; None if the name is not for it.

    >>> rank("USER_ID", "user_id"), rank("campaign_user_id", "user_id")
    (0, None)
    """
    return _ranks(name).get(field)


def is_for_a_field(name: str) -> bool:
    """Whether a name is for any field.

    >>> is_for_a_field("USER_ID"), is_for_a_field("level_7")
    (True, False)
    """
    return bool(_ranks(name))


@cache
def _ranks(name: str) -> dict[str, int]:
    """The fields that a name is for, with its ranks; a table has many names that are for none."""
    found: dict[str, int] = {}
    for words in {split_words(name), core_words(name)}:
        fields = set(_FIELDS_OF.get(words[0], ())) if words else set()
        for word in words[1:]:
            fields &= _FIELDS_OF.get(word, frozenset())
            if not fields:
                break
        for field in fields:
            rank = RULES[field].rank(words)
            if rank is not None:
                found[field] = min(rank, found.get(field, rank))
    return found


def _fields_by_word() -> dict[str, frozenset[str]]:
    fields: dict[str, set[str]] = {}
    for field, rule in RULES.items():
        for word in itertools.chain(rule.before, rule.after, *rule.heads):
            fields.setdefault(word, set()).add(field)
    return {word: frozenset(found) for word, found in fields.items()}


_FIELDS_OF: Final = _fields_by_word()
"""The fields in whose names each word may stand."""


_TIME_WORDS: Final = frozenset(["time", "date", "datetime", "timestamp", "when", "day", "at", "on"])


def has_time_word(words: tuple[str, ...]) -> bool:
    """Whether a name ends as that of a time does.

    >>> has_time_word(split_words("loaded_at_utc")), has_time_word(split_words("time_zone"))
    (True, False)
    """
    while words and words[-1] in _DATA["lists"]["time_forms"] and words[-1] not in _TIME_WORDS:
        words = words[:-1]
    return bool(words) and words[-1] in _TIME_WORDS


def is_version_name(name: str) -> bool:
    """Whether a name is that of a version or build: 1.10 and 1.1 are two versions and one number.

    >>> is_version_name("plugin_version"), is_version_name("version_count")
    (True, False)
    """
    words = split_words(name)
    after = {*_DATA["lists"]["written"], "name", "code", "from", "to", "number"}
    heads = [word for word in ("version", "build") if word in words]
    return bool(heads) and after.issuperset(words[words.index(heads[0]) + 1 :])
